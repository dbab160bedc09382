"""What an instance's network may carry: bandwidth both ways, bounds on its connections, rules for who talks to whom.

A rule is asked where a connection begins, from the side of the instance that declares it: `egress` is what it opens,
`ingress` is what others open to it. Answers pass by themselves. Tenants have IPv4 alone.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from .changes import Json
from .errors import InvalidValueError
from .fields import Fields
from .limits import UNLIMITED
from .names import parse_name
from .units import format_rate, parse_count, parse_rate

ALLOW, DENY = "allow", "deny"
EGRESS, INGRESS = "egress", "ingress"
ANY, TCP, UDP, ICMP = "any", "tcp", "udp", "icmp"

# Addresses of the link alone, among them those at which clouds hand out credentials. No rule opens them.
LINK_LOCAL = ipaddress.IPv4Network("169.254.0.0/16")
# A bound against mistakes: what one instance's rules cost grows with their number, every packet's way does not.
RULES_MAX = 256
# Ports and ranges of ports in one rule.
PORTS_MAX = 64
# The kernel counts connections in 32 bits; beyond this its own table of them is full anyway.
CONNECTIONS_MAX = 1_000_000

_FIELDS = ("ingress", "egress", "new_connections", "connections", "same_tenant", "rules")
_RULE_FIELDS = ("action", "direction", "cidr", "app", "host", "protocol", "ports")
_CIDR = re.compile(r"[0-9.]{7,15}(?:/[0-9]{1,2})?")
_CIDR_ALLOWED = "an IPv4 network or address, such as 10.1.0.0/16 or 10.1.2.3"
_IPV4_ALONE = "IPv4 alone: tenants have no IPv6"
_RANGE = re.compile(r"(?P<first>[0-9]{1,5})-(?P<last>[0-9]{1,5})")
_PORT_LAST = 65535


class AppRef(NamedTuple):
    """An app of a tenant; in a rule it stands for all its instances on the host."""

    tenant: str
    app: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.app}"


class PortRange(NamedTuple):
    """Ports from the first to the last, both included."""

    first: int
    last: int

    def declared(self) -> int | str:
        """Return it as a declaration has it."""
        return self.first if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True)
class Rule:
    """One decision on connections. Exactly one of `cidr`, `app` and `host` says who the other side is.

    `ports` are the destination's, in order, none in another; empty: all of them.
    """

    action: str
    direction: str = EGRESS
    cidr: ipaddress.IPv4Network | None = None
    app: AppRef | None = None
    host: bool = False
    protocol: str = ANY
    ports: tuple[PortRange, ...] = ()

    def canonical(self) -> dict[str, Json]:
        """Return the declaration that parses to exactly this rule."""
        declared: dict[str, Json] = {"action": self.action, "direction": self.direction, "protocol": self.protocol}
        if self.cidr is not None:
            declared["cidr"] = str(self.cidr)
        if self.app is not None:
            declared["app"] = str(self.app)
        if self.host:
            declared["host"] = True
        if self.ports:
            declared["ports"] = [item.declared() for item in self.ports]
        return declared


@dataclass(frozen=True)
class Network:
    """One instance's network. Rates are bits a second, None: not limited.

    `new_connections` is a second, `connections` at a time; None: as many as the host gives to each.
    """

    ingress: int | None = None
    egress: int | None = None
    new_connections: int | None = None
    connections: int | None = None
    same_tenant: bool = False
    rules: tuple[Rule, ...] = field(default=())

    def canonical(self) -> dict[str, Json]:
        """Return the declaration that parses to exactly this, with every default that is its own written out."""
        declared: dict[str, Json] = {
            "ingress": _format_rate(self.ingress),
            "egress": _format_rate(self.egress),
            "same_tenant": self.same_tenant,
            "rules": [rule.canonical() for rule in self.rules],
        }
        if self.new_connections is not None:
            declared["new_connections"] = self.new_connections
        if self.connections is not None:
            declared["connections"] = self.connections
        return declared


def parse_network(path: str, value: object, tenant: str) -> Network:
    """Read a declaration; `tenant` is the instance's own, whose apps a rule may name without saying so.

    Raises InvalidValueError naming the first field that is unknown, missing or not valid.
    """
    fields = Fields(path, {} if value is None else value, _FIELDS)
    rules = fields.items("rules")
    if len(rules) > RULES_MAX:
        raise InvalidValueError(fields.path("rules"), f"{len(rules)} rules", f"at most {RULES_MAX}")
    return Network(
        ingress=_parse_rate(fields, "ingress"),
        egress=_parse_rate(fields, "egress"),
        new_connections=_parse_connections(fields, "new_connections"),
        connections=_parse_connections(fields, "connections"),
        same_tenant=fields.flag("same_tenant", default=False),
        rules=tuple(
            _parse_rule(f"{fields.path('rules')}[{number}]", item, tenant) for number, item in enumerate(rules)
        ),
    )


def parse_cidr(path: str, value: object) -> ipaddress.IPv4Network:
    """Read an IPv4 network, or an address, which is a network of one. Bits of the host are refused, not cut off."""
    if isinstance(value, str) and ":" in value:
        raise InvalidValueError(path, value, _IPV4_ALONE)
    if not isinstance(value, str) or not _CIDR.fullmatch(value):
        raise InvalidValueError(path, value, _CIDR_ALLOWED)
    try:
        given = ipaddress.IPv4Interface(value)
    except ValueError:
        raise InvalidValueError(path, value, _CIDR_ALLOWED) from None
    if given.ip != given.network.network_address:
        allowed = f"{given.network} for the network that it is in, or {given.ip}/32 for the address alone"
        raise InvalidValueError(path, value, allowed)
    return given.network


def parse_ipv4_address(path: str, value: object, allowed: str) -> str:
    """Read an IPv4 address that one machine can have. `allowed` says what is asked for."""
    if isinstance(value, str) and ":" in value:
        raise InvalidValueError(path, value, f"{allowed}; {_IPV4_ALONE}")
    try:
        address = ipaddress.IPv4Address(value if isinstance(value, str) else "")
    except ValueError:
        raise InvalidValueError(path, value, allowed) from None
    if address.is_unspecified or address.is_multicast or address.is_loopback or address.is_reserved:
        raise InvalidValueError(path, value, f"{allowed}; none that is loopback, multicast or reserved")
    return str(address)


def parse_port(path: str, value: object) -> int:
    """Read the number of a port."""
    return parse_count(path, value, 1, _PORT_LAST)


def _parse_rate(fields: Fields, key: str) -> int | None:
    given = fields.get(key)
    return None if given is None or given == UNLIMITED else parse_rate(fields.path(key), given)


def _format_rate(rate: int | None) -> str:
    return UNLIMITED if rate is None else format_rate(rate)


def _parse_connections(fields: Fields, key: str) -> int | None:
    return parse_count(fields.path(key), fields.get(key), 1, CONNECTIONS_MAX) if key in fields else None


def _parse_rule(path: str, value: object, tenant: str) -> Rule:
    fields = Fields(path, value, _RULE_FIELDS)
    fields.required("action", f"{ALLOW} or {DENY}")
    rule = Rule(
        action=fields.choice("action", (ALLOW, DENY), ""),
        direction=fields.choice("direction", (EGRESS, INGRESS), EGRESS),
        cidr=parse_cidr(fields.path("cidr"), fields.get("cidr")) if "cidr" in fields else None,
        app=_parse_app(fields.path("app"), fields.get("app"), tenant) if "app" in fields else None,
        host=fields.flag("host", default=False),
        protocol=fields.choice("protocol", (ANY, TCP, UDP, ICMP), ANY),
        ports=_parse_ports(fields),
    )
    _check_rule(fields, rule)
    return rule


def _check_rule(fields: Fields, rule: Rule) -> None:
    """Refuse what contradicts itself, and what no rule may open."""
    sides = [key for key, given in (("cidr", rule.cidr), ("app", rule.app), ("host", rule.host)) if given]
    if len(sides) != 1:
        raise InvalidValueError(fields.where, ", ".join(sides) or "none of them", "exactly one of cidr, app and host")
    if rule.host and rule.direction != EGRESS:
        allowed = f"direction {EGRESS}: what comes from the host itself always passes"
        raise InvalidValueError(fields.path("host"), value=True, allowed=allowed)
    if rule.ports and rule.protocol not in (TCP, UDP):
        raise InvalidValueError(fields.path("ports"), fields.get("ports"), f"none but with protocol {TCP} or {UDP}")
    opens = rule.action == ALLOW and rule.direction == EGRESS
    if rule.cidr is not None and opens and rule.cidr.subnet_of(LINK_LOCAL):
        allowed = f"networks outside of {LINK_LOCAL}, where clouds hand out credentials: no rule opens that"
        raise InvalidValueError(fields.path("cidr"), str(rule.cidr), allowed)


def _parse_app(path: str, value: object, tenant: str) -> AppRef:
    allowed = "an app of its own tenant by name, such as web, or one of another as TENANT/APP"
    if not isinstance(value, str):
        raise InvalidValueError(path, value, allowed)
    owner, slash, app = value.rpartition("/")
    try:
        return AppRef(parse_name(path, owner) if slash else tenant, parse_name(path, app))
    except InvalidValueError:
        raise InvalidValueError(path, value, allowed) from None


def _parse_ports(fields: Fields) -> tuple[PortRange, ...]:
    """Read a list of ports and ranges, put in order; those that overlap become one."""
    path, given = fields.path("ports"), fields.items("ports")
    if "ports" in fields and not 1 <= len(given) <= PORTS_MAX:
        # An empty list is no way to say "all": whatever made it may have meant none.
        raise InvalidValueError(path, given, f"1 to {PORTS_MAX} ports or ranges; all ports where it is left out")
    ports: list[PortRange] = []
    for item in sorted(_parse_range(f"{path}[{number}]", item) for number, item in enumerate(given)):
        if ports and item.first <= ports[-1].last:
            ports[-1] = PortRange(ports[-1].first, max(ports[-1].last, item.last))
        else:
            ports.append(item)
    return tuple(ports)


def _parse_range(path: str, value: object) -> PortRange:
    match = _RANGE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        port = parse_port(path, value)
        return PortRange(port, port)
    first, last = parse_port(path, match["first"]), parse_port(path, match["last"])
    if last < first:
        raise InvalidValueError(path, value, f"a range that goes up, such as {last}-{first}")
    return PortRange(first, last)
