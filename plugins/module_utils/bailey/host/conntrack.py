"""The kernel's table of connections: linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h."""

from __future__ import annotations

import errno
import ipaddress
import math
import socket
import struct
from collections.abc import Collection, Iterator, Mapping

from .netlink import NETFILTER, Netlink, NetlinkError, attribute, parse_attributes, u32

_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_GET and _DELETE
_ORIGINAL, _REPLY, _ID, _ZONE = 1, 2, 12, 18  # CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE
_TIMESTAMP, _BEGAN, _FILTER = 20, 1, 25  # CTA_TIMESTAMP, CTA_TIMESTAMP_START, CTA_FILTER
_IP, _SOURCE, _DESTINATION = 1, 1, 2  # CTA_TUPLE_IP, CTA_IP_V4_SRC, CTA_IP_V4_DST
_HEADER = struct.Struct("=BBH").pack(socket.AF_INET, 0, 0)  # struct nfgenmsg
_SOURCE_ALONE = 1  # CTA_FILTER_F_CTA_IP_SRC


def forget_connections(address: str) -> int:
    """Delete every connection that an IPv4 address has opened or that leads to it, and return how many there were.

    A connection's two tuples say who sends in each direction, past all translation: the address is the source of one.
    """
    wanted = ipaddress.IPv4Address(address).packed
    with Netlink(NETFILTER) as netlink:
        entries = [entry for direction in (_ORIGINAL, _REPLY) for entry in _entries(netlink, wanted, direction)]
        return sum(_delete(netlink, entry) for entry in entries)


def forget_connections_since(moment: float, addresses: Collection[str]) -> int:
    """Delete those connections of IPv4 addresses that began at a moment or later, and return how many there were.

    The moment is a time of the clock, in seconds. A connection of which the kernel has not noted when it began, because
    net.netfilter.nf_conntrack_timestamp was not set, counts as one of those.
    """
    wanted = {ipaddress.IPv4Address(address).packed for address in addresses}
    with Netlink(NETFILTER) as netlink:
        entries = [message.attributes(len(_HEADER)) for message in netlink.dump(_GET, _HEADER)]
        found = [item for item in entries if _began(item) >= moment and not wanted.isdisjoint(_senders(item))]
        return sum(_delete(netlink, entry) for entry in found)


def _began(entry: Mapping[int, bytes]) -> float:
    noted = parse_attributes(entry.get(_TIMESTAMP, b"")).get(_BEGAN)
    return math.inf if noted is None else int.from_bytes(noted, "big") / 1e9


def _senders(entry: Mapping[int, bytes]) -> list[bytes]:
    return [_sender(entry, direction) for direction in (_ORIGINAL, _REPLY)]


def _sender(entry: Mapping[int, bytes], direction: int) -> bytes:
    return parse_attributes(parse_attributes(entry[direction])[_IP]).get(_SOURCE, b"")


def _entries(netlink: Netlink, address: bytes, direction: int) -> Iterator[Mapping[int, bytes]]:
    """Yield the connections in which the address sends in a direction."""
    # The kernel tells them apart since Linux 5.8; an older one lists all.
    sender = {direction: [attribute(_IP, {_SOURCE: address})], _FILTER: [attribute(direction, u32(_SOURCE_ALONE))]}
    for message in netlink.dump(_GET, _HEADER + b"".join(attribute(*item) for item in sender.items())):
        entry = message.attributes(len(_HEADER))
        if _sender(entry, direction) == address:
            yield entry


def _delete(netlink: Netlink, entry: Mapping[int, bytes]) -> bool:
    """Delete a connection, that very one; say whether it was still there."""
    exact = [attribute(kind, entry[kind]) for kind in (_ID, _ZONE) if kind in entry]
    try:
        netlink.request(_DELETE, _HEADER + attribute(_ORIGINAL, [entry[_ORIGINAL]]) + b"".join(exact))
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True
