"""What is meant to be in force, and the commands from one such state to the next.

An endpoint has elements and chains of its own. Two things are shared, and stand as long as somebody needs them: the
set of an app's or a tenant's addresses, needed by rules that speak of it, and the chain that bounds connections to a
number, needed by everybody with that number.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..network_settings import NetworkSettings
from .policy import INET, Element, Endpoint, Part, bound_chain, bound_rules, bound_set, part_of

_QUOTED = ("ports", "neighbours")  # sets whose key begins with an interface's name


@dataclass(frozen=True)
class _View:
    """What a change concerns, before it or after it."""

    elements: frozenset[Element]
    chains: dict[str, tuple[str, ...]]
    sets: frozenset[str]
    bounds: frozenset[int]


class Model:
    """The endpoints in force on one host."""

    def __init__(self, settings: NetworkSettings) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self._settings = settings
        self._parts: dict[str, Part] = {}
        self._by_address: dict[str, str] = {}
        self._by_port: dict[str, str] = {}
        # What has gone leaves an empty set and a zero: as many as there ever were apps, and no more.
        self._members: defaultdict[str, set[str]] = defaultdict(set)
        self._needs: Counter[str] = Counter()
        self._bounds: Counter[int] = Counter()

    def in_the_way(self, endpoint: Endpoint) -> list[Endpoint]:
        """Return those that have an endpoint's name, address or port."""
        address, port = self._by_address.get(endpoint.address), self._by_port.get(endpoint.port)
        names = dict.fromkeys((endpoint.name, address, port))
        return [self.endpoints[name] for name in names if name is not None and name in self.endpoints]

    def part(self, name: str) -> Part:
        """Return what stands for an endpoint."""
        return self._parts[name]

    @property
    def bounds(self) -> list[int]:
        """The numbers of connections that somebody is bound to."""
        return sorted(+self._bounds)

    def joined(self, part: Part) -> list[str]:
        """Return the shared sets in which an endpoint stands: those that somebody needs."""
        return sorted(name for name in part.joins if self._needs[name])

    def change(self, leaving: Sequence[Endpoint], coming: Sequence[Endpoint]) -> str:
        """Take endpoints out and put others in; return the commands that make the tables follow."""
        parts = [self._parts[item.name] for item in leaving] + [part_of(item, self._settings) for item in coming]
        sets = frozenset().union(*(part.needs | part.joins for part in parts))
        bounds = {part.bound for part in parts}
        before = self._view(leaving, sets, bounds)
        self.swap(leaving, coming)
        after = self._view(coming, sets, bounds)
        kept = {(item.name, item.address) for item in coming}
        gone = {item.address for item in leaving if (item.name, item.address) not in kept}
        return "\n".join([*self._commands(before, after), *self._forget(gone), ""])

    def swap(self, leaving: Iterable[Endpoint], coming: Iterable[Endpoint]) -> None:
        """Take endpoints out and put others in."""
        for item in leaving:
            self._take(item)
        for item in coming:
            self._put(item)

    def _put(self, item: Endpoint) -> None:
        part = part_of(item, self._settings)
        self.endpoints[item.name], self._parts[item.name] = item, part
        self._by_address[item.address] = self._by_port[item.port] = item.name
        for name in part.joins:
            self._members[name].add(item.address)
        self._needs.update(part.needs)
        self._bounds[part.bound] += 1

    def _take(self, item: Endpoint) -> None:
        part = self._parts.pop(item.name)
        del self.endpoints[item.name], self._by_address[item.address], self._by_port[item.port]
        for name in part.joins:
            self._members[name].discard(item.address)
        self._needs.subtract(part.needs)
        self._bounds[part.bound] -= 1

    def _view(self, endpoints: Iterable[Endpoint], sets: Iterable[str], bounds: Iterable[int]) -> _View:
        parts = [self._parts[item.name] for item in endpoints]
        needed = frozenset(name for name in sets if self._needs[name])
        members = (Element(INET, name, (address,)) for name in needed for address in self._members.get(name, ()))
        return _View(
            elements=frozenset().union(members, *(part.elements for part in parts)),
            chains={name: rules for part in parts for name, rules in part.chains.items()},
            sets=needed,
            bounds=frozenset(bound for bound in bounds if self._bounds[bound]),
        )

    # A transaction is checked as a whole, but each of its commands by what the ones before it have made: what leads to
    # a chain or set goes before it, and comes after it.

    def _commands(self, before: _View, after: _View) -> Iterator[str]:
        table = f"{INET} {self._settings.table}"
        unneeded = before.sets - after.sets
        yield from self._each("delete", {item for item in before.elements - after.elements if item.set not in unneeded})
        yield from (f"add set {table} {name} {{ type ipv4_addr; }}" for name in sorted(after.sets - before.sets))
        for bound in sorted(after.bounds - before.bounds):
            yield f"add set {table} {bound_set(bound)} {{ type ipv4_addr; flags dynamic; size 65535; }}"
            yield from _chain(table, bound_chain(bound), bound_rules(bound))
        for name, rules in after.chains.items():
            if name in before.chains and before.chains[name] != rules:
                yield f"flush chain {table} {name}"
            if before.chains.get(name) != rules:
                yield from _chain(table, name, rules)
        yield from self._each("add", after.elements - before.elements)
        yield from (f"delete chain {table} {name}" for name in before.chains.keys() - after.chains.keys())
        yield from (f"delete set {table} {name}" for name in sorted(unneeded))
        for bound in sorted(before.bounds - after.bounds):
            yield f"delete chain {table} {bound_chain(bound)}"
            yield f"delete set {table} {bound_set(bound)}"

    def _each(self, verb: str, elements: Iterable[Element]) -> Iterator[str]:
        """Yield a command for each set that gets or loses elements."""
        by_set: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for item in sorted(elements):
            key = " . ".join((f'"{item.key[0]}"', *item.key[1:])) if item.set in _QUOTED else " . ".join(item.key)
            by_set[item.family, item.set].append(key + item.value if verb == "add" else key)
        for (family, name), items in by_set.items():
            yield f"{verb} element {family} {self._settings.table} {name} {{ {', '.join(items)} }}"

    def _forget(self, addresses: Iterable[str]) -> Iterator[str]:
        """Yield the commands that end an address's count of what was not logged: added first, it is surely there."""
        for address in sorted(addresses):
            for verb in ("add", "delete"):
                yield f"{verb} element {INET} {self._settings.table} unlogged {{ {address} }}"


def _chain(table: str, name: str, rules: Iterable[str]) -> Iterator[str]:
    yield f"add chain {table} {name}"
    yield from (f"add rule {table} {name} {rule}" for rule in rules)
