"""What others ask of the supervisor, and what it makes of its first look at an engine."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from bailey.agent.listener import Past, has_run, read_past
from bailey.agent.policy import BY_HAND, DECLARED_STOPPED, DRAINED, GONE, OLDER
from bailey.backends.base import Ended, Event, Happening
from bailey.errors import EngineUnavailableError
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

from tests.unit.agent.stage import ONE, TWO, Stage, on_stage

TERM, KILL = int(signal.SIGTERM), int(signal.SIGKILL)


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

    def test_a_restart_that_its_predecessor_began_goes_on(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            stage.supervisor.synced = False
            write_state(stage.run_dir, InstanceState("ada-web-1", status=BACKOFF, reason="no", container=ONE, pid=1))
            record = stage.declare()
            assert record.spec is not None
            stage.engine.there = [stage.container(record.spec, running=True)]
            stage.gate.past[record.name] = os.getpid()
            stage.supervisor.remember(record, first_start=False)
            await stage.supervisor.look_at(record)
            await stage.listener._look()
            await stage.until(lambda: stage.engine.stopped == [ONE])

        on_stage(tmp_path, play)

    @pytest.mark.parametrize("looked", [True, False])
    def test_nor_does_the_end_of_its_predecessors_stop_count_as_one_by_hand(self, tmp_path: Path, looked: bool) -> None:
        async def play(stage: Stage) -> None:
            stage.supervisor.synced = looked
            write_state(stage.run_dir, InstanceState("ada-web-1", status=BACKOFF, reason="no", container=ONE, pid=1))
            record = stage.declare()
            record.container, record.running = ONE, True
            stage.supervisor.remember(record, first_start=False)
            stage.happen(Happening.SIGNALLED, record, signal=KILL)
            stage.die(record, 137)
            assert (record.state.status, record.state.reason) == (BACKOFF, "no")
            stage.happen(Happening.STOPPED, record)
            await stage.calm()
            assert record.state.reason != BY_HAND
            assert stage.engine.started == [ONE]

        on_stage(tmp_path, play)

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
