"""A step that fails leaves everything as it was: each step of each change is made to fail once.

The engine and the quotas are kept in memory here, for what is looked at is order and putting back; that the steps do
what they say is proven on the real ones by tests/integration/test_containers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from bailey import carry
from bailey.agent_client import AgentUnavailableError
from bailey.errors import BaileyError, EngineError, HostError
from bailey.planning import Action, Plan, Presence, plan_instance
from bailey.spec import STARTED, STOPPED, Spec, parse_spec
from bailey.store import StoredSpec

from tests.unit.memory_host import DECLARED, World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The kernel holds everything, unless a test says otherwise; files keep their owner."""
    monkeypatch.setattr(carry, "read_container", lambda _hierarchy, container: container)
    monkeypatch.setattr(carry.os, "chown", lambda *_arguments: None)
    return World(tmp_path)


def test_a_creation_ends_with_everything_in_place(world: World) -> None:
    assert world.change(DECLARED) is Action.CREATE
    assert world.memory.calls == ["quota.create", "create", "expect", "start", "gate"]
    assert world.state()[0] == [("web", True, 64 << 20)]
    assert (world.quota.root / "web/data").is_dir()


@pytest.mark.parametrize("step", ["quota.create", "create", "expect", "start", "gate"])
def test_a_creation_that_fails_leaves_nothing(world: World, step: str) -> None:
    before = world.state()
    world.memory.failing = step
    with pytest.raises(EngineError, match=f"{step} fails"):
        world.change(DECLARED)
    assert world.state() == before
    assert not (world.store.accounts / "web").exists()
    assert world.agent.known == set()


REMADE = {**DECLARED, "environment": {"A": "1"}, "disk_limit": "32M", "volumes": ["/data", "/more"]}
UPDATED = {**DECLARED, "mem_limit": "96M", "disk_limit": "32M"}


def test_a_new_container_replaces_the_old_one_last(world: World) -> None:
    world.change(DECLARED)
    assert world.change(REMADE) is Action.RECREATE
    assert world.memory.calls == [
        "stop", "rename", "quota.set_limit", "create", "expect", "start", "gate", "remove"
    ]  # fmt: skip
    assert [item["name"] for item in world.engine.containers.values()] == ["web"]


@pytest.mark.parametrize("step", ["quota.set_limit", "create", "expect", "start", "gate"])
def test_a_recreation_that_fails_brings_the_old_container_back(world: World, step: str) -> None:
    world.change(DECLARED)
    before = world.state()
    world.memory.failing = step
    with pytest.raises(EngineError, match=f"{step} fails"):
        world.change(REMADE)
    assert world.state() == before


@pytest.mark.parametrize("step", ["quota.set_limit", "update", "apply"])
def test_an_update_that_fails_gives_the_former_limits_back(world: World, step: str) -> None:
    world.change(DECLARED)
    before = world.state()
    world.memory.failing = step
    with pytest.raises(EngineError, match=f"{step} fails"):
        world.change(UPDATED)
    assert world.state() == before


def test_without_the_agent_nothing_starts_and_nothing_changes(world: World) -> None:
    world.agent.away = True
    before = world.everything()
    with pytest.raises(AgentUnavailableError):
        world.change(DECLARED)
    assert world.everything() == before


def test_without_the_agent_an_instance_can_be_stopped_and_removed(world: World) -> None:
    empty = world.state()
    world.change(DECLARED)
    world.agent.away = True
    assert world.change(DECLARED, state=STOPPED) is Action.STOP
    boot = world.files.boot_directory("web")
    assert boot.is_dir()
    assert world.change(None, remove_volumes=True) is Action.REMOVE
    assert world.state() == empty
    assert not boot.exists()


@pytest.mark.parametrize("step", ["stop", "remove", "quota.remove", "forget"])
def test_a_removal_that_is_cut_off_can_be_repeated(world: World, step: str) -> None:
    empty = world.state()
    world.change(DECLARED)
    world.memory.failing = step
    with pytest.raises(HostError, match=f"{step} fails; it is not removed yet, the next run goes on with that"):
        world.change(None, remove_volumes=True)
    assert "web" in world.store.load()
    assert world.change(None, remove_volumes=True) is Action.REMOVE
    assert world.state() == empty


class Interruption:
    """Lets one of the steps fail that change a world: before it has done its work, or only after."""

    def __init__(self, world: World, number: int, *, after: bool) -> None:
        self.steps: list[str] = []
        self.number = number
        self.after = after
        for owner, names in (
            (world.engine, ("create", "start", "stop", "remove", "rename", "update")),
            (world.quota, ("create", "set_limit", "remove")),
            (world.store, ("write", "write_accounts", "delete", "forget")),
            (world.agent, ("expect", "await_gate", "forget")),
        ):
            for name in names:
                setattr(owner, name, self._wrap(f"{type(owner).__name__}.{name}", getattr(owner, name)))

    def _wrap(self, label: str, method: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object) -> object:
            self.steps.append(label)
            failing = len(self.steps) - 1 == self.number
            if failing and not self.after:
                raise EngineError(f"{label} fails")
            result = method(*arguments)
            if failing:
                raise EngineError(f"{label} is done, and fails")
            return result

        return wrapped


# What makes something whose handle the caller never got clears up after itself: there is no "after" for it here.
ALL_OR_NOTHING = {"MemoryEngine.create", "MemoryQuota.create", "SpecStore.write", "SpecStore.write_accounts"}
RENAMED_UID = {**DECLARED, "user": 2001, "volumes": [], "disk_limit": None}


def declare(world: World) -> None:
    world.change(DECLARED)


def stop_again(world: World) -> None:
    world.change(DECLARED)
    world.change(DECLARED, state=STOPPED)


def lose_the_spec_file(world: World) -> None:
    world.change(DECLARED)
    world.store.forget("web")


def cut_off_a_removal_of_the_old(world: World) -> None:
    world.change(DECLARED)
    (old,) = world.engine.containers
    world.engine.containers["new"] = {**world.engine.containers[old]}
    world.engine.rename(old, "web.bailey-old")
    world.engine.stop(old, 0)


def declare_without_data(world: World) -> None:
    world.change({**RENAMED_UID, "user": 2000})


def lose_the_container(world: World) -> None:
    world.change(DECLARED)
    world.engine.containers.clear()


@pytest.mark.parametrize("after", [False, True], ids=["undone", "done"])
@pytest.mark.parametrize(
    ("prepare", "declared", "state", "action"),
    [
        (lambda _world: None, DECLARED, STARTED, Action.CREATE),
        (lambda _world: None, DECLARED, STOPPED, Action.CREATE),
        (lose_the_container, UPDATED, STARTED, Action.CREATE),
        (declare, REMADE, STARTED, Action.RECREATE),
        (declare, REMADE, STOPPED, Action.RECREATE),
        (stop_again, REMADE, STARTED, Action.RECREATE),
        (lose_the_spec_file, REMADE, STARTED, Action.RECREATE),
        (declare_without_data, RENAMED_UID, STARTED, Action.RECREATE),
        (declare, UPDATED, STARTED, Action.UPDATE),
        (lose_the_spec_file, DECLARED, STARTED, Action.UPDATE),
        (cut_off_a_removal_of_the_old, DECLARED, STARTED, Action.UPDATE),
        (stop_again, UPDATED, STARTED, Action.START),
        (declare, UPDATED, STOPPED, Action.STOP),
    ],
)
def test_whichever_step_fails_the_instance_is_as_it_was(
    world: World,
    tmp_path: Path,
    prepare: Callable[[World], None],
    declared: Mapping[str, object],
    state: str,
    action: Action,
    after: bool,
) -> None:
    prepare(world)
    interruption = Interruption(world, -1, after=after)
    assert world.change(declared, state=state) is action
    done, steps = world.everything(), interruption.steps
    assert len(steps) >= 3
    for number, step in enumerate(steps):
        if after and step in ALL_OR_NOTHING:
            continue
        (tmp_path / f"{number}").mkdir()
        other = World(tmp_path / f"{number}")
        prepare(other)
        before = other.everything()
        Interruption(other, number, after=after)
        with pytest.raises(BaileyError, match=f"{step} .*fails") as caught:
            other.change(declared, state=state)
        if step == "MemoryEngine.remove":  # the former container's removal, when all else is done
            assert "it is as declared, but its former container " in str(caught.value)
            assert other.store.load() == {"web": next(iter(done[0][3].values()))}  # type: ignore[index]
        else:
            assert other.everything() == before, step


def test_a_former_container_that_is_left_goes_in_the_next_run(world: World) -> None:
    world.change(DECLARED)
    world.memory.failing = "remove"
    with pytest.raises(HostError, match=r"it is as declared, but its former container id0 is left: remove fails"):
        world.change(REMADE)
    assert world.change(REMADE) is Action.UPDATE
    assert [item["name"] for item in world.engine.containers.values()] == ["web"]


@pytest.mark.parametrize(
    ("declared", "failing", "left"),
    [
        (REMADE, ("start", "remove", "rename"), "the new container is left: remove fails.* could not be put back"),
        (REMADE, ("create", "rename"), "create fails; and the former container could not be put back: rename fails"),
        (
            UPDATED,
            ("update", "update"),
            "update fails; and its former limits and state could not be put back: update fails",
        ),
    ],
)
def test_what_cannot_even_be_undone_is_told(
    world: World, declared: Mapping[str, object], failing: tuple[str, ...], left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.change(DECLARED)
    seen: list[str] = []

    def call(name: str) -> None:
        # The first of them fails as the change goes forward, and all that come after it fail as it is undone.
        if name == failing[0] or (failing[0] in seen and name in failing[1:]):
            seen.append(name)
            raise EngineError(f"{name} fails")

    monkeypatch.setattr(world.memory, "call", call)
    with pytest.raises(HostError, match=left):
        world.change(declared)


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


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside one that is not proven"])
def test_a_recreation_that_was_cut_off_and_fails_again_gives_the_old_container_its_name_back(
    world: World, beside: bool
) -> None:
    world.change(DECLARED)
    (old,) = world.engine.containers
    world.engine.rename(old, "web.bailey-old")
    world.engine.stop(old, 0)
    if beside:
        world.engine.containers["half"] = {"name": "web", "hash": "other", "running": True, "memory": 0}
    world.memory.failing = "create"
    with pytest.raises(EngineError, match="create fails"):
        world.change(REMADE)
    assert {key: (item["name"], item["running"]) for key, item in world.engine.containers.items()} == {
        old: ("web", beside)  # it runs where its successor did
    }
    assert world.change(REMADE) is Action.RECREATE


def test_the_spec_is_in_place_before_the_engine_is_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, StoredSpec]] = []
    monkeypatch.setattr(world.memory, "call", lambda _name: seen.append(world.store.load()))
    world.change(DECLARED)
    assert seen
    assert all("web" in stored for stored in seen)
    assert (world.store.specs / "web.json").stat().st_mode & 0o777 == 0o600


def test_a_plan_knows_its_spec() -> None:
    spec: Spec = parse_spec(DECLARED)
    plan: Plan = plan_instance(spec, STARTED, Presence(), None, None)
    assert (plan.spec, plan.action) == (spec, Action.CREATE)
