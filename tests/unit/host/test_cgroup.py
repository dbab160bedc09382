"""Both hierarchies of control groups, laid out as the kernel does, read into the same values."""

from __future__ import annotations

from pathlib import Path

import pytest
from bailey.host import cgroup
from bailey.host.cgroup import Hierarchy, Usage, weights_of_shares
from bailey.host.mounts import parse_mountinfo
from bailey.host.oom import parse_count
from bailey.limits import IoRates

CONTAINER = "c0ffee"
V1 = {
    "memory/memory.limit_in_bytes": "67108864",
    "memory/memory.memsw.limit_in_bytes": "67108864",
    "memory/memory.soft_limit_in_bytes": "9223372036854771712",
    "memory/memory.usage_in_bytes": "4096",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2",
    "memory/cgroup.procs": "41\n42",
    "cpu/cpu.cfs_quota_us": "50000",
    "cpu/cpu.cfs_period_us": "100000",
    "cpu/cpu.shares": "512",
    "cpuacct/cpuacct.usage": "3000000000",
    "cpuset/cpuset.cpus": "0-1",
    "pids/pids.max": "64",
    "pids/pids.current": "2",
    "freezer/freezer.state": "THAWED",
    "blkio/blkio.throttle.read_bps_device": "7:0 1048576\n7:1 2097152",
    "blkio/blkio.throttle.write_iops_device": "7:0 100",
}
V2 = {
    "memory.max": "67108864",
    "memory.swap.max": "0",
    "memory.low": "0",
    "memory.current": "4096",
    "memory.events": "low 0\nhigh 0\nmax 3\noom 2\noom_kill 2",
    "cgroup.procs": "41\n42",
    "cpu.max": "50000 100000",
    "cpu.weight": "20",
    "cpu.stat": "usage_usec 3000000\nuser_usec 1",
    "cpuset.cpus": "",
    "cpuset.cpus.effective": "0-1",
    "pids.max": "64",
    "pids.current": "2",
    "io.max": "7:0 rbps=1048576 wbps=max riops=max wiops=100\n7:1 rbps=2097152 wbps=max riops=max wiops=max",
}
CONTROLLERS = ("memory", "cpu", "cpuacct", "cpuset", "pids", "blkio", "freezer")


def write(root: Path, files: dict[str, str], place: str) -> None:
    for name, text in files.items():
        controller, _, file = name.rpartition("/")
        path = root / controller / place / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


@pytest.fixture(params=["v1", "v2"])
def hierarchy(request: pytest.FixtureRequest, tmp_path: Path) -> Hierarchy:
    if request.param == "v1":
        write(tmp_path, V1, f"docker/{CONTAINER}")
        return Hierarchy(1, {name: tmp_path / name for name in CONTROLLERS})
    write(tmp_path, V2, f"system.slice/docker-{CONTAINER}.scope")
    return Hierarchy(2, dict.fromkeys(CONTROLLERS, tmp_path))


def test_both_hierarchies_say_the_same(hierarchy: Hierarchy) -> None:
    group = hierarchy.find(CONTAINER)
    assert group is not None
    assert group.pids() == [41, 42]
    held = group.enforced()
    assert (held.memory, held.memory_swap, held.memory_reservation) == (64 << 20, 64 << 20, None)
    assert held.nano_cpus == 500_000_000
    assert held.holds_shares(512)
    assert not held.holds_shares(1024)
    assert held.cpuset == {0, 1}
    assert held.pids == 64
    assert held.io == {"7:0": IoRates(read_bps=1 << 20, write_iops=100), "7:1": IoRates(read_bps=2 << 20)}
    assert group.usage() == Usage(memory=4096, cpu_ns=3_000_000_000, pids=2, oom_kills=2)


def test_a_container_that_does_not_run_has_no_group(hierarchy: Hierarchy) -> None:
    assert hierarchy.find("absent") is None


@pytest.mark.parametrize(
    ("file", "text", "attribute"),
    [
        ("memory/memory.limit_in_bytes", "9223372036854771712", "memory"),
        ("cpu/cpu.cfs_quota_us", "-1", "nano_cpus"),
        ("pids/pids.max", "max", "pids"),
    ],
)
def test_what_v1_does_not_limit_is_none(tmp_path: Path, file: str, text: str, attribute: str) -> None:
    write(tmp_path, {**V1, file: text}, f"docker/{CONTAINER}")
    group = Hierarchy(1, {name: tmp_path / name for name in CONTROLLERS}).find(CONTAINER)
    assert group is not None
    assert getattr(group.enforced(), attribute) is None


@pytest.mark.parametrize(
    ("file", "text", "attribute"),
    [("memory.max", "max", "memory"), ("cpu.max", "max 100000", "nano_cpus"), ("pids.max", "max", "pids")],
)
def test_what_v2_does_not_limit_is_none(tmp_path: Path, file: str, text: str, attribute: str) -> None:
    write(tmp_path, {**V2, file: text}, f"docker/{CONTAINER}")
    group = Hierarchy(2, dict.fromkeys(CONTROLLERS, tmp_path)).find(CONTAINER)
    assert group is not None
    assert getattr(group.enforced(), attribute) is None


@pytest.mark.parametrize(("shares", "weights"), [(2, {1}), (1024, {39, 100}), (262_144, {10_000})])
def test_shares_become_the_weights_that_runtimes_write(shares: int, weights: set[int]) -> None:
    assert weights_of_shares(shares) == weights


@pytest.mark.parametrize(
    ("version", "files", "name", "text", "counts", "swap"),
    [
        (1, V1, "memory/memory.memsw.limit_in_bytes", "9223372036854771712", True, None),
        (2, V2, "memory.swap.max", "max", True, None),
        (2, V2, "memory.swap.max", "4096", True, (64 << 20) + 4096),
        (1, V1, "memory/memory.memsw.limit_in_bytes", "", False, None),
        (2, V2, "memory.swap.max", "", False, None),
    ],
)
def test_swap_without_a_limit_is_told_from_swap_that_is_not_counted(
    tmp_path: Path, version: int, files: dict[str, str], name: str, text: str, counts: bool, swap: int | None
) -> None:
    write(tmp_path, {**files, name: text}, f"docker/{CONTAINER}")
    roots = {controller: tmp_path / controller if version == 1 else tmp_path for controller in CONTROLLERS}
    group = Hierarchy(version, roots).find(CONTAINER)
    assert group is not None
    held = group.enforced()
    assert (held.counts_swap, held.memory_swap) == (counts, swap)


def test_a_group_that_has_gone_while_it_is_read_holds_and_uses_nothing(hierarchy: Hierarchy) -> None:
    group = hierarchy.find(CONTAINER)
    assert group is not None
    for path in {*group.paths.values()}:
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    assert group.pids() == []
    held = group.enforced()
    assert (held.memory, held.memory_swap, held.nano_cpus, held.pids, held.io) == (None, None, None, None, {})
    assert held.cpuset == frozenset()
    assert group.usage() == Usage(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("lines", "version"),
    [
        (["cgroup cgroup rw,memory|memory", "cgroup cgroup rw,cpu,cpuacct|cpu", "cgroup2 cgroup2 rw|unified"], 1),
        (["cgroup2 cgroup2 rw,nsdelegate|"], 2),
        (["cgroup cgroup rw,name=systemd|systemd", "cgroup2 cgroup2 rw|unified"], 2),
    ],
)
def test_the_mounts_tell_which_hierarchy_holds_the_controllers(
    monkeypatch: pytest.MonkeyPatch, lines: list[str], version: int
) -> None:
    text = "".join(
        f"31 23 0:{number} / /sys/fs/cgroup/{place} rw - {rest}\n"
        for number, (rest, place) in enumerate(line.split("|") for line in lines)
    )
    monkeypatch.setattr(cgroup, "read_mounts", lambda: parse_mountinfo(text))
    hierarchy = cgroup.open_hierarchy()
    assert hierarchy.version == version
    if version == 1:
        assert hierarchy.roots["cpuacct"] == hierarchy.roots["cpu"] == Path("/sys/fs/cgroup/cpu")
    else:
        assert set(hierarchy.roots) == {*CONTROLLERS, "devices"}


def test_this_machine_has_one() -> None:
    assert cgroup.open_hierarchy().roots["memory"].is_dir()


ID = "e58710172dc792c3ffd3e08b692576e8781ae8423e05bcc789e2b3a632781015"


@pytest.mark.parametrize(
    ("text", "container"),
    [
        (f"12:pids:/x\n9:cpu,cpuacct:/y\n4:memory:/docker/{ID}\n1:name=systemd:/z\n", ID),
        (f"4:memory:/system.slice/docker-{ID}.scope\n0::/other\n", ID),
        (f"0::/system.slice/docker-{ID}.scope\n", ID),
        (f"0::/bailey.slice/docker-{ID}.scope\n", ID),
        (f"4:memory:/docker/{'0' * 64}/docker/{ID}\n", ID),  # an engine inside of a container
        (f"0::/docker/{ID}/child\n", None),
        (f"4:memory:/\n0::/docker/{ID}\n", None),
        ("0::/\n", None),
        (f"0::/docker/{ID[:-1]}\n", None),
        (f"0::/user.slice/other-{ID}.scope\n", None),
        ("", None),
    ],
)
def test_a_process_is_in_the_container_that_its_group_names(tmp_path: Path, text: str, container: str | None) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text(text)
    assert cgroup.container_of(7, tmp_path) == container
    assert cgroup.container_of(8, tmp_path) is None


def test_the_counter_of_kills_for_memory_is_where_the_kernel_has_it(hierarchy: Hierarchy) -> None:
    group = hierarchy.find(CONTAINER)
    assert group is not None
    assert parse_count(group.oom_counter.read_text()) == group.usage().oom_kills == 2


@pytest.mark.parametrize("text", [None, "", "oom_kill\n", "oom_kill x\n", "oom_kill_disable 1\n"])
def test_a_counter_that_is_not_there(text: str | None) -> None:
    assert parse_count(text) is None
