"""Bounded threads for what blocks: the kernel's files, the engine, and sessions that ask for health.

Each kind has threads of its own, so that an engine that hangs never keeps a gate waiting, nor a tenant's slow
health command the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

_KERNEL, _ENGINE, _SESSIONS = 4, 10, 8


class Workers:
    """The three pools. Threads are made as they are needed."""

    def __init__(self) -> None:
        self._kernel = ThreadPoolExecutor(_KERNEL, "kernel")
        self._engine = ThreadPoolExecutor(_ENGINE, "engine")
        self._sessions = ThreadPoolExecutor(_SESSIONS, "session")

    async def kernel(
        self, function: Callable[Arguments, Returned], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Returned:
        """Read or write what the kernel answers at once."""
        return await _run(self._kernel, function, *args, **kwargs)

    async def engine(
        self, function: Callable[Arguments, Returned], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Returned:
        """Ask the engine, which may take its time."""
        return await _run(self._engine, function, *args, **kwargs)

    async def session(
        self, function: Callable[Arguments, Returned], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Returned:
        """Run something in a container."""
        return await _run(self._sessions, function, *args, **kwargs)

    def close(self) -> None:
        """Begin nothing more; what is under way is not waited for."""
        for pool in (self._kernel, self._engine, self._sessions):
            pool.shutdown(wait=False, cancel_futures=True)


async def _run(
    pool: ThreadPoolExecutor,
    function: Callable[Arguments, Returned],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Returned:
    return await asyncio.get_running_loop().run_in_executor(pool, lambda: function(*args, **kwargs))
