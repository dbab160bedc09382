"""What a Guard watches and freezes, as a test has it: containers, a network that is made again, the kernel's word."""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from bailey.agent import guard as module
from bailey.agent.guard import Guard, note_of
from bailey.host.cgroup import Group, Hierarchy
from bailey.host.files import read_text
from bailey.network_settings import NetworkSettings, parse_network_settings

ONE, TWO = "1" * 64, "2" * 64
SECONDS = 5.0
RETRY = 0.02


class StandInEvents:
    """Stands for TableEvents: what a test writes into a pipe has changed a table, `o` by this process itself."""

    def __init__(self, table: str) -> None:
        self.table = table
        self.closed = False
        self.looked = threading.Semaphore(0)
        self._read, self._write = os.pipe()

    def change(self, who: bytes = b"x") -> None:
        os.write(self._write, who)

    def fileno(self) -> int:
        return self._read

    def touched(self) -> bool:
        found = os.read(self._read, 100)
        self.looked.release()
        return b"x" in found

    def close(self) -> None:
        self.closed = True
        os.close(self._read)
        os.close(self._write)


@dataclass
class Stage:
    """A hierarchy with containers, a network that is made again as a test has it, and in `done` what happened."""

    root: Path
    settings: NetworkSettings = field(default_factory=lambda: parse_network_settings({}, "settings"))
    containers: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    wells: list[float] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    told: queue.Queue[str] = field(default_factory=queue.Queue)
    in_force: bool = True

    def __post_init__(self) -> None:
        self.hierarchy = Hierarchy(2, dict.fromkeys(("memory", "freezer"), self.root))
        self.events = StandInEvents("")

    def watch(self, table: str) -> StandInEvents:
        self.events.table = table
        return self.events

    def add(self, name: str, container: str, frozen: str = "0") -> None:
        self.containers[name] = container
        self.file(container).parent.mkdir(parents=True)
        self.file(container).write_text(frozen)

    def file(self, container: str) -> Path:
        return self.root / f"docker/{container}/cgroup.freeze"

    def frozen(self) -> list[str]:
        return [name for name, container in self.containers.items() if read_text(self.file(container)) == "1"]

    def noted(self) -> list[str] | None:
        path = note_of(self.root)
        return json.loads(path.read_text())["containers"] if path.exists() else None

    def name(self, group: Group) -> str:
        return next(name for name, container in self.containers.items() if group.paths["freezer"].name == container)

    # As HostNetwork.

    def rebuild(self, well: float) -> int:
        self.wells.append(well)
        self.done.append(f"rebuild with {' '.join(self.frozen())} frozen")
        for error in self.errors[:1]:
            del self.errors[:1]
            raise error
        return 3


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """One container runs."""
    made = Stage(tmp_path)
    made.add("one", ONE)
    monkeypatch.setattr(module, "TableEvents", made.watch)
    for change in ("freeze", "thaw"):
        record(change, made, monkeypatch)
    return made


def record(change: str, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    original = getattr(module, change)

    def recorded(group: Group) -> None:
        noted = "noted" if group.paths["freezer"].name in (stage.noted() or []) else "not noted"
        stage.done.append(f"{change} {stage.name(group)}, {noted}")
        original(group)

    monkeypatch.setattr(module, change, recorded)


@pytest.fixture
def unstarted(stage: Stage) -> Iterator[Guard]:
    network: Any = stage
    made = Guard(network, stage.hierarchy, stage.root, lambda: stage.told.put(made.repairs.failed))
    yield made
    if made._thread.ident is not None and not stage.events.closed:
        made.close()
        made._thread.join(SECONDS)


@pytest.fixture
def guard(unstarted: Guard) -> Guard:
    unstarted.start()
    return unstarted


def outcome(stage: Stage) -> str:
    """Wait for the end of an attempt, and return why it failed."""
    return stage.told.get(timeout=SECONDS)
