"""A host's network as the agent holds it: bandwidth, firewall and journal of every instance that runs.

Its methods block and may be called from several threads. What is in force is the kernel's; what is kept here is who
joined, so that everything can be made again when somebody has taken it away.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..enforcement import Check
from ..errors import BaileyError, HostError
from ..firewall.owner import Firewall
from ..firewall.policy import Endpoint
from ..host.bridge import apply_settings, broken_settings, pin_address
from ..host.conntrack import forget_connections, forget_connections_since
from ..host.links import Attachment, bridge_address, find_attachment, is_isolated, set_isolated
from ..host.resolvers import read_resolvers
from ..host.tc import Shape, leftovers, read_shape, release, shape
from ..leases import LeaseWriter
from ..limits import UNLIMITED
from ..network_settings import NetworkSettings
from ..spec import NONE, Spec
from ..units import format_rate
from .ledger import LOG

_ENDING_SECONDS = 0.5  # an instance's connections close a moment before its process has ended


@dataclass(frozen=True)
class Joined:
    """One run of an instance on the bridge. The descriptor stands for its first process, and says when it has ended."""

    endpoint: Endpoint
    attachment: Attachment
    container: str
    pidfd: int

    @property
    def ended(self) -> bool:
        """Whether its first process has ended."""
        return self.ends_within(0)

    def ends_within(self, seconds: float) -> bool:
        """Wait so long at most for its first process to end, and say whether it has."""
        watched = select.poll()  # select() knows no descriptor above 1023
        watched.register(self.pidfd, select.POLLIN)
        return bool(watched.poll(seconds * 1000))


@dataclass(frozen=True)
class Standing:
    """An instance that is past its gate when the agent starts."""

    spec: Spec
    pid: int
    container: str


class HostNetwork:
    """The one writer of a host's tables, queues and journal."""

    def __init__(self, settings: NetworkSettings, run_dir: Path) -> None:
        self.settings = settings
        self._leases = LeaseWriter(run_dir)
        self._lock = threading.RLock()
        self._firewall: Firewall | None = None
        self._ground: tuple[str, str, str] = ("", "", "")
        self._joined: dict[str, Joined] = {}
        self._trusted = True  # whether the tables that are there have been there all the time
        self._unlogged: dict[str, int] = {}
        # Addresses with connections that no longer count; no gate opens before they are forgotten.
        self._stale: set[str] = set()
        self._forgetting = threading.Lock()

    @property
    def containers(self) -> dict[str, str]:
        """The containers on the bridge, by the instance's name."""
        return {name: joined.container for name, joined in list(self._joined.items())}

    @property
    def in_force(self) -> bool:
        """Whether the tables stand around everybody who is on the bridge."""
        return self._firewall is not None or not self._joined

    # Coming and going.

    def take_over(self, standing: Iterable[Standing], interrupted: bool = False) -> None:
        """Make the tables anew around those that run already: what an agent before this one left may be of anyone.

        Where the tables are gone, or an agent before this one was interrupted when it made them again, nobody knows
        what has slipped through: all connections of theirs end.
        """
        with self._lock:
            self._leases.compact()
            self._trusted = not interrupted
            for item in standing:
                try:
                    attachment = find_attachment(item.pid)
                    if attachment is not None and attachment.bridge == self.settings.bridge:
                        self._remember(item.spec, attachment, item.pid, item.container)
                except (BaileyError, OSError) as error:
                    LOG.error("%s: its network cannot be read: %s", item.spec.name, error)
            try:
                self._ready()
            except (BaileyError, OSError) as error:  # no bridge yet, perhaps, and so nobody on it
                LOG.warning("there is no firewall yet: %s", error)

    def join(self, spec: Spec, pid: int, container: str) -> list[Check]:
        """Put all that is declared for an instance's network in force, and read it back.

        Raises HostError or OSError where that cannot be done.
        """
        attachment = find_attachment(pid)
        misplaced = self._misplaced(spec, attachment)
        if misplaced is not None or attachment is None:
            return [] if misplaced is None else [misplaced]
        shape(attachment, spec.name, Shape(spec.network.ingress, spec.network.egress))
        set_isolated(attachment.port)
        with self._lock:
            former = self._joined.get(spec.name)
            firewall = self._ready()
            joined = self._remember(spec, attachment, pid, container)
            if self._put(firewall, joined.endpoint) and former is not None:
                self._stale.add(attachment.address)  # what a former policy let through
        self._forget_stale(attachment.address)
        if former is not None and former.attachment.port != attachment.port:
            release(former.attachment.port)
        return self._read(spec, joined, firewall)

    def leave(self, name: str) -> None:
        """Take away what an instance that has ended had; nothing happens while it runs."""
        joined = self._joined.get(name)
        if joined is None or not joined.ends_within(_ENDING_SECONDS):
            return
        with self._lock:
            if self._joined.get(name) is not joined:
                return
            address, firewall = joined.endpoint.address, self._firewall
            if firewall is not None:
                self._count_unlogged(firewall)
                self._drop(firewall, name)
            try:
                self._forget(joined)
            except (BaileyError, OSError) as error:  # whoever has the address next says so in the journal, or waits
                LOG.error("%s: the journal cannot be written: %s", name, error)
        self._forget_stale(address)
        release(joined.attachment.port)

    def close(self) -> None:
        """Let go of the descriptors, and leave everything in force."""
        for joined in self._joined.values():
            os.close(joined.pidfd)
        self._joined.clear()

    def _misplaced(self, spec: Spec, attachment: Attachment | None) -> Check | None:
        """Return what is wrong with where a container is connected, None where that is as declared."""
        wanted = NONE if spec.network_mode == NONE else self.settings.bridge
        found = NONE if attachment is None else attachment.bridge
        return None if wanted == found else Check("network_mode", wanted, found, holds=False)

    def _remember(self, spec: Spec, attachment: Attachment, pid: int, container: str) -> Joined:
        """Take note of a run, in the journal too, before any of its packets passes.

        Whoever had its name, its address or its port before has ended: the engine gives none of them to two.
        """
        joined = Joined(endpoint_of(spec, attachment), attachment, container, os.pidfd_open(pid))
        try:
            self._succeed(joined)
        except BaseException:
            os.close(joined.pidfd)
            raise
        self._joined[spec.name] = joined
        return joined

    def _succeed(self, joined: Joined) -> None:
        """Have a run take over from whoever had its name or its address."""
        own = joined.endpoint
        known = self._joined.get(own.name)
        for former in list(self._joined.values()):
            if former is known or former.endpoint.address == own.address:
                self._forget(former, keep=known is former and former.endpoint.address == own.address)
        if known is None or known.endpoint.address != own.address:
            self._leases.take(own.address, own.name, own.tenant, own.app)

    def _forget(self, joined: Joined, *, keep: bool = False) -> None:
        """Forget a run, and give its address up unless the same instance keeps it."""
        del self._joined[joined.endpoint.name]
        os.close(joined.pidfd)
        if not keep:
            self._stale.add(joined.endpoint.address)
            self._unlogged.pop(joined.endpoint.address, None)
            self._leases.give_up(joined.endpoint.address)

    def _forget_stale(self, address: str) -> None:
        """Have the kernel forget an address's connections if they are stale. It searches its whole table, for 20 ms."""
        with self._forgetting:
            if address in self._stale:
                forget_connections(address)
                self._stale.discard(address)

    def _put(self, firewall: Firewall, endpoint: Endpoint) -> bool:
        try:
            return firewall.put(endpoint)
        except HostError as error:
            # Somebody may have taken the tables away a moment ago.
            LOG.warning("the firewall is made again: %s", error)
            self._rebuild(firewall)
            return True

    def _drop(self, firewall: Firewall, name: str) -> None:
        try:
            firewall.drop(name)
        except HostError as error:  # the tables are gone, and the guard makes them again without it
            LOG.warning("%s cannot be taken out of the firewall: %s", name, error)

    def _rebuild(self, firewall: Firewall) -> None:
        if self._firewall is not None:
            self._count_unlogged(self._firewall)
        firewall.rebuild(self._endpoints())
        self._unlogged.clear()  # the kernel counts anew

    def _endpoints(self) -> list[Endpoint]:
        return [joined.endpoint for joined in self._joined.values()]

    def _addresses(self) -> list[str]:
        return [endpoint.address for endpoint in self._endpoints()]

    def _ready(self) -> Firewall:
        """Return the firewall for the bridge as it is. Raises HostError where there is no such bridge."""
        bridge = self.settings.bridge
        address, network, mac = bridge_address(bridge)
        if self._firewall is None or self._ground != (address, str(network), mac):
            if pin_address(bridge):
                LOG.info("%s keeps its hardware address %s from now on", bridge, mac)
            resolvers = self.settings.resolvers or read_resolvers()
            firewall = Firewall(self.settings, resolvers, network, mac)
            self._trusted = self._trusted and firewall.stands()
            self._rebuild(firewall)
            for name in apply_settings(bridge):
                LOG.info("%s is set", name)
            if not self._trusted and self._joined:
                ended = forget_connections_since(0, self._addresses())
                LOG.warning("the firewall was gone, nobody knows since when: all %d connections of tenants end", ended)
            self._trusted = True
            self._firewall, self._ground = firewall, (address, str(network), mac)
        return self._firewall

    # Reading back.

    def checks(self, spec: Spec) -> list[Check]:
        """Read back what is declared for an instance that runs, without changing anything."""
        if spec.network_mode == NONE:
            return []
        joined, firewall = self._joined.get(spec.name), self._firewall
        if joined is None or firewall is None:
            return [Check("network", "in force", "not known to the agent", holds=False)]
        return self._read(spec, joined, firewall)

    def _read(self, spec: Spec, joined: Joined, firewall: Firewall) -> list[Check]:
        held = read_shape(joined.attachment)
        declared = endpoint_of(spec, joined.attachment)
        broken = broken_settings(self.settings.bridge)
        return [
            _rate_check("network.ingress", spec.network.ingress, held.ingress),
            _rate_check("network.egress", spec.network.egress, held.egress),
            _flag_check("network.isolated", holds=is_isolated(joined.attachment.port)),
            Check("network.forwarding", "set", ", ".join(broken) + " is not" if broken else "set", not broken),
            *firewall.checks(declared),
        ]

    # Again and again.

    def rebuild(self, well: float) -> int:
        """Make both tables anew, whatever has become of them, and end what may have slipped through meanwhile.

        `well` is when they were last as they should be, by the clock and in seconds: connections that began later
        end. Return how many there were.
        """
        with self._lock:
            if not self.in_force:
                self._ready()
            elif self._firewall is not None:
                self._rebuild(self._firewall)
            return forget_connections_since(well, self._addresses()) if self._joined else 0

    def differences(self) -> list[str]:
        """Return what of the tables is not as it should be."""
        with self._lock:
            return [] if self._firewall is None else self._firewall.differences()

    def tidy(self) -> Iterator[str]:
        """Take away what has been left, and say what was found; put the bridge's settings right."""
        for name in [name for name, joined in list(self._joined.items()) if joined.ended]:
            self.leave(name)
        with self._lock:
            if self._firewall is not None:
                self._count_unlogged(self._firewall)
                for name in self._firewall.endpoints.keys() - self._joined.keys():
                    self._drop(self._firewall, name)
                yield from (f"{name} was not set" for name in apply_settings(self.settings.bridge))
        for port in leftovers(present_links()):
            release(port)
            yield f"what was left of port {port} is removed"

    def _count_unlogged(self, firewall: Firewall) -> None:
        """Write down how many connections the log's bound has kept out of it since the last time."""
        try:
            for address, count in firewall.unlogged().items():
                new = count - self._unlogged.get(address, 0)
                if new > 0:
                    self._leases.count_unlogged(address, new)
                self._unlogged[address] = count
        except (BaileyError, OSError) as error:  # the tables are gone, which the guard knows, or there is no room
            LOG.info("what was not logged cannot be counted: %s", error)


def present_links() -> set[str]:
    """Return the names of the host's links: a device of ours whose port is none of them serves nobody."""
    return {name for _, name in socket.if_nameindex()}


def endpoint_of(spec: Spec, attachment: Attachment) -> Endpoint:
    """Return an instance as the firewall knows it."""
    return Endpoint(
        name=spec.name,
        tenant=spec.tenant,
        app=spec.app,
        address=attachment.address,
        mac=attachment.mac,
        port=attachment.port,
        network=spec.network,
        published=tuple(sorted({(port.protocol, port.target) for port in spec.ports})),
    )


def _rate_check(field: str, declared: int | None, held: int | None) -> Check:
    return Check(field, _rate(declared), _rate(held), declared == held)


def _rate(rate: int | None) -> str:
    return UNLIMITED if rate is None else format_rate(rate)


def _flag_check(field: str, *, holds: bool) -> Check:
    return Check(field, "true", "true" if holds else "false", holds)
