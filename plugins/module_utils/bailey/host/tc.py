"""How many bits a second pass into a container and out of it: queues of the kernel's traffic control.

What goes in leaves the host by the container's port, whose queue is a token bucket. What comes out arrives at the
port, where only a redirect to a device of ours (ifb) puts it into a queue, which is a token bucket again.

Sources: rtnetlink(7), tc-tbf(8), tc-u32(8), linux/pkt_sched.h, linux/pkt_cls.h, linux/tc_act/tc_mirred.h, and of the
kernel net/sched/sch_api.c, sch_tbf.c and cls_u32.c.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import HostError, UnsupportedError
from . import links
from .links import Attachment, Link, find_link, link_header
from .netlink import (
    CREATE,
    ECHO,
    EXCLUSIVE,
    REPLACE,
    Message,
    Netlink,
    NetlinkError,
    attribute,
    number,
    parse_attributes,
    text,
    u32,
)

PREFIX = "b-"  # before the port's name: the device that its egress is redirected to
_DEVICE = "ifb"
_GROUP = 0xBA11E1  # the interface group by which our devices are known from their first moment
_NAME_MAX = 15  # IFNAMSIZ without the final zero

# What a bucket holds, measured with TCP: one largest segment, which otherwise has to be cut into packets at six times
# the work, unless that is more than passes in 50 ms; what passes in 10 ms, since a busy machine's timers come late; and
# two full packets, since a packet that is larger than its bucket never passes.
_SEGMENT, _SEGMENT_SECONDS, _TIMER_SECONDS, _PACKETS = 72_000, 0.05, 0.01, 2  # bytes, seconds, seconds, packets
# Its queue holds what passes in 50 ms, and 8 full packets: with less TCP stumbles, with more everything waits.
_QUEUE_SECONDS, _QUEUE_PACKETS = 0.05, 8
_FRAME = 14 + 4  # Ethernet's header and a VLAN tag, in bytes

_NEW_QDISC, _DELETE_QDISC, _GET_QDISC, _NEW_FILTER, _GET_FILTER = 36, 37, 38, 44, 46  # RTM_*QDISC, RTM_*TFILTER
_KIND, _OPTIONS = 1, 2  # TCA_KIND, TCA_OPTIONS; TCA_ACT_KIND, TCA_ACT_OPTIONS
_ROOT, _ENTRANCE = 0xFFFFFFFF, 0xFFFFFFF1  # TC_H_ROOT, TC_H_INGRESS
_BUCKET_HANDLE, _ENTRANCE_HANDLE = 0xBA110000, 0xFFFF0000
_PARAMETERS, _RATE64, _BURST = 1, 4, 6  # TCA_TBF_PARMS, TCA_TBF_RATE64, TCA_TBF_BURST
_ETHERNET = 1  # TC_LINKLAYER_ETHERNET: no table of rates is needed
_U32_MAX = 0xFFFFFFFF
_SELECTOR, _ACTIONS = 5, 7  # TCA_U32_SEL, TCA_U32_ACT
_MIRRED_PARAMETERS, _STOLEN, _REDIRECT = 2, 4, 1  # TCA_MIRRED_PARMS, TC_ACT_STOLEN, TCA_EGRESS_REDIR
_FIRST_OF_ALL = 1 << 16 | socket.htons(3)  # priority 1, ETH_P_ALL

_HEADER = struct.Struct("=B3xiIII")  # struct tcmsg
_RATE = struct.Struct("=BBHhHI")  # struct tc_ratespec
_QUEUE = struct.Struct("=III")  # the rest of struct tc_tbf_qopt, after two of them: limit, buffer, mtu
_MIRRED = struct.Struct("=IIiiiiI")  # struct tc_mirred
# struct tc_u32_sel, terminal, with one key (struct tc_u32_key) of which no bit counts: every packet matches.
_EVERYTHING = struct.pack("=BBBxHHhhI", 1, 0, 1, 0, 0, 0, 0, 0) + bytes(16)


@dataclass(frozen=True)
class Shape:
    """Bits a second into a container (`ingress`) and out of it (`egress`); None: not limited."""

    ingress: int | None
    egress: int | None


@dataclass(frozen=True)
class _Bucket:
    """A token bucket: its rate in bytes a second, the bytes that its queue holds, and those that it holds itself.

    The last follow from the first two, and do not count where two are compared: the kernel tells them in other units.
    """

    rate: int
    limit: int
    burst: int = field(default=0, compare=False)


@dataclass(frozen=True)
class _Filter:
    """A filter at a port's entrance, and the index of the device that all packets are redirected to, -1 for others."""

    handle: int
    target: int


def shape(attachment: Attachment, name: str, wanted: Shape) -> None:
    """Limit what passes into an instance and out of it. What holds already is left as it is; a rate changes in place.

    Nothing that is limited before and after is unlimited in between. Raises UnsupportedError where the kernel cannot
    hold a rate exactly, HostError where it refuses.
    """
    ingress = _bucket("network.ingress", wanted.ingress, attachment.mtu)
    egress = _bucket("network.egress", wanted.egress, attachment.mtu)
    with _told(attachment.port), Netlink() as netlink:
        _set_bucket(netlink, attachment.port_index, ingress)
        if egress is None:
            _clear_entrance(netlink, attachment.port_index)
            _remove_device(netlink, attachment.port)
        else:
            device = _device(netlink, attachment.port, name)
            _set_bucket(netlink, device.index, egress)
            _redirect(netlink, attachment.port_index, device.index)


def read_shape(attachment: Attachment) -> Shape:
    """Return what the kernel holds: None for a direction of which any part is missing.

    Raises HostError where the port has gone.
    """
    with _told(attachment.port), Netlink() as netlink:
        ingress = _read_bucket(netlink, attachment.port_index)
        egress = _read_egress(netlink, attachment)
    return Shape(*(None if bucket is None else bucket.rate * 8 for bucket in (ingress, egress)))


def release(port: str) -> None:
    """Take away what was made for a port, which may have gone already or goes meanwhile."""
    with _told(port), Netlink() as netlink:
        link = find_link(netlink, port)
        try:
            if link is not None:
                _clear_entrance(netlink, link.index)
                _set_bucket(netlink, link.index, None)
        except NetlinkError:
            if find_link(netlink, port) is not None:
                raise
        _remove_device(netlink, port)


def leftovers(present: set[str]) -> list[str]:
    """Return the ports for which there is a device of ours and which are not among these, for `release`."""
    with Netlink() as netlink:
        ports = {link.name.removeprefix(PREFIX) for link in links.links(netlink, kind=_DEVICE) if _is_ours(link)}
    return sorted(ports - present)


@contextmanager
def _told(port: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        raise HostError(f"port {port}: its bandwidth cannot be read or limited: {error}") from error


# Token buckets.


def _bucket(what: str, bits: int | None, mtu: int) -> _Bucket | None:
    if bits is None:
        return None
    rate, rest = divmod(bits, 8)
    if rest or rate == 0:
        raise UnsupportedError(what, bits, "the kernel counts whole bytes a second")
    packet = mtu + _FRAME
    segment = min(_SEGMENT, int(rate * _SEGMENT_SECONDS))
    burst = max(segment, int(rate * _TIMER_SECONDS), _PACKETS * packet)
    return _Bucket(rate, burst + max(int(rate * _QUEUE_SECONDS), _QUEUE_PACKETS * packet), burst)


def _set_bucket(netlink: Netlink, index: int, wanted: _Bucket | None) -> None:
    """Make a token bucket an interface's root, change the one that is there, or take it away."""
    if _read_bucket(netlink, index) == wanted:
        return
    header = _HEADER.pack(socket.AF_UNSPEC, index, 0 if wanted is None else _BUCKET_HANDLE, _ROOT, 0)
    if wanted is None:
        netlink.request(_DELETE_QDISC, header)
        return
    rate = _RATE.pack(0, _ETHERNET, 0, 0, 0, min(wanted.rate, _U32_MAX))
    options = {
        _PARAMETERS: rate + bytes(_RATE.size) + _QUEUE.pack(wanted.limit, 0, 0),
        _BURST: u32(wanted.burst),
    }
    if wanted.rate > _U32_MAX:
        options[_RATE64] = struct.pack("=Q", wanted.rate)
    # With the handle of what is there the kernel changes it, and what waits in it stays.
    netlink.request(_NEW_QDISC, header + attribute(_KIND, "tbf") + attribute(_OPTIONS, options), CREATE | REPLACE)


def _read_bucket(netlink: Netlink, index: int) -> _Bucket | None:
    kind, options = _qdisc(netlink, index, _ROOT)
    if kind != "tbf":
        return None
    found = parse_attributes(options)
    *_, low = _RATE.unpack_from(found[_PARAMETERS])
    limit, _, _ = _QUEUE.unpack_from(found[_PARAMETERS], 2 * _RATE.size)
    return _Bucket(number(found.get(_RATE64, u32(low))), limit)


def _qdisc(netlink: Netlink, index: int, parent: int) -> tuple[str, bytes]:
    """Return the kind and the options of what is at an interface's root or entrance; no kind: nothing was put there."""
    try:
        # A list would be of every interface. The kernel answers a question for one as it tells of a change: by echo.
        answers = netlink.request(_GET_QDISC, _HEADER.pack(socket.AF_UNSPEC, index, 0, parent, 0), ECHO)
    except NetlinkError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):
            return "", b""
        raise
    found = answers[0].attributes(_HEADER.size) if answers else {}
    return text(found.get(_KIND, b"")), found.get(_OPTIONS, b"")


# The way out: a redirect at the port's entrance, and the device that it leads to.


def _read_egress(netlink: Netlink, attachment: Attachment) -> _Bucket | None:
    device = find_link(netlink, PREFIX + attachment.port)
    if device is None or not device.up or not _is_ours(device):
        return None
    if [found.target for found in _filters(netlink, attachment.port_index)] != [device.index]:
        return None
    return _read_bucket(netlink, device.index)


def _device(netlink: Netlink, port: str, name: str) -> Link:
    """Return the device for a port, up and with its instance's name; it is made where need be."""
    wanted = PREFIX + port
    if len(wanted) > _NAME_MAX:
        allowed = _NAME_MAX - len(PREFIX)
        raise HostError(
            f"port {port}: its name has more than {allowed} characters, so that no device can be named after it"
        )
    device = find_link(netlink, wanted)
    if device is None:
        kind = attribute(links.LINKINFO, {links.INFO_KIND: _DEVICE})
        made = attribute(links.IFNAME, wanted) + attribute(links.GROUP, u32(_GROUP)) + kind
        netlink.request(links.NEW_LINK, link_header(0, links.UP) + made, CREATE | EXCLUSIVE)
        device = find_link(netlink, wanted)
    if device is None or not _is_ours(device):
        raise HostError(f"port {port}: there is an interface {wanted} already, which is not Bailey's")
    alias = f"bailey {name}"
    if not device.up or device.alias != alias:
        change = link_header(device.index, links.UP) + attribute(links.IFALIAS, alias.encode())
        netlink.request(links.NEW_LINK, change)
    return device


def _is_ours(link: Link) -> bool:
    return link.kind == _DEVICE and link.group == _GROUP and link.name.startswith(PREFIX)


def _remove_device(netlink: Netlink, port: str) -> None:
    device = find_link(netlink, PREFIX + port)
    if device is None or not _is_ours(device):
        return
    try:
        netlink.request(links.DELETE_LINK, link_header(device.index))
    except NetlinkError as error:
        if error.errno != errno.ENODEV:  # somebody else was faster
            raise


def _redirect(netlink: Netlink, index: int, target: int) -> None:
    """Have all that arrives at a port go through a device. Any other filter at its entrance goes."""
    filters = _filters(netlink, index)
    if [found.target for found in filters] == [target]:
        return
    parameters = _MIRRED.pack(0, 0, _STOLEN, 0, 0, _REDIRECT, target)
    action = {_KIND: "mirred", _OPTIONS: {_MIRRED_PARAMETERS: parameters}}
    options = {_SELECTOR: _EVERYTHING, _ACTIONS: {1: action}}
    if len(filters) == 1 and filters[0].target >= 0:
        handle, flags = filters[0].handle, REPLACE  # its device has gone, and it drops everything since: so it stays
    else:
        handle, flags = 0, CREATE | EXCLUSIVE
        _clear_entrance(netlink, index)
        entrance = _HEADER.pack(socket.AF_UNSPEC, index, _ENTRANCE_HANDLE, _ENTRANCE, 0)
        netlink.request(_NEW_QDISC, entrance + attribute(_KIND, "ingress"), CREATE | EXCLUSIVE)
    header = _HEADER.pack(socket.AF_UNSPEC, index, handle, _ENTRANCE_HANDLE, _FIRST_OF_ALL)
    netlink.request(_NEW_FILTER, header + attribute(_KIND, "u32") + attribute(_OPTIONS, options), flags)


def _clear_entrance(netlink: Netlink, index: int) -> None:
    """Take away what is at a port's entrance, its filters included."""
    if _qdisc(netlink, index, _ENTRANCE)[0]:
        netlink.request(_DELETE_QDISC, _HEADER.pack(socket.AF_UNSPEC, index, 0, _ENTRANCE, 0))


def _filters(netlink: Netlink, index: int) -> list[_Filter]:
    """Return what decides of a packet at a port's entrance."""
    asked = _HEADER.pack(socket.AF_UNSPEC, index, 0, _ENTRANCE_HANDLE, 0)
    return [found for message in netlink.dump(_GET_FILTER, asked) if (found := _filter(message)) is not None]


def _filter(message: Message) -> _Filter | None:
    """Read one part of a list of filters: None where it is only what holds others together."""
    _, _, handle, _, info = _HEADER.unpack_from(message.body)
    found = message.attributes(_HEADER.size)
    options, is_u32 = parse_attributes(found.get(_OPTIONS, b"")), text(found[_KIND]) == "u32"
    if not options or (is_u32 and _SELECTOR not in options):
        return None
    takes_all = is_u32 and info == _FIRST_OF_ALL and options[_SELECTOR] == _EVERYTHING
    return _Filter(handle, _target(options.get(_ACTIONS, b"")) if takes_all else -1)


def _target(actions: bytes) -> int:
    """Return where a filter's only action redirects packets to, 0 where that has gone, -1 where it does not."""
    found = [parse_attributes(value) for value in parse_attributes(actions).values()]
    if [text(action[_KIND]) for action in found] != ["mirred"]:
        return -1
    *_, verdict, _, _, what, target = _MIRRED.unpack_from(parse_attributes(found[0][_OPTIONS])[_MIRRED_PARAMETERS])
    return target if (verdict, what) == (_STOLEN, _REDIRECT) else -1
