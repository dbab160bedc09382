"""Which name servers the engine hands to containers: those of the host, but for those that only the host reaches.

Sources: resolv.conf(5), systemd-resolved.service(8), and of the engine libnetwork/resolvconf (Path, FilterResolvDNS).
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from .files import read_text

_ETC = Path("/etc/resolv.conf")
_SYSTEMD = Path("/run/systemd/resolve/resolv.conf")
# Where this is the only name server, the engine takes those that systemd-resolved asks itself.
_STUB = "127.0.0.53"
_FALLBACK = ("8.8.8.8", "8.8.4.4")


def read_resolvers(etc: Path = _ETC, systemd: Path = _SYSTEMD) -> tuple[str, ...]:
    """Return their IPv4 addresses; the engine's own fallback where the host has none that a container reaches."""
    named = _nameservers(etc)
    if named == [_STUB]:
        named = _nameservers(systemd)
    return tuple(dict.fromkeys(text for text in named if _is_reachable(text))) or _FALLBACK


def _nameservers(path: Path) -> list[str]:
    lines = [line.partition("#")[0].split() for line in (read_text(path) or "").splitlines()]
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


def _is_reachable(text: str) -> bool:
    try:
        return not ipaddress.IPv4Address(text).is_loopback
    except ValueError:
        return False
