"""Keeping a scan small: a share of one processor on the average, and an end."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable

from ..errors import BaileyError
from ..host.command import run

_LONGEST_SLEEP = 5.0  # seconds at a time
_RESERVE = 30  # seconds of processor time above the share, after which the kernel ends a scan that does not end itself


class Budget:
    """What one scan may use: `share` of one processor, this process's children included, for `seconds` at most."""

    def __init__(
        self,
        share: float,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        used: Callable[[], float] = lambda: sum(os.times()[:4]),
    ) -> None:
        self._share, self._seconds = share, seconds
        self._clock, self._sleep, self._used = clock, sleep, used
        self._begun, self._before = clock(), used()

    @property
    def elapsed(self) -> float:
        """Seconds since the scan began."""
        return self._clock() - self._begun

    @property
    def spent(self) -> float:
        """Seconds of processor time since then."""
        return self._used() - self._before

    @property
    def left(self) -> float:
        """Seconds until the scan has to end; 0 where it has to now."""
        return max(0.0, self._seconds - self.elapsed)

    def pace(self) -> bool:
        """Sleep until what was used is within the share again; say whether there is time left."""
        while (ahead := self.spent / self._share - self.elapsed) > 0 and self.left > 0:
            self._sleep(min(ahead, self.left, _LONGEST_SLEEP))
        return self.left > 0

    def wait(self, until: float) -> None:
        """Sleep until `until` seconds since the scan began, or until its end."""
        while (rest := min(until - self.elapsed, self.left)) > 0:
            self._sleep(min(rest, _LONGEST_SLEEP))


def make_humble(share: float, seconds: float) -> list[str]:
    """Put this process and its children behind all others, and bound it; return what could not be done.

    Niceness and I/O class say who goes first, setpriority(2) and ioprio_set(2); the bound on processor time is the
    kernel's own, setrlimit(2), for the case that the scan's pace does not hold.
    """
    os.nice(19)
    limit = int(share * seconds) + _RESERVE
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))
    try:
        run(["ionice", "-c", "3", "-p", str(os.getpid())], timeout=10)
    except BaileyError as error:
        return [f"the disk is not left to others first: {error}"]
    return []
