"""Declared against enforced: each limit of a running instance, read back from the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .confinement import read_only_paths
from .host.apparmor import Confinement, confinement
from .host.cgroup import Enforced, Hierarchy, Usage
from .host.idmap import IDENTITY, IdMap, read_id_map
from .host.mounts import Mount, read_mounts, resolve_inside
from .host.namespaces import own_namespaces
from .host.proc import Process, find_init, read_process, read_rlimits
from .host.quota import Volume
from .isolation import device_finding, identity_findings, mount_findings, namespace_findings, process_findings
from .limits import UNLIMITED, IoRates, Limits
from .rlimits import Rlimit
from .spec import Spec
from .units import format_cpus, format_cpuset, format_size

_SHM = "/dev/shm"  # noqa: S108 - the place of a mount, not a file that is made


@dataclass(frozen=True)
class Reading:
    """All that the kernel tells of one running container."""

    enforced: Enforced
    usage: Usage
    init: Process
    rlimits: dict[str, Rlimit]
    mounts: Sequence[Mount]
    namespaces: frozenset[str]  # the kinds that it has to itself
    cgroup_version: int
    engine_filters: int  # of system calls, that the engine itself runs behind
    profile: Confinement | None  # of AppArmor, that PID 1 runs under
    ids: IdMap | None = IDENTITY  # None: a mapping that this platform does not make


@dataclass(frozen=True)
class Check:
    """One limit: what was declared, what the kernel holds, and whether that is what was asked for."""

    field: str
    declared: str
    enforced: str
    holds: bool


def read_container(hierarchy: Hierarchy, container_id: str) -> Reading | None:
    """Read a container back from the kernel, or return None where it does not run."""
    group = hierarchy.find(container_id)
    if group is None:
        return None
    init = find_init(group.pids())
    if init is None:
        return None
    engine = read_process(init.parent)
    reading = Reading(
        group.enforced(),
        group.usage(),
        init,
        read_rlimits(init.pid),
        read_mounts(init.pid),
        namespaces=own_namespaces(init.pid),
        cgroup_version=hierarchy.version,
        engine_filters=engine.filters or 0 if engine is not None else 0,
        profile=confinement(init.pid),
        ids=read_id_map(init.pid),
    )
    return reading if reading.mounts else None  # it ended while it was read


def device_numbers(devices: Iterable[str]) -> dict[str, str]:
    """Return each block device's major:minor, by its path."""
    numbers: dict[str, str] = {}
    for device in devices:
        number = os.stat(device).st_rdev  # noqa: PTH116 - a device's path is a plain string throughout
        numbers[device] = f"{os.major(number)}:{os.minor(number)}"
    return numbers


def checks(
    spec: Spec, reading: Reading, volume: Volume | None, devices: Sequence[str], ids: IdMap = IDENTITY
) -> list[Check]:
    """Compare everything that was declared for an instance with what holds; `ids` are those that it was made with."""
    return [
        *_group_checks(spec.limits, reading.enforced),
        *_disk_checks(spec.limits, volume),
        *_io_checks(spec.limits.io, reading.enforced, devices),
        *_memory_file_system_checks(spec.limits, reading),
        *_rlimit_checks(spec.limits, reading.rlimits),
        *_lockdown_checks(spec, reading, ids),
    ]


def failing(results: Iterable[Check]) -> list[Check]:
    """Return the checks that do not hold."""
    return [check for check in results if not check.holds]


def describe(broken: Iterable[Check]) -> str:
    """Return the checks that do not hold, as a message names them."""
    return ", ".join(f"{check.field} is {check.enforced}, not {check.declared}" for check in broken)


def _exact(field: str, declared: str, enforced: str) -> Check:
    return Check(field, declared, enforced, declared == enforced)


def _size(size: int | None) -> str:
    return UNLIMITED if size is None else format_size(size)


def _group_checks(limits: Limits, enforced: Enforced) -> Iterator[Check]:
    yield _exact("mem_limit", format_size(limits.memory), _size(enforced.memory))
    if enforced.counts_swap:
        yield _exact("memswap_limit", format_size(limits.memory_swap), _size(enforced.memory_swap))
    if limits.memory_reservation is not None:
        yield _exact("mem_reservation", _size(limits.memory_reservation), _size(enforced.memory_reservation))
    cpus = UNLIMITED if enforced.nano_cpus is None else format_cpus(enforced.nano_cpus)
    yield _exact("cpus", format_cpus(limits.nano_cpus), cpus)
    yield _shares_check(limits.cpu_shares, enforced)
    if limits.cpuset is not None:
        yield _exact("cpuset", format_cpuset(limits.cpuset), format_cpuset(enforced.cpuset))
    pids = UNLIMITED if enforced.pids is None else str(enforced.pids)
    yield _exact("pids_limit", str(limits.pids), pids)


def _shares_check(shares: int, enforced: Enforced) -> Check:
    holds = enforced.holds_shares(shares)
    shown = f"weight {enforced.cpu_weight}" if enforced.cpu_shares is None else str(enforced.cpu_shares)
    return Check("cpu_shares", str(shares), str(shares) if holds else shown, holds)


def _disk_checks(limits: Limits, volume: Volume | None) -> Iterator[Check]:
    if limits.disk is not None:
        yield _exact("disk_limit", format_size(limits.disk), "no volume" if volume is None else _size(volume.limit))


def _io_checks(io: IoRates, enforced: Enforced, devices: Sequence[str]) -> Iterator[Check]:
    for device, number in device_numbers(devices).items() if io else ():
        held = enforced.io.get(number, IoRates())
        for rate in ("read_bps", "write_bps", "read_iops", "write_iops"):
            declared, actual = getattr(io, rate), getattr(held, rate)
            if declared is not None or actual is not None:
                field = f"blkio_config.device_{rate}[{device}]"
                yield _exact(field, _rate(rate, declared), _rate(rate, actual))


def _rate(kind: str, rate: int | None) -> str:
    if rate is None:
        return UNLIMITED
    return f"{format_size(rate)}/s" if kind.endswith("bps") else f"{rate}/s"


def _memory_file_system_checks(limits: Limits, reading: Reading) -> Iterator[Check]:
    # A later mount on the same point covers an earlier one, as it does in the kernel.
    sizes = {str(mount.point): mount.tmpfs_size for mount in reading.mounts if mount.fs_type == "tmpfs"}
    yield _exact("shm_size", format_size(limits.shm_size), _size(sizes.get(_SHM)))
    for item in limits.tmpfs:
        held = sizes.get(resolve_inside(reading.init.pid, item.target))
        yield _exact(f"tmpfs[{item.target}]", format_size(item.size), _size(held))


def _rlimit_checks(limits: Limits, held: dict[str, Rlimit]) -> Iterator[Check]:
    for name, declared in sorted(limits.rlimits.items()):
        actual = held.get(name)
        holds = actual is not None and actual.within(declared)
        yield Check(f"ulimits.{name}", str(declared), str(actual), holds)


def _lockdown_checks(spec: Spec, reading: Reading, ids: IdMap) -> Iterator[Check]:
    init = reading.init
    read_only = read_only_paths(reading.cgroup_version, remapped=ids.remapped)
    findings = (
        *identity_findings(spec, init, ids, reading.ids),
        *process_findings(spec, init, reading.engine_filters, reading.profile),
        *namespace_findings(reading.namespaces, reading.cgroup_version, remapped=ids.remapped),
        *mount_findings(spec, init.pid, reading.mounts, read_only, ids),
        device_finding(spec, init.pid, reading.enforced.devices),
    )
    yield from (_exact(*finding) for finding in findings)
