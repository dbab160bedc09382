"""One container in the tables: the elements and chains that stand for it, and the shared sets that it takes part in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import InvalidValueError
from ..network import ALLOW, ANY, AppRef, Network, Rule
from ..network_settings import NetworkSettings
from .skeleton import DENY_CONNECTIONS, DENY_EGRESS, DENY_INGRESS

INET, BRIDGE = "inet", "bridge"
# The maps that lead an address to its instance's own chains: of what leaves, of what enters, of what goes to the host.
MAPS = EGRESS, INGRESS, TOHOST = "egress", "ingress", "tohost"
# nft takes a star at a name's end for any end.
_PORT = re.compile(r"[A-Za-z0-9_.-]{1,15}")


@dataclass(frozen=True)
class Endpoint:
    """A running instance on the bridge: where it is, what is declared for it, what of it is published.

    `port` is the host's end of its pair; `published` are protocols and the container's own ports.
    """

    name: str
    tenant: str
    app: str
    address: str
    mac: str
    port: str
    network: Network
    published: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        if not _PORT.fullmatch(self.port):
            raise InvalidValueError("port", self.port, "an interface's name of 1 to 15 letters, digits, _ . and -")


class Element(NamedTuple):
    """An element of a named set or map: the parts of its key, and what follows the key in nft's words."""

    family: str
    set: str
    key: tuple[str, ...]
    value: str = ""


@dataclass(frozen=True)
class Part:
    """All that one endpoint has in the tables.

    `chains` are rules by the chain's name; `needs` are the sets that they speak of, `joins` those that it is a member
    of wherever they are needed; `rate` is new connections a second, `bound` the connections whose chain it shares.
    """

    elements: frozenset[Element]
    chains: dict[str, tuple[str, ...]]
    needs: frozenset[str]
    joins: frozenset[str]
    rate: int
    bound: int


class _Side(NamedTuple):
    """The other side of a connection: its address, how a packet tells that it is on the bridge, and where denied."""

    address: str
    bridge: str
    denial: str


def app_set(app: AppRef) -> str:
    """Return the name of the set of an app's instances. No name of a tenant or app has an underscore."""
    return f"app_{app.tenant}_{app.app}"


def tenant_set(tenant: str) -> str:
    """Return the name of the set of those of a tenant's instances that reach each other."""
    return f"tenant_{tenant}"


def bound_chain(bound: int) -> str:
    """Return the name of the chain that bounds connections to a number."""
    return f"connections_{bound}"


def bound_set(bound: int) -> str:
    """Return the name of the set in which the kernel counts for that chain."""
    return f"connected_{bound}"


def bound_rules(bound: int) -> tuple[str, ...]:
    """Return the rules of that chain."""
    return (f"add @{bound_set(bound)} {{ ip saddr ct count over {bound} }} goto {DENY_CONNECTIONS}",)


def part_of(endpoint: Endpoint, settings: NetworkSettings) -> Part:
    """Return what stands for an endpoint."""
    network, own = endpoint.network, AppRef(endpoint.tenant, endpoint.app)
    tenant = {tenant_set(endpoint.tenant)} if network.same_tenant else set()
    rules = _rules(endpoint, settings.bridge)
    rate = network.new_connections or settings.new_connections
    bound = network.connections or settings.connections
    return Part(
        elements=frozenset(_elements(endpoint, rate, bound, rules)),
        chains=_chains(endpoint, rules),
        needs=frozenset(tenant | {app_set(rule.app) for rule in network.rules if rule.app is not None}),
        joins=frozenset(tenant | {app_set(own)}),
        rate=rate,
        bound=bound,
    )


def _elements(endpoint: Endpoint, rate: int, bound: int, kinds: Iterable[str]) -> Iterator[Element]:
    key = (endpoint.address,)
    yield Element(INET, "instances", key)
    yield Element(INET, "rates", key, f" limit rate over {rate}/second burst {rate} packets")
    yield Element(INET, "connections", key, f" : jump {bound_chain(bound)}")
    for kind in kinds:
        yield Element(INET, kind, key, f" : jump {chain_of(kind, endpoint.name)}")
    for protocol, port in endpoint.published:
        yield Element(INET, "published", (endpoint.address, protocol, str(port)))
    yield Element(INET, "ports", (endpoint.port,))
    yield Element(BRIDGE, "ports", (endpoint.port,))
    yield Element(BRIDGE, "neighbours", (endpoint.port, endpoint.mac, endpoint.address))


def chain_of(kind: str, name: str) -> str:
    """Return the name of the chain that a map leads an instance's packets to.

    What leaves and what enters has one, not two: a change costs by the number of all chains, which libnftables reads
    and the kernel walks.
    """
    return f"{TOHOST if kind == TOHOST else 'policy'}_{name}"


def _rules(endpoint: Endpoint, bridge: str) -> dict[str, list[str]]:
    """Return the rules of an endpoint by the map that leads to them, of those that it has."""
    network, here = endpoint.network, f'name "{bridge}"'
    tenant = tenant_set(endpoint.tenant) if network.same_tenant else None
    outward = [rule for rule in network.rules if rule.direction == EGRESS and not rule.host]
    inward = [rule for rule in network.rules if rule.direction == INGRESS]
    out, in_ = _Side("daddr", f"oif{here}", DENY_EGRESS), _Side("saddr", f"iif{here}", DENY_INGRESS)
    found = {
        EGRESS: [*_peers(outward, tenant, out), *_networks(outward, out)],
        INGRESS: [*_peers(inward, tenant, in_), *_networks(inward, in_)],
        TOHOST: [line for rule in network.rules if rule.host for line in _lines(rule, "", DENY_EGRESS)],
    }
    return {kind: lines for kind, lines in found.items() if lines}


def _chains(endpoint: Endpoint, rules: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    """Return the rules by their chain; where two maps lead to one, each rule says whose packets it speaks of."""
    sides = {EGRESS: f"ip saddr {endpoint.address} ", INGRESS: f"ip daddr {endpoint.address} "}
    if not sides.keys() <= rules.keys():
        sides = {}
    found: dict[str, tuple[str, ...]] = {}
    for kind, lines in rules.items():
        chain = chain_of(kind, endpoint.name)
        found[chain] = (*found.get(chain, ()), *(sides.get(kind, "") + line for line in lines))
    return found


def _peers(rules: Iterable[Rule], tenant: str | None, side: _Side) -> Iterator[str]:
    """Yield the rules on other containers, and last what holds for those of its tenant that no rule speaks of."""
    for rule in rules:
        if rule.app is not None:
            yield from _lines(rule, f"ip {side.address} @{app_set(rule.app)} ", side.denial)
    if tenant is not None:
        yield f"ip {side.address} @{tenant} accept"


def _networks(rules: Iterable[Rule], side: _Side) -> Iterator[str]:
    """Yield the rules on networks, which speak of nothing that is on the bridge."""
    networks = [rule for rule in rules if rule.cidr is not None]
    if networks:
        yield f"{side.bridge} return"
    for rule in networks:
        # nft has no words for all addresses, and needs none.
        everybody = rule.cidr is None or rule.cidr.prefixlen == 0
        yield from _lines(rule, "" if everybody else f"ip {side.address} {rule.cidr} ", side.denial)


def _lines(rule: Rule, who: str, denial: str) -> Iterator[str]:
    """Yield a rule as nft has it, with a line for each range of ports: a set of them would cost every other change."""
    verdict = "accept" if rule.action == ALLOW else f"goto {denial}"
    if rule.ports:
        yield from (f"{who}{rule.protocol} dport {ports.declared()} {verdict}" for ports in rule.ports)
    elif rule.protocol == ANY:
        yield f"{who}{verdict}"
    else:
        yield f"{who}meta l4proto {rule.protocol} {verdict}"
