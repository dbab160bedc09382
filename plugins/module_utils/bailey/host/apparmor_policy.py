"""The binary form of AppArmor profiles, as apparmor_parser(8) writes it and the kernel reads it.

Sources: enum aa_code and aa_unpack() in security/apparmor/policy_unpack.c, aa_calc_profile_hash() in crypto.c.
The parser writes one profile after the other, children as profiles of their own under "PARENT//CHILD", each behind a
header of its own. The kernel's hash of a profile is over that header's version and the profile alone. It does not
depend on how many profiles came in one write, as the hash of the raw data does: the parser loads a text's profiles one
by one, and a cache's in one piece.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import HostError

_U8, _U16, _U32, _U64, _NAME, _STRING, _BLOB, _STRUCT, _STRUCT_END, _LIST, _LIST_END, _ARRAY, _ARRAY_END = range(13)
_NUMBERS = {_U8: "<B", _U16: "<H", _U32: "<I", _U64: "<Q", _ARRAY: "<H"}
_DEPTH = {_STRUCT: 1, _LIST: 1, _ARRAY: 1, _STRUCT_END: -1, _LIST_END: -1, _ARRAY_END: -1}
# PACKED_MODE_* of policy_unpack.c, under the words of the file "profiles".
_MODES = ("enforce", "complain", "kill", "unconfined", "user")
# Set by `apparmor_parser --Complain` beside each profile's own mode.
_FORCE_COMPLAIN = 0x800


@dataclass(frozen=True)
class CompiledProfile:
    """One profile: its full name, the mode it is loaded in, and what the kernel's hash is made of."""

    name: str
    mode: str
    version: int
    body: bytes

    def digest(self, algorithm: str) -> str:
        """Return what the kernel's file of this name (sha1, or sha256 since Linux 6.8) holds for the profile."""
        return hashlib.new(algorithm, struct.pack("<I", self.version) + self.body).hexdigest()


@dataclass(frozen=True)
class _Token:
    kind: int
    value: int | bytes
    start: int
    end: int
    depth: int


def split_profiles(blob: bytes) -> list[CompiledProfile]:
    """Return the profiles of one or more binaries that stand one after the other.

    Raises HostError where the bytes are not of the known form.
    """
    try:
        tokens = list(_tokens(blob))
        # Each header is a name, "version", and the number behind it; both stand outside of every structure.
        headers = [i for i, token in enumerate(tokens) if token.depth == 0 and _is_name(token, b"version")]
        if headers[:1] != [0]:
            raise ValueError("no header")  # noqa: TRY301 # one message for all that can be wrong
        ends = [*headers[1:], len(tokens)]
        return [_profile(blob, tokens[first:end]) for first, end in zip(headers, ends, strict=True)]
    except (ValueError, IndexError, StopIteration, struct.error) as error:
        raise HostError(f"apparmor_parser: its output has a form that is not known here: {error!r}") from error


def _profile(blob: bytes, tokens: list[_Token]) -> CompiledProfile:
    version = _number(tokens[1])
    name = next(token.value for token in tokens if token.kind == _STRING and token.depth == 1)
    flags = next(i for i, token in enumerate(tokens) if token.depth == 1 and _is_name(token, b"flags"))
    mode = _MODES[_number(tokens[flags + 3])]  # name, structure, whether it is a hat, mode
    if not isinstance(name, bytes):
        raise ValueError("no name")  # noqa: TRY004 # the bytes are wrong, not a caller's type
    mode = "complain" if version & _FORCE_COMPLAIN else mode
    return CompiledProfile(name.decode(), mode, version, blob[tokens[1].end : tokens[-1].end])


def _is_name(token: _Token, name: bytes) -> bool:
    return token.kind == _NAME and token.value == name


def _number(token: _Token) -> int:
    if not isinstance(token.value, int):
        raise ValueError("no number")  # noqa: TRY004 # the bytes are wrong, not a caller's type
    return token.value


def _tokens(blob: bytes) -> Iterator[_Token]:
    position = depth = 0
    while position < len(blob):
        start, kind = position, blob[position]
        value, position = _value(blob, kind, position + 1)
        step = _DEPTH.get(kind, 0)
        yield _Token(kind, value, start, position, depth + min(step, 0))
        depth += step


def _value(blob: bytes, kind: int, position: int) -> tuple[int | bytes, int]:
    """Return what follows a token's first byte, and where the next token begins; strings without their final NUL."""
    if kind in _NUMBERS:
        form = _NUMBERS[kind]
        return int(struct.unpack_from(form, blob, position)[0]), position + struct.calcsize(form)
    if kind in (_NAME, _STRING, _BLOB):
        form = "<I" if kind == _BLOB else "<H"
        begin = position + struct.calcsize(form)
        end = begin + int(struct.unpack_from(form, blob, position)[0])
        if end > len(blob):
            raise ValueError("it ends too early")
        return blob[begin:end] if kind == _BLOB else blob[begin : end - 1], end
    if kind in _DEPTH:
        return 0, position
    raise ValueError(f"a part of kind {kind}")
