"""Whether an end was one for memory, from what the kernel told just before."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
from bailey.agent import memory
from bailey.agent.ledger import Record
from bailey.agent.memory import MemoryWatch, was_for_memory
from bailey.host.cgroup import Group, Hierarchy
from bailey.instance_state import OPEN, InstanceState

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("oom_at", "at", "expected"),
    [
        (0, 9 * SECOND, False),
        (8 * SECOND, 9 * SECOND, True),
        (9 * SECOND + 1, 9 * SECOND, True),
        (3 * SECOND, 9 * SECOND, False),
    ],
)
def test_an_end_just_after_a_kill_for_memory_is_one(oom_at: int, at: int, expected: bool) -> None:
    record = Record("one", InstanceState("one"))
    record.oom_at = oom_at
    assert was_for_memory(record, at) is expected


class Told:
    """A watch whose news a test has in hand."""

    def __init__(self, _group: Group) -> None:
        self.reader, self.writer = os.pipe()
        self.short = False
        self.kills: int | None = 2

    def fileno(self) -> int:
        return self.reader

    def read(self) -> int | None:
        os.set_blocking(self.reader, False)
        with contextlib.suppress(BlockingIOError):
            os.read(self.reader, 100)
        return self.kills

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)

    def tell(self, kills: int | None, *, short: bool = False) -> None:
        self.kills, self.short = kills, short
        os.write(self.writer, b"x")


def test_news_are_kills_or_a_shortage_but_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watches: list[Told] = []

    def make(group: Group) -> Told:
        watches.append(Told(group))
        return watches[-1]

    monkeypatch.setattr(memory, "OomWatch", make)
    (tmp_path / "docker/c0ffee").mkdir(parents=True)
    record = Record("one", InstanceState("one", container="c0ffee", status=OPEN, pid=7))

    async def run() -> None:
        watch = MemoryWatch(Hierarchy(2, {"memory": tmp_path}))
        watch.follow(record)
        watch.follow(record)
        (told,) = watches
        assert record.oom_kills == 2  # of before the agent's start
        for kills, short, expected in ((2, False, 0), (3, False, 1), (3, True, 1), (None, False, 0)):
            record.oom_at = 0
            told.tell(kills, short=short)
            await asyncio.sleep(0.05)
            assert (record.oom_at > 0) == bool(expected), (kills, short)
        assert record.oom_kills == 3
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(told.reader)  # the group has gone, and the watch with it

    asyncio.run(run())
