"""Declared against enforced: a word that the kernel tells otherwise is one check that does not hold."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bailey import enforcement
from bailey.enforcement import Check, checks, failing, read_container
from bailey.host.quota import Volume
from bailey.spec import Spec

from tests.unit import kernel, samples

DEVICE = "/dev/example"


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> kernel.Kernel:
    monkeypatch.setattr(enforcement, "device_numbers", lambda devices: dict.fromkeys(devices, "254:0"))
    return kernel.lay_out(tmp_path, monkeypatch)


def declared(**changes: object) -> Spec:
    return samples.spec(**{**kernel.DECLARED, **changes})


def judge(recorded: kernel.Kernel, spec: Spec, volume: Volume | None = None) -> list[Check]:
    reading = read_container(recorded.hierarchy, kernel.CONTAINER)
    assert reading is not None
    return checks(spec, reading, volume, [DEVICE])


def test_what_was_declared_for_the_recorded_container_holds(recorded: kernel.Kernel) -> None:
    results = judge(recorded, declared())
    assert failing(results) == []
    assert {check.field: check.enforced for check in results} == {
        "mem_limit": "64M",
        "memswap_limit": "96M",
        "mem_reservation": "32M",
        "cpus": "0.5",
        "cpu_shares": "512",
        "cpuset": "0-1",
        "pids_limit": "16",
        f"blkio_config.device_read_bps[{DEVICE}]": "1M/s",
        f"blkio_config.device_write_iops[{DEVICE}]": "100/s",
        "shm_size": "8M",
        "tmpfs[/tmp]": "4M",
        "tmpfs[/run/my app]": "1M",
        "ulimits.core": "0",
        "ulimits.nofile": "512:1024",
        "user": "200000",
        "groups": "200000",
        "cap_add": "NET_BIND_SERVICE",
        "capabilities": "none",
        "no_new_privileges": "true",
        "seccomp": "true",
        "apparmor_profile": "none",
        "namespaces": "ipc, mnt, net, pid, uts",
        "read_only": "true",
        "masked_paths": "covered",
        "read_only_paths": "read-only",
        "mounts": "as declared",
        "devices": "none",
    }


@pytest.mark.parametrize(
    ("name", "old", "new", "field", "enforced"),
    [
        ("memory/memory.limit_in_bytes", "67108864", "67112960", "mem_limit", "65540K"),
        ("memory/memory.limit_in_bytes", "67108864", "9223372036854771712", "mem_limit", "unlimited"),
        ("memory/memory.memsw.limit_in_bytes", "100663296", "9223372036854771712", "memswap_limit", "unlimited"),
        ("memory/memory.soft_limit_in_bytes", "33554432", "9223372036854771712", "mem_reservation", "unlimited"),
        ("cpu/cpu.cfs_quota_us", "50000", "-1", "cpus", "unlimited"),
        ("cpu/cpu.cfs_period_us", "100000", "50000", "cpus", "1"),
        ("cpu/cpu.shares", "512", "1024", "cpu_shares", "1024"),
        ("cpuset/cpuset.cpus", "0-1", "0", "cpuset", "0"),
        ("pids/pids.max", "16", "max", "pids_limit", "unlimited"),
        ("blkio/blkio.throttle.read_bps_device", "254:0", "254:1", "blkio_config.device_read_bps", "unlimited"),
        ("blkio/blkio.throttle.write_iops_device", "100", "200", "blkio_config.device_write_iops", "200/s"),
        ("mountinfo", "size=8192k", "size=8196k", "shm_size", "8196K"),
        ("mountinfo", "rw,size=4096k", "rw", "tmpfs[/tmp]", "unlimited"),
        ("mountinfo", "/ / ro,", "/ / rw,", "read_only", "false"),
        ("limits", "0                    0                    bytes", "0   1   bytes", "ulimits.core", "0:1"),
        ("limits", "Max open files  ", "Max open things ", "ulimits.nofile", "None"),
        ("status", "Uid:\t200000\t200000", "Uid:\t200000\t0", "user", "0, 200000"),
        ("status", "CapBnd:\t0000000000000400", "CapBnd:\t0000000000200400", "cap_add", "NET_BIND_SERVICE, SYS_ADMIN"),
        ("status", "CapBnd:\t0000000000000400", "CapBnd:\t0000000000000000", "cap_add", "none"),
        ("status", "NoNewPrivs:\t1", "NoNewPrivs:\t0", "no_new_privileges", "false"),
        ("status", "Seccomp:\t2", "Seccomp:\t0", "seccomp", "false"),
        ("status", "Seccomp:\t2\n", "", "seccomp", "false"),
        ("status", "Groups:\t200000", "Groups:\t200000 6", "groups", "6, 200000"),
        ("status", "Gid:\t200000", "Gid:\t0", "groups", "0, 200000"),
        ("status", "CapEff:\t0000000000000000", "CapEff:\t0000000000200000", "capabilities", "SYS_ADMIN"),
        ("status", "CapInh:\t0000000000000000", "CapInh:\t0000000000000001", "capabilities", "CHOWN"),
        ("mountinfo", "/null /proc/keys", "/zero /proc/keys", "masked_paths", "in sight: /proc/keys"),
        ("mountinfo", "/proc/acpi ro,relatime", "/proc/acpi rw,relatime", "masked_paths", "in sight: /proc/acpi"),
        ("mountinfo", "/proc/sys ro,", "/proc/sys rw,", "read_only_paths", "writable: /proc/sys"),
        ("mountinfo", "/sys ro,nosuid,nodev,noexec,relatime - sysfs", "/sys rw,nosuid - sysfs", "mounts",
         "/sys can be written to"),
        ("mountinfo", "/sys/fs/cgroup/pids ro,", "/sys/fs/cgroup/pids rw,", "mounts",
         "/sys/fs/cgroup/pids can be written to"),
        ("mountinfo", "/etc/hosts ro,", "/etc/hosts rw,", "mounts", "/etc/hosts can be written to"),
        ("mountinfo", " /dev/mqueue ", " /mnt ", "mounts", "/mnt is mounted beside them"),
        ("mountinfo", "/tmp rw,nosuid,nodev,noexec", "/tmp rw,nodev", "mounts", "/tmp is without noexec, nosuid"),
        ("devices/devices.list", "c 136:* rwm", "c 136:* rwm\nb 254:0 rw", "devices", "b 254:0 rw"),
        ("devices/devices.list", "c 136:* rwm", "a *:* rwm", "devices", "a *:* rwm"),
    ],
)  # fmt: skip
def test_a_word_that_differs_is_one_check_that_fails(
    recorded: kernel.Kernel, name: str, old: str, new: str, field: str, enforced: str
) -> None:
    recorded.change(name, old, new)
    (broken,) = failing(judge(recorded, declared()))
    assert (broken.field.removesuffix(f"[{DEVICE}]"), broken.enforced) == (field, enforced)


def test_a_rate_that_was_not_declared_beside_one_that_was_is_drift(recorded: kernel.Kernel) -> None:
    recorded.path("blkio/blkio.throttle.write_bps_device").write_text("254:0 4096\n")
    (broken,) = failing(judge(recorded, declared()))
    assert (broken.field, broken.declared, broken.enforced) == (
        f"blkio_config.device_write_bps[{DEVICE}]",
        "unlimited",
        "4K/s",
    )


def test_swap_is_not_judged_where_the_kernel_does_not_count_it(recorded: kernel.Kernel) -> None:
    recorded.path("memory/memory.memsw.limit_in_bytes").unlink()
    results = judge(recorded, declared())
    assert failing(results) == []
    assert "memswap_limit" not in {check.field for check in results}


@pytest.mark.parametrize("kind", ["ipc", "mnt", "net", "pid", "uts"])
def test_a_namespace_of_the_hosts_is_a_check_that_fails(recorded: kernel.Kernel, kind: str) -> None:
    recorded.share(kind)
    (broken,) = failing(judge(recorded, declared()))
    assert (broken.field, kind in broken.enforced, kind in broken.declared) == ("namespaces", False, True)


def test_a_later_mount_covers_an_earlier_one(recorded: kernel.Kernel) -> None:
    with recorded.path("mountinfo").open("a") as stream:
        stream.write("900 681 0:99 / /tmp rw - tmpfs tmpfs rw,size=1048576k\n900 681 0:88 / / rw - overlay o rw\n")
    broken = failing(judge(recorded, declared()))
    assert {check.field: check.enforced for check in broken} == {
        "tmpfs[/tmp]": "1G",
        "read_only": "false",
        "mounts": "/ is mounted twice; /tmp is mounted twice; /tmp is without nodev, noexec, nosuid",
    }


def test_a_mount_that_is_not_where_it_was_declared_is_missing_there_and_too_many_elsewhere(
    recorded: kernel.Kernel,
) -> None:
    recorded.change("mountinfo", "my\\040app", "my\\040apps")
    assert {check.field: check.enforced for check in failing(judge(recorded, declared()))} == {
        "tmpfs[/run/my app]": "unlimited",
        "mounts": "/run/my apps is mounted beside them",
    }


def test_a_mount_behind_a_link_of_the_images_is_found(recorded: kernel.Kernel) -> None:
    inside = recorded.proc / str(kernel.INIT) / "root"
    (inside / "run").mkdir(parents=True)
    (inside / "var").mkdir()
    (inside / "var/run").symlink_to("/run")
    spec = declared(tmpfs=["/tmp:size=4M", "/var/run/my app:size=1M,mode=700,exec"])
    assert failing(judge(recorded, spec)) == []


def test_filters_of_the_engines_own_are_not_the_instances(recorded: kernel.Kernel) -> None:
    shutil.copytree(recorded.proc / str(kernel.INIT), recorded.proc / "834", symlinks=True)
    (broken,) = failing(judge(recorded, declared()))
    assert (broken.field, broken.enforced) == ("seccomp", "false")
    recorded.change("status", "Seccomp_filters:\t1", "Seccomp_filters:\t2")
    assert failing(judge(recorded, declared())) == []
    recorded.change("status", "Seccomp_filters:\t2\n", "")  # before Linux 5.9
    assert failing(judge(recorded, declared())) == []


def test_a_program_may_lower_its_own_resource_limits(recorded: kernel.Kernel) -> None:
    recorded.change("limits", "512                  1024 ", "0                    512  ")
    assert failing(judge(recorded, declared())) == []


@pytest.mark.parametrize(
    ("limit", "enforced"), [(1 << 30, "1G"), (1 << 20, "1M"), (None, "unlimited"), ("no volume", "no volume")]
)
def test_disk_space(recorded: kernel.Kernel, limit: int | str | None, enforced: str) -> None:
    volume = None if isinstance(limit, str) else Volume("ada-web-1", Path("/v"), limit, 0, 200_000)
    results = judge(recorded, declared(disk_limit="1G"), volume)
    assert [(check.enforced, check.holds) for check in results if check.field == "disk_limit"] == [
        (enforced, limit == 1 << 30)
    ]


def test_a_container_that_does_not_run_is_not_read(recorded: kernel.Kernel) -> None:
    assert read_container(recorded.hierarchy, "absent") is None
    recorded.path("mountinfo").write_text("")
    assert read_container(recorded.hierarchy, kernel.CONTAINER) is None
    recorded.path("memory/cgroup.procs").write_text("")
    assert read_container(recorded.hierarchy, kernel.CONTAINER) is None


def test_a_device_is_known_by_its_numbers() -> None:
    assert enforcement.device_numbers(["/dev/null", "/dev/zero"]) == {"/dev/null": "1:3", "/dev/zero": "1:5"}
