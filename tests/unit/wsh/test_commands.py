"""One command in many instances: which are meant, what is given to it, and what is told of each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bailey.errors import BaileyError, InvalidSecretError, InvalidValueError
from bailey.instance_state import InstanceState, write_state
from bailey.rlimits import Rlimit
from bailey.wsh.commands import CommandsFailedError, Report, parse_order, run_everywhere, select
from bailey.wsh.protocol import Error, ErrorCode

from tests.unit.wsh.standin import Peer, run_session, serving

UNGIVEN: dict[str, Any] = {
    "name": None,
    "names": None,
    "tenant": None,
    "app": None,
    "all": None,
    "argv": None,
    "cmd": None,
    "chdir": None,
    "environment": {},
    "umask": None,
    "ulimits": {},
    "stdin": None,
    "stdin_add_newline": True,
    "strip_empty_ends": True,
    "creates": None,
    "removes": None,
    "timeout": None,
    "output_limit": "8M",
}


def params(**given: object) -> dict[str, Any]:
    return {**UNGIVEN, **given}


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """Three open instances that run real programs, and one that has ended."""
    (tmp_path / "ctl").mkdir()
    with contextlib.ExitStack() as stack:
        for name, tenant, app in (("a-web-1", "a", "web"), ("a-web-2", "a", "web"), ("b-web-1", "b", "web")):
            write_state(tmp_path, InstanceState(name, tenant, app, status="open"))
            stack.enter_context(serving(tmp_path / f"ctl/{name}.sock"))
        write_state(tmp_path, InstanceState("a-job-1", "a", "job", status="exited"))
        yield tmp_path


def run(run_dir: Path, names: list[str], check_mode: bool = False, **given: object) -> Report:
    return run_everywhere(run_dir, names, parse_order(params(**given)), workers=8, check_mode=check_mode)


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"name": "none"}, ["none"]),
        ({"names": ["b-web-1", "a-web-1", "b-web-1"]}, ["b-web-1", "a-web-1"]),
        ({"names": []}, []),
        ({"tenant": "a"}, ["a-web-1", "a-web-2"]),
        ({"app": "web"}, ["a-web-1", "a-web-2", "b-web-1"]),
        ({"tenant": "b", "app": "web"}, ["b-web-1"]),
        ({"tenant": "b", "app": "job"}, []),
        ({"all": True}, ["a-web-1", "a-web-2", "b-web-1"]),
    ],
)
def test_instances_are_selected(run_dir: Path, given: dict[str, Any], names: list[str]) -> None:
    assert select(run_dir, params(**given)) == names


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"name": "../x"}, "name: "),
        ({"names": ["ok", "Not"]}, "names\\[1\\]: 'Not'"),
        ({"tenant": ""}, "tenant: ''"),
        ({"app": "a b"}, "app: 'a b'"),
        ({"all": False}, "all: False"),
    ],
)
def test_a_wrong_selection_is_refused(run_dir: Path, given: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidValueError, match=text):
        select(run_dir, params(**given))


def test_an_order_is_parsed() -> None:
    order = parse_order(
        params(
            cmd="sh -c 'echo \"a b\"'",
            chdir="/data",
            environment={"A": 1, "B": "x"},
            umask="0027",
            ulimits={"nofile": 10},
            stdin="line",
            creates="done",
            removes="/tmp/x",
            timeout=2.5,
            output_limit="1K",
        )
    )
    command = order.command
    assert list(command.argv) == ["sh", "-c", 'echo "a b"']
    assert command.environment == {"A": "1", "B": "x"}
    assert (command.directory, command.umask, command.stdin) == ("/data", 0o27, b"line\n")
    assert command.rlimits == {"nofile": Rlimit(10, 10)}
    assert (command.timeout, command.output_limit, command.kill_on_disconnect) == (2.5, 1024, True)
    assert (order.creates, order.removes) == ("/data/done", "/tmp/x")


def test_input_may_be_given_without_a_line_end() -> None:
    assert parse_order(params(cmd="a", stdin="x", stdin_add_newline=False)).command.stdin == b"x"
    assert parse_order(params(cmd="a")).command.stdin == b""
    assert parse_order(params(cmd="a", stdin="")).command.stdin == b"\n"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"cmd": ""}, "cmd: "),
        ({"cmd": "'"}, 'cmd: "\'" is not valid; allowed: words as a shell'),
        ({"argv": []}, "argv: "),
        ({"argv": [""]}, "argv: "),
        ({"cmd": "a", "chdir": "data"}, "chdir: 'data'"),
        ({"cmd": "a", "creates": "x"}, "creates: 'x'"),
        ({"cmd": "a", "removes": ""}, "removes: ''"),
        ({"cmd": "a", "umask": "27"}, "umask: '27'"),
        ({"cmd": "a", "umask": "511"}, "umask: '511'"),
        ({"cmd": "a", "umask": "0888"}, "umask: '0888'"),
        ({"cmd": "a", "timeout": 0.0}, "timeout: 0"),
        ({"cmd": "a", "timeout": float("nan")}, "timeout: nan"),
        ({"cmd": "a", "output_limit": "10"}, "output_limit: '10'"),
        ({"cmd": "a", "ulimits": {"files": 1}}, "ulimits.files"),
    ],
)
def test_a_wrong_order_is_refused(given: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidValueError, match=text):
        parse_order(params(**given))


@pytest.mark.parametrize("value", [True, None, ["secret"], {"a": "secret"}])
def test_a_wrong_variable_is_refused_without_its_value(value: object) -> None:
    with pytest.raises(InvalidSecretError, match=r"environment\.TOKEN") as caught:
        parse_order(params(cmd="a", environment={"TOKEN": value}))
    assert "secret" not in str(caught.value)


def test_each_instance_has_its_result(run_dir: Path) -> None:
    report = run(run_dir, ["a-web-1", "b-web-1"], argv=sh("echo; echo out; echo err >&2; cat; echo"), stdin="in")
    report.check(single=False)
    assert report.changed
    assert report.warnings == []
    values = report.values(single=False)
    assert [item["name"] for item in values["instances"]] == ["a-web-1", "b-web-1"]
    assert "rc" not in values
    assert values["failures"] == {}
    first = values["instances"][0]
    assert (first["rc"], first["stdout"], first["stderr"]) == (0, "out\nin", "err")
    assert first["stdout_lines"] == ["out", "in"]
    assert (first["signal"], first["oom"], first["timed_out"], first["truncated"]) == (None, False, False, False)
    assert first["start"] < first["end"]
    assert first["delta"].startswith("0:00:0")


def test_a_single_instances_result_stands_at_the_top(run_dir: Path) -> None:
    values = run(run_dir, ["a-web-1"], cmd="echo one", strip_empty_ends=False).values(single=True)
    assert (values["rc"], values["stdout"], values["stdout_lines"]) == (0, "one\n", ["one"])
    assert values["instances"][0]["stdout"] == "one\n"
    assert "msg" not in values


def test_a_failure_names_each_instance_and_keeps_every_result(run_dir: Path) -> None:
    report = run(run_dir, ["a-web-1", "none", "b-web-1"], argv=sh("echo 'it is bad' >&2; exit 3"))
    with pytest.raises(CommandsFailedError) as caught:
        report.check(single=False)
    text = str(caught.value)
    assert text.startswith("3 of 3 instances failed: a-web-1: non-zero return code 3: it is bad; none: none: there is")
    assert caught.value.details["changed"] is True
    failures = caught.value.details["failures"]
    assert isinstance(failures, dict)
    assert list(failures) == ["a-web-1", "none", "b-web-1"]
    assert [item.rc for item in report.results] == [3, 125, 3]


def test_a_single_failure_reads_as_its_own(run_dir: Path) -> None:
    report = run(run_dir, ["a-web-1"], cmd="false")
    with pytest.raises(CommandsFailedError, match=r"^a-web-1: non-zero return code 1$") as caught:
        report.check(single=True)
    assert caught.value.details["rc"] == 1


@pytest.mark.parametrize(
    ("argv", "rc", "text"),
    [
        (["/none"], 127, "No such file"),
        (["/"], 126, "Permission denied"),
        (sh("kill -KILL $$"), 137, "ended by signal 9"),
        (sh("kill -TERM $$"), 143, "ended by signal 15"),
    ],
)
def test_the_code_tells_what_happened(run_dir: Path, argv: list[str], rc: int, text: str) -> None:
    (result,) = run(run_dir, ["a-web-1"], argv=argv).results
    assert result.rc == rc
    assert text in result.why()


def test_time_that_is_up_is_a_failure(run_dir: Path) -> None:
    begun = time.monotonic()
    (result,) = run(run_dir, ["a-web-1"], argv=sh("echo first; sleep 60"), timeout=0.3).results
    assert time.monotonic() - begun < 3
    shown = result.as_result()
    assert (shown["rc"], shown["timed_out"], shown["stdout"]) == (137, True, "first")
    assert shown["msg"] == "not ended within 0.3 s, and killed"


def test_output_that_was_cut_is_warned_of(run_dir: Path) -> None:
    report = run(run_dir, ["a-web-1", "b-web-1"], argv=sh("head -c 2000 /dev/zero | tr '\\0' x"), output_limit="1K")
    assert report.warnings == ["output beyond 1K was thrown away in a-web-1, b-web-1"]
    assert [len(result.as_result()["stdout"]) for result in report.results] == [1024, 1024]


def test_creates_and_removes_decide(run_dir: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    first = run(run_dir, ["a-web-1"], argv=["touch", str(mark)], creates=str(mark))
    assert first.changed
    again = run(run_dir, ["a-web-1"], argv=["touch", str(mark)], creates=str(mark))
    again.check(single=True)
    assert not again.changed
    values = again.values(single=True)
    assert values["skipped"] is True
    assert (values["rc"], values["msg"]) == (0, f"skipped, since {mark} exists")
    gone = run(run_dir, ["a-web-1"], argv=["rm", mark.name], chdir=str(tmp_path), removes="mark")
    assert gone.changed
    assert not mark.exists()
    nothing = run(run_dir, ["a-web-1"], argv=["rm", mark.name], chdir=str(tmp_path), removes="mark")
    assert (nothing.changed, nothing.results[0].message) == (False, f"skipped, since {mark} does not exist")


def test_a_dangling_link_exists(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/nowhere")
    assert not run(run_dir, ["a-web-1"], cmd="true", creates=str(tmp_path / "link")).changed
    assert run(run_dir, ["a-web-1"], cmd="true", creates=f"{tmp_path}/link/below").changed


def test_check_mode_looks_and_does_not_run(run_dir: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    would = run(run_dir, ["a-web-1"], argv=["touch", str(mark)], creates=str(mark), check_mode=True)
    assert would.changed
    assert not mark.exists()
    assert "skipped" not in would.values(single=True)
    mark.touch()
    assert not run(run_dir, ["a-web-1"], argv=["touch", str(mark)], creates=str(mark), check_mode=True).changed
    mark.unlink()
    unknown = run(run_dir, ["none", "a-web-1"], argv=["touch", str(mark)], check_mode=True)
    unknown.check(single=False)
    assert (unknown.changed, unknown.values(single=False)["skipped"]) == (False, True)
    assert not mark.exists()


def test_an_instance_that_cannot_be_looked_into_fails(run_dir: Path) -> None:
    report = run(run_dir, ["none", "a-web-1"], cmd="true", creates="/none")
    assert [result.rc for result in report.results] == [125, 0]


def test_what_cannot_be_sent_runs_nowhere(run_dir: Path) -> None:
    with pytest.raises(InvalidValueError, match="argv"):
        run(run_dir, ["a-web-1"], argv=["true", "x" * (5 << 20)])
    with pytest.raises(InvalidValueError, match="workers: 0"):
        run_everywhere(run_dir, ["a-web-1"], parse_order(params(cmd="true")), workers=0)


def test_a_refused_session_fails_with_its_reason(tmp_path: Path) -> None:
    def refuse(peer: Peer) -> None:
        peer.receive()
        peer.send(Error(ErrorCode.NO_PROCESS, "pids.max is reached"))

    (tmp_path / "ctl").mkdir()
    with serving(tmp_path / "ctl/one.sock", refuse):
        report = run(tmp_path, ["one"], cmd="true")
    assert not report.changed
    assert (report.results[0].rc, report.results[0].why()) == (125, "pids.max is reached")
    with pytest.raises(BaileyError, match=r"pids\.max"):
        report.check(single=True)


def test_workers_bound_how_many_run_at_a_time(tmp_path: Path) -> None:
    running: list[int] = []
    most = 0

    def count(peer: Peer) -> None:
        nonlocal most
        running.append(1)
        most = max(most, len(running))
        time.sleep(0.05)
        running.pop()
        run_session(peer)

    (tmp_path / "ctl").mkdir()
    with contextlib.ExitStack() as stack:
        names = [f"n-{number}" for number in range(6)]
        for name in names:
            stack.enter_context(serving(tmp_path / f"ctl/{name}.sock", count))
        report = run_everywhere(tmp_path, names, parse_order(params(cmd="true")), workers=2)
    assert [result.rc for result in report.results] == [0] * 6
    assert most <= 2
