"""The firewall's tables among those of others: who sees what, and who leaves what alone. Needs root."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from bailey.enforcement import failing
from bailey.firewall.policy import Endpoint

from tests.integration.fixtures.fire_yard import CONNECTED, PUBLIC, SILENT, FireYard, connect, fire_yard, pretended

pytest_plugins = ["tests.integration.fixtures.fire_yard"]

PORT = 8080
THREADS, ROUNDS = 64, 12
PEER = {"rules": [{"action": "allow", "app": "two", "protocol": "tcp", "ports": [80, "90-99"]}]}


@pytest.fixture
def bare() -> Iterator[FireYard]:
    """A yard without containers: endpoints are put that nothing stands behind."""
    with fire_yard() as made:
        yield made


class TestEvents:
    @pytest.mark.parametrize(
        "command",
        [
            "flush ruleset",
            "delete table bridge bailey",
            "delete table inet bailey",
            "flush chain inet bailey forward_egress",
            "add element inet bailey instances { 10.99.0.9 }",
            "insert rule bridge bailey forward accept",
            "add chain inet bailey x",
        ],
    )
    def test_somebody_elses_change_is_seen_at_once(self, bare: FireYard, command: str) -> None:
        events = bare.events()
        bare.host_run("nft", command)
        assert events.touched()
        assert not events.touched()

    def test_own_changes_are_not_whichever_thread_makes_them(self, bare: FireYard) -> None:
        events = bare.events()
        for number in range(2, 6):
            bare.firewall.put(pretended(f"app-{number}", number, PEER))
        bare.firewall.drop("app-2")
        bare.firewall.rebuild(pretended(f"app-{number}", number, PEER) for number in range(2, 250))
        assert not events.touched()

    def test_nor_are_other_tables(self, bare: FireYard) -> None:
        events = bare.events()
        bare.host_run(
            "nft", "add table ip bailey; add chain ip bailey x; add table inet other; add table bridge bailey2"
        )
        bare.host_run("nft", "delete table ip bailey; delete table inet other")
        bare.host_run("iptables-nft", "-A", "FORWARD", "-j", "ACCEPT")
        assert not events.touched()
        bare.host_run("nft", "add table inet other; add chain inet bailey x; add table ip other")
        assert events.touched()

    def test_a_change_among_many_is_not_missed(self, bare: FireYard) -> None:
        events = bare.events()
        for number in range(2, 40):
            bare.firewall.put(pretended(f"app-{number}", number))
            if number == 20:
                bare.host_run("nft", "delete element inet bailey instances { 10.99.0.20 }")
        assert events.touched()


class TestBeside:
    """The engine's own rules, as they are with iptables on and its proxy off."""

    RULES = """*nat
:PREROUTING ACCEPT
:OUTPUT ACCEPT
:POSTROUTING ACCEPT
:DOCKER -
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 10.99.0.0/24 ! -o br0 -j MASQUERADE
-A DOCKER -p tcp -m tcp --dport 8081 -j DNAT --to-destination 10.99.0.3:8080
COMMIT
*filter
:INPUT ACCEPT
:FORWARD DROP
:OUTPUT ACCEPT
:DOCKER -
-A FORWARD -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o br0 -j DOCKER
-A FORWARD -i br0 ! -o br0 -j ACCEPT
-A FORWARD -i br0 -o br0 -j ACCEPT
-A FORWARD -d 198.51.100.10/32 -j DROP
-A DOCKER -d 10.99.0.3/32 ! -i br0 -o br0 -p tcp -m tcp --dport 8080 -j ACCEPT
COMMIT
"""

    @pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
    def test_each_holds_and_neither_touches_the_other(self, program: str) -> None:
        with fire_yard() as yard:
            yard.host_run(f"{program}-restore", input=self.RULES)

            def theirs() -> list[str]:
                lines = yard.host_run(f"{program}-save").stdout.splitlines()
                return [line.partition(" [")[0] for line in lines if not line.startswith("#")]

            before = theirs()
            assert len(before) > 15
            one, two = yard.add("one", PEER), yard.add("two", published=[("tcp", PORT)])
            for where, address in ((two, two.address), (yard.outside, PUBLIC), (yard, "0.0.0.0")):
                yard.serve(where, address, PORT)
            assert connect(one, PUBLIC, PORT) == CONNECTED
            assert connect(yard.outside, "203.0.113.1", PORT + 1) == CONNECTED  # published
            assert connect(one, two.address, PORT) == SILENT  # the engine would let it through
            assert connect(one, yard.address, PORT) == SILENT
            assert connect(one, yard.address, PORT + 1) == SILENT
            yard.host_run(program, "-I", "FORWARD", "-d", PUBLIC, "-j", "DROP")
            assert connect(one, PUBLIC, PORT) == SILENT  # they may drop what we let through
            yard.host_run(program, "-D", "FORWARD", "-d", PUBLIC, "-j", "DROP")
            yard.firewall.rebuild(yard.firewall.endpoints.values())
            yard.firewall.drop("one")
            yard.firewall.remove()
            assert theirs() == before
            assert connect(one, two.address, PORT) == CONNECTED

    @pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
    def test_flushing_theirs_leaves_ours(self, program: str) -> None:
        with fire_yard() as yard:
            one, events = yard.add("one"), yard.events()
            yard.host_run(f"{program}-restore", input=self.RULES)
            yard.host_run(program, "-F")
            yard.host_run(program, "-P", "FORWARD", "ACCEPT")
            yard.serve(yard, "0.0.0.0", PORT)
            assert connect(one, yard.address, PORT) == SILENT
            assert not events.touched()
            assert yard.firewall.differences() == []


@dataclass
class Churn:
    """One of many threads that put, change and drop an endpoint of their own, and what came of it."""

    yard: FireYard
    number: int
    left: Endpoint | None = None
    error: BaseException | None = None

    def work(self) -> None:
        chance = random.Random(self.number)
        try:
            for turn in range(ROUNDS):
                self._turn(chance, turn)
        except BaseException as error:
            self.error = error

    def _turn(self, chance: random.Random, turn: int) -> None:
        network = chance.choice([None, PEER, {"same_tenant": True}, {"connections": chance.randint(1, 4)}])
        name, port = f"app-{self.number}", f"veth{self.number}x{turn}"
        self.left = pretended(name, 2 + self.number, network, app="two", port=port)
        self.yard.firewall.real.put(self.left)
        if chance.random() < 0.4:
            self.yard.firewall.real.drop(name)
            self.left = None


class TestManyAtOnce:
    CHURN = "while :; do nft add table ip other; iptables-nft -A FORWARD -j ACCEPT; nft delete table ip other; done"

    def test_nothing_is_lost_and_nothing_left(self, bare: FireYard) -> None:
        """Others change tables of their own all the time."""
        others = [bare.start("sh", "-c", f"{self.CHURN} 2>/dev/null") for _ in range(2)]
        churns = [Churn(bare, number) for number in range(THREADS)]
        threads = [threading.Thread(target=bare.call, args=(churn.work,)) for churn in churns]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for other in others:
            other.kill()
            other.wait()
        assert [churn.error for churn in churns if churn.error] == []
        kept = {churn.left.name: churn.left for churn in churns if churn.left}
        assert bare.firewall.endpoints == kept
        assert 0 < len(kept) < THREADS
        assert bare.firewall.differences() == []
        assert [name for name, item in kept.items() if failing(bare.firewall.checks(item))] == []
        for name in kept:
            bare.firewall.drop(name)
        assert bare.firewall.endpoints == {}
        assert bare.firewall.differences() == []
