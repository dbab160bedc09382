"""The firewall's tables: each change whole or not at all, and read back from the real kernel. Needs root."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from bailey.enforcement import failing
from bailey.errors import HostError, InvalidValueError
from bailey.firewall.owner import remove_tables
from bailey.firewall.policy import Endpoint

from tests.integration.fixtures.fire_yard import CONNECTED, PUBLIC, SILENT, FireYard, connect, fire_yard, pretended

pytest_plugins = ["tests.integration.fixtures.fire_yard"]

PORT = 8080
PEER = {"rules": [{"action": "allow", "app": "two", "protocol": "tcp", "ports": [80, "90-99"]}]}


@pytest.fixture
def bare() -> Iterator[FireYard]:
    """A yard without containers: endpoints are put that nothing stands behind."""
    with fire_yard() as made:
        yield made


def listing(yard: FireYard) -> str:
    return "".join(yard.host_run("nft", "list", "table", family, "bailey").stdout for family in ("inet", "bridge"))


def lines(yard: FireYard) -> list[str]:
    """Return a listing in an order that does not tell what was made first."""
    return sorted(listing(yard).splitlines())


def broken(yard: FireYard, item: Endpoint) -> set[str]:
    return {check.field for check in failing(yard.firewall.checks(item))}


class TestChanges:
    def test_what_is_put_stands_and_what_is_dropped_is_gone(self, bare: FireYard) -> None:
        before = listing(bare)
        full = {**PEER, "same_tenant": True, "connections": 7, "new_connections": 3}
        full["rules"] = [*PEER["rules"], {"action": "deny", "direction": "ingress", "cidr": "198.51.100.0/24"}]
        one = pretended("one", 2, full, published=[("tcp", 80), ("udp", 53)])
        assert bare.firewall.put(one)
        assert bare.firewall.endpoints == {"one": one}
        assert {check.field: check.enforced for check in bare.firewall.checks(one)} == {
            "network.tables": "in force",
            "network.source": "veth2 02:42:0a:63:00:02 10.99.0.2",
            "network.new_connections": "3",
            "network.connections": "7",
            "network.rules": "6 rules",
            "network.peers": "tenant_ada",
            "network.published": "tcp/80, udp/53",
        }
        assert broken(bare, one) == set()
        assert bare.firewall.differences() == []
        bare.firewall.drop("one")
        assert listing(bare) == before
        assert bare.firewall.differences() == []

    def test_the_same_again_is_no_transaction(self, bare: FireYard) -> None:
        one, events = pretended("one", 2, PEER), bare.events()
        bare.firewall.put(one)
        events.touched()
        assert not bare.firewall.put(pretended("one", 2, PEER))
        bare.firewall.drop("nobody")
        assert select.select([events], [], [], 0)[0] == []  # nothing at all came

    @pytest.mark.parametrize(
        "after",
        [
            pretended("one", 2, port="veth99"),
            pretended("one", 3, PEER),
            pretended("two", 2, PEER),
            pretended("two", 3, port="veth2"),
            pretended("one", 2, {"connections": 5}, published=[("udp", 53)]),
            pretended("one", 2, {"rules": [{"action": "deny", "cidr": "198.51.100.0/24"}], "same_tenant": True}),
            pretended("one", 2, tenant="bob", app="other"),
        ],
    )
    def test_what_was_under_its_name_address_or_port_goes_with_it(self, bare: FireYard, after: Endpoint) -> None:
        bare.firewall.put(pretended("one", 2, PEER, published=[("tcp", 80)]))
        bare.firewall.put(after)
        assert bare.firewall.endpoints == {after.name: after}
        assert bare.firewall.differences() == []
        changed = lines(bare)
        bare.firewall.rebuild([after])
        assert changed == lines(bare)

    def test_one_takes_the_places_of_three(self, bare: FireYard) -> None:
        for number in (2, 3, 4):
            bare.firewall.put(pretended(f"app-{number}", number, PEER))
        taking = pretended("app-2", 3, PEER, port="veth4")
        bare.firewall.put(taking)
        assert bare.firewall.endpoints == {"app-2": taking}
        assert bare.firewall.differences() == []

    def test_shared_sets_and_chains_stand_as_long_as_somebody_needs_them(self, bare: FireYard) -> None:
        def shared() -> set[str]:
            words = listing(bare).split()
            return {word for word in words if word.startswith(("app_", "tenant_", "connections_", "connected_"))}

        bare.firewall.put(pretended("two", 3, {"connections": 9}))
        assert shared() == {"connections_9", "connected_9"}
        bare.firewall.put(pretended("one", 2, {**PEER, "connections": 9, "same_tenant": True}))
        bare.firewall.put(pretended("three", 4, {**PEER, "connections": 9}))
        assert {"app_ada_two", "tenant_ada"} <= shared()
        bare.firewall.drop("one")
        assert "tenant_ada" not in shared()
        bare.firewall.drop("two")  # nobody is in the set any more; a rule still speaks of it
        assert "app_ada_two" in " ".join(shared())
        assert bare.firewall.differences() == []
        bare.firewall.drop("three")
        assert shared() == set()

    def test_a_refused_change_is_none(self, bare: FireYard) -> None:
        one = pretended("one", 2, PEER)
        bare.firewall.put(one)
        bare.host_run("nft", "delete table inet bailey")
        with pytest.raises(HostError, match="No such file or directory"):
            bare.firewall.put(pretended("two", 3, port=one.port))
        assert bare.firewall.endpoints == {"one": one}
        bare.firewall.rebuild([one, pretended("two", 3)])
        assert set(bare.firewall.endpoints) == {"one", "two"}
        assert bare.firewall.differences() == []

    def test_a_port_that_means_many_is_refused(self) -> None:
        with pytest.raises(InvalidValueError, match=r"veth\*"):
            pretended("one", 2, port="veth*")

    def test_rebuilding_is_never_a_moment_without(self) -> None:
        with fire_yard() as yard:
            one = yard.add("one")
            listening = yard.hear(yard, "0.0.0.0", PORT)
            outside = yard.hear(yard.outside, PUBLIC, PORT)
            stop = threading.Event()

            def flood() -> None:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
                    while not stop.is_set():
                        sending.sendto(b"x", (yard.address, PORT))
                        sending.sendto(b"x", (PUBLIC, PORT))

            flooding = threading.Thread(target=one.call, args=(flood,))
            flooding.start()
            try:
                outside.settimeout(5)
                for _ in range(50):
                    assert outside.recv(8) == b"x"
                    yard.firewall.rebuild(yard.firewall.endpoints.values())
            finally:
                stop.set()
                flooding.join()
            listening.setblocking(False)
            with pytest.raises(BlockingIOError):
                listening.recv(8)

    def test_rebuilding_makes_everything_anew(self, bare: FireYard) -> None:
        items = [pretended(f"app-{number}", number, PEER) for number in range(2, 30)]
        bare.firewall.rebuild(items)
        expected = lines(bare)
        bare.host_run("nft", "flush ruleset")
        bare.host_run("nft", "add table inet bailey; add chain inet bailey x; add set inet bailey ports { type mark; }")
        bare.firewall.rebuild(items)
        assert bare.firewall.differences() == []
        assert lines(bare) == expected

    def test_removing_leaves_nothing(self, bare: FireYard) -> None:
        bare.host_run("nft", "add table ip engine")
        bare.firewall.put(pretended("one", 2))
        bare.firewall.remove()
        assert bare.host_run("nft", "list ruleset").stdout == "table ip engine {\n}\n"
        assert bare.firewall.endpoints == {}
        assert not bare.call(remove_tables, "bailey")
        bare.firewall.rebuild([])
        assert bare.call(remove_tables, "bailey")
        assert bare.host_run("nft", "list ruleset").stdout == "table ip engine {\n}\n"


class TestReadBack:
    ONE = pretended("one", 2, {**PEER, "same_tenant": True}, published=[("tcp", 80)])

    @pytest.mark.parametrize(
        ("command", "field"),
        [
            ("delete element inet bailey instances { 10.99.0.2 }", "network.source"),
            ("delete element inet bailey ports { veth2 }", "network.source"),
            ("delete element bridge bailey ports { veth2 }", "network.source"),
            ("delete element bridge bailey neighbours { veth2 . 02:42:0a:63:00:02 . 10.99.0.2 }", "network.source"),
            ("delete element inet bailey rates { 10.99.0.2 }", "network.new_connections"),
            ("delete element inet bailey connections { 10.99.0.2 }", "network.connections"),
            ("flush chain inet bailey connections_1024", "network.connections"),
            ("delete element inet bailey egress { 10.99.0.2 }", "network.rules"),
            ("add element inet bailey tohost { 10.99.0.2 : accept }", None),
            ("add element inet bailey tohost { 10.99.0.2 : jump policy_one }", "network.rules"),
            ("flush chain inet bailey policy_one", "network.rules"),
            ("insert rule inet bailey policy_one accept", "network.rules"),
            ("delete element inet bailey tenant_ada { 10.99.0.2 }", "network.peers"),
            ("delete element inet bailey published { 10.99.0.2 . tcp . 80 }", "network.published"),
            ("add element inet bailey published { 10.99.0.2 . tcp . 22 }", None),
            ("insert rule inet bailey forward_egress accept", "network.tables"),
            ("flush chain bridge bailey forward", "network.tables"),
            ("delete chain inet bailey output_log", None),
            ("delete table bridge bailey", "network.tables"),
            ("flush ruleset", "network.rules"),
            ("insert rule inet bailey leave_bridge accept", None),
            ("add element inet bailey services { 10.99.0.1 . tcp . 22 }", None),
            ("delete element inet bailey denied_networks { 10.0.0.0/8 }", None),
            ("add set inet bailey app_x_y { type ipv4_addr; }", None),
        ],
    )
    def test_what_somebody_else_does_is_found(self, bare: FireYard, command: str, field: str | None) -> None:
        bare.firewall.put(self.ONE)
        assert broken(bare, self.ONE) == set()
        bare.host_run("nft", command)
        assert bare.firewall.differences() != []
        assert (field in broken(bare, self.ONE)) if field else True
        bare.firewall.rebuild([self.ONE])
        assert bare.firewall.differences() == []
        assert broken(bare, self.ONE) == set()

    def test_what_differs_is_named(self, bare: FireYard) -> None:
        bare.firewall.put(self.ONE)
        commands = (
            "delete element bridge bailey neighbours { veth2 . 02:42:0a:63:00:02 . 10.99.0.2 }",
            "add element inet bailey published { 10.99.0.2 . udp . 53 }",
            "insert rule inet bailey policy_one accept",
            "add chain inet bailey x",
            "delete element inet bailey rates { 10.99.0.2 }",
            "add element inet bailey rates { 10.99.0.2 limit rate over 9999/second burst 50 packets }",
        )
        for command in commands:
            bare.host_run("nft", command)
        assert set(bare.firewall.differences()) == {
            "bridge bailey: set neighbours: element veth2 . 02:42:0a:63:00:02 . 10.99.0.2 is not there",
            "inet bailey: set published: element 10.99.0.2 . udp . 53 should not be there",
            "inet bailey: chain policy_one has 5 rules, not 4",
            "inet bailey: chain x should not be there",
            "inet bailey: set rates: element 10.99.0.2 is another",
        }
        assert broken(bare, self.ONE) == {"network.source", "network.rules", "network.new_connections"}

    @pytest.mark.alone  # a busy machine answers a connection late
    def test_traffic_is_no_difference(self) -> None:
        with fire_yard() as yard:
            one = yard.add("one")
            yard.serve(yard.outside, PUBLIC, PORT)
            assert connect(one, PUBLIC, PORT) == CONNECTED
            assert connect(one, yard.address, PORT) == SILENT
            assert yard.firewall.differences() == []

    def test_an_endpoint_that_is_another_or_unknown_does_not_hold(self, bare: FireYard) -> None:
        bare.firewall.put(self.ONE)
        stricter = pretended("one", 2, {**PEER, "new_connections": 1, "connections": 1}, published=[("tcp", 80)])
        assert {"network.rules", "network.new_connections", "network.connections"} <= broken(bare, stricter)
        assert "network.source" in broken(bare, pretended("two", 3))

    @pytest.mark.alone
    def test_it_is_read_within_a_millisecond_or_so(self, bare: FireYard) -> None:
        items = [pretended(f"app-{number}", number, PEER) for number in range(2, 250)]
        bare.firewall.rebuild(items)

        def once() -> float:
            began = time.perf_counter()
            bare.firewall.real.checks(items[7])
            return time.perf_counter() - began

        assert min(bare.call(once) for _ in range(50)) < 0.002
