"""What a client can send, or not send, costs its own connection and nothing else. Raw frames, no honest client.

Needs root, dockerd and musl-gcc.
"""

from __future__ import annotations

import os
import random
import signal
import struct
import time
from collections.abc import Iterator

import pytest
from bailey.wsh.protocol import (
    Ended,
    Error,
    ErrorCode,
    Exec,
    Exited,
    Flags,
    Ping,
    Pong,
    Rlimit,
    Signal,
    Started,
    encode,
)

from tests.integration.fixtures.wshd import Box, Boxes, Kind, Raw, eventually, frame

pytest_plugins = ("tests.integration.fixtures.wshd",)

FIRST_FRAME_SECONDS = 5.0
PAYLOAD_MAX = 4 << 20


def field(tag: int, value: bytes, *, zero: int = 0, length: int | None = None) -> bytes:
    return struct.pack("<HHI", tag, zero, len(value) if length is None else length) + value


ARG = field(1, b"true")

MALFORMED = {
    "no field": frame(Kind.EXEC),
    "no program": frame(Kind.EXEC, field(2, b"A=b")),
    "an unknown field": frame(Kind.EXEC, ARG + field(99, b"")),
    "a field of number 0": frame(Kind.EXEC, ARG + field(0, b"")),
    "a field that is not zero": frame(Kind.EXEC, field(1, b"true", zero=1)),
    "a field beyond the payload": frame(Kind.EXEC, field(1, b"true", length=5)),
    "a field of all ones": frame(Kind.EXEC, field(1, b"true", length=0xFFFFFFFF)),
    "half a field": frame(Kind.EXEC, ARG + b"\1\0"),
    "a string with a zero byte": frame(Kind.EXEC, field(1, b"tr\0ue")),
    "a variable without a name": frame(Kind.EXEC, ARG + field(2, b"=x")),
    "a variable without a value": frame(Kind.EXEC, ARG + field(2, b"x")),
    "two directories": frame(Kind.EXEC, ARG + field(3, b"/") * 2),
    "a short umask": frame(Kind.EXEC, ARG + field(4, b"\0")),
    "a large umask": frame(Kind.EXEC, ARG + field(4, b"\0\2\0\0")),
    "a short limit": frame(Kind.EXEC, ARG + field(5, b"\0" * 23)),
    "many limits": encode(Exec((b"true",), rlimits=(Rlimit(0, 1, 1),) * 17)),
    "an unknown flag": frame(Kind.EXEC, ARG + field(6, b"\4\0\0\0")),
    "a long window": frame(Kind.EXEC, ARG + field(7, b"\0" * 5)),
    "a long request": frame(Kind.EXEC, length=PAYLOAD_MAX + 1),
    "an endless request": frame(Kind.EXEC, length=0xFFFFFFFF),
    "a ping with a payload": frame(Kind.PING, b"x"),
    "a long ping": frame(Kind.PING, length=4097),
    "a signal without a session": frame(Kind.SIGNAL, b"\x0f\0\0\0"),
    "a frame of the server's": frame(Kind.STARTED, b"\1\0\0\0"),
    "a frame of the gate's": frame(Kind.GO),
    "an unknown type": frame(77),
}


@pytest.fixture(autouse=True)
def untouched(box: Box) -> Iterator[None]:
    """Another session, which was there before, is there afterwards; new ones begin; nothing is left behind."""
    descriptors = len(box.descriptors())
    with Raw.to(box.control) as bystander:
        bystander.send(Exec((b"cat",)))
        assert isinstance(bystander.frame(), Started)
        yield
        os.write(bystander.descriptors[0], b"still here")
        assert os.read(bystander.descriptors[1], 100) == b"still here"
        os.close(bystander.descriptors.pop(0))
        assert bystander.rest() == [Exited(Ended.CODE, 0)]
    assert box.run("true").code == 0
    eventually(lambda: len(box.descriptors()) == descriptors)


def error_of(raw: Raw) -> Error:
    (message,) = raw.rest()
    assert isinstance(message, Error), message
    return message


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_frames(box: Box, what: str) -> None:
    with Raw.to(box.control) as raw:
        raw.send_bytes(MALFORMED[what])
        assert error_of(raw).code is ErrorCode.MALFORMED


@pytest.mark.parametrize("version", [0, 2, 0xFFFF])
@pytest.mark.parametrize("length", [0, 100, PAYLOAD_MAX + 1, 0xFFFFFFFF])
def test_another_version_is_told_ours(box: Box, version: int, length: int) -> None:
    """Whatever that version's limits are: the answer comes before the payload."""
    with Raw.to(box.control) as raw:
        raw.send_bytes(frame(Kind.EXEC, version=version, length=length))
        error = error_of(raw)
        assert (error.code, error.newest) == (ErrorCode.VERSION, 1)


def test_an_error_is_read_even_while_the_client_still_writes(box: Box) -> None:
    with Raw.to(box.control) as raw:
        raw.send_bytes(frame(Kind.EXEC, b"x" * (3 << 20), version=2))
        assert error_of(raw).code is ErrorCode.VERSION


def test_text_is_no_protocol(box: Box) -> None:
    for text in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 100, b"\xff" * 100, b"SSH-2.0-x\r\n"):
        with Raw.to(box.control) as raw:
            raw.send_bytes(text)
            assert error_of(raw).code in (ErrorCode.VERSION, ErrorCode.MALFORMED)


def test_a_client_that_hangs_up_at_every_byte(box: Box) -> None:
    data = encode(Exec((b"true",), (b"A=b",), directory=b"/", umask=0, flags=Flags.TTY, window=(1, 1)))
    for length in range(len(data)):
        with Raw.to(box.control) as raw:
            raw.send_bytes(data[:length])
    with Raw.to(box.control) as raw:
        raw.send_bytes(data)
    assert box.client.ping()


def test_frames_that_come_byte_by_byte(box: Box) -> None:
    with Raw.to(box.control) as raw:
        for byte in encode(Exec((b"sh", b"-c", b"read x"))):
            raw.send_bytes(bytes([byte]))
        assert isinstance(raw.frame(), Started)
        for byte in encode(Signal(signal.SIGTERM)):
            raw.send_bytes(bytes([byte]))
        assert raw.rest() == [Exited(Ended.SIGNAL, signal.SIGTERM)]


def test_silence_and_dripping_run_out_of_time(box: Box) -> None:
    silent, half, drip = (Raw.to(box.control) for _ in range(3))
    start = time.monotonic()
    half.send_bytes(frame(Kind.EXEC, ARG, length=100))
    drip.send_bytes(frame(Kind.EXEC, length=1000))
    while time.monotonic() - start < FIRST_FRAME_SECONDS + 1:
        drip.send_bytes(b"x")
        time.sleep(0.2)
    for raw in (silent, half, drip):
        assert error_of(raw).code is ErrorCode.TIMEOUT
        raw.close()
    assert time.monotonic() - start < FIRST_FRAME_SECONDS + 2


def test_a_session_has_all_the_time_it_wants(box: Box) -> None:
    with Raw.to(box.control) as raw:
        raw.send(Exec((b"sleep", b"6")))
        assert isinstance(raw.frame(), Started)
        assert raw.rest() == [Exited(Ended.CODE, 0)]


def test_announced_memory_is_bounded_and_comes_back(box: Box) -> None:
    greedy = [Raw.to(box.control) for _ in range(6)]
    for raw in greedy:
        raw.send_bytes(frame(Kind.EXEC, b"x" * 100_000, length=PAYLOAD_MAX))
    for raw in greedy[4:]:
        assert error_of(raw).code is ErrorCode.NO_RESOURCE
    with Raw.to(box.control) as raw:
        raw.send(Ping())
        assert isinstance(raw.frame(), Pong)
    for raw in greedy:
        raw.close()
    assert box.run("true").code == 0
    assert box.resident_kb() < 400


@pytest.mark.parametrize(
    "data",
    [
        encode(Exec((b"true",))),
        frame(Kind.PING),
        frame(Kind.SIGNAL, b"\0\0\0\0"),
        frame(Kind.SIGNAL, b"\x41\0\0\0"),
        frame(Kind.SIGNAL, b"\x0f\2\0\0"),
        frame(Kind.SIGNAL, b"\x0f\0\1\0"),
        frame(Kind.SIGNAL, b"\x0f\0\0"),
        frame(Kind.SIGNAL),
        frame(99),
    ],
)
@pytest.mark.parametrize("kill", [True, False])
def test_wrong_frames_during_a_session(box: Box, data: bytes, kill: bool) -> None:
    """They end the connection; the program's fate is what was asked for such a case."""
    with Raw.to(box.control) as raw:
        raw.send(Exec((b"sleep", b"1357"), flags=Flags.KILL_ON_DISCONNECT if kill else Flags(0)))
        message = raw.frame()
        assert isinstance(message, Started)
        raw.send_bytes(data)
        assert error_of(raw).code is ErrorCode.MALFORMED

        def here() -> bool:
            return box.run("sh", "-c", f"kill -0 {message.pid}").code == 0

        if kill:
            eventually(lambda: not here())
        else:
            assert here()
            assert box.run("sh", "-c", f"kill -9 {message.pid}").code == 0


def test_a_flood_of_signals_starves_nobody(box: Box) -> None:
    with Raw.to(box.control) as raw:
        raw.send(Exec((b"sleep", b"1000")))
        assert isinstance(raw.frame(), Started)
        raw.socket.setblocking(False)
        flood = encode(Signal(signal.SIGCONT)) * 1000
        end = time.monotonic() + 2
        slowest = 0.0
        while time.monotonic() < end:
            try:
                raw.socket.send(flood)
            except BlockingIOError:
                start = time.monotonic()
                assert box.client.ping()
                slowest = max(slowest, time.monotonic() - start)
        assert slowest < 0.5
        assert box.client.ping()


def test_random_bytes(box: Box) -> None:
    chance = random.Random(3)
    good = encode(Exec((b"true",), (b"A=b",))) + encode(Signal(15))
    for _ in range(500):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with Raw.to(box.control) as raw:
            raw.send_bytes(bytes(data))
            if chance.random() < 0.5:
                raw.socket.shutdown(1)


def test_more_connections_than_descriptors(boxes: Boxes) -> None:
    box = boxes()
    box.start("sleep", "infinity", options=("--ulimit=nofile=64:64",))
    raws = [Raw.to(box.control) for _ in range(100)]
    refused = [raw for raw in raws[80:] if error_of(raw).code is ErrorCode.NO_RESOURCE]
    assert len(refused) == 20
    before = box.processor_ticks()
    time.sleep(1)
    assert box.processor_ticks() - before <= 2, "it spins"
    for raw in raws:
        raw.close()
    eventually(lambda: len(box.descriptors()) < 12)
    assert box.run("true").code == 0


def test_no_descriptors_for_a_session(boxes: Boxes) -> None:
    """There is one for the connection, but none for the pipes."""
    box = boxes()
    box.start("sleep", "infinity", options=("--ulimit=nofile=32:32",))
    room = 32 - len(box.descriptors())
    silent = [Raw.to(box.control) for _ in range(room - 3)]
    with Raw.to(box.control) as raw:
        raw.send(Exec((b"true",)))
        error = error_of(raw)
        assert error.code is ErrorCode.NO_RESOURCE
        assert "making a pipe" in error.text
    for one in silent:
        one.close()
    eventually(lambda: box.run("true").code == 0)


def test_a_client_inside_gets_nothing(boxes: Boxes) -> None:
    """Even with the control socket in its hands, which the platform never mounts."""
    box = boxes()
    box.start("sleep", "infinity", options=(f"--volume={box.directory}:/ctl:ro",))
    box.control.chmod(0o666)
    code = (
        "import socket, struct; s = socket.socket(socket.AF_UNIX); s.connect('/ctl/ctl.sock');"
        f"s.sendall({encode(Ping())!r}); print(s.recv(100))"
    )
    done = box.python(code)
    assert done.stdout == b"b''\n" or b"ConnectionResetError" in done.stderr or b"BrokenPipeError" in done.stderr
    assert box.client.ping()
