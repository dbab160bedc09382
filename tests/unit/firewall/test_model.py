"""Transactions as text: what a change takes away, what it brings, and in which order."""

from __future__ import annotations

from bailey.firewall.model import Model
from bailey.firewall.policy import Endpoint
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.firewall.things import SETTINGS, allow, deny, endpoint

PEER = allow(app="api", protocol="tcp", ports=[80])


def model(*endpoints: Endpoint) -> Model:
    made = Model(SETTINGS)
    made.swap([], endpoints)
    return made


def change(made: Model, item: Endpoint) -> list[str]:
    return made.change(made.in_the_way(item), [item]).splitlines()


def test_the_first_brings_the_chain_that_it_will_share() -> None:
    assert change(model(), endpoint()) == [
        "add set inet bailey connected_1024 { type ipv4_addr; flags dynamic; size 65535; }",
        "add chain inet bailey connections_1024",
        (
            "add rule inet bailey connections_1024 "
            "add @connected_1024 { ip saddr ct count over 1024 } goto deny_connections"
        ),
        'add element bridge bailey neighbours { "veth2" . 02:42:ac:11:00:02 . 172.17.0.2 }',
        'add element bridge bailey ports { "veth2" }',
        "add element inet bailey connections { 172.17.0.2 : jump connections_1024 }",
        "add element inet bailey instances { 172.17.0.2 }",
        'add element inet bailey ports { "veth2" }',
        "add element inet bailey rates { 172.17.0.2 limit rate over 50/second burst 50 packets }",
    ]


def test_the_next_brings_its_elements_alone() -> None:
    lines = change(model(endpoint()), endpoint("other", 3))
    assert len(lines) == 6
    assert all(line.startswith("add element") for line in lines)


def test_the_last_takes_the_shared_chain_along_and_the_count_of_its_address() -> None:
    made = model(endpoint())
    lines = made.change([endpoint()], []).splitlines()
    assert lines[-4:] == [
        "delete chain inet bailey connections_1024",
        "delete set inet bailey connected_1024",
        "add element inet bailey unlogged { 172.17.0.2 }",
        "delete element inet bailey unlogged { 172.17.0.2 }",
    ]
    assert "delete element inet bailey rates { 172.17.0.2 }" in lines
    assert made.endpoints == {}
    assert made.bounds == []


def test_another_port_is_the_ports_elements_and_no_more() -> None:
    assert change(model(endpoint("one", 2, PEER)), endpoint("one", 2, PEER, port="veth9")) == [
        'delete element bridge bailey neighbours { "veth2" . 02:42:ac:11:00:02 . 172.17.0.2 }',
        'delete element bridge bailey ports { "veth2" }',
        'delete element inet bailey ports { "veth2" }',
        'add element bridge bailey neighbours { "veth9" . 02:42:ac:11:00:02 . 172.17.0.2 }',
        'add element bridge bailey ports { "veth9" }',
        'add element inet bailey ports { "veth9" }',
    ]


def test_another_rate_is_one_element() -> None:
    assert change(model(endpoint()), endpoint(network={"new_connections": 3})) == [
        "delete element inet bailey rates { 172.17.0.2 }",
        "add element inet bailey rates { 172.17.0.2 limit rate over 3/second burst 3 packets }",
    ]


def test_other_rules_are_another_content_of_the_same_chain() -> None:
    lines = change(model(endpoint("one", 2, PEER)), endpoint("one", 2, allow(app="api")))
    assert lines == [
        "flush chain inet bailey policy_one",
        "add chain inet bailey policy_one",
        "add rule inet bailey policy_one ip daddr @app_ada_api accept",
    ]


def test_a_set_is_made_with_the_members_that_are_there_and_before_the_rule_that_needs_it() -> None:
    made = model(endpoint("api-1", 3, app="api"), endpoint("api-2", 4, app="api"))
    lines = change(made, endpoint("one", 2, PEER))
    made_at = lines.index("add set inet bailey app_ada_api { type ipv4_addr; }")
    used_at = lines.index("add rule inet bailey policy_one ip daddr @app_ada_api tcp dport 80 accept")
    led_at = lines.index("add element inet bailey egress { 172.17.0.2 : jump policy_one }")
    assert made_at < used_at < led_at
    assert "add element inet bailey app_ada_api { 172.17.0.3, 172.17.0.4 }" in lines


def test_a_set_goes_whole_after_the_last_rule_that_needed_it() -> None:
    made = model(endpoint("api-1", 3, app="api"), endpoint("one", 2, PEER))
    lines = made.change([endpoint("one", 2, PEER)], []).splitlines()
    unled_at = lines.index("delete element inet bailey egress { 172.17.0.2 }")
    assert (
        unled_at
        < lines.index("delete chain inet bailey policy_one")
        < lines.index("delete set inet bailey app_ada_api")
    )
    assert not any("element inet bailey app_ada_api" in line for line in lines)


def test_members_come_and_go_with_their_own_change() -> None:
    made = model(endpoint("one", 2, PEER))
    assert "add element inet bailey app_ada_api { 172.17.0.3 }" in change(made, endpoint("api-1", 3, app="api"))
    moved = change(made, endpoint("api-1", 4, app="api", port="veth3"))
    assert "delete element inet bailey app_ada_api { 172.17.0.3 }" in moved
    assert "add element inet bailey app_ada_api { 172.17.0.4 }" in moved
    gone = made.change(made.in_the_way(endpoint("api-1", 4)), [])
    assert "delete element inet bailey app_ada_api { 172.17.0.4 }" in gone


def test_whoever_has_its_name_its_address_or_its_port_is_in_the_way_once() -> None:
    made = model(endpoint("a", 2), endpoint("b", 3), endpoint("c", 4), endpoint("d", 5))
    taking = endpoint("a", 3, port="veth4")
    assert [item.name for item in made.in_the_way(taking)] == ["a", "b", "c"]
    assert [item.name for item in made.in_the_way(endpoint("d", 5))] == ["d"]


def test_the_count_of_an_address_stays_with_the_instance_that_keeps_it() -> None:
    made = model(endpoint())
    assert not any("unlogged" in line for line in change(made, endpoint(network={"new_connections": 3})))
    assert any("unlogged { 172.17.0.2 }" in line for line in change(made, endpoint("other", 2)))


POLICIES = [
    {}, {"rules": [PEER]}, {"rules": [deny(app="web"), allow(app="api", direction="ingress")]}, {"same_tenant": True},
    {"connections": 5}, {"connections": 6, "rules": [allow(host=True)]},
]  # fmt: skip
ENDPOINTS = st.builds(
    lambda name, number, network, app, port: endpoint(name, number, network=network, app=app, port=port),
    st.sampled_from("abc"), st.integers(2, 5), st.sampled_from(POLICIES), st.sampled_from(["web", "api"]),
    st.sampled_from(["veth1", "veth2", "veth3"]),
)  # fmt: skip


def contents(lines: list[str]) -> set[tuple[str, ...]]:
    """Carry commands out as the kernel would. A chain or a set that is taken away has to be there."""
    there: set[tuple[str, ...]] = set()
    for line in lines:
        verb, kind, family, _, name, *rest = line.split(" ", 5)
        tail = rest[0] if rest else ""
        if verb == "flush":
            there = {item for item in there if item[:3] != ("rule", family, name)}
        elif verb == "delete" and kind in ("chain", "set"):
            assert (kind, family, name) in there, line
            there = {item for item in there if item[1:3] != (family, name)}
        elif kind == "element":
            for item in tail.strip("{ }").split(", "):
                key = item.split(" : ")[0].split(" limit ")[0]
                (there.discard if verb == "delete" else there.add)(("element", family, name, key))
        else:
            there.add((kind, family, name, tail) if kind == "rule" else (kind, family, name))
    return there


@given(st.lists(ENDPOINTS, max_size=12))
def test_whatever_the_way_the_end_is_the_same(items: list[Endpoint]) -> None:
    """Commands one after another come to what they make of the last state at once."""
    made, lines = Model(SETTINGS), []
    for item in items:
        lines += change(made, item)
    anew = Model(SETTINGS).change([], list(made.endpoints.values())).splitlines()
    assert contents(lines) == contents(anew)
    undone = made.change(list(made.endpoints.values()), []).splitlines()
    assert contents([*lines, *undone]) == set()


@given(st.lists(ENDPOINTS, max_size=8), ENDPOINTS)
def test_what_is_swapped_back_is_as_it_was(items: list[Endpoint], refused: Endpoint) -> None:
    made = Model(SETTINGS)
    for item in items:
        made.swap(made.in_the_way(item), [item])
    before = dict(made.endpoints)
    leaving = made.in_the_way(refused)
    made.change(leaving, [refused])
    made.swap([refused], leaving)
    assert made.endpoints == before
    undone = made.change(list(before.values()), []).splitlines()
    assert not any(line.startswith("add") and "unlogged" not in line for line in undone)
    assert made.bounds == []
