"""Records of programs that ended though nobody asked them to: STATE/crashes/NAME/TIME.json, the newest ten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..host.files import write_atomic
from ..instance_state import LastExit

KEPT = 10
LOG_LINES = 20
_LINE_MAX = 4096  # characters of one line: a record is to be read by people
VERSION = 1


@dataclass(frozen=True)
class Crash:
    """One end. `uptime` is in seconds, None where the gate had not opened."""

    name: str
    container: str
    exit: LastExit
    uptime: float | None
    log: Sequence[str]

    def as_json(self) -> dict[str, object]:
        """Return the record's content; what the tenant printed may hold its secrets, so only root reads it."""
        ended = asdict(self.exit)
        log = [line[:_LINE_MAX] for line in self.log]
        return {
            "version": VERSION,
            "name": self.name,
            "container": self.container,
            **ended,
            "uptime": self.uptime,
            "log": log,
        }


def write_crash(directory: Path, crash: Crash) -> Path:
    """Write a record and remove the oldest beyond those that are kept."""
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / f"{int(crash.exit.at * 1e6):020d}.json"
    write_atomic(path, json.dumps(crash.as_json(), indent=1).encode() + b"\n", mode=0o600)
    for old in sorted(directory.glob("*.json"))[:-KEPT]:
        old.unlink(missing_ok=True)
    return path
