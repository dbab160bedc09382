"""A step that fails leaves everything as it was: each step of each change is made to fail once.

The engine and the quotas are kept in memory here, for what is looked at is order and putting back; that the steps do
what they say is proven on the real ones by tests/integration/test_containers.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from bailey import carry
from bailey.backends.base import Backend, Blueprint, Capabilities, Container
from bailey.carry import Carrier, Host
from bailey.enforcement import Check
from bailey.errors import EnforcementError, EngineError
from bailey.host.cgroup import Hierarchy
from bailey.host.quota import Quota, Volume
from bailey.limits import Limits, LogLimit
from bailey.planning import Action, Plan, Presence, find_presences, plan_instance, plan_removal
from bailey.spec import STARTED, Spec, parse_spec
from bailey.store import SpecStore, StoredSpec

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
        self.ids = itertools.count()

    def list(self) -> list[Container]:
        return [
            Container(key, item["name"], "web", item["hash"], "web:1", item["running"], "", ())
            for key, item in self.containers.items()
        ]

    def capabilities(self) -> Capabilities:
        return Capabilities("1", frozenset(), 0, False, True, frozenset(), {})

    def has_image(self, reference: str) -> bool:
        return bool(reference)

    def pull(self, reference: str) -> None:
        assert reference
        self.memory.call("pull")

    def create(self, blueprint: Blueprint) -> str:
        self.memory.call("create")
        key = f"id{next(self.ids)}"
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

    def update(self, container_id: str, limits: Limits, restart: str) -> None:
        assert restart
        self.memory.call("update")
        self.containers[container_id]["memory"] = limits.memory

    def log_limit(self, container_id: str) -> LogLimit | None:
        assert container_id
        return None

    def failure(self, container_id: str) -> str:
        return f"{container_id} does not run"


class MemoryQuota(Quota):
    """Volumes that are plain directories, their limits in a dictionary."""

    kind = "btrfs"

    def __init__(self, root: Path, memory: Memory) -> None:
        self.root = root
        self.memory = memory
        self.limits: dict[str, int | None] = {}

    def device(self) -> str | None:
        return None

    def capacity(self) -> int:
        return 1 << 40

    def volumes(self) -> dict[str, Volume]:
        return {name: Volume(name, self.root / name, limit, 0, 2000) for name, limit in self.limits.items()}

    def create(self, name: str, limit: int | None, uid: int, gid: int) -> None:
        assert uid == gid
        self.memory.call("quota.create")
        (self.root / name).mkdir()
        self.limits[name] = limit

    def set_limit(self, name: str, limit: int | None) -> None:
        self.memory.call("quota.set_limit")
        self.limits[name] = limit

    def remove(self, name: str) -> None:
        self.memory.call("quota.remove")
        for path in (self.root / name).iterdir():
            path.rmdir()
        (self.root / name).rmdir()
        del self.limits[name]


class World:
    """A host in memory, and the changes that the tests put it through."""

    def __init__(self, root: Path) -> None:
        self.memory = Memory()
        self.engine = MemoryEngine(self.memory)
        self.quota = MemoryQuota(root / "volumes", self.memory)
        self.quota.root.mkdir()
        self.store = SpecStore(root)

    def change(self, declared: Mapping[str, object] | None, *, remove_volumes: bool = False) -> Action:
        host = Host(self.engine, self.quota, Hierarchy(2, {}), self.store, remove_volumes)
        presence = find_presences(self.engine.list()).get("web", Presence())
        stored = self.store.load().get("web")
        plan = (
            plan_removal("web", presence, stored)
            if declared is None
            else plan_instance(parse_spec(declared), STARTED, presence, stored, [])
        )
        self.memory.calls.clear()
        Carrier(host, self.quota.volumes()).carry_out(plan)
        return plan.action

    def state(self) -> tuple[object, ...]:
        containers = sorted((item["name"], item["running"], item["memory"]) for item in self.engine.containers.values())
        directories = sorted(str(path) for path in self.quota.root.rglob("*"))
        return containers, dict(self.quota.limits), directories, self.store.load()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The kernel holds everything, unless a test says otherwise; files keep their owner."""
    monkeypatch.setattr(carry, "read_container", lambda _hierarchy, container: container)
    monkeypatch.setattr(carry, "is_starting", lambda *_arguments: False)
    monkeypatch.setattr(carry, "checks", lambda *_arguments: [])
    monkeypatch.setattr(carry.os, "chown", lambda *_arguments: None)
    return World(tmp_path)


def test_a_creation_ends_with_everything_in_place(world: World) -> None:
    assert world.change(DECLARED) is Action.CREATE
    assert world.memory.calls == ["quota.create", "create", "start"]
    assert world.state()[0] == [("web", True, 64 << 20)]
    assert (world.quota.root / "web/data").is_dir()


@pytest.mark.parametrize("step", ["quota.create", "create", "start"])
def test_a_creation_that_fails_leaves_nothing(world: World, step: str) -> None:
    before = world.state()
    world.memory.failing = step
    with pytest.raises(EngineError, match=f"{step} fails"):
        world.change(DECLARED)
    assert world.state() == before
    assert not (world.store.accounts / "web").exists()


REMADE = {**DECLARED, "environment": {"A": "1"}, "disk_limit": "32M", "volumes": ["/data", "/more"]}
UPDATED = {**DECLARED, "mem_limit": "96M", "disk_limit": "32M"}


def test_a_new_container_replaces_the_old_one_last(world: World) -> None:
    world.change(DECLARED)
    assert world.change(REMADE) is Action.RECREATE
    assert world.memory.calls == ["stop", "rename", "quota.set_limit", "create", "start", "remove"]
    assert [item["name"] for item in world.engine.containers.values()] == ["web"]


@pytest.mark.parametrize("step", ["quota.set_limit", "create", "start"])
def test_a_recreation_that_fails_brings_the_old_container_back(world: World, step: str) -> None:
    world.change(DECLARED)
    before = world.state()
    world.memory.failing = step
    with pytest.raises(EngineError, match=f"{step} fails"):
        world.change(REMADE)
    assert world.state() == before


@pytest.mark.parametrize("step", ["quota.set_limit", "update", "start"])
def test_an_update_that_fails_gives_the_former_limits_back(world: World, step: str) -> None:
    world.change(DECLARED)
    before = world.state()
    world.memory.failing = step
    with pytest.raises(EngineError, match=f"{step} fails"):
        world.change(UPDATED)
    assert world.state() == before


@pytest.mark.parametrize("declared", [REMADE, UPDATED])
def test_a_limit_that_does_not_hold_undoes_the_change(
    world: World, declared: Mapping[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.change(DECLARED)
    before = world.state()
    monkeypatch.setattr(carry, "checks", lambda *_arguments: [Check("cpus", "0.5", "unlimited", holds=False)])
    with pytest.raises(EnforcementError, match=r"cpus is unlimited, not 0\.5"):
        world.change(declared)
    assert world.state() == before


@pytest.mark.parametrize("step", ["stop", "remove", "quota.remove"])
def test_a_removal_that_is_cut_off_can_be_repeated(world: World, step: str) -> None:
    empty = world.state()
    world.change(DECLARED)
    world.memory.failing = step
    with pytest.raises(EngineError):
        world.change(None, remove_volumes=True)
    assert "web" in world.store.load()
    assert world.change(None, remove_volumes=True) is Action.REMOVE
    assert world.state() == empty


def test_a_removal_keeps_the_data_unless_told(world: World) -> None:
    world.change(DECLARED)
    world.change(None)
    assert list(world.quota.limits) == ["web"]
    assert world.store.load() == {}


def test_a_recreation_that_was_cut_off_is_healed(world: World) -> None:
    world.change(DECLARED)
    (old,) = world.engine.containers
    world.engine.rename(old, "web.bailey-old")
    assert world.change(DECLARED) is Action.RECREATE
    assert [item["name"] for item in world.engine.containers.values()] == ["web"]
    assert old not in world.engine.containers


def test_the_spec_is_in_place_before_the_engine_is_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, StoredSpec]] = []
    monkeypatch.setattr(world.memory, "call", lambda _name: seen.append(world.store.load()))
    world.change(DECLARED)
    assert seen
    assert all("web" in stored for stored in seen)
    assert (world.store.specs / "web.json").stat().st_mode & 0o777 == 0o600


def test_a_plan_knows_its_spec() -> None:
    spec: Spec = parse_spec(DECLARED)
    plan: Plan = plan_instance(spec, STARTED, Presence(), None, [])
    assert (plan.spec, plan.action) == (spec, Action.CREATE)
