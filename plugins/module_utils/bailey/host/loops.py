"""Loop devices: which one holds a file, and the nodes in /dev that containers may lack."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .command import run
from .files import read_text

_BLOCK = Path("/sys/block")
_LOOP_MAJOR = 7
_CONTROL = (10, 237)
_SECTOR = 512


def loop_of(file: Path) -> Path | None:
    """Return the loop device that a file is attached to, or None."""
    wanted = str(file.resolve())
    for entry in _BLOCK.glob("loop*/loop/backing_file"):
        if (read_text(entry) or "").strip() == wanted:
            return Path("/dev") / entry.parent.parent.name
    return None


def backing_file(device: str) -> Path | None:
    """Return the file below a loop device, or None for any other device."""
    text = read_text(_BLOCK / Path(device).name / "loop" / "backing_file")
    return Path(text.strip()) if text else None


def device_size(device: Path) -> int:
    """Return the bytes that a block device offers; a loop device sees that its file grew by `refresh`."""
    return int((Path("/sys/class/block") / device.resolve().name / "size").read_text()) * _SECTOR


def refresh(loop: Path) -> None:
    """Let a loop device take the size that its file has now."""
    run(["losetup", "--set-capacity", str(loop)])


def ensure_nodes() -> None:
    """Make the nodes that the next attach needs where nothing else makes them.

    A container without devtmpfs has the nodes that its /dev was born with, while the kernel hands
    out the next free loop device of the whole host.
    """
    _ensure_node(Path("/dev/loop-control"), stat.S_IFCHR, *_CONTROL)
    free = Path(run(["losetup", "--find"]).strip())
    number = free.name.removeprefix("loop")
    if number.isdigit():
        _ensure_node(free, stat.S_IFBLK, _LOOP_MAJOR, int(number))


def _ensure_node(path: Path, kind: int, major: int, minor: int) -> None:
    if not path.exists():
        os.mknod(path, kind | 0o600, os.makedev(major, minor))
