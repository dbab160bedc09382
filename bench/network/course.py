"""The course of the third part."""

from __future__ import annotations

from bench.control.boxes import Boxes
from bench.ground import Ground
from bench.samples import Results

from .joins import measure_joins, measure_programs
from .paths import measure_paths, measure_puts
from .scale import Scale
from .tenants import measure_exposure, measure_gates, say


def run_apart(scale: Scale) -> Results:
    """Measure what takes namespaces alone, and goes first: they would hold the mounts of a ground that is there."""
    results = Results()
    say("policies")
    measure_puts(scale, results)
    say("paths")
    measure_paths(scale, results)
    say(f"{scale.policies} containers")
    measure_joins(scale, results)
    measure_programs(scale, results)
    return results


def run(ground: Ground, scale: Scale, results: Results) -> None:
    """Measure what takes an engine and an agent."""
    boxes = Boxes(ground)
    say("gates")
    measure_gates(boxes, scale, results)
    say(f"{scale.flushes} flushes")
    measure_exposure(boxes, scale, results)
    boxes.converge([])
