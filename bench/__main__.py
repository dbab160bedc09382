"""Run the bench and report: `./bailey bench`, or as root `python -m bench`.

Where a promised speed does not hold, the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

# The core lies where Ansible looks for it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "plugins/module_utils"))

from bailey.errors import BaileyError

from bench.competitors import CHECKOUT, Bailey, BenchError, Loop, SdkFloor
from bench.course import Course
from bench.figures import Results, judge
from bench.ground import ground
from bench.machine import describe
from bench.report import render
from bench.workload import instances
from tests.ground.engine import GroundError

SIZES = (10, 30, 100)
REPORT = CHECKOUT / "docs/benchmarks.md"


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and write the report of a whole run."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure Bailey beside what a user would pick instead.")
    parser.add_argument("--sizes", type=_sizes, default=SIZES, help="numbers of containers, as 10,30,100")
    parser.add_argument("--output", type=Path, help="file of the report; docs/benchmarks.md for the usual sizes")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        return _fail("the bench runs an engine of its own, which takes root")
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        machine, results = _run(options.sizes)
    except (BenchError, GroundError, BaileyError) as error:
        return _fail(str(error))
    verdicts = judge(results)
    report = render(machine, results, verdicts)
    print(report)
    output = options.output or (REPORT if options.sizes == SIZES else None)
    if output is not None:
        output.write_text(report)
    return 1 if any(verdict.met is False for verdict in verdicts) else 0


def _run(sizes: Sequence[int]) -> tuple[dict[str, str], Results]:
    """Measure all sizes on a ground that is gone when this returns."""
    results = Results()
    load = os.getloadavg()[0]
    with ground() as made:
        loop = Loop(made)
        course = Course(made, (Bailey(made), loop, SdkFloor(made)), results)
        loop.take_fastest_settings(instances(5, made.directories))
        for size in sizes:
            course.run(size)
        return describe(made, loop.settings, load), results


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in text.split(","))
    if not all(1 <= size <= 500 for size in sizes):
        raise argparse.ArgumentTypeError("each from 1 to 500")
    return sizes


def _fail(text: str) -> int:
    print(f"bench: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
