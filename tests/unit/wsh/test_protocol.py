"""Every message comes back as it went; everything else is an error, and nothing but an error."""

from __future__ import annotations

import random
import struct

import pytest
from bailey.wsh.errors import ProtocolError
from bailey.wsh.protocol import (
    HEADER,
    MAX_EXEC,
    MAX_PAYLOAD,
    VERSION,
    Boot,
    Ended,
    Error,
    ErrorCode,
    Exec,
    Exited,
    Flags,
    Frame,
    FrameReader,
    Go,
    Kind,
    Message,
    Open,
    Ping,
    Pong,
    Refuse,
    Rlimit,
    Signal,
    Started,
    Target,
    encode,
)

MESSAGES: list[Message] = [
    Boot(),
    Go(),
    Open(),
    Ping(),
    Refuse("mem_limit: 64M is 128M"),
    Refuse(""),
    Exec((b"true",)),
    Exec((b"", b"with space", b"\xff\xfe"), directory=b""),
    Exec(
        (b"sh", b"-c", b"exit 1"),
        (b"A=1", b"B=", b"C=x=y"),
        directory=b"/tmp",
        umask=0o27,
        rlimits=(Rlimit(7, 1024, 4096), Rlimit(4, 0, (1 << 64) - 1)),
        flags=Flags.TTY | Flags.KILL_ON_DISCONNECT,
        window=(24, 80),
    ),
    Signal(15),
    Signal(64, Target.PROGRAM),
    Started(7),
    Started((1 << 32) - 1),
    Pong("0.1.0", 3),
    Exited(Ended.CODE, 255),
    Exited(Ended.SIGNAL, 9),
    Exited(Ended.MEMORY, 9),
    Error(ErrorCode.VERSION, "too new", newest=1),
    Error(ErrorCode.NO_PROCESS, "pids.max is reached"),
    Error(ErrorCode.CANNOT_EXECUTE, "/bin/none", errno=2),
]


def decode(data: bytes) -> Message:
    (frame,) = FrameReader().feed(data)
    return frame.decode()


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: repr(message)[:40])
def test_a_message_comes_back_as_it_went(message: Message) -> None:
    assert decode(encode(message)) == message


def test_the_bytes_are_the_contracts() -> None:
    """Two programs in C speak the same: what is written is held to bytes, not only to our own reading."""
    exec_ = Exec(
        (b"a", b"bc"), (b"K=V",), b"/", 0o22, (Rlimit(7, 1, 2),), Flags.TTY | Flags.KILL_ON_DISCONNECT, (24, 80)
    )
    payload = (
        b"\1\0\0\0\1\0\0\0a"
        b"\1\0\0\0\2\0\0\0bc"
        b"\2\0\0\0\3\0\0\0K=V"
        b"\3\0\0\0\1\0\0\0/"
        b"\4\0\0\0\4\0\0\0\x12\0\0\0"
        b"\5\0\0\0\x18\0\0\0\7\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0"
        b"\6\0\0\0\4\0\0\0\3\0\0\0"
        b"\7\0\0\0\4\0\0\0\x18\0\x50\0"
    )
    assert encode(exec_) == struct.pack("<IHH", len(payload), 16, 1) + payload
    assert encode(Boot()) == b"\0\0\0\0\1\0\1\0"
    assert encode(Ping()) == b"\0\0\0\0\x11\0\1\0"
    assert encode(Signal(9)) == b"\4\0\0\0\x12\0\1\0\x09\1\0\0"
    assert encode(Started(258)) == b"\4\0\0\0\x20\0\1\0\2\1\0\0"
    assert encode(Exited(Ended.MEMORY, 9)) == b"\4\0\0\0\x22\0\1\0\2\x09\0\0"
    assert encode(Pong("v", 2)) == b"\x15\0\0\0\x21\0\1\0\1\0\0\0\1\0\0\0v\2\0\0\0\4\0\0\0\2\0\0\0"
    assert encode(Refuse("no")) == b"\2\0\0\0\3\0\1\0no"
    error = Error(ErrorCode.CANNOT_EXECUTE, "x", errno=2)
    fields = (b"\1\0\0\0\4\0\0\0\6\0\0\0", b"\2\0\0\0\1\0\0\0x", b"\4\0\0\0\4\0\0\0\2\0\0\0")
    assert encode(error) == b"\x21\0\0\0\x23\0\1\0" + b"".join(fields)


def field(tag: int, value: bytes, zero: int = 0, length: int | None = None) -> bytes:
    return struct.pack("<HHI", tag, zero, len(value) if length is None else length) + value


ARG = field(1, b"true")
NUMBER = struct.pack("<I", 1)


@pytest.mark.parametrize(
    ("kind", "payload", "text"),
    [
        (Kind.BOOT, b"\0", "BOOT has 1 bytes"),
        (Kind.PING, b"1234", "PING has 4 bytes"),
        (Kind.EXEC, b"", "names no program"),
        (Kind.EXEC, field(2, b"A=1"), "names no program"),
        (Kind.EXEC, ARG + b"\0", "ends inside a field"),
        (Kind.EXEC, field(1, b"true", length=5), "ends inside a field"),
        (Kind.EXEC, field(1, b"true", length=0xFFFFFFFF), "ends inside a field"),
        (Kind.EXEC, field(1, b"true", zero=1), "not allowed there: 1"),
        (Kind.EXEC, ARG + field(8, b""), "not allowed there: 8"),
        (Kind.EXEC, ARG + field(0, b""), "not allowed there: 0"),
        (Kind.EXEC, field(1, b"tr\0ue"), "zero byte in the field 1"),
        (Kind.EXEC, ARG + field(2, b"A=\0"), "zero byte in the field 2"),
        (Kind.EXEC, ARG + field(3, b"/\0"), "zero byte in the field 3"),
        (Kind.EXEC, ARG + field(2, b"A"), "not NAME=VALUE"),
        (Kind.EXEC, ARG + field(2, b"=A"), "not NAME=VALUE"),
        (Kind.EXEC, ARG + field(3, b"/") + field(3, b"/"), "not allowed there: 3"),
        (Kind.EXEC, ARG + field(4, b"\0"), "has 1 bytes in the field 4"),
        (Kind.EXEC, ARG + field(5, bytes(23)), "has 23 bytes"),
        (Kind.EXEC, ARG + field(5, b"\7\0\0\0\1\0\0\0" + bytes(16)), "has 1 between its parts"),
        (Kind.EXEC, ARG + field(6, struct.pack("<I", 4)), "unknown flags: 0x4"),
        (Kind.EXEC, ARG + field(7, b"\0\0"), "has 2 bytes"),
        (Kind.SIGNAL, b"\0\0\0\0", "has the number 0"),
        (Kind.SIGNAL, b"\x41\0\0\0", "has the number 65"),
        (Kind.SIGNAL, b"\1\2\0\0", "target 2 is not known"),
        (Kind.SIGNAL, b"\1\0\1\0", "ends in 1"),
        (Kind.SIGNAL, b"\1\0\0", "has 3 bytes"),
        (Kind.STARTED, b"\1\0\0\0\0", "has 5 bytes"),
        (Kind.PONG, field(1, b"v"), "lacks the field 2"),
        (Kind.PONG, field(2, NUMBER), "lacks the field 1"),
        (Kind.EXITED, b"\3\0\0\0", "end of a program 3"),
        (Kind.EXITED, b"\0\0\0\1", "ends in 256"),
        (Kind.ERROR, field(1, NUMBER), "ERROR VERSION"),
        (Kind.ERROR, field(1, NUMBER) + field(3, NUMBER), "lacks the field 2"),
        (Kind.ERROR, field(1, struct.pack("<I", 8)) + field(2, b""), "error 8 is not known"),
        (Kind.ERROR, field(1, struct.pack("<I", 6)) + field(2, b""), "ERROR CANNOT_EXECUTE"),
        (Kind.ERROR, field(1, struct.pack("<I", 4)) + field(2, b"") + field(4, NUMBER), "ERROR NO_PROCESS"),
    ],
)
def test_a_malformed_payload_is_refused(kind: Kind, payload: bytes, text: str) -> None:
    with pytest.raises(ProtocolError, match=text):
        decode(HEADER.pack(len(payload), kind, VERSION) + payload)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (HEADER.pack(0, 0, 1), "frame type 0 is not known"),
        (HEADER.pack(0, 5, 1), "frame type 5 is not known"),
        (HEADER.pack(0, 0xFFFF, 1), "frame type 65535 is not known"),
        (HEADER.pack(MAX_PAYLOAD + 1, Kind.PONG, 1), "PONG announces 4097 bytes"),
        (HEADER.pack(MAX_EXEC + 1, Kind.EXEC, 1), "EXEC announces"),
        (HEADER.pack(0xFFFFFFFF, Kind.ERROR, 1), "ERROR announces"),
    ],
)
def test_a_wrong_header_is_refused_before_its_payload_comes(header: bytes, text: str) -> None:
    with pytest.raises(ProtocolError, match=text):
        FrameReader().feed(header)


def test_another_version_is_refused_but_for_an_error() -> None:
    with pytest.raises(ProtocolError, match="PONG is of version 2; allowed: 1"):
        decode(encode(Pong("2", 0), version=2))
    error = Error(ErrorCode.VERSION, "", newest=2)
    assert decode(encode(error, version=2)) == error


def test_what_is_too_large_is_not_encoded() -> None:
    with pytest.raises(ProtocolError, match=r"EXEC takes .* at most 4194304"):
        encode(Exec((b"x" * MAX_EXEC,)))
    assert len(encode(Exec((b"x" * (MAX_EXEC - 20),)))) == MAX_EXEC + HEADER.size
    assert decode(encode(Refuse("x" * 5000))) == Refuse("x" * MAX_PAYLOAD)


def test_a_text_from_inside_cannot_move_a_terminals_cursor() -> None:
    assert decode(encode(Refuse("a\x1b[2Jb\nc\u202e"))) == Refuse("a\\x1b[2Jb\\nc\\u202e")
    frame = Frame(Kind.REFUSE, VERSION, b"\xff")
    assert frame.decode() == Refuse("\\xff")


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 64])
def test_frames_come_whole_from_any_pieces(size: int) -> None:
    stream = b"".join(encode(message) for message in MESSAGES)
    reader = FrameReader()
    frames = [frame for start in range(0, len(stream), size) for frame in reader.feed(stream[start : start + size])]
    assert [frame.decode() for frame in frames] == MESSAGES
    assert not reader.partial


def test_a_partial_frame_shows() -> None:
    reader = FrameReader()
    assert reader.feed(encode(Started(1))[:-1]) == []
    assert reader.partial


def test_no_mutation_of_bytes_does_anything_but_fail_or_decode() -> None:
    """Seeded, so that a failure comes again. What still decodes is a message that encodes to itself."""
    chance = random.Random(3)
    originals = [encode(message) for message in MESSAGES]
    refused = 0
    for _ in range(20_000):
        data = bytearray(chance.choice(originals))
        for _ in range(chance.randint(1, 4)):
            mutate(data, chance)
        reader = FrameReader()
        try:
            messages = [frame.decode(frame.version) for frame in reader.feed(bytes(data))]
        except ProtocolError:
            refused += 1
            continue
        for message in messages:
            assert decode(encode(message)) == message
    assert refused > 5_000


def mutate(data: bytearray, chance: random.Random) -> None:
    position = chance.randrange(len(data) + 1)
    match chance.randrange(4):
        case 0:
            data[position:position] = chance.randbytes(chance.randint(1, 8))
        case 1:
            del data[position : position + chance.randint(1, 8)]
        case 2 if data:
            data[position % len(data)] ^= 1 << chance.randrange(8)
        case _ if data:
            data[position % len(data)] = chance.choice([0, 1, 0x7F, 0x80, 0xFF])
