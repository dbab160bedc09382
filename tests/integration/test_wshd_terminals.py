"""Terminals of sessions: made inside the container, with their size from the start, and gone with the client.

Needs root, dockerd and musl-gcc.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import termios
import time

from bailey.wsh.protocol import Ended, Exec, Exited, Started, encode

from tests.integration.fixtures.wshd import Box, Raw, eventually, terminal

pytest_plugins = ("tests.integration.fixtures.wshd",)


def read_until(raw: Raw, text: bytes, seconds: float = 10.0) -> bytes:
    """Read from the terminal until a text has come; return all that came."""
    said, deadline = b"", time.monotonic() + seconds
    while text not in said:
        ready, _, _ = select.select([raw.descriptors[0]], [], [], max(deadline - time.monotonic(), 0))
        assert ready, said
        said += os.read(raw.descriptors[0], 65536)
    return said


def read_all(raw: Raw) -> bytes:
    """Read what is left on the terminal; its end is an error, EIO."""
    said = b""
    with contextlib.suppress(OSError):
        while data := os.read(raw.descriptors[0], 65536):
            said += data
    return said


def started(raw: Raw) -> Started:
    message = raw.frame()
    assert isinstance(message, Started), message
    assert len(raw.descriptors) == 1
    return message


def test_the_window_has_its_size_before_the_program_runs(box: Box) -> None:
    for rows, columns in ((24, 80), (1, 1), (1000, 65535), (33, 257)):
        with terminal(box, "stty", "size", window=(rows, columns)) as raw:
            started(raw)
            assert raw.rest() == [Exited(Ended.CODE, 0)]
            assert read_all(raw) == f"{rows} {columns}\r\n".encode()


def test_a_change_of_size_is_told_to_the_program(box: Box) -> None:
    with terminal(
        box, "sh", "-c", "trap 'stty size' WINCH; echo up; while :; do sleep 0.1; done", window=(24, 80)
    ) as raw:
        started(raw)
        read_until(raw, b"up")
        fcntl.ioctl(raw.descriptors[0], termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
        read_until(raw, b"50 132")


def test_it_is_the_sessions_controlling_terminal(box: Box) -> None:
    code = (
        "import os; tty = os.open('/dev/tty', os.O_RDWR);"
        "print(os.isatty(0), os.isatty(1), os.isatty(2), os.ttyname(0).startswith('/dev/pts/'),"
        "os.tcgetpgrp(tty) == os.getpgid(0) == os.getsid(0) == os.getpid(), os.fstat(0).st_uid == os.getuid())"
    )
    with terminal(box, "python3", "-c", code) as raw:
        started(raw)
        assert raw.rest() == [Exited(Ended.CODE, 0)]
        assert read_all(raw) == b"True True True True True True\r\n"


def test_keys_become_signals_and_ends(box: Box) -> None:
    with terminal(box, "sleep", "1000") as raw:
        started(raw)
        time.sleep(0.2)
        os.write(raw.descriptors[0], b"\x03")
        assert raw.rest() == [Exited(Ended.SIGNAL, signal.SIGINT)]
    with terminal(box, "cat") as raw:
        started(raw)
        os.write(raw.descriptors[0], b"word\n\x04")
        assert raw.rest() == [Exited(Ended.CODE, 0)]
        assert read_all(raw) == b"word\r\nword\r\n"


def test_a_shell_can_be_used(box: Box) -> None:
    with terminal(box, "sh", window=(24, 80)) as raw:
        started(raw)
        read_until(raw, b"$ ")
        os.write(raw.descriptors[0], b"echo $((6 * 7)); sleep 1000\n")
        read_until(raw, b"42\r\n")
        time.sleep(0.2)
        os.write(raw.descriptors[0], b"\x03")
        read_until(raw, b"$ ")
        os.write(raw.descriptors[0], b"exit 5\n")
        assert raw.rest() == [Exited(Ended.CODE, 5)]


def test_the_program_is_hung_up_on_with_its_client(box: Box) -> None:
    """By the terminal's end itself: the client did not ask for its death."""
    with terminal(box, "sh", "-c", "sleep 4321 & sleep 4321") as raw:
        started(raw)
        eventually(lambda: box.processes().count("sleep 4321") == 2)
    eventually(lambda: not any("sleep 4321" in line for line in box.processes()))


def test_no_byte_is_lost_after_a_fast_exit(box: Box) -> None:
    """As much as the terminal holds while nobody reads: it is all there after the end was told."""
    for number in range(100):
        with terminal(box, "sh", "-c", f"stty -opost; printf '%03000d' {number}") as raw:
            started(raw)
            assert raw.rest() == [Exited(Ended.CODE, 0)]
            assert read_all(raw) == b"%03000d" % number


def test_much_output_with_a_slow_reader(box: Box) -> None:
    with terminal(box, "sh", "-c", "stty -opost; head -c 4000000 /dev/zero; echo end") as raw:
        started(raw)
        count = 0
        while True:
            try:
                data = os.read(raw.descriptors[0], 65536)
            except OSError:
                break
            count += len(data)
            if count % 500_000 < 4096:
                time.sleep(0.02)
        assert count == 4_000_004
        assert raw.rest() == [Exited(Ended.CODE, 0)]


def test_nothing_of_the_clients_terminal_comes_in(box: Box) -> None:
    """Even a client that sends descriptors along finds none of them inside: the kernel throws them away."""
    ours, theirs = os.openpty()
    with Raw.to(box.control) as raw:
        message = encode(Exec((b"sh", b"-c", b"ls /proc/$$/fd; :")))
        socket.send_fds(raw.socket, [message], [ours, ours, ours])
        assert isinstance(raw.frame(), Started)
        assert raw.rest() == [Exited(Ended.CODE, 0)]
        assert os.read(raw.descriptors[1], 100) == b"0\n1\n2\n"
    os.close(ours)
    os.close(theirs)
    assert not [path for path in box.descriptors() if "pts" in path or "ptmx" in path]
