"""A host's network as the agent holds it: who joins and leaves, what becomes of connections, and what is made again."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from bailey.agent.network import HostNetwork, Standing
from bailey.enforcement import failing
from bailey.errors import HostError
from bailey.host.tc import Shape
from bailey.leases import LeaseReader, journal
from bailey.network_settings import parse_network_settings

from tests.unit.agent.host_stand_in import CONTAINER, GROUND, ONE, TWO, StandInHost, attachment, joined
from tests.unit.samples import spec

pytest_plugins = ["tests.unit.agent.host_stand_in"]

CHANGED = spec("one", network={"rules": [{"action": "allow", "host": True}]})
SECONDS = 5.0
FOREVER = 1e12


def journalled(run_dir: Path) -> list[tuple[str, str | int | None]]:
    """Return each line's address, and whose it is or how many it counts."""
    lines = map(json.loads, journal(run_dir).read_text().splitlines())
    return [(line["address"], line.get("unlogged", line.get("name"))) for line in lines]


def owner(run_dir: Path, address: str) -> str | None:
    found = LeaseReader(run_dir).owner(address, FOREVER)
    return None if found is None else found.name


def begin(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


class TestJoining:
    def test_all_that_is_declared_comes_into_force_and_is_read_back(
        self, ready: HostNetwork, host: StandInHost, tmp_path: Path
    ) -> None:
        limited = spec("one", network={"ingress": "2Mbit", "egress": "1Mbit"})
        checks = ready.join(limited, host.run(attachment()), CONTAINER)
        assert host.told() == ["shape one", "isolate veth2", "put one"]
        assert host.shapes == {"veth2": Shape(2_000_000, 1_000_000)}
        assert failing(checks) == []
        assert {check.field for check in checks} == {
            *("network.ingress", "network.egress", "network.isolated", "network.forwarding", "network.rules")
        }
        assert ready.containers == {"one": CONTAINER}
        assert owner(tmp_path, "172.17.0.2") == "one"

    @pytest.mark.parametrize(
        ("mode", "bridge", "enforced"), [("bridge", "br1", "br1"), ("bridge", "", "none"), ("none", "br0", "br0")]
    )
    def test_who_is_connected_elsewhere_than_declared_gets_nothing(
        self, ready: HostNetwork, host: StandInHost, tmp_path: Path, mode: str, bridge: str, enforced: str
    ) -> None:
        pid = host.run(attachment(bridge=bridge) if bridge else None)
        (check,) = ready.join(spec("one", network_mode=mode), pid, CONTAINER)
        assert (check.field, check.enforced, check.holds) == ("network_mode", enforced, False)
        assert host.told() == []
        assert journalled(tmp_path) == []

    def test_who_asks_for_no_network_and_has_none_is_right(self, ready: HostNetwork, host: StandInHost) -> None:
        lone = spec("one", network_mode="none")
        assert ready.join(lone, host.run(), CONTAINER) == ready.checks(lone) == []
        assert host.told() == []
        assert ready.containers == {}

    def test_an_address_that_cannot_be_journalled_is_not_put_in_force(
        self, ready: HostNetwork, host: StandInHost, tmp_path: Path
    ) -> None:
        journal(tmp_path).unlink()
        journal(tmp_path).symlink_to("/dev/full")
        with pytest.raises((OSError, HostError)):
            ready.join(ONE, host.run(attachment()), CONTAINER)
        assert host.in_force == {}
        assert ready.containers == {}

    def test_without_a_bridge_nobody_joins_until_there_is_one(self, network: HostNetwork, host: StandInHost) -> None:
        host.ground, pid = None, host.run(attachment())
        network.take_over([])
        with pytest.raises(HostError, match="no bridge br0"):
            network.join(ONE, pid, CONTAINER)
        host.ground = GROUND
        assert failing(network.join(ONE, pid, CONTAINER)) == []

    def test_another_bridge_of_the_name_has_tables_of_its_own_with_all_in_them(
        self, ready: HostNetwork, host: StandInHost
    ) -> None:
        joined(ready, host)
        host.ground = (*GROUND[:2], "02:42:00:00:00:99")
        ready.join(TWO, host.run(attachment(3)), CONTAINER)
        assert host.told() == ["shape two", "isolate veth3", "pin br0", "rebuild one", "put two"]

    def test_tables_that_refuse_a_change_are_made_again_with_it(self, ready: HostNetwork, host: StandInHost) -> None:
        joined(ready, host)
        host.refuses = {"put two"}
        assert failing(ready.join(TWO, host.run(attachment(3)), CONTAINER)) == []
        assert host.told()[-2:] == ["put two", "rebuild one two"]

    def test_tables_that_refuse_that_too_are_an_error(self, ready: HostNetwork, host: StandInHost) -> None:
        host.refuses = {"put one", "rebuild one"}
        with pytest.raises(HostError, match="refused: rebuild"):
            ready.join(ONE, host.run(attachment()), CONTAINER)


class TestJoiningAgain:
    def test_a_change_forgets_the_connections_that_a_former_policy_let_through(
        self, ready: HostNetwork, host: StandInHost, tmp_path: Path
    ) -> None:
        pid = joined(ready, host)
        ready.join(CHANGED, pid, CONTAINER)
        assert host.told()[-2:] == ["put one", "forget 172.17.0.2"]
        assert journalled(tmp_path) == [("172.17.0.2", "one")]

    def test_a_rebuild_in_its_stead_forgets_them_too(self, ready: HostNetwork, host: StandInHost) -> None:
        pid = joined(ready, host)
        host.refuses = {"put one"}
        ready.join(CHANGED, pid, CONTAINER)
        assert host.told()[-2:] == ["rebuild one", "forget 172.17.0.2"]

    def test_without_a_change_they_go_on(self, ready: HostNetwork, host: StandInHost) -> None:
        pid = joined(ready, host)
        ready.join(ONE, pid, CONTAINER)
        assert host.told() == ["shape one", "isolate veth2"]

    def test_at_another_address_the_former_one_is_nobodys_and_its_port_released(
        self, ready: HostNetwork, host: StandInHost, tmp_path: Path
    ) -> None:
        host.end(joined(ready, host))
        ready.join(ONE, host.run(attachment(3)), CONTAINER)
        assert owner(tmp_path, "172.17.0.2") is None
        assert owner(tmp_path, "172.17.0.3") == "one"
        assert host.told()[-1] == "release veth2"

    def test_at_another_port_the_address_stays_its_own(
        self, ready: HostNetwork, host: StandInHost, tmp_path: Path
    ) -> None:
        host.end(joined(ready, host))
        ready.join(ONE, host.run(attachment(2, port="veth9")), CONTAINER)
        assert host.told()[-2:] == ["forget 172.17.0.2", "release veth2"]
        assert journalled(tmp_path) == [("172.17.0.2", "one")]


class TestTakingAnAddressOver:
    def test_the_former_one_gives_it_up_and_its_connections_are_forgotten(
        self, ready: HostNetwork, host: StandInHost, tmp_path: Path
    ) -> None:
        host.end(joined(ready, host))
        ready.join(TWO, host.run(attachment(2, port="veth9")), "d" * 64)
        assert host.told() == ["shape two", "isolate veth9", "put two", "forget 172.17.0.2"]
        assert journalled(tmp_path) == [("172.17.0.2", "one"), ("172.17.0.2", None), ("172.17.0.2", "two")]
        assert ready.containers == {"two": "d" * 64}

    def test_what_could_not_be_forgotten_keeps_the_gate_shut_until_it_is(
        self, ready: HostNetwork, host: StandInHost
    ) -> None:
        host.end(joined(ready, host))
        pid, host.refuses = host.run(attachment()), {"forget 172.17.0.2"}
        for _ in range(2):
            with pytest.raises(HostError, match="refused: forget"):
                ready.join(TWO, pid, CONTAINER)
        host.refuses, host.done = set(), []
        for _ in range(2):
            ready.join(TWO, pid, CONTAINER)
        assert host.told().count("forget 172.17.0.2") == 1

    def test_who_is_first_at_it_waits_while_another_thread_still_forgets(
        self, ready: HostNetwork, host: StandInHost
    ) -> None:
        host.end(joined(ready, host))
        forgets, goes_on = threading.Event(), threading.Event()

        def forget_slowly() -> None:
            forgets.set()
            goes_on.wait(SECONDS)

        host.when_forgetting = forget_slowly
        leaving = begin(lambda: ready.leave("one"))
        assert forgets.wait(SECONDS)
        pid = host.run(attachment(2, port="veth9"))
        joining = begin(lambda: ready.join(TWO, pid, CONTAINER))
        joining.join(0.1)
        waited = joining.is_alive()
        goes_on.set()
        for thread in (leaving, joining):
            thread.join(SECONDS)
        assert waited
        assert host.told().count("forget 172.17.0.2") == 1


class TestLeaving:
    def test_who_still_runs_keeps_everything(self, ready: HostNetwork, host: StandInHost) -> None:
        joined(ready, host)
        ready.leave("one")
        ready.leave("nobody")
        assert host.told() == []
        assert ready.containers == {"one": CONTAINER}

    def test_of_who_has_ended_nothing_is_left(self, ready: HostNetwork, host: StandInHost, tmp_path: Path) -> None:
        host.end(joined(ready, host))
        ready.leave("one")
        assert host.told() == ["drop one", "forget 172.17.0.2", "release veth2"]
        assert ready.containers == {}
        assert host.in_force == {}
        assert owner(tmp_path, "172.17.0.2") is None
        ready.leave("one")
        assert host.told() == []

    def test_nobody_waits_for_the_table_of_connections_to_be_searched(
        self, ready: HostNetwork, host: StandInHost
    ) -> None:
        host.end(joined(ready, host))
        others: list[bool] = []

        def another_asks() -> None:
            thread = begin(ready.differences)
            thread.join(1)
            others.append(not thread.is_alive())

        host.when_forgetting = another_asks
        ready.leave("one")
        assert others == [True]

    def test_what_of_it_was_not_logged_is_written_down_while_it_has_its_address(
        self, ready: HostNetwork, host: StandInHost, tmp_path: Path
    ) -> None:
        host.end(joined(ready, host))
        host.unlogged = {"172.17.0.2": 3}
        ready.leave("one")
        assert journalled(tmp_path) == [("172.17.0.2", "one"), ("172.17.0.2", 3), ("172.17.0.2", None)]


class TestTakingOver:
    def standing(self, host: StandInHost, *numbers: int) -> list[Standing]:
        specs = {2: ONE, 3: TWO}
        return [Standing(specs[number], host.run(attachment(number)), CONTAINER) for number in numbers]

    def test_where_tables_stand_they_are_made_around_all_and_connections_go_on(
        self, network: HostNetwork, host: StandInHost, tmp_path: Path
    ) -> None:
        network.take_over(self.standing(host, 2, 3))
        assert host.told() == ["pin br0", "rebuild one two"]
        assert network.containers == {"one": CONTAINER, "two": CONTAINER}
        assert owner(tmp_path, "172.17.0.3") == "two"

    @pytest.mark.parametrize(("stands", "interrupted"), [(False, False), (True, True), (False, True)])
    def test_where_they_were_gone_or_being_made_again_all_connections_end_once(
        self, network: HostNetwork, host: StandInHost, stands: bool, interrupted: bool
    ) -> None:
        host.stands = stands
        network.take_over(self.standing(host, 2, 3), interrupted)
        assert host.told() == ["pin br0", "rebuild one two", "forget 172.17.0.2 172.17.0.3 since 0"]
        host.ground = (*GROUND[:2], "02:42:00:00:00:99")
        network.join(ONE, self.standing(host, 2)[0].pid, CONTAINER)
        assert not [what for what in host.told() if "since" in what]

    @pytest.mark.parametrize(("declared", "used"), [([], "10.0.0.53"), (["192.0.2.53"], "192.0.2.53")])
    def test_the_tables_are_made_for_the_bridge_and_for_the_declared_resolvers_or_the_hosts(
        self, host: StandInHost, tmp_path: Path, declared: list[str], used: str
    ) -> None:
        settings = parse_network_settings({"bridge": "br0", "resolvers": declared}, "settings")
        HostNetwork(settings, tmp_path).take_over([])
        assert host.firewalls == [("bailey", (used,), GROUND[1], GROUND[2])]

    @pytest.mark.parametrize("refused", ["rebuild one", "forget 172.17.0.2 since 0"])
    def test_connections_that_could_not_be_ended_end_when_somebody_joins(
        self, network: HostNetwork, host: StandInHost, refused: str
    ) -> None:
        host.stands, host.refuses = False, {refused}
        network.take_over(self.standing(host, 2))
        host.refuses, host.done = set(), []
        network.join(TWO, host.run(attachment(3)), CONTAINER)
        assert "forget 172.17.0.2 since 0" in host.told()

    def test_who_is_not_on_the_bridge_or_cannot_be_read_is_left_out(
        self, network: HostNetwork, host: StandInHost, caplog: pytest.LogCaptureFixture
    ) -> None:
        (unread, two) = self.standing(host, 2, 3)
        host.refuses = {f"find {unread.pid}"}
        elsewhere = Standing(spec("other"), host.run(attachment(4, bridge="br1")), CONTAINER)
        with caplog.at_level(logging.ERROR):
            network.take_over([unread, elsewhere, Standing(spec("lone"), host.run(), CONTAINER), two])
        assert network.containers == {"two": CONTAINER}
        assert "one: its network cannot be read: refused: find" in caplog.text


class TestReadingBack:
    def test_an_instance_that_nobody_knows_does_not_hold(self, ready: HostNetwork) -> None:
        (check,) = ready.checks(ONE)
        assert (check.field, check.enforced, check.holds) == ("network", "not known to the agent", False)

    def test_what_does_not_hold_any_more_is_told(self, ready: HostNetwork, host: StandInHost) -> None:
        joined(ready, host)
        host.shapes["veth2"], host.broken = Shape(None, 8_000), ["ipv4/ip_forward"]
        host.isolated.clear()
        found = {check.field: check.enforced for check in failing(ready.checks(CHANGED))}
        assert found == {
            "network.egress": "8kbit",
            "network.isolated": "false",
            "network.forwarding": "ipv4/ip_forward is not",
            "network.rules": "held",
        }
        assert host.told() == []


class TestAgainAndAgain:
    def test_making_the_tables_again_ends_what_began_since(self, ready: HostNetwork, host: StandInHost) -> None:
        joined(ready, host)
        ready.join(TWO, host.run(attachment(3)), CONTAINER)
        host.told()
        assert ready.rebuild(17.0) == 2
        assert host.told() == ["rebuild one two", "forget 172.17.0.2 172.17.0.3 since 17"]

    def test_without_tables_there_is_nothing_to_make_again_or_to_compare(
        self, network: HostNetwork, host: StandInHost
    ) -> None:
        assert (network.rebuild(17.0), network.differences(), list(network.tidy())) == (0, [], [])
        assert host.told() == []

    def test_tidying_takes_away_what_is_left_and_says_so(
        self, ready: HostNetwork, host: StandInHost, tmp_path: Path
    ) -> None:
        host.end(joined(ready, host))
        ready.join(TWO, host.run(attachment(3)), CONTAINER)
        host.told()
        host.broken, host.left = ["ipv4/ip_forward"], ["veth3", "veth8"]
        assert list(ready.tidy()) == ["ipv4/ip_forward was not set", "what was left of port veth8 is removed"]
        assert host.told() == ["drop one", "forget 172.17.0.2", "release veth2", "release veth8"]
        assert owner(tmp_path, "172.17.0.2") is None
        assert ready.containers == {"two": CONTAINER}

    def test_what_was_not_logged_is_written_down_once(
        self, ready: HostNetwork, host: StandInHost, tmp_path: Path
    ) -> None:
        joined(ready, host)
        for count in (3, 3, 5):
            host.unlogged = {"172.17.0.2": count}
            assert list(ready.tidy()) == []
        ready.rebuild(17.0)  # the kernel counts anew
        host.unlogged = {"172.17.0.2": 7}
        assert list(ready.tidy()) == []
        assert journalled(tmp_path)[1:] == [("172.17.0.2", count) for count in (3, 2, 7)]
