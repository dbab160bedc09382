"""The control socket itself: connecting without blocking, and receiving bytes together with descriptors."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import stat
import struct
from pathlib import Path

from .errors import ProtocolError, UnreachableError

_PATH_MAX = 107  # bytes of a path in sockaddr_un
_CREDENTIALS = struct.Struct("iII")
_RECEIVED_AT_ONCE = 4096


def open_socket(path: Path) -> socket.socket | None:
    """Connect without blocking. None where the backlog is full: nothing can wait for room but another try.

    Raises UnreachableError where nobody listens.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        _connect(connection, path)
    except BlockingIOError:
        connection.close()
        return None
    except OSError as error:
        connection.close()
        missing = isinstance(error, FileNotFoundError)
        raise UnreachableError(f"{path}: nothing answers there ({error.strerror})", missing=missing) from error
    return connection


def _connect(connection: socket.socket, path: Path) -> None:
    if len(os.fsencode(path)) <= _PATH_MAX:
        connection.connect(os.fspath(path))
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


def peer_of(connection: socket.socket) -> int:
    """Return the number of the process that listens there, which only the kernel can give."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(credentials)[0]
    return pid


def receive(connection: socket.socket, descriptors_max: int) -> tuple[bytes, list[int]]:
    """Receive what is there, with the descriptors that came along. Raises ProtocolError where these are too many.

    wshd sends them with the frame that speaks of them, and the kernel ends a reading there.
    """
    size = array.array("i").itemsize
    data, ancillary, flags, _ = connection.recvmsg(
        _RECEIVED_AT_ONCE, socket.CMSG_SPACE(descriptors_max * size), socket.MSG_CMSG_CLOEXEC
    )
    descriptors: list[int] = []
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers = array.array("i")
            numbers.frombytes(content[: len(content) - len(content) % size])
            descriptors += numbers
    if flags & socket.MSG_CTRUNC or len(descriptors) > descriptors_max:
        close_all(descriptors)
        raise ProtocolError("more descriptors came than a session has streams")
    return data, descriptors


def is_stream(descriptor: int) -> bool:
    """Say whether a descriptor is a pipe, which can be waited for: a file that a tenant filled would never block."""
    return stat.S_ISFIFO(os.fstat(descriptor).st_mode)


def close_all(descriptors: list[int]) -> None:
    """Close descriptors, and forget them."""
    while descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptors.pop())
