"""Samples by what was done and in which way, and figures of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Results:
    """All samples of one run."""

    _samples: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, what: str, way: str, samples: Iterable[float]) -> None:
        """Record samples."""
        self._samples.setdefault((what, way), []).extend(samples)

    def count(self, what: str, way: str) -> int:
        """Count the samples behind a figure."""
        return len(self._samples.get((what, way), ()))

    def median(self, what: str, way: str) -> float | None:
        """Return the median; None where nothing was measured."""
        samples = self._samples.get((what, way))
        return statistics.median(samples) if samples else None

    def quantile(self, what: str, way: str, share: float) -> float | None:
        """Return the smallest sample that at least this share of all does not exceed."""
        samples = sorted(self._samples.get((what, way), ()))
        return samples[max(0, math.ceil(share * len(samples)) - 1)] if samples else None


def scaled(value: float | None, factor: float) -> float | None:
    """Return a figure in another unit."""
    return None if value is None else value * factor


def added(value: float | None, base: float | None) -> float | None:
    """Return what a figure has more than another one."""
    return None if value is None or base is None else value - base
