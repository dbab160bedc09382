"""From what the engine tells to what the supervisor has to know; after a gap, from a list of all that is there."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..backends.base import Backend, Container, Event, Happening
from ..errors import EngineError, EngineUnavailableError
from ..instance_state import OPEN, WAITING
from ..planning import find_presences
from .gate import Gate
from .ledger import LOG, Ledger, Record
from .supervisor import Supervisor
from .watch import EngineWatch, Item, Lost, Word
from .workers import Workers

_SECOND_LOOK = 1.0  # seconds


@dataclass
class Past:
    """What the engine remembers: which containers were stopped last, and when which was started."""

    stopped: set[str] = field(default_factory=set)
    started: dict[str, int] = field(default_factory=dict)


class Listener:
    """Follows one engine for as long as the agent runs, whether the engine is there or not."""

    def __init__(self, ledger: Ledger, gate: Gate, supervisor: Supervisor, backend: Backend, workers: Workers) -> None:
        self.engine_up = False
        self._ledger = ledger
        self._gate = gate
        self._supervisor = supervisor
        self._backend = backend
        self._workers = workers
        self._born = time.time_ns()
        self.watch = EngineWatch(backend, self._born)

    async def follow(self) -> None:
        """Take what comes, in order; never end."""
        self.watch.start()
        while True:
            item = await self.watch.next()
            try:
                await self._take(item)
            except Exception:
                LOG.exception("what the engine told could not be dealt with")

    async def _take(self, item: Item) -> None:
        if isinstance(item, Lost):
            self._down(item.reason)
        elif isinstance(item, Word):
            await self._look()
        else:
            self.on_event(item)

    def _down(self, reason: str) -> None:
        if self.engine_up or not self._supervisor.synced:
            LOG.warning("the engine does not answer, and is asked again and again: %s", reason)
        self.engine_up = False

    # A list of all.

    async def _look(self) -> None:
        """Compare everything. At first the engine's past is asked, too: who was stopped by hand while no agent ran."""
        past = Past()
        try:
            if not self._supervisor.synced:
                past = await self._workers.engine(self._ask_past)
            containers = await self._workers.engine(self._backend.list)
        except EngineError as error:
            self._down(str(error))
            if isinstance(error, EngineUnavailableError):
                self.watch.reconnect()
            return
        if not self.engine_up:
            LOG.info("the engine answers")
        self.engine_up = True
        self._ledger.reload_all()
        self._supervisor.synced = True
        presences = find_presences(containers)
        for record in self._ledger:
            current = presences[record.name].current if record.name in presences else None
            named = current if current is not None and current.name == record.name else None
            await self._compare(record, named, past)

    def _ask_past(self) -> Past:
        return read_past(self._backend.events(0, until=self._born))

    async def _compare(self, record: Record, container: Container | None, past: Past) -> None:
        believed = container is not None and (record.running or has_run(record, container.id, past))
        if container is None:
            record.container = record.made_from = ""
        else:
            record.container, record.made_from = container.id, container.declared_hash
        if record.lock.locked():
            return  # the agent is starting or stopping it: what is said of it is half of the story
        passed = self._gate.passed(record.name) is not None
        if passed or (container is not None and container.running):
            record.running = True
            if not (passed and record.is_open):
                await self._supervisor.look_at(record)
        elif believed and container is not None:
            await self._ended_in_the_gap(record, container, past)
        else:
            record.running = False
        self._supervisor.consider(record)

    async def _ended_in_the_gap(self, record: Record, container: Container, past: Past) -> None:
        try:
            ended = await self._workers.engine(self._backend.ended, container.id)
        except EngineError as error:
            self._down(str(error))
            return
        if ended is None or self._gate.passed(record.name) is not None:
            return  # it has started again meanwhile
        at = time.time_ns() if ended.at is None else int(ended.at * 1e9)
        self._supervisor.has_ended(record, ended.code, at, by_hand=container.id in past.stopped)

    # One event after the other.

    def on_event(self, event: Event) -> None:
        """Deal with one thing that happened."""
        record = self._ledger.get(event.declared_name)
        if record is None:
            record = self._ledger.record(event.declared_name)
            if record.declared is None and not record.problem:
                self._ledger.drop(record)
                return
        if event.kind in (Happening.CREATED, Happening.RENAMED):
            self._on_name(record, event)
        elif event.kind is Happening.STARTED:
            self._on_start(record, event)
        elif event.kind is Happening.DIED:
            self._on_death(record, event)
        elif event.container == record.container:
            self._on_order(record, event)

    def _on_name(self, record: Record, event: Event) -> None:
        """Take note of a name: a container that a recreate has set aside is nobody's until it gets it back."""
        if event.name == record.name:
            record.container, record.made_from = event.container, event.declared_hash
        elif record.container == event.container:
            record.container = record.made_from = ""
            record.running = False
            self._supervisor.consider(record)

    def _on_start(self, record: Record, event: Event) -> None:
        if event.name == record.name:
            record.container, record.made_from = event.container, event.declared_hash
            self._supervisor.has_started(record, event.at)

    def _on_death(self, record: Record, event: Event) -> None:
        """Deal with an end, unless it is one that came to light otherwise, or of an earlier run of what runs now."""
        if event.container != record.container or not record.running:
            return
        if self._gate.passed(record.name) is not None:
            # Where its control socket has only outlived it, nothing else would tell of the end before the next sweep.
            asyncio.get_running_loop().call_later(_SECOND_LOOK, self.watch.look)
            return
        if event.at < record.expected_at:
            record.running = False
        else:
            self._supervisor.has_ended(record, event.exit_code, event.at)

    def _on_order(self, record: Record, event: Event) -> None:
        ours = bool(record.acting or record.holds or record.interrupted or event.at <= record.ours_until)
        if event.kind is Happening.SIGNALLED and is_stop(event.signal, record):
            record.killed_at, record.killed_by_us = event.at, ours
            self._supervisor.let_end(record)
        elif event.kind is Happening.STOPPED and not ours:
            self._supervisor.was_stopped_by_hand(record)
        elif event.kind is Happening.REMOVED:
            record.container = record.made_from = ""
            record.running = False
            record.cancel_timer()
            self._supervisor.consider(record)


def is_stop(number: int | None, record: Record) -> bool:
    """Say whether a signal asks an instance to end."""
    if number is None or record.spec is None:
        return False
    name, _, above = record.spec.stop_signal.partition("+")
    base = getattr(signal, name, None) if name else signal.SIGTERM
    own = None if base is None else int(base) + (int(above) if above.isdigit() else 0)
    return number in (signal.SIGTERM, signal.SIGKILL, own)


def read_past(events: Iterable[Event]) -> Past:
    """Make of past events what counts of them."""
    past = Past()
    for event in events:
        if event.kind is Happening.STOPPED or (event.kind is Happening.SIGNALLED and event.signal == signal.SIGKILL):
            past.stopped.add(event.container)
        elif event.kind is Happening.STARTED:
            past.stopped.discard(event.container)
            past.started[event.container] = event.at
    return past


def has_run(record: Record, container: str, past: Past) -> bool:
    """Say whether a container that does not run has had a run whose end no agent saw."""
    state = record.state
    if state.status in (OPEN, WAITING):
        return state.container == container
    seen = 0 if state.last_exit is None else int(state.last_exit.at * 1e9)
    return record.settled and past.started.get(container, 0) > seen
