"""The tenants' storage on real loop devices: limits that stop writers, growing, and leaving nothing behind.

The kind of file system under test is btrfs; BAILEY_TEST_STORAGE=xfs runs the same tests on XFS, for
which the kernel needs project quotas.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils.bailey.errors import BaileyError, HostError, InvalidValueError
from plugins.module_utils.bailey.host.loops import ensure_nodes, loop_of
from plugins.module_utils.bailey.host.mounts import FSTAB, mount_at, mount_holding
from plugins.module_utils.bailey.host.quota import NoQuota, Quota, open_quota
from plugins.module_utils.bailey.host.storage import present
from plugins.module_utils.bailey.host.storage_absent import absent
from plugins.module_utils.bailey.host.storage_base import Settings
from plugins.module_utils.bailey.host.storage_source import Source
from tests.integration.fixtures.storage import GIB, KIND, MIB, REPOSITORY, UID, assert_nothing_left, make, sh

pytest_plugins = ["tests.integration.fixtures.storage"]


# The life of a storage


def test_make_again_grow_remove(place: Settings) -> None:
    first, second = present(place), present(place)
    assert first.backend == second.backend == KIND
    assert first.differences
    assert not second.differences
    assert first.capacity is not None
    assert 0.8 * GIB < first.capacity < GIB

    bigger = replace(place, size=2 * GIB)
    make(open_quota(place.path), "app")
    grown, again = present(bigger), present(bigger)
    assert {item.path for item in grown.differences} == {"size", "file_system"}
    assert not again.differences
    assert grown.capacity is not None
    assert 1.6 * GIB < grown.capacity < 2 * GIB

    with pytest.raises(InvalidValueError, match="storage only grows"):
        present(place)
    with pytest.raises(HostError, match=r"holds 1 volumes \(app"):
        absent(bigger, remove_data=False)
    assert absent(bigger, remove_data=True, check=True).differences
    assert mount_at(place.path) is not None
    assert absent(bigger, remove_data=True).differences
    assert_nothing_left(place)
    assert not absent(bigger, remove_data=True).differences


def test_check_mode_makes_nothing(place: Settings) -> None:
    assert present(place, check=True).differences
    assert_nothing_left(place)


def test_an_interrupted_growth_is_finished(place: Settings) -> None:
    present(place)
    os.truncate(place.source, 2 * GIB)
    bigger = replace(place, size=2 * GIB)
    assert {item.path for item in present(bigger).differences} == {"file_system"}
    assert (present(bigger).capacity or 0) > 1.6 * GIB


def test_auto_takes_the_kind_that_holds(place: Settings) -> None:
    taken = present(replace(place, backend="auto"))
    assert (taken.backend, set(taken.reasons)) in [("xfs", set()), ("btrfs", {"xfs"})]
    assert open_quota(place.path).kind == taken.backend
    assert not present(replace(place, backend="auto")).differences


def test_the_next_boot_mounts_it_with_its_limits(place: Settings) -> None:
    present(place)
    make(open_quota(place.path), "app")
    sh("umount", str(place.path))
    sh("mount", "--fstab", str(place.fstab), str(place.path))
    assert open_quota(place.path).volumes()["app"].limit == 16 * MIB
    assert not present(place).differences


def test_an_unmounted_storage_is_taken_again(place: Settings) -> None:
    present(place)
    make(open_quota(place.path), "app")
    sh("umount", str(place.path))
    with pytest.raises(HostError, match="which is not mounted"):
        absent(place, remove_data=False)
    assert [item.path for item in present(place).differences] == ["mount"]
    assert list(open_quota(place.path).volumes()) == ["app"]


def test_mount_options_follow_the_declaration(place: Settings) -> None:
    present(place)
    stricter = replace(place, mount_options=("noexec",))
    assert {item.path for item in present(stricter).differences} == {"mount_options", "fstab"}
    assert {"noexec", "nosuid", "nodev"} <= mount_holding(place.path).options
    assert not present(stricter).differences


def test_preallocated_blocks_stay_with_the_file(place: Settings) -> None:
    whole = replace(place, size=512 * MIB, preallocate=True)
    present(whole)
    data = make(open_quota(place.path), "app", 128 * MIB)
    sh("dd", "if=/dev/zero", f"of={data}/file", "bs=1M", "count=64", "conv=fsync")
    (data / "file").unlink()
    sh("sync", "--file-system", str(data))
    sh("fstrim", "--listed-in", str(place.fstab))  # as the weekly timer does
    present(whole)
    assert place.source.stat().st_blocks * 512 >= 512 * MIB


def test_freed_space_of_a_sparse_file_goes_back_to_the_disk(place: Settings) -> None:
    present(place)
    data = make(open_quota(place.path), "app", 256 * MIB)
    sh("dd", "if=/dev/zero", f"of={data}/file", "bs=1M", "count=200", "conv=fsync")
    assert place.source.stat().st_blocks * 512 > 200 * MIB
    (data / "file").unlink()
    sh("fstrim", "--listed-in", str(place.fstab))
    sh("sync", "--file-system", str(data))
    sh("fstrim", "--listed-in", str(place.fstab))
    assert place.source.stat().st_blocks * 512 < 150 * MIB


def test_a_block_device_is_used_whole_and_left_empty(place: Settings) -> None:
    backing = place.source.with_name("disk.img")
    backing.touch()
    os.truncate(backing, GIB)
    device = sh("losetup", "--find", "--show", str(backing)).stdout.strip()
    try:
        disk = replace(place, source=Path(device))
        for _ in range(2):  # the second time proves that the first was erased
            assert present(disk).device == device
            assert not present(disk).differences
            make(open_quota(place.path), "app")
            absent(disk, remove_data=True)
            assert not place.path.exists()
            assert not Source(Path(device)).content().foreign
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            sh("umount", str(place.path))
        sh("losetup", "--detach", device)


# What is refused


@pytest.mark.parametrize("tool", ["mkfs.ext4", "mkswap", "mkfs.btrfs"])
def test_another_file_system_is_never_formatted(place: Settings, tool: str) -> None:
    os.truncate(os.open(place.source, os.O_CREAT | os.O_RDWR), 128 * MIB)
    sh(tool, "-q", str(place.source)) if tool != "mkswap" else sh(tool, str(place.source))
    before = sh("sha256sum", str(place.source)).stdout
    for call in (lambda: present(place), lambda: absent(place, remove_data=True)):
        with pytest.raises(HostError, match="is not Bailey's"):
            call()
    assert sh("sha256sum", str(place.source)).stdout == before
    assert mount_at(place.path) is None


def test_data_without_a_file_system_is_never_formatted(place: Settings) -> None:
    os.truncate(os.open(place.source, os.O_CREAT | os.O_RDWR), GIB)
    with place.source.open("r+b") as stream:
        stream.seek(700 * MIB)
        stream.write(b"precious")
    with pytest.raises(HostError, match="data without a file system"):
        present(place)


def test_a_device_in_use_is_refused(place: Settings) -> None:
    used = mount_holding(Path("/")).source
    assert Path(used).is_block_device(), f"{used}: these tests need a root file system on a block device"
    with pytest.raises(HostError, match="is not Bailey's"):
        present(replace(place, source=Path(used).resolve()))


def test_a_mount_never_hides_files(place: Settings) -> None:
    place.path.mkdir()
    (place.path / "file").touch()
    with pytest.raises(HostError, match="is not empty"):
        present(place)
    assert not place.source.exists()


def test_a_foreign_mount_at_the_path_is_refused(place: Settings) -> None:
    place.path.mkdir()
    sh("mount", "-t", "tmpfs", "tmpfs", str(place.path))
    for call in (lambda: present(place), lambda: absent(place, remove_data=True)):
        with pytest.raises(HostError, match="is a mount of tmpfs already"):
            call()


def test_another_kind_than_the_present_one_is_refused(place: Settings) -> None:
    present(place)
    for other in {"xfs", "btrfs", "none"} - {KIND}:
        with pytest.raises(HostError, match=f"backend: {other} is declared"):
            present(replace(place, backend=other))


def test_more_than_the_disk_has_is_refused(place: Settings) -> None:
    with pytest.raises(InvalidValueError, match="that are free"):
        present(replace(place, size=1 << 50))
    assert_nothing_left_of_attempt(place)


def assert_nothing_left_of_attempt(place: Settings) -> None:
    assert not place.source.exists()
    assert not place.path.exists()
    assert loop_of(place.source) is None


def test_a_failed_attempt_leaves_nothing(place: Settings) -> None:
    with pytest.raises(HostError, match=f"{KIND} does not work on this host"):
        present(replace(place, mount_options=("bailey-no-such-option",)))
    assert_nothing_left_of_attempt(place)


def test_auto_falls_back_to_directories_and_says_why(place: Settings) -> None:
    for _ in range(2):
        result = present(replace(place, backend="auto", mount_options=("bailey-no-such-option",)))
        assert result.backend == "none"
        assert set(result.reasons) == {"xfs", "btrfs"}
        assert "disk limits will be refused" in result.warnings[0]
    assert not result.differences
    quota = open_quota(place.path)
    assert isinstance(quota, NoQuota)
    with pytest.raises(BaileyError, match="disk: 1048576 cannot be enforced"):
        quota.create("app", MIB, UID, UID)
    quota.create("app", None, UID, UID)
    assert quota.volumes()["app"].uid == UID
    assert present(replace(place, backend="auto")).backend == "none"  # a mount would hide the volume now
    with pytest.raises(HostError, match="holds 1 volumes"):
        absent(place, remove_data=False)
    absent(place, remove_data=True)
    assert_nothing_left(place)


def test_storage_that_a_tenant_still_uses_is_not_half_removed(place: Settings, quota: Quota) -> None:
    data = make(quota, "app")
    with (data / "open").open("wb"), pytest.raises(HostError, match=r"target is busy.*left: the mount at"):
        absent(place, remove_data=True)
    assert quota.volumes()["app"].limit == 16 * MIB
    assert str(place.path) in place.fstab.read_text()


@pytest.fixture
def other_namespace(place: Settings) -> Iterator[subprocess.Popen[str]]:
    """A process that has a copy of the mount, as a container engine has for a moment."""
    present(place)
    script = "mount --make-rprivate / && echo ready && sleep 60"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_removal_waits_for_a_passing_copy_of_the_mount(place: Settings, other_namespace: subprocess.Popen[str]) -> None:
    with ThreadPoolExecutor(1) as pool:
        removal = pool.submit(absent, place, remove_data=True)
        time.sleep(1)
        assert not removal.done()
        sh("pkill", "--parent", str(other_namespace.pid), check=False)
        other_namespace.kill()
        removal.result()
    assert_nothing_left(place)


def test_removal_tells_of_a_copy_of_the_mount_that_stays(
    place: Settings, other_namespace: subprocess.Popen[str]
) -> None:
    with pytest.raises(HostError, match=r"still in use.*left: .*the loop device /dev/loop\d+, the file"):
        absent(place, remove_data=True)
    sh("pkill", "--parent", str(other_namespace.pid), check=False)
    other_namespace.kill()
    other_namespace.wait()
    time.sleep(0.2)
    absent(place, remove_data=True)
    assert_nothing_left(place)


def test_a_missing_loop_node_is_made() -> None:
    free = Path(sh("losetup", "--find").stdout.strip())
    free.unlink()
    ensure_nodes()
    assert free.is_block_device()


# The module


def module(settings: Settings, *flags: str, check: bool = True, **arguments: Any) -> dict[str, Any]:
    arguments = {"path": str(settings.path), "source": str(settings.source), "size": "1G", **arguments}
    program = Path(sys.executable).with_name("ansible")  # of the environment that the tests run in
    argv = [str(program), "localhost", "-c", "local", "-o", "-m", "bailey_storage", "-a", json.dumps(arguments), *flags]
    done = sh(*argv, check=False, cwd=REPOSITORY, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert (done.returncode == 0) == check, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if " => " in line)
    return json.loads(line.partition(" => ")[2])  # type: ignore[no-any-return] # what Ansible prints is not typed


def test_the_module_from_nothing_to_nothing(place: Settings) -> None:
    before = FSTAB.read_text()
    real = replace(place, fstab=FSTAB)
    try:
        assert module(real, "--check")["changed"]
        assert not place.source.exists()
        made = module(real)
        assert made["changed"]
        assert (made["backend"], made["path"]) == (KIND, str(place.path))
        assert made["capacity_bytes"] > 800 * MIB
        assert str(place.path) in FSTAB.read_text()
        assert not module(real)["changed"]
        assert "storage only grows" in module(real, check=False, size="600M")["msg"]
        make(open_quota(place.path), "app")
        assert "holds 1 volumes" in module(real, check=False, state="absent")["msg"]
        assert module(real, state="absent", remove_data=True)["changed"]
        assert not module(real, state="absent", remove_data=True)["changed"]
        assert_nothing_left(real)
    finally:
        FSTAB.write_text(before)
