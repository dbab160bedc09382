"""The declaration of the tenants' storage, and one run over it: what both present and absent need."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..changes import Differences
from ..errors import CommandError, HostError, InvalidValueError
from ..units import format_size
from .command import run
from .loops import loop_of
from .mounts import FSTAB, FstabEntry, Mount, fstab_entry, mount_at, set_fstab_entry
from .storage_source import KINDS, Source

AUTO, NONE = "auto", "none"
BACKENDS = (AUTO, *KINDS, NONE)
MINIMUM_SIZE = 512 << 20
# Programs that a tenant leaves in its volume must not gain rights on the host, and device nodes
# there must not work. Access times would be a write for every read.
SAFE_OPTIONS = ("noatime", "nosuid", "nodev")
_RELEASE_SECONDS = 10.0
_RESERVED = {"loop", "ro", "suid", "dev", "remount", "bind", "noquota", "discard", "nodiscard", "discard=async"}


@dataclass(frozen=True)
class Settings:
    """What is declared. `size` is that of the loop file in bytes; a block device is used whole."""

    backend: str
    path: Path
    source: Path
    size: int
    preallocate: bool = False
    mount_options: tuple[str, ...] = ()
    fstab: Path = FSTAB

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise InvalidValueError("backend", self.backend, ", ".join(BACKENDS))
        for name, path in (("path", self.path), ("source", self.source)):
            if not path.is_absolute() or len(path.parts) < 3 or not _is_plain(path):
                allowed = "an absolute path below the first level, without symbolic links (but in /dev)"
                raise InvalidValueError(name, str(path), allowed)
        if self.source.is_relative_to(self.path):
            raise InvalidValueError("source", str(self.source), f"a path outside {self.path}")
        if self.size < MINIMUM_SIZE:
            raise InvalidValueError("size", format_size(self.size), f"at least {format_size(MINIMUM_SIZE)}")
        for option in self.mount_options:
            if option in _RESERVED or not option or "," in option:
                raise InvalidValueError("mount_options", option, "one option an item, none that this role sets")


def _is_plain(path: Path) -> bool:
    return path.is_relative_to("/dev") or path.resolve() == path


@dataclass
class Storage:
    """What there is after `present`, or would be in check mode; `reasons` say why a kind was not taken."""

    backend: str | None
    device: str | None = None
    capacity: int | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    differences: Differences = field(default_factory=Differences)
    warnings: list[str] = field(default_factory=list)


class Work:
    """One run over one declaration. Every step records its difference, and acts unless it only looks."""

    def __init__(self, settings: Settings, *, check: bool) -> None:
        self.settings = settings
        self.check = check
        self.source = Source(settings.source)
        self.result = Storage(backend=None)
        self.differences = self.result.differences

    def step(self, path: str, before: str | None, after: str | None, action: Callable[[], object]) -> None:
        """Record one difference and, unless in check mode, carry it out."""
        if self.differences.add(path, before, after) and not self.check:
            action()

    def mounted(self) -> Mount | None:
        """Return the mount at the declared path; an error if it is anything but the declared source."""
        mount = mount_at(self.settings.path)
        if mount is not None and not self.source.is_below(mount.source):
            raise HostError(
                f"path: {self.settings.path} is a mount of {mount.source} already, not of {self.settings.source}; "
                "unmount it or declare another path"
            )
        return mount

    def options(self, kind: str) -> tuple[str, ...]:
        """Return the mount options for a kind of file system."""
        quota = ("prjquota",) if kind == "xfs" else ()
        return (*SAFE_OPTIONS, *quota, *self._discard(kind), *self.settings.mount_options)

    def _discard(self, kind: str) -> tuple[str, ...]:
        """Give freed space of a sparse file back to the host's disk, and never punch holes into a whole one."""
        if self.source.is_device:
            return ()
        if self.settings.preallocate:
            return ("nodiscard",)
        return ("discard=async",) if kind == "btrfs" else ("discard",)

    def entry(self, kind: str) -> FstabEntry:
        """Return the line of fstab. A host must come up even if this file system does not."""
        loop = () if self.source.is_device else ("loop",)
        # The distributions trim every file system of fstab once a week, "nodiscard" or not.
        trim = ("X-fstrim.notrim",) if self.settings.preallocate and not self.source.is_device else ()
        options = (*loop, *self.options(kind), "nofail", *trim)
        return FstabEntry(str(self.settings.source), self.settings.path, kind, options)


def refuse_other(settings: Settings, kind: str) -> None:
    """Refuse another kind than the one that is declared; auto takes what is there."""
    if settings.backend not in {AUTO, kind}:
        raise HostError(
            f"backend: {settings.backend} is declared, but {settings.source} holds Bailey's {kind}; "
            "remove it first (state: absent), its data would be lost"
        )


def entries(path: Path) -> list[str]:
    """Return the names in a directory; none where it is not there yet."""
    if not path.exists():
        return []
    if not path.is_dir():
        raise InvalidValueError("path", str(path), "a directory, or nothing yet")
    return sorted(entry.name for entry in path.iterdir())


def required_mount(work: Work) -> Mount:
    """Return the mount that was just made."""
    mount = work.mounted()
    if mount is None:
        raise HostError(f"{work.settings.path}: nothing is mounted there, though mounting succeeded")
    return mount


def unmount(work: Work) -> None:
    """Unmount, and wait until the kernel has let go of the device.

    Whoever makes a mount namespace, a container engine say, holds a copy of every mount for a moment.
    """
    path = work.settings.path
    try:
        run(["umount", str(path)])
    except CommandError as error:
        raise HostError(f"{error}; stop what uses the volumes first (fuser -vm {path} shows it)") from error
    deadline = time.monotonic() + _RELEASE_SECONDS
    while work.source.is_held():
        if time.monotonic() > deadline:
            raise HostError(
                f"{path} is unmounted, but {work.settings.source} is still in use: another mount namespace, such as "
                "a container's, holds the file system; stop that, and run this again"
            )
        time.sleep(0.02)


def set_fstab(settings: Settings, entry: FstabEntry | None) -> None:
    """Put the entry in place, or take it out with None, and let systemd see it where that runs."""
    set_fstab_entry(settings.path, entry, settings.fstab)
    if Path("/run/systemd/system").is_dir():
        run(["systemctl", "daemon-reload"])


def left(work: Work) -> list[str]:
    """Name what is there of a storage, for an error that must say what stays."""
    settings, found = work.settings, []
    if mount_at(settings.path) is not None:
        found.append(f"the mount at {settings.path}")
    elif settings.path.exists():
        found.append(f"the directory {settings.path}")
    if not work.source.is_device:
        loop = loop_of(settings.source)
        found.extend([f"the loop device {loop}"] if loop else [])
        found.extend([f"the file {settings.source}"] if settings.source.exists() else [])
    if fstab_entry(settings.path, settings.fstab) is not None:
        found.append(f"the entry of {settings.path} in {settings.fstab}")
    return found
