"""The bench's third part: its promises, its report, and the policies that it measures."""

from __future__ import annotations

import pytest

from bench.network.figures import (
    ALONE,
    BAILEY,
    CONNECTIONS,
    EXPOSURE,
    GATE,
    JOIN,
    JOIN_FULL,
    MANY,
    PATHS,
    PROGRAMS,
    PUT,
    PUT_FULL,
    STILL,
    STREAM,
    WITH,
    WITHOUT,
    judge,
)
from bench.network.policies import address_of, linear_rules, pretended
from bench.network.report import render
from bench.network.scale import QUICK
from bench.samples import Results

PROMISES = 4
KEPT = {
    (JOIN, BAILEY): [0.006, 0.0061, 0.02],
    (JOIN_FULL, BAILEY): [0.02],
    (PUT_FULL, BAILEY): [0.004],
    (STREAM, ALONE): [1e10],
    (STREAM, MANY): [0.95e10],
    (EXPOSURE, BAILEY): [0.01] * 99 + [0.3],
}
BROKEN = {
    (JOIN, BAILEY): [0.011],
    (PUT_FULL, BAILEY): [0.0051],
    (STREAM, MANY): [0.89e10],
    (EXPOSURE, BAILEY): [0.01] * 98 + [0.3] * 2,
}


def results(samples: dict[tuple[str, str], list[float]]) -> Results:
    found = Results()
    for (what, way), values in samples.items():
        found.add(what, way, values)
    return found


def test_what_is_kept_is_met() -> None:
    assert [verdict.met for verdict in judge(results(KEPT))] == [True] * PROMISES


@pytest.mark.parametrize("broken", BROKEN)
def test_each_promise_can_be_broken(broken: tuple[str, str]) -> None:
    verdicts = judge(results({**KEPT, broken: BROKEN[broken]}))
    assert sorted(str(verdict.met) for verdict in verdicts) == ["False", "True", "True", "True"]


def test_without_figures_nothing_is_met() -> None:
    assert [verdict.met for verdict in judge(Results())] == [None] * PROMISES


def test_the_report_has_every_figure_beside_its_peers() -> None:
    samples = {
        **KEPT,
        (GATE, WITHOUT): [0.007],
        (GATE, WITH): [0.0165],
        (STILL, BAILEY): [0.046],
        (PUT, BAILEY): [0.002],
    }
    samples |= {(what, PROGRAMS): [0.0246] for what in (JOIN, JOIN_FULL, PUT, PUT_FULL)}
    samples |= {(CONNECTIONS, path): [6000.0] for path in PATHS}
    found = results(samples)
    text = render({"processor": "1 x One"}, QUICK, found, judge(found))
    for line in (
        "- processor: 1 x One",
        "| Bailey, few there | 6.10 | 20.0 | 1.00 | 3 |",
        "| tc and iptables-restore, 50 there | 24.6 | 24.6 | 1.23 | 1 |",
        "| the difference of the p50 | 9.50 | - | - |",
        "| Bailey, with all policies | 9.50 | 0.950 x | 6000.0 | 1.00 x |",
        "| tenants stand still for a repair | 46.0 | 46.0 | 46.0 | 1 |",
    ):
        assert line in text


def test_each_policy_has_an_address_of_its_own_and_says_the_same_to_both() -> None:
    assert len({address_of(number) for number in range(1000)}) == 1000
    rules = list(linear_rules(7, "10.99.0.1"))
    assert all(pretended(7).address in rule or "10.99.0.1" in rule for rule in rules)
    assert sum("--dport" in rule or "198.51.100.0/24" in rule for rule in rules) == len(pretended(7).network.rules) + 1
