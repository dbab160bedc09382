"""Making a host as it was declared: validate everything, then change what differs, in parallel.

Nothing is changed before every declaration has been read and found enforceable here. An instance whose
change fails is put back as it was; the others go on, and the error at the end names each that failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from .admission import (
    APPARMOR,
    Ground,
    Overcommit,
    check_apps,
    check_bridge,
    check_capacity,
    check_engine,
    check_host,
    check_kernel,
    check_ports,
    check_profiles,
    in_profile,
)
from .carry import Carrier, Host
from .changes import Differences
from .enforcement import Check, checks, read_container
from .errors import AdmissionError, BaileyError, EngineError, InvalidValueError
from .exceptions import Policy, check_policy
from .fields import Fields
from .grants import check_grants
from .host.idmap import IDENTITY, IdMap
from .host.quota import Volume
from .instance_state import InstanceState, read_states
from .inventory import read_network
from .names import parse_name
from .planning import Action, Plan, Presence, find_presences, plan_instance, plan_removal
from .spec import ABSENT, SPEC_FIELDS, STARTED, STATES, Spec, parse_spec
from .store import StoredSpec
from .uids import allocate

_MAKING = (Action.CREATE, Action.RECREATE)


@dataclass(frozen=True)
class Request:
    """What a host shall hold. `uids` are given to instances that ask for none."""

    declarations: Sequence[object]
    plans: Mapping[str, object]
    uids: range
    purge: bool = False
    overcommit: Overcommit = field(default_factory=Overcommit)
    workers: int = 8
    policy: Policy = field(default_factory=dict)
    lsm: str = APPARMOR  # or none


@dataclass(frozen=True)
class Report:
    """What was done, or in check mode would be done."""

    plans: Mapping[str, Plan]
    kept_volumes: Sequence[str]

    @property
    def differences(self) -> Differences:
        """All instances' differences, in the order of the declarations."""
        differences = Differences()
        for plan in self.plans.values():
            differences.extend(plan.differences)
        return differences


class ReconcileError(BaileyError):
    """Some instances could not be changed; each was put back, and the others are as declared."""

    def __init__(self, failures: Mapping[str, str], report: Report) -> None:
        done = {name: plan.action.value for name, plan in report.plans.items() if name not in failures}
        listed = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        message = f"{len(failures)} of {len(report.plans)} instances failed: {listed}"
        changed = any(action != Action.NONE.value for action in done.values())
        super().__init__(message, failures=dict(failures), actions=done, changed=changed)


@dataclass(frozen=True)
class _Desired:
    """The declarations, read: specs and states by name, and the names that shall not be there."""

    specs: Mapping[str, Spec]
    states: Mapping[str, str]
    absent: Sequence[str]


def reconcile(request: Request, host: Host, *, check_mode: bool = False) -> Report:
    """Bring a host to what is declared.

    Raises a BaileyError before anything changes where a declaration is not valid or not enforceable, and
    ReconcileError at the end where some instances failed on the way.
    """
    desired = _read(request)
    stored, volumes = host.store.load(), host.quota.volumes()
    ground = Ground.read(host.hierarchy.version, host.quota)
    for spec in desired.specs.values():
        check_host(spec, ground)
    desired = _with_uids(desired, stored, volumes, request.uids)
    _check_exceptions(desired, host)
    presences = _find(host, desired)
    plans = _plan(desired, request.purge, presences, stored, volumes, host)
    report = Report(plans, _kept_volumes(plans, volumes, host.remove_volumes))
    ids = IDENTITY
    if report.differences:
        ids = _admit(plans, stored, ground, request.overcommit, host)
        if not check_mode:  # before which a run of the roles loads them
            check_profiles(plan.spec for plan in plans.values() if plan.spec is not None and plan.differences)
        _check_images(plans, host, check_mode=check_mode)
    if not check_mode:
        failures = _carry_out(plans, Carrier(host, volumes, ids), request.workers)
        if failures:
            raise ReconcileError(failures, report)
    return report


def preview(request: Request) -> Report:
    """Tell what reconcile would do on a host on which nothing of the platform is yet: make all that is declared."""
    desired = _with_uids(_read(request), {}, {}, request.uids)
    check_apps(desired.specs.values())
    return Report(
        {
            name: plan_instance(spec, desired.states[name], Presence(), None, None)
            for name, spec in desired.specs.items()
        },
        kept_volumes=(),
    )


def _read(request: Request) -> _Desired:
    """Parse all declarations; the first that is not valid ends it."""
    specs: dict[str, Spec] = {}
    states: dict[str, str] = {}
    absent: list[str] = []
    for number, declared in enumerate(request.declarations):
        where = f"containers[{number}]"
        fields = Fields(where, declared, (*SPEC_FIELDS, "state"))
        name = parse_name(fields.path("name"), fields.required("name", "the instance's name"))
        if name in specs or name in absent:
            raise InvalidValueError(fields.path("name"), name, "a name that no other container of the list has")
        state = fields.choice("state", STATES, STARTED)
        if state == ABSENT:
            absent.append(name)
        else:
            states[name] = state
            spec = parse_spec({key: fields.get(key) for key in SPEC_FIELDS}, request.plans, where)
            check_policy(name, f"{spec.tenant}/{spec.app}", spec.exceptions, request.policy)
            specs[name] = in_profile(spec, request.lsm)
    if specs:  # taking all away needs nothing of a kernel
        check_kernel(request.lsm)
    check_ports(specs.values())
    check_bridge(specs.values())
    return _Desired(specs, states, absent)


def _with_uids(
    desired: _Desired, stored: Mapping[str, StoredSpec], volumes: Mapping[str, Volume], uids: range
) -> _Desired:
    """Give every spec its uid. What an instance left behind keeps its uid, so that no other can read it."""
    known = {name: volume.uid for name, volume in volumes.items()} | {name: item.uid for name, item in stored.items()}
    given = allocate({name: spec.user for name, spec in desired.specs.items()}, known, uids)
    for name, spec in desired.specs.items():
        volume = volumes.get(name)
        if volume is not None and spec.volumes and volume.uid != given[name]:
            raise InvalidValueError(f"{name}.user", given[name], f"{volume.uid}, whose the data in {volume.path} is")
    return replace(desired, specs={name: replace(spec, user=given[name]) for name, spec in desired.specs.items()})


def _check_exceptions(desired: _Desired, host: Host) -> None:
    """Refuse what the policy allows and this host cannot keep. Who may use what depends on the engine's ids."""
    asking = [spec for spec in desired.specs.values() if spec.exceptions]
    ids = host.backend.capabilities().ids if asking else IDENTITY
    for spec in asking:
        check_grants(spec, host.backend.socket, host.quota.mount.options, ids)


def _find(host: Host, desired: _Desired) -> dict[str, Presence]:
    """List the host's containers once, and refuse a name that belongs to somebody else's."""
    containers = host.backend.list()
    for container in containers:
        if container.declared_name is None and container.name in desired.specs:
            raise InvalidValueError(
                f"{container.name}.name",
                container.name,
                "a name that no container has which Bailey did not make; rename or remove that one first",
            )
    return find_presences(containers)


def _plan(
    desired: _Desired,
    purge: bool,
    presences: Mapping[str, Presence],
    stored: Mapping[str, StoredSpec],
    volumes: Mapping[str, Volume],
    host: Host,
) -> dict[str, Plan]:
    plans: dict[str, Plan] = {}
    gates = read_states(host.files.run_dir)
    network = _read_network(desired, presences, gates, host)
    for name, spec in desired.specs.items():
        presence = presences.get(name, Presence())
        before = stored.get(name)
        ids = IDENTITY if before is None else before.ids
        results = _read_back(spec, presence, volumes.get(name), gates.get(name), host, ids)
        if results is not None:
            results.extend(network.get(name, []))
        plans[name] = plan_instance(spec, desired.states[name], presence, before, results)
    undeclared = sorted({*presences, *stored} - {*desired.specs, *desired.absent}) if purge else []
    for name in (*desired.absent, *undeclared):
        data = host.remove_volumes and name in volumes
        plans[name] = plan_removal(name, presences.get(name, Presence()), stored.get(name), data=data)
    return plans


def _read_network(
    desired: _Desired, presences: Mapping[str, Presence], gates: Mapping[str, InstanceState], host: Host
) -> dict[str, list[Check]]:
    """Read the network of those back that run; where none does, the agent is not asked."""
    running = [
        spec
        for name, spec in desired.specs.items()
        if (current := presences.get(name, Presence()).current) is not None
        and current.running
        and name in gates
        and gates[name].is_open(current.id)
    ]
    return read_network(host.agent, running)


def _read_back(
    spec: Spec, presence: Presence, volume: Volume | None, gate: InstanceState | None, host: Host, ids: IdMap
) -> list[Check] | None:
    """Check a container past its gate against the kernel; None where there is none, whatever the engine says."""
    current = presence.current
    if current is None or not current.running or gate is None or not gate.is_open(current.id):
        return None
    reading = read_container(host.hierarchy, current.id)
    if reading is None or reading.init.pid != gate.pid:  # it has been started again since
        return None
    return checks(spec, reading, volume, host.io_devices, ids)


def _kept_volumes(plans: Mapping[str, Plan], volumes: Mapping[str, Volume], removed: bool) -> list[str]:
    if removed:
        return []
    return [str(volumes[name].path) for name, plan in plans.items() if plan.spec is None and name in volumes]


def _admit(
    plans: Mapping[str, Plan],
    stored: Mapping[str, StoredSpec],
    ground: Ground,
    overcommit: Overcommit,
    host: Host,
) -> IdMap:
    """Refuse what the engine cannot do, and what does not fit beside all that stays on the host.

    Returns the ids that containers have on it; where none is made or changed, nobody needs them.
    """
    staying = [parse_spec(item.canonical) for name, item in stored.items() if name not in plans]
    declared = [plan.spec for plan in plans.values() if plan.spec is not None]
    specs = declared + staying
    check_ports(specs)
    check_apps(declared, staying)
    check_bridge(specs)
    check_capacity({spec.name: spec.limits for spec in specs}, ground, overcommit)
    changing = [(plan, plan.spec) for plan in plans.values() if plan.spec is not None and plan.differences]
    _check_agent([plan for plan, _ in changing], host)
    if not changing:
        return IDENTITY
    capabilities = host.backend.capabilities()
    for _, spec in changing:
        check_engine(spec, capabilities)
    return capabilities.ids


def _check_agent(changing: Sequence[Plan], host: Host) -> None:
    """Ask the agent before anything changes: without it no gate opens, and a host that is drained starts nothing."""
    held = [plan for plan in changing if plan.action is not Action.STOP]
    starting = [plan.name for plan in held if plan.state == STARTED and plan.action is not Action.UPDATE]
    if held and host.agent.ask("status")["agent"]["draining"] and starting:
        raise AdmissionError(f"the host is being drained and starts nothing; asked for: {', '.join(starting)}")


def _check_images(plans: Mapping[str, Plan], host: Host, *, check_mode: bool) -> None:
    """Have every image that a new container needs on the host before the first container changes."""
    needed: dict[str, str] = {}
    for plan in plans.values():
        if plan.spec is not None and plan.action in _MAKING:
            needed.setdefault(plan.spec.image, plan.spec.pull_policy)
            if plan.spec.pull_policy == "always":
                needed[plan.spec.image] = "always"
    for image, policy in needed.items():
        present = host.backend.has_image(image)
        if present and (policy != "always" or check_mode):
            continue
        if policy == "never":
            raise InvalidValueError("image", image, "an image that is on this host (pull_policy is never)")
        if not check_mode:
            _pull(image, host)


def _pull(image: str, host: Host) -> None:
    try:
        host.backend.pull(image)
    except EngineError as error:
        allowed = f"an image on this host or in its registry ({error})"
        raise InvalidValueError("image", image, allowed) from error


def _carry_out(plans: Mapping[str, Plan], carrier: Carrier, workers: int) -> dict[str, str]:
    """Change what differs, removals first: they free what the others may need. Return failures by name."""
    failures: dict[str, str] = {}
    removals = [plan for plan in plans.values() if plan.action is Action.REMOVE]
    changes = [plan for plan in plans.values() if plan.action not in (Action.REMOVE, Action.NONE)]
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for batch in (removals, changes):
            failures.update(_run_batch(batch, carrier, pool))
    return failures


def _run_batch(plans: Iterable[Plan], carrier: Carrier, pool: ThreadPoolExecutor) -> dict[str, str]:
    running = {plan.name: pool.submit(carrier.carry_out, plan) for plan in plans}
    failures: dict[str, str] = {}
    for name, future in running.items():
        try:
            future.result()
        except (BaileyError, OSError) as error:  # a full disk, say, is one instance's failure, too
            failures[name] = str(error)
    return failures
