"""What answers make of an instance, and how they are read."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from bailey.agent.health import Standing
from bailey.agent.probe import UnhealthyError, parse_status, probe_http, probe_tcp, socket_inside
from bailey.healthcheck import HttpProbe, parse_healthcheck
from bailey.instance_state import HEALTH_STARTING, HEALTHY, UNHEALTHY


def standing(**declared: object) -> Standing:
    check = parse_healthcheck("one.healthcheck", {"tcp": 80, "retries": 3, **declared})
    assert check is not None
    return Standing(check, opened=100.0)


class TestStanding:
    def test_it_takes_as_many_failures_as_declared(self) -> None:
        made = standing()
        assert [made.failed(101.0) for _ in range(5)] == [False, False, True, False, False]
        assert made.health == UNHEALTHY

    def test_a_success_forgets_failures(self) -> None:
        made = standing()
        made.failed(101.0)
        made.failed(101.0)
        made.passed()
        assert (made.health, made.failures) == (HEALTHY, 0)
        assert [made.failed(102.0) for _ in range(3)] == [False, False, True]

    def test_none_counts_while_it_starts(self) -> None:
        made = standing(start_period="10s", retries=1)
        assert [made.failed(now) for now in (101.0, 109.9)] == [False, False]
        assert made.health == HEALTH_STARTING
        assert made.failed(110.0)

    def test_the_first_success_ends_the_start(self) -> None:
        made = standing(start_period="10s", retries=1)
        made.passed()
        assert made.failed(101.0)

    def test_it_becomes_unhealthy_again_after_it_was_well(self) -> None:
        made = standing(retries=1)
        assert made.failed(101.0)
        made.passed()
        assert made.failed(102.0)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nServer: x", 200),
        (b"HTTP/1.0 404\r\n", 404),
        (b"HTTP/1.1 503 ", 503),
        (b"HTTP/2 200\r\n", None),
        (b"HTTP/1.1 20\r\n", None),
        (b"HTTP/1.1 2x0\r\n", None),
        (b"SSH-2.0-x\r\n", None),
        (b"", None),
    ],
)
def test_status_lines(head: bytes, status: int | None) -> None:
    assert parse_status(head) == status


@contextmanager
def answering(*parts: bytes) -> Iterator[int]:
    """Listen on loopback and answer one connection with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                for part in parts:
                    connection.sendall(part)

        thread = threading.Thread(target=answer)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join(10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def ask(http: HttpProbe) -> None:
    async def run() -> None:
        with socket_inside(os.getpid()) as inside:
            await probe_http(inside, http)

    asyncio.run(run())


class TestProbes:
    """From inside this process's own network: entering another one needs root."""

    @pytest.mark.parametrize(
        ("parts", "status"),
        [((b"HTTP/1.1 204 x\r\n\r\n",), None), ((b"HTTP/1.", b"1 302 x\r\n"), 302), ((b"HTTP/1.1 399\r\n",), None)],
    )
    def test_a_good_answer(self, parts: tuple[bytes, ...], status: int | None) -> None:
        with answering(*parts) as port:
            ask(HttpProbe(port, "/", status))

    @pytest.mark.parametrize(
        ("parts", "status", "reason"),
        [
            ((b"HTTP/1.1 500 x\r\n",), None, "status 500, not 200 to 399"),
            ((b"HTTP/1.1 200 x\r\n",), 204, "status 200, not 204"),
            ((b"hello\r\n",), None, "what answers is not HTTP"),
            ((b"x" * 100_000,), None, "what answers is not HTTP"),
            ((), None, "what answers is not HTTP"),
        ],
    )
    def test_a_bad_one(self, parts: tuple[bytes, ...], status: int | None, reason: str) -> None:
        with pytest.raises(UnhealthyError, match=reason), answering(*parts) as port:
            ask(HttpProbe(port, "/", status))

    def test_nobody_there(self) -> None:
        async def run(port: int) -> None:
            with socket_inside(os.getpid()) as inside:
                await probe_tcp(inside, port)

        port = free_port()
        with pytest.raises(UnhealthyError, match=f"port {port}: Connection refused"):
            asyncio.run(run(port))

    def test_a_network_that_has_gone(self) -> None:
        with pytest.raises(OSError, match="No such file"):
            socket_inside(1 << 30)
