"""Taking a file's content once: into memory for the scanner, while its digest is made, so that both are of the same."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

_CHUNK = 1 << 20
_TMPFS = 0x01021994  # TMPFS_MAGIC, include/uapi/linux/magic.h; memfd_create(2) makes files of it, too
_SETTLED = 2.0  # seconds after its last change from which on a file's times tell of the next one
_libc = ctypes.CDLL(None, use_errno=True)


class TooLargeError(Exception):
    """A file is larger than what is read of one."""


@dataclass
class Content:
    """Bytes in memory, open as `descriptor`, and their SHA-256."""

    descriptor: int
    sha256: str

    def close(self) -> None:
        """Let go of them."""
        os.close(self.descriptor)


def take(descriptor: int, limit: int) -> Content:
    """Copy a file from its beginning. Raises TooLargeError for one above `limit` bytes, OSError."""
    digest, copy = hashlib.sha256(), _new()
    try:
        for part in _parts(descriptor, limit):
            digest.update(part)
            _write(copy, part)
    except BaseException:
        os.close(copy)
        raise
    return Content(copy, digest.hexdigest())


def _parts(descriptor: int, limit: int) -> Iterator[bytes]:
    offset = 0
    while part := os.pread(descriptor, _CHUNK, offset):
        offset += len(part)
        if offset > limit:
            raise TooLargeError
        yield part


def hold(data: bytes) -> Content:
    """Hold bytes that have been read."""
    copy = _new()
    try:
        _write(copy, data)
    except BaseException:
        os.close(copy)
        raise
    return Content(copy, hashlib.sha256(data).hexdigest())


def _new() -> int:
    return os.memfd_create("bailey-scan", os.MFD_CLOEXEC)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def identity(descriptor: int, status: os.stat_result, now: float) -> str | None:
    """Return what changes whenever a file's content does, None where nothing does.

    The time of change is the kernel's, and no tenant sets it; that of modification anybody can. On tmpfs a write by
    mmap(2) changes neither, and a file that has changed a moment ago may change again within the same tick.
    """
    if now - status.st_ctime < _SETTLED or _file_system(descriptor) == _TMPFS:
        return None
    return f"{status.st_dev}:{status.st_ino}:{status.st_ctime_ns}:{status.st_mtime_ns}:{status.st_size}"


def _file_system(descriptor: int) -> int:
    """Return the type of the file system that a file lies on, fstatfs(2); 0 where it is not known."""
    buffer = ctypes.create_string_buffer(256)  # struct statfs begins with f_type, a long
    if _libc.fstatfs(descriptor, buffer) != 0:
        return 0
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF
