"""What a container may do, by default and by declaration: real traffic through the real kernel. Needs root."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.fixtures.fire_yard import (
    CONNECTED,
    HOST_OUTSIDE,
    METADATA,
    OTHER_PUBLIC,
    PRIVATE,
    PUBLIC,
    RESOLVER,
    SERVICE_PORT,
    SILENT,
    FireYard,
    ask,
    connect,
    fire_yard,
    pings,
    set_bridge_netfilter,
)

pytest_plugins = ["tests.integration.fixtures.fire_yard"]
pytestmark = pytest.mark.alone

PORT = 8080


def allow(**fields: Any) -> dict[str, Any]:
    return {"action": "allow", **fields}


def deny(**fields: Any) -> dict[str, Any]:
    return {"action": "deny", **fields}


def rules(*given: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"rules": list(given), **fields}


@pytest.fixture
def plain() -> Iterator[FireYard]:
    """A yard as most hosts are, for what no setting of the bridge can touch."""
    with fire_yard() as made:
        yield made


class TestOutward:
    def test_the_internet_is_open_and_answers_come_back(self, yard: FireYard) -> None:
        one = yard.add("one")
        yard.serve(yard.outside, PUBLIC, PORT)
        assert connect(one, PUBLIC, PORT) == CONNECTED
        assert ask(one, yard.hear(yard.outside, PUBLIC, PORT), PUBLIC, PORT)
        assert pings(one, OTHER_PUBLIC)

    @pytest.mark.parametrize("address", [METADATA, PRIVATE, RESOLVER])
    def test_metadata_and_private_networks_are_not(self, yard: FireYard, address: str) -> None:
        one = yard.add("one")
        yard.serve(yard.outside, address, 80)
        assert connect(one, address, 80) == SILENT
        assert not pings(one, address)
        assert connect(yard, address, 80) == CONNECTED  # it is there

    def test_a_private_network_is_opened_by_a_rule_metadata_is_not(self, plain: FireYard) -> None:
        one = plain.add("one", rules(allow(cidr="10.1.0.0/16", protocol="tcp", ports=[5432, "8000-8100"])))
        for port in (5432, 8050, 8101):
            plain.serve(plain.outside, PRIVATE, port)
        assert [connect(one, PRIVATE, port) for port in (5432, 8050, 8101)] == [CONNECTED, CONNECTED, SILENT]

    def test_names_are_resolved_whatever_else_is_denied(self, yard: FireYard) -> None:
        one = yard.add("one", rules(deny(cidr="0.0.0.0/0")))
        assert ask(one, yard.hear(yard.outside, RESOLVER, 53), RESOLVER, 53)
        yard.serve(yard.outside, RESOLVER, 53)
        assert connect(one, RESOLVER, 53) == CONNECTED
        yard.serve(yard.outside, PUBLIC, PORT)
        assert connect(one, PUBLIC, PORT) == SILENT

    def test_a_cloud_that_resolves_names_at_its_metadata_address(self) -> None:
        with fire_yard(services=[{"address": METADATA, "protocol": "udp", "port": 53}]) as yard:
            one = yard.add("one")
            assert ask(one, yard.hear(yard.outside, METADATA, 53), METADATA, 53)
            yard.serve(yard.outside, METADATA, 80)
            assert connect(one, METADATA, 80) == SILENT

    @pytest.mark.parametrize("port", [25, 465, 587])
    def test_mail_goes_out_by_a_rule_alone(self, plain: FireYard, port: int) -> None:
        one = plain.add("one")
        two = plain.add("two", rules(allow(cidr=f"{PUBLIC}/32", protocol="tcp", ports=[port])))
        plain.serve(plain.outside, PUBLIC, port)
        assert (connect(one, PUBLIC, port), connect(two, PUBLIC, port)) == (SILENT, CONNECTED)

    def test_the_first_rule_that_matches_counts(self, plain: FireYard) -> None:
        specific, wide = f"{PUBLIC}/32", "203.0.113.0/24"
        one = plain.add("one", rules(allow(cidr=specific), deny(cidr=wide)))
        two = plain.add("two", rules(deny(cidr=wide), allow(cidr=specific)))
        plain.serve(plain.outside, PUBLIC, PORT)
        plain.serve(plain.outside, OTHER_PUBLIC, PORT)
        assert (connect(one, PUBLIC, PORT), connect(two, PUBLIC, PORT)) == (CONNECTED, SILENT)
        assert connect(two, OTHER_PUBLIC, PORT) == CONNECTED

    def test_a_rule_on_a_protocol_speaks_of_no_other(self, plain: FireYard) -> None:
        one = plain.add(
            "one", rules(deny(cidr=f"{PUBLIC}/32", protocol="icmp"), deny(cidr="0.0.0.0/0", protocol="udp"))
        )
        plain.serve(plain.outside, PUBLIC, PORT)
        assert connect(one, PUBLIC, PORT) == CONNECTED
        assert not pings(one, PUBLIC)
        assert pings(one, OTHER_PUBLIC)
        assert not ask(one, plain.hear(plain.outside, PUBLIC, PORT), PUBLIC, PORT)

    def test_the_longest_list_of_rules_is_taken(self, plain: FireYard) -> None:
        ports = [f"{port}-{port + 1}" for port in range(1000, 1192, 3)]
        many = [deny(cidr=f"198.18.{n}.0/24", protocol="tcp", ports=ports) for n in range(255)]
        one = plain.add("one", rules(*many, deny(cidr=f"{PUBLIC}/32", protocol="tcp", ports=[PORT])))
        plain.serve(plain.outside, PUBLIC, PORT)
        assert connect(one, PUBLIC, PORT) == SILENT
        plain.put(one, "one")
        assert connect(one, PUBLIC, PORT) == CONNECTED
        assert plain.firewall.differences() == []


class TestHost:
    def test_its_ports_are_closed_but_for_its_services(self, yard: FireYard) -> None:
        one = yard.add("one")
        for port in (SERVICE_PORT, PORT):
            yard.serve(yard, "0.0.0.0", port)
        assert connect(one, yard.address, SERVICE_PORT) == CONNECTED
        assert connect(one, yard.address, PORT) == SILENT
        assert connect(one, HOST_OUTSIDE, SERVICE_PORT) == SILENT  # declared for the other address
        assert not pings(one, yard.address)

    def test_a_rule_opens_it_at_every_address_that_it_has(self, yard: FireYard) -> None:
        one = yard.add("one", rules(allow(host=True, protocol="tcp", ports=[PORT]), allow(host=True, protocol="icmp")))
        for port in (PORT, PORT + 1):
            yard.serve(yard, "0.0.0.0", port)
        for address in (yard.address, HOST_OUTSIDE):
            assert connect(one, address, PORT) == CONNECTED
            assert connect(one, address, PORT + 1) == SILENT
        assert pings(one, yard.address)

    def test_a_rule_on_networks_does_not(self, plain: FireYard) -> None:
        one = plain.add("one", rules(allow(cidr="10.0.0.0/8"), allow(cidr="203.0.113.0/24")))
        plain.serve(plain, "0.0.0.0", PORT)
        assert connect(one, plain.address, PORT) == connect(one, HOST_OUTSIDE, PORT) == SILENT
        plain.serve(plain.outside, PRIVATE, PORT)
        assert connect(one, PRIVATE, PORT) == CONNECTED

    def test_the_host_reaches_every_container(self, yard: FireYard) -> None:
        one = yard.add("one")
        yard.serve(one, one.address, PORT)
        assert connect(yard, one.address, PORT) == CONNECTED
        assert pings(yard, one.address)


class TestPeers:
    def pair(self, yard: FireYard, one: dict[str, Any] | None, two: dict[str, Any] | None, tenant: str = "ada") -> str:
        """Return what comes of the first one's connection to the second's."""
        first, second = yard.add("one", one), yard.add("two", two, tenant=tenant)
        yard.serve(second, second.address, PORT)
        return connect(first, second.address, PORT)

    OUT = allow(app="two", protocol="tcp", ports=[PORT])
    IN = allow(app="one", direction="ingress", protocol="tcp", ports=[PORT])

    def test_it_takes_a_rule_on_both_sides(self, yard: FireYard) -> None:
        assert self.pair(yard, rules(self.OUT), rules(self.IN)) == CONNECTED

    @pytest.mark.parametrize(("one", "two"), [(None, None), (OUT, None), (None, IN)])
    def test_one_side_alone_is_not_enough(self, yard: FireYard, one: Any, two: Any) -> None:
        assert self.pair(yard, one and rules(one), two and rules(two)) == SILENT

    def test_only_in_the_direction_and_at_the_port_that_they_say(self, yard: FireYard) -> None:
        assert self.pair(yard, rules(self.OUT), rules(self.IN)) == CONNECTED
        one, two = yard.containers
        yard.serve(one, one.address, PORT)
        yard.serve(two, two.address, PORT + 1)
        assert connect(two, one.address, PORT) == SILENT
        assert connect(one, two.address, PORT + 1) == SILENT
        assert not pings(one, two.address)

    def test_an_app_of_the_same_name_of_another_tenant_is_another(self, plain: FireYard) -> None:
        assert self.pair(plain, rules(self.OUT), rules(self.IN), tenant="bob") == SILENT
        one, two = plain.containers
        plain.put(one, "one", rules(allow(app="bob/two")))
        plain.put(two, "two", rules(allow(app="ada/one", direction="ingress")), tenant="bob")
        assert connect(one, two.address, PORT) == CONNECTED

    def test_a_rule_on_networks_opens_no_container(self, yard: FireYard) -> None:
        wide = "10.0.0.0/8"
        assert self.pair(yard, rules(allow(cidr=wide)), rules(allow(cidr=wide, direction="ingress"))) == SILENT

    def test_instances_that_come_later_are_in_the_rule_and_those_that_went_are_not(self, plain: FireYard) -> None:
        one = plain.add("one", rules(allow(app="web")))
        webs = [plain.add(f"web-{n}", rules(allow(app="one", direction="ingress")), app="web") for n in range(2)]
        for web in webs:
            plain.serve(web, web.address, PORT)
        assert [connect(one, web.address, PORT) for web in webs] == [CONNECTED, CONNECTED]
        plain.put(webs[0], "other", rules(allow(app="one", direction="ingress")))  # its address has another owner
        plain.firewall.drop("web-1")
        assert [connect(one, web.address, PORT, 0.2) for web in webs] == [SILENT, SILENT]

    def test_same_tenant_takes_both_and_the_same_tenant(self, yard: FireYard) -> None:
        together = {"same_tenant": True}
        one, two = yard.add("one", together), yard.add("two", together)
        alone, stranger = yard.add("alone"), yard.add("stranger", together, tenant="bob")
        for container in (two, alone, stranger):
            yard.serve(container, container.address, PORT)
        assert connect(one, two.address, PORT) == CONNECTED
        assert pings(two, one.address)
        assert [connect(one, other.address, PORT) for other in (alone, stranger)] == [SILENT, SILENT]
        yard.serve(one, one.address, PORT)
        assert [connect(other, one.address, PORT) for other in (alone, stranger)] == [SILENT, SILENT]

    def test_a_rule_on_an_app_comes_before_same_tenant(self, plain: FireYard) -> None:
        together = {"same_tenant": True}
        assert self.pair(plain, rules(deny(app="two"), **together), together) == SILENT


class TestInward:
    def publish(self, yard: FireYard, address: str, port: int, target: int) -> None:
        """Translate as the engine does, for packets from outside and for those of the host itself."""
        rule = f"tcp dport {port} fib daddr type local dnat ip to {address}:{target}"
        chains = (("prerouting", "-100"), ("output", "-100"))
        text = "".join(
            f"chain {hook} {{ type nat hook {hook} priority {priority}; {rule}; }}\n" for hook, priority in chains
        )
        yard.host_run("nft", "-f", "-", input=f"table ip engine {{\n{text}}}\n")

    def test_published_ports_are_open_and_no_others(self, yard: FireYard) -> None:
        one = yard.add("one", published=[("tcp", PORT)])
        self.publish(yard, one.address, 80, PORT)
        for port in (PORT, PORT + 1):
            yard.serve(one, one.address, port)
        assert connect(yard.outside, HOST_OUTSIDE, 80) == CONNECTED
        assert connect(yard.outside, one.address, PORT) == SILENT  # not through the translation
        assert connect(yard.outside, one.address, PORT + 1) == SILENT
        assert connect(yard, HOST_OUTSIDE, 80) == CONNECTED

    def test_a_translation_that_nobody_declared_opens_nothing(self, yard: FireYard) -> None:
        one = yard.add("one", published=[("udp", PORT)])
        self.publish(yard, one.address, 80, PORT)
        yard.serve(one, one.address, PORT)
        assert connect(yard.outside, HOST_OUTSIDE, 80) == SILENT

    def test_rules_come_before_published_ports(self, plain: FireYard) -> None:
        one = plain.add("one", rules(deny(cidr="203.0.113.0/24", direction="ingress")), published=[("tcp", PORT)])
        self.publish(plain, one.address, 80, PORT)
        plain.serve(one, one.address, PORT)
        assert connect(plain.outside, HOST_OUTSIDE, 80) == SILENT
        plain.put(one, "one", rules(deny(cidr="198.51.100.0/24", direction="ingress")), published=[("tcp", PORT)])
        assert connect(plain.outside, HOST_OUTSIDE, 80) == CONNECTED

    def test_a_rule_lets_a_network_in(self, plain: FireYard) -> None:
        inward = allow(cidr=f"{PUBLIC}/32", direction="ingress", protocol="tcp", ports=[PORT])
        one = plain.add("one", rules(inward))
        for port in (PORT, PORT + 1):
            plain.serve(one, one.address, port)
        assert [connect(plain.outside, one.address, port) for port in (PORT, PORT + 1)] == [CONNECTED, SILENT]

    def test_a_peer_is_reached_by_its_published_port_unless_iptables_sees_frames_on_bridges(self) -> None:
        """With that the kernel hands a translated frame from port to port itself, which is never let through."""
        for on in (False, True):
            with fire_yard() as yard:
                yard.call(set_bridge_netfilter, on)
                one = yard.add("one", rules(allow(app="two")))
                two = yard.add("two", rules(allow(app="one", direction="ingress")), published=[("tcp", PORT)])
                self.publish(yard, two.address, 80, PORT)
                yard.serve(two, two.address, PORT)
                assert connect(one, yard.address, 80) == (SILENT if on else CONNECTED)
                assert connect(one, two.address, PORT) == CONNECTED

    def test_another_tenants_published_port_is_that_tenants_container(self, yard: FireYard) -> None:
        one, two = yard.add("one"), yard.add("two", tenant="bob", published=[("tcp", PORT)])
        self.publish(yard, two.address, 80, PORT)
        yard.serve(two, two.address, PORT)
        for address in (yard.address, HOST_OUTSIDE):
            assert connect(one, address, 80) == SILENT
        assert connect(yard.outside, HOST_OUTSIDE, 80) == CONNECTED
