"""Who was killed for memory: asked while the control group is still there."""

from __future__ import annotations

import asyncio
import time

from ..host.cgroup import Hierarchy
from ..host.oom import OomWatch
from .ledger import LOG, Record

_AGAIN = 0.02  # seconds; version 1 tells of the shortage, a moment before the kill
_CAUSE = 5_000_000_000  # nanoseconds after a kill for memory within which an end by SIGKILL comes from it


class MemoryWatch:
    """The watches of all instances that are open."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self._hierarchy = hierarchy
        self._watches: dict[str, tuple[str, OomWatch]] = {}

    def follow(self, record: Record) -> None:
        """Watch an instance that has opened."""
        run = record.run
        if record.name in self._watches and self._watches[record.name][0] == run:
            return
        self.forget(record)
        group = self._hierarchy.find(record.state.container)
        if group is None:
            return
        try:
            watch = OomWatch(group)
        except OSError as error:
            LOG.warning("%s: its kills for memory cannot be watched: %s", record.name, error)
            return
        record.count_kills(run, watch.read() or 0)  # what was before is no news
        self._watches[record.name] = (run, watch)
        asyncio.get_running_loop().add_reader(watch.fileno(), self._on_event, record, run, watch)

    def _on_event(self, record: Record, run: str, watch: OomWatch) -> None:
        before, kills = record.oom_kills, watch.read()
        if kills is None:
            self.forget(record)
            return
        record.count_kills(run, kills)
        if watch.short or record.oom_kills > before:
            watch.short, record.oom_at = False, time.time_ns()
            asyncio.get_running_loop().call_later(_AGAIN, self._count_again, record, run, watch)

    def _count_again(self, record: Record, run: str, watch: OomWatch) -> None:
        if self._watches.get(record.name) == (run, watch):
            kills = watch.read()
            if kills is not None:
                record.count_kills(run, kills)

    def forget(self, record: Record) -> None:
        """Watch it no more."""
        known = self._watches.pop(record.name, None)
        if known is not None:
            asyncio.get_running_loop().remove_reader(known[1].fileno())
            known[1].close()

    def close(self) -> None:
        """Watch nobody any more."""
        for _, watch in self._watches.values():
            asyncio.get_running_loop().remove_reader(watch.fileno())
            watch.close()
        self._watches.clear()


def was_for_memory(record: Record, at: int) -> bool:
    """Say whether an end by SIGKILL at a time (nanoseconds since the epoch) was one for memory."""
    return record.oom_at > 0 and -_CAUSE < at - record.oom_at < _CAUSE
