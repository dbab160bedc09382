"""Sessions with a stand-in that runs real programs, or breaks the protocol in every way that costs a session."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bailey.rlimits import UNLIMITED, Rlimit
from bailey.wsh import session
from bailey.wsh.client import Client, Command, run_all
from bailey.wsh.errors import (
    CannotExecuteError,
    SessionError,
    UnreachableError,
)
from bailey.wsh.protocol import Error, ErrorCode, Exec, Flags, Pong
from bailey.wsh.protocol import Rlimit as RlimitField
from bailey.wsh.session import Completed

from tests.unit.wsh.standin import Peer, open_descriptors, run_session, serving, sh


def test_a_program_runs_and_its_end_is_told(path: Path) -> None:
    with serving(path):
        done = sh(Client(path), "echo out; echo err >&2; exit 3")
    assert (done.code, done.signal, done.oom) == (3, None, False)
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert not done.timed_out
    assert not done.truncated
    assert 0 < done.elapsed < 5
    assert abs(time.time() - done.started) < 10


def test_a_signal_is_told(path: Path) -> None:
    with serving(path):
        assert sh(Client(path), "kill -TERM $$").signal == 15


def test_input_environment_directory_and_umask_arrive(path: Path, tmp_path: Path) -> None:
    with serving(path):
        done = sh(
            Client(path),
            'cat; echo "$WORD"; pwd; umask',
            stdin=b"given\n",
            environment={"WORD": "a=b"},
            directory=str(tmp_path),
            umask=0o77,
        )
    assert done.stdout.decode().split() == ["given", "a=b", str(tmp_path), "0077"]


def test_bytes_that_are_no_text_go_through(path: Path) -> None:
    with serving(path):
        assert Client(path).run(["printf", "%s", "\udcff"]).stdout == b"\xff"


def test_limits_and_flags_are_sent_as_the_kernel_counts_them(path: Path) -> None:
    seen: list[object] = []

    def remember(peer: Peer) -> None:
        seen.append(peer.receive())
        peer.send(Error(ErrorCode.NO_RESOURCE, "seen"))

    limits = {"nofile": Rlimit(10, 20), "core": Rlimit(0, UNLIMITED)}
    with serving(path, remember), pytest.raises(SessionError, match="seen"):
        Client(path).run(["true"], rlimits=limits, kill_on_disconnect=False)
    fields = (RlimitField(7, 10, 20), RlimitField(4, 0, (1 << 64) - 1))
    assert seen == [Exec((b"true",), rlimits=fields, flags=Flags(0))]


@pytest.mark.parametrize("source", [bytes, io.BytesIO])
def test_much_input_and_output_at_once_does_not_lock(path: Path, source: Callable[[bytes], bytes | io.BytesIO]) -> None:
    data = os.urandom(1 << 20) * 8
    with serving(path):
        assert Client(path).run(["cat"], stdin=source(data)).stdout == data


def test_input_that_nobody_reads_is_given_up(path: Path) -> None:
    with serving(path):
        assert sh(Client(path), "exec <&-; echo done; sleep 0.1", stdin=bytes(1 << 20)).stdout == b"done\n"
        assert Client(path).run(["true"], stdin=bytes(1 << 20)).code == 0


def test_output_beyond_the_limit_is_read_and_thrown_away(path: Path) -> None:
    with serving(path):
        done = sh(Client(path), "head -c 1000000 /dev/zero; echo end >&2", output_limit=1000)
    assert (len(done.stdout), done.stderr, done.truncated) == (1000, b"end\n", True)


def test_sinks_take_output_as_it_comes(path: Path) -> None:
    out, err = io.BytesIO(), io.BytesIO()
    with serving(path):
        done = sh(Client(path), "head -c 300000 /dev/zero; echo e >&2", stdout=out.write, stderr=err.write)
    assert (done.stdout, done.stderr, done.truncated) == (b"", b"", False)
    assert (out.getvalue(), err.getvalue()) == (bytes(300_000), b"e\n")


def test_a_sinks_own_error_is_raised_and_ends_the_session(path: Path, tmp_path: Path) -> None:
    def full(_data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with serving(path), pytest.raises(OSError, match="No space"):
        sh(Client(path), f"echo out; exec sleep 60; touch {tmp_path}/survived", stdout=full)


def test_time_that_is_up_kills_the_whole_session(path: Path, tmp_path: Path) -> None:
    with serving(path):
        begun = time.monotonic()
        done = sh(Client(path), f"echo before; (sleep 1; touch {tmp_path}/survived) & wait", timeout=0.3)
        assert 0.3 <= time.monotonic() - begun < 1
        assert (done.timed_out, done.code, done.signal, done.stdout) == (True, None, None, b"before\n")
        time.sleep(1)
    assert not (tmp_path / "survived").exists()


def test_without_kill_on_disconnect_a_signal_does_it(path: Path, tmp_path: Path) -> None:
    with serving(path):
        done = sh(Client(path), f"sleep 1; touch {tmp_path}/survived", timeout=0.2, kill_on_disconnect=False)
        assert done.timed_out
        time.sleep(1.1)
    assert not (tmp_path / "survived").exists()


def test_a_grandchild_that_keeps_the_pipe_is_not_waited_for(path: Path) -> None:
    with serving(path):
        begun = time.monotonic()
        done = sh(Client(path), "setsid sleep 3 & echo out", kill_on_disconnect=False)
        assert (done.code, done.stdout) == (0, b"out\n")
        assert time.monotonic() - begun < 1


def test_a_grandchild_that_goes_on_writing_is_cut_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "DRAIN_SECONDS", 0.4)
    script = "setsid sh -c 'while sleep 0.01; do echo more || exit; done' & echo first"
    with serving(path):
        begun = time.monotonic()
        done = sh(Client(path), script)
        assert done.stdout.startswith(b"first\n")
        assert 0.4 <= time.monotonic() - begun < 2


def test_fast_programs_lose_no_byte(path: Path) -> None:
    with serving(path):
        client = Client(path)
        assert {sh(client, "head -c 60000 /dev/zero").stdout for _ in range(30)} == {bytes(60_000)}


def test_a_program_that_is_not_there(path: Path) -> None:
    with serving(path), pytest.raises(CannotExecuteError, match="No such file") as caught:
        Client(path).run(["/none"])
    assert caught.value.errno == 2


def test_many_threads_and_one_loop(path: Path) -> None:
    before = open_descriptors()
    with serving(path):
        client = Client(path)
        with ThreadPoolExecutor(16) as pool:
            outputs = list(pool.map(lambda number: client.run(["echo", str(number)]).stdout, range(100)))
        assert outputs == [f"{number}\n".encode() for number in range(100)]
        jobs = [(client, Command(["echo", str(number)])) for number in range(100)]
        outcomes = run_all(jobs, at_once=20)
    assert [outcome.stdout for outcome in outcomes if isinstance(outcome, Completed)] == outputs
    assert open_descriptors() == before


def test_one_loop_runs_at_the_same_time_and_keeps_errors_apart(path: Path, tmp_path: Path) -> None:
    with serving(path):
        client, lost = Client(path), Client(tmp_path / "none.sock")
        begun = time.monotonic()
        jobs = [(client, Command(["sleep", "0.5"]))] * 10 + [(lost, Command(["true"])), (client, Command(["/none"]))]
        outcomes = run_all(jobs)
        assert time.monotonic() - begun < 2
    assert [getattr(outcome, "code", None) for outcome in outcomes[:10]] == [0] * 10
    assert isinstance(outcomes[10], UnreachableError)
    assert isinstance(outcomes[11], CannotExecuteError)


def test_an_interruption_kills_what_runs(path: Path, tmp_path: Path) -> None:
    def interrupt(_data: bytes) -> None:
        raise KeyboardInterrupt

    with serving(path):
        with pytest.raises(KeyboardInterrupt):
            sh(Client(path), f"echo out; sleep 1; touch {tmp_path}/survived", stdout=interrupt)
        time.sleep(1.1)
    assert not (tmp_path / "survived").exists()


def test_a_full_backlog_is_waited_for(path: Path) -> None:
    release = threading.Event()

    def slow(peer: Peer) -> None:
        release.wait(0.2)
        run_session(peer)

    with serving(path, slow, backlog=0):
        outcomes = run_all([(Client(path), Command(["true"]))] * 12)
    assert [getattr(outcome, "code", outcome) for outcome in outcomes] == [0] * 12


def test_a_path_longer_than_the_kernels_address(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    short = Path("/tmp") / f"bailey-{os.getpid()}"
    short.symlink_to(deep)
    try:
        with serving(short / "one.sock"):
            assert Client(deep / "one.sock").run(["true"]).code == 0
            assert Client(deep / "one.sock").ping() == Pong("stand-in", 0)
    finally:
        short.unlink()
