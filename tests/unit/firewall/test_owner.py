"""The one writer: what it runs, what it keeps in mind, and what it says of a kernel that holds something else."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest
from bailey.enforcement import failing
from bailey.errors import HostError
from bailey.firewall import owner
from bailey.firewall.checks import BASE_CHAINS
from bailey.firewall.owner import Firewall, remove_tables
from bailey.firewall.policy import BRIDGE, INET
from bailey.host.netlink import NetlinkError
from bailey.host.nft_read import Contents
from bailey.host.nft_read import Element as Held

from tests.unit.firewall.things import SETTINGS, allow, endpoint

FAMILIES = {1: INET, 7: BRIDGE}


class Kernel:
    """Takes what is run, or refuses it; what stands is what a test says."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.refuses = ""
        self.tells_bridge = False
        self.rules_of: dict[str, list[bytes]] = {}
        self.missing: set[tuple[str, str]] = set()
        self.generations = 0
        self.looked: list[str] = []
        self.held = ["forward"]

    # As Nft.

    def run(self, commands: str) -> str:
        if self.refuses and self.refuses in commands:
            raise HostError("nftables: refused")
        self.ran.append(commands)
        self.generations += 1
        return ""

    def accepts(self, _commands: str) -> bool:
        return self.tells_bridge

    # As TableReader.

    def generation(self) -> int:
        return self.generations

    def rules(self, family: int, chain: str) -> list[bytes]:
        self.looked.append(chain)
        return self.rules_of.get(f"{FAMILIES[family]} {chain}", self.rules_of.get(chain, [chain.encode()]))

    def element(self, family: int, name: str, key: bytes) -> Held | None:
        if (FAMILIES[family], name) in self.missing:
            return None
        chain = {"connections": "connections_1024", "egress": "policy_ada-web-1"}.get(name, "")
        return Standing(key, {}, chain) if name not in ("ingress", "tohost") else None

    def contents(self, _family: int) -> Contents:
        return Contents(chains=dict.fromkeys(self.held, b""), rules={name: [] for name in self.held})

    def all_elements(self, _family: int, _name: str) -> list[Held]:
        raise NetlinkError(2, "No such file or directory")


class Standing(Held):
    """An element as the kernel would tell it."""

    def __init__(self, key: bytes, attributes: dict[int, bytes], chain: str) -> None:
        super().__init__(key, attributes)
        object.__setattr__(self, "_chain", chain)

    @property
    def chain(self) -> str:
        return str(getattr(self, "_chain", ""))

    @property
    def rate(self) -> int:
        return 50


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(owner, "Nft", lambda: made)
    monkeypatch.setattr(owner, "TableReader", lambda _table: made)
    return made


@pytest.fixture
def firewall(kernel: Kernel) -> Firewall:
    made = Firewall(SETTINGS, ["10.0.0.53"], IPv4Network("172.17.0.0/16"), "02:42:00:00:00:01")
    made.rebuild([])
    kernel.ran.clear()
    return made


class TestChanges:
    def test_rebuilding_is_one_transaction_that_begins_with_nothing(self, firewall: Firewall, kernel: Kernel) -> None:
        firewall.rebuild([endpoint(), endpoint("other", 3)])
        (text,) = kernel.ran
        assert text.startswith("add table inet bailey\ndelete table inet bailey\nadd table bridge bailey\n")
        assert text.index("table inet bailey {") < text.index("add element inet bailey instances")
        assert set(firewall.endpoints) == {"ada-web-1", "other"}

    def test_of_two_in_one_place_the_later_counts(self, firewall: Firewall) -> None:
        firewall.rebuild([endpoint("one", 2), endpoint("two", 2), endpoint("three", 4, port="veth2")])
        assert set(firewall.endpoints) == {"three"}

    def test_the_very_same_is_not_put_again(self, firewall: Firewall, kernel: Kernel) -> None:
        assert firewall.put(endpoint())
        assert not firewall.put(endpoint())
        assert len(kernel.ran) == 1

    def test_what_is_refused_is_forgotten(self, firewall: Firewall, kernel: Kernel) -> None:
        firewall.put(endpoint("one", 2))
        firewall.put(endpoint("two", 3))
        kernel.refuses = "veth9"
        with pytest.raises(HostError, match="refused"):
            firewall.put(endpoint("one", 3, port="veth9"))
        assert firewall.endpoints == {"one": endpoint("one", 2), "two": endpoint("two", 3)}
        kernel.refuses = ""
        assert firewall.put(endpoint("one", 4, port="veth9"))

    def test_dropping_somebody_unknown_is_nothing(self, firewall: Firewall, kernel: Kernel) -> None:
        firewall.drop("nobody")
        assert kernel.ran == []

    def test_removing_forgets_everybody(self, firewall: Firewall) -> None:
        firewall.put(endpoint())
        firewall.remove()
        assert firewall.endpoints == {}

    def test_a_kernel_that_tells_a_frames_bridge_is_asked(self, kernel: Kernel) -> None:
        kernel.tells_bridge = True
        Firewall(SETTINGS, [], IPv4Network("172.17.0.0/16"), "02:42:00:00:00:01").rebuild([])
        assert 'meta ibrname "br0" drop' in kernel.ran[-1]


class TestChecks:
    ONE = endpoint("ada-web-1", 2, allow(app="api"), published=[("tcp", 80)])

    @pytest.fixture
    def one(self, firewall: Firewall) -> Firewall:
        firewall.put(self.ONE)
        return firewall

    def broken(self, firewall: Firewall, item: Any = ONE) -> dict[str, str]:
        return {check.field: check.enforced for check in failing(firewall.checks(item))}

    def test_all_of_it_holds(self, one: Firewall) -> None:
        assert self.broken(one) == {}

    @pytest.mark.parametrize(
        ("family", "name", "field", "enforced"),
        [
            (INET, "instances", "network.source", "not known"),
            (BRIDGE, "neighbours", "network.source", "not known"),
            (INET, "rates", "network.new_connections", "absent"),
            (INET, "connections", "network.connections", "absent"),
            (INET, "egress", "network.rules", "others in policy_ada-web-1"),
            (INET, "published", "network.published", "none"),
        ],
    )
    def test_what_is_not_there(
        self, one: Firewall, kernel: Kernel, family: str, name: str, field: str, enforced: str
    ) -> None:
        kernel.missing.add((family, name))
        assert self.broken(one) == {field: enforced}

    @pytest.mark.parametrize(
        ("chain", "field"),
        [
            ("policy_ada-web-1", "network.rules"),
            ("connections_1024", "network.connections"),
            ("forward_ingress", "network.tables"),
        ],
    )
    def test_rules_that_are_others(self, one: Firewall, kernel: Kernel, chain: str, field: str) -> None:
        kernel.rules_of[chain] = [b"another"]
        kernel.generations += 1  # somebody has changed something
        assert list(self.broken(one)) == [field]

    def test_shared_chains_are_read_again_only_when_somebody_else_has_changed_something(
        self, one: Firewall, kernel: Kernel
    ) -> None:
        self.broken(one)
        kernel.looked.clear()
        one.put(endpoint("other", 3))
        kernel.looked.clear()
        self.broken(one)
        assert kernel.looked == ["policy_ada-web-1"]
        kernel.generations += 1
        self.broken(one)
        assert {"forward_egress", "connections_1024"} <= set(kernel.looked)

    def test_another_than_was_put_does_not_hold(self, one: Firewall) -> None:
        other = endpoint("ada-web-1", 2, allow(host=True), network={"new_connections": 9})
        assert self.broken(one, other)["network.new_connections"] == "50"
        assert self.broken(one, other)["network.rules"] == "others in policy_ada-web-1, tohost_ada-web-1"


class TestStanding:
    @pytest.fixture
    def unmade(self, kernel: Kernel) -> Firewall:
        assert kernel.ran == []
        return Firewall(SETTINGS, [], IPv4Network("172.17.0.0/16"), "02:42:00:00:00:01")

    def test_what_one_before_it_made_stands(self, unmade: Firewall, kernel: Kernel) -> None:
        assert unmade.stands()
        assert kernel.ran == []

    @pytest.mark.parametrize(("family", "chain"), [(f, chain) for f, chains in BASE_CHAINS.items() for chain in chains])
    def test_without_one_of_the_chains_that_every_packet_passes_it_does_not(
        self, unmade: Firewall, kernel: Kernel, family: str, chain: str
    ) -> None:
        kernel.rules_of[f"{family} {chain}"] = []
        assert not unmade.stands()

    def test_a_chain_of_one_endpoint_is_not_asked_for(self, firewall: Firewall, kernel: Kernel) -> None:
        firewall.put(endpoint("ada-web-1", 2, allow(host=True)))
        kernel.rules_of["policy_ada-web-1"] = kernel.rules_of["tohost_ada-web-1"] = []
        assert firewall.stands()


def test_counts_of_a_table_that_is_gone_are_an_error(firewall: Firewall) -> None:
    with pytest.raises(HostError, match="what was not logged cannot be read: No such file"):
        firewall.unlogged()


def test_tables_that_were_there_are_told(kernel: Kernel) -> None:
    assert remove_tables("bailey")
    assert kernel.ran == ["delete table inet bailey", "delete table bridge bailey"]
    kernel.refuses = "bailey"
    assert not remove_tables("bailey")


class TestDifferences:
    @pytest.fixture(autouse=True)
    def meant(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What is meant is one chain; return the commands of which that was asked."""
        asked: list[str] = []

        def meant_contents(_table: str, commands: str) -> dict[str, Contents]:
            asked.append(commands)
            return dict.fromkeys((INET, BRIDGE), Contents(chains={"forward": b""}, rules={"forward": []}))

        monkeypatch.setattr(owner, "meant_contents", meant_contents)
        return asked

    def test_tables_that_were_alike_are_compared_again_once_any_rule_has_changed(
        self, firewall: Firewall, kernel: Kernel, meant: list[str]
    ) -> None:
        assert firewall.differences() == firewall.differences() == []
        assert len(meant) == 1
        kernel.generations += 1
        kernel.held = ["forward", "x"]
        assert firewall.differences() == [f"{family} bailey: chain x should not be there" for family in (INET, BRIDGE)]

    def test_tables_that_differ_are_compared_each_time(self, firewall: Firewall, kernel: Kernel) -> None:
        kernel.held = []
        assert len(firewall.differences()) == len(firewall.differences()) == 2
        kernel.held = ["forward"]
        assert firewall.differences() == []
