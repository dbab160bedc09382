"""Asking a container's own network, from inside of its namespace: nothing in the image is needed for it.

The socket is made inside, and used from the event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket

from ..healthcheck import HttpProbe
from ..host.namespaces import made_inside

_LOOPBACK = "127.0.0.1"
_HEAD_MAX = 512  # bytes; a status line is far shorter


class UnhealthyError(Exception):
    """The instance is not well; the text says in what."""


def socket_inside(pid: int) -> socket.socket:
    """Return a TCP socket of the network that a process is in. Raises OSError where that cannot be entered."""
    return made_inside(pid, _make_socket)


def _make_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)


async def probe_tcp(inside: socket.socket, port: int) -> None:
    """Connect to a port. Raises UnhealthyError where nobody takes it."""
    try:
        await asyncio.get_running_loop().sock_connect(inside, (_LOOPBACK, port))
    except OSError as error:
        raise UnhealthyError(f"port {port}: {_reason(error)}") from error


async def probe_http(inside: socket.socket, http: HttpProbe) -> None:
    """Ask for a page and look at its status. Of the answer no more is read than that takes."""
    await probe_tcp(inside, http.port)
    loop = asyncio.get_running_loop()
    request = f"GET {http.path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bailey\r\nConnection: close\r\n\r\n"
    head = b""
    try:
        await loop.sock_sendall(inside, request.encode("ascii"))
        while b"\r\n" not in head and len(head) < _HEAD_MAX:
            chunk = await loop.sock_recv(inside, _HEAD_MAX)
            if not chunk:
                break
            head += chunk
    except OSError as error:
        raise UnhealthyError(f"port {http.port}: {_reason(error)}") from error
    status = parse_status(head)
    if status is None:
        raise UnhealthyError(f"port {http.port}: what answers is not HTTP")
    if status != http.status if http.status is not None else not 200 <= status <= 399:
        wanted = "200 to 399" if http.status is None else str(http.status)
        raise UnhealthyError(f"GET {http.path} on port {http.port}: status {status}, not {wanted}")


def parse_status(head: bytes) -> int | None:
    """Return the status of an answer's first line, None where it is not HTTP."""
    version, _, rest = head.partition(b"\r\n")[0].partition(b" ")
    code = rest[:3]
    return int(code) if version.startswith(b"HTTP/1.") and len(code) == 3 and code.isdigit() else None


def _reason(error: OSError) -> str:
    """Return the kernel's words: the event loop has its own in their place."""
    return os.strerror(error.errno) if error.errno else str(error)
