"""The Unix sockets of the gate: bound so that nobody sees them half made, whatever the length of their path."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_BACKLOG = 8
_CREDENTIALS = struct.Struct("iii")
_CLOSE = socket.SOCK_STREAM | socket.SOCK_CLOEXEC
UNKNOWN = 0  # a listener whose queue is full says nothing of itself


class Credentials(NamedTuple):
    """Who a socket's other end was when it connected, or listened; numbers are this host's."""

    pid: int
    uid: int
    gid: int


def credentials(connection: socket.socket) -> Credentials:
    """Return the kernel's word on the other end."""
    return Credentials(
        *_CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    )


@contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """Give a socket's path in few characters: the kernel takes no more than 107 of them."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def bind_boot(path: Path, uid: int) -> socket.socket:
    """Return a listening socket that only one uid can connect to; under its name it is whole, or not there."""
    fresh = path.with_name(f".{path.name}")
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, _CLOSE | socket.SOCK_NONBLOCK)
    try:
        with _reachable(fresh) as name:
            listener.bind(name)
        fresh.chmod(0o600)
        os.chown(fresh, uid, uid)
        listener.listen(_BACKLOG)
        fresh.rename(path)
    except BaseException:
        listener.close()
        fresh.unlink(missing_ok=True)
        raise
    return listener


def bind_control(path: Path) -> socket.socket:
    """Return a bound socket that does not listen: wshd itself will. Its directory is root's alone."""
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, _CLOSE)
    try:
        with _reachable(path) as name:
            bound.bind(name)
        path.chmod(0o600)
    except BaseException:
        bound.close()
        raise
    return bound


def listener_of(path: Path) -> int | None:
    """Return the pid of whoever listens at a path, UNKNOWN where its queue is full, None where nobody does."""
    with socket.socket(socket.AF_UNIX, _CLOSE | socket.SOCK_NONBLOCK) as connection:
        try:
            with _reachable(path) as name:
                connection.connect(name)
        except BlockingIOError:
            return UNKNOWN
        except OSError:
            return None
        return credentials(connection).pid
