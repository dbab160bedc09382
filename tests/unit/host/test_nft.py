"""How libnftables is called, and whose changes the kernel's word is of."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bailey.errors import HostError, UnsupportedError
from bailey.host import nft
from bailey.host.netlink import NETFILTER, Message, attribute
from bailey.host.nft import Nft, TableEvents

OWN, FOREIGN = 4242, 666
INET, BRIDGE, IPV4 = 1, 7, 2
NEWGEN, NEWRULE, DELTABLE = 0xA0F, 0xA06, 0xA02


class Library:
    """A libnftables that refuses what has the word `bad` in it, and prints what it was asked for."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.dry: list[bool] = []
        self.freed: list[int] = []
        self._output = self._error = b""

    def nft_ctx_new(self, flags: int) -> int:
        assert flags == 0
        return 7

    def nft_ctx_free(self, context: int) -> None:
        self.freed.append(context)

    def nft_ctx_set_dry_run(self, _context: int, dry: bool) -> None:
        self.dry.append(dry)

    def nft_run_cmd_from_buffer(self, _context: int, commands: bytes) -> int:
        self.commands.append(commands.decode())
        failed = "bad" in self.commands[-1]
        self._output, self._error = (b"", b"Error: bad\nbad\n^^^\n") if failed else (commands, b"")
        return -1 if failed else 0

    def nft_ctx_get_output_buffer(self, _context: int) -> bytes | None:
        return self._output or None

    def nft_ctx_get_error_buffer(self, _context: int) -> bytes | None:
        return self._error or None

    def __getattr__(self, _name: str) -> Any:
        return lambda *_: 0


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library()
    monkeypatch.setattr(nft, "_library", lambda: made)
    return made


class TestTransactions:
    def test_what_it_prints_comes_back(self, library: Library) -> None:
        assert Nft().run("list tables") == "list tables"
        assert library.commands == ["list tables"]

    def test_a_refusal_is_in_its_own_words(self, library: Library) -> None:
        with pytest.raises(HostError, match="nftables: Error: bad\nbad"):
            Nft().run("bad")
        assert library.dry == []

    def test_what_would_be_refused_is_asked_without_doing_it(self, library: Library) -> None:
        one = Nft()
        assert one.accepts("good")
        assert not one.accepts("bad")
        assert library.dry == [True, False, True, False]

    def test_it_is_let_go_of(self, library: Library) -> None:
        Nft().run("x")
        assert library.freed == [7]

    def test_a_library_that_cannot_start_is_an_error(self, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(library, "nft_ctx_new", lambda _flags: None, raising=False)
        with pytest.raises(HostError, match="cannot be made ready"):
            Nft()

    def test_a_host_without_it_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(nft, "_LIBRARY", "libnftables.so.0")
        nft._library.cache_clear()
        try:
            with pytest.raises(UnsupportedError, match="libnftables cannot be loaded"):
                Nft()
        finally:
            nft._library.cache_clear()


def told(kind: int, family: int, table: str, port: int) -> Message:
    """Return what the kernel tells of a change to a table."""
    return Message(kind, 0, bytes([family, 0, 0, 0]) + attribute(1, table), port)


def ends(port: int) -> Message:
    """Return what closes a transaction; its first attribute is a number, where others have the table's name."""
    return Message(NEWGEN, 0, bytes(4) + attribute(1, struct.pack("!I", 9)) + attribute(2, bytes(4)), port)


class Datagrams:
    """A socket on which each item of a list waits, for select too."""

    def __init__(self) -> None:
        self._waiting: list[list[Message] | int] = []
        self._read, self._write = os.pipe()

    def tell(self, *datagrams: list[Message] | int) -> None:
        self._waiting += datagrams
        os.write(self._write, b"x" * len(datagrams))

    def fileno(self) -> int:
        return self._read

    def receive(self) -> list[Message]:
        os.read(self._read, 1)
        item = self._waiting.pop(0)
        if isinstance(item, int):
            raise OSError(item, os.strerror(item))
        return item

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Datagrams]:
    made = Datagrams()
    monkeypatch.setattr(nft, "Netlink", lambda *_, **__: made)
    monkeypatch.setattr(nft, "_own_ports", lambda: [OWN])
    yield made
    made.close()


@pytest.fixture
def events(wire: Datagrams) -> TableEvents:  # noqa: ARG001 - it has to be there
    return TableEvents("bailey")


class TestEvents:
    @pytest.mark.parametrize(
        ("kind", "family", "table", "port", "touched"),
        [
            (NEWRULE, INET, "bailey", FOREIGN, True),
            (DELTABLE, BRIDGE, "bailey", FOREIGN, True),
            (NEWRULE, INET, "bailey", OWN, False),
            (NEWRULE, INET, "bailey2", FOREIGN, False),
            (NEWRULE, IPV4, "bailey", FOREIGN, False),
        ],
    )
    def test_of_a_transaction(
        self, events: TableEvents, wire: Datagrams, kind: int, family: int, table: str, port: int, touched: bool
    ) -> None:
        wire.tell([told(kind, family, table, port), ends(port)])
        assert events.touched() == touched
        assert not events.touched()

    def test_one_may_come_in_pieces(self, events: TableEvents, wire: Datagrams) -> None:
        wire.tell([told(NEWRULE, INET, "bailey", FOREIGN)])
        assert not events.touched()
        wire.tell([told(NEWRULE, INET, "other", FOREIGN)], [ends(FOREIGN)])
        assert events.touched()

    def test_one_does_not_speak_for_the_next(self, events: TableEvents, wire: Datagrams) -> None:
        own, other = (
            [told(NEWRULE, INET, "bailey", OWN), ends(OWN)],
            [told(NEWRULE, INET, "other", FOREIGN), ends(FOREIGN)],
        )
        wire.tell(own + other, other + own)
        assert not events.touched()

    def test_a_foreign_one_among_many_counts(self, events: TableEvents, wire: Datagrams) -> None:
        own = [told(NEWRULE, INET, "bailey", OWN), ends(OWN)]
        wire.tell(own, [told(DELTABLE, INET, "bailey", FOREIGN), ends(FOREIGN), *own], own)
        assert events.touched()
        assert not events.touched()

    def test_what_was_lost_may_have_been_anybodys(self, events: TableEvents, wire: Datagrams) -> None:
        wire.tell([], errno.ENOBUFS, [])
        assert events.touched()
        assert not events.touched()

    def test_another_error_is_one(self, events: TableEvents, wire: Datagrams) -> None:
        wire.tell(errno.EIO)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            events.touched()

    def test_its_descriptor_is_what_to_wait_on(self, events: TableEvents, wire: Datagrams) -> None:
        assert not select.select([events], [], [], 0)[0]
        wire.tell([])
        assert select.select([events], [], [], 0)[0]


def test_own_sockets_are_found_among_all_descriptors() -> None:
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as one,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as other,
        socket.socket() as plain,
    ):
        for made in (one, other):
            made.bind((0, 0))
        plain.bind(("127.0.0.1", 0))
        before = len(list(Path("/proc/self/fd").iterdir()))
        assert one.getsockname()[0] in set(nft._own_ports())
        assert len(list(Path("/proc/self/fd").iterdir())) == before
