"""What only btrfs has: subvolumes, and quota groups that go wrong in ways of their own."""

from __future__ import annotations

import time

import pytest

from plugins.module_utils.bailey.errors import EnforcementError
from plugins.module_utils.bailey.host.quota import NoQuota, Quota, open_quota
from plugins.module_utils.bailey.host.quota_btrfs import BtrfsQuota
from plugins.module_utils.bailey.host.storage import present
from plugins.module_utils.bailey.host.storage_base import Settings
from plugins.module_utils.bailey.host.storage_trial import try_limits
from tests.integration.fixtures.storage import MIB, as_tenant, make, records, sh

pytest_plugins = ["tests.integration.fixtures.storage"]


@pytest.fixture
def kind() -> str:
    return "btrfs"


class _WithoutLimits(BtrfsQuota):
    """A file system that takes limits and does not hold them."""

    def create(self, name: str, limit: int | None, uid: int, gid: int) -> None:
        assert limit
        super().create(name, None, uid, gid)


def test_the_trial_finds_limits_that_do_not_hold(quota: Quota) -> None:
    with pytest.raises(EnforcementError, match="was not stopped"):
        try_limits(_WithoutLimits(quota.root, quota.mount))
    assert quota.volumes() == {}
    assert records(quota) == []


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


def test_inconsistent_counts_are_repaired(place: Settings, quota: Quota) -> None:
    data = make(quota, "app")
    sh("dd", "if=/dev/zero", f"of={data}/file", "bs=1M", "count=4", "conv=fsync")
    sh("btrfs", "quota", "disable", str(place.path))
    assert isinstance(open_quota(place.path), NoQuota)
    healed = present(place)
    assert {item.path for item in healed.differences} == {"quotas"}
    assert open_quota(place.path).volumes()["app"].used > 4 * MIB
    assert not present(place).differences


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
