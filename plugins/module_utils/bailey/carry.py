"""Carrying out one instance's plan against its host, and putting it back where that fails."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .backends.base import Backend, Blueprint, Container, EngineMount
from .enforcement import checks, failing, is_starting, read_container
from .errors import BaileyError, EnforcementError, HostError
from .host.cgroup import Hierarchy
from .host.quota import Quota, Volume
from .names import LABEL_HASH, LABEL_NAME, PREDECESSOR_SUFFIX
from .planning import Action, Plan, Presence
from .spec import STARTED, Spec, parse_spec
from .store import SpecStore, StoredSpec
from .units import parse_duration

# How long an engine's init may take to execute a program on a machine that has much to do.
_START_SECONDS = 10.0
_START_PAUSE = 0.002


@dataclass
class Host:
    """The adapters to one host, and whether a removed instance's data goes with it."""

    backend: Backend
    quota: Quota
    hierarchy: Hierarchy
    store: SpecStore
    remove_volumes: bool = False
    io_devices: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        device = self.quota.device()
        self.io_devices = () if device is None else (device,)


class Carrier:
    """Carries out plans; one object serves all threads. `volumes` are those that were there before."""

    def __init__(self, host: Host, volumes: Mapping[str, Volume]) -> None:
        self._host = host
        self._volumes = volumes

    def carry_out(self, plan: Plan) -> None:
        """Do what a plan says. On a BaileyError the instance is as it was, or the message says what is left."""
        if plan.spec is None:
            self._remove(plan)
            return
        steps: dict[Action, Callable[[Plan, Spec], Container | None]] = {
            Action.CREATE: self._create,
            Action.RECREATE: self._recreate,
            Action.UPDATE: self._update,
            Action.START: self._update,
            Action.STOP: self._update,
        }
        with self._declared(plan, plan.spec):
            superseded = steps[plan.action](plan, plan.spec)
        if superseded is not None:
            self._discard(superseded)

    @contextmanager
    def _declared(self, plan: Plan, spec: Spec) -> Iterator[None]:
        """Put the desired spec in place first, and the former one back where carrying it out fails."""
        store = self._host.store
        store.write(StoredSpec(spec.name, spec.uid, plan.state, spec.canonical()))
        with _undoing("its former spec file could not be put back", lambda: self._withdraw(plan)):
            yield

    def _withdraw(self, plan: Plan) -> None:
        store = self._host.store
        if plan.stored is not None:
            store.write(plan.stored)
        elif plan.action is Action.CREATE:
            store.delete(plan.name)
        else:
            store.forget(plan.name)

    def _create(self, plan: Plan, spec: Spec) -> None:
        with self._volume(spec):
            self._make(plan, spec)

    @contextmanager
    def _volume(self, spec: Spec) -> Iterator[None]:
        """Give the instance its storage; where the rest fails, what is new of it goes and its limit is the old one."""
        quota, limit = self._host.quota, spec.limits.disk
        if not spec.volumes and limit is None:
            yield
            return
        before = self._volumes.get(spec.name)
        made: list[Path] = []
        if before is None:
            quota.create(spec.name, limit, spec.uid, spec.uid)
            with _undoing("its new storage is left", lambda: quota.remove(spec.name)):
                self._make_directories(spec, made)
                yield
            return
        with _undoing("its storage is not as it was", lambda: self._restore_volume(before, made)):
            quota.set_limit(spec.name, limit)
            self._make_directories(spec, made)
            yield

    def _restore_volume(self, before: Volume, made: Sequence[Path]) -> None:
        self._host.quota.set_limit(before.name, before.limit)
        for path in made:
            shutil.rmtree(path)

    def _make_directories(self, spec: Spec, made: list[Path]) -> None:
        """Make the directories that are missing, and note each that was made."""
        for volume in spec.volumes:
            path = self._host.quota.root / spec.name / volume.directory
            if not path.exists():
                path.mkdir(mode=0o700)
                made.append(path)
                os.chown(path, spec.uid, spec.uid)

    def _make(self, plan: Plan, spec: Spec) -> None:
        """Create the container, start it and prove its limits; remove it where any of that fails."""
        backend = self._host.backend
        container = backend.create(self._blueprint(spec))
        with _undoing("the new container is left", lambda: backend.remove(container)):
            if plan.state == STARTED:
                backend.start(container)
                self._prove(spec, container)

    def _blueprint(self, spec: Spec) -> Blueprint:
        root = self._host.quota.root / spec.name
        mounts = [EngineMount(root / volume.directory, volume.target, volume.read_only) for volume in spec.volumes]
        accounts = self._host.store.write_accounts(spec.name, spec.uid)
        mounts.extend(EngineMount(source, target, read_only=True) for target, source in accounts.items())
        labels = {LABEL_NAME: spec.name, LABEL_HASH: spec.recreate_hash()}
        return Blueprint(spec, spec.name, spec.uid, mounts, self._host.io_devices, labels)

    def _prove(self, spec: Spec, container: str) -> None:
        """Read everything back from the kernel; what does not hold is an error that names each limit."""
        self._await_program(container)
        volume = self._host.quota.volumes().get(spec.name)
        reading = read_container(self._host.hierarchy, container)
        if reading is None:
            raise EnforcementError(f"it does not run: {self._host.backend.failure(container)}")
        broken = failing(checks(spec, reading, volume, self._host.io_devices))
        if broken:
            listed = ", ".join(f"{check.field} is {check.enforced}, not {check.declared}" for check in broken)
            raise EnforcementError(f"the kernel does not hold what was declared: {listed}")

    def _await_program(self, container: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while is_starting(self._host.hierarchy, container) and time.monotonic() < deadline:
            time.sleep(_START_PAUSE)

    def _recreate(self, plan: Plan, spec: Spec) -> Container:
        """Set the old container aside and prove a new one; put the old one back on failure, else return it."""
        predecessor = plan.presence.predecessor or plan.presence.current
        assert predecessor is not None  # noqa: S101 - a recreate is planned only where a container is
        with _undoing("the former container could not be put back", lambda: self._restore(predecessor, plan)):
            self._set_aside(predecessor, plan.presence, spec)
            with self._volume(spec):
                self._make(plan, spec)
        return predecessor

    def _set_aside(self, predecessor: Container, presence: Presence, spec: Spec) -> None:
        """Stop and rename the container that has proven itself.

        Where an earlier recreate was cut off, that is the predecessor it left; the container beside it has
        not proven itself and goes.
        """
        backend, current = self._host.backend, presence.current
        if current is not None and current is not predecessor:
            backend.remove(current.id)
        if predecessor.running:
            backend.stop(predecessor.id, spec.stop_grace_period)
        if current is predecessor:
            backend.rename(predecessor.id, spec.name + PREDECESSOR_SUFFIX)

    def _restore(self, predecessor: Container, plan: Plan) -> None:
        """Put a container back that was set aside, or was half-way to it: the engine knows how far it came."""
        backend, current = self._host.backend, plan.presence.current
        names = {item.id: item.name for item in backend.list()}
        if current is not None and current is not predecessor and current.id in names:
            return  # it could not even be moved out of the way
        if names.get(predecessor.id) != plan.name:
            backend.rename(predecessor.id, plan.name)
        if plan.stored is not None:
            self._host.store.write_accounts(plan.name, plan.stored.uid)
        if any(container.running for container in plan.presence.containers):
            backend.start(predecessor.id)

    def _discard(self, predecessor: Container) -> None:
        try:
            self._host.backend.remove(predecessor.id)
        except BaileyError as error:
            message = f"it is as declared, but its former container {predecessor.id[:12]} is left: {error}"
            raise HostError(message) from error

    def _update(self, plan: Plan, spec: Spec) -> Container | None:
        """Bring a container that can stay to its declared limits and state."""
        backend, current = self._host.backend, plan.presence.current
        assert current is not None  # noqa: S101 - an update is planned only where a container is
        with (
            _undoing("its former limits and state could not be put back", lambda: self._revert(plan, current)),
            self._volume(spec),
        ):
            backend.update(current.id, spec.limits, spec.restart)
            if plan.state == STARTED:
                backend.start(current.id)
                self._prove(spec, current.id)
            else:
                backend.stop(current.id, spec.stop_grace_period)
        return plan.presence.predecessor

    def _revert(self, plan: Plan, current: Container) -> None:
        """Give a container whose update failed its former limits back, and its former state."""
        backend = self._host.backend
        if plan.stored is not None:
            former = parse_spec(plan.stored.canonical)
            backend.update(current.id, former.limits, former.restart)
        if current.running:
            backend.start(current.id)
        else:
            backend.stop(current.id, self._grace(plan.stored))

    def _remove(self, plan: Plan) -> None:
        """Remove every part of an instance; its spec file last, so that a removal cut off can be repeated."""
        try:
            for container in plan.presence.containers:
                self._host.backend.stop(container.id, self._grace(plan.stored))
                self._host.backend.remove(container.id)
            if self._host.remove_volumes and plan.name in self._volumes:
                self._host.quota.remove(plan.name)
            self._host.store.delete(plan.name)
        except (BaileyError, OSError) as error:
            raise HostError(f"{error}; it is not removed yet, the next run goes on with that") from error

    @staticmethod
    def _grace(stored: StoredSpec | None) -> float:
        declared = stored.canonical.get("stop_grace_period") if stored else None
        return parse_duration("stop_grace_period", declared) if declared else 10.0


@contextmanager
def _undoing(left: str, undo: Callable[[], None]) -> Iterator[None]:
    """Undo a step where what follows it fails; where even that fails, the message says what is left."""
    try:
        yield
    except BaseException as error:
        try:
            undo()
        except (BaileyError, OSError) as second:
            raise HostError(f"{error}; and {left}: {second}") from error
        raise
