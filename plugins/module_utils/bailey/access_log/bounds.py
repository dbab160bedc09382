"""The bound on the log's rate, and the count of what is not in it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..host.files import read_text, write_atomic
from ..leases import Lease

RATE, SIZE, SEQUENCE = "rate", "size", "sequence"  # over the rate, no room on disk, lost between the kernel and us


class TokenBucket:
    """At most `rate` a second, and as many at once after a quiet second."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._tokens, self._at = float(rate), clock()

    def take(self, wanted: int) -> int:
        """Take as many tokens as there are, `wanted` at most, and return how many."""
        now = self._clock()
        self._tokens = min(float(self._rate), self._tokens + (now - self._at) * self._rate)
        self._at = now
        taken = min(wanted, int(self._tokens))
        self._tokens -= taken
        return taken


@dataclass
class Counts:
    """What was written and what was not since the host started, and what of that has to be told yet."""

    written: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    unlogged_since: float = 0.0  # seconds since the epoch: up to here the agent's counts are in `dropped`
    untold: Counter[tuple[str, Lease | None]] = field(default_factory=Counter)

    def drop(self, reason: str, count: int, owner: Lease | None = None) -> None:
        """Count lines that are not written."""
        if count > 0:
            self.dropped[reason] += count
            self.untold[reason, owner] += count

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        return f"{self.written} lines written, {self.dropped.total()} dropped" + (f" ({reasons})" if reasons else "")


def read_counts(path: Path) -> Counts:
    """Read what write_counts has written, and nothing of what cannot be read."""
    try:
        kept = json.loads(read_text(path) or "{}")
        dropped = Counter({str(reason): int(count) for reason, count in kept.get("dropped", {}).items()})
        return Counts(int(kept.get("written", 0)), dropped, float(kept.get("unlogged_since", 0.0)))
    except (ValueError, TypeError, AttributeError):
        return Counts()


def write_counts(path: Path, counts: Counts) -> None:
    """Keep the counts for the next run, and for whoever wants to know."""
    kept = {"written": counts.written, "dropped": counts.dropped, "unlogged_since": counts.unlogged_since}
    write_atomic(path, json.dumps(kept).encode() + b"\n", mode=0o644)
