"""What a host's network is told to be: files and kernel, in a network namespace that stands for the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CORE = Path(__file__).parents[2] / "plugins/module_utils"
PROGRAM = """
import json, sys
from pathlib import Path
from bailey.engine import claim, network
from bailey.errors import BaileyError

directory, mode, given = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
engine = claim.Places(record=directory / "docker.json")
places = network.Places(directory / "etc/network.json", directory / "sysctl.d/zz-bailey.conf", engine)
try:
    if mode == "absent":
        done = network.disarrange(check=False, places=places)
    else:
        done = network.arrange(given, check=mode == "check", places=places)
except BaileyError as error:
    print(json.dumps({"error": str(error)}))
else:
    print(json.dumps({"paths": [item.path for item in done.differences], "warnings": done.warnings}))
"""
# A host with a bridge, whose kernel does not forward.
HOST = """
set -e
mount -t sysfs none /sys
echo 0 >/proc/sys/net/ipv4/ip_forward
ip link add docker0 type bridge
"""
SHOW = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/docker0/proxy_arp_pvlan"


class Host:
    """A directory for the files, and a fresh namespace for each story."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "etc/network.json"
        self.drop_in = directory / "sysctl.d/zz-bailey.conf"

    def runs(self, *steps: str, before: str = HOST) -> list[Any]:
        """Run the steps, each a mode of PROGRAM with its settings, or a shell command; return what they printed."""
        script = before + "".join(f"{step}\n" for step in steps)
        done = subprocess.run(
            ["unshare", "--net", "--mount", "sh", "-c", script],
            env={**os.environ, "PYTHONPATH": str(CORE), "PROGRAM": PROGRAM},
            capture_output=True,
            text=True,
            check=True,
        )
        return [json.loads(line) if line.startswith("{") else line for line in done.stdout.splitlines()]

    def step(self, mode: str, **given: object) -> str:
        return f"{sys.executable} -c \"$PROGRAM\" {self.directory} {mode} '{json.dumps(given)}'"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_kernel_is_set_once_and_read_back(host: Host) -> None:
    set_up, shown, again = host.step("present", new_connections=7), SHOW, host.step("present", new_connections=7)
    first, forward, proxy, second = host.runs(set_up, shown, again)
    assert (forward, proxy) == ("1", "1")
    assert {str(host.drop_in), "net/ipv4/ip_forward", "network.new_connections"} <= set(first["paths"])
    assert second == {"paths": [], "warnings": []}
    assert json.loads(host.config.read_text())["new_connections"] == 7
    assert host.config.stat().st_mode & 0o777 == 0o644


def test_check_mode_changes_nothing_and_needs_no_bridge(host: Host) -> None:
    told, forward = host.runs(host.step("check"), "cat /proc/sys/net/ipv4/ip_forward", before=HOST.rpartition("ip ")[0])
    assert str(host.drop_in) in told["paths"]
    assert forward == "0"
    assert list(host.directory.iterdir()) == []


def test_without_the_bridge_it_says_so_and_writes_nothing(host: Host) -> None:
    (told,) = host.runs(host.step("present"), before=HOST.rpartition("ip ")[0])
    assert "there is no bridge docker0 on this host" in told["error"]
    assert list(host.directory.iterdir()) == []


def test_a_wrong_value_is_refused_before_anything_changes(host: Host) -> None:
    told, forward = host.runs(host.step("present", denied_networks=["10.0.0.0/33"]), SHOW.rpartition(" ")[0])
    assert "denied_networks" in told["error"]
    assert "10.0.0.0/33" in told["error"]
    assert forward == "0"
    assert list(host.directory.iterdir()) == []


def test_what_hardening_has_undone_is_a_difference_and_is_put_right(host: Host) -> None:
    undo = "echo 0 >/proc/sys/net/ipv4/ip_forward"
    *_, told, forward, proxy = host.runs(host.step("present"), undo, host.step("present"), SHOW)
    assert set(told["paths"]) == {"net/ipv4/ip_forward", "net/ipv4/conf/docker0/forwarding"}
    assert (forward, proxy) == ("1", "1")


def test_after_a_reboot_the_drop_in_sets_the_bridge_and_leaves_forwarding_to_the_engine(host: Host) -> None:
    forget = "ip link delete docker0; echo 0 >/proc/sys/net/ipv4/ip_forward"
    boot = (
        f"sysctl --quiet --load={host.drop_in}; ip link add docker0 type bridge; sysctl --quiet --load={host.drop_in}"
    )
    _, forward, proxy = host.runs(host.step("present"), forget, boot, SHOW)
    assert (forward, proxy) == ("0", "1")  # an engine that finds it on would leave the FORWARD chain open


@pytest.mark.parametrize(("forwarded_before", "policy"), [("0", "-P FORWARD DROP"), ("1", "-P FORWARD ACCEPT")])
def test_the_host_becomes_no_router_for_everybody(host: Host, forwarded_before: str, policy: str) -> None:
    found = {"paths": [], "kernel": {"net.ipv4.ip_forward": forwarded_before}}
    record = {"version": 1, "sha256": [], "options": {}, "found": found}
    (host.directory / "docker.json").write_text(json.dumps(record))
    *_, shown, again = host.runs(host.step("present"), "iptables -S FORWARD", host.step("present"))
    assert shown == policy
    assert again["paths"] == []


def test_what_was_written_goes_and_a_second_time_there_is_nothing_to_do(host: Host) -> None:
    _, gone, nothing = host.runs(host.step("present"), host.step("absent"), host.step("absent"))
    assert set(gone["paths"]) == {str(host.config), str(host.drop_in)}
    assert nothing["paths"] == []
    assert not host.config.parent.exists()
    assert not host.drop_in.exists()
