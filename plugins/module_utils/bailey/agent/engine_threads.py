"""The engine's threads: where they are too many for too long it is restarted, in order, while tenants go on.

A program in Go that comes to 10,000 threads is aborted by its own runtime (SetMaxThreads in runtime/debug), at a moment
that nobody has chosen. A restart before that is one that containers outlive, where the engine has live-restore.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..backends.base import Backend
from ..errors import BaileyError, EngineError
from ..host.command import run
from ..host.files import read_text, write_atomic
from .ledger import LOG
from .workers import Workers

THREADS_ALLOWED = 10_000  # the runtime's own limit
SWEEPS = 3  # in a row: a burst of starts is over after one or two
PAUSE_SECONDS = 3600.0  # between two restarts: where the first has not helped, more of them will not
_COMMAND_SECONDS = 300.0  # it stops and starts a service, and waits for both
_STAMP = "engine-restarted"


class Verdict(Enum):
    """What the number of threads asks for."""

    CALM = "calm"
    DUE = "due"
    TOO_SOON = "too soon"


@dataclass
class ThreadWatch:
    """Decides. Times are in seconds of one clock that runs from boot to boot; a maximum of 0 asks for nothing."""

    maximum: int
    restarted_at: float | None = None
    sweeps: int = 0

    def look(self, threads: int | None, now: float) -> Verdict:
        """Take note of one sweep's number, None where there is no engine, and say what is to be done."""
        over = self.maximum > 0 and threads is not None and threads > self.maximum
        self.sweeps = self.sweeps + 1 if over else 0
        if self.sweeps < SWEEPS:
            return Verdict.CALM
        # A time to come is one of another boot, whose clock has gone.
        if self.restarted_at is not None and 0 <= now - self.restarted_at < PAUSE_SECONDS:
            return Verdict.TOO_SOON
        return Verdict.DUE

    def restarted(self, now: float) -> None:
        """Take note of a restart, whatever comes of it."""
        self.restarted_at, self.sweeps = now, 0


@dataclass
class Care:
    """What is told of it: `over` is whether the threads are too many, and have been for several sweeps."""

    maximum: int = 0
    over: bool = False
    restarts: int = 0


def boot_clock() -> float:
    """Return the seconds since boot, clock_gettime(2)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class EngineKeeper:
    """Carries the decisions out. `busy` says whether anybody just now needs the engine to be there."""

    def __init__(
        self,
        maximum: int,
        command: Sequence[str],
        backend: Backend,
        workers: Workers,
        run_dir: Path,
        busy: Callable[[], bool],
    ) -> None:
        self.care = Care(maximum)
        self.run_command: Callable[[Sequence[str]], object] = lambda argv: run(argv, timeout=_COMMAND_SECONDS)
        self.clock: Callable[[], float] = boot_clock
        self._command = command
        self._backend = backend
        self._workers = workers
        self._busy = busy
        self._stamp = run_dir / _STAMP
        self._watch = ThreadWatch(maximum, _read_stamp(self._stamp))
        self._task: asyncio.Task[None] | None = None
        self._said = ""

    async def tend(self, threads: int | None) -> None:
        """Look at one sweep's number; a restart that it leads to goes on beside the sweeps."""
        if self._task is not None and not self._task.done():
            return
        verdict = self._watch.look(threads, self.clock())
        self.care.over = verdict is not Verdict.CALM
        if verdict is Verdict.CALM or threads is None:
            self._said = ""
            return
        obstacle = "it was restarted within the hour" if verdict is Verdict.TOO_SOON else await self._obstacle()
        if obstacle:
            self._say(f"the engine has more than {self.care.maximum} threads, and is not restarted: {obstacle}")
        else:
            self._task = asyncio.create_task(self._restart(threads))

    def close(self) -> None:
        """Begin nothing more."""
        if self._task is not None:
            self._task.cancel()

    async def _obstacle(self) -> str:
        """Return why the engine cannot be restarted now, or nothing."""
        if not self._command:
            return "no command is known that does it (--engine-restart-command)"
        try:
            survived = await self._workers.engine(self._backend.survives_restart)
        except EngineError as error:
            return f"it does not say whether its containers outlive that: {error}"
        if not survived:
            return "it has no live-restore, and its containers would end"
        return "an instance is just being started, stopped or changed" if self._busy() else ""

    async def _restart(self, threads: int) -> None:
        now, command = self.clock(), " ".join(self._command)
        LOG.warning(
            "the engine has %d threads, more than %d for %d sweeps: it is restarted by `%s`",
            *(threads, self.care.maximum, SWEEPS, command),
        )
        self._watch.restarted(now)
        self.care.over = False
        try:
            # Written down first: an agent that is killed now must not do it again at once.
            await self._workers.kernel(write_atomic, self._stamp, f"{now}\n".encode())
            await self._workers.engine(self.run_command, self._command)
        except (BaileyError, OSError) as error:
            LOG.error("the engine could not be restarted: %s", error)
            return
        self.care.restarts += 1
        LOG.warning("the engine was restarted within %.1f s", self.clock() - now)

    def _say(self, text: str) -> None:
        if text != self._said:
            LOG.warning("%s", text)
            self._said = text


def _read_stamp(path: Path) -> float | None:
    try:
        return float(read_text(path) or "")
    except ValueError:
        return None
