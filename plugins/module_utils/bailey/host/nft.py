"""nftables: transactions by libnftables, and the kernel's word on who has changed what (libnftables(3), nft(8)).

Sources of the events: linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import select
import socket
import stat
import threading
import weakref
from collections.abc import Iterator

from ..errors import HostError, UnsupportedError
from .netlink import NETFILTER, Message, Netlink, text

SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
HEADER = 4  # struct nfgenmsg
INET, BRIDGE = 1, 7  # NFPROTO_INET, NFPROTO_BRIDGE
TABLE = 1  # NFTA_TABLE_NAME, and the table's attribute of every other message

_LIBRARY = "libnftables.so.1"
_GROUP = 1 << 6  # NFNLGRP_NFTABLES is 7, as a bit
_NEWGEN = 15
# What a host's whole firewall tells of when it is made anew; the kernel uses no more of it than it needs.
_EVENT_BYTES = 64 << 20
_SO_RCVBUFFORCE = 33


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise UnsupportedError("network", _LIBRARY, f"libnftables cannot be loaded: {error}") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        function = getattr(library, name)
        function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    return library


class Nft:
    """One context of libnftables, which speaks for the network namespace it was made in. One transaction at a time."""

    def __init__(self) -> None:
        self._library = _library()
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise HostError("nftables: libnftables cannot be made ready; it takes root and a kernel with nf_tables")
        weakref.finalize(self, self._library.nft_ctx_free, self._context)
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)
        self._lock = threading.Lock()

    def run(self, commands: str) -> str:
        """Carry out commands as one transaction, and return what they print.

        Raises HostError with nft's own words where it refuses; nothing has changed then.
        """
        with self._lock:
            return self._run(commands)

    def accepts(self, commands: str) -> bool:
        """Say whether commands would be carried out. The kernel itself is asked, and nothing changes."""
        with self._lock:
            self._library.nft_ctx_set_dry_run(self._context, True)
            try:
                self._run(commands)
            except HostError:
                return False
            finally:
                self._library.nft_ctx_set_dry_run(self._context, False)
        return True

    def _run(self, commands: str) -> str:
        failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        output = self._library.nft_ctx_get_output_buffer(self._context) or b""
        told = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            raise HostError(f"nftables: {told.decode(errors='replace').strip() or 'refused without a word'}")
        return str(output.decode())


class TableEvents:
    """What the kernel tells of changes to tables of one name, in the families inet and bridge.

    It names the socket that a change came by. The number of a process is no use: the kernel gives that of a thread,
    as it is known outside of all containers.
    """

    def __init__(self, table: str) -> None:
        self._table = table
        self._netlink = Netlink(NETFILTER, groups=_GROUP, make=_roomy_socket)
        self._concerned = False  # by the transaction that is being told of
        self._own: set[int] = set()

    def fileno(self) -> int:
        """Return the descriptor, to wait on."""
        return self._netlink.fileno()

    def touched(self) -> bool:
        """Read all that has come, and say whether anybody but this process has changed tables of that name.

        Where more came than the socket takes, it may have been anybody.
        """
        found = False
        while select.select([self], [], [], 0)[0]:
            try:
                messages = self._netlink.receive()
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found = True
                continue
            for message in messages:  # each of them: a transaction may begin in one datagram and end in another
                found |= self._ends_touched(message)
        return found

    def _ends_touched(self, message: Message) -> bool:
        """Take note of a message, and say whether it closes a transaction of somebody else that concerns us."""
        if message.kind != SUBSYSTEM | _NEWGEN:
            named = text(message.attributes(HEADER).get(TABLE, b""))
            self._concerned |= message.body[0] in (INET, BRIDGE) and named == self._table
            return False
        concerned, self._concerned = self._concerned, False
        return concerned and not self._is_own(message.port)

    def _is_own(self, port: int) -> bool:
        if port not in self._own:
            self._own.update(_own_ports())
        return port in self._own

    def close(self) -> None:
        """Listen no more."""
        self._netlink.close()


def _roomy_socket(*kind: int) -> socket.socket:
    made = socket.socket(*kind)
    made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _EVENT_BYTES)
    return made


def _own_ports() -> Iterator[int]:
    """Yield the numbers of this process's sockets to netfilter, libnftables' among them, which it does not tell."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as found:
                if (found.family, found.proto) == (socket.AF_NETLINK, NETFILTER):
                    yield found.getsockname()[0]
        except OSError:  # closed meanwhile
            continue
