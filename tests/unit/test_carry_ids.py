"""An engine whose containers have other ids than the host's: data is theirs from the start, and follows a change.

The engine and the quotas are kept in memory; the files and their owners are real.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bailey import carry, reconcile
from bailey.admission import Ground
from bailey.backends.base import Blueprint
from bailey.carry import Host
from bailey.confinement import CONTROL_GROUPS, READ_ONLY
from bailey.errors import EngineError, HostError
from bailey.host import ownership
from bailey.host.cgroup import Hierarchy
from bailey.host.idmap import IDENTITY, IdMap
from bailey.host.ownership import marked
from bailey.planning import Action
from bailey.reconcile import Request
from bailey.spec import STOPPED

from tests.unit.memory_host import DECLARED, World
from tests.unit.samples import REMAPPED

UID = 2000
MORE = {**DECLARED, "volumes": ["/data", "/more"], "mem_limit": "96M"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(carry, "read_container", lambda _hierarchy, container: container)
    return World(tmp_path)


def owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


def both(number: int) -> tuple[int, int]:
    return number, number


def switch(world: World, ids: IdMap) -> None:
    """Have the engine's ids changed as role docker does: nothing has a container then."""
    world.change(None)
    world.engine.ids = ids


def test_a_new_instances_data_is_its_own_on_the_host(world: World) -> None:
    world.engine.ids = REMAPPED
    world.change(DECLARED)
    assert owner(world.quota.root / "web/data") == both(REMAPPED.base + UID)
    assert owner(world.quota.root / "web") == both(0)
    assert marked(world.quota.root / "web") == [REMAPPED]
    stored = world.store.load()["web"]
    assert (stored.uid, stored.ids, stored.host_uid) == (UID, REMAPPED, REMAPPED.base + UID)
    assert f":{UID}:{UID}:app" in (world.store.accounts / "web/passwd").read_text()  # as it is inside


def test_without_remapping_nothing_is_written_down(world: World) -> None:
    world.change(DECLARED)
    assert owner(world.quota.root / "web/data") == both(UID)
    assert marked(world.quota.root / "web") == [IDENTITY]
    assert "ids" not in json.loads((world.store.specs / "web.json").read_text())


def test_a_directory_that_comes_later_is_its_own_too(world: World) -> None:
    world.engine.ids = REMAPPED
    world.change(DECLARED)
    assert world.change(MORE) is Action.RECREATE
    assert owner(world.quota.root / "web/more") == both(REMAPPED.base + UID)


def test_data_follows_when_remapping_is_switched_on_and_off(world: World) -> None:
    world.change(DECLARED)
    file = world.quota.root / "web/data/file"
    file.write_text("kept")
    carry.os.chown(file, UID, 0)
    for ids in (REMAPPED, IDENTITY):
        switch(world, ids)
        assert world.change(DECLARED) is Action.CREATE
        # In between there is no limit: another owner may take space, and a full volume has none.
        assert world.memory.calls[:2] == ["quota.set_limit", "quota.set_limit"]
        assert world.quota.limits == {"web": 16 << 20}
        assert owner(file) == (ids.to_host(UID), ids.to_host(0))
        assert owner(world.quota.root / "web/data") == both(ids.to_host(UID))
        assert file.read_text() == "kept"


def test_what_fails_afterwards_gives_the_limit_back_and_can_be_repeated(world: World) -> None:
    world.change(DECLARED)
    switch(world, REMAPPED)
    world.memory.failing = "start"
    with pytest.raises(EngineError, match="start fails"):
        world.change(DECLARED)
    assert world.quota.limits == {"web": 16 << 20}
    assert marked(world.quota.root / "web") == [REMAPPED]
    assert world.change(DECLARED) is Action.CREATE
    assert owner(world.quota.root / "web/data") == both(REMAPPED.base + UID)


def test_data_that_cannot_follow_ends_it_before_there_is_a_container(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.change(DECLARED)
    switch(world, REMAPPED)

    def fail(*_arguments: object) -> None:
        raise OSError(5, "the disk has gone")

    with monkeypatch.context() as patch:
        patch.setattr(ownership, "_move_tree", fail)
        with pytest.raises(HostError, match=r"could not all be given .* the disk has gone"):
            world.change(DECLARED)
    assert world.engine.containers == {}
    assert world.quota.limits == {"web": 16 << 20}
    assert world.change(DECLARED) is Action.CREATE
    assert owner(world.quota.root / "web/data") == both(REMAPPED.base + UID)


def test_an_instance_that_runs_keeps_its_files_as_they_are(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.change(DECLARED)
    world.engine.ids = REMAPPED  # by hand, past role docker
    monkeypatch.setattr(carry, "bring", pytest.fail)
    assert world.change({**DECLARED, "mem_limit": "96M"}) is Action.UPDATE
    assert world.change({**DECLARED, "mem_limit": "96M"}, state=STOPPED) is Action.STOP
    assert owner(world.quota.root / "web/data") == both(UID)


def test_one_that_is_stopped_gets_its_files_back_before_it_starts(world: World) -> None:
    world.engine.ids = REMAPPED
    world.change(DECLARED)
    world.change(DECLARED, state=STOPPED)
    ownership.bring(world.quota.root / "web", IDENTITY)  # out of a backup, say
    assert world.change(DECLARED) is Action.START
    assert owner(world.quota.root / "web/data") == both(REMAPPED.base + UID)


def test_the_engine_is_asked_for_its_ids_where_something_is_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.engine.ids = REMAPPED
    ground = Ground(2, world.quota, frozenset({0}), 1 << 30)
    monkeypatch.setattr(Ground, "read", classmethod(lambda _class, *_arguments: ground))
    host = Host(world.engine, world.quota, Hierarchy(2, {}), world.store, world.agent, world.files)
    reconcile.reconcile(Request([DECLARED], {}, range(2000, 2010), lsm="none"), host)
    assert owner(world.quota.root / "web/data") == both(REMAPPED.base + UID)
    assert world.store.load()["web"].ids == REMAPPED


@pytest.fixture
def made(world: World, monkeypatch: pytest.MonkeyPatch) -> list[Blueprint]:
    """What the engine is told to create."""
    found: list[Blueprint] = []
    create = world.engine.create

    def created(blueprint: Blueprint) -> str:
        found.append(blueprint)
        return create(blueprint)

    monkeypatch.setattr(world.engine, "create", created)
    return found


@pytest.mark.parametrize(("ids", "more"), [(IDENTITY, ()), (REMAPPED, (CONTROL_GROUPS,))])
def test_control_groups_are_read_only_where_the_engine_leaves_them_writable(
    world: World, made: list[Blueprint], ids: IdMap, more: tuple[str, ...]
) -> None:
    world.engine.ids = ids
    world.change(DECLARED)
    assert [blueprint.read_only for blueprint in made] == [(*READ_ONLY, *more)]


def test_groups_that_were_admitted_are_those_of_the_engines_ids(
    world: World, made: list[Blueprint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carry, "supplementary_groups", lambda _spec, ids: frozenset({7, 5} if ids == REMAPPED else ()))
    world.engine.ids = REMAPPED
    world.change(DECLARED)
    assert made[0].groups == [5, 7]
