"""The tables' fixed text: what settings put into it, and what is to be true of all of it."""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from typing import Any

import pytest
from bailey.firewall.skeleton import Ground, clear, render

from tests.unit.firewall.things import settings

NETWORK, MAC = IPv4Network("172.17.0.0/16"), "02:42:00:00:00:01"
# Where a rule may have braces: what it updates a named set by.
UPDATE = re.compile(r"update @\w+ \{[^}]*\}")


def text(*, tells_bridge: bool = False, resolvers: tuple[str, ...] = (), **fields: Any) -> str:
    return render(settings(**fields), resolvers, Ground(NETWORK, MAC, tells_bridge))


def chains(rendered: str) -> dict[str, list[str]]:
    """Return the rules of each chain by the table's family and the chain's name."""
    found: dict[str, list[str]] = {}
    family = name = ""
    for line in map(str.strip, rendered.splitlines()):
        if match := re.fullmatch(r"table (\w+) \S+ \{", line):
            family = match[1]
        elif match := re.fullmatch(r"chain (\w+) \{", line):
            name = f"{family} {match[1]}"
            found[name] = []
        elif name and line == "}":
            name = ""
        elif name and line and not line.startswith("type "):
            found[name].append(line)
    return found


def test_no_set_is_anonymous() -> None:
    rules = [rule for rules in chains(text(tells_bridge=True)).values() for rule in rules]
    assert len(rules) > 80
    assert [rule for rule in rules if "{" in UPDATE.sub("", rule)] == []


def test_whatever_leads_somewhere_leads_to_a_chain_that_is_there() -> None:
    rendered = text()
    named = chains(rendered)
    for name, rules in named.items():
        family = name.split()[0]
        for rule in rules:
            for target in re.findall(r"(?:goto|jump) (\w+)", rule):
                assert f"{family} {target}" in named, rule
            for used in re.findall(r"@(\w+)", rule):
                assert re.search(rf"(set|map) {used} \{{", rendered), rule


def test_every_chain_that_denies_ends_in_a_drop() -> None:
    denying = {name: rules for name, rules in chains(text()).items() if " deny_" in name}
    assert len(denying) == 7
    assert {rules[-1] for rules in denying.values()} == {"drop"}


def test_every_chain_that_decides_ends_in_a_decision() -> None:
    named = chains(text())
    ends = {
        "inet leave_bridge": "accept",
        "inet enter_bridge": "goto deny_ingress",
        "inet reach_host": "goto deny_egress",
        "bridge from_port": "goto deny_spoof",
        "bridge arp_from_port": "goto deny_spoof",
        "bridge to_port": "drop",
    }
    assert {name: named[name][-1] for name in ends} == ends


@pytest.mark.parametrize(
    "name", ["prerouting", "forward_egress", "forward_ingress", "forward_log", "input", "input_log"]
)
def test_what_does_not_concern_the_bridge_is_let_go_at_once(name: str) -> None:
    first = chains(text())[f"inet {name}"][0]
    assert re.fullmatch(r'[io]ifname (!= )?"br0" (oifname != "br0" )?accept', first)


def test_who_sends_is_asked_before_what_is_known_of_the_connection() -> None:
    named = chains(text())
    for name in ("inet forward_egress", "inet input"):
        assert named[name].index("ip saddr != @instances goto deny_unknown") < named[name].index(
            "ct state established,related accept"
        )


@pytest.mark.parametrize(
    "reason", ["egress policy", "egress rate", "egress connections", "egress unknown", "ingress policy"]
)
def test_each_reason_has_its_prefix(reason: str) -> None:
    assert f'log prefix "bailey deny {reason}" group 77 drop' in text(log_group=77)


def test_the_log_is_bounded_by_address_and_what_is_over_is_counted() -> None:
    rules = chains(text(log_rate=7, log_burst=9, log_group=77))
    assert rules["inet log_egress"] == [
        (
            "update @logged_allowed { ip saddr limit rate 7/second burst 9 packets } "
            'log prefix "bailey allow" group 77 accept'
        ),
        "update @unlogged { ip saddr } accept",
        "accept",
    ]
    assert "ip daddr limit rate 7/second" in rules["inet log_ingress"][0]
    assert "ip daddr limit rate 7/second" in rules["inet deny_ingress"][0]
    assert rules["bridge deny_spoof"][0].startswith(
        "update @logged { iifname limit rate 7/second burst 9 packets } log"
    )


def test_resolvers_and_services_are_elements() -> None:
    given = [{"address": "172.17.0.1", "protocol": "tcp", "port": 5000}]
    rendered = text(resolvers=("10.0.0.53",), services=given)
    assert "elements = { 10.0.0.53 . tcp . 53, 10.0.0.53 . udp . 53, 172.17.0.1 . tcp . 5000 };" in rendered


def test_an_empty_list_is_a_set_without_elements() -> None:
    rendered = text(denied_networks=[], denied_ports=[])
    assert "elements" not in rendered
    assert "ip daddr @denied_networks goto deny_egress" in rendered


def test_the_bridges_own_words_are_everywhere() -> None:
    rendered = text(table="other", bridge="docker7")
    assert "$" not in rendered
    assert "br0" not in rendered
    assert set(re.findall(r"table \w+ (\S+)", rendered)) == {"other"}
    assert f"ip saddr {NETWORK} drop" in rendered
    assert f"ether daddr {MAC} drop" in rendered


def test_a_kernel_that_tells_a_frames_bridge_is_asked() -> None:
    assert "brname" not in text()
    named = chains(text(tells_bridge=True))
    assert named["bridge from_stranger"][-1] == 'meta ibrname "br0" drop'
    assert named["bridge output"][-1] == 'meta obrname "br0" drop'


def test_clearing_takes_both_tables_whether_they_are_there_or_not() -> None:
    assert clear("t").splitlines() == [
        "add table inet t", "delete table inet t", "add table bridge t", "delete table bridge t",
    ]  # fmt: skip
