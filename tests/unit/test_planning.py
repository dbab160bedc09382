"""Desired against actual: which action, and which differences, each case gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bailey.backends.base import Container
from bailey.enforcement import Check
from bailey.planning import Action, Presence, find_presences, plan_instance, plan_removal
from bailey.spec import STARTED, STOPPED, Spec, parse_spec
from bailey.store import StoredSpec

DECLARED = {
    "name": "web",
    "tenant": "ada",
    "image": "web:1",
    "user": 2000,
    "mem_limit": "64M",
    "cpus": 0.5,
    "pids_limit": 9,
    "environment": {"TOKEN": "s3cret-value"},
}
SPEC = parse_spec(DECLARED)
STORED = StoredSpec("web", 2000, STARTED, SPEC.canonical())
CONTAINER = Container("id1", "web", "web", SPEC.recreate_hash(), "web:1", True, "Up", ())
HERE = Presence(CONTAINER)


def plan(spec: Spec = SPEC, presence: Presence = HERE, state: str = STARTED, **known: object):
    running = presence.current is not None and presence.current.running
    return plan_instance(
        spec, state, presence, known.get("stored", STORED), known.get("results", [] if running else None)
    )


def changed(**fields: object) -> Spec:
    return parse_spec({**DECLARED, **fields})


def paths(made) -> list[str]:
    return [item.path for item in made.differences]


def test_nothing_to_do() -> None:
    made = plan()
    assert made.action is Action.NONE
    assert not made.differences


def test_what_is_not_there_is_created() -> None:
    made = plan(presence=Presence(), stored=None)
    assert made.action is Action.CREATE
    assert paths(made) == ["web"]


@pytest.mark.parametrize(
    ("fields", "action"),
    [
        ({"mem_limit": "96M", "memswap_limit": "96M"}, Action.UPDATE),
        ({"cpus": 0.25}, Action.UPDATE),
        ({"restart": "no"}, Action.UPDATE),
        ({"disk_limit": "64M"}, Action.UPDATE),
        ({"network": {"egress": "1Mbit"}}, Action.UPDATE),
        ({"network": {"rules": [{"action": "deny", "cidr": "192.0.2.0/24"}]}}, Action.UPDATE),
        ({"network": {"same_tenant": False}}, Action.NONE),
        ({"network_mode": "none"}, Action.RECREATE),
        ({"image": "web:2"}, Action.RECREATE),
        ({"environment": {"TOKEN": "another"}}, Action.RECREATE),
        ({"ulimits": {"nofile": 10}}, Action.RECREATE),
        ({"cpuset": "0"}, Action.RECREATE),
    ],
)
def test_a_change_is_live_where_it_can_be(fields: dict[str, object], action: Action) -> None:
    assert plan(changed(**fields)).action is action


def test_a_live_limit_that_goes_needs_a_new_container() -> None:
    before = changed(cpuset="0")
    container = replace(CONTAINER, declared_hash=before.recreate_hash())
    made = plan(presence=Presence(container), stored=replace(STORED, canonical=before.canonical()))
    assert made.action is Action.RECREATE


@pytest.mark.parametrize(
    ("field", "action"),
    [
        ("mem_limit", Action.UPDATE),
        ("disk_limit", Action.UPDATE),
        ("network.rules", Action.UPDATE),
        ("tmpfs[/tmp]", Action.RECREATE),
    ],
)
def test_a_limit_that_the_kernel_does_not_hold_is_drift(field: str, action: Action) -> None:
    made = plan(results=[Check(field, "64M", "unlimited", holds=False), Check("cpus", "0.5", "0.5", holds=True)])
    assert made.action is action
    assert [(item.path, item.before, item.after) for item in made.differences] == [(f"web.{field}", "unlimited", "64M")]


def test_an_image_that_moved_is_a_change() -> None:
    made = plan(presence=Presence(replace(CONTAINER, image="sha256:0123")))
    assert made.action is Action.RECREATE
    assert paths(made) == ["web.image"]


@pytest.mark.parametrize(
    ("running", "state", "action"),
    [
        (True, STARTED, Action.NONE),
        (False, STARTED, Action.START),
        (True, STOPPED, Action.STOP),
        (False, STOPPED, Action.NONE),
    ],
)
def test_the_state_follows_the_declaration(running: bool, state: str, action: Action) -> None:
    presence = Presence(replace(CONTAINER, running=running))
    assert plan(presence=presence, state=state, stored=replace(STORED, state=state)).action is action


def test_a_running_container_that_cannot_be_read_back_is_not_taken_for_enforced() -> None:
    assert plan(results=None).action is Action.START
    stopped = replace(STORED, state=STOPPED)
    assert plan(results=None, state=STOPPED, stored=stopped).action is Action.STOP


def test_a_lost_spec_file_is_written_again() -> None:
    made = plan(stored=None)
    assert made.action is Action.UPDATE
    assert paths(made) == ["web.spec_file"]


def test_a_predecessor_is_cleared_away_or_comes_back() -> None:
    old = replace(CONTAINER, id="id0", name="web.bailey-old", running=False)
    assert plan(presence=Presence(CONTAINER, old)).action is Action.UPDATE
    assert plan(presence=Presence(None, old)).action is Action.RECREATE


def test_containers_are_sorted_by_the_instance_they_were_made_for() -> None:
    old = replace(CONTAINER, id="id0", name="web.bailey-old")
    foreign = replace(CONTAINER, id="id2", name="other", declared_name=None)
    for listed in ([CONTAINER, old, foreign], [old, foreign, CONTAINER]):
        assert find_presences(listed) == {"web": Presence(CONTAINER, old)}


def test_a_removal_ends_when_every_part_is_gone() -> None:
    assert plan_removal("web", HERE, None).action is Action.REMOVE
    assert plan_removal("web", Presence(), STORED).action is Action.REMOVE
    assert plan_removal("web", Presence(), None).action is Action.NONE


@pytest.mark.parametrize("made", [plan(presence=Presence(), stored=None), plan(changed(environment={"TOKEN": "x"}))])
def test_no_difference_shows_a_value_of_the_environment(made) -> None:
    assert made.differences
    assert "s3cret-value" not in str(made.differences.as_diff())
