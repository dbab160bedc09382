"""Links and connections as the kernel has them, in namespaces of the tests' own. Needs root and the real kernel."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from bailey.agent.probe import socket_inside
from bailey.errors import HostError
from bailey.host.conntrack import forget_connections
from bailey.host.links import Attachment, bridge_address, find_attachment, is_isolated, ports_of, set_isolated

from tests.integration.fixtures.net_yard import Namespace, NetYard, YardContainer

PORT = 8080
# Without a rule that asks for it the kernel tracks nothing.
TRACK = "table ip t { chain c { type filter hook %s priority 0; ct state established counter; }; }"


@pytest.fixture
def yard() -> Iterator[NetYard]:
    with NetYard() as made:
        yield made


@pytest.fixture
def one(yard: NetYard) -> YardContainer:
    return yard.add_container()


class TestAttachment:
    def test_a_silent_container_is_found(self, yard: NetYard) -> None:
        for container in [yard.add_container() for _ in range(3)]:
            index = yard.call(socket.if_nametoindex, container.port)
            wanted = Attachment(container.address, container.mac, container.port, index, yard.bridge, 1500)
            assert yard.call(find_attachment, container.pid) == wanted

    def test_a_restart_is_another_port(self, yard: NetYard, one: YardContainer) -> None:
        before = yard.call(find_attachment, one.pid)
        one.unplug()
        assert yard.call(find_attachment, one.pid) is None
        one.plug()
        after = yard.call(find_attachment, one.pid)
        assert before is not None
        assert after is not None
        assert (after.port, after.address, after.mac) == (one.port, before.address, before.mac)
        assert after.port != before.port

    def test_its_mtu_is_the_containers(self, yard: NetYard, one: YardContainer) -> None:
        one.run("ip", "link", "set", "eth0", "mtu", "1400")
        attachment = yard.call(find_attachment, one.pid)
        assert attachment is not None
        assert attachment.mtu == 1400

    def test_a_port_of_another_host_is_refused(self, one: YardContainer) -> None:
        """The index alone would name an interface here too."""
        told = "not the end of a pair whose other end is on this host"
        with NetYard() as other, pytest.raises(HostError, match=told):
            other.call(find_attachment, one.pid)

    def test_a_pair_within_the_container_is_refused(self, yard: NetYard, one: YardContainer) -> None:
        one.unplug()
        one.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
        one.run("ip", "address", "add", f"{one.address}/24", "dev", "eth0")
        with pytest.raises(HostError, match="not the end of a pair"):
            yard.call(find_attachment, one.pid)

    def test_off_the_bridge_is_refused(self, yard: NetYard, one: YardContainer) -> None:
        yard.host_run("ip", "link", "set", one.port, "nomaster")
        with pytest.raises(HostError, match=f"{one.port} is a port of no bridge"):
            yard.call(find_attachment, one.pid)

    def test_one_address_is_needed(self, yard: NetYard, one: YardContainer) -> None:
        one.run("ip", "address", "add", "10.99.0.200/24", "dev", "eth0")
        with pytest.raises(HostError, match=f"has {one.address}, 10.99.0.200; exactly one"):
            yard.call(find_attachment, one.pid)
        one.run("ip", "address", "flush", "dev", "eth0")
        with pytest.raises(HostError, match="no IPv4 address"):
            yard.call(find_attachment, one.pid)

    def test_an_ended_process_is_told(self, yard: NetYard) -> None:
        ended = Namespace()
        ended.close()
        with pytest.raises(HostError, match=f"process {ended.pid} cannot be read"):
            yard.call(find_attachment, ended.pid)

    def test_this_process_stays_where_it_is(self, yard: NetYard, one: YardContainer) -> None:
        before = Path("/proc/self/ns/net").readlink()
        yard.call(find_attachment, one.pid)
        assert Path("/proc/thread-self/ns/net").readlink() == before
        assert [thread for thread in threading.enumerate() if thread.name == "namespace"] == []


class TestBridge:
    def test_its_ports_and_address(self, yard: NetYard) -> None:
        assert yard.call(ports_of, yard.bridge) == {}
        containers = [yard.add_container() for _ in range(2)]
        found = yard.call(ports_of, yard.bridge)
        assert found == {yard.call(socket.if_nametoindex, item.port): item.port for item in containers}
        address, network, mac = yard.call(bridge_address, yard.bridge)
        assert (address, network) == (yard.address, ipaddress.IPv4Network("10.99.0.0/24"))
        assert mac in yard.host_run("ip", "link", "show", yard.bridge).stdout

    def test_one_that_is_not_there_is_told(self, yard: NetYard) -> None:
        with pytest.raises(HostError, match="no bridge docker0"):
            yard.call(bridge_address, "docker0")
        with pytest.raises(HostError, match="no bridge lo"):
            yard.call(ports_of, "lo")
        yard.host_run("ip", "address", "flush", "dev", yard.bridge)
        with pytest.raises(HostError, match="br0 has no IPv4 address"):
            yard.call(bridge_address, yard.bridge)

    def test_isolated_ports_do_not_reach_each_other(self, yard: NetYard) -> None:
        one, two = yard.add_container(), yard.add_container()
        with two.call(socket.create_server, (two.address, PORT)):
            one.call(socket.create_connection, (two.address, PORT), 5).close()
            for item in (one, two):
                assert not yard.call(is_isolated, item.port)
                for _ in range(2):
                    yard.call(set_isolated, item.port)
                assert yard.call(is_isolated, item.port)
            with pytest.raises(OSError, match="timed out"):
                one.call(socket.create_connection, (two.address, PORT), 1)
            yard.call(socket.create_connection, (two.address, PORT), 5).close()


class TestConnections:
    def test_both_directions_are_forgotten_and_no_others(self, yard: NetYard) -> None:
        one, two = yard.add_container(), yard.add_container()
        yard.host_run("nft", TRACK % "input")
        servers = [item.call(socket.create_server, (item.address, PORT)) for item in (yard, one, two)]
        inward = [yard.call(socket.create_connection, (item.address, PORT)) for item in (one, one, two)]
        outward = [item.call(socket.create_connection, (yard.address, PORT)) for item in (one, two)]
        assert yard.call(forget_connections, one.address) == 3
        assert yard.call(forget_connections, one.address) == 0
        assert _tracked(yard, two.address) == 2
        assert yard.call(forget_connections, two.address) == 2
        for item in (*servers, *inward, *outward):
            item.close()

    def test_a_translated_connection_is_forgotten(self, yard: NetYard, one: YardContainer) -> None:
        """A published port: the client knows the host's address alone, and the answers come from the container."""
        yard.host_run("nft", "table ip t { chain c { type nat hook output priority -100; }; }")
        yard.host_run("nft", "add", "rule", "ip", "t", "c", "tcp", "dport", "80", "dnat", "to", f"{one.address}:{PORT}")
        with (
            one.call(socket.create_server, (one.address, PORT)),
            yard.call(socket.create_connection, (yard.address, 80), 5),
        ):
            assert yard.call(forget_connections, one.address) == 1
            assert _tracked(yard, yard.address) == 0

    def test_none_are_forgotten_where_there_are_none(self, yard: NetYard) -> None:
        assert yard.call(forget_connections, "192.0.2.1") == 0

    def test_entries_that_go_meanwhile_are_no_error(self, yard: NetYard, one: YardContainer) -> None:
        """Several at once: each entry is counted by one of them."""
        yard.host_run("nft", TRACK % "input")
        with one.call(_udp) as talking:
            for port in range(1000, 1300):
                talking.sendto(b"x", (yard.address, port))
            counts: list[int] = []
            threads = [
                threading.Thread(target=lambda: counts.append(yard.call(forget_connections, one.address)))
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert sum(counts) == 300
        assert _tracked(yard, one.address) == 0


def _udp() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def _tracked(yard: NetYard, address: str) -> int:
    """Return how many connections the kernel knows with an address, in its own listing."""
    listing = yard.call(_listing)
    return sum(f"={address} " in line and "224.0.0." not in line for line in listing.splitlines())


def _listing() -> str:
    return Path("/proc/thread-self/net/nf_conntrack").read_text()


def test_a_probes_socket_is_inside(yard: NetYard, one: YardContainer) -> None:
    with one.call(socket.create_server, ("127.0.0.1", PORT)), socket_inside(one.pid) as probe:
        probe.settimeout(5)
        probe.connect(("127.0.0.1", PORT))
        assert probe.getsockname()[0] == "127.0.0.1"
    with pytest.raises(OSError, match="refused"), yard.call(socket.create_connection, ("127.0.0.1", PORT)):
        pass
