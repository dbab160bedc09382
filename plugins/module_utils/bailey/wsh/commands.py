"""One command in one or many instances of a host at a time, with one result each: the logic of bailey_wsh."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ..errors import BaileyError, InvalidSecretError, InvalidValueError
from ..fields import Fields
from ..instance_state import EXITED, read_states
from ..names import parse_name
from ..rlimits import parse_rlimits
from ..units import format_size, parse_count, parse_size
from .client import Command, instance_client, run_all
from .errors import CannotExecuteError
from .inside import paths_that_exist
from .session import Completed

ENOENT = 2
RC_SELF, RC_CANNOT_EXECUTE, RC_NOT_FOUND, RC_SIGNAL = 125, 126, 127, 128
_UMASK = re.compile(r"0[0-7]{3}")
_LAST_WORDS = 200  # characters of an error output that a failure shows


class CommandsFailedError(BaileyError):
    """The command failed in some of the instances; the details hold the result of each."""


@dataclass(frozen=True)
class Order:
    """What is to be run, and the paths inside that say whether it need be."""

    command: Command
    creates: str | None = None
    removes: str | None = None
    strip: bool = True

    @property
    def conditional(self) -> bool:
        """Whether a path inside decides."""
        return self.creates is not None or self.removes is not None


@dataclass(frozen=True)
class Result:
    """What became of one instance."""

    name: str
    completed: Completed | None = None
    rc: int = 0
    message: str = ""
    skipped: bool = False
    strip: bool = True

    @property
    def failed(self) -> bool:
        """Whether there was no session, or the command did not end with 0."""
        return self.rc != 0

    def why(self) -> str:
        """Return in one line why it failed."""
        if self.message:
            return self.message
        words = " ".join(self._text(self.completed.stderr).split()) if self.completed else ""
        return f"non-zero return code {self.rc}" + (f": {words[-_LAST_WORDS:]}" if words else "")

    def as_result(self) -> dict[str, Any]:
        """Return the values that a module shows, those that ansible.builtin.command has under the same names."""
        done = self.completed or Completed(None, None)
        stdout, stderr = self._text(done.stdout), self._text(done.stderr)
        start = datetime.fromtimestamp(done.started).astimezone() if done.started else None
        delta = timedelta(seconds=done.elapsed)
        return {
            "name": self.name,
            "rc": self.rc,
            "stdout": stdout,
            "stdout_lines": stdout.splitlines(),
            "stderr": stderr,
            "stderr_lines": stderr.splitlines(),
            "signal": done.signal,
            "oom": done.oom,
            "timed_out": done.timed_out,
            "truncated": done.truncated,
            "skipped": self.skipped,
            "msg": self.message,
            "start": start.strftime("%Y-%m-%d %H:%M:%S.%f") if start else None,
            "end": (start + delta).strftime("%Y-%m-%d %H:%M:%S.%f") if start else None,
            "delta": str(delta) if start else None,
        }

    def _text(self, output: bytes) -> str:
        text = output.decode(errors="replace")
        return text.strip("\r\n") if self.strip else text


@dataclass(frozen=True)
class Report:
    """The results in the order of the instances, and whether the command ran, or would run, in any."""

    results: Sequence[Result]
    changed: bool
    warnings: list[str] = field(default_factory=list)

    def values(self, *, single: bool) -> dict[str, Any]:
        """Return a module's values; those of a `single` instance stand at the top too."""
        shown = [result.as_result() for result in self.results]
        failures = {result.name: result.why() for result in self.results if result.failed}
        values: dict[str, Any] = {"instances": shown, "failures": failures}
        if single and shown:
            values |= {key: value for key, value in shown[0].items() if key not in ("name", "skipped", "msg")}
            if shown[0]["msg"]:
                values["msg"] = shown[0]["msg"]
        if self.results and not self.changed and all(result.skipped for result in self.results):
            values["skipped"] = True
        return values

    def check(self, *, single: bool) -> None:
        """Raise CommandsFailedError where the command failed anywhere."""
        failed = [result for result in self.results if result.failed]
        if failed:
            values = {key: value for key, value in self.values(single=single).items() if key != "msg"}
            parts = "; ".join(f"{result.name}: {result.why()}" for result in failed)
            message = parts if single else f"{len(failed)} of {len(self.results)} instances failed: {parts}"
            raise CommandsFailedError(message, changed=self.changed, **values)


def parse_order(params: Mapping[str, Any]) -> Order:
    """Read a command and its surroundings from a module's parameters."""
    chdir = params["chdir"]
    if chdir is not None and not posixpath.isabs(chdir):
        raise InvalidValueError("chdir", chdir, "an absolute path")
    stdin = params["stdin"]
    if stdin is not None and params["stdin_add_newline"]:
        stdin += "\n"
    return Order(
        Command(
            _parse_argv(params),
            environment=_parse_environment(params["environment"]),
            directory=chdir,
            umask=_parse_umask(params["umask"]),
            rlimits=parse_rlimits("ulimits", params["ulimits"]),
            stdin=(stdin or "").encode(errors="surrogateescape"),
            timeout=_parse_timeout(params["timeout"]),
            output_limit=parse_size("output_limit", params["output_limit"]),
        ),
        creates=_parse_path("creates", params["creates"], chdir),
        removes=_parse_path("removes", params["removes"], chdir),
        strip=params["strip_empty_ends"],
    )


def _parse_argv(params: Mapping[str, Any]) -> tuple[str, ...]:
    if params["argv"] is not None:
        words = Fields("", {"argv": params["argv"]}, ("argv",)).words("argv") or ()
    else:
        try:
            words = tuple(shlex.split(params["cmd"]))
        except ValueError as error:
            raise InvalidValueError("cmd", params["cmd"], f"words as a shell quotes them ({error})") from error
    if not words or not words[0]:
        raise InvalidValueError("argv" if params["argv"] is not None else "cmd", words, "a program and its arguments")
    return words


def _parse_environment(given: Mapping[str, object]) -> dict[str, str]:
    environment: dict[str, str] = {}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InvalidSecretError(f"environment.{name}", "a string or a number; quote true, false, yes and no")
        environment[str(name)] = str(value)
    return environment


def _parse_umask(value: str | None) -> int | None:
    if value is None:
        return None
    if not _UMASK.fullmatch(value):
        raise InvalidValueError("umask", value, "four octal digits in quotes, such as '0027'")
    return int(value, 8)


def _parse_timeout(value: float | None) -> float | None:
    if value is not None and not 0 < value <= 7 * 86400:
        raise InvalidValueError("timeout", value, "a number of seconds above 0, at most a week")
    return value


def _parse_path(name: str, value: str | None, chdir: str | None) -> str | None:
    path = posixpath.join(chdir, value) if value and chdir else value
    if path is not None and not (posixpath.isabs(path) and "\0" not in path):
        raise InvalidValueError(name, value, "an absolute path inside, or one from chdir on")
    return path


def select(run_dir: Path, params: Mapping[str, Any]) -> list[str]:
    """Return the instances that `name`, `names`, `tenant`, `app` or `all` mean.

    By tenant, by app or all: every instance that the agent knows of, but those that have ended for good.
    """
    if params["name"] is not None:
        return [parse_name("name", params["name"])]
    if params["names"] is not None:
        return list(dict.fromkeys(parse_name(f"names[{n}]", name) for n, name in enumerate(params["names"])))
    for kind in ("tenant", "app"):
        if params[kind] is not None:
            parse_name(kind, params[kind])
    if not any(params[kind] for kind in ("tenant", "app", "all")):
        raise InvalidValueError("all", params["all"], "true, or one of name, names, tenant and app")
    return [
        state.name
        for state in read_states(run_dir).values()
        if state.status != EXITED and params["tenant"] in (None, state.tenant) and params["app"] in (None, state.app)
    ]


def run_everywhere(
    run_dir: Path, names: Sequence[str], order: Order, *, workers: int, check_mode: bool = False
) -> Report:
    """Run the command in each instance, `workers` at a time; in check mode look only whether it would run."""
    at_once = parse_count("workers", workers, 1, 1024)
    clients = {name: instance_client(run_dir, name) for name in names}
    order.command.as_work()  # what could not be sent anywhere is refused before it runs anywhere
    if check_mode and not order.conditional:
        told = "the command would have run if not in check mode"
        return Report([Result(name, message=told, skipped=True) for name in names], changed=False)
    settled = {name: _decide(name, order, run_dir) for name in names} if order.conditional else {}
    due = [name for name in names if settled.get(name) is None]
    if check_mode:
        done = {name: Result(name, message="the command would have run if not in check mode") for name in due}
    else:
        outcomes = run_all([(clients[name], order.command) for name in due], at_once)
        done = {name: _judge(name, order, outcome) for name, outcome in zip(due, outcomes, strict=True)}
    results = [settled.get(name) or done[name] for name in names]
    ran = [result for result in results if result.completed is not None]
    return Report(results, changed=bool(due if check_mode else ran), warnings=_warnings(results, order))


def _decide(name: str, order: Order, run_dir: Path) -> Result | None:
    """Return the result where the command need not run, or that cannot be told; None where it is to run."""
    wanted = [path for path in (order.creates, order.removes) if path is not None]
    try:
        found = paths_that_exist(instance_client(run_dir, name), wanted)
    except BaileyError as error:
        return Result(name, rc=RC_SELF, message=str(error))
    except OSError as error:
        return Result(name, rc=RC_SELF, message=f"{error.filename}: {error.strerror}")
    if order.creates in found:
        return Result(name, message=f"skipped, since {order.creates} exists", skipped=True)
    if order.removes is not None and order.removes not in found:
        return Result(name, message=f"skipped, since {order.removes} does not exist", skipped=True)
    return None


def _judge(name: str, order: Order, outcome: Completed | Exception) -> Result:
    if isinstance(outcome, CannotExecuteError):
        return Result(name, rc=RC_NOT_FOUND if outcome.errno == ENOENT else RC_CANNOT_EXECUTE, message=str(outcome))
    if isinstance(outcome, BaileyError):
        return Result(name, rc=RC_SELF, message=str(outcome))
    if isinstance(outcome, Exception):
        raise outcome
    message = ""
    if outcome.timed_out:
        message = f"not ended within {order.command.timeout:g} s, and killed"
    elif outcome.oom:
        message = "killed for memory"
    elif outcome.signal is not None:
        message = f"ended by signal {outcome.signal}"
    rc = outcome.code if outcome.code is not None else RC_SIGNAL + (outcome.signal or 9)
    return Result(name, outcome, rc, message, strip=order.strip)


def _warnings(results: Sequence[Result], order: Order) -> list[str]:
    cut = [result.name for result in results if result.completed and result.completed.truncated]
    if not cut:
        return []
    return [f"output beyond {format_size(order.command.output_limit)} was thrown away in {', '.join(cut)}"]
