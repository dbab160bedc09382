"""Many processes at once that create and delete containers: no rule is lost, none left over.

Needs root, btrfs, dockerd, musl-gcc and libnftables.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.fixtures.on_platform import TABLE
from tests.integration.fixtures.platform import REPOSITORY, UIDS, Platform, tenant

pytest_plugins = ["tests.integration.fixtures.on_platform"]
pytestmark = pytest.mark.alone

PROCESSES, ROUNDS = 64, 2
SPEAKS = {
    "ingress": "40Mbit",
    "egress": "20Mbit",
    "same_tenant": True,
    "rules": [{"action": "allow", "cidr": "10.20.0.0/16", "protocol": "tcp", "ports": [5432]}],
}
# One process: it brings its container about, reads all of its network back, and removes it, again and again.
CHURN = """
import json, sys
from bailey.admission import Overcommit
from bailey.hosts import open_host
from bailey.inventory import read_instances
from bailey.reconcile import Request, reconcile

given = json.loads(sys.argv[1])
roomy = Overcommit(memory=1000, cpus=1000, disk=1000)
uids = range(*given["uids"])
host = open_host({**given["settings"], "remove_volumes": True})
for _ in range(given["rounds"]):
    for state in ("started", "absent"):
        declared = {**given["declared"], "state": state}
        reconcile(Request([declared], {}, uids, overcommit=roomy, lsm="none"), host)
        if state == "started":
            (found,) = read_instances(host, [declared["name"]])
            checks = [check for check in found.checks if check.field.startswith("network.")]
            assert len(checks) > 8, (found.checks, found.gate, found.container)
            assert all(check.holds for check in checks), [check for check in checks if not check.holds]
"""


@pytest.fixture
def beside(clean: Platform) -> Iterator[Platform]:
    """A container that stays, whose connections are allowed to all of its tenant."""
    clean.converge(tenant("stays", network_mode="bridge", network=SPEAKS))
    yield clean
    clean.converge(purge=True, remove_volumes=True)


def listing(family: str) -> dict[str, Any]:
    """Return a table's chains and the elements of its sets, by name."""
    said = subprocess.run(["nft", "-j", "list", "table", family, TABLE], capture_output=True, text=True, check=True)
    found: dict[str, Any] = {}
    for item in json.loads(said.stdout)["nftables"]:
        for kind in ("chain", "set", "map"):
            if kind in item and "dynamic" not in item[kind].get("flags", []):
                found[f"{kind} {item[kind]['name']}"] = sorted(map(str, item[kind].get("elem", [])))
    return found


def test_nothing_is_lost_and_nothing_left(beside: Platform) -> None:
    before = {family: listing(family) for family in ("inet", "bridge")}
    repairs = beside.agent.metrics()["bailey_firewall_repairs_total"]
    processes = [start(beside, number) for number in range(PROCESSES)]
    answers = [process.communicate(timeout=500)[0] for process in processes]
    failed = [answer for process, answer in zip(processes, answers, strict=True) if process.returncode]
    assert not failed, f"{len(failed)} of {PROCESSES}, the first with:\n{failed[0]}"
    assert beside.names() == {"stays"}
    assert beside.broken("stays") == {}
    beside.agent.until(lambda: {family: listing(family) for family in before} == before, "the tables as they were")
    beside.agent.until(lambda: len(devices()) == 1, "the end of all devices but that of the one that stays")
    assert beside.agent.metrics()["bailey_firewall_repairs_total"] == repairs


def start(platform: Platform, number: int) -> subprocess.Popen[str]:
    declared = tenant(f"c{number}", network_mode="bridge", network=SPEAKS, mem_limit="64M", cpus=0.1, pids_limit=16)
    given = {
        "settings": platform.settings,
        "uids": [UIDS.start, UIDS.stop],
        "declared": {**declared, "user": UIDS.start + 1 + number},
        "rounds": ROUNDS,
    }
    return subprocess.Popen(
        [sys.executable, "-c", CHURN, json.dumps(given)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "plugins/module_utils")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def devices() -> list[str]:
    """Return the names of all devices for bandwidth on this machine that the agent has made."""
    links = json.loads(subprocess.run(["ip", "-j", "-d", "link"], capture_output=True, text=True, check=True).stdout)
    return [link["ifname"] for link in links if link.get("ifalias", "").startswith("bailey ")]
