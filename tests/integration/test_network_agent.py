"""The agent and its host's network: joined at the gate, followed through every change, repaired, and left clean.

Needs root, btrfs, dockerd, musl-gcc and libnftables.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from bailey.agent.faults import REPAIR_POINTS
from bailey.leases import LeaseReader
from bailey.planning import Action
from bailey.reconcile import ReconcileError

from tests.integration.fixtures.on_platform import RUN, TABLE
from tests.integration.fixtures.platform import Platform, tenant, wait_for
from tests.integration.fixtures.traffic import FLOOD, SERVE, address_of, arrivals, connects

pytest_plugins = ["tests.integration.fixtures.on_platform"]

FLUSHES = 20
EXPOSURE = 0.25  # seconds, of which the 99th percentile is to stay below


def connected(name: str, **fields: Any) -> dict[str, Any]:
    """Declare a tenant on the bridge that serves a page."""
    network = {"ingress": "40Mbit", "egress": "20Mbit", **fields.pop("network", {})}
    command = ["python3", "-c", SERVE]
    return tenant(name, **{"network_mode": "bridge", "command": command, "network": network, **fields})


def nft(*words: str) -> str:
    return subprocess.run(["nft", *words], capture_output=True, text=True, check=True).stdout


def tables() -> set[str]:
    return {" ".join(line.split()[1:]) for line in nft("list", "tables").splitlines()}


def ours() -> set[str]:
    return {f"inet {TABLE}", f"bridge {TABLE}"}


def flush() -> None:
    """Take our tables away as `nft flush ruleset` does, and leave those of this machine's others."""
    nft("; ".join(f"delete table {table}" for table in sorted(ours())))


def shapers() -> list[str]:
    """The names of the instances that have a device of ours on this machine."""
    links = json.loads(subprocess.run(["ip", "-j", "-d", "link"], capture_output=True, text=True, check=True).stdout)
    return sorted(link["ifalias"] for link in links if link.get("ifalias", "").startswith("bailey "))


def port_of(platform: Platform, name: str) -> str:
    (found,) = [check for check in platform.instance(name).checks if check.field == "network.source"]
    return found.enforced.split()[0]


@pytest.fixture
def one(clean: Platform) -> Platform:
    clean.converge(connected("one"))
    wait_for(lambda: clean.python("one", "print(1)").out, "a session")
    return clean


def gateway(platform: Platform) -> str:
    return platform.engine.address.partition("/")[0]


class TestAtTheGate:
    def test_all_of_it_is_read_back(self, one: Platform) -> None:
        checks = {check.field: check for check in one.instance("one").checks}
        assert (checks["network.ingress"].declared, checks["network.ingress"].enforced) == ("40Mbit", "40Mbit")
        assert checks["network.egress"].enforced == "20Mbit"
        assert {"network.isolated", "network.forwarding", "network.rules", "network.source"} <= checks.keys()
        assert one.broken("one") == {}

    def test_a_tenant_reaches_no_port_of_the_host(self, one: Platform) -> None:
        with arrivals(gateway(one)) as listening:
            one.python("one", f"import socket\nsocket.socket(2, 2).sendto(b'x', ('{gateway(one)}', {listening.port}))")
            time.sleep(0.5)
            assert listening.times == []

    def test_without_a_network_the_agent_connects_nobody(self, clean: Platform) -> None:
        options, clean.agent.options = clean.agent.options, ()
        try:
            clean.agent.stop()
            clean.agent.start()
            with pytest.raises(ReconcileError, match="no --network-config"):
                clean.converge(connected("one"))
            assert clean.names() == set()
            clean.converge(tenant("two"))  # who asks for none is not concerned
        finally:
            clean.agent.options = options

    def test_another_bridge_is_not_ours(self, clean: Platform) -> None:
        clean.converge(tenant("one"))
        clean.engine.docker("network", "create", "elsewhere")
        try:
            clean.engine.docker("stop", "one")
            clean.engine.docker("network", "disconnect", "none", "one")
            clean.engine.docker("network", "connect", "elsewhere", "one")
            clean.engine.docker("start", "one")
            clean.agent.until(lambda: "network_mode is" in clean.agent.state("one").reason, "the refusal")
        finally:
            clean.clear()
            clean.engine.docker("network", "rm", "elsewhere")


class TestChanges:
    def test_a_rate_and_a_rule_change_without_a_new_container(self, one: Platform) -> None:
        one.converge(connected("one"), connected("two"))
        before = one.inspect("one")["Id"]
        address = address_of(one, "two")
        assert connects(one, "one", address, 8080) == "timed out"
        rule = {"app": "two", "protocol": "tcp", "ports": [8080], "action": "allow"}
        inward = {"app": "one", "protocol": "tcp", "ports": [8080], "action": "allow", "direction": "ingress"}
        report = one.converge(
            connected("one", network={"ingress": "80Mbit", "rules": [rule]}),
            connected("two", network={"rules": [inward]}),
        )
        assert {name: plan.action for name, plan in report.plans.items()} == dict.fromkeys(
            ("one", "two"), Action.UPDATE
        )
        assert one.inspect("one")["Id"] == before
        assert one.broken("one") == one.broken("two") == {}
        assert connects(one, "one", address, 8080) == "connected"
        assert connects(one, "two", address_of(one, "one"), 8080) == "timed out"
        assert not one.converge(
            connected("one", network={"ingress": "80Mbit", "rules": [rule]}),
            connected("two", network={"rules": [inward]}),
        ).differences

    def test_a_rule_that_is_taken_away_ends_what_it_let_through(self, clean: Platform) -> None:
        rules = [{"app": "two", "action": "allow"}], [{"app": "one", "action": "allow", "direction": "ingress"}]
        one, two = connected("one", network={"rules": rules[0]}), connected("two", network={"rules": rules[1]})
        clean.converge(one, two)
        talk = (
            "import socket, sys, time\n"
            "s = socket.create_connection((sys.argv[1], 8080), 5)\n"
            "print('open', flush=True)\n"
            "open('/data/open', 'w').close()\n"
            "time.sleep(4)\n"
            "s.settimeout(3)\n"
            "s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')\n"
            "try:\n    print(len(s.recv(100)) > 0)\n"
            "except OSError as error:\n    print(type(error).__name__)\n"
        )
        address = address_of(clean, "two")
        command = ["python3", "-c", talk, address]
        with_rule = clean.python("one", talk.replace("sleep(4)", "sleep(0)"), address)
        assert with_rule.out.split() == ["open", "True"]
        (clean.volume("one") / "open").unlink()
        session = subprocess.Popen(
            ["python3", "-c", WSH, str(clean.files.control_socket("one")), *command], stdout=subprocess.PIPE, text=True
        )
        wait_for((clean.volume("one") / "open").exists, "the connection")
        clean.converge(connected("one"), connected("two"))
        out, _ = session.communicate(timeout=30)
        assert out.split()[1:] == ["TimeoutError"], out

    def test_drift_is_found_and_put_right(self, one: Platform) -> None:
        subprocess.run(["tc", "qdisc", "del", "dev", port_of(one, "one"), "root"], check=True)
        assert one.broken("one") == {"network.ingress": ("40Mbit", "unlimited")}
        report = one.converge(connected("one"))
        assert report.plans["one"].action is Action.UPDATE
        assert one.broken("one") == {}


WSH = (
    "import sys\nfrom pathlib import Path\nsys.path.insert(0, 'plugins/module_utils')\n"
    "from bailey.wsh.client import Client\n"
    "print(Client(Path(sys.argv[1])).run(sys.argv[2:], timeout=60).stdout.decode())"
)


class TestRestarts:
    def test_a_restart_takes_everything_along(self, one: Platform) -> None:
        before, address = port_of(one, "one"), address_of(one, "one")
        opened = one.agent.state("one").opened_at
        one.engine.docker("restart", "--time", "1", "one")
        await_gate_after(one, opened)
        assert port_of(one, "one") != before
        assert address_of(one, "one") == address
        assert one.broken("one") == {}
        wait_for(lambda: shapers() == ["bailey one"], "the end of the former port's device")
        assert before not in nft("list", "table", "bridge", TABLE)

    def test_the_engines_death_takes_nothing(self, one: Platform) -> None:
        one.agent.kill()
        listing = nft("-s", "list", "table", "inet", TABLE)
        engine_pid = one.engine.pid
        assert engine_pid is not None
        os.kill(engine_pid, signal.SIGKILL)
        try:
            assert nft("-s", "list", "table", "inet", TABLE) == listing
            one.agent.start()
            one.agent.until(lambda: one.agent.is_open("one"), "the gate")
        finally:
            one.engine.start("pytest")
        wait_for(lambda: not one.broken("one"), "the engine's answer")

    def test_removal_leaves_nothing(self, one: Platform) -> None:
        address = address_of(one, "one")
        wait_for(lambda: shapers() == ["bailey one"], "the end of the former port's device")
        one.converge(purge=True)
        wait_for(lambda: not shapers(), "the end of its devices")
        listing = nft("list", "table", "inet", TABLE) + nft("list", "table", "bridge", TABLE)
        assert address not in listing
        reader = LeaseReader(RUN)
        assert reader.owner(address, time.time() + 10) is None


class TestRepair:
    def test_whoever_flushes_finds_it_standing_again(self, one: Platform) -> None:
        repairs = one.agent.metrics()["bailey_firewall_repairs_total"]
        flush()
        one.agent.until(lambda: ours() <= tables(), "the tables")
        one.agent.until(lambda: one.agent.metrics()["bailey_firewall_repairs_total"] == repairs + 1, "the count")
        assert "the firewall is made again" in one.agent.tail()
        assert one.broken("one") == {}
        assert one.python("one", "print(1)").out == "1\n"  # it runs again

    def test_how_long_a_tenant_is_exposed(self, one: Platform) -> None:
        host = gateway(one)
        with arrivals(host) as listening:
            flood = subprocess.Popen(
                ["python3", "-c", WSH, str(one.files.control_socket("one")), *flooding(host, listening.port)]
            )
            try:
                time.sleep(1.0)
                assert listening.times == []
                exposures = [one_exposure(listening.times) for _ in range(FLUSHES)]
            finally:
                flood.kill()
                flood.wait()
        assert sorted(exposures)[int(0.99 * (FLUSHES - 1))] < EXPOSURE, exposures

    @pytest.mark.parametrize("point", REPAIR_POINTS)
    def test_an_agent_that_dies_in_the_middle_leaves_nobody_frozen(self, one: Platform, point: str) -> None:
        one.agent.stop()
        one.agent.start(fault=point)
        flush()
        one.agent.await_fault()
        one.agent.start()
        assert ours() <= tables()
        assert one.cgroup("one", "freezer", "freezer.state").read_text().strip() == "THAWED"
        assert one.python("one", "print(1)").out == "1\n"
        assert one.broken("one") == {}

    def test_what_was_taken_while_no_agent_ran_is_there_when_one_starts(self, one: Platform) -> None:
        one.agent.kill()
        flush()
        one.agent.start()
        assert ours() <= tables()
        one.agent.until(lambda: one.agent.is_open("one"), "the gate")
        assert one.broken("one") == {}

    def test_a_container_that_starts_meanwhile_is_exposed_no_longer(self, one: Platform) -> None:
        with arrivals(gateway(one)) as listening:
            one.converge(connected("one", command=flooding(gateway(one), listening.port)))
            for _ in range(5):
                opened = one.agent.state("one").opened_at
                listening.times.clear()
                one.engine.docker("restart", "--time", "0", "one")
                assert listening.times == []
                flushed = time.monotonic()
                flush()
                await_gate_after(one, opened)
                one.agent.until(lambda: ours() <= tables(), "the tables")
                time.sleep(2 * EXPOSURE)
                assert max(listening.times, default=flushed) - flushed < EXPOSURE
                assert one.broken("one") == {}

    def test_a_pause_by_hand_stays_one(self, one: Platform) -> None:
        one.engine.docker("pause", "one")
        repairs = one.agent.metrics()["bailey_firewall_repairs_total"]
        flush()
        one.agent.until(lambda: one.agent.metrics()["bailey_firewall_repairs_total"] == repairs + 1, "the repair")
        assert one.inspect("one")["State"]["Paused"]
        assert one.cgroup("one", "freezer", "freezer.state").read_text().strip() == "FROZEN"
        one.engine.docker("unpause", "one")


def await_gate_after(platform: Platform, opened: float | None) -> None:
    """Wait until the gate has opened again."""
    platform.agent.until(lambda: platform.agent.state("one").opened_at not in (None, opened), "the gate")


def flooding(address: str, port: int) -> list[str]:
    return ["python3", "-c", FLOOD, address, str(port)]


def one_exposure(times: list[float]) -> float:
    """Flush, and return for how many seconds after that datagrams went on to arrive."""
    times.clear()
    begun = time.monotonic()
    flush()
    time.sleep(0.6)
    return max(times, default=begun) - begun


@pytest.fixture(autouse=True, scope="module")
def _nothing_left(platform: Platform) -> Iterator[None]:
    yield
    platform.clear()
    wait_for(lambda: not shapers(), "the end of all devices")
