"""The course of the second part: everything in turns, on one ground."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from bench.ground import Ground
from bench.samples import Results

from .boxes import IMAGE, Boxes, talk
from .commands import measure_commands, measure_parallel, measure_streams
from .scale import Scale
from .spawn import Harness
from .starts import measure_starts
from .tasks import measure_fleet, measure_tasks
from .ways import Ways


def run(ground: Ground, scale: Scale) -> tuple[Results, Mapping[str, Any]]:
    """Measure all; return the figures, and what the loop over containers was fastest with."""
    results, boxes = Results(), Boxes(ground)
    IMAGE.ensure(ground.engine)
    harness = Harness.build(ground.inventory.parent)
    _say("making the container")
    boxes.converge([talk()])
    ways = Ways.open(boxes)
    _say("one command at a time")
    measure_commands(ways, harness, scale, results)
    _say("eight clients")
    measure_parallel(ways, harness, scale, results)
    _say("streams")
    measure_streams(ways, scale, results)
    _say("connections of Ansible")
    measure_tasks(boxes, scale, results)
    _say("starts")
    measure_starts(boxes, scale, results)
    _say(f"{scale.fleet} containers")
    settings = measure_fleet(boxes, scale, results)
    boxes.converge([])
    return results, settings


def _say(text: str) -> None:
    print(f"bench: control: {text}", file=sys.stderr, flush=True)
