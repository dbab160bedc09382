"""What is kept of a finding, for whoever looks at it later: STATE/findings/INSTANCE-ID.json, mode 0600, bounded.

The same finding of the same instance is one file, in which its first and its last time stand; it is written before
anything is done to the process. A tenant can make as many findings as it likes, so that each has room of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import HostError
from ..host.files import read_text, write_atomic
from ..host.idmap import read_id_map
from ..host.proc import PROC
from .findings import Finding
from .processes import Process, clean, command_line, open_files, read_process, uid_of

VERSION = 1
KEPT, KEPT_OF_ONE = 2000, 50
_PARENTS, _OPEN_FILES = 16, 64
_TICKS = os.sysconf("SC_CLK_TCK")


def describe(process: Process, proc: Path = PROC) -> dict[str, Any]:
    """Return what there is to know of a process that lives: its words, its parents, what it has open."""
    return {
        **_brief(process, proc),
        "cwd": _link(process.pid, "cwd", proc),
        "parents": _parents(process, proc),
        "open_files": open_files(process.pid, _OPEN_FILES, proc),
    }


def _brief(process: Process, proc: Path) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "name": process.name,
        **_owner(process, proc),
        "started": _start_time(process, proc),
        "executable": _link(process.pid, "exe", proc),
        "command_line": command_line(process.pid, proc),
    }


def _owner(process: Process, proc: Path) -> dict[str, int | None]:
    """Return the uid that a process runs under, as its container calls it, and the host's number of that."""
    ids, outside = read_id_map(process.pid, proc), uid_of(process.pid, proc)  # who has ended has no uid
    inside = None if outside is None or ids is None else ids.to_container(outside)
    return {"uid": inside, "host_uid": outside}


def _parents(process: Process, proc: Path) -> list[dict[str, Any]]:
    """Return the parents, the nearest first, as far as the first process of the instance's own name space."""
    chain: list[dict[str, Any]] = []
    parent = process.parent
    while parent > 0 and len(chain) < _PARENTS:
        found = read_process(parent, proc)
        if found is None:
            break
        chain.append(_brief(found, proc))
        if _is_init(parent, proc):
            break
        parent = found.parent
    return chain


def _is_init(pid: int, proc: Path) -> bool:
    text = read_text(proc / str(pid) / "status") or ""
    rows = [line.split() for line in text.split("\n") if line.startswith("NSpid:")]
    return bool(rows) and rows[0][-1] == "1"


def _link(pid: int, name: str, proc: Path) -> str:
    try:
        return clean(str((proc / str(pid) / name).readlink()))
    except OSError:
        return ""


def _start_time(process: Process, proc: Path) -> float | None:
    """Return when it started, in seconds since the epoch."""
    rows = [line.split() for line in (read_text(proc / "stat") or "").splitlines() if line.startswith("btime ")]
    return int(rows[0][1]) + process.started / _TICKS if rows else None


class Evidence:
    """The directory of the findings."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, finding: Finding, subject: str, details: Mapping[str, Any]) -> None:
        """Write a finding down, and say in it where, and whether it is new. Raises HostError where there is no room.

        `subject` is what it has in common with itself at another time: not its process, which comes and goes.
        """
        path = self._directory / f"{finding.instance}-{_id(finding.rule, subject)}.json"
        now = time.time()
        former = _read(path)
        finding.evidence, finding.new = str(path), former is None
        content = {
            "version": VERSION,
            "first_seen": former.get("first_seen", now) if former else now,
            "last_seen": now,
            "count": int(former.get("count", 0)) + 1 if former else 1,
            **{key: value for key, value in finding.as_json().items() if key not in ("evidence", "new")},
            "process": details or None,
        }
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory.chmod(0o700)
            write_atomic(path, json.dumps(content, indent=1).encode() + b"\n", mode=0o600)
        except OSError as error:
            raise HostError(f"{path}: the finding cannot be kept: {error}") from error
        if finding.new:
            self._trim(finding.instance)

    def note(self, finding: Finding) -> None:
        """Add to a finding that is kept what has been done."""
        path = Path(finding.evidence)
        content = _read(path)
        if content is not None:
            write_atomic(path, json.dumps({**content, "taken": finding.taken}, indent=1).encode() + b"\n", mode=0o600)

    def _trim(self, instance: str) -> None:
        """Remove the oldest of an instance's findings above its own bound, then of all above theirs."""
        paths = sorted(self._directory.glob("*.json"), key=_age)
        own = [path for path in paths if path.name.rpartition("-")[0] == instance]
        surplus = own[:-KEPT_OF_ONE]
        kept = [path for path in paths if path not in surplus]
        for path in [*surplus, *kept[:-KEPT]]:
            path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _id(rule: str, subject: str) -> str:
    return hashlib.sha256(f"{rule}\0{subject}".encode(errors="surrogateescape")).hexdigest()[:12]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(read_text(path) or "")
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
