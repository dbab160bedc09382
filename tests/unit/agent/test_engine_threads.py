"""Too many threads of the engine: when a restart is due, and how it is carried out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from bailey.agent.engine_threads import PAUSE_SECONDS, SWEEPS, EngineKeeper, ThreadWatch, Verdict, boot_clock
from bailey.agent.workers import Workers
from bailey.errors import CommandError

from tests.unit.memory_host import Memory, MemoryEngine

MAXIMUM = 100
OVER = MAXIMUM + 1
COMMAND = ("restart", "engine")


def looked(watch: ThreadWatch, *numbers: int | None, now: float = 0.0) -> list[Verdict]:
    return [watch.look(number, now) for number in numbers]


class TestDecision:
    def test_only_the_last_of_several_sweeps_in_a_row_asks_for_it(self) -> None:
        calm = [Verdict.CALM] * (SWEEPS - 1)
        assert looked(ThreadWatch(MAXIMUM), *[OVER] * (SWEEPS + 1)) == [*calm, Verdict.DUE, Verdict.DUE]

    @pytest.mark.parametrize("between", [MAXIMUM, None])
    def test_a_sweep_between_that_is_not_over_begins_anew(self, between: int | None) -> None:
        numbers = [*[OVER] * (SWEEPS - 1), between, *[OVER] * (SWEEPS - 1)]
        assert set(looked(ThreadWatch(MAXIMUM), *numbers)) == {Verdict.CALM}

    def test_the_maximum_itself_is_allowed(self) -> None:
        assert set(looked(ThreadWatch(MAXIMUM), *[MAXIMUM] * 9)) == {Verdict.CALM}

    def test_no_maximum_asks_for_nothing(self) -> None:
        assert set(looked(ThreadWatch(0), *[10**6] * 9)) == {Verdict.CALM}

    def test_a_second_one_waits_for_its_time(self) -> None:
        watch = ThreadWatch(MAXIMUM)
        watch.restarted(50.0)
        last = 50.0 + PAUSE_SECONDS
        assert looked(watch, *[OVER] * SWEEPS, now=last - 1)[-1] is Verdict.TOO_SOON
        assert watch.look(OVER, last) is Verdict.DUE

    def test_after_a_restart_it_is_counted_anew(self) -> None:
        watch = ThreadWatch(MAXIMUM)
        looked(watch, *[OVER] * SWEEPS)
        watch.restarted(0.0)
        assert watch.look(OVER, PAUSE_SECONDS) is Verdict.CALM

    def test_a_time_of_another_boot_keeps_nobody_waiting(self) -> None:
        watch = ThreadWatch(MAXIMUM, restarted_at=9_999_999.0)
        assert looked(watch, *[OVER] * SWEEPS, now=60.0)[-1] is Verdict.DUE


class Scene:
    """A keeper with an engine in memory, a clock that a test sets, and a command that is only written down."""

    def __init__(self, run_dir: Path, command: Sequence[str] = COMMAND) -> None:
        self.engine = MemoryEngine(Memory())
        self.workers = Workers()
        self.commands: list[tuple[str, ...]] = []
        self.failing: Exception | None = None
        self.busy = False
        self.now = 1000.0
        self.keeper = EngineKeeper(MAXIMUM, command, self.engine, self.workers, run_dir, lambda: self.busy)
        self.keeper.run_command = self.run
        self.keeper.clock = lambda: self.now

    def run(self, argv: Sequence[str]) -> None:
        self.commands.append(tuple(argv))
        if self.failing is not None:
            raise self.failing

    async def sweeps(self, count: int, threads: int | None = OVER) -> None:
        for _ in range(count):
            await self.keeper.tend(threads)
        if self.keeper._task is not None:
            await self.keeper._task


def on_scene(run_dir: Path, play: Callable[[Scene], Any], **options: Any) -> Scene:
    async def run() -> Scene:
        scene = Scene(run_dir, **options)
        try:
            await play(scene)
        finally:
            scene.keeper.close()
            scene.workers.close()
        return scene

    return asyncio.run(run())


def test_the_engine_is_restarted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def play(scene: Scene) -> None:
        await scene.sweeps(SWEEPS - 1)
        assert not scene.commands
        assert not scene.keeper.care.over
        await scene.sweeps(1)
        assert scene.commands == [COMMAND]
        assert not scene.keeper.care.over
        await scene.sweeps(2 * SWEEPS)

    scene = on_scene(tmp_path, play)
    assert scene.commands == [COMMAND]
    assert (scene.keeper.care.restarts, scene.keeper.care.over) == (1, True)
    assert f"the engine has {OVER} threads, more than {MAXIMUM} for {SWEEPS} sweeps" in caplog.text
    assert caplog.text.count("is not restarted: it was restarted within the hour") == 1


def test_an_hour_later_it_may_be_restarted_again(tmp_path: Path) -> None:
    async def play(scene: Scene) -> None:
        await scene.sweeps(SWEEPS)
        scene.now += PAUSE_SECONDS
        await scene.sweeps(SWEEPS)

    assert on_scene(tmp_path, play).commands == [COMMAND, COMMAND]


def test_an_agent_that_is_started_again_remembers(tmp_path: Path) -> None:
    on_scene(tmp_path, lambda scene: scene.sweeps(SWEEPS))
    assert on_scene(tmp_path, lambda scene: scene.sweeps(SWEEPS)).commands == []


def test_what_it_remembers_may_be_damaged(tmp_path: Path) -> None:
    (tmp_path / "engine-restarted").write_text("soon")
    assert on_scene(tmp_path, lambda scene: scene.sweeps(SWEEPS)).commands == [COMMAND]


def without_live_restore(scene: Scene) -> None:
    scene.engine.live_restore = False


def without_answer(scene: Scene) -> None:
    scene.engine.memory.failing = "survives_restart"


def in_use(scene: Scene) -> None:
    scene.busy = True


@pytest.mark.parametrize(
    ("spoil", "command", "reason"),
    [
        (without_live_restore, COMMAND, "it has no live-restore, and its containers would end"),
        (without_answer, COMMAND, "it does not say whether its containers outlive that"),
        (in_use, COMMAND, "an instance is just being started, stopped or changed"),
        (lambda _scene: None, (), "no command is known that does it"),
    ],
)
def test_where_it_may_not_be_it_is_told_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Scene], None], command: Any, reason: str
) -> None:
    async def play(scene: Scene) -> None:
        spoil(scene)
        await scene.sweeps(SWEEPS)

    scene = on_scene(tmp_path, play, command=command)
    assert scene.commands == []
    assert (scene.keeper.care.restarts, scene.keeper.care.over) == (0, True)
    assert f"the engine has more than {MAXIMUM} threads, and is not restarted: {reason}" in caplog.text
    assert not (tmp_path / "engine-restarted").exists()


def test_it_is_made_up_for_when_nobody_needs_the_engine_any_more(tmp_path: Path) -> None:
    async def play(scene: Scene) -> None:
        scene.busy = True
        await scene.sweeps(SWEEPS + 2)
        scene.busy = False
        await scene.sweeps(1)

    assert on_scene(tmp_path, play).commands == [COMMAND]


def test_a_restart_that_fails_counts_for_the_hour_and_not_as_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(scene: Scene) -> None:
        scene.failing = CommandError(COMMAND, 1, "no such service")
        await scene.sweeps(SWEEPS)
        await scene.sweeps(SWEEPS)

    scene = on_scene(tmp_path, play)
    assert scene.commands == [COMMAND]
    assert (scene.keeper.care.restarts, scene.keeper.care.over) == (0, True)
    assert "the engine could not be restarted: restart engine: exit status 1: no such service" in caplog.text


def test_below_the_maximum_the_engine_is_not_even_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene = on_scene(tmp_path, lambda scene: scene.sweeps(9, MAXIMUM))
    assert scene.engine.memory.calls == []
    assert not scene.keeper.care.over
    assert caplog.text == ""


def test_the_clock_goes_on() -> None:
    assert 0 < boot_clock() <= boot_clock()
