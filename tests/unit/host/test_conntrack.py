"""Which connections are asked for, and which are deleted."""

from __future__ import annotations

import errno
import socket
import struct
import sys

import pytest
from bailey.host import conntrack
from bailey.host.netlink import Message, NetlinkError, attribute, parse_attributes, u32

from tests.unit.host.fake_netlink import FakeNetlink, missing

GET, DELETE = 0x101, 0x102
ORIGINAL, REPLY, ID, ZONE, TIMESTAMP, FILTER = 1, 2, 12, 18, 20, 25


def tuple_of(source: str, destination: str) -> dict[int, object]:
    return {1: {1: socket.inet_aton(source), 2: socket.inet_aton(destination)}, 2: {1: b"\6"}}


def entry(source: str, destination: str, number: int, zone: int | None = None, began: float | None = None) -> Message:
    body = attribute(ORIGINAL, tuple_of(source, destination)) + attribute(REPLY, tuple_of(destination, source))
    body += attribute(ID, u32(number)) + (b"" if zone is None else attribute(ZONE, struct.pack("!H", zone)))
    if began is not None:
        body += attribute(TIMESTAMP, {1: struct.pack("!Q", int(began * 1e9))})
    return Message(0x100, 0, bytes(4) + body)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeNetlink:
    fake = FakeNetlink()
    monkeypatch.setattr(conntrack, "Netlink", fake)
    return fake


def test_both_directions_are_asked_for_by_the_sender(kernel: FakeNetlink) -> None:
    assert conntrack.forget_connections("10.0.0.2") == 0
    for direction, (kind, body, _) in zip((ORIGINAL, REPLY), kernel.asked, strict=True):
        assert (kind, body[:4]) == (GET, bytes([socket.AF_INET, 0, 0, 0]))
        asked = parse_attributes(body[4:])
        assert parse_attributes(parse_attributes(asked[direction])[1]) == {1: socket.inet_aton("10.0.0.2")}
        assert parse_attributes(asked[FILTER]) == {direction: u32(1)}


def test_a_kernel_that_lists_all_makes_no_difference(kernel: FakeNetlink) -> None:
    others = [entry("10.0.0.3", "10.0.0.4", 1), entry("10.0.0.1", "10.0.0.3", 2)]
    kernel.answers[GET] = lambda _: [*others, entry("10.0.0.2", "192.0.2.1", 3), entry("192.0.2.1", "10.0.0.2", 4)]
    assert conntrack.forget_connections("10.0.0.2") == 2
    deleted = [parse_attributes(body[4:]) for kind, body, _ in kernel.asked if kind == DELETE]
    assert [item[ID] for item in deleted] == [u32(3), u32(4)]


def test_each_goes_by_its_own_tuple_and_zone(kernel: FakeNetlink) -> None:
    found = entry("10.0.0.2", "192.0.2.1", 3, zone=9)
    kernel.answers[GET] = lambda body: [found] if ORIGINAL in parse_attributes(body[4:]) else []
    assert conntrack.forget_connections("10.0.0.2") == 1
    kind, body, _ = kernel.asked[-1]
    assert kind == DELETE
    assert body == bytes([socket.AF_INET, 0, 0, 0]) + attribute(ORIGINAL, tuple_of("10.0.0.2", "192.0.2.1")) + (
        attribute(ID, u32(3)) + attribute(ZONE, struct.pack("!H", 9))
    )


def test_one_that_has_ended_meanwhile_does_not_count(kernel: FakeNetlink) -> None:
    kernel.answers = {GET: lambda _: [entry("10.0.0.2", "192.0.2.1", 3)], DELETE: missing}
    assert conntrack.forget_connections("10.0.0.2") == 0


def test_another_refusal_is_an_error(kernel: FakeNetlink) -> None:
    def refuse(_body: bytes) -> list[Message]:
        raise NetlinkError(errno.EPERM, "Operation not permitted")

    kernel.answers = {GET: lambda _: [entry("10.0.0.2", "192.0.2.1", 3)], DELETE: refuse}
    with pytest.raises(NetlinkError, match="not permitted"):
        conntrack.forget_connections("10.0.0.2")


class TestSince:
    def forgotten(
        self, kernel: FakeNetlink, *entries: Message, addresses: tuple[str, ...] = ("10.0.0.2",)
    ) -> list[int]:
        """Return the numbers of those that go of what has begun at 1000 or later."""
        kernel.answers[GET] = lambda _: list(entries)
        count = conntrack.forget_connections_since(1000, addresses)
        deleted = [parse_attributes(body[4:]) for kind, body, _ in kernel.asked if kind == DELETE]
        assert count == len(deleted)
        return [int.from_bytes(item[ID], sys.byteorder) for item in deleted]

    def test_those_go_that_began_at_the_moment_or_later(self, kernel: FakeNetlink) -> None:
        begun = {1: 999.99, 2: 1000, 3: 1000.01, 4: 1}
        entries = [entry("10.0.0.2", "192.0.2.1", number, began=at) for number, at in begun.items()]
        assert self.forgotten(kernel, *entries) == [2, 3]

    def test_one_of_which_nobody_knows_when_it_began_goes(self, kernel: FakeNetlink) -> None:
        assert self.forgotten(kernel, entry("10.0.0.2", "192.0.2.1", 1)) == [1]

    def test_an_address_counts_in_either_direction_and_others_stay(self, kernel: FakeNetlink) -> None:
        ends = [
            ("10.0.0.2", "192.0.2.1"),
            ("192.0.2.1", "10.0.0.3"),
            ("192.0.2.1", "192.0.2.2"),
            ("10.0.0.4", "1.1.1.1"),
        ]
        entries = [entry(*pair, number, began=2000) for number, pair in enumerate(ends)]
        assert self.forgotten(kernel, *entries, addresses=("10.0.0.2", "10.0.0.3")) == [0, 1]

    def test_an_address_that_is_hidden_by_translation_is_found_by_the_answers(self, kernel: FakeNetlink) -> None:
        published = attribute(ORIGINAL, tuple_of("192.0.2.1", "198.51.100.1"))
        published += attribute(REPLY, tuple_of("10.0.0.2", "192.0.2.1")) + attribute(ID, u32(1))
        assert self.forgotten(kernel, Message(0x100, 0, bytes(4) + published)) == [1]

    def test_all_are_asked_for_at_once(self, kernel: FakeNetlink) -> None:
        self.forgotten(kernel, addresses=("10.0.0.2", "10.0.0.3"))
        assert kernel.asked == [(GET, bytes([socket.AF_INET, 0, 0, 0]), 0)]

    def test_without_an_address_all_stay(self, kernel: FakeNetlink) -> None:
        assert self.forgotten(kernel, entry("10.0.0.2", "192.0.2.1", 1), addresses=()) == []

    def test_one_that_has_ended_meanwhile_does_not_count(self, kernel: FakeNetlink) -> None:
        kernel.answers = {GET: lambda _: [entry("10.0.0.2", "192.0.2.1", 1)], DELETE: missing}
        assert conntrack.forget_connections_since(1000, ["10.0.0.2"]) == 0
