"""What nftables holds, read from the kernel by raw netlink: single elements in microseconds, or a whole table.

Sources: linux/netfilter/nf_tables.h, net/netfilter/nf_tables_api.c.
"""

from __future__ import annotations

import errno
import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .netlink import (
    NETFILTER,
    Message,
    Netlink,
    NetlinkError,
    attribute,
    attribute_list,
    parse_attributes,
    text,
)
from .nft import HEADER, SUBSYSTEM, TABLE

_GETCHAIN, _GETRULE, _GETSET, _GETSETELEM, _GETGEN = (SUBSYSTEM | kind for kind in (4, 7, 10, 13, 16))  # NFT_MSG_*
_GENERATION = 1  # NFTA_GEN_ID
_FAMILY = struct.Struct("=BBH")  # struct nfgenmsg
_NAME = 2  # NFTA_SET_NAME, NFTA_SET_ELEM_LIST_SET and NFTA_RULE_CHAIN
_CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 3, 4, 5, 7
_EXPRESSIONS = 4  # NFTA_RULE_EXPRESSIONS
_SET_FLAGS = 3
# NFTA_SET_*: flags, key's type and length, data's type and length, size, timeout, one expression or several.
_SET_DECLARED = (_SET_FLAGS, 4, 5, 6, 7, 9, 11, 17, 18)
_DYNAMIC = 0x20  # NFT_SET_EVAL: packets put elements in, no transaction
_ELEMENTS, _ITEM = 3, 1  # NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_LIST_ELEM
_KEY, _DATA, _ELEMENT_FLAGS, _EXPRESSION = 1, 2, 3, 7  # NFTA_SET_ELEM_*
_DATA_VALUE, _DATA_VERDICT, _VERDICT_CHAIN = 1, 2, 2  # NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_VERDICT_CHAIN
_EXPRESSION_DATA = 2  # NFTA_EXPR_DATA
_LIMIT_RATE, _COUNTER_PACKETS = 1, 2  # NFTA_LIMIT_RATE, NFTA_COUNTER_PACKETS


@dataclass(frozen=True)
class Element:
    """One element of a set or map as the kernel tells it."""

    key: bytes
    attributes: Mapping[int, bytes]

    @property
    def chain(self) -> str:
        """The chain that a map's element leads to, empty where there is none."""
        verdict = parse_attributes(parse_attributes(self.attributes.get(_DATA, b"")).get(_DATA_VERDICT, b""))
        return text(verdict.get(_VERDICT_CHAIN, b""))

    @property
    def rate(self) -> int:
        """The packets in a unit of time that its limit lets through, 0 without one."""
        return self._expression(_LIMIT_RATE)

    @property
    def packets(self) -> int:
        """What its counter has counted, 0 without one."""
        return self._expression(_COUNTER_PACKETS)

    @property
    def content(self) -> tuple[bytes, bytes, bytes]:
        """Its flags, data and expression."""
        flags, data, expression = (self.attributes.get(kind, b"") for kind in (_ELEMENT_FLAGS, _DATA, _EXPRESSION))
        return flags, data, expression

    def _expression(self, kind: int) -> int:
        data = parse_attributes(parse_attributes(self.attributes.get(_EXPRESSION, b"")).get(_EXPRESSION_DATA, b""))
        return int.from_bytes(data.get(kind, b""), "big")


@dataclass
class Contents:
    """A whole table in the kernel's own words.

    Chains by name with their hook; rules by chain in order, each as its expressions; sets by name as they are declared;
    elements by set and key, those of dynamic sets left out.
    """

    chains: dict[str, bytes] = field(default_factory=dict)
    rules: dict[str, list[bytes]] = field(default_factory=dict)
    sets: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    elements: dict[str, dict[bytes, tuple[bytes, bytes, bytes]]] = field(default_factory=dict)


class TableReader:
    """Reads the tables of one name, in the network namespace that it was made in. Not for two threads."""

    def __init__(self, table: str) -> None:
        self._table = attribute(TABLE, table)
        self._netlink = Netlink(NETFILTER)

    def generation(self) -> int:
        """Return the number of the last transaction, of whomever and on whichever table of this network namespace."""
        (answer,) = self._netlink.request(_GETGEN, _FAMILY.pack(0, 0, 0))
        return int.from_bytes(answer.attributes(HEADER)[_GENERATION], "big")

    def element(self, family: int, name: str, key: bytes) -> Element | None:
        """Look an element up by its key; None where it is not there, or its set is not."""
        wanted = attribute(_ELEMENTS, [attribute(_ITEM, {_KEY: {_DATA_VALUE: key}})])
        try:
            answers = self._netlink.request(_GETSETELEM, self._body(family) + attribute(_NAME, name) + wanted)
        except NetlinkError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return next((element for answer in answers for element in _elements(answer)), None)

    def all_elements(self, family: int, name: str) -> list[Element]:
        """Return a whole set. Raises NetlinkError where there is none."""
        answers = self._netlink.dump(_GETSETELEM, self._body(family) + attribute(_NAME, name))
        return [element for answer in answers for element in _elements(answer)]

    def rules(self, family: int, chain: str) -> list[bytes]:
        """Return each rule of one chain as its expressions; none where there is no such chain."""
        try:
            answers = self._netlink.dump(_GETRULE, self._body(family) + attribute(_NAME, chain))
        except NetlinkError as error:
            if error.errno == errno.ENOENT:
                return []
            raise
        return [answer.attributes(HEADER).get(_EXPRESSIONS, b"") for answer in answers]

    def contents(self, family: int) -> Contents:
        """Read a whole table; one that is not there is empty."""
        found = Contents()
        body = self._body(family)
        for attributes in self._dump(_GETCHAIN, body):
            name = text(attributes[_CHAIN_NAME])
            found.chains[name] = b"|".join(
                attributes.get(kind, b"") for kind in (_CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE)
            )
            found.rules[name] = []
        for attributes in self._dump(_GETRULE, body):
            found.rules[text(attributes[_NAME])].append(attributes.get(_EXPRESSIONS, b""))
        for attributes in self._dump(_GETSET, body):
            name = text(attributes[_NAME])
            found.sets[name] = tuple(attributes.get(kind, b"") for kind in _SET_DECLARED)
            if not int.from_bytes(attributes.get(_SET_FLAGS, b""), "big") & _DYNAMIC:
                found.elements[name] = {item.key: item.content for item in self.all_elements(family, name)}
        return found

    def close(self) -> None:
        """Read no more."""
        self._netlink.close()

    def _body(self, family: int) -> bytes:
        return _FAMILY.pack(family, 0, 0) + self._table

    def _dump(self, kind: int, body: bytes) -> Iterator[dict[int, bytes]]:
        """Yield what there is of a kind; where the table is not there some kernels say so, and others list nothing."""
        try:
            answers = self._netlink.dump(kind, body)
        except NetlinkError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        yield from (
            attributes
            for answer in answers
            if attribute(TABLE, text((attributes := answer.attributes(HEADER))[TABLE])) == self._table
        )


def digest(rules: Sequence[bytes]) -> bytes:
    """Return what tells a chain's rules from others."""
    return hashlib.blake2b(b"".join(hashlib.blake2b(rule, digest_size=16).digest() for rule in rules)).digest()


def _elements(answer: Message) -> Iterator[Element]:
    for _, item in attribute_list(answer.attributes(HEADER).get(_ELEMENTS, b"")):
        attributes = parse_attributes(item)
        yield Element(parse_attributes(attributes[_KEY]).get(_DATA_VALUE, b""), attributes)
