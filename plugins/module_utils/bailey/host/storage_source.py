"""What the tenants' file system is stored on: a loop file, or a whole block device.

Nothing is ever formatted that holds something: a file system counts as Bailey's own by its label
alone; any other signature, and data without one, is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import CommandError, HostError, InvalidValueError
from ..units import format_size
from .command import run
from .loops import backing_file, ensure_nodes, loop_of

LABEL = "bailey"
KINDS = ("xfs", "btrfs")
_NOTHING_FOUND = 2
_EDGE = 4 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Content:
    """What a source holds. `kind` is the file system if it is Bailey's own."""

    exists: bool
    kind: str | None = None
    foreign: str | None = None


class Source:
    """A loop file or block device, by its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_device = path.exists() and stat.S_ISBLK(path.stat().st_mode)
        if not self.is_device and (path.is_relative_to("/dev") or (path.exists() and not path.is_file())):
            raise InvalidValueError("source", str(path), "a block device, or the path of a regular file")

    def content(self) -> Content:
        """Look at what is stored, without changing anything."""
        if not self.path.exists():
            return Content(exists=False)
        found = _probe(self.path)
        kind = found.get("TYPE", "")
        if kind in KINDS and found.get("LABEL") == LABEL:
            return Content(exists=True, kind=kind)
        if found:
            label = f", label {found['LABEL']}" if "LABEL" in found else ""
            return Content(exists=True, foreign=(kind or f"{found.get('PTTYPE', 'unknown')} partition table") + label)
        if self.is_device and _in_use(self.path):
            return Content(exists=True, foreign="something that is in use")
        return Content(exists=True, foreign="data without a file system" if _holds_data(self.path) else None)

    def device(self) -> str | None:
        """Return the block device that a mount of this source shows, or None while there is none."""
        if self.is_device:
            return str(self.path.resolve())
        loop = loop_of(self.path)
        return str(loop) if loop else None

    def is_below(self, device: str) -> bool:
        """Say whether a mount's device is this source."""
        if self.is_device:
            return Path(device).resolve() == self.path.resolve()
        return backing_file(device) == self.path.resolve()

    def is_held(self) -> bool:
        """Say whether a file system on it is in use, though it may be mounted nowhere that can be seen."""
        return _in_use(self.path) if self.is_device else loop_of(self.path) is not None

    def check_room(self, size: int) -> None:
        """Refuse a size that the host's disk cannot give: a full disk below stops every tenant at once."""
        if self.is_device:
            return
        status = os.statvfs(next(parent for parent in self.path.parents if parent.exists()))
        has = self.path.stat().st_blocks * 512 if self.path.exists() else 0
        free = status.f_bavail * status.f_frsize + has
        if size > free:
            allowed = f"at most the {format_size(free)} that are free where {self.path} is stored"
            raise InvalidValueError("size", format_size(size), allowed)

    def allocate(self, size: int, *, whole: bool) -> None:
        """Make the file, or make it longer; `whole` takes all its blocks from the disk at once."""
        if self.is_device:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b") as stream:
                stream.truncate(size)
                if whole:
                    os.posix_fallocate(stream.fileno(), 0, size)
        except OSError as error:
            raise HostError(f"{self.path}: the file cannot be made {format_size(size)} long: {error}") from error

    def format(self, kind: str, *, discard: bool) -> None:
        """Make a file system; the programs themselves refuse a source that holds another one."""
        keep = [] if discard else ["-K"]
        # Metadata is stored once: stored twice, as it is by default, a tenant that fills its limit
        # with tiny files and names would take twice its limit from the others.
        extra = ["-m", "single"] if kind == "btrfs" else []
        run([f"mkfs.{kind}", "-q", "-L", LABEL, *keep, *extra, str(self.path)], timeout=600)

    def mount(self, kind: str, point: Path, options: tuple[str, ...]) -> None:
        """Mount the file system; a loop device is attached for it, and goes with the mount."""
        if not self.is_device:
            ensure_nodes()
            options = ("loop", *options)
        run(["mount", "-t", kind, "-o", ",".join(options), str(self.path), str(point)], timeout=300)

    def erase(self) -> None:
        """Remove the file, or everything on the device by which it could be taken for used."""
        if not self.is_device:
            self.path.unlink(missing_ok=True)
            return
        run(["wipefs", "--all", str(self.path)])
        with self.path.open("r+b", buffering=0) as stream:
            for start, length in _edges(stream.seek(0, os.SEEK_END)):
                stream.seek(start)
                stream.write(bytes(length))
            os.fsync(stream.fileno())


def _probe(path: Path) -> dict[str, str]:
    """Return the signature that blkid finds on the source itself, not in its cache."""
    try:
        text = run(["blkid", "--probe", "--output", "export", str(path)])
    except CommandError as error:
        if error.returncode == _NOTHING_FOUND:
            return {}
        raise HostError(f"{path}: what it holds is not clear, so it is left alone: {error}") from error
    pairs = dict(line.partition("=")[::2] for line in text.splitlines())
    return {key: value for key, value in pairs.items() if key != "DEVNAME"}


def _in_use(device: Path) -> bool:
    """Say whether the kernel holds a device: mounted, swap, or part of a RAID or volume group."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError:
        return True
    return False


def _edges(size: int) -> list[tuple[int, int]]:
    length = min(_EDGE, size)
    return [(0, length), (size - length, length)]


def _holds_data(path: Path) -> bool:
    """Look for a byte that is not zero: in a file anywhere, on a device in its first and last 4 MiB."""
    with path.open("rb", buffering=0) as stream:
        size = stream.seek(0, os.SEEK_END)
        ranges = _edges(size) if path.is_block_device() else _written(stream.fileno(), size)
        return any(_nonzero(stream.fileno(), start, length) for start, length in ranges)


def _written(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a file that are not holes."""
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:
            return
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, position - start


def _nonzero(descriptor: int, start: int, length: int) -> bool:
    for offset in range(start, start + length, _CHUNK):
        piece = os.pread(descriptor, min(_CHUNK, start + length - offset), offset)
        if piece.count(0) != len(piece):
            return True
    return False
