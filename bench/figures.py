"""The figures: what was timed, its medians, and whether the speeds that were promised hold."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

BAILEY, LOOP, FLOOR = "Bailey", "docker_container loop", "SDK floor"
CONVERGE, NOTHING, CHANGE, RECREATE, REMOVE = (
    "first converge",
    "nothing to do",
    "one changed live",
    "one made again",
    "removal",
)
PHASES = (CONVERGE, NOTHING, CHANGE, RECREATE, REMOVE)


@dataclass(frozen=True)
class Timing:
    """Seconds that a run took, how many containers it changed, and, of our module, the seconds inside it."""

    seconds: float
    changed: int
    inside: float | None = None


@dataclass
class Results:
    """All timings of one run of the bench; `overhead` are the seconds of plays with one trivial task."""

    overhead: list[float] = field(default_factory=list)
    _timings: dict[tuple[int, str, str], list[Timing]] = field(default_factory=dict)

    def add(self, size: int, phase: str, competitor: str, timing: Timing) -> None:
        """Record one timing."""
        self._timings.setdefault((size, phase, competitor), []).append(timing)

    @property
    def sizes(self) -> list[int]:
        """The numbers of containers that were measured."""
        return sorted({size for size, _, _ in self._timings})

    def runs(self, size: int, phase: str, competitor: str) -> int:
        """Count the runs behind a figure."""
        return len(self._timings.get((size, phase, competitor), []))

    def seconds(self, size: int, phase: str, competitor: str) -> float | None:
        """Return the median of the whole run, None where nothing was measured."""
        return median(timing.seconds for timing in self._timings.get((size, phase, competitor), []))

    def inside(self, size: int, phase: str) -> float | None:
        """Return the median of the time inside our module."""
        timings = self._timings.get((size, phase, BAILEY), [])
        return median(timing.inside for timing in timings if timing.inside is not None)


def median(values: Iterable[float]) -> float | None:
    """Return the median, or None of nothing."""
    known = list(values)
    return statistics.median(known) if known else None


def ratio(value: float | None, base: float | None) -> float | None:
    """Return how many times `base` goes into `value`; None where either is missing."""
    return None if value is None or not base else value / base


@dataclass(frozen=True)
class Verdict:
    """One promised speed: what was measured against what is allowed; None where it was not measured."""

    text: str
    measured: float | None
    bound: float | None
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether it holds."""
        if self.measured is None or self.bound is None:
            return None
        return self.measured >= self.bound if self.at_least else self.measured < self.bound


def judge(results: Results) -> list[Verdict]:
    """Hold the figures against the speeds that the project promises."""
    seconds: Callable[[int, str, str], float | None] = results.seconds
    floor, overhead = seconds(30, CONVERGE, FLOOR), median(results.overhead)
    return [
        Verdict(
            "first converge of 30: at most 1.3 x the SDK floor plus one Ansible task",
            seconds(30, CONVERGE, BAILEY),
            None if floor is None or overhead is None else 1.3 * floor + overhead,
            "s",
        ),
        Verdict(
            "first converge of 30: at least 5 x faster than the loop",
            ratio(seconds(30, CONVERGE, LOOP), seconds(30, CONVERGE, BAILEY)),
            5.0,
            "x",
            at_least=True,
        ),
        Verdict("nothing to do at 100, inside the module: under 0.3 s", results.inside(100, NOTHING), 0.3, "s"),
        Verdict(
            "nothing to do at 100, the deploy play: at least 25 x faster than the loop",
            ratio(seconds(100, NOTHING, LOOP), seconds(100, NOTHING, BAILEY)),
            25.0,
            "x",
            at_least=True,
        ),
    ]
