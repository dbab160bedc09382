"""The bench's figures and report: medians, ratios, promises kept and broken."""

import pytest

from bench.figures import BAILEY, CONVERGE, FLOOR, LOOP, NOTHING, Results, Timing, judge, median, ratio
from bench.report import number, render, table


def results(converge: float = 3.0, inside: float = 0.1, play: float = 1.0, loop: float = 30.0) -> Results:
    made = Results(overhead=[0.7, 0.8, 0.9])
    made.add(30, CONVERGE, BAILEY, Timing(converge, 30, converge - 1))
    made.add(30, CONVERGE, FLOOR, Timing(2.0, 30))
    made.add(30, CONVERGE, LOOP, Timing(20.0, 30))
    made.add(100, NOTHING, BAILEY, Timing(play, 0, inside))
    made.add(100, NOTHING, LOOP, Timing(loop, 0))
    return made


def verdicts(**changed: float) -> list[bool | None]:
    return [verdict.met for verdict in judge(results(**changed))]


def test_all_promises_kept() -> None:
    assert verdicts() == [True, True, True, True]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        # 1.3 x 2.0 + 0.8 = 3.4
        ({"converge": 3.39}, [True, True, True, True]),
        ({"converge": 3.41}, [False, True, True, True]),
        ({"converge": 4.01}, [False, False, True, True]),
        ({"inside": 0.3}, [True, True, False, True]),
        ({"loop": 24.9}, [True, True, True, False]),
        ({"play": 1.2, "loop": 30.0}, [True, True, True, True]),
        ({"play": 1.3, "loop": 30.0}, [True, True, True, False]),
    ],
)
def test_a_broken_promise_is_told(changed: dict[str, float], expected: list[bool]) -> None:
    assert verdicts(**changed) == expected


def test_what_was_not_measured_is_neither_kept_nor_broken() -> None:
    assert [verdict.met for verdict in judge(Results())] == [None, None, None, None]


def test_figures_are_medians_of_their_runs() -> None:
    made = Results()
    for seconds, inside in ((9.0, 0.5), (1.0, 0.2), (2.0, 0.1)):
        made.add(10, NOTHING, BAILEY, Timing(seconds, 0, inside))
    assert (made.seconds(10, NOTHING, BAILEY), made.inside(10, NOTHING)) == (2.0, 0.2)
    assert (made.runs(10, NOTHING, BAILEY), made.runs(10, NOTHING, LOOP)) == (3, 0)
    assert median([]) is None


@pytest.mark.parametrize(
    ("value", "base", "expected"), [(6.0, 2.0, 3.0), (None, 2.0, None), (6.0, None, None), (6.0, 0.0, None)]
)
def test_ratio(value: float | None, base: float | None, expected: float | None) -> None:
    assert ratio(value, base) == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (None, "s", "-"),
        (0.0421, "s", "0.042 s"),
        (4.2, "", "4.20"),
        (57.04, "x", "57.0 x"),
        (-0.5, "", "-0.500"),
        (-71.42, "ms", "-71.4 ms"),
    ],
)
def test_number(value: float | None, unit: str, expected: str) -> None:
    assert number(value, unit) == expected


def test_table_is_markdown() -> None:
    assert table(("", "a"), [("x", "1")]).splitlines() == ["|  | a |", "| --- | ---: |", "| x | 1 |"]


def test_report_shows_machine_promises_figures_and_ratios() -> None:
    made = results(converge=3.41)
    text = render({"processor": "2 x Test"}, made, judge(made))
    assert "- processor: 2 x Test\n" in text
    assert "| 3.41 s | 3.40 s | **no** |" in text
    assert "| first converge | 3.41 | 2.41 | 2.00 | 20.0 | 5.87 x | 1.71 x | 1, 1, 1 |" in text
    assert "| nothing to do | 1.00 | 0.100 | - | 30.0 | 30.0 x | - | 1, 0, 1 |" in text
    assert "0.800 s (3 runs)" in text
