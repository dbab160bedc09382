"""Looking at paths below a directory that belongs to somebody else, by openat2(2).

The kernel resolves every symbolic link and every `..` as if that directory were the root, and follows none of
/proc's links into other processes: whatever a tenant has put there, nothing outside is touched.
"""

from __future__ import annotations

import ctypes
import errno
import os

# The number is the same on every architecture; the standard library has no name for it.
_SYS_OPENAT2 = 437
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_IN_ROOT = 0x10
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_TRIES = 32  # a tenant that renames directories all the time makes the kernel give up with EAGAIN


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)


def exists_beneath(root: int, path: str) -> bool:
    """Say whether `path` names anything, as seen by one whose root directory is open as `root`.

    A symbolic link that is the path's last part counts as it stands, wherever it points. Raises OSError for what
    is neither a yes nor a no.
    """
    try:
        descriptor = open_beneath(root, path, os.O_PATH | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise
    os.close(descriptor)
    return True


def open_beneath(root: int, path: str, flags: int, *, straight: bool = False) -> int:
    """Open `path` for reading, as seen by one whose root directory is open as `root`; return a descriptor.

    `straight` refuses every symbolic link on the way (ELOOP), and every step into another mount (EXDEV). Raises
    OSError. What is opened may be a device or a pipe: who reads it asks fstat first, by O_PATH.
    """
    resolve = _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS
    if straight:
        resolve |= _RESOLVE_NO_XDEV | _RESOLVE_NO_SYMLINKS
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    name = os.fsencode(path)
    code = 0
    for _ in range(_TRIES):
        descriptor: int = _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2), root, ctypes.c_char_p(name), ctypes.byref(how), ctypes.sizeof(how)
        )
        if descriptor >= 0:
            return descriptor
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code), path)
