"""Volumes on XFS: a directory each, with a project id of its own and a limit on that project.

The id stands in the directory's inode and is inherited by what is made below it; no file under /etc
is needed. Ids are read and set by the kernel's own request, because `xfs_quota project` ends with
status 0 where it failed; limits and counts go through `xfs_quota`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..errors import HostError
from .command import run
from .quota_base import Quota, Volume, check_limit, check_name, remove_tree, size_of

# Far above the ids that administrators and container engines take, which count up from 1.
FIRST_PROJECT = 0x0BA10000
LAST_PROJECT = FIRST_PROJECT + 0xFFFF

_GET_ATTRIBUTES = 0x801C581F  # FS_IOC_FSGETXATTR
_SET_ATTRIBUTES = 0x401C5820  # FS_IOC_FSSETXATTR
_ATTRIBUTES = struct.Struct("=5I8x")  # flags, extent size, extents, project, extent size for copies
_INHERIT_PROJECT = 0x200
# An inode takes 512 bytes that count against no limit on blocks, so inodes are limited too. One
# for 16 KiB is what ext4 has by default, and at most a thirty-second part of the limit on top.
_BYTES_PER_INODE = 16384
_MINIMUM_INODES = 1024
_RESERVE_SHARE = 16


@dataclass(frozen=True)
class Project:
    """What XFS counts and limits for one project id, in bytes."""

    used: int
    limit: int | None


class XfsQuota(Quota):
    """An XFS file system mounted with prjquota."""

    kind = "xfs"
    # The owner of a file may change its project id or stop a directory from handing its id on.
    escapes: ClassVar[Mapping[str, int]] = {
        "FS_IOC_FSSETXATTR": _SET_ATTRIBUTES,
        "FS_IOC_SETFLAGS": 0x40086602,
        "FS_IOC32_SETFLAGS": 0x40046602,
    }

    def capacity(self) -> int:
        """Return the size less a reserve for inodes."""
        total = size_of(self.root)
        return total - total // _RESERVE_SHARE

    def volumes(self) -> dict[str, Volume]:
        """Return all volumes, from one report of all projects."""
        projects = self._projects()
        found = {}
        for name, uid in self.owners().items():
            path = self.root / name
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                project = projects.get(project_of(path), Project(0, None))
                found[name] = Volume(name, path, project.limit, project.used, uid)
        return found

    def create(self, name: str, limit: int | None, uid: int, gid: int) -> None:
        """Make a directory under a free project id with its limit, then give it its name."""
        check_limit(limit)
        with self.locked():
            staging = self.staging_for(name)
            if staging.exists():
                self._delete(staging)
            number = self._free_project()
            staging.mkdir(mode=0o700)
            try:
                set_project(staging, number)
                self._limit(number, limit)
                self.publish(staging, name, uid, gid)
            except BaseException:
                self._delete(staging)
                raise

    def set_limit(self, name: str, limit: int | None) -> None:
        """Change the limit of the directory's project."""
        self._limit(project_of(self.path_of(name)), check_limit(limit))

    def remove(self, name: str) -> None:
        """Remove the directory's content, then its project's limit."""
        self._delete(self.path_of(check_name(name)))

    def _delete(self, path: Path) -> None:
        number = project_of(path)
        remove_tree(path)
        if number:
            self._limit(number, None)

    def _limit(self, number: int, limit: int | None) -> None:
        if not FIRST_PROJECT <= number <= LAST_PROJECT:
            raise HostError(f"{self.root}: project id {number} is not one of Bailey's")
        inodes = 0 if limit is None else max(_MINIMUM_INODES, limit // _BYTES_PER_INODE)
        self._xfs_quota(f"limit -p bsoft=0 bhard={limit or 0} isoft=0 ihard={inodes} {number}")

    def _projects(self) -> dict[int, Project]:
        return parse_projects(self._xfs_quota("report -p -n -N -b"))

    def _xfs_quota(self, command: str) -> str:
        return run(["xfs_quota", "-x", "-c", command, str(self.mount.point)])

    def _free_project(self) -> int:
        return free_project(self._projects())  # the report holds whatever has a limit, or a single inode


def free_project(taken: Collection[int]) -> int:
    """Return the lowest project id of Bailey's range that nobody has."""
    for number in range(FIRST_PROJECT, LAST_PROJECT + 1):
        if number not in taken:
            return number
    raise HostError(f"no project id is free from {FIRST_PROJECT} to {LAST_PROJECT}")


def parse_projects(text: str) -> dict[int, Project]:
    """Read the output of `xfs_quota -x -c 'report -p -n -N -b'`: blocks of 1 KiB, 0 for no limit."""
    projects = {}
    for line in text.splitlines():
        fields = line.split()
        if not fields:
            continue
        try:
            number, used, hard = int(fields[0].removeprefix("#")), int(fields[1]), int(fields[3])
        except (ValueError, IndexError) as error:
            raise HostError(f"xfs_quota report: this line cannot be read: {line!r}") from error
        projects[number] = Project(used * 1024, hard * 1024 or None)
    return projects


def _attributes(descriptor: int) -> tuple[int, int, int, int, int]:
    raw = fcntl.ioctl(descriptor, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size))
    flags, extent_size, extents, project, copy_extent_size = _ATTRIBUTES.unpack(raw)
    return flags, extent_size, extents, project, copy_extent_size


def project_of(path: Path) -> int:
    """Return a directory's project id; 0 means none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        return _attributes(descriptor)[3]
    finally:
        os.close(descriptor)


def set_project(path: Path, number: int) -> None:
    """Give a directory a project id that everything made below it inherits, and read it back."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        flags, extent_size, extents, _, copy_extent_size = _attributes(descriptor)
        wanted = _ATTRIBUTES.pack(flags | _INHERIT_PROJECT, extent_size, extents, number, copy_extent_size)
        fcntl.ioctl(descriptor, _SET_ATTRIBUTES, wanted)
        flags, _, _, found, _ = _attributes(descriptor)
    finally:
        os.close(descriptor)
    if found != number or not flags & _INHERIT_PROJECT:
        raise HostError(f"{path}: the kernel did not take project id {number}")
