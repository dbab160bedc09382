"""What the agent decides on what it is told, whatever the order in which that comes."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from bailey.agent.listener import is_stop
from bailey.agent.policy import BY_HAND, DECLARED_STOPPED, GONE, NOT_BY_POLICY, OLDER
from bailey.backends.base import Ended, Happening
from bailey.errors import EngineError, EngineUnavailableError
from bailey.instance_state import (
    BACKOFF,
    EXITED,
    FAILED,
    OPEN,
    REFUSED,
    WAITING,
    read_state,
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

    def test_whose_control_socket_outlives_it_is_looked_at_a_second_time(self, tmp_path: Path) -> None:
        async def play(stage: Stage) -> None:
            record = stage.declare(restart="no")
            assert record.spec is not None
            stage.start(record)
            stage.happen(Happening.DIED, record, exit_code=3)
            assert record.is_open
            stage.gate.past.clear()
            stage.engine.there = [stage.container(record.spec, running=False)]
            stage.engine.ends = {ONE: Ended(3, None, False, time.time(), "")}
            async with asyncio.timeout(10):
                await stage.listener._take(await stage.listener.watch.next())
            assert not record.running
            assert record.state.reason == "it ended with exit code 3"

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
