"""What all tenants of a host may do on the network: /etc/bailey/network.json, parsed once, a default for all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import NamedTuple

from .errors import HostError, InvalidValueError
from .fields import Fields
from .network import CONNECTIONS_MAX, TCP, UDP, parse_cidr, parse_ipv4_address, parse_port
from .units import parse_count

VERSION = 1
# The name that an operator looks for in `nft list tables`.
TABLE = "bailey"
# The engine's default bridge, which every container gets unless somebody says otherwise.
BRIDGE = "docker0"
# Networks that are somebody's inside, or nobody's: this network, private ones, carriers' address translation, the host
# itself, the link with the clouds' metadata, protocols' own, benchmarks', multicast, and what is reserved.
DENIED_NETWORKS = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
)  # fmt: skip
# Mail: whoever sends spam has every address of the host on every list of spammers within a day.
DENIED_PORTS = (25, 465, 587)
# A second: enough for a busy web application, and too few for a scan of ports that is worth its time.
NEW_CONNECTIONS = 50
# At a time: the kernel's table of connections is shared, and its usual 262,144 entries hold 256 tenants at their bound.
CONNECTIONS = 1024
# No other logger of a Debian host listens here: they keep to the first few.
LOG_GROUP = 6464
# Lines a second for each address, and how many at once above that: a page's worth of connections is logged, a scan is
# counted and does not fill the log.
LOG_RATE, LOG_BURST = 20, 100

_FIELDS = (
    "version", "table", "bridge", "resolvers", "services", "denied_networks", "denied_ports", "new_connections",
    "connections", "log_group", "log_rate", "log_burst",
)  # fmt: skip
_TABLE = re.compile(r"[a-z][a-z0-9_-]{0,30}")
# dev_valid_name() in net/core/dev.c takes more; what is left out here means something to nft or to sysctl.
_BRIDGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_GROUP_MAX = 65_535  # NFLOG's group has 16 bits
_LOG_MAX = 100_000  # more a second no reader of the log keeps up with


class Service(NamedTuple):
    """A service of the host itself that every tenant may reach."""

    address: str
    protocol: str
    port: int


@dataclass(frozen=True)
class NetworkSettings:
    """One host's settings; `resolvers` empty stands for those that the engine hands to its containers.

    `new_connections` and `connections` hold for each instance that declares none of its own: a second, and at a time.
    `log_rate` is lines a second of each address, `log_burst` how many may come at once above that.
    """

    table: str
    bridge: str
    resolvers: tuple[str, ...]
    services: tuple[Service, ...]
    denied_networks: tuple[IPv4Network, ...]
    denied_ports: tuple[int, ...]
    new_connections: int
    connections: int
    log_group: int
    log_rate: int
    log_burst: int


def parse_network_settings(content: object, where: str) -> NetworkSettings:
    """Read the file's content; what it does not say has its default.

    Raises InvalidValueError naming the first field that is unknown or not valid.
    """
    fields = Fields(where, content, _FIELDS)
    parse_count(fields.path("version"), fields.get("version", VERSION), VERSION, VERSION)
    return NetworkSettings(
        table=_matching(fields, "table", TABLE, _TABLE, "1 to 31 of a-z, 0-9, _ and -, a letter first"),
        bridge=_matching(fields, "bridge", BRIDGE, _BRIDGE, "an interface's name, 1 to 15 of A-Z, a-z, 0-9, _ . and -"),
        resolvers=tuple(
            dict.fromkeys(parse_ipv4_address(*item, "an IPv4 address") for item in _each(fields, "resolvers"))
        ),
        services=tuple(dict.fromkeys(_parse_service(*item) for item in _each(fields, "services"))),
        denied_networks=_parse_denied_networks(fields),
        denied_ports=tuple(sorted({parse_port(*item) for item in _each(fields, "denied_ports", DENIED_PORTS)})),
        new_connections=_count(fields, "new_connections", NEW_CONNECTIONS, CONNECTIONS_MAX),
        connections=_count(fields, "connections", CONNECTIONS, CONNECTIONS_MAX),
        log_group=_count(fields, "log_group", LOG_GROUP, _GROUP_MAX),
        log_rate=_count(fields, "log_rate", LOG_RATE, _LOG_MAX),
        log_burst=_count(fields, "log_burst", LOG_BURST, _LOG_MAX),
    )


def read_network_settings(path: Path) -> NetworkSettings:
    """Read the file. Raises HostError where it cannot be read, InvalidValueError where a value of it is not valid."""
    try:
        content: object = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise HostError(f"{path}: the network's settings cannot be read ({error}); role network writes them") from error
    return parse_network_settings(content, str(path))


def _each(fields: Fields, key: str, default: Iterable[object] = ()) -> list[tuple[str, object]]:
    """Return the items of a list, each after its place. A list that is there and empty is empty, not the default."""
    given = fields.items(key) if key in fields else default
    return [(f"{fields.path(key)}[{number}]", item) for number, item in enumerate(given)]


def _matching(fields: Fields, key: str, default: str, pattern: re.Pattern[str], allowed: str) -> str:
    value = fields.get(key, default)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidValueError(fields.path(key), value, allowed)
    return value


def _count(fields: Fields, key: str, default: int, maximum: int) -> int:
    return parse_count(fields.path(key), fields.get(key, default), 1, maximum)


def _parse_denied_networks(fields: Fields) -> tuple[IPv4Network, ...]:
    """Read the networks in order, without those that lie inside another: the kernel's sets take none twice."""
    networks = {parse_cidr(*item) for item in _each(fields, "denied_networks", DENIED_NETWORKS)}
    inside = {item for item in networks for other in networks if item != other and item.subnet_of(other)}
    return tuple(sorted(networks - inside))


def _parse_service(path: str, value: object) -> Service:
    fields = Fields(path, value, Service._fields)
    allowed = "an IPv4 address of the host at which its tenants find it"
    return Service(
        parse_ipv4_address(fields.path("address"), fields.required("address", allowed), allowed),
        fields.choice("protocol", (TCP, UDP), TCP),
        parse_port(fields.path("port"), fields.required("port", "a port number")),
    )
