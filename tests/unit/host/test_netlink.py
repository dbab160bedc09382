"""Netlink's messages: how they are written and read, and what an answer's end says."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from bailey.host import netlink
from bailey.host.netlink import ACK, CREATE, DUMP, REQUEST, Message, Netlink, NetlinkError, attribute
from hypothesis import given
from hypothesis import strategies as st

ERROR, DONE, THING = 2, 3, 99
INTERRUPTED, CAPPED, TOLD = 0x10, 0x100, 0x200
SOME_HEADER = b"\1\2\3\4"


def message(kind: int, sequence: int, body: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


class Wire:
    """A socket whose kernel gives, for each request, the datagrams that a function makes of it."""

    def __init__(self, answer: Callable[[int, bytes], list[bytes]]) -> None:
        self._answer = answer
        self._waiting: list[bytes] = []
        self.sent: list[tuple[int, int, bytes]] = []
        self.closed = False

    def send(self, data: bytes) -> None:
        length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data)
        assert length == len(data)
        self.sent.append((kind, flags, data[16:]))
        self._waiting += self._answer(sequence, data)

    def recv(self, _size: int) -> bytes:
        return self._waiting.pop(0)

    def close(self) -> None:
        self.closed = True

    def fileno(self) -> int:
        return 7

    def bind(self, address: tuple[int, int]) -> None:
        if address[1] == 0xBAD:
            raise PermissionError(errno.EPERM, "no such group for you")

    def __getattr__(self, _name: str) -> Any:
        return lambda *_: None


def wired(wire: Wire, groups: int = 0) -> Netlink:
    return Netlink(groups=groups, make=lambda *_: wire)


def done(sequence: int, _data: bytes) -> list[bytes]:
    return [message(ERROR, sequence, bytes(4) + bytes(16))]


class TestAttributes:
    def test_each_is_padded_to_four_bytes_and_its_length_is_not(self) -> None:
        assert attribute(3, "eth0") == struct.pack("=HH", 9, 3) + b"eth0\0" + bytes(3)

    def test_nested_ones_are_marked_and_may_be_a_mapping_or_encoded_already(self) -> None:
        inner = attribute(1, "ifb") + attribute(2, b"\1")
        assert attribute(18, {1: "ifb", 2: b"\1"}) == struct.pack("=HH", 4 + len(inner), 18 | 0x8000) + inner
        assert attribute(18, [inner]) == attribute(18, {1: "ifb", 2: b"\1"})

    def test_they_nest_as_deep_as_they_are_given(self) -> None:
        outer = netlink.parse_attributes(attribute(2, {7: {1: {3: b"deep"}}}))
        for kind in (2, 7, 1):
            outer = netlink.parse_attributes(outer[kind])
        assert outer == {3: b"deep"}

    @given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40))))
    def test_what_is_written_is_read(self, items: list[tuple[int, bytes]]) -> None:
        assert list(netlink.attribute_list(b"".join(attribute(*item) for item in items))) == items

    def test_of_one_type_the_last_counts(self) -> None:
        assert netlink.parse_attributes(attribute(1, b"a") + attribute(1, b"b")) == {1: b"b"}

    def test_a_length_that_cannot_be_is_an_error_and_not_an_endless_loop(self) -> None:
        with pytest.raises(NetlinkError, match="3 bytes"):
            netlink.parse_attributes(struct.pack("=HH", 3, 1))

    def test_text_and_numbers(self) -> None:
        assert netlink.text(b"docker0\0") == "docker0"
        assert netlink.number(netlink.u32(0xBA11)) == 0xBA11
        assert netlink.number(struct.pack("=Q", 1 << 40)) == 1 << 40

    def test_they_follow_the_familys_header(self) -> None:
        assert Message(THING, 0, SOME_HEADER + attribute(5, b"abcd")).attributes(4) == {5: b"abcd"}


class TestRequests:
    def test_one_that_is_done_returns_what_came_before_the_word(self) -> None:
        wire = Wire(lambda sequence, data: [message(THING, sequence, b"body"), *done(sequence, data)])
        assert wired(wire).request(THING, b"ask!", CREATE) == [Message(THING, 0, b"body")]
        assert wire.sent == [(THING, REQUEST | ACK | CREATE, b"ask!")]

    def test_the_rest_of_a_former_answer_is_passed_over(self) -> None:
        wire = Wire(lambda sequence, data: [message(THING, sequence - 1, b"old!"), *done(sequence, data)])
        assert wired(wire).request(THING, b"") == []

    @pytest.mark.parametrize("capped", [True, False])
    def test_a_refusal_has_the_kernels_number_and_text(self, capped: bool) -> None:
        def refuse(sequence: int, data: bytes) -> list[bytes]:
            echoed = data[:16] if capped else data + bytes(-len(data) % 4)
            body = struct.pack("=i", -errno.ENOENT) + echoed + attribute(1, "Specified qdisc kind is unknown")
            return [message(ERROR, sequence, body, TOLD | (CAPPED if capped else 0))]

        with pytest.raises(NetlinkError, match="No such file or directory: Specified qdisc kind is unknown") as caught:
            wired(Wire(refuse)).request(THING, b"12345")
        assert caught.value.errno == errno.ENOENT

    def test_a_refusal_without_text_has_the_numbers_meaning(self) -> None:
        wire = Wire(lambda sequence, data: [message(ERROR, sequence, struct.pack("=i", -errno.EPERM) + data[:16])])
        with pytest.raises(NetlinkError, match=os.strerror(errno.EPERM)):
            wired(wire).request(THING, b"")


class TestDumps:
    def test_all_datagrams_up_to_the_end_are_one_list(self) -> None:
        def parts(sequence: int, _data: bytes) -> list[bytes]:
            first = message(THING, sequence, b"1") + message(THING, sequence, b"22")
            return [first, message(THING, sequence, b"3"), message(DONE, sequence, bytes(4))]

        wire = Wire(parts)
        assert [part.body for part in wired(wire).dump(THING, b"")] == [b"1", b"22", b"3"]
        assert wire.sent[0][1] == REQUEST | DUMP

    def test_one_that_changed_meanwhile_is_asked_for_again(self) -> None:
        def parts(sequence: int, _data: bytes) -> list[bytes]:
            flags = INTERRUPTED if sequence == 1 else 0
            return [message(THING, sequence, b"%d" % sequence, flags) + message(DONE, sequence, bytes(4))]

        assert [part.body for part in wired(Wire(parts)).dump(THING, b"")] == [b"2"]

    def test_one_that_fails_on_its_way_is_an_error(self) -> None:
        wire = Wire(lambda sequence, _: [message(DONE, sequence, struct.pack("=i", -errno.ENOMEM))])
        with pytest.raises(NetlinkError, match=os.strerror(errno.ENOMEM)):
            wired(wire).dump(THING, b"")


class TestTheSocket:
    def test_it_is_closed_at_the_end_and_where_it_cannot_be_bound(self) -> None:
        wire = Wire(done)
        with wired(wire) as opened:
            assert opened.fileno() == 7
        assert wire.closed
        wire = Wire(done)
        with pytest.raises(PermissionError):
            wired(wire, groups=0xBAD)
        assert wire.closed

    def test_events_come_by_datagram(self) -> None:
        wire = Wire(lambda sequence, _: [message(THING, sequence, b"a") + message(THING, sequence, b"b")])
        opened = wired(wire)
        wire.send(message(THING, 0))
        assert [event.body for event in opened.receive()] == [b"a", b"b"]

    def test_the_real_kernel_answers(self) -> None:
        with Netlink() as opened:
            header = struct.Struct("=BxHiII")
            asked = header.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
            (loopback,) = opened.request(18, asked + attribute(3, "lo"))
            assert netlink.text(loopback.attributes(header.size)[3]) == "lo"
            assert loopback.body[:16] in [found.body[:16] for found in opened.dump(18, asked)]
            with pytest.raises(NetlinkError) as caught:
                opened.request(18, asked + attribute(3, "no-such"))
            assert caught.value.errno == errno.ENODEV
