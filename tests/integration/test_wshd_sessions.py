"""Sessions: what a program finds when it starts, how its end is told, and that nothing of the client's comes along.

Needs root, dockerd and musl-gcc.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from pathlib import Path

import pytest
from bailey.rlimits import Rlimit
from bailey.wsh.client import Command, run_all
from bailey.wsh.errors import CannotExecuteError
from bailey.wsh.protocol import Ended, Exec, Exited, Flags, Signal, Started, Target, encode

from tests.integration.fixtures.wshd import Box, Boxes, Raw, eventually

pytest_plugins = ("tests.integration.fixtures.wshd",)

NO_CAPABILITY = "0" * 16
SESSIONS = 1000


def status_of(text: bytes) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in text.decode().splitlines() if ":\t" in line)


def test_a_session_is_confined_as_the_instance(box: Box) -> None:
    status = status_of(box.run("cat", "/proc/self/status").stdout)
    assert status["Uid"].split() == [str(box.uid)] * 4
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {NO_CAPABILITY}
    assert (status["NoNewPrivs"], status["Seccomp"], status["PPid"]) == ("1", "2", "1")
    theirs = box.run("sh", "-c", "readlink /proc/self/ns/*; cat /proc/self/cgroup").stdout.decode().splitlines()
    ours = [str(path.readlink()) for path in sorted(Path(f"/proc/{box.pid}/ns").iterdir())]
    assert theirs[: len(ours)] == ours


def test_it_starts_with_fresh_signals_in_a_session_of_its_own(box: Box) -> None:
    status = status_of(box.run("cat", "/proc/self/status").stdout)
    assert {status[name] for name in ("SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd")} == {NO_CAPABILITY}
    code = "import os; print(os.getpid() == os.getsid(0) == os.getpgid(0))"
    assert box.python(code).stdout == b"True\n"


@pytest.mark.parametrize("flags", [Flags(0), Flags.TTY])
def test_only_its_own_streams_are_open(box: Box, flags: Flags) -> None:
    """While other sessions are open, and others begin: their descriptors are not to be seen either."""
    others = [Raw.to(box.control) for _ in range(20)]
    for other in others[:10]:
        other.send(Exec((b"sleep", b"100"), flags=flags | Flags.KILL_ON_DISCONNECT))
        assert isinstance(other.frame(), Started)
    with Raw.to(box.control) as raw:
        # A shell with nothing to do after it executes it; the colon keeps it, with its own descriptors.
        raw.send(Exec((b"sh", b"-c", b"ls -l /proc/$$/fd; :"), flags=flags))
        assert isinstance(raw.frame(), Started)
        assert raw.frame() == Exited(Ended.CODE, 0)
        listing = os.read(raw.descriptors[0 if flags else 1], 65536).decode()
    for other in others:
        other.close()
    opened = [line.split()[-3:] for line in listing.splitlines()[1:]]
    assert [name for name, _, _ in opened] == ["0", "1", "2"], listing
    kind = "/dev/pts/" if flags else "pipe:"
    assert all(target.startswith(kind) for _, _, target in opened), listing


def test_the_environment_lies_over_the_instances(box: Box) -> None:
    done = box.run("env", environment={"ADDED": "a=b", "FROM_IMAGE": "", "HOME": "/tmp"})
    lines = done.stdout.decode().splitlines()
    assert {"ADDED=a=b", "FROM_IMAGE=", "HOME=/tmp"} <= set(lines)
    assert sum(line.startswith(("FROM_IMAGE=", "HOME=")) for line in lines) == 2
    assert any(line.startswith("HOSTNAME=") for line in lines)
    assert b"FROM_IMAGE=kept" in box.run("env").stdout


def test_a_program_is_found_by_the_sessions_own_path(box: Box) -> None:
    make = "mkdir -p /tmp/bin; printf '#!/bin/sh\\necho mine' >/tmp/bin/mine; chmod +x /tmp/bin/mine"
    assert box.run("sh", "-c", make).code == 0
    assert box.run("mine", environment={"PATH": "/nowhere:/tmp/bin"}).stdout == b"mine\n"
    assert box.run("mine", environment={"PATH": ":/nowhere"}, directory="/tmp/bin").stdout == b"mine\n"
    assert box.run("./mine", directory="/tmp/bin").stdout == b"mine\n"
    with pytest.raises(CannotExecuteError, match="executing mine: No such file") as caught:
        box.run("mine")
    assert caught.value.errno == errno.ENOENT


def test_directory_umask_and_limits(box: Box) -> None:
    limits = {"nofile": Rlimit(100, 200), "core": Rlimit(0, 0)}
    script = "pwd; umask; ulimit -n; ulimit -Hn; ulimit -Hc"
    done = box.run("sh", "-c", script, directory="/usr/lib", umask=0o27, rlimits=limits)
    assert done.stdout.decode().split() == ["/usr/lib", "0027", "100", "200", "0"]
    assert box.run("sh", "-c", script).stdout.decode().split() == ["/", "0022", "1024", "8192", "unlimited"]


@pytest.mark.parametrize(
    ("argv", "options", "text", "number"),
    [
        (["/nowhere"], {}, "executing /nowhere", errno.ENOENT),
        (["/etc/passwd"], {}, "executing /etc/passwd", errno.EACCES),
        (["/tmp/text"], {}, "executing /tmp/text", errno.ENOEXEC),
        (["/usr"], {}, "executing /usr", errno.EACCES),
        (["true"], {"directory": "/nowhere"}, "changing to the directory /nowhere", errno.ENOENT),
        (["true"], {"directory": "/root"}, "changing to the directory /root", errno.EACCES),
        (["true"], {"rlimits": {"nofile": Rlimit(1, 9000)}}, "setting resource limit 7", errno.EPERM),
        (["true", "x" * (128 << 10)], {}, "executing true", errno.E2BIG),
    ],
)
def test_what_cannot_start_says_which_step_failed(
    box: Box, argv: list[str], options: dict[str, object], text: str, number: int
) -> None:
    assert box.run("sh", "-c", "echo no program >/tmp/text; chmod +x /tmp/text").code == 0
    with pytest.raises(CannotExecuteError, match=f"^{text}: {os.strerror(number)}$") as caught:
        box.run(*argv, **options)
    assert caught.value.errno == number


def test_many_and_long_arguments(box: Box) -> None:
    words = ["y" * ((128 << 10) - 1), *["w"] * 20_000]
    done = box.run("sh", "-c", 'echo "$#" "${#1}"', "sh", *words)
    assert done.stdout == f"{len(words)} {len(words[0])}\n".encode()
    environment = {f"NAME_{number}": "v" * 100 for number in range(2000)}
    assert box.run("sh", "-c", "env | grep -c ^NAME_", environment=environment).stdout == b"2000\n"
    assert box.run("printf", "%s", "", "ä", "\udcff", " ").stdout == "ä".encode() + b"\xff "


@pytest.mark.parametrize("code", [0, 1, 7, 126, 127, 255])
def test_exit_codes(box: Box, code: int) -> None:
    done = box.run("sh", "-c", f"exit {code}")
    assert (done.code, done.signal, done.oom) == (code, None, False)


@pytest.mark.parametrize("name", ["HUP", "KILL", "SEGV", "TERM", "USR1"])
def test_deaths_by_signal(box: Box, name: str) -> None:
    done = box.run("sh", "-c", f"kill -{name} $$")
    assert (done.code, done.signal, done.oom) == (None, getattr(signal, f"SIG{name}"), False)


def test_streams_are_apart_and_input_ends(box: Box) -> None:
    done = box.run("sh", "-c", "cat; echo error >&2", stdin=b"input\n" * 100_000)
    assert done.stdout == b"input\n" * 100_000
    assert done.stderr == b"error\n"
    assert box.run("cat").code == 0


def test_output_goes_on_after_input_has_ended(box: Box) -> None:
    done = box.run("sh", "-c", "cat; sleep 0.3; echo after", stdin=b"before\n")
    assert done.stdout == b"before\nafter\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL, 34, 64])
@pytest.mark.parametrize("target", Target)
def test_a_signal_that_comes_with_the_request_is_not_lost(box: Box, number: int, target: Target) -> None:
    """It is sent before the child has made its own process group, or set its signals to rights."""
    for _ in range(20):
        with Raw.to(box.control) as raw:
            raw.send(Exec((b"sleep", b"1000")), Signal(number, target))
            assert isinstance(raw.frame(), Started)
            assert raw.rest() == [Exited(Ended.SIGNAL, number)]


def test_signals_to_the_program_and_to_its_group(box: Box) -> None:
    child = "trap 'echo child; exit' USR1; echo up; while :; do sleep 0.1; done"
    script = f"""trap 'echo parent' USR1; sh -c "{child}" & wait; wait""".encode()
    for target, both in ((Target.PROGRAM, False), (Target.GROUP, True)):
        with Raw.to(box.control) as raw:
            raw.send(Exec((b"sh", b"-c", script)))
            assert isinstance(raw.frame(), Started)
            assert os.read(raw.descriptors[1], 100) == b"up\n"
            raw.send(Signal(signal.SIGUSR1, target))
            time.sleep(0.5)
            said = os.read(raw.descriptors[1], 100).split()
            assert b"parent" in said
            assert (b"child" in said) is both
            raw.send_bytes(encode(Signal(signal.SIGKILL, Target.GROUP)))
            assert isinstance(raw.rest()[-1], Exited)


def test_signals_race_with_the_end(box: Box) -> None:
    """A program may be gone, or reaped, when its signal comes: whoever has its number now is not to get it."""
    for _ in range(300):
        with Raw.to(box.control) as raw:
            raw.send(Exec((b"true",)), *[Signal(signal.SIGTERM, Target.GROUP)] * 2)
            assert isinstance(raw.frame(), Started)
            (last,) = raw.rest()
            assert last in (Exited(Ended.CODE, 0), Exited(Ended.SIGNAL, signal.SIGTERM))
    assert box.run("true").code == 0


@pytest.mark.parametrize("kill", [True, False])
def test_the_end_of_the_connection(box: Box, kill: bool) -> None:
    """A whole session dies: what has left its process group or its session too, as long as a parent ties it."""
    mark = f"{1000 + kill}"
    script = f"sleep {mark} & setsid sh -c 'sleep {mark} & setsid sleep {mark} & wait' & wait"
    with Raw.to(box.control) as raw:
        raw.send(Exec((b"sh", b"-c", script.encode()), flags=Flags.KILL_ON_DISCONNECT if kill else Flags(0)))
        assert isinstance(raw.frame(), Started)

        def alive() -> int:
            return sum(line == f"sleep {mark}" for line in box.processes())

        eventually(lambda: alive() == 3)
    if kill:
        eventually(lambda: alive() == 0)
    else:
        time.sleep(0.3)
        assert alive() == 3
        box.run("pkill", "-f", f"sleep {mark}")


def test_a_timeout_kills_the_session(box: Box) -> None:
    done = box.run("sh", "-c", "echo begun; setsid sleep 1234 & sleep 1234", timeout=1.0)
    assert done.timed_out
    assert done.stdout == b"begun\n"
    eventually(lambda: not any("sleep 1234" in line for line in box.processes()))


def test_a_grandchild_that_keeps_the_output_holds_nobody_up(box: Box) -> None:
    start = time.monotonic()
    done = box.run("sh", "-c", "sleep 5 & echo done")
    assert done.stdout == b"done\n"
    assert time.monotonic() - start < 3


def test_no_byte_is_lost_after_a_fast_exit(box: Box) -> None:
    script = "head -c 60000 /dev/zero; head -c 1000 /dev/zero >&2"
    outcomes = run_all([(box.client, Command(["sh", "-c", script]))] * 100)
    for done in outcomes:
        assert not isinstance(done, Exception), done
        assert (done.code, len(done.stdout), len(done.stderr)) == (0, 60_000, 1_000)


def test_a_thousand_sessions_at_once(box: Box) -> None:
    """All run at the same time: each waits for its input to end, which comes when the last one has begun."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    raws: list[Raw] = []
    try:
        for number in range(SESSIONS):
            raws.append(Raw.to(box.control))
            raws[-1].send(Exec((b"cat", b"-", b"/etc/hostname"), environment=(f"NUMBER={number}".encode(),)))
        for raw in raws:
            assert isinstance(raw.frame(), Started)
        assert box.client.ping().sessions == SESSIONS
        for raw in raws:
            os.close(raw.descriptors.pop(0))
        for raw in raws:
            assert raw.rest() == [Exited(Ended.CODE, 0)]
            assert len(os.read(raw.descriptors[0], 100)) == 13
    finally:
        for raw in raws:
            raw.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    eventually(lambda: box.client.ping().sessions == 0)
    assert len(box.descriptors()) < 15


def test_fifty_megabytes_each_way_with_a_slow_reader(box: Box) -> None:
    """What is not read waits in the pipes, in the container: neither wshd nor the client holds more than those."""
    size, read = 50 << 20, 0
    with Raw.to(box.control) as raw:
        raw.send(Exec((b"cat",)))
        assert isinstance(raw.frame(), Started)
        to, back, _ = raw.descriptors
        os.set_blocking(to, False)
        left, block = size, os.urandom(1 << 16)
        while read < size:
            try:
                while left:
                    left -= os.write(to, block[: min(left, len(block))])
                    if not left:
                        os.close(raw.descriptors.pop(0))
            except BlockingIOError:
                pass
            if read % (8 << 20) < 1 << 16:
                time.sleep(0.1)
            read += len(os.read(back, 1 << 16))
        assert os.read(back, 1) == b""
        assert raw.rest() == [Exited(Ended.CODE, 0)]
    assert read == size
    assert box.resident_kb() < 400


def test_memory_that_runs_out_is_told(boxes: Boxes) -> None:
    box = boxes()
    box.start("sleep", "infinity", options=("--memory=64m", "--memory-swap=64m"))
    greedy = "x = []\nwhile True: x.append(b'x' * (1 << 20))"
    for _ in range(2):
        done = box.python(greedy)
        assert (done.code, done.signal, done.oom) == (None, 9, True)
    done = box.run("sh", "-c", "kill -KILL $$")
    assert (done.signal, done.oom) == (9, False)
    with Raw.to(box.control) as raw:
        raw.send(Exec((b"sleep", b"100")))
        assert isinstance(raw.frame(), Started)
        box.run("sh", "-c", f'python3 -c "{greedy}"; true')
        raw.send(Signal(signal.SIGKILL))
        assert raw.rest() == [Exited(Ended.SIGNAL, 9)]
    assert box.running


def test_the_kernel_takes_children_before_the_first_process(box: Box) -> None:
    score = int(Path(f"/proc/{box.pid}/oom_score_adj").read_text())
    for pid in Path(f"/proc/{box.pid}/task/{box.pid}/children").read_text().split():
        assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == score + 100
    assert int(box.run("cat", "/proc/self/oom_score_adj").stdout) == score + 100


def test_a_ping_tells_the_build_and_the_sessions(box: Box) -> None:
    pong = box.client.ping()
    assert pong.version
    assert pong.sessions == 0
