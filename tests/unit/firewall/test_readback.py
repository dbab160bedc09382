"""Keys as the kernel has them, and what differs between two tables."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from bailey.firewall.policy import Element
from bailey.firewall.readback import describe_key, differences, key_of
from bailey.host.nft_read import Contents


@pytest.mark.parametrize(
    ("element", "key"),
    [
        (Element("inet", "instances", ("172.17.0.2",)), "ac110002"),
        (Element("inet", "app_ada_web", ("172.17.0.2",)), "ac110002"),
        (Element("inet", "published", ("172.17.0.2", "tcp", "80")), "ac110002 06000000 00500000"),
        (Element("inet", "services", ("172.17.0.2", "udp", "53")), "ac110002 11000000 00350000"),
        (Element("bridge", "ports", ("veth2",)), "7665746832" + "00" * 11),
        (
            Element("bridge", "neighbours", ("veth2", "02:42:ac:11:00:02", "172.17.0.2")),
            "7665746832" + "00" * 11 + "0242ac110002 0000 ac110002",
        ),
    ],
)
def test_a_key_and_its_words(element: Element, key: str) -> None:
    assert key_of(element) == bytes.fromhex(key)
    assert describe_key(element.set, bytes.fromhex(key)) == " . ".join(element.key)


def test_a_protocol_without_a_name_has_its_number() -> None:
    assert describe_key("published", bytes.fromhex("ac110002 84000000 00500000")) == "172.17.0.2 . 132 . 80"


ADDRESS = bytes.fromhex("ac110002")
PLAIN = (b"", b"", b"")


def meant() -> Contents:
    return Contents(
        chains={"forward": b"hook", "policy_one": b""},
        rules={"forward": [b"1", b"2"], "policy_one": [b"3"]},
        sets={"instances": (b"type",), "logged": (b"dynamic",)},
        elements={"instances": {ADDRESS: PLAIN}},
    )


def change(work: Callable[[Contents], object]) -> list[str]:
    held = copy.deepcopy(meant())
    work(held)
    return list(differences("inet t", meant(), held))


@pytest.mark.parametrize(
    ("work", "told"),
    [
        (lambda held: held.rules["forward"].reverse(), ["chain forward has another rule 1, 2"]),
        (lambda held: held.rules["forward"].append(b"4"), ["chain forward has 3 rules, not 2"]),
        (lambda held: held.rules.update(policy_one=[b"4"]), ["chain policy_one has another rule 1"]),
        (lambda held: held.chains.pop("policy_one"), ["chain policy_one is not there"]),
        (lambda held: held.chains.update(x=b""), ["chain x should not be there"]),
        (lambda held: held.chains.update(forward=b""), ["chain forward has another hook, priority or policy"]),
        (lambda held: held.sets.pop("logged"), ["set logged is not there"]),
        (lambda held: held.sets.update(x=()), ["set x should not be there"]),
        (lambda held: held.sets.update(logged=()), ["set logged is declared in another way"]),
        (lambda held: held.elements["instances"].clear(), ["set instances: element 172.17.0.2 is not there"]),
        (
            lambda held: held.elements["instances"].update({b"\n\0\0\1": PLAIN}),
            ["set instances: element 10.0.0.1 should not be there"],
        ),
        (
            lambda held: held.elements["instances"].update({ADDRESS: (b"", b"x", b"")}),
            ["set instances: element 172.17.0.2 is another"],
        ),
    ],
)
def test_each_difference_has_its_words(work: Callable[[Contents], object], told: list[str]) -> None:
    assert change(work) == [f"inet t: {line}" for line in told]


def test_the_same_is_no_difference() -> None:
    assert list(differences("inet t", meant(), meant())) == []


def test_a_table_that_is_gone_is_one_difference() -> None:
    assert list(differences("inet t", meant(), Contents())) == ["inet t: the table is not there"]
