"""What HostNetwork acts upon, as a test has it: links, queues, connections and tables that write down what is done."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from bailey.agent import network as module
from bailey.agent.network import HostNetwork
from bailey.enforcement import Check
from bailey.errors import HostError
from bailey.firewall.policy import Endpoint
from bailey.host.links import Attachment
from bailey.host.tc import Shape
from bailey.network_settings import parse_network_settings

from tests.unit.samples import spec

BRIDGE = "br0"
GROUND = ("172.17.0.1", IPv4Network("172.17.0.0/16"), "02:42:00:00:00:01")


SETTINGS = parse_network_settings({"bridge": "br0"}, "settings")
ONE, TWO = spec("one"), spec("two")
CONTAINER = "c" * 64


def attachment(number: int = 2, port: str = "", bridge: str = BRIDGE) -> Attachment:
    mac = f"02:42:ac:11:00:{number:02x}"
    return Attachment(f"172.17.0.{number}", mac, port or f"veth{number}", 10 + number, bridge, 1500)


@dataclass
class StandInHost:
    """The kernel's side. `done` has, in order, all that changes something."""

    done: list[str] = field(default_factory=list)
    attachments: dict[int, Attachment] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    isolated: set[str] = field(default_factory=set)
    ground: tuple[str, IPv4Network, str] | None = GROUND
    broken: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    when_forgetting: Callable[[], object] = lambda: None
    # Of the tables.
    firewalls: list[tuple[Any, ...]] = field(default_factory=list)
    stands: bool = True
    refuses: set[str] = field(default_factory=set)
    in_force: dict[str, Endpoint] = field(default_factory=dict)
    unlogged: dict[str, int] = field(default_factory=dict)

    def run(self, found: Attachment | None = None) -> int:
        """Have a process run that is connected so, and return its number."""
        process = subprocess.Popen(["sleep", "60"])
        self.running.append(process)
        if found is not None:
            self.attachments[process.pid] = found
        return process.pid

    def end(self, pid: int) -> None:
        """End a process that runs here. It stays known: nobody else gets its number."""
        (process,) = [item for item in self.running if item.pid == pid]
        process.kill()
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    def close(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()

    def told(self) -> list[str]:
        """Return what was done since the last time."""
        found, self.done = self.done, []
        return found

    def doing(self, what: str) -> None:
        self.done.append(what)
        if what in self.refuses:
            raise HostError(f"refused: {what}")

    # As the functions that HostNetwork calls.

    def find_attachment(self, pid: int) -> Attachment | None:
        if f"find {pid}" in self.refuses:
            raise HostError("refused: find")
        return self.attachments.get(pid)

    def bridge_address(self, bridge: str) -> tuple[str, IPv4Network, str]:
        if self.ground is None:
            raise HostError(f"there is no bridge {bridge} on this host")
        return self.ground

    def shape(self, found: Attachment, name: str, wanted: Shape) -> None:
        self.doing(f"shape {name}")
        self.shapes[found.port] = wanted

    def read_shape(self, found: Attachment) -> Shape:
        return self.shapes.get(found.port, Shape(None, None))

    def release(self, port: str) -> None:
        self.doing(f"release {port}")
        self.shapes.pop(port, None)

    def set_isolated(self, port: str) -> None:
        self.doing(f"isolate {port}")
        self.isolated.add(port)

    def is_isolated(self, port: str) -> bool:
        return port in self.isolated

    def apply_settings(self, bridge: str) -> list[str]:
        assert bridge == BRIDGE
        found, self.broken = self.broken, []
        return found

    def broken_settings(self, bridge: str) -> list[str]:
        assert bridge == BRIDGE
        return self.broken

    def pin_address(self, bridge: str) -> bool:
        self.doing(f"pin {bridge}")
        return True

    def read_resolvers(self) -> list[str]:
        return ["10.0.0.53"]

    def leftovers(self, present: set[str]) -> list[str]:
        return [port for port in self.left if port not in present]

    def forget_connections(self, address: str) -> int:
        self.when_forgetting()
        self.doing(f"forget {address}")
        return 1

    def forget_connections_since(self, moment: float, addresses: Collection[str]) -> int:
        self.doing(f"forget {' '.join(addresses)} since {moment:g}")
        return len(addresses)

    def make_firewall(self, *of: Any) -> StandInFirewall:
        return StandInFirewall(self, *of)


class StandInFirewall:
    """Stands for Firewall; what is in force is the host's, as it is the kernel's."""

    def __init__(self, host: StandInHost, settings: Any, resolvers: Any, net: IPv4Network, bridge_mac: str) -> None:
        self._host = host
        host.firewalls.append((settings.table, tuple(resolvers), net, bridge_mac))

    def stands(self) -> bool:
        return self._host.stands

    def rebuild(self, endpoints: Iterable[Endpoint]) -> None:
        found = {item.name: item for item in endpoints}
        self._host.doing(" ".join(["rebuild", *found]))
        self._host.in_force, self._host.stands = found, True

    def put(self, endpoint: Endpoint) -> bool:
        if self._host.in_force.get(endpoint.name) == endpoint:
            return False
        self._host.doing(f"put {endpoint.name}")
        self._host.in_force[endpoint.name] = endpoint
        return True

    def drop(self, name: str) -> None:
        self._host.doing(f"drop {name}")
        self._host.in_force.pop(name, None)

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        return dict(self._host.in_force)

    def checks(self, endpoint: Endpoint) -> list[Check]:
        return [Check("network.rules", "meant", "held", self._host.in_force.get(endpoint.name) == endpoint)]

    def differences(self) -> list[str]:
        return [] if self._host.stands else ["a table is missing"]

    def unlogged(self) -> dict[str, int]:
        if not self._host.stands:
            raise HostError("refused: there is no table")
        return dict(self._host.unlogged)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandInHost:
    """Have HostNetwork act upon a stand-in."""
    host = StandInHost()
    for name in (
        *("find_attachment", "bridge_address", "shape", "read_shape", "release", "set_isolated", "is_isolated"),
        *("apply_settings", "broken_settings", "pin_address", "read_resolvers", "leftovers"),
        *("forget_connections", "forget_connections_since"),
    ):
        monkeypatch.setattr(module, name, getattr(host, name))
    monkeypatch.setattr(module, "Firewall", host.make_firewall)
    monkeypatch.setattr(module, "present_links", lambda: {item.port for item in host.attachments.values()})
    return host


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHost]:
    made = stand_in(monkeypatch)
    yield made
    made.close()


@pytest.fixture
def network(host: StandInHost, tmp_path: Path) -> Iterator[HostNetwork]:
    assert host
    made = HostNetwork(SETTINGS, tmp_path)
    yield made
    made.close()


@pytest.fixture
def ready(network: HostNetwork, host: StandInHost) -> HostNetwork:
    """The network of an agent that has found nobody."""
    network.take_over([])
    host.told()
    return network


def joined(network: HostNetwork, host: StandInHost, number: int = 2) -> int:
    """Have the instance `one` join at an address, and return its process."""
    pid = host.run(attachment(number))
    network.join(ONE, pid, CONTAINER)
    host.told()
    return pid
