"""What is mounted where, as the kernel tells it, and what is to be mounted at boot (fstab)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import HostError
from .files import read_text, write_atomic
from .proc import PROC, read_of_process

FSTAB = Path("/etc/fstab")
_TMPFS_SIZE = re.compile(r"size=(\d+)k")
_LINKS_MAX = 256  # steps, so that links in a circle end
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo: `options` are the mount's own, `super_options` those of the file system below it."""

    point: Path
    root: str
    fs_type: str
    source: str
    options: frozenset[str]
    super_options: frozenset[str]

    @property
    def read_only(self) -> bool:
        """Whether writing through this mount fails."""
        return "ro" in self.options

    @property
    def tmpfs_size(self) -> int | None:
        """Bytes that a tmpfs may hold, None where it has no size of its own."""
        for option in self.super_options:
            match = _TMPFS_SIZE.fullmatch(option)
            if match:
                return int(match[1]) * 1024
        return None


@dataclass(frozen=True)
class FstabEntry:
    """One file system that is mounted at boot."""

    source: str
    point: Path
    fs_type: str
    options: tuple[str, ...]

    def line(self) -> str:
        """Return the entry as a line of fstab: never dumped, never checked by fsck at boot."""
        fields = (self.source, str(self.point), self.fs_type, ",".join(self.options), "0", "0")
        return " ".join(_escape(item) for item in fields)


def _escape(text: str) -> str:
    return re.sub(r"[ \t\n\\#]", lambda match: f"\\{ord(match[0]):03o}", text)


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


@lru_cache(maxsize=4096)
def _parse_mount(root: str, point: str, options: str, file_system: str) -> Mount:
    """Return one mount of the list. Most are the same in every container, and to make one costs more than to look."""
    fs_type, source, super_options, *_ = file_system.split(" ")
    return Mount(
        point=Path(_unescape(point)),
        root=_unescape(root),
        fs_type=fs_type,
        source=_unescape(source),
        options=frozenset(options.split(",")),
        super_options=frozenset(super_options.split(",")),
    )


def parse_mountinfo(text: str) -> list[Mount]:
    """Read the kernel's list; the order is that in which the mounts were made."""
    mounts = []
    for line in filter(None, text.split("\n")):
        left, _, file_system = line.partition(" - ")
        before = left.split(" ")
        if len(before) < 6 or file_system.count(" ") < 2:
            raise HostError(f"mountinfo: this line cannot be read: {line!r}")
        mounts.append(_parse_mount(*before[3:6], file_system))
    return mounts


def read_mounts(pid: int | str = "self", proc: Path = PROC) -> list[Mount]:
    """Return what a process sees mounted, in the order in which it was; empty where the process has ended."""
    return parse_mountinfo(read_of_process(f"{proc}/{pid}/mountinfo") or "")


def resolve_inside(pid: int, path: str, proc: Path = PROC) -> str:
    """Return where a path leads in a process's own file system: engines mount behind an image's symbolic links."""
    root = f"{proc}/{pid}/root"
    todo, done = [part for part in reversed(path.split("/")) if part], ""
    for _ in range(_LINKS_MAX):
        if not todo:
            break
        part = todo.pop()
        if part == "..":
            done = done.rpartition("/")[0]
        elif part != ".":
            link = _link(f"{root}{done}/{part}")
            if link is None:
                done = f"{done}/{part}"
                continue
            done = "" if link.startswith("/") else done
            todo += [step for step in reversed(link.split("/")) if step]
    return done or "/"


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)  # noqa: PTH115 - a path's last part, never normalised
    except OSError:
        return None


def mount_holding(path: Path, mounts: Iterable[Mount] | None = None) -> Mount:
    """Return the mount that a path lies on: the deepest, and of those the newest."""
    resolved = path.resolve()
    best: Mount | None = None
    for mount in read_mounts() if mounts is None else mounts:
        deeper = best is None or len(mount.point.parts) >= len(best.point.parts)
        if deeper and resolved.is_relative_to(mount.point):
            best = mount
    if best is None:
        raise HostError(f"{path}: no mount holds this path")
    return best


def mount_at(point: Path) -> Mount | None:
    """Return what is mounted exactly at a path, or None."""
    mount = mount_holding(point)
    return mount if mount.point == point.resolve() else None


def _parse_fstab_line(line: str) -> FstabEntry | None:
    fields = line.split()
    if len(fields) < 3 or fields[0].startswith("#"):
        return None
    options = fields[3].split(",") if len(fields) > 3 else ["defaults"]
    return FstabEntry(
        _unescape(fields[0]), Path(_unescape(fields[1])), fields[2], tuple(_unescape(item) for item in options)
    )


def fstab_entry(point: Path, fstab: Path = FSTAB) -> FstabEntry | None:
    """Return the entry for a mount point, or None; two of them are an error."""
    parsed = (_parse_fstab_line(line) for line in (read_text(fstab) or "").splitlines())
    found = [entry for entry in parsed if entry is not None and entry.point == point]
    if len(found) > 1:
        raise HostError(f"{fstab}: {len(found)} entries for {point}; one is allowed: remove the wrong ones")
    return found[0] if found else None


def set_fstab_entry(point: Path, entry: FstabEntry | None, fstab: Path = FSTAB) -> None:
    """Put the one entry of a mount point in place, or take it out; every other line stays as it is."""
    text = read_text(fstab) or ""
    kept = []
    for line in text.splitlines(keepends=True):
        found = _parse_fstab_line(line)
        if found is None or found.point != point:
            kept.append(line)
    if entry is not None:
        if kept and not kept[-1].endswith("\n"):
            kept[-1] += "\n"
        kept.append(entry.line() + "\n")
    new = "".join(kept)
    if new != text:
        mode = fstab.stat().st_mode & 0o777 if fstab.exists() else 0o644
        write_atomic(fstab, new.encode(), mode=mode)
