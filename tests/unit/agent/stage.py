"""A supervisor between a real ledger and stand-ins for the gate, the engine and time: for decisions, not for deeds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bailey.agent.custody import Custody
from bailey.agent.gate import Gate
from bailey.agent.hands import Hands
from bailey.agent.ledger import Ledger, Record
from bailey.agent.listener import Listener
from bailey.agent.peer import Peer
from bailey.agent.policy import FIRST_DELAY
from bailey.agent.proof import Prover
from bailey.agent.supervisor import Supervisor
from bailey.agent.workers import Workers
from bailey.agent_client import AgentClient
from bailey.agent_files import AgentFiles
from bailey.backends.base import Container, Ended, Event, EventStream, Happening
from bailey.carry import Host
from bailey.host.cgroup import Hierarchy
from bailey.spec import STARTED, Spec
from bailey.store import SpecStore, StoredSpec

from tests.unit.memory_host import Memory, MemoryEngine, MemoryQuota
from tests.unit.samples import spec

ONE, TWO = "1" * 64, "2" * 64


class Events(EventStream):
    """A stream that has ended already."""

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self.events = events

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def close(self) -> None:
        return None


class StagedEngine(MemoryEngine):
    """An engine of which a test says what it has, and whether it answers."""

    def __init__(self) -> None:
        super().__init__(Memory())
        self.there: list[Container] = []
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.ends: dict[str, Ended] = {}
        self.past: list[Event] = []
        self.failing: Exception | None = None
        self.acted_at = 0  # when it was last asked to start or stop something

    def list(self) -> list[Container]:
        self._answer()
        return self.there

    def start(self, container_id: str) -> None:
        self._answer()
        self.acted_at = time.time_ns()
        self.started.append(container_id)

    def stop(self, container_id: str, grace: float) -> None:
        assert grace >= 0
        self._answer()
        self.acted_at = time.time_ns()
        self.stopped.append(container_id)

    def ended(self, container_id: str) -> Ended | None:
        return self.ends.get(container_id)

    def log_tail(self, container_id: str, lines: int) -> list[str]:
        return [f"the end of {container_id[:2]}"][:lines]

    def events(self, since: int, until: int | None = None) -> EventStream:
        self._answer()
        assert until is None or since < until
        return Events(self.past)

    def _answer(self) -> None:
        if self.failing is not None:
            raise self.failing


class StagedGate(Gate):
    """A gate that says who is past it as a test has it."""

    past: dict[str, int]
    armed: set[str]

    def passed(self, name: str) -> int | None:
        return self.past.get(name)

    def arm(self, record: Record) -> None:
        if record.declared is not None:
            self.armed.add(record.name)

    def disarm(self, name: str) -> None:
        self.armed.discard(name)

    async def settle(self, record: Record) -> bool:
        if record.name not in self.past:
            self.arm(record)
            return False
        if not record.is_open:
            self.open(record)
        return True

    def open(self, record: Record, container: str = ONE) -> None:
        """Let an instance through."""
        self.past[record.name] = 4711
        self.armed.discard(record.name)
        record.container, record.running = container, True
        self.publish_open(record, Peer(4711, -1, 200_000, container), gate_ms=2.0, opened_at=time.time())


@dataclass
class Stage:
    """All of it, and the events that a test has happen."""

    root: Path
    limit: int = 10
    engine: StagedEngine = field(default_factory=StagedEngine)

    def __post_init__(self) -> None:
        self.run_dir = self.root / "run"
        self.run_dir.mkdir(exist_ok=True)
        (self.root / "volumes").mkdir(exist_ok=True)
        self.files = AgentFiles(self.root, self.run_dir, self.root / "wsh")
        self.store = SpecStore(self.root)
        quota = MemoryQuota(self.root / "volumes", Memory())
        agent = AgentClient(self.run_dir)
        self.host = Host(self.engine, quota, Hierarchy(2, {}), self.store, agent, self.files)
        self.workers = Workers()
        self.ledger = Ledger(self.store, self.run_dir)
        self.gate = StagedGate(self.ledger, Prover(self.host), self.workers)
        self.gate.past, self.gate.armed = {}, set()
        hands = Hands(self.engine, self.files, self.workers)
        self.custody = Custody(self.host.hierarchy, self.files)
        self.supervisor = Supervisor(self.ledger, self.gate, hands, self.custody, self.workers, self.limit)
        self.listener = Listener(self.ledger, self.gate, self.supervisor, self.engine, self.workers)
        self.at = time.time_ns()

    def declare(self, name: str = "ada-web-1", state: str = STARTED, **changes: Any) -> Record:
        """Declare an instance, with a container of that declaration that does not run."""
        declared = spec(name, **changes)
        self.store.write(StoredSpec(name, declared.uid, state, declared.canonical()))
        record = self.ledger.record(name)
        self.ledger.reload(record)
        record.container, record.made_from = ONE, declared.recreate_hash()
        return record

    def container(self, declared: Spec, *, running: bool, container: str = ONE, name: str = "") -> Container:
        return Container(
            container, name or declared.name, declared.name, declared.recreate_hash(), "web", running, "", ()
        )

    def happen(self, kind: Happening, record: Record, container: str = ONE, **details: Any) -> None:
        """Have the engine tell of something, now, or of when it was asked for it."""
        self.at = details.pop("at", 0) or max(self.at + 1_000_000, time.time_ns())
        made = record.spec.recreate_hash() if record.spec else ""
        event = Event(kind, container, details.pop("name", record.name), record.name, made, self.at, **details)
        self.listener.on_event(event)

    def start(self, record: Record, container: str = ONE, at: int = 0) -> None:
        """Have an instance started, and through its gate."""
        self.happen(Happening.STARTED, record, container, at=at)
        self.gate.open(record, container)

    def die(self, record: Record, code: int = 1, container: str = ONE, at: int = 0) -> None:
        """Have its container end."""
        self.gate.past.pop(record.name, None)
        self.happen(Happening.DIED, record, container, exit_code=code, at=at)

    async def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        """Wait until something is true."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)

    async def calm(self) -> None:
        """Wait a little longer than the first restart takes, and until nothing is under way that ends by itself."""
        await asyncio.sleep(FIRST_DELAY * 2.5)
        deadline = time.monotonic() + 2
        while self._is_busy() and time.monotonic() < deadline:
            await asyncio.sleep(FIRST_DELAY / 10)

    def _is_busy(self) -> bool:
        due = asyncio.get_running_loop().time() + FIRST_DELAY
        timers = (record.timer for record in self.ledger)
        return len(asyncio.all_tasks()) > 1 or any(timer is not None and timer.when() <= due for timer in timers)

    def close(self) -> None:
        self.supervisor.close()
        self.workers.close()


def on_stage(root: Path, play: Callable[[Stage], Any], **options: Any) -> None:
    """Run a test's coroutine on a stage of its own."""

    async def run() -> None:
        stage = Stage(root, **options)
        stage.supervisor.synced = True
        try:
            await play(stage)
        finally:
            stage.close()

    asyncio.run(run())
