"""One endpoint as the kernel holds it, against what is declared: a handful of elements and chains, each looked up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..enforcement import Check
from ..host.nft_read import Element as Held
from ..host.nft_read import TableReader, digest
from .policy import BRIDGE, INET, MAPS, Element, Endpoint, Part, bound_chain, chain_of
from .readback import FAMILIES, key_of

# What every packet passes first; without one of them nothing else counts.
BASE_CHAINS = {
    INET: ("prerouting", "forward_egress", "forward_ingress", "input"),
    BRIDGE: ("prerouting", "input", "forward", "output"),
}
_ABSENT, _IN_FORCE, _NONE = "absent", "in force", "none"


@dataclass(frozen=True)
class Reading:
    """The kernel's tables, and by family and chain the digests of what it made of the rules that were put there.

    `broken` are the shared chains that have not the rules that were put there.
    """

    reader: TableReader
    digests: Mapping[tuple[str, str], bytes]
    broken: Sequence[tuple[str, str]]

    def element(self, element: Element) -> Held | None:
        """Look an element up by its key."""
        return self.reader.element(FAMILIES[element.family], element.set, key_of(element))

    def stands(self, family: str, chain: str) -> bool:
        """Say whether a chain has the very rules that were put there."""
        return self.digests.get((family, chain)) == digest(self.reader.rules(FAMILIES[family], chain))


def tables_check(reading: Reading) -> Check:
    """Compare the chains that every packet passes."""
    wrong = [f"{family} {chain}" for family, chain in reading.broken if chain in BASE_CHAINS[family]]
    return Check("network.tables", _IN_FORCE, f"without {', '.join(wrong)}" if wrong else _IN_FORCE, not wrong)


def endpoint_checks(reading: Reading, endpoint: Endpoint, part: Part, joined: Sequence[str]) -> Iterator[Check]:
    """Compare what stands for an endpoint; `joined` are the shared sets that it is to be in."""
    held = {element: reading.element(element) for element in part.elements}
    yield _source_check(endpoint, held)
    yield _rate_check(part, held)
    yield _bound_check(reading, part, held)
    yield _rules_check(reading, endpoint, part)
    members = [name for name in joined if reading.element(Element(INET, name, (endpoint.address,)))]
    yield _list_check("network.peers", joined, members)
    published = sorted((element for element in held if element.set == "published"), key=lambda item: item.key)
    there = [element for element in published if held[element]]
    yield _list_check(
        "network.published", *(["/".join(item.key[1:]) for item in items] for items in (published, there))
    )


def _source_check(endpoint: Endpoint, held: Mapping[Element, Held | None]) -> Check:
    source = f"{endpoint.port} {endpoint.mac} {endpoint.address}"
    known = all(found for element, found in held.items() if element.set in ("instances", "ports", "neighbours"))
    return Check("network.source", source, source if known else "not known", known)


def _rate_check(part: Part, held: Mapping[Element, Held | None]) -> Check:
    found = next(found for element, found in held.items() if element.set == "rates")
    declared, enforced = str(part.rate), str(found.rate) if found and found.rate else _ABSENT
    return Check("network.new_connections", declared, enforced, declared == enforced)


def _bound_check(reading: Reading, part: Part, held: Mapping[Element, Held | None]) -> Check:
    chain = bound_chain(part.bound)
    found = next(found for element, found in held.items() if element.set == "connections")
    holds = found is not None and found.chain == chain and (INET, chain) not in reading.broken
    enforced = str(part.bound) if holds else found.chain if found and found.chain != chain else _ABSENT
    return Check("network.connections", str(part.bound), enforced, holds)


def _rules_check(reading: Reading, endpoint: Endpoint, part: Part) -> Check:
    wrong: dict[str, None] = {}
    kinds = {element.set for element in part.elements}
    for kind in MAPS:
        chain = chain_of(kind, endpoint.name)
        found = reading.element(Element(INET, kind, (endpoint.address,)))
        leads = "" if found is None else found.chain
        if leads != (chain if kind in kinds else "") or (leads and not reading.stands(INET, chain)):
            wrong[chain] = None
    declared = f"{sum(map(len, part.chains.values()))} rules"
    return Check("network.rules", declared, f"others in {', '.join(wrong)}" if wrong else declared, not wrong)


def _list_check(field: str, declared: Sequence[str], enforced: Sequence[str]) -> Check:
    return Check(field, ", ".join(declared) or _NONE, ", ".join(enforced) or _NONE, list(declared) == list(enforced))
