"""Volumes on a real file system: limits that stop writers, and nothing left of what is removed."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from plugins.module_utils.bailey.errors import HostError, InvalidValueError
from plugins.module_utils.bailey.host.quota import Quota
from tests.integration.fixtures.storage import KIND, MIB, UID, as_tenant, make, records, sh

pytest_plugins = ["tests.integration.fixtures.storage"]


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


@pytest.mark.alone
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
