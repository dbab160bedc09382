"""Netlink as the kernel speaks it: messages of attributes over a socket (netlink(7), linux/netlink.h).

The distribution's library for it costs the agent 26 MB of memory and 0.6 s of each start; what is needed here is a
header, attributes and a dump.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ROUTE, NETFILTER = 0, 12
REQUEST, ACK, ECHO, DUMP, REPLACE, EXCLUSIVE, CREATE = 0x1, 0x4, 0x8, 0x300, 0x100, 0x200, 0x400
_ERROR, _DONE = 2, 3
_DUMP_INTERRUPTED = 0x10
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR_NUMBER = struct.Struct("=i")
_U32 = struct.Struct("=I")
_NESTED, _TYPE = 0x8000, 0x3FFF
_RECEIVE = 1 << 18
_SECONDS = 10
_INTERRUPTED_TRIES = 8
_SOL_NETLINK, _EXT_ACK = 270, 11
_CAPPED, _ACK_TLVS, _ERROR_TEXT = 0x100, 0x200, 1


class NetlinkError(OSError):
    """The kernel refused a request; `errno` is its number."""


@dataclass(frozen=True)
class Message:
    """One message: its type, its family's fixed header and its attributes as bytes.

    `port` is that of the socket which caused it, 0 where that is the kernel itself.
    """

    kind: int
    flags: int
    body: bytes
    port: int = 0

    def attributes(self, header: int) -> dict[int, bytes]:
        """Return the attributes that follow a fixed header of so many bytes."""
        return parse_attributes(self.body[header:])


def attribute(kind: int, value: bytes | str | Mapping[int, Any] | Iterable[bytes]) -> bytes:
    """Encode one attribute: bytes, text with its final zero, or the attributes that it nests.

    These come encoded, or as a mapping of such values by their types.
    """
    if isinstance(value, str):
        value = value.encode() + b"\0"
    elif not isinstance(value, bytes):
        items = (attribute(*item) for item in value.items()) if isinstance(value, Mapping) else value
        value, kind = b"".join(items), kind | _NESTED
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)


def attribute_list(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield attributes in order, for those of one type that come more than once."""
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            raise NetlinkError(0, f"an attribute of {length} bytes")
        yield kind & _TYPE, data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]


def parse_attributes(data: bytes) -> dict[int, bytes]:
    """Read attributes; of those of one type the last counts."""
    return dict(attribute_list(data))


def text(value: bytes) -> str:
    """Return an attribute's text without its final zero."""
    return value.rstrip(b"\0").decode(errors="replace")


def u32(value: int) -> bytes:
    """Encode a number of 32 bits in the machine's order."""
    return _U32.pack(value)


def number(value: bytes) -> int:
    """Read a number without a sign, of whatever size, in the machine's order."""
    return int.from_bytes(value, sys.byteorder)


class Netlink:
    """A socket of one protocol. It speaks for the network namespace in which it was made. Not for two threads."""

    def __init__(
        self, protocol: int = ROUTE, groups: int = 0, make: Callable[[int, int, int], socket.socket] = socket.socket
    ) -> None:
        self._socket = make(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._sequence = 0
        try:
            self._socket.bind((0, groups))
            self._socket.settimeout(_SECONDS)
            self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor, to wait on."""
        return self._socket.fileno()

    def request(self, kind: int, body: bytes, flags: int = 0) -> list[Message]:
        """Ask for a change or for one thing, and return what the kernel answers beside its word that it is done.

        Raises NetlinkError where it refuses.
        """
        self._send(kind, body, REQUEST | ACK | flags)
        return self._answers()

    def dump(self, kind: int, body: bytes, flags: int = 0) -> list[Message]:
        """Ask for all there is of a kind. A list that changed while it was made is asked for again."""
        for _ in range(_INTERRUPTED_TRIES):
            self._send(kind, body, REQUEST | DUMP | flags)
            messages = self._answers()
            if not any(message.flags & _DUMP_INTERRUPTED for message in messages):
                return messages
        return messages

    def receive(self) -> list[Message]:
        """Return the messages of one datagram: what the kernel tells of a group. OSError ENOBUFS: some were lost."""
        return [message for message, _ in _messages(self._socket.recv(_RECEIVE))]

    def _send(self, kind: int, body: bytes, flags: int) -> None:
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)

    def _answers(self) -> list[Message]:
        answers: list[Message] = []
        while True:
            for message, sequence in _messages(self._socket.recv(_RECEIVE)):
                if sequence != self._sequence:
                    continue  # the rest of an answer that nobody waited for
                if message.kind in (_ERROR, _DONE):
                    _raise_refusal(message)
                    return answers
                answers.append(message)


def _messages(data: bytes) -> Iterator[tuple[Message, int]]:
    while len(data) >= _HEADER.size:
        length, kind, flags, sequence, port = _HEADER.unpack_from(data)
        yield Message(kind, flags, data[_HEADER.size : length], port), sequence
        data = data[(length + 3) & ~3 :]


def _raise_refusal(message: Message) -> None:
    """Raise what an answer's end says has failed. An error repeats the request, or its header if it is capped."""
    (code,) = _ERROR_NUMBER.unpack_from(message.body.ljust(_ERROR_NUMBER.size, b"\0"))
    if code == 0:
        return
    told = ""
    if message.flags & _ACK_TLVS:
        start = _ERROR_NUMBER.size
        if message.kind == _ERROR:
            start += _HEADER.size if message.flags & _CAPPED else (number(message.body[4:8]) + 3) & ~3
        told = text(message.attributes(start).get(_ERROR_TEXT, b""))
    reason = os.strerror(-code)
    raise NetlinkError(-code, f"{reason}: {told}" if told else reason)
