"""The fields inside a frame's payload: a tag, two zero bytes, a length, and as many bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .errors import ProtocolError

_FIELD = struct.Struct("<HHI")
_U32 = struct.Struct("<I")


@dataclass(frozen=True)
class Field:
    """One field."""

    tag: int
    value: bytes


def join_fields(fields: Iterable[Field]) -> bytes:
    """Write fields one after another."""
    return b"".join(_FIELD.pack(field.tag, 0, len(field.value)) + field.value for field in fields)


class FieldReader:
    """The fields of one payload; every tag must be among those known, those of `once` at most once."""

    def __init__(self, frame: str, payload: bytes, once: Sequence[int], repeated: Sequence[int] = ()) -> None:
        self._frame = frame
        self._values: dict[int, list[bytes]] = {}
        position = 0
        while position < len(payload):
            if len(payload) - position < _FIELD.size:
                raise ProtocolError(f"{frame} ends inside a field")
            tag, zero, length = _FIELD.unpack_from(payload, position)
            position += _FIELD.size
            if length > len(payload) - position:
                raise ProtocolError(f"{frame} ends inside a field")
            if zero or (tag not in once and tag not in repeated) or (tag in once and tag in self._values):
                raise ProtocolError(f"{frame} has a field that is not allowed there: {tag}")
            self._values.setdefault(tag, []).append(payload[position : position + length])
            position += length

    def all(self, tag: int) -> list[bytes]:
        """Return the values of a tag, in order."""
        return self._values.get(tag, [])

    def one(self, tag: int) -> bytes | None:
        """Return the value of a tag, or None where it is not there."""
        values = self.all(tag)
        return values[0] if values else None

    def required(self, tag: int) -> bytes:
        """Return the value of a tag that has to be there."""
        value = self.one(tag)
        if value is None:
            raise ProtocolError(f"{self._frame} lacks the field {tag}")
        return value

    def strings(self, tag: int) -> list[bytes]:
        """Return values that will be strings of C."""
        values = self.all(tag)
        if any(b"\0" in value for value in values):
            raise ProtocolError(f"{self._frame} has a zero byte in the field {tag}")
        return values

    def string(self, tag: int) -> bytes | None:
        """Return one such value, or None where it is not there."""
        return next(iter(self.strings(tag)), None)

    def number(self, tag: int) -> int | None:
        """Return a number of four bytes, or None where it is not there."""
        value = self.one(tag)
        if value is None:
            return None
        if len(value) != _U32.size:
            raise ProtocolError(f"{self._frame} has {len(value)} bytes in the field {tag}; allowed: {_U32.size}")
        number: int = _U32.unpack(value)[0]
        return number

    def required_number(self, tag: int) -> int:
        """Return a number that has to be there."""
        self.required(tag)
        return self.number(tag) or 0


def name_of(message: object) -> str:
    """Return the name of a message's frame."""
    return type(message).__name__.upper()


def printable(value: bytes) -> str:
    """Return text that came from inside a container, fit for a terminal and a log: no control characters."""
    text = value.decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
