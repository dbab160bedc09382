"""The lock-down of a running instance, read back from the kernel: what was not declared and holds all the same.

Findings are (field, as it has to be, as it is); they hold where both are equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from .capabilities import from_mask, to_mask
from .confinement import CONTROL_GROUPS, READ_ONLY, masked_paths, present
from .exceptions import ROOT_UID
from .grants import device_rule, supplementary_groups
from .host.apparmor import ENFORCING, Confinement
from .host.idmap import IDENTITY, IdMap, describe_process
from .host.mounts import Mount, mount_holding, resolve_inside
from .host.proc import PROC, Process
from .names import BOOT_DIRECTORY, CONTAINER_DIRECTORY
from .spec import NONE, Spec, VolumeMount

Finding = tuple[str, str, str]

_ROOT = "/"
_COVERED, _FINE = "covered", "as declared"
_ALWAYS_MOUNTED = ("/", "/proc", "/dev", "/dev/pts", "/dev/mqueue", "/dev/shm", "/sys", "/sys/fs/cgroup")  # noqa: S108 - places of mounts
_ENGINES_FILES = ("/etc/resolv.conf", "/etc/hostname", "/etc/hosts")
_PLATFORMS = (CONTAINER_DIRECTORY, BOOT_DIRECTORY, "/etc/passwd", "/etc/group")
_GROUPS = ("cgroup", "cgroup2")
_KERNELS = "sysfs"  # whose files change the host
_NAMESPACES = frozenset(("ipc", "mnt", "net", "pid", "uts"))
# Nodes that a runtime makes, and in a user namespace, where nobody can make any, mounts from the host.
_NODES = ("/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero")
# What runtimes give every container: making nodes, without the capability for it; null, zero, full, random, urandom,
# tty, console, ptmx, ptys, and runc until 1.2 tun, whose node no container has.
_USUAL_DEVICES = frozenset((
    "b *:* m", "c *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:1 rwm",
    "c 5:2 rwm", "c 10:200 rwm", "c 136:* rwm",
))  # fmt: skip


def identity_findings(spec: Spec, init: Process, ids: IdMap, held: IdMap | None) -> Iterator[Finding]:
    """Compare whom PID 1 runs as, inside and on the host: the kernel shows us the host's numbers.

    `ids` are those that the instance was made with, `held` those of its user namespace, None where they are none of
    this platform's.
    """
    groups = {spec.uid, *supplementary_groups(spec, ids)}
    yield "user", ids.describe(spec.uid), _named(init.uids, held)
    yield "groups", ", ".join(map(ids.describe, sorted(groups))), _named(init.gids, held)


def process_findings(spec: Spec, init: Process, engine_filters: int, held: Confinement | None) -> Iterator[Finding]:
    """Compare what PID 1 may do.

    `engine_filters` are those that it has from the engine itself, `held` the profile that it runs under.
    """
    yield "cap_add", _names(to_mask(spec.cap_add)), _names(init.capabilities_bounding)
    yield "capabilities", "none", _names(init.capabilities_held)
    yield "no_new_privileges", "true", _yes(init.no_new_privs)
    filtered = init.seccomp and (init.filters is None or init.filters > engine_filters)
    yield "seccomp", "true", _yes(filtered)
    yield "apparmor_profile", spec.apparmor_profile, _profile(spec.apparmor_profile, held)


def _profile(declared: str, held: Confinement | None) -> str:
    """Return the declared profile where it binds the process, else what does. Who declares none is asked for none."""
    if declared == NONE or held is None or not held.profiles:
        return NONE
    binds = declared in held.profiles and held.mode in ENFORCING
    return declared if binds else f"{'//&'.join(held.profiles)} ({held.mode})"


def namespace_findings(own: frozenset[str], cgroup_version: int, *, remapped: bool = False) -> Iterator[Finding]:
    """Compare the namespaces. That of the control groups comes with cgroup v2, users' with remapped ids."""
    needed = _NAMESPACES | ({"cgroup"} if cgroup_version == 2 else set()) | ({"user"} if remapped else set())
    yield "namespaces", ", ".join(sorted(needed)), ", ".join(sorted(needed & own)) or "the host's"


def mount_findings(
    spec: Spec,
    pid: int,
    mounts: Sequence[Mount],
    read_only: Sequence[str] = READ_ONLY,
    ids: IdMap = IDENTITY,
) -> Iterator[Finding]:
    """Compare all that is mounted; of the paths that have to be covered or read-only, those that this kernel has."""
    points = {str(mount.point): mount for mount in mounts}  # a later mount covers an earlier one
    where = {target: resolve_inside(pid, target) for target in _targets(spec)}
    yield "read_only", _yes(spec.read_only), _yes(_ROOT in points and points[_ROOT].read_only)
    covered = masked_paths()
    seen = sorted(present(path for path in covered if not _is_covered(points.get(path))))
    yield "masked_paths", _COVERED, f"in sight: {', '.join(seen)}" if seen else _COVERED
    open_ = sorted(present(path for path in read_only if path not in points or not points[path].read_only))
    yield "read_only_paths", "read-only", f"writable: {', '.join(open_)}" if open_ else "read-only"
    for volume in spec.volumes:
        yield _volume_finding(spec, volume, points.get(where[volume.target]))
    if spec.socket is not None:
        found = points.get(where[spec.socket.target])
        yield f"volumes[{spec.socket.target}]", *_socket_finding(spec.socket.source, found)
    nodes = {*_NODES, *spec.devices} if ids.remapped else set()
    unexpected = _unexpected(mounts, {*covered, *where.values(), *nodes}, {CONTROL_GROUPS}.intersection(read_only))
    writable = _writable_groups(points, pid, ids)
    problems = [*unexpected, *_other_nodes(points, nodes), *_weak(spec, points, where), *writable]
    yield "mounts", _FINE, "; ".join(problems) or _FINE


def _targets(spec: Spec) -> list[str]:
    targets = [volume.target for volume in spec.volumes] + [item.target for item in spec.limits.tmpfs]
    return targets if spec.socket is None else [*targets, spec.socket.target]


def _is_covered(mount: Mount | None) -> bool:
    """Say whether a path shows nothing of the kernel's.

    Runtimes put the null device over a file, and over a directory an empty file system that is read-only.
    """
    if mount is None or mount.fs_type not in ("tmpfs", "devtmpfs"):
        return False
    return mount.root == "/null" or (mount.root == "/" and mount.read_only)


def _volume_finding(spec: Spec, volume: VolumeMount, mount: Mount | None) -> Finding:
    mode = "read-only" if volume.read_only else "read-write"
    safe = ", nosuid" if spec.uid == ROOT_UID else ""
    field, declared = f"volumes[{volume.target}]", f"{mode}{safe}"
    if mount is None:
        return field, declared, "not mounted"
    if not mount.root.endswith(f"/{spec.name}/{volume.directory}"):
        return field, declared, f"another directory, {mount.root}"
    actual = "read-only" if mount.read_only else "read-write"
    return field, declared, f"{actual}{safe if 'nosuid' in mount.options else ''}"


def _socket_finding(source: str, mount: Mount | None) -> tuple[str, str]:
    declared = "the engine's socket, read-only"
    if mount is None:
        return declared, "not mounted"
    path = Path(source).resolve()
    holder = mount_holding(path)
    there = str(Path(holder.root) / path.relative_to(holder.point))
    if mount.root != there:  # the engine has made another since, say
        return declared, f"another file, {mount.root}"
    return declared, declared if mount.read_only else "the engine's socket, writable"


def _unexpected(mounts: Iterable[Mount], declared: set[str], layered: set[str]) -> Iterator[str]:
    """Yield what is mounted and should not be; what is `layered` has been made read-only by a mount of its own."""
    known = {*_ALWAYS_MOUNTED, *_ENGINES_FILES, *_PLATFORMS, *READ_ONLY, *declared}
    counts = Counter(str(mount.point) for mount in mounts)
    for mount in mounts:
        point = str(mount.point)
        below_groups = mount.fs_type in _GROUPS and point.startswith("/sys/fs/cgroup/")
        if point not in known and not below_groups:
            yield f"{point} is mounted beside them"
    often = sorted(point for point, count in counts.items() if count > 1 + (point in layered))
    yield from (f"{point} is mounted twice" for point in often)


def _other_nodes(points: Mapping[str, Mount], nodes: set[str]) -> Iterator[str]:
    """Yield the device nodes that are mounted and are not the host's of the same name."""
    for node in sorted(nodes & points.keys()):
        if points[node].root != node.removeprefix("/dev"):
            yield f"{node} is another node, {points[node].root}"


def _writable_groups(points: Mapping[str, Mount], pid: int, ids: IdMap) -> Iterator[str]:
    """Yield the control groups that an instance could change: with remapped ids their mounts stay writable."""
    for point, mount in points.items():
        if mount.fs_type in _GROUPS and not (mount.read_only or (ids.remapped and _is_hosts(pid, point, ids))):
            yield f"{point} can be written to"


def _is_hosts(pid: int, point: str, ids: IdMap) -> bool:
    """Say whether only somebody of the host may write to a directory, who is nobody inside."""
    try:
        status = Path(f"{PROC}/{pid}/root{point}").stat()
    except OSError:
        return False
    return ids.to_container(status.st_uid) is None and not status.st_mode & 0o022


def _weak(spec: Spec, points: Mapping[str, Mount], where: Mapping[str, str]) -> Iterator[str]:
    locked = {*_PLATFORMS, *(_ENGINES_FILES if spec.read_only else ())}
    for point, mount in points.items():
        if (point in locked or mount.fs_type == _KERNELS) and not mount.read_only:
            yield f"{point} can be written to"
    for item in spec.limits.tmpfs:
        wanted = {"nosuid", "nodev"} | (set() if item.executable else {"noexec"})
        found = points.get(where[item.target])
        if found is not None and not wanted <= found.options:
            yield f"{item.target} is without {', '.join(sorted(wanted - found.options))}"


def device_finding(spec: Spec, pid: int, rules: frozenset[str] | None) -> Finding:
    """Compare the devices: their nodes, and where the kernel shows them, on cgroup v1, the rules.

    On v2 the rules are a program without a readable form.
    """
    extra = set((rules or frozenset()) - _USUAL_DEVICES)
    found = []
    for device in spec.devices:
        rule = device_rule(device)
        node = device_rule(f"{PROC}/{pid}/root{device}")
        if rule is not None and rule == node and (rules is None or f"{rule} rw" in extra):
            found.append(device)
        extra.discard(f"{rule} rw")
    shown = [*found, *sorted(extra)]
    return "devices", ", ".join(spec.devices) or "none", ", ".join(shown) or "none"


def _named(numbers: Iterable[int], ids: IdMap | None) -> str:
    return ", ".join(describe_process(ids, number) for number in sorted(numbers))


def _names(mask: int) -> str:
    return ", ".join(from_mask(mask)) or "none"


def _yes(value: bool) -> str:
    return "true" if value else "false"
