"""The bench's second part: its figures, its promises, its report, and the harness that runs commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.control.figures import (
    COMMAND,
    DOCKER,
    EXEC_LOOP,
    FLEET,
    FLEET_INSIDE,
    GATE,
    GATE_TIME,
    LOCAL,
    MODULE,
    PARALLEL,
    PEERS,
    PIPE,
    PLAIN,
    RATE,
    START,
    STREAM,
    TASKS,
    WSH,
    WSH_CONNECTION,
    judge,
)
from bench.control.report import render
from bench.control.spawn import Harness, parse
from bench.control.starts import without_gate
from bench.control.tasks import check_all_ran, play
from bench.errors import BenchError
from bench.samples import Results, added, scaled

PROMISES = 9
KEPT: dict[tuple[str, str], list[float]] = {
    (COMMAND, WSH): [0.001, 0.002, 0.0019],
    (COMMAND, DOCKER): [0.076, 0.077, 0.5],
    (RATE, WSH): [1500.0],
    (PARALLEL, WSH): [0.029] * 99 + [0.031],
    (STREAM, WSH): [0.6e9],
    (STREAM, PIPE): [1e9],
    (START, GATE): [0.224],
    (START, PLAIN): [0.2],
    (GATE_TIME, GATE): [0.0051],
    (TASKS, WSH_CONNECTION): [5.2],
    (TASKS, LOCAL): [5.0],
    **{(TASKS, peer): [5.3] for peer in PEERS},
    (FLEET, MODULE): [1.5],
    (FLEET, EXEC_LOOP): [30.0],
    (FLEET_INSIDE, MODULE): [0.2],
}


def results(changed: dict[tuple[str, str], list[float]] | None = None) -> Results:
    made = Results()
    for (what, way), samples in {**KEPT, **(changed or {})}.items():
        made.add(what, way, samples)
    return made


def test_all_promises_kept() -> None:
    assert [verdict.met for verdict in judge(results())] == [True] * PROMISES


@pytest.mark.parametrize(
    ("changed", "broken"),
    [
        ({(COMMAND, WSH): [0.0021], (COMMAND, DOCKER): [0.09]}, [0]),
        ({(COMMAND, DOCKER): [0.07]}, [1]),
        ({(RATE, WSH): [1499.0]}, [2]),
        ({(PARALLEL, WSH): [0.001] * 97 + [0.031] * 3}, [3]),
        ({(STREAM, WSH): [0.59e9]}, [4]),
        ({(START, GATE): [0.226]}, [5]),
        ({(TASKS, WSH_CONNECTION): [5.26]}, [6]),
        ({(TASKS, PEERS[1]): [5.1]}, [7]),
        ({(FLEET, EXEC_LOOP): [29.0]}, [8]),
    ],
)
def test_a_broken_promise_is_told(changed: dict[tuple[str, str], list[float]], broken: list[int]) -> None:
    assert [number for number, verdict in enumerate(judge(results(changed))) if verdict.met is False] == broken


def test_what_was_not_measured_is_neither_kept_nor_broken() -> None:
    assert [verdict.met for verdict in judge(Results())] == [None] * PROMISES


def test_a_peer_that_was_not_measured_makes_no_promise_easier() -> None:
    missing = results({(TASKS, PEERS[0]): []})
    assert judge(missing)[7].met is None


@pytest.mark.parametrize(
    ("samples", "share", "expected"),
    [
        ([], 0.99, None),
        ([7.0], 0.99, 7.0),
        ([float(n) for n in range(100, 0, -1)], 0.99, 99.0),
        ([float(n) for n in range(1, 101)], 0.5, 50.0),
        ([1.0, 2.0], 1.0, 2.0),
        ([1.0, 2.0], 0.0, 1.0),
    ],
)
def test_quantile(samples: list[float], share: float, expected: float | None) -> None:
    made = Results()
    made.add(COMMAND, WSH, samples)
    assert made.quantile(COMMAND, WSH, share) == expected


def test_samples_of_several_turns_are_one_figure() -> None:
    made = Results()
    for samples in ([1.0, 9.0], [2.0]):
        made.add(COMMAND, WSH, samples)
    assert (made.median(COMMAND, WSH), made.count(COMMAND, WSH)) == (2.0, 3)
    assert (made.median(COMMAND, DOCKER), made.count(COMMAND, DOCKER)) == (None, 0)


def test_what_is_missing_stays_missing() -> None:
    assert scaled(None, 1000) is None
    assert (added(None, 1.0), added(1.0, None), added(3.0, 1.0)) == (None, None, 2.0)


def test_report_shows_machine_promises_and_each_figure_beside_its_peers() -> None:
    made = results({(START, GATE): [0.226]})
    text = render({"processor": "2 x Test"}, made, judge(made))
    for line in (
        "- processor: 2 x Test",
        "| the gate, one container at a time: adds at most 25 ms | 26.0 ms | 25.0 ms | **no** |",
        "| wsh | 1.90 | 2.00 | 1.00 | 3 |",
        "| docker exec | 77.0 | 500.0 | 40.5 | 3 |",
        "| wsh | 1500.0 | 29.0 | 29.0 | 100 |",
        "| cat | 953.7 | 1.00 x | - | 1 |",
        "| wsh | 572.2 | 0.600 x | - | 1 |",
        "| through the gate | 226.0 | 226.0 | 1 | - | - | 0 |",
        "| the agent's word | 5.10 | 5.10 | - | - |",
        "| added to a plain start (difference of the p50) | 26.0 | - | - | - |",
        "| wsh | 5.20 | 1.04 | 1 |",
        "| bailey_wsh | 1.50 | 0.200 | 1 |",
        "| docker_container_exec loop | 30.0 | - | 1 |",
    ):
        assert line in text.splitlines()


def test_the_harness_tells_the_time_of_every_run(tmp_path: Path) -> None:
    harness = Harness.build(tmp_path)
    series = harness.run(["sleep", "0.02"], clients=2, count=3)
    assert len(series.seconds) == 6
    assert min(series.seconds) >= 0.02
    assert 0.06 <= series.elapsed < sum(series.seconds)


def test_the_harness_stops_when_its_time_is_up(tmp_path: Path) -> None:
    series = Harness.build(tmp_path).run(["sleep", "0.02"], seconds=0.1)
    assert 1 <= len(series.seconds) <= 5
    assert 0.1 <= series.elapsed < 10


@pytest.mark.parametrize("argv", [["false"], ["/nonexistent"], ["sh", "-c", "kill -9 $$"]])
def test_a_run_that_fails_is_no_figure(tmp_path: Path, argv: list[str]) -> None:
    with pytest.raises(BenchError, match="a run failed"):
        Harness.build(tmp_path).run(argv, count=2)


def test_what_commands_print_is_not_taken_for_figures(tmp_path: Path) -> None:
    series = Harness.build(tmp_path).run(["echo", "5"], count=2)
    assert len(series.seconds) == 2


def test_parse() -> None:
    series = parse("2000000000\n1500000\n2500000\n")
    assert (series.elapsed, series.seconds) == (2.0, [0.0015, 0.0025])


def found() -> dict[str, Any]:
    return {
        "Config": {"Image": "i", "Entrypoint": ["/.bailey/wshd"], "Cmd": ["--", "sleep", "1"], "Labels": {"a": "b"}},
        "HostConfig": {
            "Memory": 5,
            "Init": False,
            "Mounts": [{"Target": "/data"}, {"Target": "/.bailey"}, {"Target": "/.bailey/boot"}],
        },
    }


@pytest.mark.parametrize("init", [True, False])
def test_the_peer_without_gate_differs_in_nothing_else(init: bool) -> None:
    assert without_gate(found(), init=init) == {
        "Image": "i",
        "Entrypoint": None,
        "Cmd": ["sleep", "1"],
        "Labels": {},
        "HostConfig": {"Memory": 5, "Init": init, "Mounts": [{"Target": "/data"}]},
    }


def test_every_task_of_the_play_is_one_command() -> None:
    (made,) = play(3)
    assert [task["ansible.builtin.command"] for task in made["tasks"]] == [{"argv": ["true"]}] * 3
    assert len({task["name"] for task in made["tasks"]}) == 3


def test_a_container_that_was_left_out_is_told() -> None:
    check_all_ran(["a", "b"], [0, 0])
    for codes in ([0], [0, 1], [0, 0, 0]):
        with pytest.raises(BenchError, match="2 containers"):
            check_all_ran(["a", "b"], codes)
