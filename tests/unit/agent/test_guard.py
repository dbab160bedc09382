"""The watch over the firewall: who stands still while it is made again, and who goes on afterwards."""

from __future__ import annotations

import errno
import logging
import time

import pytest
from bailey.agent import guard as module
from bailey.agent.guard import Guard
from bailey.errors import HostError
from bailey.host.cgroup import Group

from tests.unit.agent.guard_stage import RETRY, SECONDS, TWO, Stage, outcome

pytest_plugins = ["tests.unit.agent.guard_stage"]

UNNOTICED = 2.0


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

    @pytest.mark.parametrize("moments", [(12.5, 99.5), (99.5, 12.5)])
    def test_of_two_suspicions_at_once_none_is_lost(
        self, unstarted: Guard, stage: Stage, moments: tuple[float, float]
    ) -> None:
        for moment in moments:
            unstarted.suspect("a rule is missing", moment)
        unstarted.start()
        assert outcome(stage) == ""
        assert stage.wells == [12.5]
