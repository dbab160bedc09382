"""Lies about who sends: what a tenant with raw sockets says is somebody else's, beside the same without the firewall.

Needs root.
"""

from __future__ import annotations

import socket

import pytest

from tests.integration.fixtures.attack_scene import (
    END,
    EVIL,
    FOREIGN,
    PORT,
    STRANGE_MAC,
    Scene,
    either_way,
    send_datagram,
)
from tests.integration.fixtures.fire_yard import BRIDGE_MAC, PUBLIC
from tests.integration.fixtures.frames import (
    ARP,
    BROADCAST,
    REPLY,
    REQUEST,
    arp,
    ether,
    heard,
    send_frame,
    sniff,
    udp,
)
from tests.integration.fixtures.net_yard import Namespace

pytest_plugins = ["tests.integration.fixtures.attack_scene"]


class TestSource:
    def test_the_frames_of_these_tests_are_good(self, scene: Scene) -> None:
        assert scene.arrives(scene.service, scene.yard.address, scene.to_host())
        assert scene.arrives(scene.public, PUBLIC, scene.frame(PUBLIC))

    @pytest.mark.parametrize("source", [FOREIGN, "victim", "10.99.0.1", "127.0.0.1", "0.0.0.0"])
    def test_another_address_than_its_own(self, scene: Scene, source: str) -> None:
        source = scene.victim.address if source == "victim" else source
        assert not scene.arrives(scene.public, PUBLIC, scene.frame(PUBLIC, source=source))
        assert not scene.arrives(scene.service, scene.yard.address, scene.to_host(source=source))

    def test_it_would_have_come(self, scene: Scene) -> None:
        spoofed = scene.to_host(source=scene.victim.address)
        assert either_way(scene, lambda: scene.arrives(scene.service, scene.yard.address, spoofed)) == (False, True)

    def test_by_a_raw_socket(self, scene: Scene) -> None:
        def send(source: str) -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
                raw.sendto(udp(source, PUBLIC, PORT, source.encode()), (PUBLIC, 0))

        for source in (scene.victim.address, FOREIGN, scene.mallory.address):
            scene.mallory.call(send, source)
        assert heard(scene.public, scene.mallory.address.encode()) == []

    @pytest.mark.parametrize("mac", [STRANGE_MAC, "victim", BRIDGE_MAC])
    def test_another_mac_than_its_own(self, scene: Scene, mac: str) -> None:
        mac = scene.victim.mac if mac == "victim" else mac
        assert not scene.arrives(scene.service, scene.yard.address, scene.to_host(mac=mac))

    def test_its_mac_would_have_been_believed(self, scene: Scene) -> None:
        spoofed = scene.to_host(mac=STRANGE_MAC)
        assert either_way(scene, lambda: scene.arrives(scene.service, scene.yard.address, spoofed)) == (False, True)

    def test_the_bridge_learns_no_lie_of_where_a_mac_is(self, scene: Scene) -> None:
        sniffing = sniff(scene.mallory)

        def stolen() -> bool:
            scene.settle()
            send_frame(scene.mallory, scene.to_host(mac=scene.victim.mac))
            send_datagram(scene.yard, scene.victim.address, EVIL)
            send_datagram(scene.yard, scene.mallory.address)
            return any(frame.endswith(EVIL) for frame in heard(sniffing, END))

        assert either_way(scene, stolen) == (False, True)

    @pytest.mark.parametrize("mac", ["01:80:c2:00:00:0e", "01:80:c2:00:00:00", "01:00:5e:00:00:01", BROADCAST])
    @pytest.mark.parametrize("destination", ["10.99.0.1", "10.99.0.255", "255.255.255.255"])
    def test_by_a_group_address_to_the_host(self, scene: Scene, mac: str, destination: str) -> None:
        """Of link-local groups, the kernel gives frames to the port itself, past the bridge and its prerouting."""
        spoofed = scene.frame(destination, source=FOREIGN, to=mac)
        honest = scene.frame(destination, to=mac)
        assert not scene.arrives(scene.service, scene.yard.address, spoofed, honest)

    @pytest.mark.parametrize("mac", ["01:80:c2:00:00:0e", BROADCAST])
    def test_a_group_address_would_have_served(self, scene: Scene, mac: str) -> None:
        spoofed = scene.to_host(source=scene.victim.address, to=mac)
        assert either_way(scene, lambda: scene.arrives(scene.service, scene.yard.address, spoofed)) == (False, True)

    def test_loopback_addresses_of_the_host(self, scene: Scene) -> None:
        """An engine that publishes at 127.0.0.1 has the kernel route it."""
        scene.yard.host_run("sysctl", "-qw", f"net.ipv4.conf.{scene.yard.bridge}.route_localnet=1")
        scene.yard.put(scene.mallory, "mallory", {"rules": [{"action": "allow", "host": True}]})
        local = scene.frame("127.0.0.1")
        assert either_way(scene, lambda: scene.arrives(scene.service, scene.yard.address, local)) == (False, True)


class TestArp:
    def believes(self, who: Namespace, address: str, mac: str) -> bool:
        """Say whether somebody's table of neighbours has an address at a MAC."""
        return f"{address} " in (table := who.run("ip", "neigh").stdout) and any(
            line.startswith(f"{address} ") and mac in line for line in table.splitlines()
        )

    def lie(self, scene: Scene, target: tuple[str, str], address: str, **frame: str) -> list[bytes]:
        """Return frames that tell a target that an address is mallory's."""
        mac = scene.mallory.mac
        told = [arp(kind, (mac, address), target) for kind in (REPLY, REQUEST)]
        return [ether(frame.get("to", target[0]), frame.get("mac", mac), ARP, one) for one in told]

    def test_a_neighbour_is_not_told_that_the_gateway_is_elsewhere(self, scene: Scene) -> None:
        victim, gateway = (scene.victim.mac, scene.victim.address), scene.yard.address

        def poisoned() -> bool:
            scene.settle()
            send_frame(
                scene.mallory, *self.lie(scene, victim, gateway), *self.lie(scene, victim, gateway, to=BROADCAST)
            )
            return self.believes(scene.victim, gateway, scene.mallory.mac)

        assert either_way(scene, poisoned) == (False, True)

    def test_the_host_is_not_told_that_a_neighbour_is_elsewhere(self, scene: Scene) -> None:
        host, address = (BRIDGE_MAC, scene.yard.address), scene.victim.address

        def poisoned() -> bool:
            scene.settle()
            send_frame(scene.mallory, *self.lie(scene, host, address), *self.lie(scene, host, address, to=BROADCAST))
            return self.believes(scene.yard, address, scene.mallory.mac)

        assert either_way(scene, poisoned) == (False, True)

    @pytest.mark.parametrize("inner", ["mallory", "victim", "strange"])
    def test_the_frames_and_the_messages_sender_are_both_looked_at(self, scene: Scene, inner: str) -> None:
        """The address is its own, and one of the two MACs; nothing but the truth in all three is taken."""
        macs = {"mallory": scene.mallory.mac, "victim": scene.victim.mac, "strange": STRANGE_MAC}
        told = arp(REPLY, (macs[inner], scene.mallory.address), (BRIDGE_MAC, scene.yard.address))
        scene.settle()
        send_datagram(scene.mallory, scene.yard.address)
        heard(scene.service, END)
        sniffing = sniff(scene.yard, scene.yard.bridge)
        for outer in macs.values():
            send_frame(scene.mallory, ether(BRIDGE_MAC, outer, ARP, told + EVIL))
        send_datagram(scene.mallory, scene.yard.address)
        came = [frame for frame in heard(sniffing, END) if EVIL in frame]
        assert [frame[6:12].hex(":") for frame in came] == ([scene.mallory.mac] if inner == "mallory" else [])

    def test_who_has_still_gets_its_answer(self, scene: Scene) -> None:
        scene.mallory.run("ip", "neigh", "flush", "all")
        send_datagram(scene.mallory, scene.yard.address)
        assert heard(scene.service, END) == []
        assert self.believes(scene.mallory, scene.yard.address, BRIDGE_MAC)
