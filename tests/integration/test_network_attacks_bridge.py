"""Ways past the firewall over the bridge itself, each beside the same without the firewall. Needs root."""

from __future__ import annotations

import socket
import time

import pytest

from tests.integration.fixtures.attack_scene import (
    END,
    EVIL,
    FOREIGN,
    PORT,
    STRANGE_MAC,
    Scene,
    drain,
    either_way,
    send_datagram,
)
from tests.integration.fixtures.fire_yard import BRIDGE_MAC, PUBLIC
from tests.integration.fixtures.frames import (
    ARP,
    BROADCAST,
    IPV4,
    IPV6,
    QINQ,
    REPLY,
    VLAN,
    arp,
    ether,
    heard,
    ipv6,
    send_frame,
    sniff,
    tagged,
    udp,
)
from tests.integration.fixtures.net_yard import Namespace, YardContainer

pytest_plugins = ["tests.integration.fixtures.attack_scene"]

STP = 38  # below 1536 it is a length, and what follows says which protocol it is


class TestNeighbour:
    def test_at_layer_two_by_its_mac(self, scene: Scene) -> None:
        packet = udp(scene.mallory.address, scene.victim.address, PORT, EVIL)
        direct = ether(scene.victim.mac, scene.mallory.mac, IPV4, packet)
        sniffing = sniff(scene.victim)
        assert either_way(scene, lambda: scene.seen(sniffing, direct)) == (False, True)

    @pytest.mark.parametrize("to", ["victim", BROADCAST, "01:00:5e:00:00:fb", "33:33:00:00:00:01"])
    @pytest.mark.parametrize("kind", [IPV4, ARP, IPV6, 0x88CC, 0x8863, 0x8035, STP])
    def test_by_any_group_and_protocol(self, scene: Scene, to: str, kind: int) -> None:
        sniffing = sniff(scene.victim)
        frame = ether(scene.victim.mac if to == "victim" else to, scene.mallory.mac, kind, EVIL * 20)
        assert not scene.seen(sniffing, frame, tagged(frame), tagged(frame, kind=QINQ), tagged(tagged(frame)))

    @pytest.mark.parametrize("kind", [IPV6, VLAN])
    def test_it_would_have_come(self, scene: Scene, kind: int) -> None:
        frame = ether("33:33:00:00:00:01", scene.mallory.mac, IPV6, ipv6(EVIL))
        frame = tagged(frame) if kind == VLAN else frame
        sniffing = sniff(scene.victim)
        assert either_way(scene, lambda: scene.seen(sniffing, frame)) == (False, True)

    def test_what_the_host_sends_to_one_is_not_seen_by_the_other(self, scene: Scene) -> None:
        """A bridge that does not know where a MAC is sends to all ports."""
        scene.yard.host_run("ip", "link", "set", scene.yard.bridge, "type", "bridge", "ageing_time", "0")
        sniffing = sniff(scene.mallory)

        def leaked() -> bool:
            send_datagram(scene.yard, scene.victim.address, EVIL)
            send_datagram(scene.yard, scene.mallory.address)
            return any(EVIL in frame for frame in heard(sniffing, END))

        assert either_way(scene, leaked) == (False, True)

    def test_the_host_tells_nobody_of_a_shorter_way(self, scene: Scene) -> None:
        """It would be the way past the firewall; it is what a router says when a packet leaves where it came in."""
        yard, rule = scene.yard, {"action": "allow", "protocol": "udp"}
        yard.put(scene.mallory, "mallory", {"rules": [{**rule, "app": "bob/victim"}]})
        yard.put(
            scene.victim, "victim", {"rules": [{**rule, "app": "ada/mallory", "direction": "ingress"}]}, tenant="bob"
        )
        sniffing, arrivals = sniff(scene.mallory), yard.hear(scene.victim, scene.victim.address, PORT)

        def told() -> bool:
            time.sleep(0.1)  # the kernel says so less and less often
            send_datagram(scene.mallory, scene.victim.address, EVIL)
            assert heard(arrivals, EVIL) == []
            send_datagram(scene.yard, scene.mallory.address)
            return any(frame[23] == socket.IPPROTO_ICMP and frame[34] == 5 for frame in heard(sniffing, END))

        assert either_way(scene, told) == (False, True)


class TestToTheHost:
    @pytest.mark.parametrize(
        ("to", "kind"),
        [
            (BRIDGE_MAC, IPV6),
            ("33:33:00:00:00:01", IPV6),
            (BROADCAST, 0x88CC),
            (BROADCAST, STP),
            (BRIDGE_MAC, 0x8863),
            (BRIDGE_MAC, 0x8035),
        ],
    )
    def test_nothing_but_ipv4_and_arp(self, scene: Scene, to: str, kind: int) -> None:
        frame = ether(to, scene.mallory.mac, kind, ipv6(EVIL) if kind == IPV6 else EVIL * 20)
        sniffing = sniff(scene.yard, scene.yard.bridge)

        def came() -> bool:
            send_frame(scene.mallory, frame)
            send_datagram(scene.mallory, scene.yard.address)
            return any(EVIL in found for found in heard(sniffing, END))

        assert either_way(scene, came) == (False, True)

    @pytest.mark.parametrize("kind", [VLAN, QINQ])
    def test_no_tag_hides_what_is_inside(self, scene: Scene, kind: int) -> None:
        frame = tagged(scene.to_host(source=FOREIGN), kind=kind)
        sniffing = sniff(scene.yard, scene.yard.bridge)

        def came() -> bool:
            send_frame(scene.mallory, frame, tagged(scene.to_host(), kind=kind))
            send_datagram(scene.mallory, scene.yard.address)
            return any(EVIL in found for found in heard(sniffing, END))

        assert either_way(scene, came) == (False, True)


class TestStranger:
    """A port on the bridge that nobody has put in force: somebody else's container, or one whose gate is shut."""

    @pytest.fixture
    def stranger(self, scene: Scene) -> YardContainer:
        return scene.yard.add_container()

    def test_it_reaches_nothing(self, scene: Scene, stranger: YardContainer) -> None:
        def reached() -> bool:
            packet = udp(stranger.address, PUBLIC, PORT, EVIL)
            send_frame(stranger, ether(BRIDGE_MAC, stranger.mac, IPV4, packet))
            send_datagram(scene.yard, PUBLIC)
            return EVIL in heard(scene.public, END)

        assert either_way(scene, reached) == (False, True)

    def test_it_does_not_reach_the_host_nor_a_container(self, scene: Scene, stranger: YardContainer) -> None:
        sniffing = sniff(scene.victim)
        for address in (scene.yard.address, scene.victim.address):
            send_datagram(stranger, address, EVIL)
        direct = udp(stranger.address, scene.victim.address, PORT, EVIL)
        send_frame(stranger, ether(scene.victim.mac, stranger.mac, IPV4, direct))
        send_frame(stranger, ether(scene.victim.mac, stranger.mac, IPV4, udp(FOREIGN, FOREIGN, PORT, EVIL)))
        send_datagram(scene.mallory, scene.yard.address)
        assert heard(scene.service, END) == []
        send_datagram(scene.yard, scene.victim.address)
        assert not any(EVIL in frame for frame in heard(sniffing, END))

    def test_not_with_a_foreign_address_either(self, scene: Scene, stranger: YardContainer) -> None:
        for mac in (BRIDGE_MAC, BROADCAST):
            packet = udp(FOREIGN, scene.yard.address, PORT, EVIL)
            send_frame(stranger, ether(mac, stranger.mac, IPV4, packet))
        send_datagram(scene.mallory, scene.yard.address)
        assert heard(scene.service, END) == []

    def test_it_is_not_reached(self, scene: Scene, stranger: YardContainer) -> None:
        sniffing = sniff(stranger)
        known = ("neigh", "replace", stranger.address, "lladdr", stranger.mac, "dev", scene.yard.bridge)
        scene.yard.run("ip", *known)  # there is no need to ask for it

        def reached() -> bool:
            send_datagram(scene.yard, stranger.address, EVIL)
            return EVIL in drain(sniffing)

        assert either_way(scene, reached) == (False, True)

    def test_it_does_not_take_a_neighbours_place(self, scene: Scene, stranger: YardContainer) -> None:
        for address in (scene.victim.address, scene.yard.address, stranger.address):
            for target in ((BRIDGE_MAC, scene.yard.address), (scene.mallory.mac, scene.mallory.address)):
                send_frame(stranger, ether(target[0], stranger.mac, ARP, arp(REPLY, (stranger.mac, address), target)))
        told = scene.yard.run("ip", "neigh").stdout + scene.mallory.run("ip", "neigh").stdout
        assert stranger.mac not in told

    def test_once_it_is_put_it_is_a_tenant_like_any(self, scene: Scene, stranger: YardContainer) -> None:
        scene.yard.put(stranger, "stranger")
        send_datagram(stranger, PUBLIC)
        assert heard(scene.public, END) == []

    def test_another_bridge_of_the_host_is_nobodys_business_here(self, scene: Scene) -> None:
        yard = scene.yard
        yard.host_batch("link add br1 type bridge", "address add 10.98.0.1/24 dev br1", "link set br1 up")
        others = [Namespace(), Namespace()]
        try:
            for number, other in enumerate(others, 2):
                yard.host_batch(
                    f"link add other{number} type veth peer name eth0 netns {other.pid}",
                    f"link set other{number} master br1 up",
                )
                lines = f"address add 10.98.0.{number}/24 dev eth0\nlink set eth0 up\nroute add default via 10.98.0.1\n"
                other.run("ip", "-batch", "-", input=lines)
            listening = yard.hear(others[1], "10.98.0.3", PORT)
            tap = sniff(others[1])
            for where in (others[0], yard, yard.outside):
                send_datagram(where, "10.98.0.3")
                assert heard(listening, END) == []
            send_frame(others[0], ether(BROADCAST, STRANGE_MAC, IPV6, ipv6(b"by IPv6, too")))
            assert b"by IPv6, too" in drain(tap)
            inward = {"action": "allow", "direction": "ingress", "cidr": "10.98.0.0/24"}
            yard.put(scene.victim, "victim", {"rules": [inward]}, tenant="bob")
            arrivals = yard.hear(scene.victim, scene.victim.address, PORT)
            send_datagram(others[0], scene.victim.address)
            assert heard(arrivals, END) == []
        finally:
            for other in others:
                other.close()
