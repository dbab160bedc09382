"""The price of the gate: a container started through it, beside the same one started without."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from bailey.agent_client import AgentClient, Held
from bailey.backends.engine_api import EngineApi
from bailey.errors import EngineError
from bailey.names import CONTAINER_DIRECTORY

from bench.errors import BenchError
from bench.samples import Results

from .boxes import Boxes, declare
from .figures import (
    GATE,
    GATE_TIME,
    GATE_TIME_8,
    INIT,
    PLAIN,
    START,
    STARTS,
    STARTS_8,
)
from .scale import Scale

_AT_A_TIME = 8
_GATE_SECONDS = 60.0
_NOT_RUNNING = 409
_SUFFIXES = {PLAIN: "-plain", INIT: "-init"}


def measure_starts(boxes: Boxes, scale: Scale, results: Results) -> None:
    """Start containers one at a time and eight at a time, each kind in its turn."""
    names = [f"bench-gate-{number}" for number in range(1, _AT_A_TIME + 1)]
    boxes.converge([declare(name) for name in names])
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        starter = Starter(boxes, pool)
        try:
            starter.make_peers(names)
            for turn in range(scale.starts):
                for way in _rotated(turn):
                    _note(results, way, START, GATE_TIME, starter.start(way, names[:1]))
            for turn in range(scale.starts_8):
                for way in _rotated(turn):
                    _note(results, way, STARTS_8, GATE_TIME_8, starter.start(way, names))
        finally:
            starter.remove_peers(names)


def _rotated(turn: int) -> tuple[str, ...]:
    """Let each kind be first, second and last in turn."""
    first = turn % len(STARTS)
    return STARTS[first:] + STARTS[:first]


def _note(results: Results, way: str, what: str, gate: str, taken: Iterable[tuple[float, float | None]]) -> None:
    for seconds, gate_ms in taken:
        results.add(what, way, [seconds])
        if gate_ms is not None:
            results.add(gate, way, [gate_ms / 1000])


class Starter:
    """Ends containers and starts them again, all that are named at the same time."""

    def __init__(self, boxes: Boxes, pool: Executor) -> None:
        self._boxes = boxes
        self._pool = pool
        self._api = EngineApi(boxes.ground.engine.docker_host)
        self._agent = AgentClient(boxes.ground.run)

    def make_peers(self, names: Iterable[str]) -> None:
        """Make the same containers twice more: without gate, and with the engine's own init before the program."""
        for name in names:
            found = self._boxes.inspect(name)
            for way, suffix in _SUFFIXES.items():
                self._api.post("/containers/create", without_gate(found, init=way == INIT), {"name": name + suffix})

    def remove_peers(self, names: Iterable[str]) -> None:
        """Remove them."""
        for name in names:
            for suffix in _SUFFIXES.values():
                self._api.delete(f"/containers/{name}{suffix}", {"force": True, "v": True}, missing_ok=True)

    def start(self, way: str, names: Sequence[str]) -> list[tuple[float, float | None]]:
        """End containers and start them; return the seconds of each start, and the agent's word for its gate's time."""
        if way == GATE:
            return self._start_through_gate(names)
        containers = [name + _SUFFIXES[way] for name in names]
        for container in containers:
            self._end(container)
        return list(self._pool.map(self._start_plainly, containers))

    def _start_plainly(self, container: str) -> tuple[float, None]:
        begun = time.perf_counter()
        self._api.post(f"/containers/{container}/start")
        return time.perf_counter() - begun, None

    def _start_through_gate(self, names: Sequence[str]) -> list[tuple[float, float | None]]:
        """Do what the core does to start one. All that the agent is asked for counts; ending it does not."""
        with ExitStack() as stack:
            holds = []
            for name in names:
                begun = time.perf_counter()
                held = stack.enter_context(self._agent.hold(name))
                holds.append((held, time.perf_counter() - begun))
            for name in names:
                self._end(name)
            containers = [self._api.get(f"/containers/{name}/json")["Id"] for name in names]
            return list(self._pool.map(self._pass_gate, holds, containers))

    def _pass_gate(self, hold: tuple[Held, float], container: str) -> tuple[float, float | None]:
        held, holding = hold
        moment, begun = time.time(), time.perf_counter()
        held.expect()
        self._api.post(f"/containers/{container}/start")
        state = held.await_gate(container, _GATE_SECONDS)
        seconds = holding + time.perf_counter() - begun
        if state.gate_ms is None or state.opened_at is None or state.opened_at < moment:
            raise BenchError(f"{state.name}: what the agent says is not of this start: {state}")
        return seconds, state.gate_ms

    def _end(self, container: str) -> None:
        try:
            self._api.post(f"/containers/{container}/kill")
        except EngineError as error:
            if error.status != _NOT_RUNNING:
                raise
        self._api.post(f"/containers/{container}/wait")


def without_gate(found: dict[str, Any], *, init: bool) -> dict[str, Any]:
    """Return what makes a container like the one that was inspected, with its program as PID 1 or below an init."""
    host = found["HostConfig"]
    mounts = [mount for mount in host["Mounts"] if not mount["Target"].startswith(CONTAINER_DIRECTORY)]
    _, *program = found["Config"]["Cmd"]
    return {
        **found["Config"],
        "Entrypoint": None,
        "Cmd": program,
        "Labels": {},
        "HostConfig": {**host, "Mounts": mounts, "Init": init},
    }
