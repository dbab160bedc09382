"""How a container is connected to the host: its eth0, the pair's other end, and the bridge that this is a port of.

Source: rtnetlink(7), and linux/rtnetlink.h, linux/if_link.h and linux/net_namespace.h.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import HostError
from .namespaces import made_inside
from .netlink import Message, Netlink, NetlinkError, attribute, number, parse_attributes, text, u32

NAME = "eth0"  # what engines call a container's only interface
NEW_LINK, DELETE_LINK = 16, 17  # RTM_NEWLINK, RTM_DELLINK
IFNAME, LINKINFO, INFO_KIND = 3, 18, 1  # IFLA_IFNAME, IFLA_LINKINFO, IFLA_INFO_KIND
IFALIAS, GROUP = 20, 27  # IFLA_IFALIAS, IFLA_GROUP
UP = 1  # IFF_UP
_GET_LINK, _GET_ADDRESS, _GET_NSID = 18, 22, 90  # RTM_GETLINK, RTM_GETADDR, RTM_GETNSID
_ADDRESS, _MTU, _LINK, _MASTER, _EXT_MASK, _LINK_NETNSID = 1, 4, 5, 10, 29, 37  # IFLA_*
_SLAVE_KIND, _SLAVE_DATA, _ISOLATED = 4, 5, 33  # IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA, IFLA_BRPORT_ISOLATED
_SKIP_STATISTICS = 8  # RTEXT_FILTER_SKIP_STATS
_IFA_LOCAL = 2
_NETNSA_NSID, _NETNSA_PID = 1, 2
_LINK_HEADER = struct.Struct("=BxHiII")  # struct ifinfomsg
_ADDRESS_HEADER = struct.Struct("=BBBBi")  # struct ifaddrmsg
_NSID_HEADER = struct.Struct("=B3x")  # struct rtgenmsg


@dataclass(frozen=True)
class Attachment:
    """One container's place on a bridge: its address and MAC, and its port as the host knows it; `mtu` in bytes."""

    address: str
    mac: str
    port: str
    port_index: int
    bridge: str
    mtu: int


@dataclass(frozen=True)
class Link:
    """One interface. `peer` is the index of a pair's other end, in the namespace that `peer_namespace` stands for."""

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    alias: str
    group: int
    peer: int | None
    peer_namespace: int | None
    master: int | None
    master_kind: str
    isolated: bool


def find_attachment(pid: int) -> Attachment | None:
    """Return how the network that a process is in is connected to a bridge of this one, None where it has no eth0.

    Raises HostError where it has one that is not the end of a pair whose other end is a port of a bridge here, or
    that does not have exactly one IPv4 address.
    """
    try:
        inside = Netlink(make=lambda *kind: made_inside(pid, lambda: socket.socket(*kind)))
    except OSError as error:
        raise HostError(f"the network of process {pid} cannot be read: {error}") from error
    with inside, Netlink() as host:
        eth0 = find_link(inside, NAME)
        if eth0 is None:
            return None
        where = f"{NAME} of process {pid}"
        addresses = [str(address.ip) for address in _addresses(inside, eth0.index)]
        if len(addresses) != 1:
            raise HostError(
                f"{where} has {', '.join(addresses) or 'no IPv4 address'}; exactly one IPv4 address is needed"
            )
        port = _other_end(inside, host, eth0, where)
        bridge = find_link(host, port.master) if port.master is not None else None
        if bridge is None or port.master_kind != "bridge":
            raise HostError(f"{where}: its other end {port.name} is a port of no bridge")
    return Attachment(addresses[0], eth0.mac, port.name, port.index, bridge.name, eth0.mtu)


def _other_end(inside: Netlink, host: Netlink, link: Link, where: str) -> Link:
    # An index says nothing without its namespace: a pair may as well lead to a third one, or back into its own.
    if link.peer is None or link.peer_namespace is None or link.peer_namespace != _number_of_caller(inside):
        raise HostError(f"{where} is not the end of a pair whose other end is on this host")
    port = find_link(host, link.peer)
    if port is None:
        raise HostError(f"{where}: its other end, number {link.peer} on this host, has gone")
    return port


def _number_of_caller(inside: Netlink) -> int:
    """Return the number by which another namespace knows that of the calling thread."""
    body = _NSID_HEADER.pack(socket.AF_UNSPEC) + attribute(_NETNSA_PID, u32(threading.get_native_id()))
    (answer,) = inside.request(_GET_NSID, body)
    return _signed(answer.attributes(_NSID_HEADER.size)[_NETNSA_NSID])


def is_isolated(port: str) -> bool:
    """Say whether a bridge sends nothing from this port to others that are isolated. A port that has gone is not."""
    with Netlink() as netlink:
        link = find_link(netlink, port)
    return link is not None and link.isolated


def set_isolated(port: str) -> None:
    """Have a bridge send nothing from this port to others that are isolated, nor back.

    Raises HostError where there is no such port of a bridge.
    """
    with Netlink() as netlink:
        link = find_link(netlink, port)
        if link is None or link.master_kind != "bridge":
            raise HostError(f"{port} is a port of no bridge")
        if not link.isolated:
            as_port = {_SLAVE_KIND: "bridge", _SLAVE_DATA: {_ISOLATED: b"\1"}}
            netlink.request(NEW_LINK, link_header(link.index) + attribute(LINKINFO, as_port))


def ports_of(bridge: str) -> dict[int, str]:
    """Return the names of a bridge's ports by their index. Raises HostError where there is no such bridge."""
    with Netlink() as netlink:
        return {link.index: link.name for link in links(netlink, master=_bridge(netlink, bridge).index)}


def bridge_address(bridge: str) -> tuple[str, ipaddress.IPv4Network, str]:
    """Return a bridge's IPv4 address (the first of several), the network that it is in, and its MAC.

    Raises HostError where there is no such bridge, or it has no IPv4 address.
    """
    with Netlink() as netlink:
        link = _bridge(netlink, bridge)
        addresses = _addresses(netlink, link.index)
    if not addresses:
        raise HostError(f"the bridge {bridge} has no IPv4 address")
    return str(addresses[0].ip), addresses[0].network, link.mac


def _bridge(netlink: Netlink, name: str) -> Link:
    link = find_link(netlink, name)
    if link is None or link.kind != "bridge":
        raise HostError(f"there is no bridge {name} on this host")
    return link


def find_link(netlink: Netlink, key: int | str) -> Link | None:
    """Return the interface of an index or a name, None where there is none."""
    by_name = b"" if isinstance(key, int) else attribute(IFNAME, key)
    try:
        (answer,) = netlink.request(_GET_LINK, link_header(key if isinstance(key, int) else 0) + _BRIEFLY + by_name)
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return _link(answer)


def links(netlink: Netlink, *, master: int | None = None, kind: str = "") -> Iterator[Link]:
    """Yield the interfaces, or a bridge's ports alone, or those of a kind alone."""
    # The kernel leaves the others out, but for a kind that it has never heard of.
    of_master = b"" if master is None else attribute(_MASTER, u32(master))
    of_kind = attribute(LINKINFO, {INFO_KIND: kind}) if kind else b""
    for message in netlink.dump(_GET_LINK, link_header(0) + _BRIEFLY + of_master + of_kind):
        link = _link(message)
        if master in (None, link.master) and kind in ("", link.kind):
            yield link


def link_header(index: int, flags: int = 0) -> bytes:
    """Encode the fixed part of a request about an interface; flags are set and none is cleared."""
    return _LINK_HEADER.pack(socket.AF_UNSPEC, 0, index, flags, flags)


_BRIEFLY = attribute(_EXT_MASK, u32(_SKIP_STATISTICS))


def _link(message: Message) -> Link:
    _, _, index, flags, _ = _LINK_HEADER.unpack_from(message.body)
    found = message.attributes(_LINK_HEADER.size)
    info = parse_attributes(found.get(LINKINFO, b""))
    slave = parse_attributes(info.get(_SLAVE_DATA, b""))
    return Link(
        index=index,
        name=text(found[IFNAME]),
        kind=text(info.get(INFO_KIND, b"")),
        mac=found.get(_ADDRESS, b"").hex(":"),
        mtu=number(found[_MTU]),
        up=bool(flags & UP),
        alias=text(found.get(IFALIAS, b"")),
        group=number(found.get(GROUP, b"")),
        peer=number(found[_LINK]) if _LINK in found else None,
        peer_namespace=_signed(found[_LINK_NETNSID]) if _LINK_NETNSID in found else None,
        master=number(found[_MASTER]) if _MASTER in found else None,
        master_kind=text(info.get(_SLAVE_KIND, b"")),
        isolated=text(info.get(_SLAVE_KIND, b"")) == "bridge" and slave.get(_ISOLATED) == b"\1",
    )


def _addresses(netlink: Netlink, index: int) -> list[ipaddress.IPv4Interface]:
    """Return an interface's IPv4 addresses."""
    found = []
    for message in netlink.dump(_GET_ADDRESS, _ADDRESS_HEADER.pack(socket.AF_INET, 0, 0, 0, 0)):
        _, length, _, _, owner = _ADDRESS_HEADER.unpack_from(message.body)
        if owner == index:
            address = message.attributes(_ADDRESS_HEADER.size)[_IFA_LOCAL]
            found.append(ipaddress.IPv4Interface((address, length)))
    return found


def _signed(value: bytes) -> int:
    return int.from_bytes(value, sys.byteorder, signed=True)
