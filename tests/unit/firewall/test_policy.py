"""What stands for one container: each kind of rule in nft's words, and its elements."""

from __future__ import annotations

from typing import Any

import pytest
from bailey.errors import InvalidValueError
from bailey.firewall.policy import Element, bound_rules, part_of

from tests.unit.firewall.things import SETTINGS, allow, deny, endpoint

POLICY, TOHOST = "policy_ada-web-1", "tohost_ada-web-1"
LEADS = {"egress": POLICY, "ingress": POLICY, "tohost": TOHOST}
# Where rules of both directions share a chain, each says whose packets it speaks of.
FROM, TO = "ip saddr 172.17.0.2 ", "ip daddr 172.17.0.2 "
OUT, IN = 'oifname "br0" return', 'iifname "br0" return'


def chains(*rules: dict[str, Any], **network: Any) -> dict[str, tuple[str, ...]]:
    return part_of(endpoint("ada-web-1", 2, *rules, network=network), SETTINGS).chains


class TestRules:
    @pytest.mark.parametrize(
        ("rule", "line"),
        [
            (allow(cidr="10.1.0.0/16"), "ip daddr 10.1.0.0/16 accept"),
            (allow(cidr="10.1.2.3"), "ip daddr 10.1.2.3/32 accept"),
            (deny(cidr="198.51.100.0/24"), "ip daddr 198.51.100.0/24 goto deny_egress"),
            (deny(cidr="0.0.0.0/0"), "goto deny_egress"),
            (deny(cidr="0.0.0.0/0", protocol="udp"), "meta l4proto udp goto deny_egress"),
            (allow(cidr="10.1.0.0/16", protocol="icmp"), "ip daddr 10.1.0.0/16 meta l4proto icmp accept"),
            (allow(cidr="10.1.0.0/16", protocol="tcp", ports=[80]), "ip daddr 10.1.0.0/16 tcp dport 80 accept"),
        ],
    )
    def test_on_networks_outward(self, rule: dict[str, Any], line: str) -> None:
        assert chains(rule) == {POLICY: (OUT, line)}

    @pytest.mark.parametrize(
        ("rule", "line"),
        [
            (allow(cidr="10.1.0.0/16"), "ip saddr 10.1.0.0/16 accept"),
            (deny(cidr="0.0.0.0/0", protocol="tcp", ports=["1-9"]), "tcp dport 1-9 goto deny_ingress"),
        ],
    )
    def test_on_networks_inward(self, rule: dict[str, Any], line: str) -> None:
        assert chains({**rule, "direction": "ingress"}) == {POLICY: (IN, line)}

    @pytest.mark.parametrize(
        ("rule", "expected"),
        [
            (allow(app="api"), {POLICY: ("ip daddr @app_ada_api accept",)}),
            (deny(app="bob/api"), {POLICY: ("ip daddr @app_bob_api goto deny_egress",)}),
            (allow(app="api", direction="ingress"), {POLICY: ("ip saddr @app_ada_api accept",)}),
            (deny(app="api", direction="ingress", protocol="icmp"),
             {POLICY: ("ip saddr @app_ada_api meta l4proto icmp goto deny_ingress",)}),
        ],
    )  # fmt: skip
    def test_on_apps(self, rule: dict[str, Any], expected: dict[str, tuple[str, ...]]) -> None:
        assert chains(rule) == expected

    def test_on_the_host(self) -> None:
        given = [deny(host=True, protocol="udp"), allow(host=True), allow(host=True, protocol="tcp", ports=[9000])]
        assert chains(*given) == {TOHOST: ("meta l4proto udp goto deny_egress", "accept", "tcp dport 9000 accept")}

    def test_each_range_of_ports_has_a_line_and_no_rule_a_set_of_its_own(self) -> None:
        given = allow(app="api", protocol="tcp", ports=[443, "8000-8100", 80])
        lines = chains(given)[POLICY]
        assert lines == tuple(f"ip daddr @app_ada_api tcp dport {port} accept" for port in ("80", "443", "8000-8100"))

    def test_their_order_is_kept_and_those_on_the_bridge_come_first(self) -> None:
        given = [allow(cidr="10.1.0.0/16"), deny(app="api"), deny(cidr="10.0.0.0/8"), allow(app="db")]
        assert chains(*given, same_tenant=True)[POLICY] == (
            f"{FROM}ip daddr @app_ada_api goto deny_egress",
            f"{FROM}ip daddr @app_ada_db accept",
            f"{FROM}ip daddr @tenant_ada accept",
            FROM + OUT,
            f"{FROM}ip daddr 10.1.0.0/16 accept",
            f"{FROM}ip daddr 10.0.0.0/8 goto deny_egress",
            f"{TO}ip saddr @tenant_ada accept",
        )

    def test_same_tenant_is_a_rule_in_each_direction(self) -> None:
        expected = {POLICY: (f"{FROM}ip daddr @tenant_ada accept", f"{TO}ip saddr @tenant_ada accept")}
        assert chains(same_tenant=True) == expected

    def test_nothing_declared_is_no_chain(self) -> None:
        assert chains() == {}


class TestElements:
    def test_of_one_without_rules(self) -> None:
        assert part_of(endpoint(published=[("tcp", 80)]), SETTINGS).elements == {
            Element("inet", "instances", ("172.17.0.2",)),
            Element("inet", "rates", ("172.17.0.2",), " limit rate over 50/second burst 50 packets"),
            Element("inet", "connections", ("172.17.0.2",), " : jump connections_1024"),
            Element("inet", "published", ("172.17.0.2", "tcp", "80")),
            Element("inet", "ports", ("veth2",)),
            Element("bridge", "ports", ("veth2",)),
            Element("bridge", "neighbours", ("veth2", "02:42:ac:11:00:02", "172.17.0.2")),
        }

    def test_a_map_leads_to_each_of_its_chains(self) -> None:
        given = [allow(app="api"), allow(host=True), allow(app="api", direction="ingress")]
        elements = part_of(endpoint("ada-web-1", 2, *given), SETTINGS).elements
        led = {item.set: item.value for item in elements if item.set in ("egress", "ingress", "tohost")}
        assert led == {kind: f" : jump {chain}" for kind, chain in LEADS.items()}

    def test_its_own_bounds_come_before_the_hosts(self) -> None:
        part = part_of(endpoint(network={"new_connections": 3, "connections": 7}), SETTINGS)
        assert (part.rate, part.bound) == (3, 7)
        values = {item.value for item in part.elements}
        assert {" limit rate over 3/second burst 3 packets", " : jump connections_7"} <= values
        assert bound_rules(7) == ("add @connected_7 { ip saddr ct count over 7 } goto deny_connections",)

    def test_sets_that_it_needs_and_sets_that_it_joins(self) -> None:
        part = part_of(endpoint("ada-web-1", 2, allow(app="bob/api")), SETTINGS)
        assert (part.needs, part.joins) == ({"app_bob_api"}, {"app_ada_web"})
        part = part_of(endpoint(network={"same_tenant": True}), SETTINGS)
        assert (part.needs, part.joins) == ({"tenant_ada"}, {"app_ada_web", "tenant_ada"})


@pytest.mark.parametrize("port", ["", "veth*", 'veth"', "veth 1", "veth1234567890123", "veth\n"])
def test_a_port_that_nft_takes_for_something_else_is_refused(port: str) -> None:
    with pytest.raises(InvalidValueError, match=r"port: .* interface's name"):
        endpoint(port=port)
