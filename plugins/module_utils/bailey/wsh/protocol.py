"""The frames of wshd's two sockets, both ways, strictly: what is not exactly the protocol is an error.

A frame is a header of eight bytes (payload length, type, version of the protocol; little-endian) and its payload.
Some payloads are of a fixed size; the others are fields, each a tag, two zero bytes, a length and its bytes.

On the boot socket wshd knocks (BOOT) and the host answers GO, with the control socket and perhaps the counter of
kills for memory as descriptors, or REFUSE; wshd says OPEN when it listens. On the control socket a client sends
EXEC or PING; a session is STARTED, with descriptors of its streams, until EXITED or ERROR ends it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, TypeVar

from .errors import ProtocolError
from .fields import Field, FieldReader, join_fields, name_of, printable

VERSION = 1
OLDEST = 1  # of the versions that this client still speaks; at least the one before VERSION
HEADER = struct.Struct("<IHH")
MAX_EXEC = 4 << 20  # bytes of payload
MAX_PAYLOAD = 4096  # of any other frame

_U32 = struct.Struct("<I")
_RLIMIT = struct.Struct("<IIQQ")
_WINDOW = struct.Struct("<HH")
_FOUR = struct.Struct("<BBH")


class Kind(IntEnum):
    """The types of frames."""

    BOOT = 1
    GO = 2
    REFUSE = 3
    OPEN = 4
    EXEC = 16
    PING = 17
    SIGNAL = 18
    STARTED = 32
    PONG = 33
    EXITED = 34
    ERROR = 35


class Flags(IntFlag):
    """What a session may ask for."""

    TTY = 1
    KILL_ON_DISCONNECT = 2


NO_FLAGS = Flags(0)


class ErrorCode(IntEnum):
    """Why wshd ended a session."""

    VERSION = 1
    MALFORMED = 2
    TIMEOUT = 3
    NO_PROCESS = 4
    NO_RESOURCE = 5
    CANNOT_EXECUTE = 6
    ENDING = 7


class Ended(IntEnum):
    """How a session's program ended."""

    CODE = 0
    SIGNAL = 1
    MEMORY = 2


class Target(IntEnum):
    """Whom a signal goes to."""

    PROGRAM = 0
    GROUP = 1


@dataclass(frozen=True)
class Boot:
    """wshd knocks at its gate."""


@dataclass(frozen=True)
class Go:
    """The limits hold; the control socket comes along as a descriptor."""


@dataclass(frozen=True)
class Refuse:
    """The gate stays closed."""

    reason: str


@dataclass(frozen=True)
class Open:
    """wshd listens on its control socket and starts the tenant's program."""


@dataclass(frozen=True)
class Rlimit:
    """One resource limit by the kernel's number; UNLIMITED is all ones."""

    resource: int
    soft: int
    hard: int


@dataclass(frozen=True)
class Exec:
    """What a session shall run. Bytes, for names and arguments need not be text."""

    argv: tuple[bytes, ...]
    environment: tuple[bytes, ...] = ()
    directory: bytes | None = None
    umask: int | None = None
    rlimits: tuple[Rlimit, ...] = ()
    flags: Flags = NO_FLAGS
    window: tuple[int, int] | None = None


@dataclass(frozen=True)
class Ping:
    """A client asks whether anybody is there."""


@dataclass(frozen=True)
class Signal:
    """A signal for the session's program or its group."""

    number: int
    target: Target = Target.GROUP


@dataclass(frozen=True)
class Started:
    """The session's program exists; its streams come along as descriptors."""

    pid: int


@dataclass(frozen=True)
class Pong:
    """wshd is there: its build, and how many sessions it holds."""

    version: str
    sessions: int


@dataclass(frozen=True)
class Exited:
    """The session's program has ended, with a code or by a signal."""

    how: Ended
    value: int


@dataclass(frozen=True)
class Error:
    """wshd ends the session. `newest` comes with VERSION, `errno` with CANNOT_EXECUTE."""

    code: ErrorCode
    text: str
    newest: int | None = None
    errno: int | None = None


Message = Boot | Go | Refuse | Open | Exec | Ping | Signal | Started | Pong | Exited | Error

_Word = TypeVar("_Word", bound=IntEnum)


def _word(words: type[_Word], value: int, what: str) -> _Word:
    try:
        return words(value)
    except ValueError:
        raise ProtocolError(f"{what} {value} is not known") from None


def _fixed(layout: struct.Struct, payload: bytes, what: str) -> tuple[int, ...]:
    if len(payload) != layout.size:
        raise ProtocolError(f"{what} has {len(payload)} bytes; allowed: {layout.size}")
    return layout.unpack(payload)


def _four(payload: bytes, what: str) -> tuple[int, int]:
    first, second, zero = _fixed(_FOUR, payload, what)
    if zero:
        raise ProtocolError(f"{what} ends in {zero}; allowed: 0")
    return first, second


def _encode_exec(message: Exec) -> bytes:
    fields = [Field(1, word) for word in message.argv]
    fields += [Field(2, word) for word in message.environment]
    if message.directory is not None:
        fields.append(Field(3, message.directory))
    if message.umask is not None:
        fields.append(Field(4, _U32.pack(message.umask)))
    fields += [Field(5, _RLIMIT.pack(limit.resource, 0, limit.soft, limit.hard)) for limit in message.rlimits]
    fields.append(Field(6, _U32.pack(message.flags)))
    if message.window is not None:
        fields.append(Field(7, _WINDOW.pack(*message.window)))
    return join_fields(fields)


def _decode_exec(payload: bytes) -> Exec:
    fields = FieldReader("EXEC", payload, once=(3, 4, 6, 7), repeated=(1, 2, 5))
    argv = tuple(fields.strings(1))
    if not argv:
        raise ProtocolError("EXEC names no program")
    environment = tuple(fields.strings(2))
    if not all(word.find(b"=") > 0 for word in environment):
        raise ProtocolError("EXEC has an environment variable that is not NAME=VALUE")
    flags = fields.number(6) or 0
    if flags & ~int(Flags.TTY | Flags.KILL_ON_DISCONNECT):
        raise ProtocolError(f"EXEC has unknown flags: {flags:#x}")
    window = fields.one(7)
    return Exec(
        argv,
        environment,
        directory=fields.string(3),
        umask=fields.number(4),
        rlimits=tuple(_decode_rlimit(value) for value in fields.all(5)),
        flags=Flags(flags),
        window=None if window is None else _decode_window(window),
    )


def _decode_rlimit(value: bytes) -> Rlimit:
    resource, zero, soft, hard = _fixed(_RLIMIT, value, "a resource limit")
    if zero:
        raise ProtocolError(f"a resource limit has {zero} between its parts; allowed: 0")
    return Rlimit(resource, soft, hard)


def _decode_window(value: bytes) -> tuple[int, int]:
    rows, columns = _fixed(_WINDOW, value, "a window's size")
    return rows, columns


def _encode_pong(message: Pong) -> bytes:
    return join_fields([Field(1, message.version.encode()), Field(2, _U32.pack(message.sessions))])


def _decode_pong(payload: bytes) -> Pong:
    fields = FieldReader("PONG", payload, once=(1, 2))
    return Pong(printable(fields.required(1)), fields.required_number(2))


def _encode_error(message: Error) -> bytes:
    fields = [Field(1, _U32.pack(message.code)), Field(2, message.text.encode(errors="surrogateescape"))]
    if message.newest is not None:
        fields.append(Field(3, _U32.pack(message.newest)))
    if message.errno is not None:
        fields.append(Field(4, _U32.pack(message.errno)))
    return join_fields(fields)


def _decode_error(payload: bytes) -> Error:
    fields = FieldReader("ERROR", payload, once=(1, 2, 3, 4))
    code = _word(ErrorCode, fields.required_number(1), "the error")
    newest, errno = fields.number(3), fields.number(4)
    for value, needs in ((newest, ErrorCode.VERSION), (errno, ErrorCode.CANNOT_EXECUTE)):
        if (value is not None) != (code is needs):
            raise ProtocolError(f"ERROR {code.name} has fields that are not its own, or lacks them")
    return Error(code, printable(fields.required(2)), newest, errno)


def _encode_signal(message: Signal) -> bytes:
    return _FOUR.pack(message.number, message.target, 0)


def _decode_signal(payload: bytes) -> Signal:
    number, target = _four(payload, "SIGNAL")
    if not 1 <= number <= 64:
        raise ProtocolError(f"SIGNAL has the number {number}; allowed: 1 to 64")
    return Signal(number, _word(Target, target, "the signal's target"))


def _encode_exited(message: Exited) -> bytes:
    return _FOUR.pack(message.how, message.value, 0)


def _decode_exited(payload: bytes) -> Exited:
    how, value = _four(payload, "EXITED")
    return Exited(_word(Ended, how, "the end of a program"), value)


def _encode_refuse(message: Refuse) -> bytes:
    return message.reason.encode(errors="backslashreplace")[:MAX_PAYLOAD]


def _decode_refuse(payload: bytes) -> Refuse:
    return Refuse(printable(payload))


def _encode_started(message: Started) -> bytes:
    return _U32.pack(message.pid)


def _decode_started(payload: bytes) -> Started:
    return Started(_fixed(_U32, payload, "STARTED")[0])


def _decode_empty(message: Message) -> Callable[[bytes], Message]:
    def decode(payload: bytes) -> Message:
        if payload:
            raise ProtocolError(f"{name_of(message)} has {len(payload)} bytes; allowed: 0")
        return message

    return decode


def _encode_empty(_message: Message) -> bytes:
    return b""


# How the payload of each type of frame is written and read.
_CODECS: dict[Kind, tuple[Callable[[Any], bytes], Callable[[bytes], Message]]] = {
    Kind.BOOT: (_encode_empty, _decode_empty(Boot())),
    Kind.GO: (_encode_empty, _decode_empty(Go())),
    Kind.REFUSE: (_encode_refuse, _decode_refuse),
    Kind.OPEN: (_encode_empty, _decode_empty(Open())),
    Kind.EXEC: (_encode_exec, _decode_exec),
    Kind.PING: (_encode_empty, _decode_empty(Ping())),
    Kind.SIGNAL: (_encode_signal, _decode_signal),
    Kind.STARTED: (_encode_started, _decode_started),
    Kind.PONG: (_encode_pong, _decode_pong),
    Kind.EXITED: (_encode_exited, _decode_exited),
    Kind.ERROR: (_encode_error, _decode_error),
}


def encode(message: Message, version: int = VERSION) -> bytes:
    """Return a message's frame. Raises ProtocolError where it is larger than a frame may be."""
    kind = Kind[name_of(message)]
    payload = _CODECS[kind][0](message)
    if len(payload) > limit_of(kind):
        raise ProtocolError(f"{kind.name} takes {len(payload)} bytes; allowed: at most {limit_of(kind)}")
    return HEADER.pack(len(payload), kind, version) + payload


def limit_of(kind: Kind) -> int:
    """Return how many bytes of payload a frame of that type may have."""
    return MAX_EXEC if kind is Kind.EXEC else MAX_PAYLOAD


@dataclass(frozen=True)
class Frame:
    """One frame as it came, of whatever version."""

    kind: Kind
    version: int
    payload: bytes

    def decode(self, version: int = VERSION) -> Message:
        """Return the message. An ERROR is understood in every version, all else in `version` alone."""
        if self.version != version and self.kind is not Kind.ERROR:
            raise ProtocolError(f"{self.kind.name} is of version {self.version}; allowed: {version}")
        return _CODECS[self.kind][1](self.payload)


class FrameReader:
    """Takes bytes as they come and gives frames as they are whole; holds at most one frame that is not."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and is not whole yet."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Add what was received. Raises ProtocolError for an unknown type or a length that is not allowed."""
        self._buffer += data
        frames: list[Frame] = []
        while len(self._buffer) >= HEADER.size:
            length, number, version = HEADER.unpack_from(self._buffer)
            kind = _word(Kind, number, "the frame type")
            if length > limit_of(kind):
                raise ProtocolError(f"{kind.name} announces {length} bytes; allowed: at most {limit_of(kind)}")
            end = HEADER.size + length
            if len(self._buffer) < end:
                break
            frames.append(Frame(kind, version, bytes(self._buffer[HEADER.size : end])))
            del self._buffer[:end]
        return frames
