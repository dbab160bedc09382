"""The watch over the firewall: who stands still while it is made again, and who goes on afterwards."""

from __future__ import annotations

import errno
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from bailey.agent import guard as module
from bailey.agent.guard import Guard, note_of
from bailey.errors import HostError
from bailey.host.cgroup import Group, Hierarchy
from bailey.host.files import read_text
from bailey.network_settings import NetworkSettings, parse_network_settings

ONE, TWO = "1" * 64, "2" * 64
SECONDS = 5.0
RETRY = 0.02
UNNOTICED = 2.0


class StandInEvents:
    """Stands for TableEvents: what a test writes into a pipe has changed a table, `o` by this process itself."""

    def __init__(self, table: str) -> None:
        self.table = table
        self.closed = False
        self.looked = threading.Semaphore(0)
        self._read, self._write = os.pipe()

    def change(self, who: bytes = b"x") -> None:
        os.write(self._write, who)

    def fileno(self) -> int:
        return self._read

    def touched(self) -> bool:
        found = os.read(self._read, 100)
        self.looked.release()
        return b"x" in found

    def close(self) -> None:
        self.closed = True
        os.close(self._read)
        os.close(self._write)


@dataclass
class Stage:
    """A hierarchy with containers, a network that is made again as a test has it, and in `done` what happened."""

    root: Path
    settings: NetworkSettings = field(default_factory=lambda: parse_network_settings({}, "settings"))
    containers: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    wells: list[float] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    told: queue.Queue[str] = field(default_factory=queue.Queue)
    in_force: bool = True

    def __post_init__(self) -> None:
        self.hierarchy = Hierarchy(2, dict.fromkeys(("memory", "freezer"), self.root))
        self.events = StandInEvents("")

    def watch(self, table: str) -> StandInEvents:
        self.events.table = table
        return self.events

    def add(self, name: str, container: str, frozen: str = "0") -> None:
        self.containers[name] = container
        self.file(container).parent.mkdir(parents=True)
        self.file(container).write_text(frozen)

    def file(self, container: str) -> Path:
        return self.root / f"docker/{container}/cgroup.freeze"

    def frozen(self) -> list[str]:
        return [name for name, container in self.containers.items() if read_text(self.file(container)) == "1"]

    def noted(self) -> list[str] | None:
        path = note_of(self.root)
        return json.loads(path.read_text())["containers"] if path.exists() else None

    def name(self, group: Group) -> str:
        return next(name for name, container in self.containers.items() if group.paths["freezer"].name == container)

    # As HostNetwork.

    def rebuild(self, well: float) -> int:
        self.wells.append(well)
        self.done.append(f"rebuild with {' '.join(self.frozen())} frozen")
        for error in self.errors[:1]:
            del self.errors[:1]
            raise error
        return 3


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """One container runs."""
    made = Stage(tmp_path)
    made.add("one", ONE)
    monkeypatch.setattr(module, "TableEvents", made.watch)
    for change in ("freeze", "thaw"):
        record(change, made, monkeypatch)
    return made


def record(change: str, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    original = getattr(module, change)

    def recorded(group: Group) -> None:
        noted = "noted" if group.paths["freezer"].name in (stage.noted() or []) else "not noted"
        stage.done.append(f"{change} {stage.name(group)}, {noted}")
        original(group)

    monkeypatch.setattr(module, change, recorded)


@pytest.fixture
def unstarted(stage: Stage) -> Iterator[Guard]:
    network: Any = stage
    made = Guard(network, stage.hierarchy, stage.root, lambda: stage.told.put(made.repairs.failed))
    yield made
    if made._thread.ident is not None and not stage.events.closed:
        made.close()
        made._thread.join(SECONDS)


@pytest.fixture
def guard(unstarted: Guard) -> Guard:
    unstarted.start()
    return unstarted


def outcome(stage: Stage) -> str:
    """Wait for the end of an attempt, and return why it failed."""
    return stage.told.get(timeout=SECONDS)


class TestRepair:
    def test_tenants_stand_still_until_the_tables_are_as_they_were(self, guard: Guard, stage: Stage) -> None:
        stage.events.change()
        assert outcome(stage) == ""
        assert stage.done == ["freeze one, noted", "rebuild with one frozen", "thaw one, noted"]
        assert stage.noted() is None
        assert (guard.repairs.count, guard.repairs.failed) == (1, "")
        assert 0 < guard.repairs.seconds < SECONDS
        assert stage.events.table == "bailey"

    def test_connections_end_that_began_before_the_change_could_be_noticed(self, guard: Guard, stage: Stage) -> None:
        before = time.time()
        stage.events.change()
        outcome(stage)
        (well,) = stage.wells
        assert before - UNNOTICED <= well <= time.time() - UNNOTICED
        assert guard.repairs.count == 1

    def test_its_own_changes_are_nothing(self, guard: Guard, stage: Stage) -> None:
        for _ in range(2):  # by the second look all is done that follows from the first
            stage.events.change(b"o")
            assert stage.events.looked.acquire(timeout=SECONDS)
        assert stage.done == []
        assert guard.repairs.count == 0

    def test_who_was_frozen_by_somebody_else_stays_so(self, guard: Guard, stage: Stage) -> None:
        stage.add("two", TWO, "1")
        stage.events.change()
        outcome(stage)
        assert stage.done == ["freeze one, noted", "rebuild with one two frozen", "thaw one, noted"]
        assert stage.frozen() == ["two"]
        assert guard.repairs.count == 1

    def test_who_has_ended_keeps_nobody_from_being_frozen(
        self, guard: Guard, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage.containers = {"gone": "0" * 64, **stage.containers}
        stage.add("two", TWO)
        original = module.freeze

        def ends_meanwhile(group: Group) -> None:
            if stage.name(group) == "one":
                raise OSError(errno.ENODEV, "No such device")
            original(group)

        monkeypatch.setattr(module, "freeze", ends_meanwhile)
        stage.events.change()
        assert outcome(stage) == ""
        assert "rebuild with two frozen" in stage.done
        assert guard.repairs.count == 1

    def test_a_note_that_cannot_be_written_keeps_nobody_running(
        self, guard: Guard, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(module, "write_atomic", full)
        stage.events.change()
        assert outcome(stage) == ""
        assert stage.done == ["freeze one, not noted", "rebuild with one frozen", "thaw one, not noted"]
        assert guard.repairs.count == 1

    def test_a_suspicion_is_a_reason_with_a_moment_of_its_own(
        self, guard: Guard, stage: Stage, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            guard.suspect("a rule is missing", 12.5)
            outcome(stage)
        assert stage.wells == [12.5]
        assert "made again: a rule is missing; 1 tenants stood still for " in caplog.text
        assert "3 connections ended" in caplog.text
        stage.events.change()
        outcome(stage)
        assert stage.wells[1] > 12.5


class TestFailure:
    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_RETRY_SECONDS", RETRY)

    def test_tenants_stand_still_until_it_succeeds_without_anybodys_word(self, guard: Guard, stage: Stage) -> None:
        stage.errors = [HostError("refused"), OSError(errno.EPERM, "not permitted")]
        stage.events.change()
        assert [outcome(stage) for _ in range(3)] == ["refused", "[Errno 1] not permitted", ""]
        assert stage.done == [
            *("freeze one, noted", "rebuild with one frozen") * 3,
            "thaw one, noted",
        ]
        assert (guard.repairs.count, guard.repairs.failed, stage.frozen(), stage.noted()) == (1, "", [], None)

    def test_connections_end_since_before_the_first_attempt(self, guard: Guard, stage: Stage) -> None:
        stage.errors = [HostError("refused")] * 3
        stage.events.change()
        for _ in range(4):
            outcome(stage)
        assert len(set(stage.wells)) == 1
        stage.events.change()
        outcome(stage)
        assert stage.wells[-1] > stage.wells[0]
        assert guard.repairs.count == 2

    def test_who_starts_meanwhile_is_frozen_too(self, guard: Guard, stage: Stage) -> None:
        stage.errors = [HostError("refused")] * 1000
        stage.events.change()
        outcome(stage)
        stage.add("two", TWO)
        deadline = time.monotonic() + SECONDS
        while "rebuild with one two frozen" not in stage.done and time.monotonic() < deadline:
            outcome(stage)
        assert "freeze two, noted" in stage.done
        stage.errors.clear()
        while outcome(stage):
            pass
        assert stage.frozen() == []
        assert guard.repairs.count == 1

    def test_the_same_failure_is_said_once(self, guard: Guard, stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
        stage.errors = [HostError("refused")] * 3
        with caplog.at_level(logging.ERROR):
            stage.events.change()
            for _ in range(4):
                outcome(stage)
        assert caplog.messages == ["the firewall cannot be made again, and 1 tenants stand still: refused"]
        assert guard.repairs.count == 1

    def test_an_error_that_nobody_has_thought_of_is_tried_again_too(self, guard: Guard, stage: Stage) -> None:
        stage.errors = [ValueError("unforeseen")]
        stage.events.change()
        assert [outcome(stage) for _ in range(2)] == ["ValueError('unforeseen')", ""]
        assert stage.frozen() == []
        assert guard.repairs.count == 1

    def test_who_cannot_be_read_is_frozen_all_the_same(
        self, guard: Guard, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def ends(_: Group) -> bool:
            raise OSError(errno.ENODEV, "No such device")

        monkeypatch.setattr(module, "is_frozen", ends)
        stage.events.change()
        assert outcome(stage) == ""
        assert "rebuild with one frozen" in stage.done
        assert guard.repairs.count == 1

    def test_without_a_note_those_that_it_froze_itself_go_on_all_the_same(
        self, guard: Guard, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(module, "write_atomic", full)
        stage.errors = [HostError("refused")]
        stage.events.change()
        assert [outcome(stage) for _ in range(2)] == ["refused", ""]
        assert stage.frozen() == []
        assert guard.repairs.count == 1

    def test_of_several_moments_the_earliest_counts(self, guard: Guard, stage: Stage) -> None:
        stage.errors = [HostError("refused")]
        guard.suspect("a rule is missing", 12.5)
        outcome(stage)
        guard.suspect("a rule is missing", 99.5)
        while outcome(stage):
            pass
        assert set(stage.wells) == {12.5}


class TestBeginningAndEnd:
    def note(self, stage: Stage, **content: Any) -> None:
        note_of(stage.root).write_text(json.dumps({"version": 1, "containers": [ONE], **content}))

    def test_whom_an_agent_before_it_froze_goes_on(self, unstarted: Guard, stage: Stage) -> None:
        stage.file(ONE).write_text("1")
        stage.add("two", TWO, "1")
        self.note(stage, containers=[ONE, "0" * 64])
        assert unstarted.interrupted
        assert stage.frozen() == ["one", "two"]
        unstarted.start()
        assert stage.frozen() == ["two"]
        assert not unstarted.interrupted
        assert stage.noted() is None

    @pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"version": 2, "containers": ["x"]}', '{"version": 1}'])
    def test_a_note_that_says_nothing_is_no_interruption(self, unstarted: Guard, stage: Stage, text: str) -> None:
        note_of(stage.root).write_text(text)
        assert not unstarted.interrupted

    def test_without_a_firewall_they_stand_still_until_there_is_one(
        self, unstarted: Guard, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_RETRY_SECONDS", RETRY)
        stage.file(ONE).write_text("1")
        self.note(stage)
        stage.in_force, stage.errors = False, [HostError("no bridge")] * 2
        unstarted.start()
        assert [outcome(stage) for _ in range(3)] == ["no bridge", "no bridge", ""]
        assert stage.done[-1] == "thaw one, noted"
        assert stage.frozen() == []

    def test_one_that_never_began_can_be_closed(self, unstarted: Guard, stage: Stage) -> None:
        unstarted.close()
        assert stage.events.closed

    def test_without_a_freezer_it_says_so(self, stage: Stage) -> None:
        network: Any = stage
        with pytest.raises(HostError, match="freezer is not mounted"):
            Guard(network, Hierarchy(1, {"memory": stage.root}), stage.root, lambda: None)

    def test_without_a_note_nobody_was_interrupted(self, unstarted: Guard, stage: Stage) -> None:
        stage.file(ONE).write_text("1")
        assert not unstarted.interrupted
        unstarted.start()
        assert stage.frozen() == ["one"]

    def test_what_changes_before_it_begins_is_noticed(self, unstarted: Guard, stage: Stage) -> None:
        stage.events.change()
        unstarted.start()
        assert outcome(stage) == ""
        assert stage.frozen() == []

    def test_closing_ends_the_thread_first(self, guard: Guard, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_RETRY_SECONDS", SECONDS)  # so long it is waited for
        assert guard._thread.is_alive()
        guard.close()
        assert not guard._thread.is_alive()
        assert stage.events.closed
        assert stage.done == []

    def test_closing_leaves_those_frozen_whose_firewall_is_not_as_it_should_be(
        self, guard: Guard, stage: Stage
    ) -> None:
        stage.errors = [HostError("refused")] * 1000
        stage.events.change()
        outcome(stage)
        guard.close()
        assert stage.frozen() == ["one"]
        assert stage.noted() == [ONE]
