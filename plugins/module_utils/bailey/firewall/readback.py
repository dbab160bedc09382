"""What the kernel holds, against what is meant."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import TypeVar

from ..host.namespaces import made_apart
from ..host.nft import BRIDGE, INET, Nft
from ..host.nft_read import Contents, TableReader
from .policy import Element

Name = TypeVar("Name")

FAMILIES = {"inet": INET, "bridge": BRIDGE}
_PROTOCOLS = {"tcp": 6, "udp": 17}
# What a key is made of; where nothing is said it is an address.
_KEYS = {
    "denied_ports": ("service",),
    "neighbours": ("interface", "hardware", "address"),
    "ports": ("interface",),
    "published": ("address", "protocol", "service"),
    "services": ("address", "protocol", "service"),
}
_SIZES = {"address": 4, "hardware": 6, "interface": 16, "protocol": 1, "service": 2}


def key_of(element: Element) -> bytes:
    """Return an element's key as the kernel has it: each part padded to four bytes."""
    kinds = _KEYS.get(element.set, ("address",))
    return b"".join(_encode(kind, part) for kind, part in zip(kinds, element.key, strict=True))


def _encode(kind: str, part: str) -> bytes:
    match kind:
        case "address":
            encoded = socket.inet_aton(part)
        case "hardware":
            encoded = bytes.fromhex(part.replace(":", ""))
        case "interface":
            encoded = part.encode().ljust(_SIZES[kind], b"\0")
        case "protocol":
            encoded = bytes([_PROTOCOLS[part]])
        case _:
            encoded = int(part).to_bytes(_SIZES[kind], "big")
    return encoded + b"\0" * (-len(encoded) % 4)


def describe_key(name: str, key: bytes) -> str:
    """Return an element's key as nft writes it."""
    words, offset = [], 0
    for kind in _KEYS.get(name, ("address",)):
        size = _SIZES[kind]
        words.append(_decode(kind, key[offset : offset + size]))
        offset += (size + 3) & ~3
    return " . ".join(words)


def _decode(kind: str, data: bytes) -> str:
    match kind:
        case "address":
            return socket.inet_ntoa(data)
        case "hardware":
            return data.hex(":")
        case "interface":
            return data.rstrip(b"\0").decode(errors="replace")
        case "protocol":
            return {number: name for name, number in _PROTOCOLS.items()}.get(data[0], str(data[0]))
        case _:
            return str(int.from_bytes(data, "big"))


def meant_contents(table: str, commands: str) -> dict[str, Contents]:
    """Return what commands make of both tables where nothing else is: in a network namespace of its own, for a moment.

    The same libnftables and the same kernel put it into words, so that no version's way to print a rule matters.
    """

    def make() -> dict[str, Contents]:
        nft, reader = Nft(), TableReader(table)
        try:
            nft.run(commands)
            return {name: reader.contents(family) for name, family in FAMILIES.items()}
        finally:
            reader.close()

    return made_apart(make)


def differences(where: str, meant: Contents, held: Contents) -> Iterator[str]:
    """Yield what of a table is not as it should be."""
    if not held.chains and not held.sets:
        yield f"{where}: the table is not there"
        return
    for name in sorted(meant.chains.keys() | held.chains.keys()):
        yield from _missing(f"{where}: chain {name}", name, meant.chains, held.chains)
        if name in meant.chains and name in held.chains:
            yield from _chain_differences(f"{where}: chain {name}", meant, held, name)
    for name in sorted(meant.sets.keys() | held.sets.keys()):
        yield from _missing(f"{where}: set {name}", name, meant.sets, held.sets)
        if name in meant.sets and name in held.sets:
            yield from _set_differences(f"{where}: set {name}", meant, held, name)


def _missing(what: str, name: Name, meant: Mapping[Name, object], held: Mapping[Name, object]) -> Iterator[str]:
    if name not in held:
        yield f"{what} is not there"
    elif name not in meant:
        yield f"{what} should not be there"


def _chain_differences(where: str, meant: Contents, held: Contents, name: str) -> Iterator[str]:
    if meant.chains[name] != held.chains[name]:
        yield f"{where} has another hook, priority or policy"
    wanted, found = meant.rules[name], held.rules[name]
    if len(wanted) != len(found):
        yield f"{where} has {len(found)} rules, not {len(wanted)}"
    elif wanted != found:
        others = [str(number) for number, pair in enumerate(zip(wanted, found, strict=True), 1) if pair[0] != pair[1]]
        yield f"{where} has another rule {', '.join(others)}"


def _set_differences(where: str, meant: Contents, held: Contents, name: str) -> Iterator[str]:
    if meant.sets[name] != held.sets[name]:
        yield f"{where} is declared in another way"
    wanted, found = meant.elements.get(name, {}), held.elements.get(name, {})
    for key in sorted(wanted.keys() | found.keys()):
        what = f"{where}: element {describe_key(name, key)}"
        if wanted.get(key) != found.get(key):
            yield next(_missing(what, key, wanted, found), f"{what} is another")
