"""Memory, processors and processes: each limit stops who is over it, and leaves the neighbour alone.

Needs root, btrfs and dockerd.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.fixtures.platform import Platform, in_parallel, tenant, wait_for

pytest_plugins = ("tests.integration.fixtures.on_platform",)
pytestmark = pytest.mark.alone

NEIGHBOUR = tenant("neighbour")
HOG = "while True: pass"
SHARES_SECONDS = 30.0
QUOTA = 0.1  # small enough that a busy machine still gives it more than that
PERIOD = 0.1  # seconds, the engine's own
PIDS = 24
# Everything that it starts goes on starting, and stays where that fails: without a limit this does not end.
FORK_BOMB = """
import os, time
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.05)
"""


@pytest.fixture(scope="module", autouse=True)
def _neighbour(platform: Platform) -> None:
    platform.converge(NEIGHBOUR)


@pytest.fixture(scope="module")
def _victim(platform: Platform) -> None:
    platform.converge(tenant("victim", mem_limit="64M"))


@dataclass(frozen=True)
class Spent:
    """What hogs used at the same time: processor seconds by name, and the wall's seconds."""

    processor: Mapping[str, float]
    wall: float
    held_back: int  # periods in which the group under a quota was stopped at its end


@pytest.fixture(scope="module")
def spent(platform: Platform) -> Iterator[Spent]:
    """All are measured at once: two hogs on one processor by their shares, one on another by its quota."""
    hogs = (
        tenant("large", cpuset="0", cpu_shares=3072),
        tenant("small", cpuset="0", cpu_shares=1024),
        tenant("held", cpuset="1", cpus=QUOTA),
    )
    platform.converge(*hogs)
    usage = {item["name"]: platform.cgroup(item["name"], "cpuacct", "cpuacct.usage") for item in hogs}
    statistics = platform.cgroup("held", "cpu", "cpu.stat")
    for name in usage:
        platform.run(name, "sh", "-c", f"exec python3 -c '{HOG}' >/dev/null 2>&1 &")
    time.sleep(1)
    begun, first, periods = time.monotonic(), read_all(usage), throttled_periods(statistics)
    time.sleep(SHARES_SECONDS)
    wall, last = time.monotonic() - begun, read_all(usage)
    processor = {name: (last[name] - first[name]) / 1e9 for name in usage}
    yield Spent(processor, wall, throttled_periods(statistics) - periods)
    platform.engine.docker("rm", "-f", *usage)


def read_all(files: Mapping[str, Path]) -> dict[str, int]:
    """Read the one number in each file."""
    return {name: int(path.read_text()) for name, path in files.items()}


def throttled_periods(statistics: Path) -> int:
    """Read how often a group was held back."""
    return int(dict(line.split() for line in statistics.read_text().splitlines())["nr_throttled"])


def assert_neighbour_works(platform: Platform) -> None:
    """A neighbour can start programs and take memory."""
    assert platform.python("neighbour", "print(len(bytearray(32 << 20)))").out.strip() == str(32 << 20)


@pytest.mark.usefixtures("_victim")
class TestMemory:
    def test_a_process_over_its_memory_is_killed_and_the_neighbour_lives_on(self, platform: Platform) -> None:
        before = platform.instance("victim").as_result()["usage"]["oom_kills"]
        assert platform.python("victim", "bytearray(128 << 20)").code == -9
        assert platform.instance("victim").as_result()["usage"]["oom_kills"] == before + 1
        assert_neighbour_works(platform)

    def test_what_fits_is_not_killed(self, platform: Platform) -> None:
        assert platform.python("victim", "bytearray(32 << 20)").code == 0

    def test_swap_adds_nothing(self, platform: Platform) -> None:
        peak = platform.cgroup("victim", "memory", "memory.memsw.max_usage_in_bytes")
        platform.python("victim", "bytearray(128 << 20)")
        assert int(peak.read_text()) <= 64 << 20
        assert "\ntotal_swap 0\n" in platform.cgroup("victim", "memory", "memory.stat").read_text()

    def test_a_program_that_is_itself_over_its_memory_is_reported(self, platform: Platform) -> None:
        greedy = tenant("greedy", command=["python3", "-c", "bytearray(128 << 20)"], mem_limit="32M", restart="no")
        platform.converge({**greedy, "command": ["python3", "-c", "import time; time.sleep(1); bytearray(128 << 20)"]})
        wait_for(lambda: not platform.inspect("greedy")["State"]["Running"], "the end of the greedy program")
        assert platform.inspect("greedy")["State"]["ExitCode"] == 137
        assert_neighbour_works(platform)


class TestProcessors:
    def test_two_hogs_on_one_processor_get_their_shares(self, spent: Spent) -> None:
        large, small = spent.processor["large"], spent.processor["small"]
        assert large / (large + small) == pytest.approx(0.75, abs=0.05)

    def test_a_hog_gets_its_quota_and_no_more(self, spent: Spent) -> None:
        used = spent.processor["held"]
        assert used <= QUOTA * spent.wall * 1.05
        # On a busy machine it gets less, but whenever it was held back it had used up its whole quota.
        assert spent.held_back >= 10
        assert used >= spent.held_back * QUOTA * PERIOD * 0.9

    def test_programs_stay_on_their_processors(self, platform: Platform) -> None:
        moved = "import os; os.sched_setaffinity(0, {0, 1}); print(sorted(os.sched_getaffinity(0)))"
        platform.converge(tenant("pinned", cpuset="1"))
        assert platform.python("pinned", moved).out.strip() == "[1]"
        assert platform.python("neighbour", moved).out.strip() == "[0, 1]"


class TestProcesses:
    def test_a_fork_bomb_stops_at_its_limit(self, platform: Platform) -> None:
        platform.converge(tenant("bomber", pids_limit=PIDS))
        current = platform.cgroup("bomber", "pids", "pids.current")
        events = platform.cgroup("bomber", "pids", "pids.events")
        platform.run("bomber", "sh", "-c", 'python3 -c "$0" >/dev/null 2>&1 &', FORK_BOMB)
        wait_for(lambda: events.read_text().split()[1] != "0", "the bomb at its limit")
        counts = []
        for _ in range(20):
            counts.append(int(current.read_text()))
            subprocess.run(["true"], check=True)
            time.sleep(0.02)
        assert PIDS // 2 < max(counts) <= PIDS
        assert_neighbour_works(platform)
        platform.engine.docker("rm", "-f", "bomber")

    def test_threads_count_as_processes(self, platform: Platform) -> None:
        platform.converge(tenant("threads", pids_limit=PIDS))
        source = (
            "import threading, time\n"
            "try:\n"
            "    for number in range(200):\n"
            "        threading.Thread(target=time.sleep, args=(5,), daemon=True).start()\n"
            "except RuntimeError:\n"
            "    print(number)\n"
        )
        assert 0 < int(platform.python("threads", source).out) < PIDS

    def test_forks_within_the_limit_work(self, platform: Platform) -> None:
        answers = in_parallel([lambda: platform.run("neighbour", "sleep", "0.2") for _ in range(8)])
        assert [answer.code for answer in answers] == [0] * 8
