"""The agent's socket, over a real one: requests in order, holds that end with their connection."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from bailey.agent.api import Answer, Api, Session
from bailey.agent.daemon import _listen
from bailey.agent.scan import Order, Outcome
from bailey.agent_client import AgentClient, AgentUnavailableError, GateError
from bailey.errors import HostError
from bailey.instance_state import OPEN, REFUSED
from bailey.scan.findings import Finding

from tests.unit.agent.stage import ONE, Stage

NAME = "ada-web-1"


class Running:
    """An API that serves in a thread of its own, with a staged supervisor behind it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.thread.start()
        assert self.ready.wait(10)

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.stop = asyncio.Event()
        self.stage = Stage(self.root)
        stage = self.stage
        stage.supervisor.synced = True
        asked = (lambda: {"version": "1"}, self._read_network, self._scan)
        api = Api(lambda: Session(stage.ledger, stage.supervisor, stage.files, *asked))
        await api.serve(_listen(stage.run_dir / "agent.sock"))
        self.ready.set()
        await self.stop.wait()
        api.close()
        stage.close()

    async def _read_network(self, names: Collection[str]) -> Answer:
        return {name: [{"field": "network.rules"}] for name in names}

    async def _scan(self, order: Order) -> Outcome:
        return Outcome([Finding("setuid-file", ",".join(order.names), str(order.act))], {"rules": order.rules})

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(10)

    def do(self, work: Callable[[], Any]) -> Any:
        """Do something in the loop's thread."""

        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 5
        while not self.do(condition):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    @property
    def client(self) -> AgentClient:
        return AgentClient(self.root / "run")

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(str(self.root / "run/agent.sock"))
        return connection


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    try:
        yield running
    finally:
        running.close()


def test_a_client_comes_through_the_gate(api: Running) -> None:
    record = api.do(lambda: api.stage.declare(NAME))
    with api.client.hold(NAME) as held:
        assert record.holds == 1
        held.expect()
        assert NAME in api.stage.gate.armed
        opening = threading.Timer(0.2, lambda: api.do(lambda: api.stage.gate.open(record)))
        opening.start()
        state = held.await_gate(ONE, 5)
        assert (state.status, state.container, state.gate_ms) == (OPEN, ONE, 2.0)
    api.wait(lambda: record.holds == 0)


def test_a_refusal_ends_the_wait(api: Running) -> None:
    record = api.do(lambda: api.stage.declare(NAME))
    with api.client.hold(NAME) as held:
        held.expect()
        api.do(lambda: api.stage.ledger.publish(record, status=REFUSED, reason="pids_limit is 1", container=ONE))
        with pytest.raises(GateError, match=r"^pids_limit is 1$"):
            held.await_gate(ONE, 5)


def test_an_end_ends_the_wait(api: Running) -> None:
    record = api.do(lambda: api.stage.declare(NAME))
    with api.client.hold(NAME) as held:
        held.expect()
        record.running = True
        api.do(lambda: api.stage.die(record, 127))
        with pytest.raises(GateError, match="it ended before its gate opened: exit code 127"):
            held.await_gate(ONE, 5)


def test_a_gate_that_has_opened_has_opened(api: Running) -> None:
    """What ends at once has been let in all the same."""
    record = api.do(lambda: api.stage.declare(NAME))
    with api.client.hold(NAME) as held:
        held.expect()
        api.do(lambda: api.stage.start(record))
        api.do(lambda: api.stage.die(record, 0))
        assert held.await_gate(ONE, 5).gate_ms == 2.0


def test_the_wait_has_an_end(api: Running) -> None:
    api.do(lambda: api.stage.declare(NAME))
    with api.client.hold(NAME) as held, pytest.raises(GateError, match=r"did not open within 0\.1 s"):
        held.await_gate(ONE, 0.1)


def test_a_connection_that_goes_away_lets_go(api: Running) -> None:
    record = api.do(lambda: api.stage.declare(NAME))
    with api.connect() as connection:
        waiting = {"op": "await", "name": NAME, "container": ONE, "timeout": 60}
        hold = {"op": "hold", "name": NAME}
        connection.sendall(json.dumps(hold).encode() + b"\n" + json.dumps(waiting).encode() + b"\n")
        api.wait(lambda: record.holds == 1)
    api.wait(lambda: record.holds == 0)


def test_who_only_has_no_more_to_ask_gets_its_answers(api: Running) -> None:
    with api.connect() as connection:
        connection.sendall(b'{"op": "status"}\n' * 3)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile() as answers:
            assert [json.loads(line)["ok"] for line in answers] == [True] * 3


def test_a_hold_waits_for_what_is_under_way(api: Running) -> None:
    record = api.do(lambda: api.stage.declare(NAME))
    asyncio.run_coroutine_threadsafe(record.lock.acquire(), api.loop).result(10)
    answers: list[str] = []

    def hold() -> None:
        with api.client.hold(NAME):
            answers.append("held")

    holder = threading.Thread(target=hold)
    holder.start()
    time.sleep(0.2)
    assert (answers, record.holds) == ([], 1)
    api.do(record.lock.release)
    holder.join(10)
    assert answers == ["held"]


def test_to_expect_what_is_not_declared_is_refused(api: Running) -> None:
    with pytest.raises(HostError, match="nothing is declared under the name nobody"), api.client.hold("nobody") as held:
        held.expect()
    api.wait(lambda: len(api.stage.ledger) == 0)


def test_to_expect_while_draining_is_refused(api: Running) -> None:
    api.do(lambda: api.stage.declare(NAME))
    assert api.client.ask("drain")["stopping"] == 0
    with pytest.raises(HostError, match="the host is being drained"), api.client.hold(NAME) as held:
        held.expect()
    api.client.ask("resume")


def test_the_network_is_read_of_those_who_are_named(api: Running) -> None:
    assert api.client.network(["one"]) == {"one": [{"field": "network.rules"}]}
    assert api.client.network([]) == {}


def test_a_scan_is_asked_for(api: Running) -> None:
    answer = api.client.scan(["b", "a"], {"setuid-file": "stop"}, 5, act=False)
    assert answer["summary"] == {"rules": {"setuid-file": "stop"}}
    assert [(item["instance"], item["detail"]) for item in answer["findings"]] == [("a,b", "False")]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"names": "a", "rules": {}, "act": True}, "names"),
        ({"names": ["../a"], "rules": {}, "act": True}, "names[0]"),
        ({"names": [], "rules": [], "act": True}, "rules"),
        ({"names": [], "rules": {}, "act": 1}, "act"),
    ],
)
def test_a_scan_that_is_not_asked_for_well_is_refused(api: Running, request_: dict[str, Any], field: str) -> None:
    with api.connect() as connection, connection.makefile("rb") as answers:
        connection.sendall(json.dumps({"op": "scan", **request_}).encode() + b"\n")
        answer = json.loads(answers.readline())
    assert answer["ok"] is False
    assert answer["reason"].startswith(f"{field}: ")


def test_a_pardon_of_who_is_not_held(api: Running) -> None:
    api.do(lambda: api.stage.declare(NAME))
    assert api.client.pardon(NAME) is False


def test_to_forget_removes_every_file(api: Running) -> None:
    record = api.do(lambda: api.stage.declare(NAME))
    api.do(lambda: api.stage.start(record))
    files = api.stage.files
    files.make_boot_directory(NAME)
    files.crash_directory(NAME).mkdir(parents=True)
    with api.client.hold(NAME) as held:
        held.forget()
        assert not files.boot_directory(NAME).exists()
        assert not files.crash_directory(NAME).exists()
        assert not (api.stage.run_dir / f"state/{NAME}.json").exists()
        assert record.holds == 1


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b"1", b'{"op": 1}', b'{"op": "hold", "name": 1}', b'{"op": "hold", "name": "../x"}', b"\xff"],
)
def test_what_is_no_request_costs_nothing(api: Running, line: bytes) -> None:
    with api.connect() as connection, connection.makefile("rb") as answers:
        connection.sendall(line + b"\n")
        assert json.loads(answers.readline())["ok"] is False
        connection.sendall(b'{"op": "status"}\n')
        assert json.loads(answers.readline()) == {"ok": True, "agent": {"version": "1"}}


def test_a_line_without_an_end_is_not_kept(api: Running) -> None:
    with api.connect() as connection, connection.makefile("rb") as answers:
        connection.sendall(b"x" * 70_000)
        assert "at most" in json.loads(answers.readline())["reason"]
        assert answers.readline() == b""


def test_without_an_agent_the_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(AgentUnavailableError), AgentClient(tmp_path).hold(NAME):
        pass
