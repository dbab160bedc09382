"""Growing the tenants' storage while it is in use: the file, the loop device, the file system."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import HostError, InvalidValueError
from ..units import format_size
from .command import run
from .loops import device_size, refresh
from .mounts import Mount
from .quota_base import size_of
from .storage_base import Work

# XFS leaves the end of a device unused where it is too short for an allocation group.
_UNUSED = 64 << 20
_XFS_DATA = re.compile(r"^data\s*=\s*bsize=(\d+)\s+blocks=(\d+)", re.MULTILINE)


def refuse_smaller(work: Work) -> None:
    """Refuse a size below that of the file: shrinking would cut into the tenants' data."""
    if work.source.is_device:
        return
    now, wanted = work.source.path.stat().st_size, work.settings.size
    if wanted < now:
        allowed = f"at least {format_size(now)}, the size that {work.source.path} has; storage only grows"
        raise InvalidValueError("size", format_size(wanted), allowed)


def grow(work: Work, mount: Mount) -> None:
    """Bring file, loop device and file system to the declared size, wherever an earlier run stopped."""
    refuse_smaller(work)
    source, size = work.source, work.settings.size
    if not source.is_device and source.path.stat().st_size < size:
        source.check_room(size)
        before, after = format_size(source.path.stat().st_size), format_size(size)
        work.step("size", before, after, lambda: source.allocate(size, whole=work.settings.preallocate))
    if work.check:
        return
    device = Path(mount.source)
    if not source.is_device and device_size(device) < source.path.stat().st_size:
        refresh(device)
    offered, stored = device_size(device), file_system_size(mount)
    if stored < offered - _UNUSED:
        work.step("file_system", format_size(stored), format_size(offered), lambda: _resize(mount))


def _resize(mount: Mount) -> None:
    if mount.fs_type == "btrfs":
        run(["btrfs", "filesystem", "resize", "max", str(mount.point)])
    else:
        run(["xfs_growfs", "-d", str(mount.point)])


def file_system_size(mount: Mount) -> int:
    """Return the bytes of its device that a file system manages."""
    if mount.fs_type == "btrfs":
        return size_of(mount.point)
    return parse_xfs_size(run(["xfs_info", str(mount.point)]))


def parse_xfs_size(text: str) -> int:
    """Read the size of the data section from what xfs_info prints."""
    match = _XFS_DATA.search(text)
    if match is None:
        raise HostError(f"xfs_info: no size of the data section in {text!r}")
    return int(match[1]) * int(match[2])
