"""wsh against a wshd that is not to be trusted: every answer that a tenant could make it give.

Needs root. The stand-in is the first process of a pid namespace, as a container's would be.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.fixtures.wsh import RunDirectory, Terminal, state
from tests.integration.fixtures.wshd import eventually

pytest_plugins = ("tests.integration.fixtures.wshd", "tests.integration.fixtures.wsh")

# What a stand-in's scripts may use. Each connection is given to `answer`.
PRELUDE = """
import array, fcntl, os, pty, random, signal, socket, struct, sys, time
def frame(kind, payload=b"", version=1, length=None):
    return struct.pack("<IHH", len(payload) if length is None else length, kind, version) + payload
def field(tag, data):
    return struct.pack("<HHI", tag, 0, len(data)) + data
def error(code, text=b"no", *more):
    return frame(35, field(1, struct.pack("<I", code)) + field(2, text) + b"".join(more))
def send(c, data, *descriptors):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    c.sendmsg([data], rights)
STARTED, EXITED = frame(32, b"\\x07\\0\\0\\0"), frame(34, b"\\0\\0\\0\\0")
def pipes():
    (a, b), (c, d), (e, f) = os.pipe(), os.pipe(), os.pipe()
    return (b, c, e), (a, d, f)
def start(c):
    theirs, ours = pipes()
    send(c, STARTED, *theirs)
    for fd in theirs: os.close(fd)
    return ours
"""
SERVE = """
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(int(sys.argv[2]))
os.close(0)
while True:
    c, _ = listener.accept()
    c.recv(1 << 16)
    try: answer(c)
    except BrokenPipeError: pass
    finally: c.close()
"""
Impostor = Callable[..., RunDirectory]


@pytest.fixture
def impostor(run_directory: RunDirectory) -> Iterator[Impostor]:
    """Starts a wshd that answers as a script says, for the instance `web`."""
    processes: list[subprocess.Popen[bytes]] = []

    def begin(script: str, *, alone: bool = True, backlog: int = 16) -> RunDirectory:
        path = run_directory.path / "ctl/web.sock"
        namespace = ["unshare", "--pid", "--fork", "--kill-child"] if alone else []
        code = f"{PRELUDE}\ndef answer(c):\n    {script}\n{SERVE}"
        processes.append(subprocess.Popen([*namespace, sys.executable, "-c", code, str(path), str(backlog)]))
        eventually(path.exists, what="the stand-in")
        time.sleep(0.1)  # it listens right after that
        run_directory.write_state(state("web"))
        return run_directory

    yield begin
    for process in processes:
        process.kill()
        process.wait()


# Each ends the client with its own failure and one line, at once.
NONSENSE = {
    "nothing": "pass",
    "half a header": "send(c, b'\\4\\0\\0')",
    "half a frame": "send(c, STARTED[:10])",
    "noise": "send(c, random.Random(5).randbytes(5000))",
    "a huge frame": "send(c, frame(32, b'', length=0xffffffff))",
    "a long frame": "send(c, frame(32, b'x' * 4097))",
    "another version": "send(c, frame(32, b'\\7\\0\\0\\0', version=9), *pipes()[0])",
    "an unknown frame": "send(c, frame(999))",
    "an EXITED first": "send(c, EXITED)",
    "a PONG": "send(c, frame(33))",
    "no descriptors": "send(c, STARTED)",
    "one pipe": "send(c, STARTED, pipes()[0][0])",
    "two pipes": "send(c, STARTED, *pipes()[0][:2])",
    "too many descriptors": "send(c, STARTED, *pipes()[0], *pipes()[1])",
    "very many descriptors": "send(c, STARTED, *([pipes()[0][0]] * 250))",
    "pipes turned round": "send(c, STARTED, *pipes()[1])",
    "files": "f = os.open('/etc/passwd', os.O_RDWR); send(c, STARTED, f, f, f)",
    "paths": "f = os.open('/', os.O_PATH); send(c, STARTED, f, f, f)",
    "sockets": "a, b = socket.socketpair(); send(c, STARTED, a.fileno(), b.fileno(), b.fileno())",
    "a long STARTED": "send(c, frame(32, b'\\7\\0\\0\\0x'), *pipes()[0])",
    "an empty STARTED": "send(c, frame(32), *pipes()[0])",
    "an empty ERROR": "send(c, frame(35))",
    "an ERROR that overruns": "send(c, frame(35, b'\\1\\0\\0\\0\\xff\\xff\\xff\\xff'))",
    "an ERROR with NUL": "send(c, error(2, b'a\\0b'))",
    "version 0": "send(c, error(1, b'no', field(3, struct.pack('<I', 0))))",
    "version 7": "send(c, error(1, b'no', field(3, struct.pack('<I', 7))))",
    "two STARTED": "start(c); send(c, STARTED, *pipes()[0])",
    "noise later": "start(c); send(c, random.Random(6).randbytes(100))",
    "a huge frame later": "start(c); send(c, frame(34, b'', length=0xfffffff0))",
    "an odd EXITED": "start(c); send(c, frame(34, b'\\1\\xff\\0\\0'))",
    "a short EXITED": "start(c); send(c, frame(34, b'\\0'))",
    "descriptors with EXITED": "start(c); send(c, EXITED, *pipes()[0])",
    "an end without EXITED": "start(c)",
    "half an EXITED": "start(c); send(c, EXITED[:9])",
}


@pytest.mark.parametrize("script", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_costs_the_session_and_no_more(impostor: Impostor, script: str) -> None:
    start = time.monotonic()
    done = impostor(script).run("web", "--", "true")
    assert done.returncode == 125, done
    assert done.stderr.startswith("wsh: web: ")
    assert done.stderr.count("\n") == 1
    assert time.monotonic() - start < 5


def test_text_does_not_reach_the_terminal_as_it_is(impostor: Impostor) -> None:
    done = impostor(r"send(c, error(5, b'\x1b]0;owned\x07\x1b[2Jtext\r\n' + b'x' * 3000))").run("web", "--", "true")
    assert done.returncode == 125
    assert "?]0;owned??[2Jtext??xxx" in done.stderr
    assert done.stderr.isprintable() or done.stderr.rstrip("\n").isprintable()
    assert len(done.stderr) < 1100


def test_a_terminal_that_is_none(impostor: Impostor) -> None:
    for script in ("send(c, STARTED, pipes()[0][0])", "send(c, STARTED, pty.openpty()[1])", "start(c)"):
        run = impostor(script)
        done = run.run("-t", "web", "--", "true")
        assert (done.returncode, "what is no session" in done.stderr) == (125, True), done
        (run.path / "ctl/web.sock").unlink()


def test_silence_ends_by_itself(impostor: Impostor) -> None:
    start = time.monotonic()
    done = impostor("time.sleep(60)").run("web", "--", "true")
    assert 9.5 < time.monotonic() - start < 12
    assert (done.returncode, "does not answer; wsh --runtime web" in done.stderr) == (125, True)


def test_a_full_queue_ends_by_itself(impostor: Impostor) -> None:
    run = impostor("time.sleep(60)", backlog=0)
    held = [run.start("web", "--", "true", stderr=subprocess.DEVNULL) for _ in range(3)]
    time.sleep(0.2)
    start = time.monotonic()
    done = run.run("web", "--", "true")
    assert 9.0 < time.monotonic() - start < 12
    assert (done.returncode, "does not answer" in done.stderr) == (125, True)
    for process in held:
        process.wait()


def test_a_request_that_is_not_read_ends_by_itself(impostor: Impostor) -> None:
    start = time.monotonic()
    done = impostor("time.sleep(60)").run("web", "--", *(["x" * 100_000] * 15))
    assert 9.5 < time.monotonic() - start < 12
    assert done.returncode == 125


def test_a_session_that_never_ends_can_be_left(impostor: Impostor) -> None:
    with impostor("keep = start(c); time.sleep(60)").start("web", "--", "true", stdin=subprocess.PIPE) as wsh:
        time.sleep(0.3)
        assert wsh.poll() is None
        wsh.send_signal(signal.SIGINT)
        time.sleep(1.1)
        wsh.send_signal(signal.SIGINT)
        assert wsh.wait(5) == 130


def test_reads_that_could_block_do_not_hold_up_signals(impostor: Impostor) -> None:
    # The stand-in keeps the client's ends too, lets them block, and takes away what it has written itself.
    script = """theirs, ours = pipes(); send(c, STARTED, *theirs)
    for fd in theirs: fcntl.fcntl(fd, fcntl.F_SETFL, 0)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        os.write(ours[2], b'x'); os.set_blocking(theirs[2], False)
        try: os.read(theirs[2], 9)
        except BlockingIOError: pass
        os.set_blocking(theirs[2], True)"""
    with impostor(script).start("web", "--", "true", stdin=subprocess.PIPE, stderr=subprocess.PIPE) as wsh:
        time.sleep(1)
        for _ in range(3):
            wsh.send_signal(signal.SIGTERM)
            time.sleep(1.1)
            if wsh.poll() is not None:
                break
        else:
            wsh.kill()
        assert wsh.returncode == 128 + signal.SIGTERM


def test_output_without_end_goes_on_only_as_long_as_it_is_read(impostor: Impostor) -> None:
    script = "a, o, e = start(c); send(c, EXITED); [os.write(o, b'x' * 4096) for _ in range(1 << 30)]"
    start = time.monotonic()
    done = impostor(script).run("web", "--", "true", capture_output=False, stdout=subprocess.DEVNULL)
    assert done.returncode == 0
    assert time.monotonic() - start < 4


def test_the_terminal_is_put_back_whatever_comes(impostor: Impostor) -> None:
    for script in ("m, s = pty.openpty(); send(c, STARTED, m); time.sleep(0.5); send(c, b'noise, noise, noise')",):
        run = impostor(script)
        terminal = Terminal.open(run.argv("web"))
        try:
            terminal.await_raw()
            assert terminal.wait() == 125
            assert terminal.settings == terminal.before
        finally:
            terminal.close()


def test_an_impostor_that_is_no_first_process(impostor: Impostor) -> None:
    done = impostor("start(c); send(c, EXITED)", alone=False).run("web", "-e", "SECRET=1", "--", "true")
    assert done.returncode == 125
    assert "is not a container's PID 1" in done.stderr


def test_an_honest_session_with_the_stand_in(impostor: Impostor) -> None:
    done = impostor("i, o, e = start(c); os.write(o, os.read(i, 99)); send(c, frame(34, b'\\0\\5\\0\\0'))").run(
        "web", "--", "true", input="echo"
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, "echo", "")


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", '{"version": 1, "status": 7}', '"' * 70_000])
def test_state_files_that_make_no_sense(run_directory: RunDirectory, text: str) -> None:
    (run_directory.path / "state/web.json").write_text(text)
    done = run_directory.run("web", "--", "true")
    assert (done.returncode, "its state file cannot be read" in done.stderr) == (125, True), done
    listed = run_directory.run("ls")
    assert listed.returncode == 0
    assert listed.stdout.splitlines()[1].split() == ["web", "-", "unreadable", "-", "-", "0", "-"]


@pytest.mark.parametrize("content", [b"", b"\0", b"x" * 5000])
def test_prefixes_that_make_no_sense(run_directory: RunDirectory, content: bytes) -> None:
    run_directory.write_state(state("web"))
    (run_directory.path / "exec/web").write_bytes(content)
    done = run_directory.run("--runtime", "web", "--", "true")
    assert done.returncode == 125
    assert "exec/web: " in done.stderr


def test_the_prefix_is_followed_word_by_word(run_directory: RunDirectory, tmp_path: Path) -> None:
    script = tmp_path / "engine client"
    script.write_text('#!/bin/sh\nprintf "[%s]" "$@"\n')
    script.chmod(0o755)
    run_directory.write_state(state("web", container="c0ffee"))
    (run_directory.path / "exec/web").write_bytes(b"\0".join([os.fsencode(script), b"--host", b"a b", b""]))
    options = ("-u", "0", "-e", "A=b c", "-w", "/w", "-t")
    done = run_directory.run("--runtime", *options, "web", "--", "ls", "-l", "")
    words = "[--host][a b][exec][-i][-t][-u][0][-e][A=b c][-w][/w][c0ffee][ls][-l][]"
    assert (done.returncode, done.stdout) == (0, words)
    assert run_directory.run("logs", "-f", "--tail", "3", "web").stdout == "[--host][a b][logs][-f][--tail][3][c0ffee]"
    (run_directory.path / "state/web.json").unlink()
    assert run_directory.run("--runtime", "-T", "web").stdout == "[--host][a b][exec][-i][web][/bin/sh]"
    (run_directory.path / "exec/web").write_bytes(b"/no/such/engine")
    gone = run_directory.run("logs", "web")
    assert (gone.returncode, os.strerror(errno.ENOENT) in gone.stderr) == (125, True)
