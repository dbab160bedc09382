"""Run the bench and report: `./bailey bench`, or as root `python -m bench`.

Where a promised speed does not hold, the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# The core lies where Ansible looks for it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "plugins/module_utils"))

from bailey.errors import BaileyError

from bench import report
from bench.competitors import Bailey, Loop, SdkFloor
from bench.control import course as control
from bench.control import figures as control_figures
from bench.control import report as control_report
from bench.control.scale import FULL, QUICK
from bench.course import Course
from bench.errors import BenchError
from bench.figures import Results, Verdict, judge
from bench.ground import Ground, ground
from bench.machine import describe, describe_loop, describe_network, describe_sdk, describe_ssh
from bench.network import course as network
from bench.network import figures as network_figures
from bench.network import report as network_report
from bench.network import scale as network_scale
from bench.plays import CHECKOUT
from bench.samples import Results as Samples
from bench.workload import instances
from tests.ground.engine import GroundError

SIZES = (10, 30, 100)
CONTAINERS, CONTROL, NETWORK = "containers", "control", "network"
REPORTS = {
    CONTAINERS: CHECKOUT / "docs/benchmarks.md",
    CONTROL: CHECKOUT / "docs/benchmarks-control.md",
    NETWORK: CHECKOUT / "docs/benchmarks-network.md",
}

# A report, and whether a promise in it is broken.
Outcome = tuple[str, bool]


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and write the reports of a whole run."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure Bailey beside what a user would pick instead.")
    parser.add_argument("part", nargs="?", choices=("all", *REPORTS), default="all", help="what is measured")
    parser.add_argument("--sizes", type=_sizes, default=SIZES, help="numbers of containers, as 10,30,100")
    parser.add_argument(
        "--quick", action="store_true", help="see that control and network work; their figures mean little"
    )
    parser.add_argument("--output", type=Path, help="directory of the reports; docs for a whole run as usual")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        return _fail("the bench runs an engine of its own, which takes root")
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        outcomes = _run(options)
    except (BenchError, GroundError, BaileyError) as error:
        return _fail(str(error))
    usual = {CONTAINERS: options.sizes == SIZES, CONTROL: not options.quick, NETWORK: not options.quick}
    for part, (text, _) in outcomes.items():
        print(text)
        if options.output is not None:
            (options.output / REPORTS[part].name).write_text(text)
        elif usual[part]:
            REPORTS[part].write_text(text)
    return 1 if any(broken for _, broken in outcomes.values()) else 0


def _run(options: argparse.Namespace) -> dict[str, Outcome]:
    """Measure on a ground that is gone when this returns."""
    load = os.getloadavg()[0]
    outcomes: dict[str, Outcome] = {}
    scale = network_scale.QUICK if options.quick else network_scale.FULL
    results = network.run_apart(scale) if options.part in ("all", NETWORK) else None
    with ground() as made:
        if options.part in ("all", CONTAINERS):
            outcomes[CONTAINERS] = _containers(made, options.sizes, load)
        if options.part in ("all", CONTROL):
            outcomes[CONTROL] = _control(made, load, quick=options.quick)
        if results is not None:
            network.run(made, scale, results)
            outcomes[NETWORK] = _network(made, load, scale, results)
    return outcomes


def _containers(made: Ground, sizes: Sequence[int], load: float) -> Outcome:
    results = Results()
    loop = Loop(made)
    course = Course(made, (Bailey(made), loop, SdkFloor(made)), results)
    loop.take_fastest_settings(instances(5, made.directories))
    for size in sizes:
        course.run(size)
    machine = {**describe(made, load), "loop": describe_loop(loop.settings), "SDK": describe_sdk()}
    verdicts = judge(results)
    return report.render(machine, results, verdicts), _broken(verdicts)


def _control(made: Ground, load: float, *, quick: bool) -> Outcome:
    results, settings = control.run(made, QUICK if quick else FULL)
    machine: Mapping[str, str] = {**describe(made, load), "loop": describe_loop(settings), "ssh": describe_ssh()}
    verdicts = control_figures.judge(results)
    return control_report.render(machine, results, verdicts), _broken(verdicts)


def _network(made: Ground, load: float, scale: network_scale.Scale, results: Samples) -> Outcome:
    machine: Mapping[str, str] = {**describe(made, load), "programs": describe_network()}
    verdicts = network_figures.judge(results)
    return network_report.render(machine, scale, results, verdicts), _broken(verdicts)


def _broken(verdicts: Sequence[Verdict]) -> bool:
    return any(verdict.met is False for verdict in verdicts)


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
