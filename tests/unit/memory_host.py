"""A host kept in memory: an engine and quotas that record their calls and can be made to fail.

For tests of order and of putting back. That the steps do what they say is proven on real daemons.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bailey.agent_client import AgentClient, AgentUnavailableError, Held
from bailey.agent_files import AgentFiles
from bailey.backends.base import Backend, Blueprint, Capabilities, Container, Ended, EventStream
from bailey.carry import Carrier, Host
from bailey.errors import EngineError
from bailey.host.cgroup import Hierarchy
from bailey.host.idmap import IDENTITY
from bailey.host.quota import Quota, Volume
from bailey.instance_state import OPEN, InstanceState, write_state
from bailey.limits import Limits, LogLimit
from bailey.planning import Action, Presence, find_presences, plan_instance, plan_removal
from bailey.rlimits import KINDS
from bailey.spec import STARTED, parse_spec
from bailey.store import SpecStore

DECLARED = {
    "name": "web",
    "tenant": "ada",
    "image": "web:1",
    "user": 2000,
    "mem_limit": "64M",
    "cpus": 0.5,
    "pids_limit": 32,
    "disk_limit": "16M",
    "volumes": ["/data"],
}

PID = 4711  # of every container's PID 1


class Memory:
    """What both stand-ins share: a record of the calls, and the one call that fails."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failing = ""

    def call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.failing:
            self.failing = ""
            raise EngineError(f"{name} fails")


class MemoryEngine(Backend):
    """An engine whose containers are entries of a dictionary."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.containers: dict[str, dict[str, Any]] = {}
        self.numbers = itertools.count()
        self.live_restore = True
        self.ids = IDENTITY

    def list(self) -> list[Container]:
        return [
            Container(key, item["name"], "web", item["hash"], "web:1", item["running"], "", ())
            for key, item in self.containers.items()
        ]

    def capabilities(self) -> Capabilities:
        return Capabilities("1", frozenset(), 0, False, True, frozenset(KINDS), {}, self.ids)

    def survives_restart(self) -> bool:
        self.memory.call("survives_restart")
        return self.live_restore

    def has_image(self, reference: str) -> bool:
        return bool(reference)

    def pull(self, reference: str) -> None:
        assert reference
        self.memory.call("pull")

    def create(self, blueprint: Blueprint) -> str:
        self.memory.call("create")
        key = f"id{next(self.numbers)}"
        self.containers[key] = {
            "name": blueprint.name,
            "hash": blueprint.labels["bailey.hash"],
            "running": False,
            "memory": blueprint.spec.limits.memory,
        }
        return key

    def start(self, container_id: str) -> None:
        self.memory.call("start")
        self.containers[container_id]["running"] = True

    def stop(self, container_id: str, grace: float) -> None:
        assert grace >= 0
        self.memory.call("stop")
        self.containers[container_id]["running"] = False

    def remove(self, container_id: str) -> None:
        self.memory.call("remove")
        del self.containers[container_id]

    def rename(self, container_id: str, name: str) -> None:
        self.memory.call("rename")
        self.containers[container_id]["name"] = name

    def update(self, container_id: str, limits: Limits) -> None:
        self.memory.call("update")
        self.containers[container_id]["memory"] = limits.memory

    def log_limit(self, container_id: str) -> LogLimit | None:
        assert container_id
        return None

    def failure(self, container_id: str) -> str:
        return f"{container_id} does not run"

    def events(self, since: int, until: int | None = None) -> EventStream:
        raise NotImplementedError(since, until)

    def ended(self, container_id: str) -> Ended | None:
        raise NotImplementedError(container_id)

    def log_tail(self, container_id: str, lines: int) -> Sequence[str]:
        raise NotImplementedError(container_id, lines)

    @property
    def socket(self) -> Path:
        return Path("/run/engine.sock")

    def client(self) -> Sequence[str]:
        return ("engine",)


class MemoryQuota(Quota):
    """Volumes that are plain directories, their limits in a dictionary."""

    kind = "btrfs"

    def __init__(self, root: Path, memory: Memory) -> None:
        self.root = root
        self.memory = memory
        self.limits: dict[str, int | None] = {}
        self.uids: dict[str, int] = {}

    def device(self) -> str | None:
        return None

    def capacity(self) -> int:
        return 1 << 40

    def volumes(self) -> dict[str, Volume]:
        return {name: Volume(name, self.root / name, limit, 0, self.uids[name]) for name, limit in self.limits.items()}

    def create(self, name: str, limit: int | None, uid: int, gid: int) -> None:
        assert uid == gid
        self.memory.call("quota.create")
        (self.root / name).mkdir()
        self.limits[name] = limit
        self.uids[name] = uid

    def set_limit(self, name: str, limit: int | None) -> None:
        self.memory.call("quota.set_limit")
        self.limits[name] = limit

    def remove(self, name: str) -> None:
        self.memory.call("quota.remove")
        for path in (self.root / name).iterdir():
            path.rmdir()
        (self.root / name).rmdir()
        del self.limits[name]


class MemoryAgent(AgentClient):
    """An agent that opens every gate, and knows the names that it waits for. It can be away."""

    def __init__(self, memory: Memory, run_dir: Path) -> None:
        super().__init__(run_dir)
        self.memory = memory
        self.known: set[str] = set()
        self.networks: dict[str, list[dict[str, Any]]] = {}  # what it reads back, by the instance's name
        self.away = False
        self.draining = False

    @contextmanager
    def hold(self, name: str) -> Iterator[Held]:
        self.answer()
        yield MemoryHeld(name, self)

    def ask(self, operation: str, timeout: float | None = None) -> dict[str, Any]:
        assert (operation, timeout) == ("status", None)
        self.answer()
        return {"ok": True, "agent": {"draining": self.draining}}

    def network(self, names: Collection[str]) -> dict[str, list[dict[str, Any]]]:
        self.answer()
        return {name: self.networks.get(name, []) for name in names}

    def answer(self) -> None:
        if self.away:
            raise AgentUnavailableError("the agent does not answer")

    def expect(self, name: str) -> None:
        self.memory.call("expect")
        self.known.add(name)

    def await_gate(self, name: str, container_id: str) -> InstanceState:
        self.memory.call("gate")
        assert name in self.known
        state = InstanceState(name, container=container_id, status=OPEN, gate_ms=1.5, pid=PID)
        write_state(self.run_dir, state)
        return state

    def forget(self, name: str) -> None:
        self.memory.call("forget")
        self.known.discard(name)


class MemoryHeld(Held):
    """One instance, held by an agent in memory."""

    def __init__(self, name: str, agent: MemoryAgent) -> None:
        self.name = name
        self.agent = agent

    def expect(self) -> None:
        self.agent.expect(self.name)

    def await_gate(self, container_id: str, timeout: float) -> InstanceState:
        assert timeout > 0
        return self.agent.await_gate(self.name, container_id)

    def apply(self) -> None:
        self.agent.memory.call("apply")

    def forget(self) -> None:
        self.agent.forget(self.name)


def files_below(root: Path) -> AgentFiles:
    """Return where an agent keeps its files, all of it below one directory."""
    return AgentFiles(root, root / "run", root / "wsh")


class World:
    """A host in memory, and the changes that the tests put it through."""

    def __init__(self, root: Path) -> None:
        self.memory = Memory()
        self.engine = MemoryEngine(self.memory)
        self.quota = MemoryQuota(root / "volumes", self.memory)
        self.quota.root.mkdir()
        self.store = SpecStore(root)
        self.files = files_below(root)
        self.agent = MemoryAgent(self.memory, self.files.run_dir)

    def change(
        self, declared: Mapping[str, object] | None, *, remove_volumes: bool = False, state: str = STARTED
    ) -> Action:
        host = Host(self.engine, self.quota, Hierarchy(2, {}), self.store, self.agent, self.files, remove_volumes)
        presence = find_presences(self.engine.list()).get("web", Presence())
        stored = self.store.load().get("web")
        read_back = [] if presence.current is not None and presence.current.running else None
        plan = (
            plan_removal("web", presence, stored)
            if declared is None
            else plan_instance(parse_spec(declared), state, presence, stored, read_back)
        )
        self.memory.calls.clear()
        Carrier(host, self.quota.volumes(), self.engine.ids).carry_out(plan)
        return plan.action

    def state(self) -> tuple[object, ...]:
        containers = sorted((item["name"], item["running"], item["memory"]) for item in self.engine.containers.values())
        directories = sorted(str(path) for path in self.quota.root.rglob("*"))
        return containers, dict(self.quota.limits), directories, self.store.load()

    def everything(self) -> tuple[object, ...]:
        """Return that, the very containers included, and the content of every file."""
        root = self.store.specs.parent
        kept = [path for path in root.rglob("*") if path.is_file() and self.files.run_dir not in path.parents]
        files = {path: path.read_text() for path in kept}
        return self.state(), {key: dict(item) for key, item in self.engine.containers.items()}, files
