"""The log's files: bounded on disk, whole lines only, and never in the way where the disk is full."""

from __future__ import annotations

import contextlib
import grp
import os
from collections.abc import Sequence
from pathlib import Path

_MODE = 0o640
_GROUP = "adm"  # as for other logs


def former(log: Path, number: int) -> Path:
    """Return the path of a former file; the higher its number, the older it is. 0 is the log itself."""
    return log if number == 0 else log.with_name(f"{log.name}.{number}")


def file_numbers(log: Path) -> list[int]:
    """Return the numbers of the log and of its former files, the newest first."""
    numbers = [0]
    for path in log.parent.glob(f"{log.name}.*"):
        suffix = path.name.removeprefix(f"{log.name}.")
        if suffix.isdecimal() and suffix.isascii():
            numbers.append(int(suffix))
    return sorted(numbers)


class LogFiles:
    """The writer of the log. At most `count` files of at most `max_size` bytes each are on disk."""

    def __init__(self, path: Path, max_size: int, count: int) -> None:
        self._path, self._max_size, self._count = path, max_size, count
        self._descriptor: int | None = None
        self._size = 0

    def write(self, lines: Sequence[bytes]) -> int:
        """Write lines and return how many of them have found room."""
        written = 0
        with contextlib.suppress(OSError):
            descriptor = self._open()
            while written < len(lines):
                if self._size > 0 and self._size + len(lines[written]) > self._max_size:
                    descriptor = self._rotate()
                chunk = self._fitting(lines[written:])
                whole = self._append(descriptor, chunk)
                written += whole
                if whole < len(chunk):
                    break
        return written

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        """Have the log open that is at its path: somebody may have taken the one that was away."""
        if self._descriptor is not None:
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_ino == os.fstat(self._descriptor).st_ino:
                    return self._descriptor
            self.close()
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size > self._max_size:
                self._shift()
        self._trim()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)
        self._descriptor = descriptor
        os.fchmod(descriptor, _MODE)
        with contextlib.suppress(KeyError):
            os.fchown(descriptor, -1, grp.getgrnam(_GROUP).gr_gid)
        self._size = _cut_torn_line(descriptor)
        return descriptor

    def _rotate(self) -> int:
        self.close()
        self._shift()
        return self._open()

    def _shift(self) -> None:
        """Make the log the newest of the former files; the oldest goes first, so that there is never one too many."""
        former(self._path, self._count - 1).unlink(missing_ok=True)
        for number in reversed(range(self._count - 1)):
            with contextlib.suppress(FileNotFoundError):
                former(self._path, number).rename(former(self._path, number + 1))

    def _trim(self) -> None:
        """Remove of the former files what wider bounds of the past have left."""
        room = self._max_size * (self._count - 1)
        for number in file_numbers(self._path)[1:]:
            path = former(self._path, number)
            room -= path.stat().st_size
            if room < 0 or number >= self._count:
                path.unlink()

    def _fitting(self, lines: Sequence[bytes]) -> list[bytes]:
        """Return the lines that the file has room for, one at least."""
        size, fitting = self._size, list(lines[:1])
        for line in lines[1:]:
            size += len(fitting[-1])
            if size + len(line) > self._max_size:
                break
            fitting.append(line)
        return fitting

    def _append(self, descriptor: int, lines: list[bytes]) -> int:
        """Write lines, take away the one that the disk took in part only, and return how many are whole."""
        taken = os.write(descriptor, b"".join(lines))
        whole = size = 0
        while whole < len(lines) and size + len(lines[whole]) <= taken:
            size += len(lines[whole])
            whole += 1
        self._size += size
        if size < taken:
            os.ftruncate(descriptor, self._size)
        return whole


def _cut_torn_line(descriptor: int) -> int:
    """Take away what a crash has left of a last line, and return the file's size."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - (1 << 16))
    tail = os.pread(descriptor, size - start, start)
    if tail and not tail.endswith(b"\n"):
        size = start + tail.rfind(b"\n") + 1
        os.ftruncate(descriptor, size)
    return size
