"""Desired against actual: for each instance the ordered steps that are missing, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from .backends.base import Container
from .changes import Differences, Json
from .enforcement import Check
from .names import PREDECESSOR_SUFFIX
from .spec import LIVE_FIELDS, STARTED, STOPPED, Spec, redact
from .store import StoredSpec


class Action(Enum):
    """What has to be done to an instance."""

    NONE = "none"
    CREATE = "created"
    RECREATE = "recreated"
    UPDATE = "updated"
    START = "started"
    STOP = "stopped"
    REMOVE = "removed"


@dataclass(frozen=True)
class Presence:
    """The containers that stand for one instance: its own, and a predecessor that a recreate left behind."""

    current: Container | None = None
    predecessor: Container | None = None

    @property
    def containers(self) -> list[Container]:
        """Return all of them."""
        return [container for container in (self.current, self.predecessor) if container is not None]


@dataclass
class Plan:
    """One instance's way from what is to what is declared. `spec` is None where it is to be removed."""

    name: str
    action: Action
    presence: Presence
    spec: Spec | None = None
    state: str = STARTED
    stored: StoredSpec | None = None
    differences: Differences = field(default_factory=Differences)
    gate_ms: float | None = None  # once it is carried out: how long a new container stood at its gate


def find_presences(containers: Iterable[Container]) -> dict[str, Presence]:
    """Sort Bailey's containers by the instance they were made for."""
    found: dict[str, Presence] = {}
    for container in containers:
        name = container.declared_name
        if name is None:
            continue
        seen = found.get(name, Presence())
        if container.name == name + PREDECESSOR_SUFFIX:
            found[name] = Presence(seen.current, container)
        else:
            found[name] = Presence(container, seen.predecessor)
    return found


def plan_removal(name: str, presence: Presence, stored: StoredSpec | None, *, data: bool = False) -> Plan:
    """Plan an instance's removal; there is something to do while any part of it is left.

    `data` says that it left data, and that its data is to go too.
    """
    differences = Differences()
    if presence.containers or stored is not None:
        before: Json = redact(stored.canonical) if stored is not None else "present"
        differences.add(name, before, "absent")
    if data:
        differences.add(f"{name}.data", "present", "absent")
    action = Action.REMOVE if differences else Action.NONE
    return Plan(name, action, presence, stored=stored, differences=differences)


def plan_instance(
    spec: Spec, state: str, presence: Presence, stored: StoredSpec | None, results: Sequence[Check] | None
) -> Plan:
    """Plan what a declared instance needs.

    `results` are the kernel's checks of its running container, None where the kernel knows of none that runs;
    what could not be read back is never taken for enforced.
    """
    plan = Plan(spec.name, Action.NONE, presence, spec, state, stored)
    if presence.current is None and presence.predecessor is None:
        plan.action = Action.CREATE
        plan.differences.add(spec.name, "absent", spec.shown())
        return plan
    recreate = _compare_declarations(plan, spec) | _compare_containers(plan, spec, presence)
    recreate |= _compare_kernel(plan, spec, results or [])
    plan.action = Action.RECREATE if recreate else _living_action(plan, presence, state, read_back=results is not None)
    return plan


def _compare_declarations(plan: Plan, spec: Spec) -> bool:
    """Record what differs from the last declaration; say whether a living container cannot follow it."""
    if plan.stored is None:
        plan.differences.add(f"{spec.name}.spec_file", "absent", "present")
        return False
    before, after = redact(plan.stored.canonical), spec.shown()
    changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    for key in changed:
        plan.differences.add(f"{spec.name}.{key}", before.get(key), after.get(key))
    return not LIVE_FIELDS.issuperset(changed)


def _compare_containers(plan: Plan, spec: Spec, presence: Presence) -> bool:
    """Record what differs in the containers themselves; say whether a new one is needed."""
    if presence.predecessor is not None:
        plan.differences.add(f"{spec.name}.predecessor", "present", "absent")
    current = presence.current
    if current is None:
        return True
    moved = plan.differences.add(f"{spec.name}.image", current.image, spec.image)
    if current.declared_hash == spec.recreate_hash():
        return moved
    plan.differences.add(f"{spec.name}.hash", current.declared_hash[:12], spec.recreate_hash()[:12])
    return True


def _compare_kernel(plan: Plan, spec: Spec, results: Iterable[Check]) -> bool:
    """Record limits that do not hold; say whether one of them only a new container can have."""
    known = {item.path for item in plan.differences}
    broken = [check for check in results if not check.holds]
    for check in broken:
        path = f"{spec.name}.{check.field}"
        if path not in known:
            plan.differences.add(path, check.enforced, check.declared)
    return not LIVE_FIELDS.issuperset(check.field.partition(".")[0] for check in broken)


def _living_action(plan: Plan, presence: Presence, state: str, *, read_back: bool) -> Action:
    """Tell what a container that can stay needs, and record a state that is not the declared one.

    It runs as declared only where the kernel says so; to be stopped, the engine's word is enough.
    """
    known = presence.current is not None and presence.current.running
    running = read_back if state == STARTED else known
    if plan.differences.add(f"{plan.name}.state", STARTED if running else STOPPED, state):
        return Action.START if state == STARTED else Action.STOP
    if plan.stored is not None:
        plan.differences.add(f"{plan.name}.declared_state", plan.stored.state, state)
    return Action.UPDATE if plan.differences else Action.NONE
