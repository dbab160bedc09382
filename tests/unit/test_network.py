"""Declaring an instance's network: every form, every default, every refusal, and the way back."""

from __future__ import annotations

import json
from ipaddress import IPv4Network

import pytest
from bailey.errors import InvalidValueError
from bailey.network import (
    PORTS_MAX,
    RULES_MAX,
    AppRef,
    Network,
    PortRange,
    Rule,
    parse_cidr,
    parse_ipv4_address,
    parse_network,
)
from bailey.spec import parse_spec
from hypothesis import given

from tests.unit import samples

DEFAULTS = {"ingress": "unlimited", "egress": "unlimited", "same_tenant": False, "rules": []}


def network(**declared: object) -> Network:
    return parse_network("one.network", declared, "ada")


def rule(**declared: object) -> Rule:
    return network(rules=[{"action": "allow", **declared}]).rules[0]


@pytest.mark.parametrize("declared", [None, {}, {"ingress": None, "rules": []}, {"egress": "unlimited"}])
def test_what_is_not_declared_is_the_default(declared: object) -> None:
    assert parse_network("one.network", declared, "ada") == Network()
    assert Network().canonical() == DEFAULTS


def test_everything_at_once() -> None:
    declared = {
        "ingress": "20Mbit",
        "egress": "512 kbit",
        "new_connections": "50",
        "connections": 512,
        "same_tenant": True,
        "rules": [
            {"action": "allow", "cidr": "10.1.0.0/16", "protocol": "tcp", "ports": [5432, "8000-8100"]},
            {"action": "allow", "direction": "ingress", "app": "alice/web"},
            {"action": "allow", "host": True, "protocol": "udp", "ports": ["123"]},
            {"action": "deny", "app": "api", "protocol": "icmp"},
        ],
    }
    assert network(**declared) == Network(
        ingress=20_000_000,
        egress=512_000,
        new_connections=50,
        connections=512,
        same_tenant=True,
        rules=(
            Rule("allow", cidr=IPv4Network("10.1.0.0/16"), protocol="tcp", ports=((5432, 5432), (8000, 8100))),
            Rule("allow", "ingress", app=AppRef("alice", "web")),
            Rule("allow", host=True, protocol="udp", ports=(PortRange(123, 123),)),
            Rule("deny", app=AppRef("ada", "api"), protocol="icmp"),
        ),
    )


def test_defaults_are_written_out_and_an_app_gets_its_tenant() -> None:
    declared = {"egress": "1.5Mbit", "connections": 5, "rules": [{"action": "deny", "app": "api"}]}
    assert network(**declared).canonical() == {
        **DEFAULTS,
        "egress": "1500kbit",
        "connections": 5,
        "rules": [{"action": "deny", "direction": "egress", "protocol": "any", "app": "ada/api"}],
    }


@given(samples.network_declarations())
def test_the_canonical_form_is_read_back_as_the_same(declared: dict[str, object]) -> None:
    read = network(**declared)
    canonical = read.canonical()
    again = parse_network("one.network", json.loads(json.dumps(canonical)), "somebody-else")
    assert again == read
    assert again.canonical() == canonical


@pytest.mark.parametrize(
    ("written", "read", "canonical"),
    [
        (["80"], ((80, 80),), [80]),
        ([443, 80], ((80, 80), (443, 443)), [80, 443]),
        (["1-65535", 80], ((1, 65535),), ["1-65535"]),
        (["80-90", "85-95", 95, 97], ((80, 95), (97, 97)), ["80-95", 97]),
        ([80, 80], ((80, 80),), [80]),
        (["80-80"], ((80, 80),), [80]),
    ],
)
def test_ports_are_put_in_order_and_none_is_there_twice(written: list[object], read: object, canonical: object) -> None:
    made = rule(cidr="10.0.0.0/8", protocol="tcp", ports=written)
    assert made.ports == read
    assert made.canonical()["ports"] == canonical


@pytest.mark.parametrize(("written", "read"), [("10.0.0.0/8", "10.0.0.0/8"), ("10.1.2.3", "10.1.2.3/32")])
def test_networks_and_addresses(written: str, read: str) -> None:
    assert parse_cidr("cidr", written) == IPv4Network(read)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("10.1.2.3/16", "10.1.0.0/16 for the network that it is in, or 10.1.2.3/32 for the address alone"),
        ("::/0", "tenants have no IPv6"),
        ("fe80::1", "tenants have no IPv6"),
        *((value, "an IPv4 network or address") for value in ("10.0.0.0/33", "10.0.0/8", "256.0.0.0/8", "web", "", 10)),
        *((value, "an IPv4 network or address") for value in ("010.0.0.0/8", "10.0.0.0/255.0.0.0", "10.0.0.0/", None)),
        *(
            (value, "an IPv4 network or address")
            for value in (["10.0.0.0/8"], "10.0.0.0/8\n", "\N{ARABIC-INDIC DIGIT ONE}0.0.0.0/8", "0", "/8")
        ),
    ],
)
def test_what_is_no_network_is_refused_with_what_was_meant(value: object, message: str) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        parse_cidr("one.cidr", value)
    assert refusal.value.details["field"] == "one.cidr"
    assert message in str(refusal.value.details["allowed"])


@pytest.mark.parametrize(
    "value", ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "10.0.0.0/8", "lo", "", 1, None]
)
def test_what_no_machine_has_is_no_address(value: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^one: .* allowed: a resolver's address"):
        parse_ipv4_address("one", value, "a resolver's address")
    assert parse_ipv4_address("one", "169.254.169.253", "an address") == "169.254.169.253"


@pytest.mark.parametrize(
    ("declared", "field"),
    [
        ("fast", ""),
        ({"bandwidth": "1Mbit"}, ".bandwidth"),
        *(
            ({key: value}, f".{key}")
            for key in ("ingress", "egress")
            for value in ("0kbit", "-1Mbit", "20", 20, "7kbit")
        ),
        *(({"egress": value}, ".egress") for value in ("101Gbit", "20Mbps", "20MB", "8.001kbit", "", "none", True)),
        *(({"new_connections": value}, ".new_connections") for value in (0, -1, "many", 1.5, 1_000_001, True)),
        *(({"connections": value}, ".connections") for value in (0, "unlimited", 10**12)),
        ({"same_tenant": "yes"}, ".same_tenant"),
        ({"rules": {"action": "allow"}}, ".rules"),
        ({"rules": [{"action": "deny", "cidr": "10.0.0.0/8"}] * (RULES_MAX + 1)}, ".rules"),
    ],
)
def test_what_is_refused_is_named(declared: object, field: str) -> None:
    with pytest.raises(InvalidValueError) as error:
        parse_network("one.network", declared, "ada")
    assert error.value.details["field"] == f"one.network{field}"


CIDR = {"cidr": "10.0.0.0/8"}
TCP = {**CIDR, "protocol": "tcp"}


@pytest.mark.parametrize(
    ("declared", "field"),
    [
        ("allow", ""),
        ({"cidr": "10.0.0.0/8", "colour": "red"}, ".colour"),
        ({**CIDR, "action": None}, ".action"),
        ({**CIDR, "action": "reject"}, ".action"),
        ({**CIDR, "direction": "both"}, ".direction"),
        ({**CIDR, "protocol": "sctp"}, ".protocol"),
        ({}, ""),
        ({"host": False}, ""),
        ({**CIDR, "app": "web"}, ""),
        ({"host": True, "app": "web"}, ""),
        ({"host": True, "direction": "ingress"}, ".host"),
        ({"host": "yes"}, ".host"),
        *(({"app": value}, ".app") for value in ("", "/", "a/", "/a", "a/b/c", "A", "a b", 1, ["a"], "a/../b")),
        *(({"cidr": value}, ".cidr") for value in ("10.1.2.3/16", "::/0", "web")),
        *(({"cidr": value}, ".cidr") for value in ("169.254.169.254", "169.254.0.0/16")),
        ({**CIDR, "ports": [80]}, ".ports"),
        ({**CIDR, "protocol": "icmp", "ports": [80]}, ".ports"),
        *(({**TCP, "ports": value}, ".ports") for value in ([], "80", {80: 80}, list(range(1, PORTS_MAX + 2)))),
        *(
            ({**TCP, "ports": [80, value]}, ".ports[1]")
            for value in ("90-80", 0, 65536, "80-", "-80", "0-80", "1-65536", "http", None, True, [80], "80:90")
        ),
    ],
)
def test_a_rule_that_is_refused_is_named(declared: object, field: str) -> None:
    given = {"action": "allow", **declared} if isinstance(declared, dict) else declared
    with pytest.raises(InvalidValueError) as error:
        network(rules=[{"action": "deny", **CIDR}, given])
    assert error.value.details["field"] == f"one.network.rules[1]{field}"


def test_a_range_that_goes_down_is_turned_round_in_the_message() -> None:
    with pytest.raises(InvalidValueError, match="a range that goes up, such as 80-90"):
        rule(**TCP, ports=["90-80"])


def test_metadata_may_be_denied_and_may_knock_itself() -> None:
    assert network(rules=[{"action": "deny", "cidr": "169.254.0.0/16"}]).rules[0].cidr == IPv4Network("169.254.0.0/16")
    assert rule(direction="ingress", cidr="0.0.0.0/0").cidr == IPv4Network("0.0.0.0/0")
    with pytest.raises(InvalidValueError, match=r"outside of 169\.254\.0\.0/16, where clouds hand out credentials"):
        rule(cidr="169.254.169.0/24")
    assert rule(cidr="0.0.0.0/0").cidr == IPv4Network("0.0.0.0/0")  # the firewall keeps the metadata out of it


def test_as_many_rules_and_ports_as_are_allowed() -> None:
    ports = [number * 2 for number in range(1, PORTS_MAX + 1)]
    made = network(rules=[{"action": "allow", **TCP, "ports": ports}] * RULES_MAX)
    assert len(made.rules) == RULES_MAX
    assert len(made.rules[0].ports) == PORTS_MAX


@pytest.mark.parametrize("declared", [{}, {"ingress": "1Mbit"}])
def test_rules_for_a_network_and_no_network_contradict_each_other(declared: object) -> None:
    with pytest.raises(InvalidValueError, match=r"ada-web-1\.network: .* none with network_mode: none"):
        samples.spec(network=declared, network_mode="none")


def test_a_plans_network_is_of_no_use_without_a_network() -> None:
    plans = {"small": {"network": {"ingress": "1Mbit"}}}
    spec = parse_spec(samples.declaration(plan="small", network_mode="none"), plans)
    assert spec.network == Network()
    assert "network" not in spec.canonical()
    assert parse_spec(spec.canonical()) == spec


def test_a_network_lies_over_the_plans_by_key_and_its_rules_take_the_place_of_the_plans() -> None:
    denied, allowed = {"action": "deny", "cidr": "10.0.0.0/8"}, {"action": "allow", "app": "api"}
    plans = {"small": {"network": {"ingress": "20Mbit", "egress": "10Mbit", "connections": 5, "rules": [denied]}}}
    spec = parse_spec(samples.declaration(plan="small", network={"egress": "unlimited", "rules": [allowed]}), plans)
    assert (spec.network.ingress, spec.network.egress, spec.network.connections) == (20_000_000, None, 5)
    assert [rule.app for rule in spec.network.rules] == [AppRef("ada", "api")]
    alone = parse_spec(samples.declaration(plan="small"), plans)
    assert [str(rule.cidr) for rule in alone.network.rules] == ["10.0.0.0/8"]


def test_an_app_without_a_tenant_is_its_own_tenants_whoever_reads_it() -> None:
    spec = samples.spec(tenant="bob", network={"rules": [{"action": "allow", "app": "api"}]})
    assert spec.network.rules[0].app == AppRef("bob", "api")
    assert "bob/api" in json.dumps(spec.canonical())
