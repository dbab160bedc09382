"""The kernel's per-process resource limits, getrlimit(2), under the names that Compose uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .errors import InvalidValueError
from .fields import Fields
from .units import parse_count, parse_size

UNLIMITED = -1


@dataclass(frozen=True)
class RlimitKind:
    """One resource: its row in /proc/PID/limits (proc(5)) and whether it counts bytes."""

    row: str
    in_bytes: bool = False


KINDS: Mapping[str, RlimitKind] = {
    "as": RlimitKind("Max address space", in_bytes=True),
    "core": RlimitKind("Max core file size", in_bytes=True),
    "cpu": RlimitKind("Max cpu time"),
    "data": RlimitKind("Max data size", in_bytes=True),
    "fsize": RlimitKind("Max file size", in_bytes=True),
    "locks": RlimitKind("Max file locks"),
    "memlock": RlimitKind("Max locked memory", in_bytes=True),
    "msgqueue": RlimitKind("Max msgqueue size", in_bytes=True),
    "nice": RlimitKind("Max nice priority"),
    "nofile": RlimitKind("Max open files"),
    "nproc": RlimitKind("Max processes"),
    "rss": RlimitKind("Max resident set", in_bytes=True),
    "rtprio": RlimitKind("Max realtime priority"),
    "rttime": RlimitKind("Max realtime timeout"),
    "sigpending": RlimitKind("Max pending signals"),
    "stack": RlimitKind("Max stack size", in_bytes=True),
}


@dataclass(frozen=True)
class Rlimit:
    """A soft and a hard limit in the resource's own unit; UNLIMITED is -1."""

    soft: int
    hard: int

    def within(self, bound: Rlimit) -> bool:
        """Say whether this is at least as strict as `bound`. A process may always lower its own limits."""
        return bound.hard == UNLIMITED or UNLIMITED < self.hard <= bound.hard

    def __str__(self) -> str:
        soft, hard = ("unlimited" if value == UNLIMITED else str(value) for value in (self.soft, self.hard))
        return hard if soft == hard else f"{soft}:{hard}"


def _parse_value(field: str, value: object, kind: RlimitKind) -> int:
    if value in (UNLIMITED, "-1", "unlimited"):
        return UNLIMITED
    if kind.in_bytes and isinstance(value, str) and not value.strip().isdigit():
        return parse_size(field, value, minimum=0)
    try:
        return parse_count(field, value, minimum=0)
    except InvalidValueError:
        allowed = "a whole number of at least 0" + (", a size such as 64K" if kind.in_bytes else "")
        raise InvalidValueError(field, value, f"{allowed}, or unlimited") from None


def parse_rlimits(field: str, value: object) -> dict[str, Rlimit]:
    """Read Compose's `ulimits`: a mapping of names to a number, or to `soft` and `hard`."""
    fields = Fields(field, value, KINDS)
    limits: dict[str, Rlimit] = {}
    for name, kind in KINDS.items():
        if name not in fields:
            continue
        given, path = fields.get(name), fields.path(name)
        if isinstance(given, Mapping):
            pair = Fields(path, given, ("soft", "hard"))
            hard = _parse_value(pair.path("hard"), pair.required("hard", "a number"), kind)
            soft = _parse_value(pair.path("soft"), pair.get("soft", hard), kind)
        else:
            soft = hard = _parse_value(path, given, kind)
        if hard != UNLIMITED and (soft == UNLIMITED or soft > hard):
            raise InvalidValueError(f"{path}.soft", soft, f"at most the hard limit, {hard}")
        limits[name] = Rlimit(soft, hard)
    return limits
