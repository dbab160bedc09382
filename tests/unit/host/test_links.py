"""What is read of interfaces, and what is said of a container that is not connected as it must be."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from bailey.errors import HostError
from bailey.host import links
from bailey.host.links import Attachment
from bailey.host.netlink import Message, NetlinkError, attribute, number, parse_attributes, text, u32

from tests.unit.host.fake_netlink import Answer, FakeNetlink

HEADER = struct.Struct("=BxHiII")
NEW_LINK, GET_LINK, GET_ADDRESS, GET_NSID = 16, 18, 22, 90
MAC = bytes.fromhex("0242ac110002")
PAIR = {5: u32(7), 37: struct.pack("=i", 3)}  # IFLA_LINK, IFLA_LINK_NETNSID
BRIDGE = {18: {1: "bridge"}}


def port(isolated: bytes = b"\0") -> dict[int, Any]:
    return {10: u32(2), 18: {1: "veth", 4: "bridge", 5: {33: isolated}}}


def link(index: int, name: str, fields: dict[int, Any] | None = None) -> Message:
    body = attribute(3, name) + attribute(4, u32(1500)) + attribute(1, MAC)
    body += b"".join(attribute(*item) for item in (fields or {}).items())
    return Message(NEW_LINK, 0, HEADER.pack(socket.AF_UNSPEC, 1, index, 1, 0) + body)


def known(*messages: Message) -> Answer:
    """Answer for an interface by its name, or else its index, or the whole list."""

    def answer(body: bytes) -> list[Message]:
        asked = parse_attributes(body[HEADER.size :])
        index = HEADER.unpack_from(body)[2]
        if 3 not in asked and not index:
            return list(messages)
        found = [
            message
            for message in messages
            if (text(asked[3]) == text(message.attributes(HEADER.size)[3]) if 3 in asked else index == _index(message))
        ]
        if not found:
            raise NetlinkError(errno.ENODEV, "No such device")
        return found

    return answer


def _index(message: Message) -> int:
    return int(HEADER.unpack_from(message.body)[2])


def addresses(index: int, *texts: str) -> Answer:
    made = [ipaddress.IPv4Interface(item) for item in texts]
    other = struct.pack("=BBBBi", socket.AF_INET, 8, 0, 0, 99) + attribute(2, bytes(4))
    return lambda _body: [
        Message(20, 0, other),
        *(
            Message(
                20,
                0,
                struct.pack("=BBBBi", socket.AF_INET, item.network.prefixlen, 0, 0, index) + attribute(2, item.packed),
            )
            for item in made
        ),
    ]


class Stage:
    """A container's namespace and the host's, connected as they should be until a test changes that."""

    def __init__(self) -> None:
        self.inside, self.host = FakeNetlink(), FakeNetlink()
        nsid = Message(88, 0, bytes(4) + attribute(1, struct.pack("=i", 3)))
        self.inside.answers = {
            GET_LINK: known(link(4, "eth0", PAIR)),
            GET_ADDRESS: addresses(4, "172.17.0.2/16"),
            GET_NSID: lambda _body: [nsid],
        }
        self.host.answers = {GET_LINK: known(link(2, "docker0", BRIDGE), link(7, "veth1a2b3c4", port()))}

    def open(self, make: Callable[..., object] | None = None) -> FakeNetlink:
        return self.host if make is None else self.inside


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage()
    monkeypatch.setattr(links, "Netlink", made.open)
    return made


class TestAttachment:
    def test_all_of_it_is_read(self, stage: Stage) -> None:
        found = links.find_attachment(1)
        assert found == Attachment("172.17.0.2", "02:42:ac:11:00:02", "veth1a2b3c4", 7, "docker0", 1500)
        assert stage.inside.changes(GET_LINK, GET_ADDRESS, GET_NSID) == stage.host.changes(GET_LINK) == []

    def test_without_eth0_there_is_none(self, stage: Stage) -> None:
        stage.inside.answers[GET_LINK] = known(link(1, "lo"))
        assert links.find_attachment(1) is None

    @pytest.mark.parametrize(
        ("found", "told"),
        [((), "no IPv4 address"), (("172.17.0.2/16", "10.1.1.1/8"), "has 172.17.0.2, 10.1.1.1; exactly one")],
    )
    def test_it_has_one_address(self, stage: Stage, found: tuple[str, ...], told: str) -> None:
        stage.inside.answers[GET_ADDRESS] = addresses(4, *found)
        with pytest.raises(HostError, match=told):
            links.find_attachment(1)

    @pytest.mark.parametrize(
        "fields",
        [{}, {5: u32(7)}, {5: u32(7), 37: struct.pack("=i", 2)}],
        ids=["no pair", "a pair within its own namespace", "a pair into a third namespace"],
    )
    def test_its_pair_leads_to_this_host(self, stage: Stage, fields: dict[int, bytes]) -> None:
        stage.inside.answers[GET_LINK] = known(link(4, "eth0", fields))
        with pytest.raises(HostError, match="not the end of a pair whose other end is on this host"):
            links.find_attachment(1)

    def test_the_other_end_may_have_gone(self, stage: Stage) -> None:
        stage.host.answers[GET_LINK] = known(link(2, "docker0", BRIDGE))
        with pytest.raises(HostError, match="number 7 on this host, has gone"):
            links.find_attachment(1)

    @pytest.mark.parametrize("fields", [{}, {10: u32(2), 18: {4: "bond"}}], ids=["no master", "another master"])
    def test_the_other_end_is_a_bridges_port(self, stage: Stage, fields: dict[int, Any]) -> None:
        stage.host.answers[GET_LINK] = known(link(2, "docker0", BRIDGE), link(7, "veth1", fields))
        with pytest.raises(HostError, match="veth1 is a port of no bridge"):
            links.find_attachment(1)

    def test_a_process_that_has_gone_is_told(self) -> None:
        with pytest.raises(HostError, match=f"process {2**22 + 1} cannot be read"):
            links.find_attachment(2**22 + 1)


class TestPorts:
    def test_isolating_changes_that_port_once(self, stage: Stage) -> None:
        links.set_isolated("veth1a2b3c4")
        ((kind, body, _),) = stage.host.changes(GET_LINK)
        assert (kind, HEADER.unpack_from(body)[2:]) == (NEW_LINK, (7, 0, 0))
        slave = parse_attributes(parse_attributes(body[HEADER.size :])[18])
        assert (text(slave[4]), parse_attributes(slave[5])) == ("bridge", {33: b"\1"})

    def test_isolated_is_what_the_bridge_says(self, stage: Stage) -> None:
        assert not links.is_isolated("veth1a2b3c4")
        stage.host.answers[GET_LINK] = known(link(7, "veth1a2b3c4", port(b"\1")))
        assert links.is_isolated("veth1a2b3c4")
        assert not links.is_isolated("gone")
        links.set_isolated("veth1a2b3c4")
        assert stage.host.changes(GET_LINK) == []

    @pytest.mark.parametrize("name", ["docker0", "gone"])
    @pytest.mark.usefixtures("stage")
    def test_what_is_no_port_cannot_be_isolated(self, name: str) -> None:
        with pytest.raises(HostError, match=f"{name} is a port of no bridge"):
            links.set_isolated(name)

    def test_a_bridges_ports_are_its_own_alone(self, stage: Stage) -> None:
        answers = known(link(2, "docker0", BRIDGE), link(7, "veth1", port()), link(8, "veth2", {10: u32(99)}))
        stage.host.answers[GET_LINK] = answers
        assert links.ports_of("docker0") == {7: "veth1"}
        assert number(parse_attributes(stage.host.asked[-1][1][HEADER.size :])[10]) == 2

    def test_interfaces_of_a_kind(self, stage: Stage) -> None:
        stage.host.answers[GET_LINK] = known(link(2, "docker0", BRIDGE), link(3, "ifb9", {18: {1: "ifb"}}))
        assert [found.name for found in links.links(stage.host, kind="ifb")] == ["ifb9"]


class TestBridges:
    def test_the_first_address_counts(self, stage: Stage) -> None:
        stage.host.answers[GET_ADDRESS] = addresses(2, "172.17.0.1/16", "10.0.0.1/8")
        network = ipaddress.IPv4Network("172.17.0.0/16")
        assert links.bridge_address("docker0") == ("172.17.0.1", network, "02:42:ac:11:00:02")

    def test_without_an_address_it_is_an_error(self, stage: Stage) -> None:
        stage.host.answers[GET_ADDRESS] = addresses(2)
        with pytest.raises(HostError, match="docker0 has no IPv4 address"):
            links.bridge_address("docker0")

    @pytest.mark.parametrize("name", ["gone", "veth1a2b3c4"])
    @pytest.mark.usefixtures("stage")
    def test_what_is_no_bridge_is_an_error(self, name: str) -> None:
        with pytest.raises(HostError, match=f"no bridge {name}"):
            links.bridge_address(name)
        with pytest.raises(HostError, match=f"no bridge {name}"):
            links.ports_of(name)
