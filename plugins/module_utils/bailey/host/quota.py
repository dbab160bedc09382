"""Volumes with disk limits: which kind the host's file system offers, and the kind that offers none.

`open_quota` looks at the mount that holds a directory. Limits are never pretended: where the file
system does not enforce them, volumes are plain directories and a limit is refused.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import HostError, UnsupportedError
from .mounts import mount_holding
from .quota_base import Quota, Volume, check_name, remove_tree, size_of
from .quota_btrfs import BtrfsQuota, quotas_enabled
from .quota_xfs import XfsQuota

__all__ = ["NoQuota", "Quota", "Volume", "open_quota"]


class NoQuota(Quota):
    """Plain directories: nothing is counted, and no limit can be given."""

    kind = "none"

    def capacity(self) -> int:
        """Return the size of the file system; nothing of it is promised to anybody."""
        return size_of(self.root)

    def volumes(self) -> dict[str, Volume]:
        """Return all volumes; nothing counts them, so their use is 0."""
        return {name: Volume(name, self.root / name, None, 0, uid) for name, uid in self.owners().items()}

    def create(self, name: str, limit: int | None, uid: int, gid: int) -> None:
        """Make an empty volume without a limit."""
        self._refuse(limit)
        with self.locked():
            staging = self.staging_for(name)
            if staging.exists():
                remove_tree(staging)
            staging.mkdir(mode=0o700)
            self.publish(staging, name, uid, gid)

    def set_limit(self, name: str, limit: int | None) -> None:
        """Refuse every limit."""
        self._refuse(limit)
        self.path_of(name)

    def remove(self, name: str) -> None:
        """Remove a volume's directory."""
        check_name(name)
        remove_tree(self.path_of(name))

    def _refuse(self, limit: int | None) -> None:
        if limit is not None:
            reason = (
                f"{self.root} lies on {self.mount.fs_type} without quotas that Bailey can use; "
                "btrfs with quotas on, or xfs mounted with prjquota, is needed"
            )
            raise UnsupportedError("disk", limit, reason)


def open_quota(root: Path) -> Quota:
    """Return the volumes below a directory, in the way that its file system limits them."""
    if not root.is_dir():
        raise HostError(f"{root}: the directory for the tenants' volumes does not exist")
    mount = mount_holding(root)
    if mount.fs_type == "btrfs" and quotas_enabled(mount):
        return BtrfsQuota(root, mount)
    if mount.fs_type == "xfs" and "prjquota" in mount.super_options:
        return XfsQuota(root, mount)
    return NoQuota(root, mount)
