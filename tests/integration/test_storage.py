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
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils.bailey.errors import BaileyError, EnforcementError, HostError, InvalidValueError
from plugins.module_utils.bailey.host.loops import ensure_nodes, loop_of
from plugins.module_utils.bailey.host.mounts import FSTAB, mount_at, mount_holding
from plugins.module_utils.bailey.host.quota import NoQuota, Quota, open_quota
from plugins.module_utils.bailey.host.quota_btrfs import BtrfsQuota
from plugins.module_utils.bailey.host.storage import present
from plugins.module_utils.bailey.host.storage_absent import absent
from plugins.module_utils.bailey.host.storage_base import Settings
from plugins.module_utils.bailey.host.storage_source import Source
from plugins.module_utils.bailey.host.storage_trial import try_limits

KIND = os.environ.get("BAILEY_TEST_STORAGE", "btrfs")
REPOSITORY = Path(__file__).parents[2]
MIB, GIB = 1 << 20, 1 << 30
UID = 61234
only_btrfs = pytest.mark.skipif(KIND != "btrfs", reason="about quota groups, which XFS does not have")


def sh(*argv: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, check=check, capture_output=True, text=True, **options)


def as_tenant(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return sh("setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", *argv, cwd=cwd, check=False)


@pytest.fixture
def place() -> Iterator[Settings]:
    """A declaration in a directory of its own; whatever a test leaves is unmounted and removed."""
    assert os.geteuid() == 0, "these tests need root: they mount file systems"
    home = Path(tempfile.mkdtemp(prefix="bailey-storage-", dir="/var/tmp"))
    (home / "fstab").touch()
    settings = Settings(KIND, home / "volumes", home / "storage.img", GIB, fstab=home / "fstab")
    try:
        yield settings
    finally:
        while mount_at(settings.path) is not None:
            sh("umount", str(settings.path))
        loop = loop_of(settings.source)
        if loop is not None:
            sh("losetup", "--detach", str(loop))
        sh("rm", "-rf", str(home))


@pytest.fixture
def quota(place: Settings) -> Quota:
    present(place)
    return open_quota(place.path)


def make(quota: Quota, name: str, limit: int | None = 16 * MIB) -> Path:
    """Create a volume with a directory that the tenant owns, as a mount target is."""
    quota.create(name, limit, UID, UID)
    data = quota.root / name / "data"
    data.mkdir(mode=0o700)
    os.chown(data, UID, UID)
    return data


def records(quota: Quota) -> list[str]:
    """What the kernel keeps of volumes: quota groups, or projects, other than that of the file system itself."""
    if quota.kind == "btrfs":
        lines = sh("btrfs", "qgroup", "show", "--raw", "-r", str(quota.root)).stdout.splitlines()[2:]
        return [line for line in lines if not line.startswith("0/5 ")]
    lines = sh("xfs_quota", "-x", "-c", "report -p -n -N -b", str(quota.root)).stdout.splitlines()
    return [line for line in lines if line and not line.startswith("#0 ")]


def assert_nothing_left(settings: Settings) -> None:
    assert mount_at(settings.path) is None
    assert loop_of(settings.source) is None
    assert not settings.source.exists()
    assert not settings.path.exists()
    assert str(settings.path) not in settings.fstab.read_text()


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


class _WithoutLimits(BtrfsQuota):
    """A file system that takes limits and does not hold them."""

    def create(self, name: str, limit: int | None, uid: int, gid: int) -> None:
        assert limit
        super().create(name, None, uid, gid)


@only_btrfs
def test_the_trial_finds_limits_that_do_not_hold(quota: Quota) -> None:
    with pytest.raises(EnforcementError, match="was not stopped"):
        try_limits(_WithoutLimits(quota.root, quota.mount))
    assert quota.volumes() == {}
    assert records(quota) == []


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


# Limits


@pytest.mark.parametrize(
    "flags",
    [["bs=64K"], ["bs=1M", "oflag=direct"], ["bs=4K", "oflag=append", "conv=notrunc"], ["bs=64K", "conv=fsync"]],
    ids=["buffered", "direct", "append", "synced"],
)
def test_a_writer_stops_at_its_limit_and_its_neighbour_does_not(quota: Quota, flags: list[str]) -> None:
    full, neighbour = make(quota, "full"), make(quota, "neighbour")
    stopped = as_tenant("dd", "if=/dev/zero", "of=file", "count=100000", *flags, cwd=full)
    assert stopped.returncode != 0
    assert "quota exceeded" in stopped.stderr or "No space left" in stopped.stderr
    assert 15 * MIB <= (full / "file").stat().st_size <= 16 * MIB
    assert as_tenant("dd", "if=/dev/zero", "of=file", "bs=1M", "count=12", "conv=fsync", cwd=neighbour).returncode == 0
    sh("sync", "--file-system", str(quota.root))
    assert 15 * MIB <= quota.volumes()["full"].used <= 16 * MIB


def test_many_files_stop_at_the_limit_together(quota: Quota) -> None:
    data = make(quota, "app", 8 * MIB)
    script = "import os\nfor n in range(10**6):\n with open(str(n), 'wb') as f: f.write(b'x' * 100_000)"
    stopped = as_tenant("/usr/bin/python3", "-c", script, cwd=data)
    assert "OSError" in stopped.stderr
    assert sum(file.stat().st_size for file in data.iterdir()) <= 8 * MIB


def test_tiny_files_take_nothing_from_the_neighbour(quota: Quota) -> None:
    """Two volumes promise the whole capacity; one fills its half with names and metadata alone."""
    half = quota.capacity() // 2 // 4096 * 4096
    hostile, neighbour = make(quota, "hostile", half), make(quota, "neighbour", half)
    script = (
        "import os\n"
        "for n in range(10**7):\n"
        " if n % 1000 == 0: os.mkdir(str(n // 1000))\n"
        " with open(f'{n // 1000}/{n:0200d}', 'wb') as f: f.write(b'x' * 2000)"
    )
    assert "OSError" in as_tenant("/usr/bin/python3", "-c", script, cwd=hostile).stderr
    wanted = half // MIB - 2
    done = as_tenant("dd", "if=/dev/zero", "of=file", "bs=1M", f"count={wanted}", "conv=fsync", cwd=neighbour)
    assert done.returncode == 0, done.stderr


def test_a_limit_changes_while_the_volume_is_in_use(quota: Quota) -> None:
    data = make(quota, "app")
    with (data / "open").open("wb"):
        quota.set_limit("app", 32 * MIB)
        assert quota.volumes()["app"].limit == 32 * MIB
        assert as_tenant("dd", "if=/dev/zero", "of=file", "bs=1M", "count=24", "conv=fsync", cwd=data).returncode == 0
        quota.set_limit("app", 8 * MIB)  # below what is used
        assert as_tenant("dd", "if=/dev/zero", "of=more", "bs=1M", "count=1", "conv=fsync", cwd=data).returncode != 0
        quota.set_limit("app", None)
        assert quota.volumes()["app"].limit is None
        assert as_tenant("dd", "if=/dev/zero", "of=more", "bs=1M", "count=48", "conv=fsync", cwd=data).returncode == 0


@pytest.mark.parametrize("limit", [0, -4096, 4096, MIB + 1, 1 << 63])
def test_a_limit_that_cannot_be_held_exactly_is_refused(quota: Quota, limit: int) -> None:
    with pytest.raises(InvalidValueError, match="disk"):
        quota.create("app", limit, UID, UID)
    assert quota.volumes() == {}
    assert records(quota) == []


def test_create_twice_and_remove_twice_are_errors(quota: Quota) -> None:
    make(quota, "app")
    with pytest.raises(HostError, match="it is there already"):
        quota.create("app", MIB, UID, UID)
    assert quota.volumes()["app"].limit == 16 * MIB
    as_tenant("dd", "if=/dev/zero", "of=file", "bs=64K", cwd=quota.root / "app/data")
    quota.remove("app")  # though it is full
    assert records(quota) == []
    for call in (lambda: quota.remove("app"), lambda: quota.set_limit("app", MIB)):
        with pytest.raises(HostError, match="volume app: there is none"):
            call()


def test_what_a_killed_create_left_is_cleared_away(quota: Quota) -> None:
    left = quota.root / ".new-app"
    sh("btrfs", "subvolume", "create", str(left)) if KIND == "btrfs" else left.mkdir()
    assert quota.volumes() == {}
    make(quota, "app")
    assert not left.exists()
    assert list(quota.volumes()) == ["app"]


def test_the_tenant_can_change_nothing_outside_its_directories(quota: Quota) -> None:
    data = make(quota, "app")
    root = data.parent
    attacks = [
        ["mv", "data", "other"], ["rmdir", "data"], ["touch", "file"], ["mkdir", "more"], ["ls"],
        ["chmod", "0777", "."], ["chown", str(UID), "."], ["ln", "-s", "/etc", "link"],
        ["/usr/bin/python3", "-c", "import os; os.getxattr('.', 'trusted.bailey.owner')"],
        ["/usr/bin/python3", "-c", "import os; os.setxattr('.', 'trusted.bailey.owner', b'0:0')"],
    ]  # fmt: skip
    assert [attack for attack in attacks if as_tenant(*attack, cwd=root).returncode == 0] == []
    assert (root.stat().st_uid, root.stat().st_mode & 0o7777) == (0, 0o711)
    assert quota.volumes()["app"].uid == UID


@only_btrfs
def test_subvolumes_inside_a_volume_are_counted_and_removed_with_it(quota: Quota) -> None:
    """Whoever may write may make one, past the limit: a seccomp filter must refuse it (Quota.escapes)."""
    data = make(quota, "app", 8 * MIB)
    for path in ("inner", "inner/deeper"):
        assert as_tenant("btrfs", "subvolume", "create", path, cwd=data).returncode == 0
    done = as_tenant("dd", "if=/dev/zero", "of=inner/deeper/file", "bs=1M", "count=20", "conv=fsync", cwd=data)
    assert done.returncode == 0
    sh("sync", "--file-system", str(quota.root))
    assert quota.volumes()["app"].used > 20 * MIB
    quota.remove("app")
    assert quota.volumes() == {}
    assert records(quota) == []


@only_btrfs
def test_inconsistent_counts_are_repaired(place: Settings, quota: Quota) -> None:
    data = make(quota, "app")
    sh("dd", "if=/dev/zero", f"of={data}/file", "bs=1M", "count=4", "conv=fsync")
    sh("btrfs", "quota", "disable", str(place.path))
    assert isinstance(open_quota(place.path), NoQuota)
    healed = present(place)
    assert {item.path for item in healed.differences} == {"quotas"}
    assert open_quota(place.path).volumes()["app"].used > 4 * MIB
    assert not present(place).differences


@only_btrfs
def test_a_quota_group_that_lost_its_volume_is_repaired(place: Settings, quota: Quota) -> None:
    data = make(quota, "app")
    with (data / "open").open("wb") as stream:
        stream.write(b"x" * MIB)
        quota.remove("app")  # the kernel cannot drop it yet
        assert quota.volumes() == {}
    for _ in range(50):
        present(place)
        if not records(quota):
            break
        time.sleep(0.1)
    assert records(quota) == []


def test_a_hundred_volumes_at_once(quota: Quota) -> None:
    names = [f"app-{number}" for number in range(100)]
    took: dict[str, float] = {}

    def timed(what: str, call: Any) -> None:
        start = time.perf_counter()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(call, names))
        took[what] = time.perf_counter() - start

    timed("create", lambda name: quota.create(name, 16 * MIB, UID + int(name[4:]), UID))
    start = time.perf_counter()
    volumes = quota.volumes()
    took["list"] = time.perf_counter() - start
    assert {name: (volume.limit, volume.uid) for name, volume in volumes.items()} == {
        name: (16 * MIB, UID + int(name[4:])) for name in names
    }
    timed("limit", lambda name: quota.set_limit(name, 8 * MIB))
    assert {volume.limit for volume in quota.volumes().values()} == {8 * MIB}
    timed("remove", quota.remove)
    assert quota.volumes() == {}
    assert records(quota) == []
    figures = {what: f"{seconds * 1000:.0f} ms" for what, seconds in took.items()}
    sys.stderr.write(f"{figures}\n")
    start = time.perf_counter()
    sh("btrfs", "--version")
    assert took["list"] < max(0.05, 5 * (time.perf_counter() - start)), figures  # the second on slow machines


def test_listing_goes_on_while_volumes_come_and_go(quota: Quota) -> None:
    make(quota, "stays")

    def churn(number: int) -> None:
        for turn in range(5):
            quota.create(f"app-{number}-{turn}", MIB, UID, UID)
            quota.remove(f"app-{number}-{turn}")

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(churn, number) for number in range(8)]
        while not all(future.done() for future in running):
            assert quota.volumes()["stays"].limit == 16 * MIB
        for future in running:
            future.result()
    assert records(quota) == records(quota)[:1]


# The module


def module(settings: Settings, *flags: str, check: bool = True, **arguments: Any) -> dict[str, Any]:
    arguments = {"path": str(settings.path), "source": str(settings.source), "size": "1G", **arguments}
    program = REPOSITORY / ".venv/bin/ansible"
    argv = [str(program), "localhost", "-c", "local", "-o", "-m", "bailey_storage", "-a", json.dumps(arguments), *flags]
    done = sh(*argv, check=False, cwd=REPOSITORY, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert (done.returncode == 0) == check, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if " => " in line)
    return json.loads(line.partition(" => ")[2])  # type: ignore[no-any-return]


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
