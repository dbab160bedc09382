"""Services under runit, on hosts where PID 1 is not systemd.

One runsvdir of Bailey's own watches one directory, apart from whatever the distribution's runit does.
It is started once, and ends with the last service. Every service has a runsv that starts it again
within two seconds of its end, and an svlogd that bounds its log.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..changes import Differences
from ..errors import CommandError, HostError, InvalidValueError
from .command import run
from .files import read_text, write_atomic
from .processes import argv_of, in_our_namespace, pids

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TAI_EPOCH = (1 << 62) + 10
_STEADY_SECONDS = 1.0
_LOG_LINES = 8


@dataclass(frozen=True)
class Layout:
    """Where services, their logs and the supervisor's pid file are."""

    services: Path = Path("/etc/bailey/service")
    pid_file: Path = Path("/run/bailey/runsvdir.pid")
    logs: Path = Path("/var/log/bailey")


@dataclass(frozen=True)
class Service:
    """A program that stays in the foreground."""

    name: str
    command: tuple[str, ...]
    description: str = ""
    user: str = "root"
    group: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    limit_nofile: int | None = None
    pid_file: str = ""  # one that the program writes, and refuses to start over
    log_size: int = 10 << 20  # bytes
    log_files: int = 5


@dataclass(frozen=True)
class Status:
    """What runsv says of a service."""

    pid: int  # 0 while the program does not run
    wanted: bool
    since: float  # of the present state, in seconds since 1970


def check_service(service: Service, nofile_ceiling: int) -> None:
    """Raise InvalidValueError for the first field that is wrong."""
    check_name(service.name)
    if not service.command or not service.command[0].startswith("/"):
        raise InvalidValueError("command", list(service.command), "a list that begins with an absolute path")
    for key in service.environment:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
            raise InvalidValueError("environment", key, "names of letters, digits and _")
    for name, value in (("user", service.user), ("group", service.group or "root")):
        if not re.fullmatch(r"[a-z_][a-z0-9_-]*", value):
            raise InvalidValueError(name, value, "an account's name")
    limit = service.limit_nofile
    if limit is not None and not 1 <= limit <= nofile_ceiling:
        allowed = f"at least 1, at most {nofile_ceiling}, the hard limit of this host"
        raise InvalidValueError("limit_nofile", limit, allowed)
    if service.log_files < 2:
        raise InvalidValueError("log_files", service.log_files, "at least 2: the current file and one before it")


def check_name(name: str) -> None:
    """Raise InvalidValueError unless the name is fit to be a directory's."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", name):
        raise InvalidValueError("name", name, "lower-case letters, digits and -, a letter first")


def run_script(service: Service) -> str:
    """Write the script that runsv starts; it becomes the program."""
    lines = ["#!/bin/sh", f"# {service.description or service.name}. Managed by Bailey: changes are lost."]
    lines += ["exec 2>&1", "cd /", "umask 022"]
    if service.limit_nofile is not None:
        lines.append(f"ulimit -n {service.limit_nofile}")
    if service.pid_file:
        # Nothing else starts this service, so a pid file names an engine that died, unless the
        # process that has its number now really is this program.
        quoted = shlex.quote(service.pid_file)
        program = shlex.quote(service.command[0])
        lines.append(f"pid=$(cat {quoted} 2>/dev/null)")
        lines.append(f'[ -n "$pid" ] && [ "/proc/$pid/exe" -ef {program} ] || rm -f {quoted}')
    environment = {"PATH": _PATH, **service.environment}
    words = ["exec", "env", "-i", *(f"{key}={value}" for key, value in sorted(environment.items()))]
    if (service.user, service.group or "root") != ("root", "root"):
        words += ["chpst", "-u", f"{service.user}:{service.group}" if service.group else service.user]
    return "\n".join([*lines, shlex.join([*words, *service.command]), ""])


def log_script(service: Service, layout: Layout) -> str:
    """Write the script of the service's logger."""
    directory = shlex.quote(str(layout.logs / service.name))
    return f"#!/bin/sh\n# Bounds the log of {service.name}. Managed by Bailey.\nexec svlogd -tt {directory}\n"


class Supervisor:
    """Our runsvdir: found again by its pid file, or by its command line where that file was lost."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.argv = ["runsvdir", "-P", str(layout.services)]

    def pid(self) -> int | None:
        """Return the process id of the one that runs, or None."""
        noted = read_text(self.layout.pid_file) or ""
        candidates = [int(noted)] if noted.strip().isdigit() else []
        for pid in [*candidates, *pids()]:
            if argv_of(pid) == self.argv and in_our_namespace(pid):
                return pid
        return None

    def ensure(self) -> None:
        """Start it unless it runs; it outlives whoever calls this."""
        pid = self.pid()
        if pid is None:
            self.layout.services.mkdir(parents=True, exist_ok=True)
            pid = self._start()
        self.layout.pid_file.parent.mkdir(parents=True, exist_ok=True)
        if read_text(self.layout.pid_file) != f"{pid}\n":
            write_atomic(self.layout.pid_file, f"{pid}\n".encode(), mode=0o644)

    def _start(self) -> int:
        try:
            return subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"PATH": _PATH},
                start_new_session=True,
            ).pid
        except FileNotFoundError as error:
            raise HostError("runsvdir: no such program on this host: install the package runit") from error

    def end(self) -> None:
        """End it and whatever runsv it still has, and remove what it left."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGHUP)
            wait_for(lambda: self.pid() is None, 10.0, f"runsvdir (pid {pid}) does not end on SIGHUP")
        self.layout.pid_file.unlink(missing_ok=True)
        for directory in (
            self.layout.services,
            self.layout.services.parent,
            self.layout.pid_file.parent,
            self.layout.logs,
        ):
            remove_if_empty(directory)


class Supervised:
    """One service below the supervisor."""

    def __init__(self, name: str, layout: Layout, timeout: float) -> None:
        check_name(name)
        self.name = name
        self.layout = layout
        self.timeout = timeout
        self.directory = layout.services / name
        self.log_directory = layout.logs / name

    def exists(self) -> bool:
        """Say whether anything of it is there, be it what an interrupted removal left."""
        gone = self.directory.with_name(f".{self.name}.gone")
        return any(path.exists() for path in (self.directory, gone, self.log_directory))

    def status(self, directory: Path | None = None) -> Status | None:
        """Return what its runsv says, None where there is none."""
        supervise = (directory or self.directory) / "supervise"
        try:
            os.close(os.open(supervise / "ok", os.O_WRONLY | os.O_NONBLOCK))
            raw = (supervise / "status").read_bytes()
        except OSError:
            return None
        if len(raw) < 20:
            return None
        seconds = int.from_bytes(raw[:8], "big") - _TAI_EPOCH
        since = seconds + int.from_bytes(raw[8:12], "big") / 1e9
        return Status(int.from_bytes(raw[12:16], "little"), raw[17:18] == b"u", since)

    def files(self, service: Service, *, stopped: bool) -> dict[Path, tuple[str, int]]:
        """Return each file that the service consists of, with its mode."""
        wanted = {
            self.directory / "run": (run_script(service), 0o700),
            self.directory / "log/run": (log_script(service, self.layout), 0o755),
            self.log_directory / "config": (f"s{service.log_size}\nn{service.log_files}\n", 0o644),
        }
        if stopped:
            wanted[self.directory / "down"] = ("", 0o644)
        return wanted

    def differences(self, service: Service, *, stopped: bool) -> Differences:
        """Return which files are not as declared."""
        found = Differences()
        for path, (text, _) in self.files(service, stopped=stopped).items():
            found.add(str(path), read_text(path), text)
        if not stopped:
            found.add(str(self.directory / "down"), read_text(self.directory / "down"), None)
        return found

    def write(self, service: Service, *, stopped: bool) -> None:
        """Write what differs. A new service appears to the supervisor at once and whole."""
        self.log_directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        fresh = not self.directory.exists()
        target = self.directory.with_name(f".{self.name}.new") if fresh else self.directory
        if fresh:
            shutil.rmtree(target, ignore_errors=True)
        (target / "log").mkdir(mode=0o755, parents=True, exist_ok=True)
        for path, (text, mode) in self.files(service, stopped=stopped).items():
            place = target / path.relative_to(self.directory) if path.is_relative_to(self.directory) else path
            if read_text(place) != text:
                write_atomic(place, text.encode(), mode=mode)
        if not stopped:
            (target / "down").unlink(missing_ok=True)
        if fresh:
            target.rename(self.directory)

    def start(self) -> None:
        """Start it and wait until it has stayed up."""
        self._wait_supervised()
        self._sv("start")
        self._wait_steady()

    def restart(self) -> None:
        """Stop it, start it, and wait until it has stayed up."""
        self._wait_supervised()
        self._sv("restart")
        self._wait_steady()

    def stop(self) -> None:
        """Stop it and wait until it has ended."""
        if self.status() is not None:
            self._sv("stop")

    def renew_logger(self) -> None:
        """Let the logger read its configuration again."""
        if self.status(self.directory / "log") is not None:
            self._sv("hup", self.directory / "log")

    def remove(self) -> None:
        """Stop it and remove its files and logs."""
        self.stop()
        gone = self.directory.with_name(f".{self.name}.gone")
        if self.directory.exists():
            shutil.rmtree(gone, ignore_errors=True)
            self.directory.rename(gone)  # out of the supervisor's sight, which would start a new runsv
        if self.status(gone) is not None:
            self._sv("exit", gone)
            wait_for(
                lambda: self.status(gone) is None and self.status(gone / "log") is None,
                self.timeout,
                f"{self.name}: its runsv does not end",
            )
        for directory in (gone, self.log_directory):
            if directory.exists():
                shutil.rmtree(directory)

    def _wait_supervised(self) -> None:
        # runsvdir looks for new directories every 5 seconds.
        wait_for(lambda: self.status() is not None, 15.0, f"{self.name}: runsvdir did not take up {self.directory}")

    def _wait_steady(self) -> None:
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            before = self.status()
            time.sleep(_STEADY_SECONDS)
            after = self.status()
            if before and after and before.pid and before.pid == after.pid:
                return
        raise HostError(f"{self.name}: it does not stay up; the end of its log:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """Return the last lines that the service wrote."""
        lines = (read_text(self.log_directory / "current") or "").splitlines()
        return "\n".join(lines[-_LOG_LINES:]) or "(nothing)"

    def _sv(self, verb: str, directory: Path | None = None) -> None:
        seconds = max(1, round(self.timeout))
        try:
            run(["sv", "-w", str(seconds), verb, str(directory or self.directory)], timeout=seconds + 10)
        except CommandError as error:
            raise HostError(
                f"{self.name}: sv {verb} failed: {error.stderr.strip()}; the end of its log:\n{self.log_tail()}"
            ) from error


def others(layout: Layout) -> list[str]:
    """Return the names of the services that the supervisor still has."""
    try:
        return sorted(path.name for path in layout.services.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []


def account_exists(name: str) -> bool:
    """Say whether the host knows an account."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def remove_if_empty(directory: Path) -> None:
    """Remove a directory that nobody uses."""
    with contextlib.suppress(OSError):
        directory.rmdir()


def wait_for(condition: Callable[[], bool], seconds: float, message: str) -> None:
    """Wait until a condition holds; raise HostError with the message where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise HostError(message)
        time.sleep(0.05)
