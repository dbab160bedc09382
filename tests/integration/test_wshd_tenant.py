"""What a tenant's process can do to the first process of its container, which runs as the same user: nothing.

Most attacks run twice, once without the seccomp filter: it would stop some of them by itself.
Needs root, dockerd and musl-gcc.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bailey.wsh.client import Command, run_all
from bailey.wsh.errors import SessionError
from bailey.wsh.protocol import Ended, Error, ErrorCode, Exec, Exited, Flags, Signal, Started, Target, encode

from tests.integration.fixtures.wshd import Box, Boxes, Raw, eventually

pytest_plugins = ("tests.integration.fixtures.wshd",)

# The program writes down each signal that reaches it, and goes on.
WITNESS = """
import signal, time
def witness(number, frame):
    print("got", number, flush=True)
for number in range(1, 65):
    try:
        signal.signal(number, witness)
    except (OSError, ValueError):
        pass
print("up", flush=True)
while True:
    time.sleep(1)
"""
# libc, and system calls by their x86-64 numbers; each answer is 0 or -errno.
PRELUDE = """
import ctypes, fcntl, os, resource, signal, socket, struct, time
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    words = [argument if isinstance(argument, bytes) else ctypes.c_long(argument) for argument in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    return result if result >= 0 else -ctypes.get_errno()
def siginfo(number, code, pid=0, uid=0):
    return struct.pack("<iiiiii", number, 0, code, 0, pid, uid).ljust(128, b"\\0")
"""
EPERM, EACCES = 1, 13


@pytest.fixture(scope="module", params=[True, False], ids=["filtered", "unfiltered"])
def tenant(request: pytest.FixtureRequest, lasting_boxes: Boxes) -> Box:
    """A box whose program tells what signals it gets, with and without the filter of system calls."""
    box = lasting_boxes()
    box.start("python3", "-c", WITNESS, options=("--pids-limit=300",), filtered=request.param)
    eventually(lambda: "up" in box.logs())
    return box


@contextmanager
def unharmed(box: Box) -> Iterator[None]:
    """The first process is the same one afterwards, serves, and its program has seen no signal."""
    pid, logs = box.pid, box.logs()
    yield
    assert box.client.ping()
    assert box.run("true").code == 0
    assert box.pid == pid
    assert box.logs() == logs


def attack(box: Box, code: str) -> str:
    done = box.python(PRELUDE + code)
    assert done.code == 0, done.stderr.decode()
    return done.stdout.decode()


def test_every_signal_by_kill(tenant: Box) -> None:
    with unharmed(tenant):
        attack(tenant, "for number in range(1, 65): os.kill(1, number)")
        before = tenant.processor_ticks()
        time.sleep(0.5)
        assert tenant.processor_ticks() - before <= 1, "it spins"


def test_every_signal_by_other_calls(tenant: Box) -> None:
    """tgkill, pidfd_send_signal, and sigqueue with a sender of 0: with a code of the kernel's it is refused."""
    code = """
for number in range(1, 65):
    call(234, 1, 1, number)                               # tgkill
    call(200, 1, number)                                  # tkill
    call(129, 1, number, siginfo(number, -1))             # rt_sigqueueinfo, SI_QUEUE
    call(297, 1, 1, number, siginfo(number, -60))         # rt_tgsigqueueinfo, SI_ASYNCNL
    for forged in (0, 0x80, -6):                          # SI_USER, SI_KERNEL, SI_TKILL
        assert call(129, 1, number, siginfo(number, forged)) == -1
        assert call(297, 1, 1, number, siginfo(number, forged)) == -1
    pidfd = call(434, 1, 0)
    call(424, pidfd, number, 0, 0)                        # pidfd_send_signal
    call(424, pidfd, number, siginfo(number, -1), 0)
    os.close(pidfd)
"""
    with unharmed(tenant):
        attack(tenant, code)


def test_signals_that_the_kernel_sends_for_a_tenant(tenant: Box) -> None:
    """As the owner of a socket PID 1 gets SIGIO and SIGURG, or what F_SETSIG (10) names."""
    code = """
for number in (0, signal.SIGTERM, signal.SIGKILL, 40):
    ends = socket.socketpair()
    fcntl.fcntl(ends[0], fcntl.F_SETOWN, 1)
    fcntl.fcntl(ends[0], 10, number)
    fcntl.fcntl(ends[0], fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    ends[1].send(b"x")
"""
    with unharmed(tenant):
        attack(tenant, code)


def test_a_signal_stripped_of_its_sender_does_no_more_than_the_tenant_could(boxes: Boxes) -> None:
    """With a full queue, sigqueue's signal looks like one from outside: it goes to the tenant's own program."""
    box = boxes()
    box.start("python3", "-c", WITNESS, options=("--ulimit=sigpending=50:50",))
    eventually(lambda: "up" in box.logs())
    code = """
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
while call(129, os.getpid(), 40, siginfo(40, -1)) == 0:
    pass
print(call(129, 1, 15, siginfo(15, -1)))
"""
    assert attack(box, code) == "0\n"
    eventually(lambda: "got 15" in box.logs())
    assert box.client.ping()
    assert box.running


def test_its_memory_and_descriptors(tenant: Box) -> None:
    code = """
print(call(101, 16, 1, 0, 0), call(101, 0x4206, 1, 0, 0))                # ptrace: ATTACH, SEIZE
space = ctypes.create_string_buffer(8)
parts = [struct.pack("<QQ", where, 8) for where in (ctypes.addressof(space), 0x10000)]
print(call(310, 1, parts[0], 1, parts[1], 1, 0))                         # process_vm_readv
print(call(438, call(434, 1, 0), 3, 0))                                  # pidfd_getfd
"""
    with unharmed(tenant):
        results = [int(word) for word in attack(tenant, code).split()]
        assert set(results) <= {-EPERM}, results
        for name in ("mem", "maps", "environ", "fd", "fdinfo", "exe", "root", "cwd", "ns", "auxv", "syscall", "stack"):
            reading = f"cat /proc/1/{name}" if name in ("mem", "maps", "environ", "auxv", "syscall", "stack") else ""
            done = tenant.run("sh", "-c", reading or f"ls /proc/1/{name}/ || readlink /proc/1/{name}")
            assert done.stdout == b"", name
            assert done.code != 0 or name in ("environ", "auxv"), name  # these two are read as empty
        assert tenant.run("sh", "-c", "echo 1000 >/proc/1/oom_score_adj").code != 0
        assert tenant.run("sh", "-c", "echo x >/proc/1/mem").code != 0


def test_its_limits(boxes: Boxes) -> None:
    """Two processes of one user may change each other's limits; only the filter is in the way of that."""
    box = boxes()
    box.start("sleep", "infinity")
    code = """
for name in ("NOFILE", "AS", "CPU", "NPROC", "SIGPENDING", "STACK", "FSIZE"):
    try:
        resource.prlimit(1, getattr(resource, "RLIMIT_" + name), (1, 1))
        print("changed", name)
    except PermissionError:
        pass
    resource.prlimit(1, getattr(resource, "RLIMIT_" + name))
print(call(302, 0x100000001, 7, struct.pack("<QQ", 1, 1), 0))            # what the kernel reads as 1
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    with unharmed(box):
        assert attack(box, code) == "-1\n(100, 100)\n"


def test_a_stopped_child_hangs_nobody(boxes: Boxes) -> None:
    """A tenant stops children of wshd between fork and exec, by guessing their numbers."""
    box = boxes()
    stopper = """
import os, signal
while True:
    last = int(open("/proc/loadavg").read().split()[4])
    for pid in range(last + 1, last + 4):
        try:
            os.kill(pid, signal.SIGSTOP)
        except OSError:
            pass
"""
    box.start("python3", "-c", stopper)
    stopped = 0
    for _ in range(30):
        start = time.monotonic()
        with Raw.to(box.control) as raw, Raw.to(box.control) as other:
            raw.send(Exec((b"true",), flags=Flags.KILL_ON_DISCONNECT))
            other.send(Exec((b"true",)))
            started = raw.frame()
            assert isinstance(started, Started)
            assert isinstance(other.frame(), Started)
            assert box.client.ping()
            states = {one: state_of(box, one) for one in (started.pid,)}
            stopped += "T" in states.values()
            for one in (raw, other):
                one.send_bytes(encode(Signal(signal.SIGKILL, Target.GROUP)))
                (last,) = one.rest()  # with the connection's end, though a stopped child may hold its socket
                assert last in (Exited(Ended.SIGNAL, 9), Exited(Ended.CODE, 0))
        assert time.monotonic() - start < 5
    assert stopped
    assert box.running


def state_of(box: Box, inside: int) -> str:
    """Return the state of a process by its number inside: T is stopped."""
    for pid in Path(f"/proc/{box.pid}/task/{box.pid}/children").read_text().split():
        text = Path(f"/proc/{pid}/status").read_text()
        if f"NSpid:\t{pid}\t{inside}\n" in text:
            return text.split("State:\t")[1][0]
    return ""


def test_the_dead_are_reaped(tenant: Box) -> None:
    """Orphans, and siblings that CLONE_PARENT gives to PID 1."""
    code = """
for _ in range(2000):
    if not os.fork():
        if not os.fork():
            os._exit(0)
        os._exit(0)
    os.wait()
for _ in range(100):
    if call(56, 0x8000 | 17, 0, 0, 0, 0) == 0:                           # clone(CLONE_PARENT | SIGCHLD)
        os._exit(0)
"""
    with unharmed(tenant):
        attack(tenant, code)
        eventually(lambda: zombies(tenant) == 0)


def zombies(box: Box) -> int:
    listing = subprocess.run(["ps", "-o", "stat=", "--ppid", str(box.pid)], capture_output=True, text=True, check=False)
    return listing.stdout.count("Z")


BOMB = """
import os, time
while True:
    try:
        if not os.fork():
            time.sleep(0.001)
    except OSError:
        pass
"""


@pytest.mark.parametrize("option", ["--pids-limit=40", "--ulimit=nproc=40:40"])
def test_a_fork_bomb_costs_its_instance_new_sessions_only(boxes: Boxes, option: str) -> None:
    box = boxes()
    box.start("python3", "-c", BOMB, options=(option,))
    refused: list[SessionError] = []

    def is_refused() -> bool:
        refused.extend(
            outcome for outcome in run_all([(box.client, Command(["true"]))]) if isinstance(outcome, SessionError)
        )
        return bool(refused)

    eventually(is_refused)
    assert refused[0].code == ErrorCode.NO_PROCESS
    assert "pids.max" in str(refused[0])
    assert box.client.ping()
    start = time.monotonic()
    box.engine.docker("kill", "--signal=KILL", box.name)
    assert box.wait() == 137
    assert time.monotonic() - start < 10


def test_a_fork_bomb_can_be_stopped(boxes: Boxes) -> None:
    box = boxes()
    box.start("python3", "-c", BOMB, options=("--pids-limit=40",))
    time.sleep(0.5)
    start = time.monotonic()
    box.engine.docker("stop", "--time=5", box.name)
    assert time.monotonic() - start < 15
    assert not box.running


def test_a_bomb_in_a_session_dies_with_it(boxes: Boxes) -> None:
    box = boxes()
    box.start("sleep", "infinity", options=("--pids-limit=60",))
    with Raw.to(box.control) as raw:
        raw.send(Exec((b"python3", b"-c", BOMB.encode()), flags=Flags.KILL_ON_DISCONNECT))
        assert isinstance(raw.frame(), Started)
        time.sleep(1)
    eventually(lambda: len(box.processes()) <= 3, what="the bomb's end")
    assert box.run("true").code == 0


def test_descriptors_in_flight_of_the_same_user(boxes: Boxes) -> None:
    """Their number is bounded by user; a tenant that uses it up gets no session, and nothing is left of the try."""
    box = boxes()
    code = """
import os, resource, socket, time
resource.setrlimit(resource.RLIMIT_NOFILE, (600, 600))
ends = []
sent = 0
try:
    while True:
        ends.append(socket.socketpair())
        for _ in range(4):
            socket.send_fds(ends[-1][0], [b"x"], [0] * 250)
except OSError as error:
    print("full", error, flush=True)
time.sleep(1000)
"""
    box.start("python3", "-c", code, options=("--ulimit=nofile=600:600",))
    eventually(lambda: "full" in box.logs())
    with Raw.to(box.control) as raw:
        raw.send(Exec((b"sleep", b"1000")))
        (error,) = raw.rest()
        assert isinstance(error, Error)
        assert error.code is ErrorCode.NO_RESOURCE
        assert "handing over the streams" in error.text
    eventually(lambda: not any(line == "sleep 1000" for line in box.processes()))
    assert box.client.ping()


def test_pipes_of_the_same_user(boxes: Boxes) -> None:
    """Beyond the user's share of pipe memory pipes are small, and still work."""
    box = boxes()
    code = """
import os, time
pipes = [os.pipe() for _ in range(1600)]
print("up", flush=True)
time.sleep(1000)
"""
    box.start("python3", "-c", code, options=("--ulimit=nofile=4096:4096",))
    eventually(lambda: "up" in box.logs())
    done = box.run("sh", "-c", "cat; head -c 3000000 /dev/zero >&2", stdin=b"x" * 3_000_000)
    assert (done.code, len(done.stdout), len(done.stderr)) == (0, 3_000_000, 3_000_000)


def test_a_log_that_nobody_reads_blocks_nobody(boxes: Boxes) -> None:
    """The engine's logger is stopped and the pipe is full: wshd, which has the same pipe, never writes to it."""
    box = boxes()
    box.start("sh", "-c", "while :; do head -c 100000 /dev/zero; done", options=("--log-driver=none",))
    time.sleep(0.3)
    assert box.client.ping()
    assert box.run("true").code == 0


def test_a_kill_of_everything_from_inside_ends_the_instance_alone(boxes: Boxes) -> None:
    box = boxes()
    box.start("sh", "-c", "while :; do sleep 1; done")
    with Raw.to(box.control) as raw:
        raw.send(Exec((b"sh", b"-c", b"kill -KILL -1; sleep 5")))
        assert isinstance(raw.frame(), Started)
        assert isinstance(raw.rest()[-1], (Exited, Error))
    assert box.wait() == 137
