"""How an instance's health is asked: Compose's `healthcheck`, and ways that need no program inside the image.

The agent asks, through wsh or from inside the container's network namespace, once the gate has opened. The
engine's own check is off: it would run before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .changes import Json
from .errors import InvalidValueError
from .fields import Fields
from .units import format_duration, parse_count, parse_duration

RESTART, REPORT = "restart", "report"
_FIELDS = ("test", "tcp", "http", "interval", "timeout", "retries", "start_period", "action")
_TEST_ALLOWED = 'a command line, or a list that begins with "CMD" or "CMD-SHELL", or ["NONE"]'
_SHELL = "/bin/sh"
_PORT_MAX = 65535
_SHORTEST, _LONGEST = 0.5, 86_400.0  # seconds: more often than twice a second is a load, not a check


class HttpProbe(NamedTuple):
    """A GET request on the container's loopback; `status` None takes every answer from 200 to 399."""

    port: int
    path: str
    status: int | None


@dataclass(frozen=True)
class Healthcheck:
    """One way of asking, how often, and what follows. Times are in seconds; one of test, tcp and http is set."""

    test: tuple[str, ...] | None
    tcp: int | None
    http: HttpProbe | None
    interval: float
    timeout: float
    retries: int
    start_period: float
    action: str

    @property
    def argv(self) -> tuple[str, ...]:
        """Return the words of the command that is run inside; empty for the other ways."""
        if self.test is None:
            return ()
        kind, *words = self.test
        return (_SHELL, "-c", *words) if kind == "CMD-SHELL" else tuple(words)

    def canonical(self) -> dict[str, Json]:
        """Return the declaration that parses to exactly this, with every default written out."""
        declared: dict[str, Json] = {
            "interval": format_duration(self.interval),
            "timeout": format_duration(self.timeout),
            "retries": self.retries,
            "start_period": format_duration(self.start_period),
            "action": self.action,
        }
        if self.test is not None:
            declared["test"] = list(self.test)
        if self.tcp is not None:
            declared["tcp"] = self.tcp
        if self.http is not None:
            http: dict[str, Json] = {"port": self.http.port, "path": self.http.path}
            declared["http"] = http if self.http.status is None else {**http, "status": self.http.status}
        return declared


def parse_healthcheck(path: str, value: object) -> Healthcheck | None:
    """Read a declaration; None where there is none, or where it says that there is none."""
    if value is None:
        return None
    fields = Fields(path, value, _FIELDS)
    given = [kind for kind in ("test", "tcp", "http") if kind in fields]
    if len(given) != 1:
        raise InvalidValueError(path, given, "exactly one of test, tcp and http")
    test = _parse_test(fields)
    if test == ("NONE",):
        return None
    return Healthcheck(
        test=test,
        tcp=_port(fields, "tcp") if "tcp" in fields else None,
        http=_parse_http(fields),
        interval=_seconds(fields, "interval", "30s"),
        timeout=_seconds(fields, "timeout", "30s"),
        retries=parse_count(fields.path("retries"), fields.get("retries", 3), 1, 1000),
        start_period=_seconds(fields, "start_period", "0s", shortest=0.0),
        action=fields.choice("action", (RESTART, REPORT), RESTART),
    )


def _parse_test(fields: Fields) -> tuple[str, ...] | None:
    given = fields.get("test")
    if isinstance(given, str):
        words: tuple[str, ...] | None = ("CMD-SHELL", fields.text("test"))
    else:
        words = fields.words("test")
    if words is None:
        return None
    kind, *command = words or ("",)
    complete = {"CMD": bool(command and command[0]), "CMD-SHELL": len(command) == 1 and bool(command[0].strip())}
    if words != ("NONE",) and not complete.get(kind, False):
        raise InvalidValueError(fields.path("test"), given, _TEST_ALLOWED)
    return words


def _parse_http(fields: Fields) -> HttpProbe | None:
    if "http" not in fields:
        return None
    given = Fields(fields.path("http"), fields.get("http"), ("port", "path", "status"))
    target = given.text("path", "/")
    if not target.startswith("/") or not target.isascii() or not target.isprintable() or " " in target:
        raise InvalidValueError(
            given.path("path"), target, "a path that begins with /, of printable ASCII without spaces"
        )
    status = parse_count(given.path("status"), given.get("status"), 100, 599) if "status" in given else None
    return HttpProbe(_port(given, "port"), target, status)


def _port(fields: Fields, key: str) -> int:
    return parse_count(fields.path(key), fields.required(key, "a port number"), 1, _PORT_MAX)


def _seconds(fields: Fields, key: str, default: str, shortest: float = _SHORTEST) -> float:
    seconds = parse_duration(fields.path(key), fields.get(key, default))
    if not shortest <= seconds <= _LONGEST:
        bounds = f"from {format_duration(shortest)} to {format_duration(_LONGEST)}"
        raise InvalidValueError(fields.path(key), fields.get(key), bounds)
    return seconds
