"""Ports of a container that are published on the host, in Compose's forms."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import NamedTuple

from .errors import InvalidValueError
from .fields import Fields
from .units import parse_count

_SHORT_PORT = re.compile(
    r"(?:(?P<ip>[0-9.]+|\[[0-9a-fA-F:.]+\]):)?(?P<published>[0-9]+):(?P<target>[0-9]+)(?:/(?P<protocol>[a-z]+))?"
)
_LOOPBACK = "127.0.0.1"


class Port(NamedTuple):
    """A port of the container published on an address of the host."""

    host_ip: str
    published: int
    target: int
    protocol: str

    @property
    def address(self) -> str:
        """Return where the host answers for it, as a URL writes that."""
        return f"[{self.host_ip}]:{self.published}" if ":" in self.host_ip else f"{self.host_ip}:{self.published}"

    def __str__(self) -> str:
        return f"{self.address}:{self.target}/{self.protocol}"


def parse_ports(fields: Fields) -> tuple[Port, ...]:
    """Read a declaration's ports; raises InvalidValueError for the first that is not valid."""
    return tuple(
        _parse_port(f"{fields.path('ports')}[{number}]", item) for number, item in enumerate(fields.items("ports"))
    )


def _parse_port(path: str, value: object) -> Port:
    allowed = "'[ADDRESS:]PUBLISHED:TARGET[/tcp|udp]', or a mapping of target, published, host_ip, protocol"
    if isinstance(value, str):
        match = _SHORT_PORT.fullmatch(value)
        if match is None:
            raise InvalidValueError(path, value, allowed)
        value = {
            "host_ip": match["ip"].strip("[]") if match["ip"] else None,
            "published": match["published"],
            "target": match["target"],
            "protocol": match["protocol"],
        }
    if not isinstance(value, Mapping):
        raise InvalidValueError(path, value, allowed)
    given = Fields(path, value, ("host_ip", "published", "target", "protocol"))
    return Port(
        _parse_host_ip(given),
        parse_count(given.path("published"), given.required("published", "a port number"), 1, 65535),
        parse_count(given.path("target"), given.required("target", "a port number"), 1, 65535),
        given.choice("protocol", ("tcp", "udp"), "tcp"),
    )


def _parse_host_ip(given: Fields) -> str:
    allowed = "an IPv4 or IPv6 address of the host, without a scope"
    text = given.text("host_ip", _LOOPBACK)
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidValueError(given.path("host_ip"), text, allowed) from None
    if getattr(address, "scope_id", None) is not None:
        raise InvalidValueError(given.path("host_ip"), text, allowed)
    return str(address)
