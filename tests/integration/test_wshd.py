"""wshd as the first process of a container: its binary, its gate, and what ends with it.

Needs root, dockerd, musl-gcc and readelf.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import subprocess
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from bailey.wsh.errors import WshError
from bailey.wsh.protocol import Error, ErrorCode, Exec, Open, Refuse, Started, encode

from tests.integration.fixtures.wshd import Box, Boxes, Kind, Raw, eventually, frame

pytest_plugins = ("tests.integration.fixtures.wshd",)

RESIDENT_KB = 200
# The container's log shows whether its program has run at all.
PROGRAM = ("sh", "-c", "echo it runs; exec sleep infinity")

# Listens where the host should, and lets through whoever comes.
IMPOSTOR = f"""
import socket, struct
gate = socket.socket(socket.AF_UNIX)
gate.bind("/tmp/gate")
gate.listen()
print("listening", flush=True)
while True:
    connection, _ = gate.accept()
    control = socket.socket(socket.AF_UNIX)
    control.bind("/tmp/control" + str(connection.fileno()))
    try:
        socket.send_fds(connection, [struct.pack("<IHH", 0, {int(Kind.GO)}, 1)], [control.fileno()])
        print("answer", connection.recv(100), flush=True)
    except OSError as error:
        print("answer", error, flush=True)
"""


def readelf(programs: Path, *flags: str) -> str:
    return subprocess.run(
        ["readelf", "--wide", *flags, programs / "wshd"], capture_output=True, text=True, check=True
    ).stdout


def test_the_binary_is_static_and_hardened(wshd_programs: Path) -> None:
    header, segments, dynamic = (readelf(wshd_programs, flag) for flag in ("-h", "-l", "-d"))
    assert "DYN (Position-Independent Executable file)" in header
    assert "INTERP" not in segments
    assert "GNU_RELRO" in segments
    assert re.search(r"GNU_STACK .* RW +0x", segments), "the stack can be executed"
    assert not re.search(r"LOAD .* RWE", segments)
    assert "NEEDED" not in dynamic
    assert "TEXTREL" not in dynamic
    assert "BIND_NOW" in dynamic
    assert "Flags: NOW PIE" in dynamic
    assert (wshd_programs / "wshd").stat().st_size < 200_000


def test_it_is_no_ordinary_program(wshd_programs: Path) -> None:
    done = subprocess.run([wshd_programs / "wshd", "--", "true"], capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert "first process of a container" in done.stderr
    done = subprocess.run([wshd_programs / "wshd"], capture_output=True, text=True, check=False)
    assert done.returncode == 125
    done = subprocess.run([wshd_programs / "wshd", "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"wshd \d+\.\d+\.\d+\n", done.stdout)


def test_resident_memory(boxes: Boxes) -> None:
    box = boxes()
    box.start("sleep", "infinity")

    assert box.resident_kb() < RESIDENT_KB
    for _ in range(50):
        assert box.run("true").code == 0
    assert box.run("sh", "-c", 'exit "$#"', "sh", *["word" * 1000] * 200).code == 200
    assert box.resident_kb() < RESIDENT_KB


def test_nothing_runs_before_the_gate_opens(boxes: Boxes) -> None:
    box = boxes()
    box.create(*PROGRAM)
    gate = box.gate()
    raw = gate.accept()
    time.sleep(0.5)
    assert box.processes() == [f"/.bailey/wshd -- {' '.join(PROGRAM)}"]
    assert box.logs() == ""
    with box.control_socket() as control:
        gate.go(raw, control.fileno())
        assert raw.frame() == Open()
    eventually(lambda: box.logs() == "it runs\n", what="the program's output")
    assert box.run("true").code == 0


@pytest.mark.alone
def test_it_waits_for_a_host_that_is_late_and_one_that_vanishes(boxes: Boxes) -> None:
    box = boxes()
    box.create(*PROGRAM)
    time.sleep(1)
    assert box.running
    for _ in range(3):
        gate = box.gate()
        gate.accept().close()
        gate.close()
    gate = box.gate()
    halves = gate.accept()
    halves.send_bytes(encode(Refuse("never"))[:5])
    halves.close()
    gate.close()
    assert box.logs() == ""
    start = time.monotonic()
    box.open()
    assert time.monotonic() - start < 1
    eventually(lambda: box.logs() == "it runs\n", what="the program's output")


@pytest.mark.parametrize(
    "answer",
    [
        frame(Kind.GO),  # without a socket
        frame(Kind.GO, b"x"),
        frame(Kind.GO, version=9),
        frame(Kind.OPEN),
        frame(99),
        frame(Kind.REFUSE, b"x" * 5000),
        b"\xff" * 64,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_a_wrong_answer_at_the_gate_opens_nothing(boxes: Boxes, answer: bytes) -> None:
    box = boxes()
    box.create(*PROGRAM)
    gate = box.gate()
    for _ in range(2):
        raw = gate.accept()
        raw.send_bytes(answer)
        assert raw.rest() == []
    gate.close()
    assert box.logs() == ""
    box.open()
    eventually(lambda: box.logs() == "it runs\n", what="the program's output")


def test_descriptors_that_are_no_control_socket_open_nothing(boxes: Boxes) -> None:
    box = boxes()
    box.create(*PROGRAM)
    gate = box.gate()
    with socket.socket() as network, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        null = os.open("/dev/null", os.O_RDWR)
        for descriptors in ([null], [network.fileno()], [datagram.fileno()], [null] * 3, [null] * 8):
            raw = gate.accept()
            gate.go(raw, *descriptors)
            assert raw.rest() == []
        os.close(null)
    assert len(box.descriptors()) < 10
    assert box.logs() == ""


def test_a_refusal_says_why_and_ends(boxes: Boxes) -> None:
    box = boxes()
    box.create(*PROGRAM)
    box.gate().accept().send(Refuse("memory: 64M was declared\nand \x1b[31m not held"))
    assert box.wait() == 125
    assert box.logs() == "wshd: the gate stays closed: memory: 64M was declared?and ?[31m not held\n"


@pytest.mark.parametrize(("name", "code"), [("TERM", 143), ("INT", 130), ("HUP", 129), ("USR1", 138), ("RTMIN+3", 165)])
@pytest.mark.parametrize("at_gate", [False, True])
def test_a_signal_ends_the_wait(boxes: Boxes, name: str, code: int, at_gate: bool) -> None:
    box = boxes()
    box.create(*PROGRAM)
    if at_gate:
        box.gate().accept()
    for harmless in ("CHLD", "WINCH", "CONT", "TSTP", "URG"):
        box.engine.docker("kill", f"--signal={harmless}", box.name)
    assert box.running
    box.engine.docker("kill", f"--signal={name}", box.name)
    assert box.wait(5) == code
    assert box.logs() == ""


def test_signals_from_inside_do_not_end_the_wait(boxes: Boxes) -> None:
    box = boxes()
    box.create(*PROGRAM)
    for number in ("TERM", "INT", "KILL", "STOP", "CHLD"):
        box.engine.docker("exec", box.name, "sh", "-c", f"kill -{number} 1")
    box.open()
    eventually(lambda: box.logs() == "it runs\n", what="the program's output")


def test_an_impostor_at_the_gate_is_refused(boxes: Boxes) -> None:
    """The real boot directory cannot be written inside; here wshd is sent to one that can."""
    box = boxes()
    box.create(*PROGRAM, wshd=("--boot", "/tmp/gate"))
    box.engine.docker("exec", "--detach", box.name, "sh", "-c", f"exec python3 -uc '{IMPOSTOR}' >/tmp/impostor 2>&1")

    def told() -> str:
        return box.engine.docker("exec", box.name, "cat", "/tmp/impostor", check=False)

    eventually(lambda: told().count("answer") >= 3, what="three tries")
    assert "answer b''" in told() or "answer [Errno" in told()
    assert "it runs" not in box.logs()
    assert box.logs() == "wshd: whoever listens at the gate is not of the host; waiting for one who is\n"
    assert box.running


def test_the_boot_directory_cannot_be_written_inside(boxes: Boxes) -> None:
    box = boxes()
    box.start(*PROGRAM)
    for path in ("/.bailey/boot/gate", "/.bailey/wshd", "/.bailey/x"):
        assert box.run("sh", "-c", f"echo x > {path}").code == 2
    assert box.run("ls", "-A", "/.bailey/boot").stdout == b""


@pytest.mark.alone
def test_it_knocks_soon_and_gives_no_peace_to_the_host(boxes: Boxes) -> None:
    """The wait between tries doubles up to 250 ms: a late host is found soon, and asked seldom."""
    box = boxes()
    box.create(*PROGRAM)
    time.sleep(2)
    assert box.processor_ticks() <= 5
    start = time.monotonic()
    box.gate().accept()
    assert time.monotonic() - start < 0.5


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("kill -SEGV $$", 139),
    ],
)
def test_it_ends_as_its_program_does(boxes: Boxes, program: str, code: int) -> None:
    box = boxes()
    box.start("sh", "-c", program)
    assert box.wait() == code


@pytest.mark.parametrize(
    ("program", "code", "text", "number"),
    [
        ("/nowhere", 127, "executing /nowhere: No such file or directory", errno.ENOENT),
        ("nowhere", 127, "executing nowhere: No such file or directory", errno.ENOENT),
        ("/etc/passwd", 126, "executing /etc/passwd: Permission denied", errno.EACCES),
    ],
)
def test_a_program_that_does_not_start(boxes: Boxes, program: str, code: int, text: str, number: int) -> None:
    """The host is told instead of OPEN, and the log too."""
    box = boxes()
    box.create(program)
    assert box.let_in() == Error(ErrorCode.CANNOT_EXECUTE, text, errno=number)
    assert box.wait() == code
    assert box.logs() == f"wshd: {text}\n"


def test_a_program_without_a_process(boxes: Boxes) -> None:
    box = boxes()
    box.create("true", options=("--pids-limit=1",))
    answer = box.let_in()
    assert isinstance(answer, Error)
    assert "pids.max" in answer.text
    assert box.wait() == 125


def test_signals_from_outside_reach_the_programs_group(boxes: Boxes) -> None:
    box = boxes()
    child = "trap 'echo child; exit' USR1; echo up; while :; do sleep 0.1; done"
    box.start("sh", "-c", f'trap "echo parent; wait; exit 3" USR1; sh -c "{child}" & wait')
    eventually(lambda: "up" in box.logs())
    box.engine.docker("kill", "--signal=USR1", box.name)
    assert box.wait() == 3
    assert {"child", "parent"} <= set(box.logs().split())


def test_stop_from_outside_ends_the_instance(boxes: Boxes) -> None:
    box = boxes()
    box.start("sleep", "infinity")
    start = time.monotonic()
    box.engine.docker("stop", "--time=20", box.name)
    assert time.monotonic() - start < 5
    assert box.wait() == 143


def has_run(box: Box, times: int) -> bool:
    """Tell whether the program has said so many times that it runs."""
    return box.logs().count("it runs") == times


def test_a_restart_passes_the_gate_again(boxes: Boxes) -> None:
    box = boxes()
    box.start(*PROGRAM)
    eventually(lambda: box.logs() == "it runs\n")
    for times in (2, 3):
        restart = threading.Thread(target=box.engine.docker, args=("restart", "--time=5", box.name))
        restart.start()
        restart.join(30)
        time.sleep(0.3)
        assert box.logs().count("it runs") == times - 1
        box.open()
        eventually(partial(has_run, box, times))
        assert box.run("true").code == 0


def test_the_end_takes_everything_along_and_tells_the_sessions(boxes: Boxes) -> None:
    box = boxes()
    box.start("sh", "-c", "until [ -e /tmp/end ]; do sleep 0.05; done; exit 9")
    assert box.run("sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &").code == 0
    with Raw.to(box.control) as session, Raw.to(box.control) as silent:
        session.send(Exec((b"sleep", b"1000")))
        assert isinstance(session.frame(), Started)
        with contextlib.suppress(WshError):  # its own end may come late
            box.run("touch", "/tmp/end")
        assert session.rest() == [Error(ErrorCode.ENDING, "the instance ends")]
        assert silent.rest() == [Error(ErrorCode.ENDING, "the instance ends")]
    assert box.wait() == 9
    assert subprocess.run(["pgrep", "--uid", str(box.uid)], check=False).returncode == 1
