"""Removing the tenants' storage: mount, loop device, file, entry in fstab and directory."""

from __future__ import annotations

from ..errors import BaileyError, HostError
from ..units import format_size
from .mounts import Mount, fstab_entry
from .quota import open_quota
from .storage_base import Settings, Storage, Work, entries, left, set_fstab, unmount


def absent(settings: Settings, *, remove_data: bool, check: bool = False) -> Storage:
    """Remove all of a storage; with `remove_data` also if volumes are in it."""
    work = Work(settings, check=check)
    mount = work.mounted()
    content = work.source.content() if mount is None else None
    if content is not None and content.foreign:
        raise HostError(
            f"source: {settings.source} holds {content.foreign}, which is not Bailey's, and is left as it is; "
            "declare the source that the storage was made with"
        )
    if not remove_data:
        _refuse_loss(work, mount, content.kind if content else None)
    try:
        _remove(work, mount, made=mount is not None or bool(content and (content.kind or not work.source.is_device)))
    except (BaileyError, OSError) as error:
        raise HostError(f"{error}; left: {', '.join(left(work)) or 'nothing'}", left=left(work)) from error
    return work.result


def _refuse_loss(work: Work, mount: Mount | None, kind: str | None) -> None:
    path = work.settings.path
    if mount is None and kind is not None:
        raise HostError(
            f"{work.settings.source} holds Bailey's {kind}, which is not mounted, so it may hold volumes; "
            "remove_data: true removes it with all that is in it"
        )
    if mount is not None or entries(path):
        volumes = open_quota(path).volumes()
        names = sorted(volumes) if mount is not None else entries(path)
        if names:
            used = format_size(sum(volume.used for volume in volumes.values()))
            listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise HostError(
                f"{path} holds {len(names)} volumes ({listed}; {used} counted); "
                "remove_data: true removes it with all that is in them"
            )


def _remove(work: Work, mount: Mount | None, *, made: bool) -> None:
    settings = work.settings
    if mount is not None:
        work.step("mount", mount.fs_type, None, lambda: unmount(work))
    before = fstab_entry(settings.path, settings.fstab)
    work.step("fstab", before.line() if before else None, None, lambda: set_fstab(settings, None))
    if made and settings.source.exists():
        work.step("source", str(settings.source), None, work.source.erase)
    if settings.path.exists():
        work.step("path", str(settings.path), None, lambda: _remove_directory(work))


def _remove_directory(work: Work) -> None:
    """Remove the directory, and the volumes in it where no file system was mounted; nothing else goes."""
    path = work.settings.path
    quota = open_quota(path)
    for name in quota.volumes():
        quota.remove(name)
    path.rmdir()
