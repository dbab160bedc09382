"""Listening to an engine that comes and goes, and the ledger's files."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

from bailey.agent.ledger import Ledger, first_start_after_boot
from bailey.agent.watch import EngineWatch, Item, Lost, Word
from bailey.backends.base import Event, EventStream, Happening
from bailey.errors import EngineUnavailableError
from bailey.instance_state import OPEN, InstanceState, read_state, write_state
from bailey.spec import STARTED
from bailey.store import SpecStore, StoredSpec

from tests.unit.agent.stage import Events, StagedEngine
from tests.unit.samples import spec


def event(at: int) -> Event:
    return Event(Happening.STARTED, "c0ffee", "one", "one", "", at)


class Coming(StagedEngine):
    """An engine whose connections a test has ready; None is one that cannot be had."""

    def __init__(self, *connections: list[Event] | None) -> None:
        super().__init__()
        self.connections = iter(connections)
        self.since: list[int] = []

    def events(self, since: int, until: int | None = None) -> EventStream:
        assert until is None
        self.since.append(since)
        connection = next(self.connections, None)
        if connection is None:
            raise EngineUnavailableError("no engine")
        return Events(connection)


def watched(engine: StagedEngine, count: int, since: int = 5) -> list[Item]:
    async def run() -> list[Item]:
        watch = EngineWatch(engine, since)
        watch.start()
        try:
            async with asyncio.timeout(10):
                return [await watch.next() for _ in range(count)]
        finally:
            watch.close()

    return asyncio.run(run())


def test_events_come_in_order_and_gaps_are_told() -> None:
    engine = Coming([event(6), event(7)], None, [event(7), event(8)])
    closed = Lost("it closed the connection")
    assert watched(engine, 7) == [
        *(Word.CONNECTED, event(6), event(7), closed),
        Lost("no engine"),
        *(Word.CONNECTED, event(8)),
    ]
    assert engine.since[:3] == [5, 7, 7]


def test_a_defect_ends_no_watch() -> None:
    class Broken(Coming):
        def events(self, since: int, until: int | None = None) -> EventStream:
            if not self.since:
                self.since.append(since)
                raise ZeroDivisionError
            return super().events(since, until)

    assert watched(Broken([event(6)]), 3)[1:] == [Word.CONNECTED, event(6)]


def test_a_stream_that_is_given_up_is_opened_again() -> None:
    class Silent(EventStream):
        closed = False

        def __iter__(self) -> Iterator[Event]:
            while not self.closed:
                time.sleep(0.005)
            return iter(())

        def close(self) -> None:
            self.closed = True

    class Hanging(StagedEngine):
        def events(self, since: int, until: int | None = None) -> EventStream:
            assert (since, until) == (0, None)
            return Silent()

    async def run() -> list[Item]:
        watch = EngineWatch(Hanging(), 0)
        watch.start()
        try:
            async with asyncio.timeout(10):
                first = await watch.next()
                watch.reconnect()
                watch.look()
                watch.look()
                return [first, *[await watch.next() for _ in range(3)]]
        finally:
            watch.close()

    found = asyncio.run(run())
    assert found == [Word.CONNECTED, Word.LOOK, Lost("it closed the connection"), Word.CONNECTED]


class TestLedger:
    def make(self, root: Path) -> Ledger:
        return Ledger(SpecStore(root), root / "run")

    def test_a_former_agents_word_is_taken_over(self, tmp_path: Path) -> None:
        former = InstanceState("one", container="c", status=OPEN, opened_at=1.0, pid=7)
        write_state(tmp_path / "run", former)
        record = self.make(tmp_path).record("one")
        assert (record.state, record.opened_at, list(record.opened)) == (former, 1.0, ["c"])

    def test_what_cannot_be_read_is_as_if_it_were_not_there(self, tmp_path: Path) -> None:
        (tmp_path / "run/state").mkdir(parents=True)
        for content in ("", "{", "[]", '{"version": 2}', json.dumps({"version": 1, "name": "one", "status": "x"})):
            (tmp_path / "run/state/one.json").write_text(content)
            assert self.make(tmp_path).record("one").state == InstanceState("one")

    def test_a_spec_is_read_again_when_its_file_changes(self, tmp_path: Path) -> None:
        store, ledger = SpecStore(tmp_path), self.make(tmp_path)
        declared = spec("one")
        store.write(StoredSpec("one", 200_000, STARTED, declared.canonical()))
        ledger.reload_all()
        record = ledger.record("one")
        assert record.spec == declared
        changed = spec("one", mem_limit="128M")
        store.write(StoredSpec("one", 200_000, STARTED, changed.canonical()))
        ledger.reload(record)
        assert record.spec == changed
        (store.specs / "one.json").write_text("no spec")
        ledger.reload(record)
        assert (record.spec, record.declared) == (None, None)
        assert "its spec file cannot be read" in record.problem
        store.forget("one")
        ledger.reload(record)
        assert (record.spec, record.problem) == (None, "")

    def test_what_is_published_is_written_and_wakes_who_waits(self, tmp_path: Path) -> None:
        async def run() -> None:
            ledger = self.make(tmp_path)
            record = ledger.record("one")
            waiting = record.changed()
            ledger.publish(record, status=OPEN, container="c", pid=7)
            await asyncio.wait_for(waiting, 1)
            assert read_state(tmp_path / "run", "one") == record.state
            assert "c" in record.opened
            assert record.waiters == set()
            ledger.drop(record)
            assert read_state(tmp_path / "run", "one") is None

        asyncio.run(run())

    def test_only_the_first_agent_after_a_boot_is_the_first(self, tmp_path: Path) -> None:
        boot_id = tmp_path / "id"
        boot_id.write_text("a\n")
        assert first_start_after_boot(tmp_path, boot_id)
        assert not first_start_after_boot(tmp_path, boot_id)
        boot_id.write_text("b\n")
        assert first_start_after_boot(tmp_path, boot_id)
