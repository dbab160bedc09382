"""What the agent says of each instance: /run/bailey/state/NAME.json, written by it alone, read by all.

A file a name rather than an answer over a socket, so that it can be read while the agent is down, and so that
reading a whole host costs no round trip. It is gone after a reboot, as is what it tells of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import HostError
from .host.files import read_text, write_atomic

VERSION = 1

WAITING, OPEN, REFUSED, EXITED, BACKOFF, FAILED = "waiting", "open", "refused", "exited", "backoff", "failed"
STATUSES = (WAITING, OPEN, REFUSED, EXITED, BACKOFF, FAILED)
HEALTH_NONE, HEALTH_STARTING, HEALTHY, UNHEALTHY = "none", "starting", "healthy", "unhealthy"


@dataclass(frozen=True)
class LastExit:
    """How the tenant's program last ended: a code or a signal, and when (seconds since the epoch)."""

    code: int | None
    signal: int | None
    oom: bool
    at: float


@dataclass(frozen=True)
class InstanceState:
    """One instance as the agent sees it.

    `status` is waiting (its gate is closed), open, refused (a limit did not hold; tried again with back-off),
    backoff (a restart is due), failed (it ended too often) or exited (it is not to be restarted).
    `gate_ms` is the time from wshd's knock to the word to go, `opened_at` seconds since the epoch, `pid` the
    host's number of the container's PID 1.
    """

    name: str
    tenant: str = ""
    app: str = ""
    container: str = ""
    status: str = WAITING
    reason: str = ""
    gate_ms: float | None = None
    opened_at: float | None = None
    pid: int | None = None
    restarts: int = 0
    health: str = HEALTH_NONE
    last_exit: LastExit | None = None

    def is_open(self, container_id: str) -> bool:
        """Say whether the gate of this very container has opened."""
        return self.status == OPEN and self.container == container_id

    def as_json(self) -> dict[str, Any]:
        """Return the content of the state file."""
        return {"version": VERSION, **asdict(self)}


def state_file(run_dir: Path, name: str) -> Path:
    """Return where an instance's state is kept."""
    return run_dir / "state" / f"{name}.json"


def parse_state(content: Mapping[str, Any], where: str) -> InstanceState:
    """Read a state file's content. Raises HostError naming `where` for what this version does not know."""
    try:
        if content["version"] != VERSION:
            raise HostError(f"{where}: version {content['version']!r} is not known; allowed: {VERSION}")
        fields = {key: value for key, value in content.items() if key not in ("version", "last_exit")}
        last = content.get("last_exit")
        state = InstanceState(**fields, last_exit=None if last is None else LastExit(**last))
    except (KeyError, TypeError, AttributeError) as error:
        raise HostError(f"{where}: not an instance's state ({error})") from error
    if state.status not in STATUSES:
        raise HostError(f"{where}: status {state.status!r} is not known; allowed: {', '.join(STATUSES)}")
    return state


def read_state(run_dir: Path, name: str) -> InstanceState | None:
    """Read one instance's state; None where the agent has none of it."""
    path = state_file(run_dir, name)
    text = read_text(path)
    if text is None:
        return None
    try:
        return parse_state(json.loads(text), str(path))
    except ValueError as error:
        raise HostError(f"{path}: not an instance's state ({error})") from error


def read_states(run_dir: Path) -> dict[str, InstanceState]:
    """Read the state of every instance, by name."""
    names = sorted(path.stem for path in (run_dir / "state").glob("*.json"))
    states = {name: read_state(run_dir, name) for name in names}
    return {name: state for name, state in states.items() if state is not None}


def write_state(run_dir: Path, state: InstanceState) -> None:
    """Put an instance's state in place, whole."""
    path = state_file(run_dir, state.name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, json.dumps(state.as_json(), sort_keys=True).encode() + b"\n", mode=0o600)


def remove_state(run_dir: Path, name: str) -> None:
    """Forget an instance's state."""
    state_file(run_dir, name).unlink(missing_ok=True)
