"""Asking the agent, over a real socket: what is sent, what is raised, and that a hold ends with its connection."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bailey.agent_client import AgentClient, AgentUnavailableError, GateError
from bailey.errors import HostError
from bailey.instance_state import OPEN, InstanceState

STATE = InstanceState("web", container="c0ffee", status=OPEN, gate_ms=6.25, pid=7)


class Agent:
    """Answers one connection with what it was given, and keeps what it was asked."""

    def __init__(self, listener: socket.socket, answers: Sequence[bytes]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.closed = threading.Event()
        self._listener = listener
        self._answers = answers

    def serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rb") as lines:
            for answer in self._answers:
                self.asked.append(json.loads(lines.readline()))
                connection.sendall(answer)
            if lines.readline() == b"":
                self.closed.set()


Serve = Callable[..., Agent]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    threads: list[threading.Thread] = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(*answers: object) -> Agent:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen()
        lines = [item if isinstance(item, bytes) else json.dumps(item).encode() + b"\n" for item in answers]
        agent = Agent(listener, lines)
        threads.append(threading.Thread(target=agent.serve))
        threads[-1].start()
        return agent

    yield start
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    listener.close()


@contextmanager
def raises(kind: type[Exception], text: str) -> Iterator[None]:
    with pytest.raises(kind, match=text) as caught:
        yield
    assert type(caught.value) is kind


def test_an_instance_is_held_brought_through_its_gate_and_forgotten(tmp_path: Path, serve: Serve) -> None:
    agent = serve({"ok": True}, {"ok": True}, {"ok": True, "state": STATE.as_json()}, {"ok": True})
    with AgentClient(tmp_path).hold("web") as held:
        held.expect()
        assert held.await_gate("c0ffee", 3) == STATE
        held.forget()
        assert not agent.closed.is_set()
    assert agent.closed.wait(5)
    assert agent.asked == [
        {"op": "hold", "name": "web"},
        {"op": "expect", "name": "web"},
        {"op": "await", "name": "web", "container": "c0ffee", "timeout": 3},
        {"op": "forget", "name": "web"},
    ]


def test_a_gate_that_stays_shut_tells_why(tmp_path: Path, serve: Serve) -> None:
    agent = serve({"ok": True}, {"ok": False, "reason": "cpus is unlimited, not 0.5"})
    with raises(GateError, r"^cpus is unlimited, not 0\.5$"), AgentClient(tmp_path).hold("web") as held:
        held.await_gate("c0ffee", 3)
    assert agent.closed.wait(5)


def test_a_refusal_is_an_error_of_the_host(tmp_path: Path, serve: Serve) -> None:
    serve({"ok": True}, {"ok": False, "reason": "the host is being drained"})
    with raises(HostError, "the host is being drained"), AgentClient(tmp_path).hold("web") as held:
        held.expect()


def test_an_answer_that_comes_in_pieces_is_put_together(tmp_path: Path, serve: Serve) -> None:
    serve(json.dumps({"ok": True, "agent": {"version": "x" * 100_000}}).encode() + b"\n")
    assert len(AgentClient(tmp_path).ask("status")["agent"]["version"]) == 100_000


@pytest.mark.parametrize("answer", [b"", b"no json\n", b"{"])
def test_an_agent_that_breaks_off_is_named(tmp_path: Path, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen()

        def serve_once() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve_once)
        thread.start()
        with raises(AgentUnavailableError, "agent.sock broke off while it was asked for status"):
            AgentClient(tmp_path).ask("status")
        thread.join(5)


def test_an_agent_that_is_silent_is_not_waited_for_without_end(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen()
        with raises(AgentUnavailableError, "has not answered status in time"):
            AgentClient(tmp_path, timeout=0.05).ask("status")


def test_an_agent_that_is_away_is_named(tmp_path: Path) -> None:
    with (
        raises(AgentUnavailableError, r"does not answer at .*agent\.sock \(No such file or directory\)"),
        AgentClient(tmp_path).hold("web"),
    ):
        pytest.fail("nothing was held")


def about(*, draining: bool, running: int) -> dict[str, Any]:
    return {"ok": True, "agent": {"draining": draining, "running": running}}


@pytest.mark.parametrize(
    ("draining", "running", "state"), [(False, 3, "active"), (True, 1, "draining"), (True, 0, "drained")]
)
def test_what_the_host_is(tmp_path: Path, serve: Serve, draining: bool, running: int, state: str) -> None:
    serve(about(draining=draining, running=running))
    assert AgentClient(tmp_path).state() == state


def test_draining_waits_for_the_last_tenant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    running = iter([2, 1, 0])

    def ask(_client: AgentClient, operation: str, timeout: float | None = None) -> dict[str, Any]:
        assert timeout is None
        asked.append(operation)
        return about(draining=True, running=next(running)) if operation == "status" else {"ok": True}

    monkeypatch.setattr(AgentClient, "ask", ask)
    AgentClient(tmp_path).drain(timeout=30)
    assert asked == ["drain", "status", "status", "status"]


def test_draining_that_takes_too_long_says_how_many_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AgentClient, "ask", lambda *_arguments, **_options: about(draining=True, running=2))
    with raises(HostError, r"2 instances have not stopped within 0 s"):
        AgentClient(tmp_path).drain(timeout=0)
