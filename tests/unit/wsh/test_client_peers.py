"""What the client makes of peers that are hostile, silent, older, or not there."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from bailey.errors import InvalidValueError
from bailey.instance_state import InstanceState, write_state
from bailey.rlimits import Rlimit
from bailey.wsh import session
from bailey.wsh.client import Client, instance_client
from bailey.wsh.errors import (
    GateClosedError,
    NoSuchInstanceError,
    ProtocolError,
    SessionError,
    UnreachableError,
)
from bailey.wsh.protocol import Ended, Error, ErrorCode, Exited, Ping, Pong, Started

from tests.unit.wsh.standin import Handler, Peer, open_descriptors, run_session, serving


def pipes(count: int) -> list[int]:
    return [descriptor for _ in range(count) for descriptor in os.pipe()]


def started_with(*descriptors: int) -> Handler:
    def answer(peer: Peer) -> None:
        peer.receive()
        peer.send(Started(1), descriptors)
        peer.receive()

    return answer


def saying(*data: bytes) -> Handler:
    def answer(peer: Peer) -> None:
        peer.receive()
        for part in data:
            peer.send_raw(part)
        peer.receive()

    return answer


def hang_up(_peer: Peer) -> None:
    return


def hang_up_after_start(peer: Peer) -> None:
    peer.receive()
    ends = pipes(3)
    peer.send(Started(1), [ends[1], ends[2], ends[4]])
    for end in ends:
        os.close(end)


def refuse(code: ErrorCode, text: str) -> Handler:
    def answer(peer: Peer) -> None:
        peer.receive()
        peer.send(Error(code, text))

    return answer


@pytest.mark.parametrize(
    ("handler", "error", "text"),
    [
        (hang_up, UnreachableError, "ended before the session|reset by peer"),
        (hang_up_after_start, UnreachableError, "ended before the session"),
        (saying(b"HTTP/1.1 400 Bad Request\r\n"), ProtocolError, "not known"),
        (saying(b"\4\0\0\0\x22\0\1\0\0\0\0\0"), ProtocolError, "EXITED is not expected"),
        (saying(b"\0\0\0\0\1\0\1\0"), ProtocolError, "BOOT is not expected"),
        (saying(b"\4\0\0\0\x20\0\2\0\1\0\0\0"), ProtocolError, "version 2"),
        (saying(b"\4\0\0\0\x20\0\1\0\1\0\0\0"), ProtocolError, "3 pipes"),
        (refuse(ErrorCode.NO_PROCESS, "pids.max is reached"), SessionError, "pids.max is reached"),
        (refuse(ErrorCode.TIMEOUT, ""), SessionError, "TIMEOUT"),
        (refuse(ErrorCode.ENDING, "the instance ends"), UnreachableError, "the instance ends"),
    ],
)
def test_what_is_not_the_protocol_costs_the_session(
    path: Path, handler: Handler, error: type[Exception], text: str
) -> None:
    before = open_descriptors()
    with serving(path, handler), pytest.raises(error, match=text):
        Client(path).run(["true"])
    assert open_descriptors() == before


@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_descriptors_that_do_not_fit_are_closed(path: Path, count: int) -> None:
    ends = pipes(3)
    try:
        before = open_descriptors()
        with serving(path, started_with(*ends[:count])), pytest.raises(ProtocolError):
            Client(path).run(["true"])
        assert open_descriptors() == before
    finally:
        for end in ends:
            os.close(end)


def test_a_file_is_no_stream(path: Path, tmp_path: Path) -> None:
    """A tenant that took wshd over could hand over a file that never ends, or one that cannot be waited for."""
    with (tmp_path / "file").open("wb+") as file:
        handler = started_with(file.fileno(), file.fileno(), file.fileno())
        with serving(path, handler), pytest.raises(ProtocolError, match="3 pipes"):
            Client(path).run(["true"])


def silent(peer: Peer) -> None:
    while peer.receive() is not None:
        pass


def test_a_silent_peer_is_not_waited_for_forever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ANSWER_SECONDS", 0.2)
    with serving(path, silent), pytest.raises(UnreachableError, match=r"has not answered for 0\.2 s"):
        Client(path).run(["true"])


def test_time_may_be_up_before_anything_started(path: Path) -> None:
    with serving(path, silent):
        done = Client(path).run(["true"], timeout=0.1)
    assert (done.timed_out, done.code, done.stdout) == (True, None, b"")


def test_killed_for_memory_is_told(path: Path) -> None:
    def kill(peer: Peer) -> None:
        peer.receive()
        ends = pipes(3)
        peer.send(Started(1), [ends[1], ends[2], ends[4]])
        for end in ends:
            os.close(end)
        peer.send(Exited(Ended.MEMORY, 9))

    with serving(path, kill):
        done = Client(path).run(["true"])
    assert (done.code, done.signal, done.oom) == (None, 9, True)


class Older:
    """A wshd that speaks version 1 alone."""

    def __init__(self) -> None:
        self.versions: list[int] = []

    def __call__(self, peer: Peer) -> None:
        first = peer.socket.recv(8, socket.MSG_PEEK)
        self.versions.append(first[6])
        if first[6] > 1:
            peer.receive()
            peer.version = 1
            peer.send(Error(ErrorCode.VERSION, "version 2 is too new", newest=1))
        else:
            run_session(peer)


def test_a_client_speaks_the_version_before(path: Path) -> None:
    older = Older()
    with serving(path, older):
        client = Client(path, version=2)
        assert client.run(["echo", "out"]).stdout == b"out\n"
        assert client.ping() == Pong("stand-in", 0)
    assert older.versions == [2, 1, 2, 1]


@pytest.mark.parametrize("newest", [0, 1, 2])
def test_a_version_that_is_no_older_one_is_an_error(path: Path, newest: int) -> None:
    def insist(peer: Peer) -> None:
        peer.receive()
        peer.send(Error(ErrorCode.VERSION, "no", newest=newest))

    with serving(path, insist):
        with pytest.raises(SessionError, match="no"):
            Client(path).run(["true"])
        with pytest.raises(ProtocolError, match="ping"):
            Client(path).ping()


def test_a_ping_is_answered(path: Path) -> None:
    def pong(peer: Peer) -> None:
        assert peer.receive() == Ping()
        peer.send(Pong("0.1.0", 12))

    with serving(path, pong):
        assert Client(path).ping() == Pong("0.1.0", 12)


def test_a_ping_that_is_not_answered(path: Path) -> None:
    with serving(path, silent), pytest.raises(UnreachableError, match=r"no answer within 0\.1 s"):
        Client(path).ping(timeout=0.1)
    with serving(path, hang_up), pytest.raises(UnreachableError):
        Client(path).ping()
    with pytest.raises(UnreachableError, match="No such file"):
        Client(path).ping()


@pytest.mark.parametrize(
    ("argv", "options", "text"),
    [
        ([], {}, "argv"),
        ([""], {}, "argv"),
        (["a\0b"], {}, "zero bytes"),
        (["a"], {"environment": {"A=B": "c"}}, "environment: 'A=B'"),
        (["a"], {"environment": {"": "c"}}, "environment: ''"),
        (["a"], {"environment": {"A": "secret\0"}}, "environment.A: ''"),
        (["a"], {"directory": "/\0"}, "directory"),
        (["a"], {"umask": 0o1000}, "umask: 512"),
        (["a"], {"timeout": 0}, "timeout: 0"),
        (["a"], {"rlimits": {"files": Rlimit(1, 1)}}, "one of as, core"),
        (["a", "x" * (4 << 20)], {}, "4194304 bytes at most"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(
    path: Path, argv: list[str], options: dict[str, object], text: str
) -> None:
    with pytest.raises(InvalidValueError, match=text):
        Client(path).run(argv, **options)  # type: ignore[arg-type]


def test_an_instance_that_is_not_there(tmp_path: Path) -> None:
    client = instance_client(tmp_path, "none")
    with pytest.raises(NoSuchInstanceError, match="none: there is no such instance"):
        client.run(["true"])
    with pytest.raises(NoSuchInstanceError):
        client.ping()
    with pytest.raises(InvalidValueError, match="DNS label"):
        instance_client(tmp_path, "../agent")


@pytest.mark.parametrize("status", ["waiting", "refused", "exited", "backoff", "failed"])
def test_a_closed_gate_is_told_with_its_reason(tmp_path: Path, status: str) -> None:
    write_state(tmp_path, InstanceState("one", status=status, reason="mem_limit does not hold"))
    with pytest.raises(GateClosedError, match=f"one: no session while the instance is {status}: mem_limit") as caught:
        instance_client(tmp_path, "one").run(["true"])
    assert (caught.value.status, caught.value.reason) == (status, "mem_limit does not hold")


def test_an_open_instance_that_does_not_answer(tmp_path: Path) -> None:
    write_state(tmp_path, InstanceState("one", status="open"))
    (tmp_path / "ctl").mkdir()
    with pytest.raises(UnreachableError, match="No such file"):
        instance_client(tmp_path, "one").run(["true"])
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "ctl/one.sock"))
        with pytest.raises(UnreachableError, match="refused"):
            instance_client(tmp_path, "one").run(["true"])
