"""The contract of a tenants' file system: volumes with a limit that the kernel enforces.

A volume is a directory of its own below one root. Its root directory belongs to root with mode
0711: the instance's account can go through it, but can neither list it nor replace what was put
in it (its mount directories). Whose volume it is stands in an extended attribute of the trusted
namespace, which only the host's root can read or write; were it the directory's owner instead, the
tenant could change the directory's mode, and with it its content.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..errors import HostError, InvalidValueError
from ..units import MAX_SIZE
from .mounts import Mount

MINIMUM_LIMIT = 1 << 20
BLOCK = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_OWNER = "trusted.bailey.owner"
_VOLUME_MODE = 0o711


@dataclass(frozen=True)
class Volume:
    """One instance's writable data. Sizes are in bytes; `limit` None means that there is none."""

    name: str
    path: Path
    limit: int | None
    used: int
    uid: int


class Quota(ABC):
    """A directory that holds volumes, on a file system that limits them, or does not (kind none).

    Half-made volumes have names that begin with a dot and are never listed; the next create of
    that name clears them away.
    """

    kind: ClassVar[str]
    # Requests by which a tenant could write outside its limit, though it owns nothing but its own
    # directories. The kernel allows them to an ordinary user, so the limit holds only where the
    # container's seccomp filter refuses them: ioctl requests by their name and number.
    escapes: ClassVar[Mapping[str, int]] = {}

    def __init__(self, root: Path, mount: Mount) -> None:
        self.root = root
        self.mount = mount

    @abstractmethod
    def capacity(self) -> int:
        """Return the bytes that all limits together may promise, the file system's own needs taken off."""

    @abstractmethod
    def volumes(self) -> dict[str, Volume]:
        """Return all volumes by name, in one command however many there are."""

    @abstractmethod
    def create(self, name: str, limit: int | None, uid: int, gid: int) -> None:
        """Make an empty volume, its limit in force before it can be seen; an error if it exists."""

    @abstractmethod
    def set_limit(self, name: str, limit: int | None) -> None:
        """Change a volume's limit while it is in use. Below what is used, it stops every further write."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a volume's data, its limit, and the kernel's record of both."""

    def volume(self, name: str) -> Volume | None:
        """Return one volume as the kernel holds it now, or None."""
        return self.volumes().get(name)

    def device(self) -> str | None:
        """Return the block device below, for limits on its I/O; None where there is none."""
        return self.mount.source if self.mount.source.startswith("/dev/") else None

    def repair(self) -> list[str]:
        """Put right what makes the kernel's counts wrong, and say what was done."""
        return []

    def path_of(self, name: str) -> Path:
        """Return the path of a volume that is there; an error that names it if it is not."""
        path = self.root / check_name(name)
        if not path.is_dir() or path.is_symlink():
            raise HostError(f"volume {name}: there is none in {self.root}")
        return path

    def staging_for(self, name: str) -> Path:
        """Return where a volume is made before it gets its name; an error if that name is taken."""
        if os.path.lexists(self.root / check_name(name)):
            raise HostError(f"volume {name}: it is there already, in {self.root}")
        return self.root / f".new-{name}"

    def publish(self, staging: Path, name: str, uid: int, gid: int) -> None:
        """Write down the owner, set the mode, and give a finished volume its name."""
        os.setxattr(staging, _OWNER, f"{uid}:{gid}".encode())
        os.chown(staging, 0, 0)
        staging.chmod(_VOLUME_MODE)
        staging.rename(self.root / name)

    def owners(self) -> dict[str, int]:
        """Return the uid of each volume by name; what others put below the root is left out."""
        found = {}
        with os.scandir(self.root) as entries:
            for entry in entries:
                if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                    uid = read_owner(Path(entry.path))
                    if uid is not None:
                        found[entry.name] = uid
        return found

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other maker of volumes out, in this process and in others, even after a crash."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def read_owner(path: Path) -> int | None:
    """Return the uid that a volume belongs to, None where that is no volume."""
    try:
        return int(os.getxattr(path, _OWNER, follow_symlinks=False).partition(b":")[0])
    except (OSError, ValueError):
        return None


def check_name(name: str) -> str:
    """Return a volume's name, or raise InvalidValueError: it becomes a directory's name."""
    if not _NAME.fullmatch(name):
        allowed = "1 to 128 letters, digits, dots, dashes and underscores, a letter or digit first"
        raise InvalidValueError("volume name", name, allowed)
    return name


def check_limit(limit: int | None) -> int | None:
    """Return a limit that every kind of file system holds exactly as declared."""
    if limit is not None and (limit % BLOCK or not MINIMUM_LIMIT <= limit <= MAX_SIZE):
        allowed = f"a multiple of {BLOCK} bytes, of at least {MINIMUM_LIMIT} bytes (1M)"
        raise InvalidValueError("disk", limit, allowed)
    return limit


def size_of(path: Path) -> int:
    """Return the size in bytes of the file system that holds a path."""
    status = os.statvfs(path)
    return status.f_blocks * status.f_frsize


def remove_tree(path: Path) -> None:
    """Remove a volume that is a plain directory: out of sight at once, then its content."""
    hidden = path if path.name.startswith(".") else path.with_name(f".gone-{path.name}")
    if hidden != path:
        if hidden.exists():
            shutil.rmtree(hidden)
        path.rename(hidden)
    try:
        shutil.rmtree(hidden)
    except OSError as error:
        raise HostError(f"volume {path.name}: not all of its data could be removed, left: {hidden}: {error}") from error
