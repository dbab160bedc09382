"""Whether everything that is declared for an instance is in force for a container that is there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..carry import Host
from ..enforcement import Check, Reading, checks, describe, failing, read_container
from ..errors import BaileyError
from ..host.files import read_text
from ..host.idmap import IdMap, describe_process
from ..host.quota import Volume, open_quota
from ..host.scopes import keep_swap_off
from ..spec import BRIDGE, STARTED, Spec, parse_spec
from ..store import StoredSpec
from .network import HostNetwork
from .peer import Peer
from .policy import DECLARED_STOPPED, DRAINED


@dataclass(frozen=True)
class Proof:
    """What was found. `reason` says why the gate stays closed; it opens where that is empty."""

    reason: str
    spec: Spec | None = None
    oom_counter: Path | None = None


class Prover:
    """Reads the kernel for the gate and for the sweeps; its methods block, a worker's thread calls them."""

    def __init__(self, host: Host, network: HostNetwork | None = None) -> None:
        self.host = host
        self.network = network

    @property
    def draining(self) -> bool:
        """Whether the host takes no instance."""
        return drain_flag(self.host.files.state_dir).exists()

    def prove(self, name: str, peer: Peer) -> Proof:
        """Apply what the runtime does not, read all of it back, and compare. Whatever goes wrong keeps it closed."""
        try:
            stored = self.host.store.read(name)
            obstacle = self._obstacle(name, stored, peer)
            if stored is None or obstacle:
                return Proof(obstacle)
            spec = parse_spec(stored.canonical)
            volume = self._apply(spec)
            if spec.limits.io and not self.host.io_devices and not self._storage_moved():
                return Proof("blkio_config cannot be enforced: the tenants' storage lies on no block device")
            reading = read_container(self.host.hierarchy, peer.container)
            group = self.host.hierarchy.find(peer.container)
            if reading is None or group is None or reading.init.pid != peer.pid:
                return Proof(f"what the kernel holds for container {peer.container[:12]} cannot be read")
            keep_swap_off(group)
            results = checks(spec, reading, volume, self.host.io_devices, stored.ids)
            broken = failing([*results, *self._join(spec, peer)])
            if broken:
                return Proof(f"the kernel does not hold what was declared: {describe(broken)}")
            return Proof("", spec, group.oom_counter)
        except (BaileyError, OSError, ValueError) as error:
            return Proof(f"it could not be proven: {error}")

    def _obstacle(self, name: str, stored: StoredSpec | None, peer: Peer) -> str:
        if stored is None:
            return f"nothing is declared under the name {name}"
        if self.draining:
            return DRAINED
        if stored.state != STARTED:
            return DECLARED_STOPPED
        if condemned := read_text(self.host.files.condemned_file(name)):
            return condemned
        if peer.uid != stored.host_uid or not stored.ids.same(peer.ids):
            return f"it runs as uid {describe_process(peer.ids, peer.uid)}, not {stored.ids.describe(stored.uid)}"
        return ""

    def _apply(self, spec: Spec) -> Volume | None:
        """Give the instance's storage its declared limit where it has another; return what the kernel holds then."""
        if not spec.volumes and spec.limits.disk is None:
            return None
        volume = self._volume(spec)
        if volume is not None and volume.limit != spec.limits.disk:
            self.host.quota.set_limit(spec.name, spec.limits.disk)
            volume = self._volume(spec)
        return volume

    def _join(self, spec: Spec, peer: Peer) -> list[Check]:
        """Put the instance's network in force, and read it back."""
        if self.network is None:
            return _without_network(spec)
        return self.network.join(spec, peer.pid, peer.container)

    def _volume(self, spec: Spec) -> Volume | None:
        found = self.host.quota.volume(spec.name)
        if found is None and self._storage_moved():
            found = self.host.quota.volume(spec.name)
        return found

    def _storage_moved(self) -> bool:
        """Open the storage again where another file system has come to lie there: at boot it is mounted late."""
        fresh = open_quota(self.host.quota.root)
        if fresh.mount == self.host.quota.mount:
            return False
        device = fresh.device()
        self.host.quota, self.host.io_devices = fresh, () if device is None else (device,)
        return True

    def look(self, spec: Spec, container: str, volume: Volume | None, ids: IdMap) -> tuple[Reading, list[Check]] | None:
        """Read a running container back without changing anything; None where it does not run."""
        reading = read_container(self.host.hierarchy, container)
        if reading is None:
            return None
        results = checks(spec, reading, volume, self.host.io_devices, ids)
        return reading, [*results, *self.network_checks(spec)]

    def network_checks(self, spec: Spec) -> list[Check]:
        """Read the network of a running instance back without changing anything."""
        return _without_network(spec) if self.network is None else self.network.checks(spec)


def _without_network(spec: Spec) -> list[Check]:
    if spec.network_mode != BRIDGE:
        return []
    return [Check("network_mode", BRIDGE, "not enforced: the agent was given no --network-config", holds=False)]


def drain_flag(state_dir: Path) -> Path:
    """Return the file whose being there says that the host is drained, across reboots too."""
    return state_dir / "draining"


def open_counter(path: Path | None) -> int | None:
    """Open the file that counts kills for memory, to be handed to wshd; None where it cannot be."""
    try:
        return None if path is None else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
