"""What Bailey's bridge needs of the kernel, so that containers reach each other by way of the host alone.

Sources: the kernel's Documentation/networking/ip-sysctl.rst and nf_conntrack-sysctl.rst, and /sys/class/net of
Documentation/ABI/testing.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from .files import read_text
from .netlink import Netlink, attribute

SYS, PROC_SYS = Path("/sys/class/net"), Path("/proc/sys/net")
FORWARDING, _TIMESTAMP = "ipv4/ip_forward", "netfilter/nf_conntrack_timestamp"
_SET_BY_HAND = "3"  # NET_ADDR_SET of linux/netdevice.h
_NEWLINK, _ADDRESS = 16, 1  # RTM_NEWLINK and IFLA_ADDRESS, rtnetlink(7)
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg


def settings_of(bridge: str) -> dict[str, str]:
    """Return the settings that a bridge needs, by their place below /proc/sys/net.

    The bridge answers for every container to every other: what one sends to another comes to the host, which
    routes it, and so the firewall sees it as it sees everything. The kernel notes when each connection began, so that
    those can be told apart that began while the firewall was gone.
    """
    return {
        f"ipv4/conf/{bridge}/proxy_arp_pvlan": "1",
        f"ipv4/conf/{bridge}/forwarding": "1",
        FORWARDING: "1",
        _TIMESTAMP: "1",
    }


def apply_settings(bridge: str, root: Path = PROC_SYS) -> list[str]:
    """Make the settings hold; return those that did not. Raises OSError where the kernel does not have the bridge."""
    wrong = broken_settings(bridge, root)
    for name in wrong:
        (root / name).write_text(settings_of(bridge)[name])
    return wrong


def broken_settings(bridge: str, root: Path = PROC_SYS) -> list[str]:
    """Return the settings that do not hold.

    A kernel that tracks no connections yet, or notes no times at all, has nothing to set there.
    """
    held = {name: read_text(root / name) for name in settings_of(bridge)}
    if held[_TIMESTAMP] is None:
        del held[_TIMESTAMP]
    return [name for name, text in held.items() if (text or "").strip() != settings_of(bridge)[name]]


def withdraw_settings(bridge: str, root: Path = PROC_SYS) -> bool:
    """Take back what is the bridge's own, and say whether it was set. That the host forwards is others' matter, too."""
    path = root / f"ipv4/conf/{bridge}/proxy_arp_pvlan"
    if (read_text(path) or "0").strip() == "0":
        return False
    path.write_text("0")
    return True


def pin_address(bridge: str, root: Path = SYS) -> bool:
    """Give a bridge the hardware address that it has for good; say whether it had not.

    Until somebody sets it, it is the lowest of its ports', and changes as they come and go. Raises OSError where
    there is no such bridge.
    """
    if (root / bridge / "addr_assign_type").read_text().strip() == _SET_BY_HAND:
        return False
    address = bytes.fromhex((root / bridge / "address").read_text().strip().replace(":", ""))
    with Netlink() as netlink:
        header = _LINK.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(bridge), 0, 0)
        netlink.request(_NEWLINK, header + attribute(_ADDRESS, address))
    return True
