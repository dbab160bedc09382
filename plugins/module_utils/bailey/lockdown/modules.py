"""Modules that a container could have the kernel load, and that no host of this kind needs: never loaded any more.

An ordinary user has a module loaded by asking for its protocol's socket or, as root of a user namespace, its file
system. `install NAME /bin/false` of modprobe.d(5) answers for the alias and for the name; `blacklist` only for the
alias, so it is not used. What is built into the kernel cannot be denied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatch

from ..errors import InvalidValueError
from .kernel import Kernel
from .model import Finding, Status

_HEADER = "# Managed by Bailey: changes are lost. What nobody here needs is not loaded for whoever asks.\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")

# Each group with what it is and why it is on the list.
DENIED_BY_GROUP: dict[str, tuple[str, ...]] = {
    # Loaded by socket(2) of any user; years of flaws that made such a user root, and nobody here speaks them.
    "transports": ("dccp", "sctp", "rds", "tipc", "kcm", "smc", "l2tp_ppp", "rxrpc", "mctp", "qrtr"),
    # The same way, for networks that ended, and for radios that a server does not have.
    "old networks": (
        *("ax25", "netrom", "rose", "x25", "decnet", "econet", "ipx", "appletalk", "atm", "llc2"),
        *("psnap", "p8022", "p8023", "phonet", "caif_socket", "af_802154", "ieee802154_socket", "nfc"),
    ),
    # The bus of cars; broadcast sockets with flaws of their own.
    "buses": ("can", "can_bcm", "can_raw", "can_gw", "can_isotp", "can_j1939"),
    # Line disciplines, loaded by an ioctl on any terminal.
    "terminals": ("n_hdlc", "n_gsm", "slcan", "slip", "ppp_synctty", "ppp_async"),
    # Parsers of file systems that no server mounts, reached by whoever brings an image or a stick. Not udf: clouds hand
    # a machine its first settings on such a disk.
    "file systems": (
        *("cramfs", "freevxfs", "jffs2", "hfs", "hfsplus", "adfs", "affs", "befs", "bfs", "efs", "hpfs", "minix"),
        *("omfs", "qnx4", "qnx6", "sysv", "ufs"),
    ),
    # A plug that reads and writes all of the machine's memory. Not usb_storage: operators boot and rescue from it.
    "plugs": ("firewire_core", "firewire_ohci", "firewire_sbp2"),
}
DENIED: tuple[str, ...] = tuple(name for names in DENIED_BY_GROUP.values() for name in names)

# What the engine, the agent, the storage and the machine itself load when they need it.
_NEEDED = (
    *("overlay", "bridge", "br_netfilter", "stp", "llc", "veth", "ifb", "loop", "tun", "dummy", "macvlan", "ipvlan"),
    *("nf_*", "nft_*", "nfnetlink*", "nf_tables", "x_tables", "xt_*", "ip_tables", "ip6_tables", "iptable_*"),
    *("ip6table_*", "ipt_*", "ip6t_*", "ip_set*", "sch_*", "cls_*", "act_*", "em_*", "inet_diag", "tcp_diag"),
    *("xfs", "btrfs", "ext4", "jbd2", "crc*", "libcrc*", "xxhash*", "zstd*", "lzo*", "raid6_pq", "xor", "autofs4"),
    *("virtio*", "dm_*", "nvme*", "ahci", "sd_mod", "vfat", "fat", "nls_*", "kvm*", "unix", "ipv6", "packet"),
)


def parse_modules(field: str, names: Iterable[object]) -> tuple[str, ...]:
    """Read a list of modules to deny and return their names in the kernel's form, with _ for -.

    Raises InvalidValueError for what is no module's name, and for a module that the platform needs.
    """
    found: dict[str, None] = {}
    for number, item in enumerate(names):
        name = item.replace("-", "_") if isinstance(item, str) and _NAME.fullmatch(item) else None
        if name is None:
            raise InvalidValueError(f"{field}[{number}]", item, "a module's name")
        if any(fnmatch(name, pattern) for pattern in _NEEDED):
            raise InvalidValueError(f"{field}[{number}]", item, "a module that the platform does without")
        found[name] = None
    return tuple(found)


def render_denial(names: Iterable[str]) -> str:
    """Return the text of a file for /etc/modprobe.d."""
    return _HEADER + "".join(f"install {name} /bin/false\n" for name in names)


def findings(kernel: Kernel, names: Iterable[str]) -> list[Finding]:
    """Return what is to be said of the denied modules: one finding for all of them, and one for each that is there."""
    names = tuple(names)
    if kernel.is_shared:
        reason = "this host is a container: modules are loaded by the host under it"
        return [Finding("modules", "denied modules", "denied", None, Status.UNSUPPORTED, reason)]
    if not kernel.has_modules:
        return [Finding("modules", "denied modules", "denied", "this kernel loads no modules", Status.ENFORCED)]
    present = {name for name in names if name in kernel.loaded_modules()}
    built_in = {name for name in names if name in kernel.built_in_modules}
    rest = len(names) - len(present | built_in)
    found = [Finding("modules", f"{rest} modules", "denied", "denied", Status.ENFORCED)] if rest else []
    for name in sorted(present):
        reason = f"{name} is loaded already, and stays until a reboot"
        found.append(Finding("module", name, "denied", "loaded", Status.NEEDS_REBOOT, reason))
    for name in sorted(built_in - present):
        reason = f"{name} is built into this kernel"
        found.append(Finding("module", name, "denied", "built in", Status.UNSUPPORTED, reason))
    return found
