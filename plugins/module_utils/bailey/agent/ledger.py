"""What the agent knows of each instance, and the one place from which that is published.

All of it lives in the event loop's thread. Nothing here is kept on disk but the state files, which a restarted
agent reads back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ..errors import BaileyError
from ..host.files import read_text
from ..instance_state import OPEN, InstanceState, LastExit, read_state, remove_state, write_state
from ..spec import Spec, parse_spec
from ..store import SpecStore, StoredSpec
from .policy import UNREAD, Backoff

LOG = logging.getLogger("baileyd")
_ENDS_KEPT = 4
# After a stop signal an end counts as asked for; a stop that takes longer says so itself, at its end.
_BY_HAND = 60_000_000_000
_AFTER_AN_END = 5_000_000_000  # within which the engine tells that a stop is over
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_Stamp = tuple[int, int, int]
Value = TypeVar("Value")


@dataclass(eq=False)
class Record:
    """One instance. Times of the engine are nanoseconds since the epoch."""

    name: str
    state: InstanceState
    declared: StoredSpec | None = None
    spec: Spec | None = None
    problem: str = ""  # why the spec file could not be read
    stamp: _Stamp | None = None
    container: str = ""  # that the engine has under the instance's name
    made_from: str = ""  # the hash of the declaration that it was made from
    running: bool = False  # as far as the engine has told
    holds: int = 0
    ours_until: int = 0  # until when stops and kills are the agent's own, or those of whoever holds it
    acting: int = 0  # the agent's own starts and stops under way
    killed_at: int = 0  # when somebody last had it killed, and whether that was the agent or who holds it
    killed_by_us: bool = False
    expected_at: int = 0  # when somebody last asked for its gate: what ended before concerns nobody
    opened_at: float | None = None  # since when it is behind its open gate, in seconds since the epoch
    oom_kills: int = 0  # since the agent started, and of those that of one run
    oom_run: tuple[str, int] = ("", 0)
    oom_at: int = 0  # when the last one was
    settled: bool = False  # it stays as it is until somebody asks for it
    asked: str = ""  # why the agent itself is ending it, to start it again
    interrupted: str = ""  # why a former agent was ending it, which died over that: the engine may be at it yet
    frozen: str = ""  # why it stands still, for what a scan has found
    condemned: str = ""  # why it may not run until it is deployed again
    backoff: Backoff = field(default_factory=Backoff)
    timer: asyncio.TimerHandle | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # one start or stop at a time
    gate: asyncio.Lock = field(default_factory=asyncio.Lock)  # one knock proven at a time
    ends: OrderedDict[str, LastExit] = field(default_factory=OrderedDict)  # how its last containers ended
    opened: OrderedDict[str, InstanceState] = field(default_factory=OrderedDict)  # whose gates have opened
    waiters: set[asyncio.Future[None]] = field(default_factory=set)

    @property
    def is_open(self) -> bool:
        """Whether its gate has opened and it has not ended."""
        return self.state.status == OPEN

    @property
    def run(self) -> str:
        """What tells this run of the instance from every other."""
        return f"{self.state.container} {self.state.pid}"

    def count_kills(self, run: str, kills: int) -> None:
        """Take note of the kernel's count of kills for memory, which begins anew with every run."""
        known, counted = self.oom_run
        self.oom_kills += max(0, kills - (counted if known == run else 0))
        self.oom_run = (run, kills)

    def was_killed(self, at: int, *, ours: bool) -> bool:
        """Say whether an end was asked for a moment before, by the agent or who holds it, or by anybody else."""
        return self.killed_by_us is ours and 0 < self.killed_at <= at < self.killed_at + _BY_HAND

    def ends_interrupted(self, at: int) -> bool:
        """Say whether an end is that of a former agent's stop, which the engine then tells of a little later."""
        if self.interrupted:
            self.ours_until = max(self.ours_until, at + _AFTER_AN_END)
        return bool(self.interrupted)

    def cancel_timer(self) -> None:
        """Forget a start that is due."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def changed(self) -> asyncio.Future[None]:
        """Return what is done when this instance's state changes next."""
        future = asyncio.get_running_loop().create_future()
        self.waiters.add(future)
        future.add_done_callback(self.waiters.discard)
        return future


class Ledger:
    """The records of all instances, by name."""

    def __init__(self, store: SpecStore, run_dir: Path) -> None:
        self._store = store
        self._run_dir = run_dir
        self._records: dict[str, Record] = {}

    def __iter__(self) -> Iterator[Record]:
        return iter(list(self._records.values()))

    def __len__(self) -> int:
        return len(self._records)

    def get(self, name: str) -> Record | None:
        """Return an instance's record, or None."""
        return self._records.get(name)

    def record(self, name: str) -> Record:
        """Return an instance's record, made from its state file where there was none yet."""
        found = self._records.get(name)
        if found is None:
            found = Record(name, self._former(name))
            if found.is_open:
                _keep(found.opened, found.state.container, found.state)
                found.opened_at = found.state.opened_at
            self._records[name] = found
            self.reload(found)
        return found

    def drop(self, record: Record) -> None:
        """Forget an instance."""
        self._records.pop(record.name, None)
        self.reset(record)

    def reset(self, record: Record) -> None:
        """Forget how an instance is, but not that somebody holds it."""
        record.cancel_timer()
        record.state, record.backoff = InstanceState(record.name), Backoff()
        record.opened_at, record.settled = None, False
        record.ends.clear()
        record.opened.clear()
        remove_state(self._run_dir, record.name)
        self._wake(record)

    def reload_all(self) -> None:
        """Read the spec files that are new or have changed, and take note of those that have gone."""
        names = {path.stem for path in self._store.specs.glob("*.json")}
        for name in names - self._records.keys():
            self.record(name)
        for record in self:
            self.reload(record)

    def reload(self, record: Record) -> None:
        """Read an instance's spec file again, if it has changed."""
        stamp = self._stamp(record.name)
        if stamp == record.stamp and record.stamp is not None:
            return
        record.stamp = stamp
        try:
            record.declared = self._store.read(record.name)
            record.spec = None if record.declared is None else parse_spec(record.declared.canonical)
            record.problem = ""
        except (BaileyError, OSError) as error:
            record.declared = record.spec = None
            record.problem = f"{UNREAD}{error}"
            LOG.warning("%s: %s", record.name, record.problem)

    def _stamp(self, name: str) -> _Stamp | None:
        try:
            status = (self._store.specs / f"{name}.json").stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _former(self, name: str) -> InstanceState:
        try:
            return read_state(self._run_dir, name) or InstanceState(name)
        except BaileyError as error:
            LOG.warning("%s: its former state is not known: %s", name, error)
            return InstanceState(name)

    def publish(self, record: Record, **changes: object) -> None:
        """Change an instance's state, write it down, and wake whoever waits for it."""
        spec = record.spec
        known = {} if spec is None else {"tenant": spec.tenant, "app": spec.app}
        state = replace(record.state, **known, **changes)  # type: ignore[arg-type]
        if state.status == OPEN:
            _keep(record.opened, state.container, state)
        if state != record.state or not (self._run_dir / "state" / f"{record.name}.json").exists():
            if (state.status, state.reason) != (record.state.status, record.state.reason):
                LOG.info("%s: %s%s", record.name, state.status, f": {state.reason}" if state.reason else "")
            record.state = state
            self._write(state)
        self._wake(record)

    def ended(self, record: Record, container: str, last: LastExit) -> None:
        """Take note of how a container ended, for whoever waits at its gate."""
        _keep(record.ends, container, last)

    def _write(self, state: InstanceState) -> None:
        try:
            write_state(self._run_dir, state)
        except OSError as error:  # the gate does not depend on it: say so, and go on
            LOG.warning("%s: its state cannot be written: %s", state.name, error)

    def _wake(self, record: Record) -> None:
        for future in list(record.waiters):
            if not future.done():
                future.set_result(None)


def _keep(kept: OrderedDict[str, Value], key: str, value: Value) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > _ENDS_KEPT:
        kept.popitem(last=False)


def first_start_after_boot(run_dir: Path, boot_id: Path = _BOOT_ID) -> bool:
    """Say whether no agent has run here since the machine came up, and remember that one has.

    The file is compared, not looked for: a run directory that outlives a reboot is not a former agent's.
    """
    mark, current = run_dir / "boot_id", (read_text(boot_id) or "").strip()
    if (read_text(mark) or "").strip() == current:
        return False
    mark.write_text(current + "\n")
    return True
