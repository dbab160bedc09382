"""Files and directories with an owner, a mode and, where it is due, a new content.

They are compared first, all of them, and only then written: new contents are made in memory before
the first write.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..changes import Differences, Json
from ..errors import HostError
from ..host.files import write_atomic


@dataclass(frozen=True)
class Access:
    """Who may use a path. An owner of None is not known yet (its account is still to be made)."""

    mode: int
    uid: int | None = 0
    gid: int | None = 0


@dataclass(frozen=True)
class Change:
    """A content that is due: what is shown of it, never a secret, and what makes it."""

    before: Json
    after: Json
    make: Callable[[], str]


@dataclass(frozen=True)
class Directory:
    """A directory that has to be there. One that is shared with others keeps the access that it has."""

    path: Path
    access: Access
    shared: bool = False

    def compare(self, differences: Differences) -> None:
        """Record that it is missing or that its access differs."""
        if not self.path.is_dir():
            differences.add(str(self.path), None, "directory")
        elif not self.shared:
            _compare_access(self.path, self.access, differences)

    def apply(self) -> None:
        """Make it, and what is missing above it, or correct its access."""
        if self.shared and self.path.is_dir():
            return
        for missing in reversed([parent for parent in self.path.parents if not parent.exists()]):
            missing.mkdir()
            missing.chmod(0o755)
        self.path.mkdir(exist_ok=True)
        _apply_access(self.path, self.access)


@dataclass(frozen=True)
class File:
    """A file that has to be there; without a `change` its content stays as it is."""

    path: Path
    access: Access
    change: Change | None

    def compare(self, differences: Differences) -> None:
        """Record that its content is due or that its access differs."""
        if self.change is not None:
            differences.add(str(self.path), self.change.before, self.change.after)
        elif self.path.exists():
            _compare_access(self.path, self.access, differences)

    def write(self, content: str | None) -> None:
        """Write a content made by the change, or correct the access alone."""
        if content is None:
            _apply_access(self.path, self.access)
            return
        uid, gid = _owner(self.access)
        write_atomic(self.path, content.encode(), mode=self.access.mode, uid=uid, gid=gid)


def apply(directories: Iterable[Directory], files: Iterable[File]) -> None:
    """Make every due content, then write; a failure in between says what has been written."""
    made = [(file, file.change.make() if file.change else None) for file in files]
    written: list[str] = []
    try:
        for directory in directories:
            directory.apply()
        for file, content in made:
            file.write(content)
            if content is not None:
                written.append(str(file.path))
    except OSError as error:
        done = ", ".join(written) or "nothing"
        raise HostError(f"{error.filename}: {error.strerror}; written before it: {done}") from error


def _compare_access(path: Path, access: Access, differences: Differences) -> None:
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    differences.add(f"{path} mode", f"{mode:04o}", f"{access.mode:04o}")
    for kind, before, after in (("uid", found.st_uid, access.uid), ("gid", found.st_gid, access.gid)):
        if after is not None:
            differences.add(f"{path} {kind}", before, after)


def _apply_access(path: Path, access: Access) -> None:
    os.chown(path, *_owner(access))
    path.chmod(access.mode)


def _owner(access: Access) -> tuple[int, int]:
    return (-1 if access.uid is None else access.uid, -1 if access.gid is None else access.gid)
