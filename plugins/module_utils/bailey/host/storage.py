"""The tenants' storage: one file system whose limits were seen to hold, mounted for their volumes.

`present` takes what is there, or makes it. Which file system: XFS where a trial shows that its
project quotas hold, else btrfs, else none. What fails its trial is taken away again before the next
is tried;
storage_absent.py removes all of it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import BaileyError, CommandError, HostError
from .command import run
from .files import read_text
from .mounts import Mount, fstab_entry, mount_at
from .quota import open_quota
from .quota_btrfs import enable_quotas, quotas_enabled
from .storage_base import (
    AUTO,
    NONE,
    SAFE_OPTIONS,
    Settings,
    Storage,
    Work,
    entries,
    left,
    refuse_other,
    required_mount,
    set_fstab,
    unmount,
)
from .storage_size import grow, refuse_smaller
from .storage_source import KINDS
from .storage_trial import try_limits

_PACKAGES = {"btrfs": "btrfs-progs", "xfs": "xfsprogs"}
_ROOT_MODE = 0o711


def present(settings: Settings, *, check: bool = False) -> Storage:
    """Bring the declared storage about; in check mode only say what would change."""
    work = Work(settings, check=check)
    mount = work.mounted()
    if mount is not None:
        refuse_other(settings, mount.fs_type)
        _maintain(work, mount)
    else:
        _start(work)
    return work.result


def _start(work: Work) -> None:
    """Mount what the source holds; where it holds nothing, find out what works and make it."""
    settings, content = work.settings, work.source.content()
    if settings.backend != NONE and content.foreign:
        raise HostError(
            f"source: {settings.source} holds {content.foreign}, which is not Bailey's, and is left as it is; "
            "declare another source, or empty this one yourself if nobody needs it"
        )
    if content.kind:
        refuse_other(settings, content.kind)
        _refuse_hiding(settings)
        refuse_smaller(work)
        work.step("mount", None, content.kind, lambda: _reuse(work, content.kind or ""))
        if not work.check:
            _maintain(work, required_mount(work))
    elif settings.backend == NONE or (settings.backend == AUTO and entries(settings.path)):
        if settings.backend == AUTO:
            work.result.reasons = dict.fromkeys(KINDS, f"{settings.path} holds data outside any storage of Bailey's")
        _use_directory(work)
    else:
        _refuse_hiding(settings)
        work.source.check_room(settings.size)
        _make(work)


def _refuse_hiding(settings: Settings) -> None:
    names = entries(settings.path)
    if names:
        raise HostError(
            f"path: {settings.path} is not empty ({', '.join(names[:3])}, ...), and a mount would hide that; move it"
        )


def _make(work: Work) -> None:
    """Try each kind that is allowed, and keep the first whose limits hold."""
    settings, result = work.settings, work.result
    if work.check:
        work.differences.add("backend", None, settings.backend)
        return
    kinds = KINDS if settings.backend == AUTO else (settings.backend,)
    for kind in kinds:
        try:
            _attempt(work, kind)
        except BaileyError as error:
            result.reasons[kind] = str(error)
            continue
        work.differences.add("backend", None, kind)
        _maintain(work, required_mount(work))
        return
    if settings.backend != AUTO:
        raise HostError(f"backend: {settings.backend} does not work on this host: {result.reasons[settings.backend]}")
    _use_directory(work)


def _attempt(work: Work, kind: str) -> None:
    """Make one kind and try its limits. Whatever fails, nothing of it stays."""
    settings, source = work.settings, work.source
    _require_support(kind)
    made_path, ours = not settings.path.exists(), not source.path.exists()
    try:
        source.allocate(settings.size, whole=settings.preallocate)
        source.format(kind, discard=not settings.preallocate)
        ours = True
        _mount(work, kind)
        try_limits(open_quota(settings.path))
    except BaseException as error:
        _undo(work, error, erase=ours, made_path=made_path)
        raise


def _undo(work: Work, error: BaseException, *, erase: bool, made_path: bool) -> None:
    """Take a failed attempt away. A source is erased only if it is certain that nothing else was on it."""
    try:
        if mount_at(work.settings.path) is not None:
            unmount(work)
        if erase:
            work.source.erase()
        if made_path and work.settings.path.exists():
            work.settings.path.rmdir()
    except (BaileyError, OSError) as second:
        raise HostError(
            f"{error}; taking it away again failed too: {second}; left: {', '.join(left(work)) or 'nothing'}"
        ) from error


def _require_support(kind: str) -> None:
    if shutil.which(f"mkfs.{kind}") is None:
        raise HostError(f"mkfs.{kind} is not installed (package {_PACKAGES[kind]})")
    if not _known_to_kernel(kind) and shutil.which("modprobe"):
        try:
            run(["modprobe", kind])
        except CommandError as error:
            raise HostError(f"the kernel has no {kind}: {error.stderr.strip()}") from error
    if not _known_to_kernel(kind):
        raise HostError(f"the kernel has no {kind}, neither built in nor as a module that is loaded")


def _known_to_kernel(kind: str) -> bool:
    return kind in (read_text(Path("/proc/filesystems")) or "").split()


def _mount(work: Work, kind: str) -> None:
    """Mount with the declared options, quotas on; the root of the file system is made safe."""
    path = work.settings.path
    path.mkdir(parents=True, exist_ok=True)
    try:
        work.source.mount(kind, path, work.options(kind))
    except CommandError as error:
        hint = "; a kernel built without CONFIG_XFS_QUOTA refuses prjquota like this" if kind == "xfs" else ""
        raise HostError(f"{error}{hint}") from error
    path.chmod(_ROOT_MODE)
    mount = required_mount(work)
    if kind == "btrfs" and not quotas_enabled(mount):
        enable_quotas(mount)
    if open_quota(path).kind != kind:
        raise HostError(f"{path}: {kind} is mounted, but its quotas are not on")


def _reuse(work: Work, kind: str) -> None:
    """Mount a file system that was made earlier; it too must show that its limits hold."""
    _require_support(kind)
    try:
        _mount(work, kind)
        try_limits(open_quota(work.settings.path))
    except BaseException:
        if mount_at(work.settings.path) is not None:
            unmount(work)
        raise


def _use_directory(work: Work) -> None:
    """Take a plain directory: volumes without limits, which is said loudly unless it was asked for."""
    settings, result = work.settings, work.result
    content = work.source.content()
    if content.kind:
        refuse_other(settings, content.kind)
    if not settings.path.exists():
        work.step("backend", None, NONE, lambda: settings.path.mkdir(parents=True, mode=_ROOT_MODE))
    if settings.backend == AUTO:
        tried = "; ".join(f"{kind}: {reason}" for kind, reason in result.reasons.items())
        result.warnings.append(f"disk limits will be refused on this host, no file system enforces them: {tried}")
    result.backend = NONE
    if settings.path.exists():
        result.capacity = open_quota(settings.path).capacity()
        result.device = open_quota(settings.path).device()


def _maintain(work: Work, mount: Mount) -> None:
    """Keep what is mounted as declared: quotas, size, mount options, and the entry for the next boot."""
    settings, kind = work.settings, mount.fs_type
    if kind == "btrfs" and not quotas_enabled(mount):
        work.step("quotas", "off", "on", lambda: enable_quotas(mount))
    elif open_quota(settings.path).kind != kind:
        raise HostError(f"{settings.path}: {kind} is mounted without quotas; unmount it and run this again")
    grow(work, mount)
    entry = work.entry(kind)
    before = fstab_entry(settings.path, settings.fstab)
    if not set(SAFE_OPTIONS) <= mount.options or before not in {None, entry}:
        options = ",".join(("remount", *work.options(kind)))
        work.step(
            "mount_options",
            ",".join(sorted(mount.options)),
            options,
            lambda: run(["mount", "-o", options, str(settings.path)]),
        )
    work.step("fstab", before.line() if before else None, entry.line(), lambda: set_fstab(settings, entry))
    _report(work, mount)


def _report(work: Work, mount: Mount) -> None:
    quota = open_quota(work.settings.path)
    if not work.check:
        for number, repaired in enumerate(quota.repair()):
            work.differences.add(f"repair.{number}", None, repaired)
    work.result.backend = mount.fs_type
    work.result.device = quota.device()
    work.result.capacity = quota.capacity()
