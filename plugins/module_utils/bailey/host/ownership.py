"""Whose ids a volume's files have: written down with it, and changed with all of them where the engine's are others.

A volume outlives the engine's mapping. Its root has a mark that names every mapping which ids of its files may be of.
Mappings have no id in common, so a file's own id tells whether it has been changed already: what was cut off is taken
up again, by a run that wants another mapping too.

Nothing of the volume's content is trusted: no link is followed, no directory is left but downwards, and only two
directories are open at a time however deep a tenant has nested them. Nobody uses the volume meanwhile.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import HostError
from .idmap import IDENTITY, IdMap, parse_id_map

MARK = "trusted.bailey.ids"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ACLS = ("system.posix_acl_access", "system.posix_acl_default")
_NO_ATTRIBUTE = (errno.ENODATA, errno.EOPNOTSUPP)
# A version, then entries of tag, permissions and id; include/uapi/linux/posix_acl_xattr.h and posix_acl.h.
_ACL_VERSION, _ACL_HEAD, _ACL_ENTRY = 2, struct.Struct("<I"), struct.Struct("<HHI")
_ACL_USER, _ACL_GROUP = 0x02, 0x08

_libc = ctypes.CDLL(None, use_errno=True)


def marked(root: Path) -> list[IdMap]:
    """Return the mappings that a volume's files have ids of: one, unless a change of all of them was cut off."""
    try:
        text = os.getxattr(root, MARK, follow_symlinks=False).decode()
    except OSError as error:
        if error.errno in _NO_ATTRIBUTE:
            return [IDENTITY]
        raise
    try:
        return [parse_id_map(item) for item in text.split(",")]
    except ValueError as error:
        raise HostError(f"{root}: its attribute {MARK} cannot be read: {error}") from error


def bring(root: Path, ids: IdMap) -> bool:
    """Have every file below a volume's root belong to the same ids inside of containers of a mapping.

    Return whether there was anything to do. Raises HostError where it could not be carried to its end; the next run
    goes on with it. Set-id bits and file capabilities go, as with every change of an owner, chown(2): under no new
    privileges they give nobody anything. An id that no mapping has stays as it is.
    """
    before = marked(root)
    others = [item for item in before if not item.same(ids)]
    if not others:
        return False
    for number, item in enumerate(others):
        if any(item.overlaps(other) and not _told_apart(item, other) for other in (ids, *others[:number])):
            raise HostError(f"{root}: whose its files are cannot be told: {item.as_text()} and others overlap")
    try:
        if next(root.iterdir(), None) is not None:
            _mark(root, [*others, ids])
            _move_tree(root, others, ids)
            _mark(root, [ids])
        else:
            _mark(root, [ids], alone=True)
    except OSError as error:
        raise HostError(
            f"{root}: its files could not all be given to the engine's ids: {error}; the next run goes on with that"
        ) from error
    return True


def _told_apart(one: IdMap, other: IdMap) -> bool:
    """Say whether ids below the size of the one that is remapped are no ids of it: then they are of the other."""
    remapped, same = (one, other) if one.remapped else (other, one)
    return same == IDENTITY and remapped.base >= remapped.size


def _mark(root: Path, maps: Sequence[IdMap], *, alone: bool = False) -> None:
    """Write the mark: on the disk after all that was done before, and before all that is done next.

    `alone` says that there is nothing else. Where there is, the whole file system is flushed: fsync(2) of one inode
    may bring it to the disk before the owners of others.
    """
    flush = os.fsync if alone else _flush_all
    descriptor = os.open(root, _OPEN)
    try:
        flush(descriptor)
        if list(maps) == [IDENTITY]:
            _unmark(descriptor)
        else:
            os.setxattr(descriptor, MARK, ",".join(item.as_text() for item in maps).encode())
        flush(descriptor)
    finally:
        os.close(descriptor)


def _unmark(descriptor: int) -> None:
    try:
        os.removexattr(descriptor, MARK)
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTE:
            raise


def _flush_all(descriptor: int) -> None:
    """Flush the file system that holds a file, syncfs(2)."""
    if _libc.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def convert(number: int, others: Iterable[IdMap], ids: IdMap) -> int:
    """Return the host's number of the same id in another mapping; the same where it has come there, or has none."""
    if ids.remapped and ids.to_container(number) is not None:
        return number
    # A remapped one is asked first: every number is one of the host's own, too.
    for item in sorted(others, key=lambda item: not item.remapped):
        inside = item.to_container(number)
        if inside is not None:
            return ids.to_host(inside) if inside < ids.size else number
    return number


class _Change(NamedTuple):
    """From which mappings to which."""

    others: Sequence[IdMap]
    ids: IdMap

    def of(self, number: int) -> int:
        return convert(number, self.others, self.ids)


def _move_tree(root: Path, others: Sequence[IdMap], ids: IdMap) -> None:
    change = _Change(others, ids)
    for directory, names in _directories(root):
        for name in names:
            _move(directory, name, change)


def _move(directory: int, name: str, change: _Change) -> None:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    uid, gid = change.of(status.st_uid), change.of(status.st_gid)
    if (uid, gid) != (status.st_uid, status.st_gid):
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        for acl in _ACLS if stat.S_ISDIR(status.st_mode) else _ACLS[:1]:
            _move_acl(f"/proc/self/fd/{directory}/{name}", acl, change)


def _move_acl(path: str, acl: str, change: _Change) -> None:
    """Change the users and groups that an access control list names."""
    try:
        before = os.getxattr(path, acl, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTE:
            return
        raise
    after = converted_acl(before, change.others, change.ids)
    if after != before:
        os.setxattr(path, acl, after, follow_symlinks=False)


def converted_acl(value: bytes, others: Iterable[IdMap], ids: IdMap) -> bytes:
    """Return an access control list with the ids of another mapping; one of an unknown form stays as it is."""
    if len(value) < _ACL_HEAD.size or _ACL_HEAD.unpack_from(value)[0] != _ACL_VERSION:
        return value
    if (len(value) - _ACL_HEAD.size) % _ACL_ENTRY.size:
        return value
    parts, given = [value[: _ACL_HEAD.size]], list(others)
    for tag, permissions, number in _ACL_ENTRY.iter_unpack(value[_ACL_HEAD.size :]):
        named = tag in (_ACL_USER, _ACL_GROUP)
        parts.append(_ACL_ENTRY.pack(tag, permissions, convert(number, given, ids) if named else number))
    return b"".join(parts)


class _Level(NamedTuple):
    """A directory above the one that is being looked at, and which of those in it are still to be entered."""

    device: int
    inode: int
    waiting: list[str]


def _directories(root: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield each directory of a tree as a descriptor, with the names in it; the root first.

    Iterative, and back up by `..` to the very directory it came from: a tree may be deeper than descriptors or the
    interpreter's stack allow. Raises OSError for a directory that is another file system's.
    """
    current = os.open(root, _OPEN)
    try:
        device = os.fstat(current).st_dev
        above: list[_Level] = []
        waiting: list[str] | None = None
        while True:
            if waiting is None:
                names, waiting = _listed(current)
                yield current, names
            if waiting:
                name = waiting.pop()
                below = _enter(current, name, device)
                status = os.fstat(current)
                above.append(_Level(status.st_dev, status.st_ino, waiting))
                os.close(current)
                current, waiting = below, None
            elif above:
                level = above.pop()
                parent = os.open("..", _OPEN, dir_fd=current)
                os.close(current)
                current, waiting = parent, level.waiting
                status = os.fstat(current)
                if (status.st_dev, status.st_ino) != (level.device, level.inode):
                    raise OSError(errno.ESTALE, "a directory was moved meanwhile")
            else:
                return
    finally:
        os.close(current)


def _listed(directory: int) -> tuple[list[str], list[str]]:
    """Return the names in a directory, and those of them that are directories themselves."""
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    return [name for name, _ in found], [name for name, is_directory in found if is_directory]


def _enter(directory: int, name: str, device: int) -> int:
    below = os.open(name, _OPEN, dir_fd=directory)
    if os.fstat(below).st_dev != device:
        os.close(below)
        raise OSError(errno.EXDEV, "another file system lies in it", name)
    return below
