"""Bringing one service under runit to the state that is declared."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..changes import Differences
from ..errors import HostError
from .ceilings import has_systemd, read_ceilings
from .runit import Layout, Service, Status, Supervised, Supervisor, account_exists, check_service, others

DEFAULT_LAYOUT = Layout()


@dataclass(frozen=True)
class Wanted:
    """A state for a service, and the files whose change asks for a restart."""

    state: str  # started, restarted or stopped
    restart_on: Sequence[str] = ()
    timeout: float = 60.0  # seconds to start or to stop


@dataclass
class Reached:
    """What was changed, or in check mode would be, and what runs now."""

    differences: Differences = field(default_factory=Differences)
    status: Status | None = None


def reconcile(service: Service, wanted: Wanted, *, check: bool, layout: Layout = DEFAULT_LAYOUT) -> Reached:
    """Write, start, restart or stop a service, each only where it is not so already."""
    check_service(service, read_ceilings(systemd=has_systemd())["nofile"])
    stopped = wanted.state == "stopped"
    supervised = Supervised(service.name, layout, wanted.timeout)
    files = supervised.differences(service, stopped=stopped)
    before = supervised.status()
    action = _action(wanted, before, files, supervised)
    reached = Reached(files, before)
    if action:
        reached.differences.add(f"service {service.name}", *action)
    if check or not reached.differences:
        return reached
    _check_accounts(service)
    supervised.write(service, stopped=stopped)
    Supervisor(layout).ensure()
    _carry_out(wanted, action, supervised)
    if any(item.path == str(supervised.log_directory / "config") for item in files):
        supervised.renew_logger()
    reached.status = supervised.status()
    return reached


def remove(name: str, *, timeout: float, check: bool, layout: Layout = DEFAULT_LAYOUT) -> Reached:
    """Stop a service and remove all of it; the last one takes the supervisor along."""
    supervised = Supervised(name, layout, timeout)
    supervisor = Supervisor(layout)
    reached = Reached()
    if supervised.exists():
        reached.differences.add(f"service {name}", "present", "absent")
        if not check:
            supervised.remove()
    if not [other for other in others(layout) if other != name] and (
        supervisor.pid() is not None or layout.pid_file.exists() or layout.services.exists()
    ):
        reached.differences.add("runsvdir", "running", "ended")
        if not check:
            supervisor.end()
    return reached


def _action(
    wanted: Wanted, before: Status | None, files: Differences, supervised: Supervised
) -> tuple[str, str] | None:
    running = before is not None and before.pid > 0
    if wanted.state == "stopped":
        return ("started", "stopped") if running else None
    if before is None or not running:
        return ("stopped", "started")
    changed_script = any(item.path == str(supervised.directory / "run") for item in files)
    if wanted.state == "restarted" or changed_script or _older_than(before, wanted.restart_on):
        return (f"started (pid {before.pid})", "restarted")
    return None


def _older_than(status: Status, paths: Sequence[str]) -> bool:
    """Say whether a file was written after the program started: also by a run that failed before its restart."""
    return any(path.exists() and path.stat().st_mtime > status.since for path in map(Path, paths))


def _carry_out(wanted: Wanted, action: tuple[str, str] | None, supervised: Supervised) -> None:
    if wanted.state == "stopped":
        supervised.stop()
    elif action and action[1] == "restarted":
        supervised.restart()
    elif action:
        supervised.start()


def _check_accounts(service: Service) -> None:
    for program in ("runsvdir", "sv", "svlogd", "chpst"):
        if shutil.which(program) is None:
            raise HostError(f"{program}: no such program on this host: install the package runit")
    if not account_exists(service.user):
        raise HostError(f"{service.name}: the account {service.user} does not exist on this host")
    if not Path(service.command[0]).exists():
        raise HostError(f"{service.name}: {service.command[0]}: no such program on this host")
