"""How much a container may open, and what of it is logged: real traffic through the real kernel. Needs root."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.fixtures.fire_yard import (
    CONNECTED,
    PRIVATE,
    PUBLIC,
    SERVICE_PORT,
    SILENT,
    UPLINK,
    FireYard,
    Log,
    connect,
    fire_yard,
)

pytest_plugins = ["tests.integration.fixtures.fire_yard"]
pytestmark = pytest.mark.alone

PORT = 8080


@pytest.fixture
def plain() -> Iterator[FireYard]:
    """A yard as most hosts are, for what no setting of the bridge can touch."""
    with fire_yard() as made:
        yield made


class TestLimits:
    def burst(self, yard: FireYard, container: Any, count: int, port: int = PORT) -> int:
        """Open so many connections at once, each of one datagram, and return how many arrived."""
        listening = yard.hear(yard.outside, PUBLIC, port)

        def send() -> None:
            for _ in range(count):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                    one.sendto(b"x", (PUBLIC, port))

        container.call(send)
        listening.settimeout(0.3)
        arrived = 0
        try:
            while listening.recv(64):
                arrived += 1
        except TimeoutError:
            return arrived
        return arrived

    def test_new_connections_are_bounded_and_what_is_over_is_counted(self, plain: FireYard) -> None:
        one, fast = plain.add("one"), plain.add("fast", {"new_connections": 10_000})
        began = time.monotonic()
        arrived = self.burst(plain, one, 1000)
        assert 50 <= arrived <= 50 + 50 * (time.monotonic() - began)
        counted = plain.firewall.unlogged()[one.address]
        assert 800 <= counted + arrived <= 1000  # the log took the rest: 100 at once, and 20 a second
        assert self.burst(plain, fast, 1000, PORT + 1) == 1000
        assert fast.address in plain.firewall.unlogged()  # allowed, and more than the log takes

    def test_a_scan_is_bounded_too(self, plain: FireYard) -> None:
        one = plain.add("one")
        seen: list[int] = []
        with plain.outside.call(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
            raw.settimeout(0.5)

            def scan() -> None:
                for port in range(1, 1001):
                    with socket.socket() as knocking:
                        knocking.setblocking(False)
                        knocking.connect_ex((PUBLIC, port))

            scanning = threading.Thread(target=one.call, args=(scan,))
            began = time.monotonic()
            scanning.start()
            try:
                while data := raw.recv(2048):
                    if data[33] & 0x12 == 2:  # SYN alone
                        seen.append(int.from_bytes(data[22:24], "big"))
            except TimeoutError:
                scanning.join()
        assert 40 <= len(set(seen)) <= 51 + 50 * (time.monotonic() - began)

    def test_a_stream_that_nobody_answers_is_one_connection(self, plain: FireYard) -> None:
        one = plain.add("one", {"new_connections": 2})
        listening = plain.hear(plain.outside, PUBLIC, PORT)

        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
                for _ in range(100):
                    stream.sendto(b"x", (PUBLIC, PORT))

        one.call(send)
        listening.settimeout(5)
        assert [listening.recv(8) for _ in range(100)] == [b"x"] * 100

    def test_connections_at_a_time_are_bounded(self, plain: FireYard) -> None:
        one = plain.add("one", {"connections": 5})
        plain.serve(plain.outside, PUBLIC, PORT)
        opened = [one.call(socket.create_connection, (PUBLIC, PORT), 1) for _ in range(5)]
        assert connect(one, PUBLIC, PORT) == SILENT
        two = plain.add("two", {"connections": 5})
        assert connect(two, PUBLIC, PORT) == CONNECTED  # each has its own count
        opened[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # its end is a reset
        opened.pop(0).close()
        assert connect(one, PUBLIC, PORT) == CONNECTED
        for connection in opened:
            connection.close()

    def test_the_hosts_services_count_as_well(self, plain: FireYard) -> None:
        one = plain.add("one", {"connections": 2})
        plain.serve(plain, plain.address, SERVICE_PORT)
        opened = [one.call(socket.create_connection, (plain.address, SERVICE_PORT), 1) for _ in range(2)]
        plain.serve(plain.outside, PUBLIC, PORT)
        assert connect(one, PUBLIC, PORT) == connect(one, plain.address, SERVICE_PORT) == SILENT
        for connection in opened:
            connection.close()


class TestLog:
    def test_each_connection_is_logged_once_by_what_became_of_it(self, yard: FireYard) -> None:
        one, two = yard.add("one"), yard.add("two", published=[("tcp", PORT)])
        log = Log(yard)
        yard.serve(yard.outside, PUBLIC, PORT)
        yard.serve(two, two.address, PORT)
        connect(one, PUBLIC, PORT)
        assert log.prefixes() == ["bailey allow"]
        connect(yard, two.address, PORT)
        assert log.prefixes() == ["bailey allow"]
        connect(one, two.address, PORT, 0.2)
        connect(one, yard.address, PORT, 0.2)
        assert log.prefixes() == ["bailey deny egress policy"] * 2
        connect(yard.outside, two.address, PORT, 0.2)
        assert log.prefixes() == ["bailey deny ingress policy"]

    def test_what_another_filter_drops_is_not_logged_as_allowed(self, plain: FireYard) -> None:
        one, log = plain.add("one"), Log(plain)
        plain.serve(plain.outside, PUBLIC, PORT)
        table = f'table ip engine {{ chain c {{ type filter hook forward priority 0; oifname "{UPLINK}" drop; }}; }}'
        plain.host_run("nft", table)
        assert connect(one, PUBLIC, PORT) == SILENT
        assert log.prefixes() == []

    def test_a_flood_does_not_hide_what_else_is_denied(self, plain: FireYard) -> None:
        one, two, log = plain.add("one"), plain.add("two"), Log(plain)

        def flood() -> None:
            for port in range(2000):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
                    sending.sendto(b"x", (PRIVATE, 1 + port))

        one.call(flood)
        assert len(log.prefixes()) < 300
        connect(two, PRIVATE, PORT, 0.2)
        assert log.prefixes() == ["bailey deny egress policy"]
