"""What the agent decides on what it is told, whatever the order in which that comes."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from bailey.agent.listener import Past, has_run, is_stop, read_past
from bailey.agent.policy import BY_HAND, DECLARED_STOPPED, DRAINED, GONE, NOT_BY_POLICY, OLDER
from bailey.backends.base import Ended, Event, Happening
from bailey.errors import EngineError, EngineUnavailableError
from bailey.instance_state import (
    BACKOFF,
    EXITED,
    FAILED,
    OPEN,
    REFUSED,
    WAITING,
    InstanceState,
    LastExit,
    read_state,
    write_state,
)
from bailey.spec import STOPPED

from tests.unit.agent.stage import ONE, TWO, Stage, on_stage

TERM, KILL = int(signal.SIGTERM), int(signal.SIGKILL)


class TestEnds:
    def test_a_crash_is_recorded_and_followed_by_a_restart(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            stage.die(record, 3)
            assert record.state.status == EXITED
            assert record.state.reason == "it ended with exit code 3"
            assert record.name in stage.gate.armed
            await stage.until(lambda: stage.engine.started == [ONE])
            assert (record.state.status, record.state.restarts) == (WAITING, 1)
            (path,) = stage.files.crash_directory(record.name).iterdir()
            crash = json.loads(path.read_text())
            assert (crash["code"], crash["log"]) == (3, ["the end of 11"])
            last = read_state(stage.run_dir, record.name)
            assert last is not None
            assert last.last_exit is not None
            assert last.last_exit.code == 3

        on_stage(tmp_path, play)

    def test_it_is_given_up_at_the_limit(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            for number in range(3):
                stage.start(record, at=stage.engine.acted_at)
                stage.die(record)
                if number < 2:
                    await stage.until(lambda number=number: len(stage.engine.started) == number + 1)
            await stage.until(lambda: record.state.status == FAILED)
            await stage.calm()
            assert len(stage.engine.started) == 2

        on_stage(tmp_path, play, limit=3)

    def test_a_refusal_is_tried_again_and_its_reason_stays(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.happen(Happening.STARTED, record)
            stage.ledger.publish(record, status=REFUSED, reason="a limit", container=ONE)
            stage.die(record, 125)
            await stage.until(lambda: stage.engine.started == [ONE])
            assert not stage.files.crash_directory(record.name).exists()
            stage.happen(Happening.STARTED, record, at=stage.engine.acted_at)
            stage.ledger.publish(record, status=REFUSED, reason="a limit", container=ONE)
            stage.die(record, 125)
            await stage.until(lambda: record.state.status == FAILED)
            assert record.state.reason.startswith("a limit; it ended 2 times")

        on_stage(tmp_path, play, limit=2)

    def test_an_end_that_was_told_late_is_none(self, tmp_path: Path) -> None:
        """The container has been started again, and is past its gate, before the engine told of its end."""

        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            stage.happen(Happening.DIED, record, exit_code=1)
            await stage.calm()
            assert record.state.status == OPEN
            assert stage.engine.started == []

        on_stage(tmp_path, play)

    def test_an_end_of_another_container_is_none_of_its_own(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            stage.happen(Happening.DIED, record, TWO, exit_code=1)
            await stage.calm()
            assert record.state.status == OPEN

        on_stage(tmp_path, play)

    def test_the_engines_own_failures_count_but_its_absence_does_not(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.engine.failing = EngineUnavailableError("no engine")
            stage.supervisor.consider(record)
            await stage.until(lambda: record.state.reason == "no engine")
            assert (record.state.status, record.backoff.ends) == (BACKOFF, 0)
            record.cancel_timer()
            stage.engine.failing = EngineError("no port")
            stage.supervisor.consider(record)
            await stage.until(lambda: record.state.status == FAILED)
            assert "the engine cannot start it: no port" in record.state.reason

        on_stage(tmp_path, play, limit=2)


class TestByHand:
    @pytest.mark.parametrize("number", [TERM, KILL])
    def test_a_stop_is_respected(self, tmp_path: Path, number: int) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            stage.happen(Happening.SIGNALLED, record, signal=number)
            stage.die(record, 128 + number)
            stage.happen(Happening.STOPPED, record)
            await stage.calm()
            assert (record.state.status, record.state.reason) == (EXITED, BY_HAND)
            assert stage.engine.started == []
            stage.supervisor.consider(record)
            await stage.calm()
            assert stage.engine.started == []
            stage.start(record)
            stage.die(record)
            await stage.until(lambda: stage.engine.started == [ONE])

        on_stage(tmp_path, play)

    def test_an_images_own_stop_signal_shows_in_the_stop_alone(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            stage.happen(Happening.SIGNALLED, record, signal=int(signal.SIGQUIT))
            stage.die(record, 0)
            stage.happen(Happening.STOPPED, record)
            await stage.calm()
            assert (record.state.reason, stage.engine.started) == (BY_HAND, [])

        on_stage(tmp_path, play)

    def test_an_old_stop_signal_explains_no_later_end(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            stage.happen(Happening.SIGNALLED, record, signal=TERM)
            stage.at += 61_000_000_000
            stage.die(record)
            await stage.until(lambda: stage.engine.started == [ONE])

        on_stage(tmp_path, play)

    def test_a_restart_is_no_stop(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            stage.happen(Happening.SIGNALLED, record, signal=TERM)
            stage.die(record, 143)
            stage.happen(Happening.STOPPED, record)
            stage.start(record)
            await stage.calm()
            assert record.state.status == OPEN
            assert not record.settled

        on_stage(tmp_path, play)

    def test_what_is_removed_is_waited_for(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            stage.die(record)
            stage.happen(Happening.REMOVED, record)
            await stage.calm()
            assert (record.state.status, record.state.reason) == (EXITED, GONE)
            assert stage.engine.started == []

        on_stage(tmp_path, play)

    @pytest.mark.parametrize(
        ("name", "number", "stop"),
        [
            ("", TERM, True),
            ("", KILL, True),
            ("", 12, False),
            ("", None, False),
            ("SIGUSR2", 12, True),
            ("SIGUSR2", KILL, True),
            ("SIGUSR2", 1, False),
            ("SIGUSR2", None, False),
            ("SIGRTMIN+3", 37, True),
            ("SIGRTMIN+3", 34, False),
            ("SIGRTMIN", 34, True),
            ("SIGNOSUCH", None, False),
            ("SIGNOSUCH+1", 1, False),
        ],
    )
    def test_which_signals_are_stops(self, tmp_path: Path, name: str, number: int | None, stop: bool) -> None:
        async def play(stage: Stage) -> None:
            assert is_stop(number, stage.declare(stop_signal=name or None)) == stop

        on_stage(tmp_path, play)


class TestObstacles:
    @pytest.mark.parametrize(
        ("declared", "change", "reason"),
        [
            ({"state": STOPPED}, {}, DECLARED_STOPPED),
            ({}, {"container": ""}, GONE),
            ({}, {"made_from": "other"}, OLDER),
            ({"restart": "no"}, {}, NOT_BY_POLICY),
        ],
    )
    def test_what_keeps_it_from_starting(
        self, tmp_path: Path, declared: dict[str, Any], change: dict[str, str], reason: str
    ) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare(**declared)
            for name, value in change.items():
                setattr(record, name, value)
            stage.supervisor.consider(record)
            await stage.calm()
            assert (record.state.status, record.state.reason) == (EXITED, reason)
            assert stage.engine.started == []

        on_stage(tmp_path, play)

    def test_a_spec_file_that_cannot_be_read_is_one(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            (stage.store.specs / "ada-web-1.json").write_text("{}")
            stage.supervisor.consider(record)
            await stage.calm()
            assert "its spec file cannot be read" in record.state.reason
            assert stage.engine.started == []

        on_stage(tmp_path, play)

    def test_nothing_starts_before_the_engine_has_told_what_there_is(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            stage.supervisor.synced = False
            record = stage.declare()
            stage.supervisor.consider(record)
            await stage.calm()
            assert (record.state.status, stage.engine.started) == (WAITING, [])

        on_stage(tmp_path, play)

    def test_what_is_declared_no_more_is_forgotten(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            stage.store.forget(record.name)
            stage.supervisor.consider(record)
            assert stage.ledger.get(record.name) is None
            assert read_state(stage.run_dir, record.name) is None

        on_stage(tmp_path, play)


class TestHolding:
    def test_it_is_left_alone_until_the_last_one_lets_go(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            await stage.supervisor.hold(record)
            await stage.supervisor.hold(record)
            stage.happen(Happening.SIGNALLED, record, signal=TERM)
            stage.die(record, 143)
            stage.happen(Happening.STOPPED, record)
            stage.supervisor.release(record)
            await stage.calm()
            assert stage.engine.started == []
            stage.supervisor.release(record)
            await stage.until(lambda: stage.engine.started == [ONE])
            assert not stage.files.crash_directory(record.name).exists()
            assert record.backoff.ends == 0

        on_stage(tmp_path, play)

    def test_what_the_engine_tells_later_of_it_is_not_by_hand(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            await stage.supervisor.hold(record)
            moment = time.time_ns()
            stage.supervisor.release(record)
            for kind, details in (
                (Happening.SIGNALLED, {"signal": TERM}),
                (Happening.DIED, {"exit_code": 143}),
                (Happening.STOPPED, {}),
            ):
                stage.gate.past.clear()
                made = record.made_from
                event = Event(kind, ONE, record.name, record.name, made, moment, **details)  # type: ignore[arg-type]
                stage.listener.on_event(event)
            await stage.until(lambda: stage.engine.started == [ONE])

        on_stage(tmp_path, play)

    def test_to_expect_forgets_how_it_did(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            stage.happen(Happening.SIGNALLED, record, signal=TERM)
            stage.die(record, 143)
            await stage.calm()
            await stage.supervisor.hold(record)
            stage.supervisor.expect(record)
            assert (record.state.status, record.state.container, record.settled) == (WAITING, "", False)
            assert (record.ends, record.opened, record.backoff.ends) == ({}, {}, 0)
            assert record.name in stage.gate.armed

        on_stage(tmp_path, play)

    def test_an_end_before_that_concerns_nobody(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            stage.gate.past.clear()
            died = Event(Happening.DIED, ONE, record.name, record.name, "", time.time_ns(), exit_code=143)
            await stage.supervisor.hold(record)
            stage.supervisor.expect(record)
            stage.listener.on_event(died)
            assert (record.running, record.ends) == (False, {})
            assert record.state.status == WAITING

        on_stage(tmp_path, play)

    def test_who_is_forgotten_is_still_held(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            await stage.supervisor.hold(record)
            stage.supervisor.forget(record)
            assert stage.ledger.get(record.name) is record
            assert record.state == InstanceState(record.name)
            stage.store.forget(record.name)
            stage.supervisor.release(record)
            assert stage.ledger.get(record.name) is None

        on_stage(tmp_path, play)

    def test_a_container_set_aside_is_never_started(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            stage.die(record, 143)
            stage.happen(Happening.RENAMED, record, name="ada-web-1.bailey-old")
            await stage.calm()
            assert (record.container, stage.engine.started) == ("", [])
            stage.happen(Happening.RENAMED, record, name="ada-web-1")
            stage.supervisor.consider(record)
            await stage.until(lambda: stage.engine.started == [ONE])

        on_stage(tmp_path, play)


class TestAskedFor:
    def test_the_unwell_is_stopped_and_started(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            stage.supervisor.restart(record, "it is unhealthy: no")
            await stage.until(lambda: stage.engine.stopped == [ONE])
            written = read_state(stage.run_dir, record.name)
            assert written is not None
            assert (written.status, written.reason) == (BACKOFF, "it is unhealthy: no")
            moment = stage.engine.acted_at
            stage.happen(Happening.SIGNALLED, record, signal=TERM, at=moment)
            stage.die(record, 143, at=moment)
            stage.happen(Happening.STOPPED, record, at=moment)
            await stage.until(lambda: stage.engine.started == [ONE])
            assert not stage.files.crash_directory(record.name).exists()

        on_stage(tmp_path, play)

    def test_an_engine_that_cannot_leaves_it_as_it_is(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            stage.engine.failing = EngineUnavailableError("no engine")
            stage.supervisor.restart(record, "it is unhealthy: no")
            await stage.calm()
            assert (record.state.status, record.asked) == (OPEN, "")

        on_stage(tmp_path, play)

    def test_draining_stops_all_and_resuming_starts_them(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            one, two = stage.declare(), stage.declare("two", user=200_001)
            two.container = TWO
            stage.start(one)
            flag = tmp_path / "draining"
            assert await stage.supervisor.drain(flag) == 1
            await stage.until(lambda: stage.engine.stopped == [ONE])
            stage.die(one, 143)
            stage.supervisor.consider(two)
            await stage.calm()
            assert {one.state.reason, two.state.reason} == {DRAINED}
            assert (stage.engine.started, flag.exists()) == ([], True)
            await stage.supervisor.resume(flag)
            await stage.until(lambda: sorted(stage.engine.started) == [ONE, TWO])
            assert not flag.exists()

        on_stage(tmp_path, play)

    def test_resuming_wakes_nobody_who_was_stopped_by_hand(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare()
            stage.start(record)
            stage.happen(Happening.SIGNALLED, record, signal=TERM)
            stage.die(record, 143)
            await stage.calm()
            await stage.supervisor.drain(tmp_path / "draining")
            await stage.supervisor.resume(tmp_path / "draining")
            await stage.calm()
            assert (record.state.reason, stage.engine.started) == (BY_HAND, [])

        on_stage(tmp_path, play)


class TestFirstLook:
    """What an agent makes of what it finds."""

    def look(self, tmp_path: Path, state: InstanceState, **options: Any) -> tuple[list[str], InstanceState]:
        found: list[InstanceState] = []
        started: list[str] = []

        async def play(stage: Stage) -> None:
            stage.supervisor.synced = False
            write_state(stage.run_dir, state)
            record = stage.declare(restart=options.get("restart", "unless-stopped"))
            assert record.spec is not None
            running = options.get("running", False)
            stage.engine.there = [stage.container(record.spec, running=running)]
            stage.engine.past = options.get("past", [])
            stage.engine.ends = options.get("ends", {ONE: Ended(1, None, False, time.time(), "")})
            if options.get("passed"):
                stage.gate.past[record.name] = os.getpid()
            record.container = ""
            stage.supervisor.remember(record, first_start=options.get("first_start", False))
            await stage.supervisor.look_at(record)
            await stage.listener._look()
            await stage.calm()
            found.append(record.state)
            started.extend(stage.engine.started)

        on_stage(tmp_path, play)
        return started, found[0]

    def event(self, kind: Happening, at: int = 1, **details: int) -> Event:
        return Event(kind, ONE, "ada-web-1", "ada-web-1", "", at, **details)

    @pytest.mark.parametrize("status", [OPEN, WAITING])
    def test_what_ended_unseen_is_restarted(self, tmp_path: Path, status: str) -> None:
        started, state = self.look(tmp_path, InstanceState("ada-web-1", status=status, container=ONE))
        assert started == [ONE]
        assert state.last_exit is not None
        assert state.last_exit.code == 1

    def test_unless_somebody_stopped_it(self, tmp_path: Path) -> None:
        past = [self.event(Happening.STARTED), self.event(Happening.STOPPED)]
        started, state = self.look(tmp_path, InstanceState("ada-web-1", status=OPEN, container=ONE), past=past)
        assert (started, state.reason) == ([], BY_HAND)

    @pytest.mark.parametrize("status", [BACKOFF, REFUSED])
    def test_what_was_due_is_started(self, tmp_path: Path, status: str) -> None:
        past = [self.event(Happening.STOPPED)]
        started, _ = self.look(tmp_path, InstanceState("ada-web-1", status=status, container=ONE), past=past)
        assert started == [ONE]

    @pytest.mark.parametrize(("status", "reason"), [(EXITED, BY_HAND), (EXITED, "it ended"), (FAILED, "too often")])
    def test_what_was_settled_stays_so(self, tmp_path: Path, status: str, reason: str) -> None:
        former = InstanceState("ada-web-1", status=status, reason=reason, container=ONE)
        started, state = self.look(tmp_path, former)
        assert (started, state.status, state.reason) == ([], status, reason)

    def test_but_not_after_a_reboot(self, tmp_path: Path) -> None:
        former = InstanceState("ada-web-1", status=EXITED, reason=BY_HAND, container=ONE)
        assert self.look(tmp_path, former, first_start=True)[0] == [ONE]
        assert self.look(tmp_path, former, first_start=True, restart="no")[0] == []

    def test_nor_where_it_has_run_again_unseen(self, tmp_path: Path) -> None:
        last = LastExit(None, 15, False, 1.0)
        former = InstanceState("ada-web-1", status=EXITED, reason=BY_HAND, container=ONE, last_exit=last)
        past = [self.event(Happening.STOPPED), self.event(Happening.STARTED, at=2_000_000_000)]
        assert self.look(tmp_path, former, past=past)[0] == [ONE]

    @pytest.mark.parametrize("reason", [DRAINED, GONE, OLDER, DECLARED_STOPPED])
    def test_what_had_a_passing_reason_is_looked_at_again(self, tmp_path: Path, reason: str) -> None:
        former = InstanceState("ada-web-1", status=EXITED, reason=reason)
        assert self.look(tmp_path, former)[0] == [ONE]

    @pytest.mark.parametrize("running", [True, False])
    def test_who_is_past_the_gate_is_open_whatever_the_engine_says(self, tmp_path: Path, running: bool) -> None:
        former = InstanceState("ada-web-1", status=OPEN, container=ONE, pid=1, opened_at=1.0)
        started, state = self.look(tmp_path, former, passed=True, running=running)
        assert (started, state.status) == ([], OPEN)

    def test_who_waits_is_waited_for(self, tmp_path: Path) -> None:
        former = InstanceState("ada-web-1", status=WAITING, container=ONE)
        started, state = self.look(tmp_path, former, running=True)
        assert (started, state.status) == ([], WAITING)


def test_the_past_is_read_in_its_order() -> None:
    def event(kind: Happening, container: str, at: int, number: int | None = None) -> Event:
        return Event(kind, container, "one", "one", "", at, signal=number)

    past = read_past(
        [
            event(Happening.STARTED, ONE, 1),
            event(Happening.STOPPED, ONE, 2),
            event(Happening.STARTED, ONE, 3),
            event(Happening.STARTED, TWO, 4),
            event(Happening.SIGNALLED, TWO, 5, TERM),
            event(Happening.SIGNALLED, TWO, 6, KILL),
        ]
    )
    assert past == Past({TWO}, {ONE: 3, TWO: 4})


def test_a_run_that_nobody_saw(tmp_path: Path) -> None:
    async def play(stage: Stage) -> None:
        record = stage.declare()
        assert not has_run(record, ONE, Past())
        record.settled = True
        stage.ledger.publish(record, status=EXITED, last_exit=LastExit(0, None, False, 2.0))
        assert not has_run(record, ONE, Past(started={ONE: 1_000_000_000}))
        assert has_run(record, ONE, Past(started={ONE: 3_000_000_000}))

    on_stage(tmp_path, play)
