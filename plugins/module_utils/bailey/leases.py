"""Which instance had which address when: RUN_DIR/leases.jsonl, written by the agent alone, read by the access log.

A line is there before the first packet of its address passes, so that every packet has an owner. The file is gone
after a reboot, as are the addresses.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .errors import HostError
from .host.files import read_text, write_atomic

KEPT_SECONDS = 900.0  # for packets that are told of late
# The kernel stamps a packet by the same clock as the agent's lines, but when it arrives, not when it is let through.
EARLY_SECONDS = 0.05
_GROWTH = 1 << 20  # bytes that the file may gain before it is compacted of itself


@dataclass(frozen=True)
class Lease:
    """An address's owner from a moment on (seconds since the epoch); without a name it is nobody's."""

    at: float
    address: str
    name: str | None = None
    tenant: str = ""
    app: str = ""


@dataclass(frozen=True)
class Unlogged:
    """How many connections of an address were not logged up to a moment, and whose they were, where that is known."""

    at: float
    address: str
    count: int
    owner: Lease | None


def journal(run_dir: Path) -> Path:
    """Return where the leases are kept."""
    return run_dir / "leases.jsonl"


class LeaseWriter:
    """The agent's side. Not for two threads at once. Raises OSError or HostError where a line cannot be written."""

    def __init__(self, run_dir: Path) -> None:
        self._path = journal(run_dir)
        self._bound = _GROWTH

    def take(self, address: str, name: str, tenant: str, app: str) -> None:
        """Give an address to an instance from now on."""
        self._append({"address": address, "name": name, "tenant": tenant, "app": app})

    def give_up(self, address: str) -> None:
        """Take an address from its instance from now on."""
        self._append({"address": address, "name": None})

    def count_unlogged(self, address: str, count: int) -> None:
        """Note how many connections of an address were kept out of the log by the bound on its rate."""
        self._append({"address": address, "unlogged": count})

    def compact(self) -> None:
        """Forget what is older than KEPT_SECONDS and concerns nobody any more, and what a crash has torn."""
        entries = list(_entries((read_text(self._path) or "").splitlines()))
        content = "".join(map(_line, _needed(entries, time.time() - KEPT_SECONDS))).encode()
        write_atomic(self._path, content)
        self._bound = len(content) + _GROWTH

    def _append(self, content: dict[str, Any]) -> None:
        """Write a line at once, on a line of its own whatever the last writer left."""
        line = _line({"at": time.time(), **content}).encode()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size > 0 and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(descriptor, line) != len(line):
                raise HostError(f"{self._path}: there is no room for a line")
        finally:
            os.close(descriptor)
        if size > self._bound:
            self.compact()


class LeaseReader:
    """The access log's side: follows the file as it grows and when it is replaced. It may be missing.

    `unlogged_since`: counts up to this moment have been seen by a reader before this one.
    """

    def __init__(self, run_dir: Path, unlogged_since: float = 0.0) -> None:
        self.unlogged_since = unlogged_since
        self._path = journal(run_dir)
        self._file: BinaryIO | None = None
        self._size = self._offset = 0  # what was there of it, and what of that was whole lines
        self._leases: dict[str, list[Lease]] = {}
        self._unlogged: list[Unlogged] = []

    def owner(self, address: str, at: float) -> Lease | None:
        """Return who had an address at a time (seconds since the epoch), None where nobody had.

        Where nobody had, it is the one who got it within the EARLY_SECONDS that follow.
        """
        self._follow()
        following = None
        for lease in reversed(self._leases.get(address, ())):
            if lease.at <= at:
                return lease if lease.name is not None else following
            if lease.at <= at + EARLY_SECONDS:
                following = lease if lease.name is not None else following
        return following

    def unlogged(self) -> Iterator[Unlogged]:
        """Yield the counts that are new."""
        self._follow()
        new, self._unlogged = self._unlogged, []
        yield from new

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _follow(self) -> None:
        """Take in the whole lines that are new. A last one that is torn is read when its writer has gone on."""
        try:
            status = self._path.stat()
            file, again = self._file, False
            # An inode's number is another file's only once nobody has it open.
            if file is None or os.fstat(file.fileno()).st_ino != status.st_ino:
                self.close()
                file = self._file = self._path.open("rb")
                self._offset, self._leases, again = 0, {}, True
            elif status.st_size == self._size:
                return
        except FileNotFoundError:
            return
        self._read(file, self.unlogged_since if again else None)

    def _read(self, file: BinaryIO, counted_until: float | None) -> None:
        file.seek(self._offset)
        data = file.read()
        whole = data.rpartition(b"\n")[0]
        self._size = self._offset + len(data)
        self._offset += len(whole) + 1 if whole else 0
        for entry in _entries(whole.decode(errors="replace").split("\n")):
            self._take(entry, counted_until)

    def _take(self, entry: dict[str, Any], counted_until: float | None) -> None:
        address, at = entry["address"], entry["at"]
        known = self._leases.setdefault(address, [])
        if "unlogged" not in entry:
            while len(known) > 1 and known[1].at < at - KEPT_SECONDS:
                known.pop(0)
            known.append(Lease(at, address, entry.get("name"), entry.get("tenant", ""), entry.get("app", "")))
        elif counted_until is None or at > counted_until:
            owner = known[-1] if known and known[-1].name is not None else None
            self._unlogged.append(Unlogged(at, address, entry["unlogged"], owner))
            self.unlogged_since = at


def _needed(entries: list[dict[str, Any]], since: float) -> Iterator[dict[str, Any]]:
    """Yield, in their order, the entries from a moment on and those in force at it."""
    in_force = {entry["address"]: number for number, entry in enumerate(entries) if _is_lease(entry, until=since)}
    for number, entry in enumerate(entries):
        if entry["at"] >= since or (in_force.get(entry["address"]) == number and entry.get("name") is not None):
            yield entry


def _is_lease(entry: dict[str, Any], until: float) -> bool:
    return "unlogged" not in entry and bool(entry["at"] < until)


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True) + "\n"


def _entries(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and _is_sound(entry):
            yield entry


def _is_sound(entry: dict[str, Any]) -> bool:
    texts = all(isinstance(entry.get(key, ""), str) for key in ("tenant", "app"))
    counted = isinstance(entry.get("unlogged", 0), int)
    named = entry.get("name") is None or isinstance(entry["name"], str)
    known = isinstance(entry.get("at"), int | float) and isinstance(entry.get("address"), str)
    return texts and counted and named and known
