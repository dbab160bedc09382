"""The tenants' network on a provisioned host: bandwidth, what passes and what does not, its repair, and its log.

The internet is a network namespace behind a link that the tests make: nothing leaves the host.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from testinfra.host import Host

TENANTS = {"ada-datasette-1": (50, 25), "bruno-timezones-1": (50, 25), "clara-site-1": (20, 10)}  # Mbit in and out
PORT = 8080
# Addresses of the namespace: one of the internet, one that only a private network has, and the clouds' metadata.
INTERNET, PRIVATE, METADATA = "192.88.99.2", "10.77.77.77", "169.254.169.254"
ACCESS_LOG = "/var/log/bailey/access.json"

SERVER = (
    "import http.server as h; h.ThreadingHTTPServer(('0.0.0.0', {port}), h.SimpleHTTPRequestHandler).serve_forever()"
)
MAKE_INTERNET = f"""
set -e
setsid unshare --net sleep infinity </dev/null >/dev/null 2>&1 & echo $! >/run/internet.pid
for try in $(seq 50); do
    pid=$(cat /run/internet.pid)
    [ "$(readlink /proc/$pid/ns/net)" = "$(readlink /proc/self/ns/net)" ] || break
    sleep 0.1
done
ip link add internet0 type veth peer name eth0 netns "$pid"
ip address add 192.88.99.1/24 dev internet0
ip link set internet0 up
nsenter --target "$pid" --net sh -e -c '
    ip link set lo up
    ip address add {INTERNET}/24 dev eth0
    ip link set eth0 up
    ip address add {PRIVATE}/32 dev lo
    ip address add {METADATA}/32 dev lo
    ip route add default via 192.88.99.1
'
ip route add {PRIVATE}/32 via {INTERNET}
ip route add {METADATA}/32 via {INTERNET}
for port in 25 80; do
    program=$(echo "{SERVER}" | sed "s/{{port}}/$port/")
    setsid nsenter --target "$pid" --net python3 -c "$program" </dev/null >/dev/null 2>&1 &
done
"""
# The namespace goes with the last process in it, and the link with the namespace.
END_INTERNET = """
pid=$(cat /run/internet.pid)
for one in $(ls /proc | grep -E '^[0-9]+$'); do
    [ "$(readlink /proc/$one/ns/net)" != "$(readlink /proc/$pid/ns/net)" ] || [ "$one" = "$pid" ] || kill -9 "$one"
done
kill -9 "$pid"
rm /run/internet.pid
ip link delete internet0 2>/dev/null || true
"""
# The root's name servers, asked by UDP; any answer will do, a refusal too.
ASK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
try:
    s.sendto(bytes.fromhex("0b5e010000010000000000000000020001"), (sys.argv[1], 53))
    print("answered" if s.recv(512) else "silent")
except OSError as error:
    print("silent")
"""


@dataclass(frozen=True)
class Yard:
    """A provisioned host with its tenants."""

    host: Host

    def inside(self, name: str, *argv: str) -> Any:
        """Run a command inside a tenant's container."""
        return self.host.run(f"wsh {name} -- {' '.join(['%s'] * len(argv))}", *argv)

    def tenant_connects(self, name: str, address: str, port: int) -> bool:
        """Try from a tenant's container; every image has bash."""
        return bool(self.inside(name, "timeout", "3", "bash", "-c", f"</dev/tcp/{address}/{port}").rc == 0)

    def host_connects(self, address: str, port: int) -> bool:
        """Try from the host itself, to know that somebody listens; a program that has just started gets some time."""
        program = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
        return any(self.settled(lambda: self.host.run(f"python3 -c '{program}' {address} {port}").rc == 0))

    def address(self, name: str) -> str:
        networks = json.loads(self.host.check_output("docker inspect %s", name))[0]["NetworkSettings"]["Networks"]
        return str(networks["bridge"]["IPAddress"])

    def gateway(self) -> str:
        (found,) = json.loads(self.host.check_output("ip -json -4 address show dev docker0"))
        return str(found["addr_info"][0]["local"])

    def links(self) -> list[dict[str, Any]]:
        return list(json.loads(self.host.check_output("ip -json link show")))

    def rate(self, link: str) -> int:
        """Return the rate of a link's token bucket in Mbit a second; tc gives it in bytes."""
        (queue,) = [
            queue
            for queue in json.loads(self.host.check_output("tc -json qdisc show dev %s", link))
            if queue["kind"] == "tbf"
        ]
        return int(queue["options"]["rate"]) * 8 // 1_000_000

    def logged(self, **wanted: object) -> dict[str, Any]:
        """Return the newest line of the access log that says so, once it is there."""

        def find() -> dict[str, Any]:
            lines = [json.loads(line) for line in self.host.check_output(f"tail -n 2000 {ACCESS_LOG}").splitlines()]
            return next((line for line in reversed(lines) if wanted.items() <= line.items()), {})

        found = next(filter(None, self.settled(find)), None)
        assert found is not None, f"{wanted} is not in the log:\n" + self.host.run(f"tail {ACCESS_LOG}").stdout
        return found

    def metric(self, name: str) -> float:
        program = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
        page = self.host.check_output("python3 -c %s", program)
        return float(next(line.split()[1] for line in page.splitlines() if line.startswith(f"{name} ")))

    def is_systemd(self) -> bool:
        return bool(self.host.file("/run/systemd/system").exists)

    def agent_log(self) -> str:
        command = "journalctl --no-pager --unit baileyd" if self.is_systemd() else "cat /var/log/bailey/baileyd/current"
        return str(self.host.check_output(command))

    @staticmethod
    def settled(attempt: Callable[[], Any], seconds: float = 15) -> Iterator[Any]:
        """Yield what the attempt gives, again and again until something came of it or the time is up."""
        deadline = time.monotonic() + seconds
        while True:
            yield (found := attempt())
            if found or time.monotonic() > deadline:
                return
            time.sleep(0.3)


@pytest.fixture(scope="module")
def yard(host: Host) -> Iterator[Yard]:
    host.check_output("sh -c %s", MAKE_INTERNET)
    yield Yard(host)
    host.check_output("sh -c %s", END_INTERNET)


@pytest.fixture
def service_of_the_host(yard: Yard) -> Iterator[int]:
    """A port on which the host itself listens, on all its addresses."""
    program = SERVER.format(port=9999)
    pid = yard.host.check_output(
        "sh -c %s", f'setsid python3 -c "{program}" </dev/null >/dev/null 2>&1 & echo $!'
    ).strip()
    yield 9999
    yard.host.check_output(f"kill -9 {pid}")


@pytest.mark.parametrize("name", TENANTS)
def test_bandwidth_is_bounded_both_ways_as_declared(yard: Yard, name: str) -> None:
    index = int(yard.inside(name, "cat", "/sys/class/net/eth0/iflink").stdout)
    port = next(link["ifname"] for link in yard.links() if link["ifindex"] == index)
    device = next(link["ifname"] for link in yard.links() if link.get("ifalias") == f"bailey {name}")
    assert (yard.rate(port), yard.rate(device)) == TENANTS[name]


@pytest.mark.parametrize("name", TENANTS)
def test_no_tenant_reaches_another(yard: Yard, name: str) -> None:
    for other in TENANTS.keys() - {name}:
        assert yard.host_connects(yard.address(other), PORT)
        assert not yard.tenant_connects(name, yard.address(other), PORT)


@pytest.mark.parametrize("name", TENANTS)
def test_no_tenant_reaches_the_host(yard: Yard, service_of_the_host: int, name: str) -> None:
    for address in (yard.gateway(), "192.88.99.1"):
        assert yard.host_connects(address, service_of_the_host)
        assert not yard.tenant_connects(name, address, service_of_the_host)


@pytest.mark.parametrize("name", TENANTS)
def test_the_internet_is_open_but_for_mail_and_what_is_not_the_internet(yard: Yard, name: str) -> None:
    for address, port in ((INTERNET, 80), (INTERNET, 25), (METADATA, 80), (PRIVATE, 80)):
        assert yard.host_connects(address, port), (address, port)
        assert yard.tenant_connects(name, address, port) == ((address, port) == (INTERNET, 80)), (address, port)


def test_names_are_resolved_as_the_host_resolves_them(yard: Yard) -> None:
    configuration = yard.inside("ada-datasette-1", "cat", "/etc/resolv.conf").stdout
    resolver = next(line.split()[1] for line in configuration.splitlines() if line.startswith("nameserver"))
    on_the_host = yard.host.check_output("python3 -c %s %s", ASK, resolver).strip()
    from_inside = yard.inside("ada-datasette-1", "python3", "-c", ASK, resolver).stdout.strip()
    assert from_inside == "answered" or on_the_host == "silent"
    line = yard.logged(instance="ada-datasette-1", destination=resolver, destination_port=53)
    assert (line["verdict"], line["protocol"]) == ("allow", "udp")


def test_the_log_says_who_talked_to_whom(yard: Yard) -> None:
    target = yard.address("bruno-timezones-1")
    assert yard.tenant_connects("ada-datasette-1", INTERNET, 80)
    assert not yard.tenant_connects("ada-datasette-1", target, PORT)
    who = {"tenant": "ada", "app": "datasette", "instance": "ada-datasette-1", "direction": "egress"}
    allowed = yard.logged(**who, verdict="allow", destination=INTERNET, destination_port=80)
    assert (allowed["protocol"], allowed["source"]) == ("tcp", yard.address("ada-datasette-1"))
    denied = yard.logged(**who, verdict="deny", destination=target, destination_port=PORT)
    assert denied["peer"] == "bruno/timezones/bruno-timezones-1"


def test_the_log_is_for_the_hosts_administrators(yard: Yard) -> None:
    directory = yard.host.file("/var/log/bailey")
    assert (directory.user, directory.group, directory.mode) == ("root", "adm", 0o750)


def test_the_log_is_a_service_and_the_only_logger(yard: Yard) -> None:
    if yard.is_systemd():
        unit = yard.host.service("bailey-access-log")
        assert unit.is_running
        assert unit.is_enabled
        assert not yard.host.service("ulogd2").is_enabled
    else:
        assert yard.host.check_output("sv status /etc/bailey/service/bailey-access-log").startswith("run:")
    (logger,) = yard.host.process.filter(comm="ulogd")
    assert "bailey.access_log" in yard.host.check_output(f"tr '\\0' ' ' </proc/{logger.ppid}/cmdline")


def test_hardening_does_not_stop_the_host_from_forwarding(yard: Yard) -> None:
    hardening = "/etc/sysctl.d/99-hardening.conf"
    yard.host.check_output(f"echo net.ipv4.ip_forward = 0 >{hardening}")
    try:
        yard.host.run("sysctl --system")  # other settings of a container's may be out of its reach
        assert any(yard.settled(lambda: yard.host.check_output("cat /proc/sys/net/ipv4/ip_forward").strip() == "1", 45))
        assert yard.tenant_connects("ada-datasette-1", INTERNET, 80)
    finally:
        yard.host.check_output(f"rm {hardening}")


def test_a_firewall_that_somebody_flushes_is_made_again(yard: Yard) -> None:
    tables = "nft list table inet bailey && nft list table bridge bailey"
    yard.host.check_output(tables)
    before = yard.metric("bailey_firewall_repairs_total")
    # With the flush the engine's own rules go too; those are put back by hand, the agent leaves them alone.
    yard.host.check_output("iptables-save >/run/engines-rules && nft flush ruleset")
    try:
        yard.host.check_output(f"for try in $(seq 50); do {tables} && exit 0; sleep 0.1; done; exit 1")
    finally:
        yard.host.check_output("iptables-restore </run/engines-rules && rm /run/engines-rules")
    assert any(yard.settled(lambda: yard.metric("bailey_firewall_repairs_total") > before))
    assert "the firewall is made again" in yard.agent_log()
    for name in TENANTS:
        assert yard.inside(name, "true").rc == 0, "it still stands still"
    assert not yard.tenant_connects("ada-datasette-1", yard.address("clara-site-1"), PORT)
    assert yard.tenant_connects("ada-datasette-1", INTERNET, 80)
