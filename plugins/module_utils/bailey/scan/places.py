"""Where an instance can write, and what has appeared there: files that change who runs them, and files to be read.

Everything is opened below the place itself and along no link: whatever a tenant renames while we walk, nothing
outside is touched. A walk is bounded in entries; what is left of it is the beginning of the next.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..host.beneath import open_beneath
from ..host.idmap import IDENTITY, IdMap, describe_process, read_id_map
from ..host.mounts import Mount, read_mounts
from ..host.proc import PROC
from .processes import clean

_KINDS = ("tmpfs", "btrfs", "xfs", "ext4", "ext3", "ext2", "f2fs")
_OVERLAY = "overlay"
_CAPABILITY = "security.capability"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_DEPTH_MAX = 64
_WAITING_MAX = 20_000  # directories that are still to be looked at
_PLACES_MAX = 64
_READ_MAX = 1 << 20  # bytes of a file that is read
_CODE = (".php", ".phtml", ".phar", ".php5", ".php7", ".inc", ".jsp", ".jspx", ".sh", ".pl", ".py", ".so", ".elf")
_EXECUTABLE = 0o111


@dataclass
class Place:
    """One place: its root directory is open, and `shown` is where the instance's processes see it.

    `ids` is the mapping that those live in, None where that is none that this platform makes.
    """

    shown: str
    descriptor: int
    ids: IdMap | None = IDENTITY

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)


@dataclass(frozen=True)
class Entry:
    """A file of note. `path` is below its place, `reason` says what is wrong with it, empty where it is to be read."""

    place: Place
    path: str
    reason: str

    @property
    def shown(self) -> str:
        """Its path as the instance's processes see it, for a reader."""
        return clean(f"{self.place.shown.rstrip('/')}/{self.path}")


@dataclass
class Walk:
    """How far a walk has come: directories that wait, as place and path, each with the entries that are done."""

    waiting: list[tuple[str, int]] = field(default_factory=list)
    entries: int = 0
    unreached: int = 0  # directories that were too deep or too many


def open_places(pid: int, proc: Path = PROC) -> list[Place]:
    """Open what a process can write to: volumes, tmpfs, and of its root what has been written above the image."""
    try:
        root = os.open(proc / str(pid) / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return []  # it has ended
    places, ids = [], read_id_map(pid, proc)
    try:
        for mount in itertools.islice(_writable(read_mounts(pid, proc)), _PLACES_MAX):
            descriptor = _open_mount(root, mount)
            if descriptor is not None:
                places.append(Place(str(mount.point), descriptor, ids))
    finally:
        os.close(root)
    return places


def _writable(mounts: list[Mount]) -> Iterator[Mount]:
    return (mount for mount in mounts if not mount.read_only and mount.fs_type in (*_KINDS, _OVERLAY))


def _open_mount(root: int, mount: Mount) -> int | None:
    """Open a mount's root; None for a single file that is mounted, and for what has gone."""
    try:
        if mount.fs_type != _OVERLAY:
            return open_beneath(root, str(mount.point), _DIRECTORY)
        upper = next((item[9:] for item in mount.super_options if item.startswith("upperdir=/")), None)
        return None if upper is None else os.open(upper, _DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None


def walk(places: list[Place], state: Walk, bound: int) -> Iterator[Entry]:
    """Yield what is of note among the next `bound` entries; `state` then says where to go on."""
    if not state.waiting:
        state.waiting = [(f"{number}:", 0) for number in reversed(range(len(places)))]
    while state.waiting and state.entries < bound:
        name, skip = state.waiting.pop()
        number, _, path = name.partition(":")
        if not number.isdecimal() or int(number) >= len(places):
            continue
        place = places[int(number)]
        try:
            descriptor = open_beneath(place.descriptor, path or ".", _DIRECTORY, straight=True)
        except OSError:
            continue  # it has gone, or was never a directory of this place
        try:
            yield from _directory(descriptor, place, name, skip, state, bound)
        finally:
            os.close(descriptor)


def _directory(descriptor: int, place: Place, name: str, skip: int, state: Walk, bound: int) -> Iterator[Entry]:
    path = name.partition(":")[2]
    found: list[str] = []
    done, is_whole = skip, False
    try:
        with os.scandir(descriptor) as entries:
            for entry in itertools.islice(entries, skip, None):
                if state.entries >= bound:
                    return
                done += 1
                state.entries += 1
                below = f"{path}/{entry.name}" if path else entry.name
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    found.append(below)
                elif stat.S_ISREG(status.st_mode):
                    yield from _file(descriptor, entry.name, Entry(place, below, ""), status)
        is_whole = True
    finally:  # whoever walks may stop at any entry
        if not is_whole:
            state.waiting.append((name, done))
        _enqueue(state, name.partition(":")[0], found)


def _enqueue(state: Walk, number: str, directories: list[str]) -> None:
    for below in directories:
        if below.count("/") >= _DEPTH_MAX or len(state.waiting) >= _WAITING_MAX:
            state.unreached += 1
        else:
            state.waiting.append((f"{number}:{below}", 0))


def _file(directory: int, name: str, entry: Entry, status: os.stat_result) -> Iterator[Entry]:
    reason = _changes_user(directory, name, status, entry.place.ids)
    if reason:
        yield Entry(entry.place, entry.path, reason)
    is_code = status.st_mode & _EXECUTABLE or name.lower().endswith(_CODE)
    if is_code and 0 < status.st_size <= _READ_MAX:
        yield entry


def _changes_user(directory: int, name: str, status: os.stat_result, ids: IdMap | None) -> str:
    """Say how a file gives who runs it what he has not: its mode, or capabilities(7) in its attributes."""
    if status.st_mode & stat.S_ISUID:
        return f"it runs as uid {describe_process(ids, status.st_uid)} (mode {stat.S_IMODE(status.st_mode):04o})"
    if status.st_mode & stat.S_ISGID and status.st_mode & stat.S_IXGRP:
        return f"it runs as gid {describe_process(ids, status.st_gid)} (mode {stat.S_IMODE(status.st_mode):04o})"
    if status.st_mode & _EXECUTABLE:
        try:
            os.getxattr(f"/proc/self/fd/{directory}/{name}", _CAPABILITY, follow_symlinks=False)
        except OSError:
            return ""
        return "it has capabilities of its own (security.capability)"
    return ""
