"""Resource limits: each that is declared is what the tenant's program sees, and what stops it.

Needs root, btrfs and dockerd.
"""

from __future__ import annotations

import signal

import pytest
from bailey.host.proc import read_rlimits
from bailey.rlimits import KINDS

from tests.integration.fixtures.platform import DATA, Answer, Platform, in_parallel, tenant

pytest_plugins = ("tests.integration.fixtures.on_platform",)

# Each value is unlike what a program gets without a declaration, and within what an unprivileged host may hand on:
# the priorities' ceiling is 0 there, so a declaration of 0 is the only one that every host can hold.
DECLARED = {
    "core": 0,
    "cpu": {"soft": 111, "hard": 222},
    "data": "512M",
    "fsize": {"soft": "12M", "hard": "13M"},
    "locks": 77,
    "memlock": "1M",
    "msgqueue": "100K",
    "nice": 0,
    "nofile": {"soft": 60, "hard": 70},
    "nproc": {"soft": 25, "hard": 30},
    "rss": "100M",
    "rtprio": 0,
    "rttime": 123456,
    "sigpending": 55,
    "stack": {"soft": "4M", "hard": "5M"},
}
SEEN = {
    "core": (0, 0),
    "cpu": (111, 222),
    "data": (512 << 20, 512 << 20),
    "fsize": (12 << 20, 13 << 20),
    "locks": (77, 77),
    "memlock": (1 << 20, 1 << 20),
    "msgqueue": (100 << 10, 100 << 10),
    "nice": (0, 0),
    "nofile": (60, 70),
    "nproc": (25, 30),
    "rss": (100 << 20, 100 << 20),
    "rtprio": (0, 0),
    "rttime": (123456, 123456),
    "sigpending": (55, 55),
    "stack": (4 << 20, 5 << 20),
}
FORKS = """
import errno, os, sys, time
children = []
try:
    for _ in range(100):
        child = os.fork()
        if child == 0:
            time.sleep(2)
            os._exit(0)
        children.append(child)
except OSError as error:
    print(errno.errorcode[error.errno], len(children))
for child in children:
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module", autouse=True)
def _tenants(platform: Platform) -> None:
    platform.converge(
        tenant("bounded", pids_limit=500, ulimits=DECLARED),
        tenant("twin", pids_limit=500, ulimits=DECLARED),
        tenant("short", ulimits={"cpu": {"soft": 2, "hard": 4}}),
    )


@pytest.fixture(scope="module")
def limits_seen(platform: Platform) -> str:
    return platform.run("bounded", "cat", "/proc/self/limits").out


def test_the_table_is_complete() -> None:
    # `as` is the one that the engine does not set; that it is refused is shown in test_bad_input.py.
    assert set(DECLARED) == set(SEEN) == set(KINDS) - {"as"}


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_a_program_sees_its_limit(limits_seen: str, name: str) -> None:
    (row,) = [line for line in limits_seen.splitlines() if line.startswith(KINDS[name].row + " ")]
    assert tuple(int(value) for value in row[26:].split()[:2]) == SEEN[name]


def test_the_read_back_agrees(platform: Platform) -> None:
    assert platform.broken("bounded") == {}
    shown = {check.field: check.enforced for check in platform.instance("bounded").checks}
    # wshd, whose limits these are, has taken its own soft limit of descriptors up to the hard one.
    assert shown["ulimits.nofile"] == "70"
    assert shown["ulimits.fsize"] == f"{12 << 20}:{13 << 20}"


def test_a_limit_that_was_not_declared_is_the_engines(platform: Platform) -> None:
    pid = platform.inspect("short")["State"]["Pid"]
    ours, engines = read_rlimits(pid), read_rlimits(platform.engine.pid or 0)
    assert (ours["cpu"].soft, ours["cpu"].hard) == (2, 4)
    assert ours["stack"] == engines["stack"]


def test_no_program_can_raise_a_hard_limit(platform: Platform) -> None:
    raised = platform.run("bounded", "sh", "-c", "ulimit -Hn 71")
    assert raised.code != 0
    assert platform.run("bounded", "sh", "-c", "ulimit -Sn 70 && ulimit -n").out == "70\n"


def test_one_file_too_many_cannot_be_opened(platform: Platform) -> None:
    source = (
        "import errno, os\n"
        "files = []\n"
        "try:\n"
        "    while len(files) < 200: files.append(os.open('/dev/null', os.O_RDONLY))\n"
        "except OSError as error: print(errno.errorcode[error.errno], max(files))\n"
    )
    assert platform.python("bounded", source).out.split() == ["EMFILE", "59"]  # descriptors 0 to 59


def test_a_file_stops_at_its_size(platform: Platform) -> None:
    answer = platform.run("bounded", "dd", "if=/dev/zero", f"of={DATA}/large", "bs=1M", "count=16")
    assert answer.code == -signal.SIGXFSZ
    assert (platform.volume("bounded") / "large").stat().st_size == 12 << 20


def test_processes_are_counted_for_each_instance(platform: Platform) -> None:
    def forked(answer: Answer) -> int:
        reason, count = answer.out.split()
        assert reason == "EAGAIN"
        return int(count)

    # Both hold their processes at the same time.
    first, second = in_parallel([lambda name=name: platform.python(name, FORKS) for name in ("bounded", "twin")])
    assert 15 <= forked(first) <= 24
    assert 15 <= forked(second) <= 24


def test_a_program_that_aborts_leaves_no_core(platform: Platform) -> None:
    dumped = (
        "import os\n"
        f"os.chdir('{DATA}')\n"
        "child = os.fork()\n"
        "if child == 0: os.abort()\n"
        "print(os.WCOREDUMP(os.waitpid(child, 0)[1]), [name for name in os.listdir() if name.startswith('core')])\n"
    )
    assert platform.python("bounded", dumped).out.strip() == "False []"


def test_a_program_stops_at_its_processor_seconds(platform: Platform) -> None:
    spent = (
        "import resource, subprocess, sys\n"
        "ended = subprocess.run([sys.executable, '-c', 'while True: pass']).returncode\n"
        "print(ended, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime)\n"
    )
    ended, seconds = platform.python("short", spent, timeout=120).out.split()
    assert int(ended) == -signal.SIGXCPU
    assert float(seconds) == pytest.approx(2, abs=0.3)


def test_memory_beyond_memlock_cannot_be_locked(platform: Platform) -> None:
    source = (
        "import ctypes, mmap, sys\n"
        "libc, size = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])\n"
        "libc.mmap.restype = ctypes.c_void_p\n"
        "libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]\n"
        "address = libc.mmap(None, size, 3, 0x22, -1, 0)\n"
        "print(libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(size)), ctypes.get_errno())\n"
    )
    assert platform.python("bounded", source, str(512 << 10)).out.split() == ["0", "0"]
    assert platform.python("bounded", source, str(2 << 20)).out.split() == ["-1", "12"]  # ENOMEM
