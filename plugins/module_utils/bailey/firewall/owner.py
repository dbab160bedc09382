"""The one writer of both tables: each change is one transaction, and what stands is read back from the kernel."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network

from ..enforcement import Check
from ..errors import HostError
from ..host.netlink import NetlinkError
from ..host.nft import Nft
from ..host.nft_read import TableReader, digest
from ..network_settings import NetworkSettings
from .checks import BASE_CHAINS, Reading, endpoint_checks, tables_check
from .model import Model
from .policy import INET, Endpoint, bound_chain, part_of
from .readback import FAMILIES, describe_key, differences, meant_contents
from .skeleton import BRIDGE_META_PROBE, Ground, clear, render


class Firewall:
    """Both tables of one host, in the network namespace that it was made in. For several threads.

    `resolvers` are addresses at which every container may ask for names; `network` and `bridge_mac` are the bridge's.
    """

    def __init__(
        self, settings: NetworkSettings, resolvers: Sequence[str], network: IPv4Network, bridge_mac: str
    ) -> None:
        self._settings = settings
        self._nft = Nft()
        ground = Ground(network, bridge_mac, tells_bridge=self._nft.accepts(BRIDGE_META_PROBE))
        self._skeleton = render(settings, resolvers, ground)
        self._reader = TableReader(settings.table)
        self._model = Model(settings)
        # By family and chain: what the kernel made of the rules when they were put there.
        self._digests: dict[tuple[str, str], bytes] = {}
        # Which of the shared chains were not as they should be, and at which generation of the kernel's rules that was.
        self._broken: list[tuple[str, str]] = []
        self._seen = -1
        self._compared = -1  # the generation at which the whole of both tables was found to be as it should be
        self._lock = threading.Lock()

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """What is in force, by name."""
        with self._lock:
            return dict(self._model.endpoints)

    def stands(self) -> bool:
        """Say whether what every packet passes is there, of this writer or of one before it."""
        with self._lock:
            return all(
                self._reader.rules(FAMILIES[family], chain)
                for family, chains in BASE_CHAINS.items()
                for chain in chains
            )

    def rebuild(self, endpoints: Iterable[Endpoint]) -> None:
        """Make both tables anew in one transaction, whatever was there: never a moment without them where they were.

        Of two with the same name, address or port the later one counts. Raises HostError where nftables refuses.
        """
        model = Model(self._settings)
        for item in endpoints:
            model.swap(model.in_the_way(item), [item])
        with self._lock:
            self._nft.run(clear(self._settings.table) + self._meant(model))
            self._model, self._seen = model, -1
            self._digests.clear()
            self._note(self._shared())
            self._note((INET, chain) for item in model.endpoints for chain in model.part(item).chains)

    def put(self, endpoint: Endpoint) -> bool:
        """Have an endpoint in force, in place of all that had its name, its address or its port.

        Say whether anything had to change. Raises HostError where nftables refuses; nothing has changed then.
        """
        with self._lock:
            if self._model.endpoints.get(endpoint.name) == endpoint:
                return False
            self._change(self._model.in_the_way(endpoint), [endpoint])
            part = self._model.part(endpoint.name)
            self._note((INET, chain) for chain in (*part.chains, bound_chain(part.bound)))
            return True

    def drop(self, name: str) -> None:
        """Take an endpoint out; nothing happens where there is none of that name. Raises HostError as put does."""
        with self._lock:
            if name in self._model.endpoints:
                self._change([self._model.endpoints[name]], [])

    def remove(self) -> None:
        """Take both tables away, and all endpoints with them."""
        with self._lock:
            self._nft.run(clear(self._settings.table))
            self._model, self._seen = Model(self._settings), -1
            self._digests.clear()

    def _change(self, leaving: Sequence[Endpoint], coming: Sequence[Endpoint]) -> None:
        for item in leaving:
            for chain in self._model.part(item.name).chains:
                self._digests.pop((INET, chain), None)
        commands = self._model.change(leaving, coming)
        before = self._reader.generation()
        try:
            self._nft.run(commands)
        except HostError:
            self._model.swap(coming, leaving)
            raise
        if before == self._seen and self._reader.generation() == before + 1:
            self._seen += 1  # nobody else was in between

    def _meant(self, model: Model) -> str:
        """Return the commands that make all that is meant where nothing is."""
        return self._skeleton + Model(self._settings).change([], list(model.endpoints.values()))

    def _shared(self) -> list[tuple[str, str]]:
        """Return the chains that every packet passes, and those that several endpoints share, with their families."""
        base = [(family, chain) for family, chains in BASE_CHAINS.items() for chain in chains]
        return base + [(INET, bound_chain(bound)) for bound in self._model.bounds]

    def _note(self, chains: Iterable[tuple[str, str]]) -> None:
        for family, chain in chains:
            self._digests[family, chain] = digest(self._reader.rules(FAMILIES[family], chain))

    # Reading back.

    def checks(self, endpoint: Endpoint) -> list[Check]:
        """Read back from the kernel what stands for an endpoint, in well under a millisecond however many there are."""
        with self._lock:
            known = self._model.endpoints.get(endpoint.name) == endpoint
            part = self._model.part(endpoint.name) if known else part_of(endpoint, self._settings)
            reading = Reading(self._reader, self._digests, self._look_at_shared())
            return [tables_check(reading), *endpoint_checks(reading, endpoint, part, self._model.joined(part))]

    def _look_at_shared(self) -> list[tuple[str, str]]:
        """Return the shared chains that are not as they should be. They are read again when any rule has changed."""
        generation = self._reader.generation()
        if generation != self._seen:
            reading = Reading(self._reader, self._digests, [])
            self._broken = [place for place in self._shared() if not reading.stands(*place)]
            self._seen = generation
        return self._broken

    def differences(self) -> list[str]:
        """Compare the whole of both tables with what is meant, and return what differs. See meant_contents.

        Where no rule of this network namespace has changed since they were last found to be alike, nothing is read.
        """
        with self._lock:
            generation = self._reader.generation()
            if generation == self._compared:
                return []
            commands = self._meant(self._model)
            held = {name: self._reader.contents(family) for name, family in FAMILIES.items()}
        table = self._settings.table
        meant = meant_contents(table, commands)
        found = [line for name in FAMILIES for line in differences(f"{name} {table}", meant[name], held[name])]
        self._compared = -1 if found else generation
        return found

    def unlogged(self) -> dict[str, int]:
        """Return by address how many packets were not logged, for the bound on the log's rate, since it is in force."""
        with self._lock:
            try:
                found = self._reader.all_elements(FAMILIES[INET], "unlogged")
            except NetlinkError as error:
                raise HostError(f"nftables: what was not logged cannot be read: {error.strerror}") from error
        return {describe_key("unlogged", item.key): item.packets for item in found}


def remove_tables(table: str) -> bool:
    """Take both tables of a name away, and say whether there were any."""
    nft, removed = Nft(), False
    for family in FAMILIES:
        try:
            nft.run(f"delete table {family} {table}")
        except HostError:  # it is not there
            continue
        removed = True
    return removed
