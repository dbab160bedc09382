"""The course that every competitor runs: a whole life of N containers, in turns."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from .competitors import Competitor
from .errors import BenchError
from .figures import CHANGE, CONVERGE, NOTHING, RECREATE, REMOVE, Results, Timing
from .ground import Ground
from .plays import run_play, write_inventory
from .workload import Instance, instances

_ROUNDS = 3
_PATIENCE = 150.0  # seconds at one size, after which a competitor gets no further round
_CHEAP = 5.0  # seconds below which "nothing to do" is measured twice in a round


@dataclass
class Course:
    """One run of the bench on its ground."""

    ground: Ground
    competitors: Sequence[Competitor]
    results: Results

    def run(self, size: int) -> None:
        """Let the competitors take turns at one size."""
        declared = instances(size, self.ground.directories)
        for instance in declared:
            instance.directory.mkdir(exist_ok=True)
            os.chown(instance.directory, instance.uid, instance.uid)
        spent = {competitor.name: 0.0 for competitor in self.competitors}
        for number in range(1, _ROUNDS + 1):
            self._measure_overhead()
            for competitor in self.competitors:
                if spent[competitor.name] < _PATIENCE:
                    print(f"bench: {size} containers, round {number}: {competitor.name}", file=sys.stderr, flush=True)
                    spent[competitor.name] += self._live(competitor, declared)

    def _measure_overhead(self) -> None:
        write_inventory(self.ground.inventory, {})
        self.results.overhead.append(run_play(self.ground.inventory, "bench/playbooks/task.yml")[0])

    def _live(self, competitor: Competitor, declared: Sequence[Instance]) -> float:
        """Take one competitor through a whole life, and return the seconds that it took."""
        size = len(declared)
        first = competitor.converge(declared)
        timings = [self._note(competitor, CONVERGE, first, size, size, size)]
        for _ in range(2):
            timings.append(self._note(competitor, NOTHING, competitor.converge(declared), size, 0, size))
            if timings[-1] > _CHEAP:
                break
        timings.append(self._note(competitor, CHANGE, competitor.change(declared), size, 1, size))
        timings.append(self._note(competitor, RECREATE, competitor.recreate(declared), size, 1, size))
        timings.append(self._note(competitor, REMOVE, competitor.remove(declared), size, size, 0))
        return sum(timings)

    def _note(self, competitor: Competitor, phase: str, timing: Timing, size: int, changed: int, running: int) -> float:
        """Record a timing, once it is certain that the competitor did what it was timed for."""
        seen = self.ground.running()
        if (timing.changed, seen) != (changed, running):
            raise BenchError(
                f"{competitor.name}, {phase}, {size} containers: it changed {timing.changed} and {seen} run; "
                f"{changed} and {running} were expected"
            )
        self.results.add(size, phase, competitor.name, timing)
        return timing.seconds
