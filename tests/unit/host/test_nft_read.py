"""What is asked of nftables by raw netlink, and what is made of the answers."""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from typing import Any

import pytest
from bailey.host import nft_read
from bailey.host.netlink import Message, NetlinkError, attribute, parse_attributes
from bailey.host.nft_read import TableReader, digest

from tests.unit.host.fake_netlink import FakeNetlink, missing

GETCHAIN, GETRULE, GETSET, GETSETELEM, GETGEN = (0xA00 | kind for kind in (4, 7, 10, 13, 16))
INET = 1
ADDRESS = b"\xac\x11\x00\x02"


def answer(attributes: Mapping[int, Any]) -> Message:
    return Message(0, 0, bytes(4) + b"".join(attribute(kind, value) for kind, value in attributes.items()))


def elements(*items: Mapping[int, Any]) -> Message:
    return answer({1: "bailey", 2: "rates", 3: [attribute(1, item) for item in items]})


def element(key: bytes = ADDRESS, **more: Any) -> dict[int, Any]:
    return {1: {1: key}, **{int(kind[1:]): value for kind, value in more.items()}}


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeNetlink:
    fake = FakeNetlink()
    monkeypatch.setattr(nft_read, "Netlink", fake)
    return fake


@pytest.fixture
def reader(kernel: FakeNetlink) -> TableReader:  # noqa: ARG001 - it has to be there
    return TableReader("bailey")


class TestElement:
    def test_it_is_asked_for_by_its_key(self, kernel: FakeNetlink, reader: TableReader) -> None:
        kernel.answers[GETSETELEM] = lambda _: [elements(element())]
        found = reader.element(INET, "rates", ADDRESS)
        ((kind, body, flags),) = kernel.asked
        asked = parse_attributes(body[4:])
        assert (kind, body[:4], flags) == (GETSETELEM, b"\1\0\0\0", 0)
        assert (asked[1], asked[2]) == (b"bailey\0", b"rates\0")
        assert ADDRESS in asked[3]
        assert found is not None
        assert (found.key, found.chain, found.rate, found.packets) == (ADDRESS, "", 0, 0)

    def test_a_map_leads_to_a_chain(self, kernel: FakeNetlink, reader: TableReader) -> None:
        verdict = {2: {2: {1: struct.pack("!i", -3), 2: "policy_one"}}}
        kernel.answers[GETSETELEM] = lambda _: [elements({**element(), **verdict})]
        found = reader.element(INET, "egress", ADDRESS)
        assert found is not None
        assert found.chain == "policy_one"

    def test_a_limit_and_a_counter_are_numbers_of_64_bits(self, kernel: FakeNetlink, reader: TableReader) -> None:
        limit = {7: {1: "limit", 2: {1: struct.pack("!Q", 50)}}}
        counter = {7: {1: "counter", 2: {1: struct.pack("!Q", 9), 2: struct.pack("!Q", 1 << 40)}}}
        kernel.answers[GETSETELEM] = lambda _: [elements({**element(), **limit})]
        assert getattr(reader.element(INET, "rates", ADDRESS), "rate", None) == 50
        kernel.answers[GETSETELEM] = lambda _: [elements({**element(), **counter})]
        assert getattr(reader.element(INET, "unlogged", ADDRESS), "packets", None) == 1 << 40

    def test_one_that_is_not_there_is_none(self, kernel: FakeNetlink, reader: TableReader) -> None:
        kernel.answers[GETSETELEM] = missing
        assert reader.element(INET, "rates", ADDRESS) is None

    def test_a_whole_set_comes_in_several_messages(self, kernel: FakeNetlink, reader: TableReader) -> None:
        kernel.answers[GETSETELEM] = lambda _: [elements(element(b"1"), element(b"2")), elements(element(b"3"))]
        assert [item.key for item in reader.all_elements(INET, "rates")] == [b"1", b"2", b"3"]


class TestRules:
    def test_each_is_its_expressions(self, kernel: FakeNetlink, reader: TableReader) -> None:
        kernel.answers[GETRULE] = lambda _: [
            answer({1: "bailey", 2: "x", 3: bytes(8), 4: rule}) for rule in (b"a", b"b")
        ]
        assert reader.rules(INET, "x") == [b"a", b"b"]
        assert parse_attributes(kernel.asked[0][1][4:]) == {1: b"bailey\0", 2: b"x\0"}

    def test_no_such_chain_has_none(self, kernel: FakeNetlink, reader: TableReader) -> None:
        kernel.answers[GETRULE] = missing
        assert reader.rules(INET, "x") == []

    def test_another_refusal_is_an_error(self, kernel: FakeNetlink, reader: TableReader) -> None:
        def refuse(_body: bytes) -> list[Message]:
            raise NetlinkError(errno.EPERM, "no")

        kernel.answers |= dict.fromkeys((GETRULE, GETSETELEM, GETCHAIN), refuse)
        for asking in (
            lambda: reader.rules(INET, "x"), lambda: reader.element(INET, "x", b""), lambda: reader.contents(INET),
        ):  # fmt: skip
            with pytest.raises(NetlinkError, match="no"):
                asking()

    @pytest.mark.parametrize("other", [[], [b"a"], [b"b", b"a"], [b"ab"], [b"a", b"b", b""], [b"", b"ab"]])
    def test_a_digest_tells_them_from_others(self, other: list[bytes]) -> None:
        assert digest([b"a", b"b"]) == digest([b"a", b"b"])
        assert digest([b"a", b"b"]) != digest(other)


def test_the_generation(kernel: FakeNetlink, reader: TableReader) -> None:
    kernel.answers[GETGEN] = lambda _: [answer({1: struct.pack("!I", 1234)})]
    assert reader.generation() == 1234


class TestContents:
    def test_a_whole_table(self, kernel: FakeNetlink, reader: TableReader) -> None:
        kernel.answers[GETCHAIN] = lambda _: [
            answer({1: "bailey", 2: bytes(8), 3: "forward", 4: b"hook", 5: b"\0\0\0\1", 7: "filter"}),
            answer({1: "bailey", 2: bytes(8), 3: "policy_one"}),
        ]
        kernel.answers[GETRULE] = lambda _: [answer({1: "bailey", 2: "policy_one", 4: rule}) for rule in (b"a", b"b")]
        kernel.answers[GETSET] = lambda _: [
            answer({1: "bailey", 2: "rates", 4: b"\0\0\0\7"}),
            answer({1: "bailey", 2: "logged", 3: b"\0\0\0\x30"}),
        ]
        kernel.answers[GETSETELEM] = lambda _: [elements(element(_2=b"data"))]
        found = reader.contents(INET)
        assert found.rules == {"forward": [], "policy_one": [b"a", b"b"]}
        assert found.chains["forward"] != found.chains["policy_one"]
        assert set(found.sets) == {"rates", "logged"}
        assert found.elements == {"rates": {ADDRESS: (b"", b"data", b"")}}  # packets fill the other one

    def test_of_another_table_nothing(self, kernel: FakeNetlink, reader: TableReader) -> None:
        """A list of chains is one of all tables of a family."""
        kernel.answers[GETCHAIN] = lambda _: [answer({1: "other", 3: "forward"})]
        kernel.answers[GETSET] = lambda _: [answer({1: "other", 2: "rates"})]
        kernel.answers[GETRULE] = lambda _: [answer({1: "other", 2: "forward", 4: b"a"})]
        found = reader.contents(INET)
        assert (found.chains, found.rules, found.sets, found.elements) == ({}, {}, {}, {})

    def test_a_table_that_is_not_there_is_empty(self, kernel: FakeNetlink, reader: TableReader) -> None:
        kernel.answers |= dict.fromkeys((GETCHAIN, GETRULE, GETSET), missing)
        assert reader.contents(INET) == nft_read.Contents()
