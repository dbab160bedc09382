"""Volumes on btrfs: a subvolume each, limited by its quota group (0/ID, the referenced bytes).

Quota groups of deleted subvolumes are the trap here. The kernel refuses to destroy one until its
cleaner has dropped the subvolume, which it does in the background after a commit; some kernels
then remove the group by themselves, others leave it. So removal asks for a commit, and tries until
the group is gone. Numbers are read from the text of `btrfs qgroup show`: not all distributions'
versions can print JSON there.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from ..errors import BaileyError, CommandError, HostError
from .command import run
from .files import read_text
from .mounts import Mount
from .quota_base import Quota, Volume, check_limit, check_name, read_owner, size_of

_SYSFS = Path("/sys/fs/btrfs")
_REMOVE_SECONDS = 10.0
_REPAIR_SECONDS = 1.0
_RESCAN_SECONDS = 1800.0
# Data chunks are handed out in tenths of the file system, of at most 1 GiB, so a last one that is
# barely used can cost a tenth; the rest is for metadata that belongs to no volume.
_RESERVE_SHARE = 8
_RESERVE = 32 << 20
# BTRFS_IOC_INO_LOOKUP, include/uapi/linux/btrfs.h: with tree 0 it tells the subvolume of the directory it is asked of.
_INO_LOOKUP, _LOOKUP_SIZE, _FIRST_OBJECT = 0xD0009412, 4096, 256
_LIMITS_REFERENCED = 1  # BTRFS_QGROUP_LIMIT_MAX_RFER


@dataclass(frozen=True)
class Group:
    """One quota group of a subvolume. `path` is from the file system's top, None if that is deleted."""

    number: int
    referenced: int
    limit: int | None
    path: PurePosixPath | None


class BtrfsQuota(Quota):
    """A btrfs file system whose quotas are on, mounted so that this directory is in it."""

    kind = "btrfs"
    # Whoever may write to a directory may make a subvolume in it, which has a quota group of its own
    # without a limit.
    escapes: ClassVar[Mapping[str, int]] = {
        "BTRFS_IOC_SNAP_CREATE": 0x50009401,
        "BTRFS_IOC_SUBVOL_CREATE": 0x5000940E,
        "BTRFS_IOC_SNAP_CREATE_V2": 0x50009417,
        "BTRFS_IOC_SUBVOL_CREATE_V2": 0x50009418,
    }

    def __init__(self, root: Path, mount: Mount) -> None:
        super().__init__(root, mount)
        below = root.resolve().relative_to(mount.point)
        self._prefix = PurePosixPath(mount.root.lstrip("/")) / below

    def capacity(self) -> int:
        """Return the size less a reserve for chunks that are barely used."""
        total = size_of(self.root)
        return max(0, total - total // _RESERVE_SHARE - _RESERVE)

    def volumes(self) -> dict[str, Volume]:
        """Return all volumes; a subvolume made inside one counts as part of it."""
        owners = self.owners()
        limits: dict[str, int | None] = {}
        used: dict[str, int] = {}
        for group, below in self._groups_below():
            name = below.parts[0]
            used[name] = used.get(name, 0) + group.referenced
            if len(below.parts) == 1:
                limits[name] = group.limit
        return {
            name: Volume(name, self.root / name, limits[name], used[name], uid)
            for name, uid in owners.items()
            if name in limits
        }

    def volume(self, name: str) -> Volume | None:
        """Return one volume from the kernel's own files: no program is started, for a gate waits for it."""
        path = self.root / check_name(name)
        uid = read_owner(path)
        if uid is None:
            return None
        group = _state(self.mount) / f"0_{_subvolume_id(path)}"
        used = _read_number(group / "referenced")
        if used is None:
            return super().volume(name)  # a kernel before 5.9 shows no numbers there
        limited = (_read_number(group / "limit_flags") or 0) & _LIMITS_REFERENCED
        return Volume(name, path, _read_number(group / "max_referenced") if limited else None, used, uid)

    def create(self, name: str, limit: int | None, uid: int, gid: int) -> None:
        """Make a subvolume with its limit, then give it its name."""
        check_limit(limit)
        with self.locked():
            self._rescan_if_needed()
            staging = self.staging_for(name)
            if staging.exists():
                self._delete(staging.name)
            run(["btrfs", "subvolume", "create", str(staging)])
            try:
                if limit is not None:
                    run(["btrfs", "qgroup", "limit", str(limit), str(staging)])
                self.publish(staging, name, uid, gid)
            except BaseException:
                self._delete(staging.name)
                raise

    def set_limit(self, name: str, limit: int | None) -> None:
        """Change the limit of the subvolume's quota group.

        The request goes through the root: made through a volume that is full, the kernel refuses it.
        """
        check_limit(limit)
        self.path_of(name)
        for group, below in self._groups_below():
            if below == PurePosixPath(name):
                run(["btrfs", "qgroup", "limit", _limit_text(limit), f"0/{group.number}", str(self.root)])
                return
        raise HostError(f"volume {name}: {self.root / name} is not a subvolume with a quota group")

    def remove(self, name: str) -> None:
        """Delete the subvolume with all subvolumes inside it, and their quota groups."""
        self.path_of(check_name(name))
        self._delete(name)

    def repair(self) -> list[str]:
        """Count again where counts are inconsistent, and destroy quota groups of deleted volumes."""
        rescanned = self._rescan_if_needed()
        done = ["counted all volumes again: the kernel's counts were inconsistent"] if rescanned else []
        gone = [group.number for group in self._groups() if group.path is None]
        kept = self._forget(gone, _REPAIR_SECONDS)
        return done + [
            f"removed quota group 0/{number}, whose volume was gone" for number in gone if number not in kept
        ]

    def _groups(self) -> list[Group]:
        return parse_groups(run(["btrfs", "qgroup", "show", "--raw", "-r", str(self.root)]))

    def _groups_below(self) -> Iterator[tuple[Group, PurePosixPath]]:
        """Yield each group of a subvolume below the root, with its path from there."""
        for group in self._groups():
            if group.path is not None and group.path.is_relative_to(self._prefix):
                below = group.path.relative_to(self._prefix)
                if below.parts:
                    yield group, below

    def _delete(self, name: str) -> None:
        """Delete a subvolume and those inside it, the deepest first, and their quota groups."""
        found = [(group.number, below) for group, below in self._groups_below() if below.parts[0] == name]
        found.sort(key=lambda item: len(item[1].parts), reverse=True)
        run(["btrfs", "subvolume", "delete", *(str(self.root / below) for _, below in found)])
        self._forget([number for number, _ in found], _REMOVE_SECONDS)

    def _forget(self, numbers: list[int], seconds: float) -> list[int]:
        """Wait until the quota groups of deleted subvolumes are gone, and return those that are not.

        Where a process still holds a file of one open, or it is very large, the kernel drops it
        later; then the kernel removes the group too, or `repair` does.
        """
        deadline = time.monotonic() + seconds
        pause = 0.01
        while numbers and time.monotonic() < deadline:
            run(["btrfs", "filesystem", "sync", str(self.root)])
            time.sleep(pause)
            numbers = [number for number in numbers if self._exists(number) and not self._destroy(number)]
            pause = min(pause * 2, 1.0)
        return numbers

    def _exists(self, number: int) -> bool:
        return (_state(self.mount) / f"0_{number}").exists()

    def _destroy(self, number: int) -> bool:
        try:
            run(["btrfs", "qgroup", "destroy", f"0/{number}", str(self.root)])
        except CommandError:
            return not self._exists(number)
        return True

    def _rescan_if_needed(self) -> bool:
        """Let the kernel count again where it says that its counts are wrong: limits rest on them."""
        if not _inconsistent(self.mount):
            return False
        run(["btrfs", "quota", "rescan", "-w", str(self.root)], timeout=_RESCAN_SECONDS)
        if _inconsistent(self.mount):
            raise HostError(f"{self.root}: the quota counts are inconsistent, and counting again did not help")
        return True


def _limit_text(limit: int | None) -> str:
    return "none" if limit is None else str(limit)


def parse_groups(text: str) -> list[Group]:
    """Read the output of `btrfs qgroup show --raw -r` of btrfs-progs 6.2 and newer.

    The path column holds <toplevel>, <stale> or <under deletion> where there is no path.
    """
    groups = []
    for line in text.splitlines():
        fields = line.split(maxsplit=4)
        if len(fields) < 5 or not fields[0].startswith("0/"):
            continue
        try:
            groups.append(_parse_group(*fields))
        except ValueError as error:
            raise HostError(f"btrfs qgroup show: this line cannot be read: {line!r}") from error
    return groups


def _parse_group(number: str, referenced: str, _exclusive: str, limit: str, path: str) -> Group:
    return Group(
        number=int(number.removeprefix("0/")),
        referenced=int(referenced),
        limit=None if limit == "none" else int(limit),
        path=_parse_path(path.strip()),
    )


def _parse_path(text: str) -> PurePosixPath | None:
    if text == "<toplevel>":
        return PurePosixPath()
    return None if text.startswith("<") else PurePosixPath(text)


def _state(mount: Mount) -> Path:
    """Return the directory in which the kernel shows this file system's quota groups."""
    device = Path(os.path.realpath(mount.source)).name
    for link in _SYSFS.glob(f"*/devices/{device}"):
        return link.parent.parent / "qgroups"
    raise HostError(f"{mount.point}: {mount.source} is not among the devices of any btrfs in {_SYSFS}")


def _subvolume_id(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        request = bytearray(_LOOKUP_SIZE)
        struct.pack_into("=QQ", request, 0, 0, _FIRST_OBJECT)
        fcntl.ioctl(descriptor, _INO_LOOKUP, request)
    finally:
        os.close(descriptor)
    number: int = struct.unpack_from("=Q", request)[0]
    return number


def _read_number(path: Path) -> int | None:
    text = (read_text(path) or "").strip()
    return int(text) if text.isdigit() else None


def _inconsistent(mount: Mount) -> bool:
    return (read_text(_state(mount) / "inconsistent") or "0").strip() != "0"


def quotas_enabled(mount: Mount) -> bool:
    """Say whether the kernel counts and limits this btrfs's subvolumes."""
    try:
        state = _state(mount)
    except BaileyError:
        return False
    return (read_text(state / "enabled") or "0").strip() == "1"


def enable_quotas(mount: Mount) -> None:
    """Turn quotas on and wait until everything that is there has been counted."""
    run(["btrfs", "quota", "enable", str(mount.point)])
    run(["btrfs", "quota", "rescan", "-w", str(mount.point)], timeout=_RESCAN_SECONDS)
