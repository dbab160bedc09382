"""wsh, the operator's client: commands, their streams and their ends, in real containers.

Needs root and dockerd.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.fixtures.wsh import Instance, RunDirectory, build
from tests.integration.fixtures.wshd import eventually

pytest_plugins = ("tests.integration.fixtures.wshd", "tests.integration.fixtures.wsh")

BULK = 50 << 20
# wsh's buffers are 64 KiB each; all that it maps is less than this, whatever passes through it.
MEMORY_KIB = 1024


def peak_memory(pid: int) -> int:
    """Return a process's largest resident set, in KiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


@pytest.mark.parametrize(
    ("script", "code", "stderr"),
    [
        ("exit 0", 0, ""),
        ("exit 7", 7, ""),
        ("exit 255", 255, ""),
        ("kill -TERM $$", 143, ""),
        ("kill -KILL $$", 137, ""),
        ("exec /no/such/program", 127, "sh: 1: exec: /no/such/program: not found\n"),
    ],
)
def test_exits_as_the_command_did(web: Instance, script: str, code: int, stderr: str) -> None:
    done = web.run("sh", "-c", script)
    assert (done.returncode, done.stderr) == (code, stderr)


def test_what_cannot_be_executed(web: Instance) -> None:
    missing, directory = web.run("/no/such"), web.run("/etc")
    assert (missing.returncode, directory.returncode) == (127, 126)
    assert re.fullmatch(r"wsh: web: .*/no/such: No such file or directory\n", missing.stderr)
    assert re.fullmatch(r"wsh: web: .*/etc: Permission denied\n", directory.stderr)
    nowhere = web.run("true", options=("-w", "/no/where"))
    assert nowhere.returncode == 127
    assert "/no/where" in nowhere.stderr


def test_a_command_killed_for_memory(web: Instance) -> None:
    done = web.run("python3", "-c", "b = bytearray(1 << 30)")
    assert (done.returncode, done.stderr) == (137, "wsh: web: killed for memory\n")


def test_environment_directory_umask_and_rlimits(web: Instance) -> None:
    script = 'echo "$FROM_IMAGE,$A,$B"; pwd; umask; ulimit -Sn; ulimit -Hn; ulimit -c'
    options = ("-e", "A=one two", "--env=B=x=y", "-w", "/tmp", "--umask", "027", "--rlimit", "nofile=64:128")
    done = web.run("sh", "-c", script, options=(*options, "--rlimit=core=0"))
    assert done.stdout.splitlines() == ["kept,one two,x=y", "/tmp", "0027", "64", "128", "0"]
    assert web.run("sh", "-c", "echo $FROM_IMAGE", options=("-e", "FROM_IMAGE=changed")).stdout == "changed\n"


def test_options_may_stand_before_the_name(web: Instance) -> None:
    done = web.directory.run("-e", "A=1", "web", "-e", "B=2", "--", "sh", "-c", "echo $A$B")
    assert done.stdout == "12\n"


def test_without_a_command_there_is_a_shell(web: Instance) -> None:
    done = web.directory.run("web", input="echo $0; tty; exit 5\n")
    assert (done.returncode, done.stdout) == (5, "/bin/sh\nnot a tty\n")


def test_long_arguments(web: Instance) -> None:
    words = ["x" * 100_000] * 15
    assert web.run("sh", "-c", 'echo "$#"', "sh", *words).stdout == "15\n"
    refused = web.run("true", *["x" * 120_000] * 40) if os.sysconf("SC_ARG_MAX") > 5 << 20 else None
    assert refused is None or "longer than 4 MiB" in refused.stderr


def test_output_and_errors_are_separate(web: Instance) -> None:
    done = web.run("sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_the_end_of_stdin_arrives(web: Instance) -> None:
    done = web.run("sh", "-c", "cat; echo after", input="before\n")
    assert done.stdout == "before\nafter\n"


def test_a_command_may_close_its_stdin(web: Instance) -> None:
    with web.start("sh", "-c", "exec <&-; sleep 0.5; echo done", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as wsh:
        assert wsh.stdin is not None
        assert wsh.stdout is not None
        written = 0
        with contextlib.suppress(BrokenPipeError):  # as any writer learns it in a pipeline
            while written < BULK:
                written += os.write(wsh.stdin.fileno(), b"x" * 4096)
        assert written < BULK
        assert wsh.stdout.read() == b"done\n"
        with contextlib.suppress(BrokenPipeError):
            wsh.stdin.close()
    assert wsh.returncode == 0


def test_every_byte_passes_both_ways(web: Instance) -> None:
    data = bytes(range(256)) * 1000
    assert web.run("cat", input=data, text=False).stdout == data


@pytest.mark.parametrize(
    "line",
    ["cat {source} | {copy} | cat >{target}", "{copy} <{source} >{target}", "{copy} <{source} >>{target}"],
    ids=["pipes", "files", "appended"],
)
def test_streams_of_every_kind(web: Instance, tmp_path: Path, line: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(300_000))
    copy = " ".join(map(str, web.directory.argv("web", "--", "cat")))
    subprocess.run(["sh", "-c", line.format(source=source, target=target, copy=copy)], check=True, timeout=30)
    assert target.read_bytes() == source.read_bytes()


def test_sockets_as_streams(web: Instance) -> None:
    data, got = os.urandom(3_000_000), b""
    ours, theirs = socket.socketpair()

    def send() -> None:
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)

    with theirs:
        wsh = web.start("cat", stdin=theirs, stdout=theirs)
    with ours, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(send)
        while part := ours.recv(65536):
            got += part
        sent.result()
    assert (wsh.wait(10), got == data) == (0, True)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_do_no_harm(web: Instance, closed: str) -> None:
    command = " ".join(map(str, web.directory.argv("web", "--", "true")))
    assert subprocess.run(["sh", "-c", f"{command} {closed}"], check=False, timeout=30).returncode == 0


def test_bulk_to_a_slow_reader_in_bounded_memory(web: Instance) -> None:
    command = ("sh", "-c", f"head -c {BULK} /dev/zero | tr '\\0' a")
    with web.start(*command, stdout=subprocess.PIPE) as wsh:
        assert wsh.stdout is not None
        total, pauses = 0, 0
        while data := os.read(wsh.stdout.fileno(), 1 << 20):
            assert data.count(b"a") == len(data)
            total += len(data)
            if total > pauses * (BULK // 20):
                pauses += 1
                time.sleep(0.02)
                memory = peak_memory(wsh.pid)
    assert (wsh.returncode, total) == (0, BULK)
    assert memory < MEMORY_KIB


def test_bulk_to_a_slow_command_in_bounded_memory(web: Instance, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1 << 20) * (BULK >> 20))
    slow = (
        "import hashlib, os, sys, time\ntotal = hashlib.sha256()\n"
        "while data := os.read(0, 1 << 20):\n    total.update(data); time.sleep(0.0005)\nprint(total.hexdigest())"
    )
    with source.open("rb") as stream, web.start("python3", "-c", slow, stdin=stream, stdout=subprocess.PIPE) as wsh:
        assert wsh.stdout is not None
        time.sleep(0.3)
        memory = peak_memory(wsh.pid)
        assert wsh.stdout.read().decode().strip() == hashlib.sha256(source.read_bytes()).hexdigest()
    assert wsh.returncode == 0
    assert memory < MEMORY_KIB


def test_fast_ends_lose_no_byte(web: Instance) -> None:
    for number in range(100):
        done = web.run("sh", "-c", f"head -c 50000 /dev/zero; echo {number}; echo e{number} >&2", text=False)
        assert done.stdout == bytes(50000) + b"%d\n" % number
        assert done.stderr == b"e%d\n" % number


def test_a_reader_that_goes_ends_it_like_a_filter(web: Instance) -> None:
    with web.start("yes", stdout=subprocess.PIPE) as wsh:
        assert wsh.stdout is not None
        assert wsh.stdout.read(2) == b"y\n"
        wsh.stdout.close()
        assert wsh.wait(10) == 128 + signal.SIGPIPE
    with web.start("sh", "-c", "sleep 0.5; echo late; echo $? >/tmp/late", stdout=subprocess.PIPE) as wsh:
        assert wsh.stdout is not None
        wsh.stdout.close()  # before there is anything to read
        assert wsh.wait(10) == 128 + signal.SIGPIPE


def test_output_that_cannot_be_written_is_a_failure(web: Instance) -> None:
    with Path("/dev/full").open("wb") as full:
        done = web.run("echo", "lost", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 125
    assert "the output cannot be written: No space left on device" in done.stderr


@pytest.mark.alone
def test_a_grandchild_that_holds_the_pipes_is_waited_for_briefly(web: Instance) -> None:
    for script, least, most in (("sleep 60 & echo x", 0.1, 1.0), ("(while :; do echo x; sleep .05; done) &", 2.0, 3.0)):
        start = time.monotonic()
        done = web.run("sh", "-c", script)
        assert done.stdout.startswith("x\n")
        assert least <= time.monotonic() - start < most
    web.shell("pkill -f 'sleep 60'; pkill -f 'while :'")


@pytest.fixture
def waiting(web: Instance) -> Iterator[subprocess.Popen[bytes]]:
    """A command that tells which signals come, until USR2 ends it.

    It sleeps again and again: pause(2) would not end for a signal that came just before it.
    """
    script = (
        "import os, signal, time\n"
        "def tell(number, _):\n    os.write(1, f'{number}\\n'.encode())\n    number == signal.SIGUSR2 and os._exit(3)\n"
        "for n in (1, 2, 3, 10, 12, 15): signal.signal(n, tell)\n"
        "os.write(1, b'ready\\n')\nwhile True: time.sleep(.05)"
    )
    wsh = web.start("python3", "-c", script, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert wsh.stdout is not None
    assert wsh.stdout.readline() == b"ready\n"
    yield wsh
    wsh.kill()
    wsh.communicate()
    web.shell("pkill -f time.sleep")


def test_signals_are_forwarded(waiting: subprocess.Popen[bytes]) -> None:
    assert waiting.stdout is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGTERM):
        waiting.send_signal(number)
        assert waiting.stdout.readline() == b"%d\n" % number
        time.sleep(1.1 if number == signal.SIGHUP else 0)  # what has answered may be signalled again
    waiting.send_signal(signal.SIGUSR2)
    assert waiting.wait(10) == 3


def test_a_second_signal_ends_wsh_where_nothing_answers(web: Instance) -> None:
    with web.start("sh", "-c", "trap '' INT; echo ready; sleep 30", stdout=subprocess.PIPE) as wsh:
        assert wsh.stdout is not None
        assert wsh.stdout.readline() == b"ready\n"
        wsh.send_signal(signal.SIGINT)
        wsh.send_signal(signal.SIGINT)  # as timeout(1) does, to the process and to its group
        time.sleep(1.2)
        assert wsh.poll() is None
        wsh.send_signal(signal.SIGINT)
        assert wsh.wait(5) == 128 + signal.SIGINT
    web.shell("pkill -9 -f 'sleep 30'")


def test_ignored_signals_stay_ignored(web: Instance) -> None:
    command = " ".join(map(str, web.directory.argv("web", "--", "sleep", "1")))
    done = subprocess.run(["sh", "-c", f"trap '' HUP; {command} & kill -HUP $!; wait $!"], check=False, timeout=30)
    assert done.returncode == 0


@pytest.mark.parametrize("options", [(), ("--kill-on-disconnect",)])
def test_disconnecting(web: Instance, options: tuple[str, ...]) -> None:
    wsh = web.start("sh", "-c", "sleep 7654 & echo ready; wait", options=options, stdout=subprocess.PIPE)
    assert wsh.stdout is not None
    assert wsh.stdout.readline() == b"ready\n"
    wsh.kill()
    wsh.communicate()
    if options:
        eventually(lambda: "sleep 7654" not in web.box.processes(), 5)
    else:
        time.sleep(0.3)
        assert "sleep 7654" in web.box.processes()
        web.shell("pkill -f 'sleep 7654'")


def test_the_instances_own_user_needs_no_detour(web: Instance) -> None:
    uid = web.box.uid
    for user in (f"{uid}", f"{uid}:{uid}"):
        done = web.run("id", "-u", options=("-u", user))
        assert (done.stdout, done.stderr) == (f"{uid}\n", "")


def test_another_user_goes_through_the_runtime_and_says_so(web: Instance) -> None:
    done = web.run("sh", "-c", "id -u; echo $A; pwd", options=("-u", "root", "-e", "A=1", "-w", "/tmp"))
    assert done.stdout == "0\n1\n/tmp\n"
    assert "root is not its own user: the session goes through the container runtime" in done.stderr
    refused = web.run("true", options=("-u", "root", "--umask", "022"))
    assert (refused.returncode, "do not go through the runtime" in refused.stderr) == (125, True)


def test_the_runtime_serves_where_the_first_process_is_stopped(web: Instance) -> None:
    first = web.box.pid
    assert first > 1
    os.kill(first, signal.SIGSTOP)
    try:
        start = time.monotonic()
        wedged = web.run("true")
        assert 9.5 < time.monotonic() - start < 12
        assert (wedged.returncode, "does not answer; wsh --runtime web" in wedged.stderr) == (125, True)
        done = web.directory.run("--runtime", "web", "--", "sh", "-c", "cat; id -u; exit 4", input="in\n")
        assert (done.returncode, done.stdout) == (4, f"in\n{web.box.uid}\n")
    finally:
        os.kill(first, signal.SIGCONT)
    assert web.run("true").returncode == 0


def test_logs(web: Instance) -> None:
    assert web.directory.run("logs", "web").stdout == "started\n"
    assert web.directory.run("logs", "web", "--tail", "0").stdout == ""
    with web.directory.start("logs", "-f", "web", stdout=subprocess.PIPE) as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == b"started\n"
        assert not select.select([logs.stdout], [], [], 0.5)[0]  # it follows
        logs.terminate()


def test_a_client_of_the_next_version_speaks_this_one(web: Instance, tmp_path: Path) -> None:
    build(tmp_path, "wsh", flags="-O1 -DPROTOCOL_VERSION=2")
    newer = RunDirectory(web.directory.path, tmp_path / "wsh")
    assert newer.run("--version").stdout.endswith("protocol 2\n")
    done = newer.run("web", "--", "sh", "-c", "cat; exit 6", input="hello")
    assert (done.returncode, done.stdout, done.stderr) == (6, "hello", "")
    build(tmp_path / "later", "wsh", flags="-O1 -DPROTOCOL_VERSION=3")
    refused = RunDirectory(web.directory.path, tmp_path / "later/wsh").run("web", "--", "true")
    assert refused.returncode == 125
    assert "speaks version 1 of the protocol, this wsh speaks 3" in refused.stderr


def test_a_long_run_directory(web: Instance, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / "run"
    deep.parent.mkdir()
    deep.symlink_to(web.directory.path)
    assert RunDirectory(deep, web.directory.wsh).run("web", "--", "echo", "here").stdout == "here\n"
