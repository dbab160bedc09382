"""Carrying out one instance's plan against its host, and putting it back where that fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from .agent_client import AgentClient, AgentUnavailableError, Held
from .agent_files import AgentFiles
from .backends.base import Backend, Blueprint, Container, EngineMount
from .confinement import read_only_paths
from .enforcement import read_container
from .errors import BaileyError, EnforcementError, HostError
from .grants import supplementary_groups
from .host.cgroup import Hierarchy
from .host.idmap import IDENTITY, IdMap
from .host.ownership import bring, marked
from .host.quota import Quota, Volume
from .names import BOOT_DIRECTORY, CONTAINER_DIRECTORY, LABEL_HASH, LABEL_NAME, PREDECESSOR_SUFFIX
from .planning import Action, Plan, Presence
from .spec import STARTED, Spec, parse_spec
from .store import SpecStore, StoredSpec
from .units import parse_duration

# From the engine's word that a container runs to its gate: on a machine where many start at once.
_GATE_SECONDS = 60.0


@dataclass
class Host:
    """The adapters to one host, and whether a removed instance's data goes with it."""

    backend: Backend
    quota: Quota
    hierarchy: Hierarchy
    store: SpecStore
    agent: AgentClient
    files: AgentFiles
    remove_volumes: bool = False
    io_devices: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        device = self.quota.device()
        self.io_devices = () if device is None else (device,)


class Carrier:
    """Carries out plans; one object serves all threads.

    `volumes` are those that were there before, `ids` those of the host that the engine's containers have.
    """

    def __init__(self, host: Host, volumes: Mapping[str, Volume], ids: IdMap = IDENTITY) -> None:
        self._host = host
        self._volumes = volumes
        self._ids = ids

    def carry_out(self, plan: Plan) -> None:
        """Do what a plan says. On a BaileyError the instance is as it was, or the message says what is left."""
        with self._held(plan) as held:
            if plan.spec is None:
                self._remove(plan, held)
            else:
                self._change(plan, plan.spec, held)

    @contextmanager
    def _held(self, plan: Plan) -> Iterator[Held | None]:
        """Keep the agent from starting what is being changed; to end an instance no agent is needed."""
        if plan.action not in (Action.REMOVE, Action.STOP):
            with self._host.agent.hold(plan.name) as held:
                yield held
            return
        with ExitStack() as stack:
            found: Held | None = None
            with suppress(AgentUnavailableError):
                found = stack.enter_context(self._host.agent.hold(plan.name))
            yield found

    def _change(self, plan: Plan, spec: Spec, held: Held | None) -> None:
        with self._declared(plan, spec):
            if held is None or plan.action is Action.STOP:
                superseded = self._stop(plan, spec, held)
            else:
                steps: dict[Action, Callable[[Plan, Spec, Held], Container | None]] = {
                    Action.CREATE: self._create,
                    Action.RECREATE: self._recreate,
                    Action.UPDATE: self._update,
                    Action.START: self._update,
                }
                superseded = steps[plan.action](plan, spec, held)
        if superseded is not None:
            self._discard(superseded)

    @contextmanager
    def _declared(self, plan: Plan, spec: Spec) -> Iterator[None]:
        """Put the desired spec in place first, and the former one back where carrying it out fails."""
        store = self._host.store
        store.write(StoredSpec(spec.name, spec.uid, plan.state, spec.canonical(), self._ids))
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

    def _create(self, plan: Plan, spec: Spec, held: Held) -> None:
        with _undoing("what the agent keeps of it is left", held.forget), self._volume(spec, idle=True):
            self._make(plan, spec, held)

    @contextmanager
    def _volume(self, spec: Spec, *, idle: bool) -> Iterator[None]:
        """Give the instance its storage; where the rest fails, what is new of it goes and its limit is the old one.

        `idle` says that no program of it runs, so that its files can be given to other ids.
        """
        quota, limit = self._host.quota, spec.limits.disk
        if not spec.volumes and limit is None:
            yield
            return
        before = self._volumes.get(spec.name)
        made: list[Path] = []
        if before is None:
            quota.create(spec.name, limit, spec.uid, spec.uid)
            with _undoing("its new storage is left", lambda: quota.remove(spec.name)):
                bring(quota.root / spec.name, self._ids)
                self._make_directories(spec, made)
                yield
            return
        with _undoing("its storage is not as it was", lambda: self._restore_volume(before, made)):
            if idle and not all(self._ids.same(former) for former in marked(before.path)):
                quota.set_limit(spec.name, None)  # another owner may take space, and a full volume has none
                bring(before.path, self._ids)
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
                owner = self._ids.to_host(spec.uid)
                os.chown(path, owner, owner)

    def _make(self, plan: Plan, spec: Spec, held: Held) -> None:
        """Create the container, and bring it through its gate; remove it where any of that fails."""
        backend = self._host.backend
        container = backend.create(self._blueprint(spec))
        with _undoing("the new container is left", lambda: backend.remove(container)):
            if plan.state == STARTED:
                plan.gate_ms = self._pass_gate(container, held)

    def _pass_gate(self, container: str, held: Held) -> float | None:
        """Start a container and wait until the agent has found every limit in force; return the gate's milliseconds."""
        held.expect()
        self._host.backend.start(container)
        return held.await_gate(container, _GATE_SECONDS).gate_ms

    def _blueprint(self, spec: Spec) -> Blueprint:
        root = self._host.quota.root / spec.name
        mounts = [EngineMount(root / volume.directory, volume.target, volume.read_only) for volume in spec.volumes]
        accounts = self._host.store.write_accounts(spec.name, spec.uid)
        mounts.extend(EngineMount(source, target, read_only=True) for target, source in accounts.items())
        mounts.append(EngineMount(self._host.files.wsh_dir, CONTAINER_DIRECTORY, read_only=True))
        mounts.append(EngineMount(self._host.files.make_boot_directory(spec.name), BOOT_DIRECTORY, read_only=True))
        if spec.socket is not None:
            mounts.append(EngineMount(Path(spec.socket.source).resolve(), spec.socket.target, read_only=True))
        labels = {LABEL_NAME: spec.name, LABEL_HASH: spec.recreate_hash()}
        return Blueprint(
            *(spec, spec.name, spec.uid, mounts, self._host.io_devices, labels),
            groups=sorted(supplementary_groups(spec, self._ids)),
            read_only=read_only_paths(self._host.hierarchy.version, remapped=self._ids.remapped),
        )

    def _apply(self, container: str, held: Held) -> None:
        """Have the agent bring a living container to its spec; what does not hold is an error that names each limit."""
        if read_container(self._host.hierarchy, container) is None:
            raise EnforcementError(f"it does not run: {self._host.backend.failure(container)}")
        held.apply()

    def _recreate(self, plan: Plan, spec: Spec, held: Held) -> Container:
        """Set the old container aside and prove a new one; put the old one back on failure, else return it."""
        predecessor = plan.presence.predecessor or plan.presence.current
        assert predecessor is not None  # noqa: S101 - a recreate is planned only where a container is
        with _undoing("the former container could not be put back", lambda: self._restore(predecessor, plan, held)):
            self._set_aside(predecessor, plan.presence, spec)
            with self._volume(spec, idle=True):
                self._make(plan, spec, held)
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

    def _restore(self, predecessor: Container, plan: Plan, held: Held) -> None:
        """Put a container back that was set aside, or was half-way to it: the engine knows how far it came."""
        backend, current = self._host.backend, plan.presence.current
        names = {item.id: item.name for item in backend.list()}
        if current is not None and current is not predecessor and current.id in names:
            return  # it could not even be moved out of the way
        if names.get(predecessor.id) != plan.name:
            backend.rename(predecessor.id, plan.name)
        if plan.stored is not None:
            self._host.store.write(plan.stored)  # its gate asks for what it was declared as
            self._host.store.write_accounts(plan.name, plan.stored.uid)
        if any(container.running for container in plan.presence.containers):
            self._pass_gate(predecessor.id, held)

    def _discard(self, predecessor: Container) -> None:
        try:
            self._host.backend.remove(predecessor.id)
        except BaileyError as error:
            message = f"it is as declared, but its former container {predecessor.id[:12]} is left: {error}"
            raise HostError(message) from error

    def _update(self, plan: Plan, spec: Spec, held: Held) -> Container | None:
        """Bring a container that can stay to its declared limits, and where it does not run yet, through its gate."""
        current = _current(plan)
        with (
            _undoing("its former limits and state could not be put back", lambda: self._revert(plan, current)),
            self._volume(spec, idle=not current.running),
        ):
            self._host.backend.update(current.id, spec.limits)
            if plan.action is Action.START:
                plan.gate_ms = self._pass_gate(current.id, held)
            elif plan.state == STARTED:
                self._apply(current.id, held)
        return plan.presence.predecessor

    def _stop(self, plan: Plan, spec: Spec, held: Held | None) -> Container | None:
        """Stop a container, and give it the limits that it will start with."""
        current = _current(plan)
        with (
            _undoing("its former limits and state could not be put back", lambda: self._unstop(plan, current, held)),
            self._volume(spec, idle=False),
        ):
            self._host.backend.update(current.id, spec.limits)
            self._host.backend.stop(current.id, spec.stop_grace_period)
        return plan.presence.predecessor

    def _revert(self, plan: Plan, current: Container) -> None:
        """Give a container whose update failed its former limits back, and stop it again if it was stopped."""
        self._revert_limits(plan, current)
        if not current.running:
            self._host.backend.stop(current.id, self._grace(plan.stored))

    def _unstop(self, plan: Plan, current: Container, held: Held | None) -> None:
        """Bring a container back that could not be stopped in order."""
        self._revert_limits(plan, current)
        if plan.stored is not None:
            self._host.store.write(plan.stored)  # its gate asks for what it was declared as
        if current.running and held is not None:
            self._pass_gate(current.id, held)

    def _revert_limits(self, plan: Plan, current: Container) -> None:
        if plan.stored is not None:
            self._host.backend.update(current.id, parse_spec(plan.stored.canonical).limits)

    def _remove(self, plan: Plan, held: Held | None) -> None:
        """Remove every part of an instance; its spec file last, so that a removal cut off can be repeated."""
        try:
            for container in plan.presence.containers:
                self._host.backend.stop(container.id, self._grace(plan.stored))
                self._host.backend.remove(container.id)
            if self._host.remove_volumes and plan.name in self._volumes:
                self._host.quota.remove(plan.name)
            if held is None:
                self._host.files.forget(plan.name)
            else:
                held.forget()
            self._host.store.delete(plan.name)
        except (BaileyError, OSError) as error:
            raise HostError(f"{error}; it is not removed yet, the next run goes on with that") from error

    @staticmethod
    def _grace(stored: StoredSpec | None) -> float:
        declared = stored.canonical.get("stop_grace_period") if stored else None
        return parse_duration("stop_grace_period", declared) if declared else 10.0


def _current(plan: Plan) -> Container:
    assert plan.presence.current is not None  # noqa: S101 - only what has a container is planned to keep it
    return plan.presence.current


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
