"""What the agent does to containers through the engine: few at a time, and marked as its own doing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..agent_files import AgentFiles
from ..backends.base import Backend, Ended
from ..errors import EngineError
from ..instance_state import LastExit
from .crash import LOG_LINES, Crash, write_crash
from .ledger import LOG, Record
from .workers import Workers

_AT_ONCE = 4  # starts, and stops, that the engine is asked for at the same time
_GRACE = 10.0


class Hands:
    """Starts and stops of one engine's containers."""

    def __init__(self, backend: Backend, files: AgentFiles, workers: Workers) -> None:
        self._backend = backend
        self._files = files
        self._workers = workers
        self.starts = asyncio.Semaphore(_AT_ONCE)
        self.stops = asyncio.Semaphore(_AT_ONCE)

    async def start(self, record: Record) -> None:
        """Have a container started; nothing happens where it runs."""
        with _acting(record):
            await self._workers.engine(self._backend.start, record.container)

    async def stop(self, record: Record, grace: float | None = None) -> None:
        """Have a container stopped in the time that its spec gives it, or in `grace` seconds."""
        if grace is None:
            grace = _GRACE if record.spec is None else record.spec.stop_grace_period
        async with self.stops:
            with _acting(record):
                await self._workers.engine(self._backend.stop, record.container, grace)

    async def facts(self, container: str) -> Ended | None:
        """Return how a container ended; None where it runs, or the engine does not say."""
        try:
            return await self._workers.engine(self._backend.ended, container)
        except EngineError as error:
            LOG.warning("container %s: how it ended is not known: %s", container[:12], error)
            return None

    async def record_crash(self, record: Record, container: str, last: LastExit, uptime: float | None) -> None:
        """Keep what is known of an end that nobody asked for. The log may be gone; the record is made all the same."""
        log: Sequence[str] = ()
        try:
            log = await self._workers.engine(self._backend.log_tail, container, LOG_LINES)
        except EngineError as error:
            LOG.warning("%s: its log could not be read: %s", record.name, error)
        crash = Crash(record.name, container, last, uptime, log)
        try:
            await self._workers.kernel(write_crash, self._files.crash_directory(record.name), crash)
        except OSError as error:
            LOG.error("%s: its crash could not be recorded: %s", record.name, error)


@contextmanager
def _acting(record: Record) -> Iterator[None]:
    """Mark what the engine tells meanwhile as the agent's own doing, also where it arrives later."""
    record.acting += 1
    try:
        yield
    finally:
        record.acting -= 1
        record.ours_until = time.time_ns()
