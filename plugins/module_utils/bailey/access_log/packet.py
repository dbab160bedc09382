"""What ulogd tells of a packet, as a typed value.

The keys are those of ulogd's plugins (`ulogd --info PLUGIN`). Nothing here trusts what the packet itself carries: all
that is taken of it are numbers, addresses and the names that this file has for them. The addresses in an ARP packet
are not taken: ulogd 2.0.8 gives those of its own memory. Nor does it tell the port of a bridge, so that a frame is
known by its hardware address alone.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

_PREFIX = re.compile(r"bailey (allow|deny)(?: ([a-z ]+))?\s*", re.ASCII)
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "icmpv6", 132: "sctp"}
_ETHER_TYPES = {0x0806: "arp", 0x0800: "ipv4", 0x86DD: "ipv6"}
_BRIDGE = 7  # AF_BRIDGE
_NUMBERS = {"icmp.type": "icmp_type", "icmp.code": "icmp_code"}


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet that the firewall logged; `at` is in seconds since the epoch.

    `is_claimed`: its source address is what the packet says, and shown to be false or nobody's.
    """

    at: float
    time: str
    verdict: str
    reason: str | None
    protocol: str | None
    source: str | None
    source_port: int | None
    destination: str | None
    destination_port: int | None
    is_frame: bool
    is_claimed: bool
    details: dict[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """A line of ulogd's: its number in the kernel's count, and the packet, None where it is not our firewall's."""

    sequence: int | None
    packet: Packet | None


def parse_report(line: bytes, read_at: float) -> Report:
    """Read a line of ulogd's JSON. Raises ValueError for what is none."""
    told = json.loads(line)
    if not isinstance(told, dict):
        raise ValueError("not an object")  # noqa: TRY004 # what is read is wrong, not the caller
    sequence = _number(told, "oob.seq.local")
    prefix = _PREFIX.fullmatch(str(told.get("oob.prefix", "")))
    return Report(sequence, None if prefix is None else _packet(told, prefix[1], prefix[2], read_at))


def _packet(told: dict[str, Any], verdict: str, reason: str | None, read_at: float) -> Packet:
    seconds, micros = _number(told, "oob.time.sec"), _number(told, "oob.time.usec") or 0
    if seconds is None:
        seconds, micros = int(read_at), int(read_at % 1 * 1e6)
    is_frame = told.get("oob.family") == _BRIDGE
    details: dict[str, int | str | None] = {name: _number(told, key) for key, name in _NUMBERS.items()}
    if is_frame:
        details["mac"] = _text(told, "mac.saddr.str")
    return Packet(
        at=seconds + micros / 1e6,
        time=f"{_to_the_second(seconds)}.{micros:06}Z",
        verdict=verdict,
        reason=reason,
        protocol=_protocol(told),
        source=_text(told, "src_ip"),
        source_port=_number(told, "src_port"),
        destination=_text(told, "dest_ip"),
        destination_port=_number(told, "dest_port"),
        is_frame=is_frame,
        is_claimed=is_frame or reason == "egress unknown",
        details={name: value for name, value in details.items() if value is not None},
    )


def format_time(at: float) -> str:
    """Write seconds since the epoch as RFC 3339 does, in UTC with microseconds: what sorts as text does in time."""
    micros = round(at * 1e6)
    return f"{_to_the_second(micros // 1_000_000)}.{micros % 1_000_000:06}Z"


@lru_cache(maxsize=4)
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _protocol(told: dict[str, Any]) -> str | None:
    number = _number(told, "ip.protocol")
    if number is not None:
        return _PROTOCOLS.get(number, str(number))
    kind = _number(told, "oob.protocol")
    return None if kind is None else _ETHER_TYPES.get(kind, f"{kind:#06x}")


def _number(told: dict[str, Any], key: str) -> int | None:
    value = told.get(key)
    return value if isinstance(value, int) else None


def _text(told: dict[str, Any], key: str) -> str | None:
    value = told.get(key)
    return value if isinstance(value, str) and value else None
