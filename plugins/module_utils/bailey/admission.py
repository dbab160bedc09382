"""What a host takes in: each spec must be enforceable here, and all of them together must fit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .backends.base import Capabilities
from .errors import AdmissionError, InvalidValueError, UnsupportedError
from .host.apparmor import ENFORCING, AppArmor
from .host.proc import read_meminfo
from .host.quota import Quota
from .limits import Limits
from .network import AppRef
from .ports import Port
from .rlimits import Rlimit
from .spec import BRIDGE, NONE, TENANT_PROFILE, Spec
from .units import NANO, format_cpus, format_cpuset, format_size

# BR_MAX_PORTS in net/bridge/br_private.h is 1024, and number 0 is no port's.
BRIDGE_PORTS = 1023
_REMAPPING_RUNTIMES = ("", "runc", "crun")
APPARMOR = "apparmor"
LSMS = (APPARMOR, NONE)  # what docker_lsm may be
_KERNEL = AppArmor()
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared with what was declared, not bound


@dataclass(frozen=True)
class Overcommit:
    """How often a resource may be promised; 1 promises what is there."""

    memory: float = 1.0
    cpus: float = 1.0
    disk: float = 1.0


@dataclass(frozen=True)
class Ground:
    """The parts of a host that limits stand on."""

    cgroup_version: int
    quota: Quota
    cpus: frozenset[int]  # online
    memory: int  # bytes

    @classmethod
    def read(cls, cgroup_version: int, quota: Quota) -> Ground:
        """Read this host's."""
        cpus = frozenset(range(os.cpu_count() or 1)) & os.sched_getaffinity(1)
        return cls(cgroup_version, quota, cpus, read_meminfo()["MemTotal"])


def check_host(spec: Spec, ground: Ground) -> None:
    """Refuse what this host's kernel cannot enforce; raises UnsupportedError or InvalidValueError."""
    limits = spec.limits
    if limits.nano_cpus > len(ground.cpus) * NANO:
        raise InvalidValueError(f"{spec.name}.cpus", format_cpus(limits.nano_cpus), f"at most {len(ground.cpus)} here")
    if limits.cpuset is not None and not limits.cpuset <= ground.cpus:
        allowed = f"processors of this host: {format_cpuset(ground.cpus)}"
        raise InvalidValueError(f"{spec.name}.cpuset", format_cpuset(limits.cpuset), allowed)
    if limits.disk is not None and ground.quota.kind == "none":
        reason = f"the file system at {ground.quota.root} has no quotas in force (see tenants_storage)"
        raise UnsupportedError(f"{spec.name}.disk_limit", format_size(limits.disk), reason)
    _check_io(spec, ground)


def _check_io(spec: Spec, ground: Ground) -> None:
    field = f"{spec.name}.blkio_config"
    if not spec.limits.io:
        return
    if ground.cgroup_version == 1 and spec.limits.io_scope != "direct":
        reason = "cgroup v1 binds direct I/O only, not what goes through the page cache; io_scope: direct accepts that"
        raise UnsupportedError(field, "io_scope: all", reason)
    if ground.quota.device() is None:
        raise UnsupportedError(field, spec.limits.io, f"no block device was found below {ground.quota.root}")


def in_profile(spec: Spec, lsm: str) -> Spec:
    """Return a spec with the profile that it runs under on a host with that security module, `apparmor` or `none`.

    Raises UnsupportedError or InvalidValueError where the two do not go together.
    """
    field = f"{spec.name}.apparmor_profile"
    if lsm == APPARMOR:
        if spec.apparmor_profile == NONE:
            raise InvalidValueError(
                field, NONE, "a profile: only a host that is declared with docker_lsm: none has none"
            )
        return spec
    if spec.apparmor_profile not in (NONE, TENANT_PROFILE):
        reason = "the host is declared with docker_lsm: none, which holds no instance in a profile"
        raise UnsupportedError(field, spec.apparmor_profile, reason)
    return replace(spec, apparmor_profile=NONE)


def check_kernel(lsm: str, kernel: AppArmor = _KERNEL) -> None:
    """Refuse a host whose kernel has not the security module that is declared for it."""
    if lsm not in LSMS:
        raise InvalidValueError("docker_lsm", lsm, " or ".join(LSMS))
    missing = kernel.missing() if lsm == APPARMOR else None
    if missing is not None:
        reason = f"{missing}; declare docker_lsm: none to run tenants without it"
        raise UnsupportedError("docker_lsm", lsm, reason)


def check_profiles(specs: Iterable[Spec], kernel: AppArmor = _KERNEL) -> None:
    """Refuse a profile that the kernel does not hold, in enforce mode: the engine would find out at the start."""
    loaded = kernel.loaded()
    for spec in specs:
        if spec.apparmor_profile != NONE and loaded.get(spec.apparmor_profile) not in ENFORCING:
            binding = sorted(name for name, mode in loaded.items() if mode in ENFORCING and name.startswith("bailey-"))
            allowed = f"a profile that is loaded in enforce mode; there are {', '.join(binding) or 'none of ours'}"
            raise InvalidValueError(f"{spec.name}.apparmor_profile", spec.apparmor_profile, allowed)


def check_engine(spec: Spec, capabilities: Capabilities) -> None:
    """Refuse what this engine cannot do; raises UnsupportedError or InvalidValueError."""
    limits = spec.limits
    if limits.memory < capabilities.memory_minimum:
        allowed = f"at least the engine's minimum, {format_size(capabilities.memory_minimum)}"
        raise InvalidValueError(f"{spec.name}.mem_limit", format_size(limits.memory), allowed)
    if spec.runtime and spec.runtime not in capabilities.runtimes:
        allowed = f"a runtime that the engine offers: {', '.join(sorted(capabilities.runtimes))}"
        raise InvalidValueError(f"{spec.name}.runtime", spec.runtime, allowed)
    if not capabilities.limits_swap:
        reason = "the kernel does not count swap, and this host has some; boot it with swapaccount=1 or switch swap off"
        raise UnsupportedError(f"{spec.name}.memswap_limit", format_size(limits.memory_swap), reason)
    if limits.layer is not None and not capabilities.limits_layer:
        reason = "the engine's storage driver cannot bound a container's own layer"
        raise UnsupportedError(f"{spec.name}.storage_opt.size", format_size(limits.layer), reason)
    _check_ids(spec, capabilities)
    for name, limit in limits.rlimits.items():
        _check_rlimit(f"{spec.name}.ulimits.{name}", limit, name, capabilities)


def _check_ids(spec: Spec, capabilities: Capabilities) -> None:
    """Refuse what does not work with docker_userns_remap: a uid that has no number on the host, another runtime."""
    ids = capabilities.ids
    if spec.user is not None and spec.user >= ids.size:
        allowed = f"below {ids.size}: with docker_userns_remap containers have no other ids (see tenants_uid_range)"
        raise InvalidValueError(f"{spec.name}.user", spec.user, allowed)
    if ids.remapped and spec.runtime not in _REMAPPING_RUNTIMES:
        allowed = "runc or crun, with docker_userns_remap"
        raise InvalidValueError(f"{spec.name}.runtime", spec.runtime, allowed)


def _check_rlimit(field: str, limit: Rlimit, name: str, capabilities: Capabilities) -> None:
    if name not in capabilities.rlimits:
        raise UnsupportedError(field, str(limit), "the engine does not set this resource limit")
    ceiling = capabilities.rlimit_ceiling.get(name)
    if ceiling is not None and not limit.within(ceiling):
        raise InvalidValueError(field, str(limit), f"at most this host's hard limit, {ceiling.hard}")


def check_ports(specs: Iterable[Spec]) -> None:
    """Refuse two instances that publish the same port on one address."""
    taken: dict[tuple[int, str], list[tuple[str, Port]]] = {}
    for spec in specs:
        for port in spec.ports:
            others = taken.setdefault((port.published, port.protocol), [])
            for owner, other in others:
                if _overlap(port.host_ip, other.host_ip):
                    raise InvalidValueError(f"{spec.name}.ports", str(port), f"a port that {owner} does not publish")
            others.append((spec.name, port))


def _overlap(one: str, other: str) -> bool:
    return one == other or one in _WILDCARDS or other in _WILDCARDS


def check_apps(specs: Iterable[Spec], staying: Iterable[Spec] = ()) -> None:
    """Refuse a rule that names an app which nobody declares; `staying` are instances that are on the host already.

    A rule of one that stays may name an app that goes: it is asked about when it is declared again.
    """
    declared = list(specs)
    known = {AppRef(spec.tenant, spec.app) for spec in (*declared, *staying)}
    for spec in declared:
        for number, rule in enumerate(spec.network.rules):
            if rule.app is not None and rule.app not in known:
                allowed = f"an app that is declared for this host: {', '.join(sorted(map(str, known)))}"
                raise InvalidValueError(f"{spec.name}.network.rules[{number}].app", str(rule.app), allowed)


def check_bridge(specs: Iterable[Spec]) -> None:
    """Refuse more containers than the kernel lets a bridge have."""
    asked = sum(spec.network_mode == BRIDGE for spec in specs)
    if asked > BRIDGE_PORTS:
        raise AdmissionError(
            f"the host's bridge is too small: {asked} containers are declared with network_mode: {BRIDGE}, and the "
            f"kernel takes {BRIDGE_PORTS} ports on one bridge (BR_MAX_PORTS, 1024 with port number 0 reserved); "
            f"declare at least {asked - BRIDGE_PORTS} of them on another host"
        )


def check_capacity(limits: Mapping[str, Limits], ground: Ground, overcommit: Overcommit) -> None:
    """Refuse what does not fit the host; AdmissionError shows each sum that is too large."""
    memory = sum(item.memory for item in limits.values())
    cpus = sum(item.nano_cpus for item in limits.values())
    disk = sum((item.disk or 0) + (item.layer or 0) for item in limits.values())
    capacity = ground.quota.capacity() if disk else 0
    sums = (
        ("memory", "mem_limit", memory, ground.memory, overcommit.memory, format_size),
        ("cpus", "cpus", cpus, len(ground.cpus) * NANO, overcommit.cpus, format_cpus),
        ("disk", "disk_limit", disk, capacity, overcommit.disk, format_size),
    )
    refused = [
        f"{resource}: {len(limits)} instances declare {field} {written(total)} together; the host has "
        f"{written(available)} times overcommit {factor:g} = {written(int(available * factor))}"
        for resource, field, total, available, factor, written in sums
        if total > available * factor
    ]
    if refused:
        raise AdmissionError("the host is too small: " + "; ".join(refused), overcommitted=refused)
