"""Whose numbers a container's uids and gids are on the host, user_namespaces(7).

The one place where an id inside becomes the host's, and back. With `docker_userns_remap` the engine gives every
container a user namespace in which root is nobody of the host; without it the numbers are the same on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import HostError
from .proc import PROC, read_of_process

ALL_IDS = 0xFFFFFFFF  # how many there are: the last 32-bit number stands for none


@dataclass(frozen=True)
class IdMap:
    """The ids 0 to `size` - 1 of a container are those from `base` on of the host, uids and gids alike."""

    base: int = 0
    size: int = ALL_IDS

    @property
    def remapped(self) -> bool:
        """Whether a container's numbers are others than the host's."""
        return self != IDENTITY

    @property
    def root_name(self) -> str:
        """The name of the engine's own directory for containers of this mapping, below its data root."""
        return f"{self.base}.{self.base}"

    def to_host(self, inside: int) -> int:
        """Return the host's number for one of a container's. Raises HostError where it has none."""
        if not 0 <= inside < self.size:
            raise HostError(f"id {inside} has no number on this host: containers have the ids 0 to {self.size - 1}")
        return self.base + inside

    def to_container(self, outside: int) -> int | None:
        """Return a container's number for one of the host's, None where it has none."""
        inside = outside - self.base
        return inside if 0 <= inside < self.size else None

    def overlaps(self, other: IdMap) -> bool:
        """Say whether a number of the host's may be an id of containers of both."""
        return self.base < other.base + other.size and other.base < self.base + self.size

    def describe(self, inside: int) -> str:
        """Return a container's id as people read it, with the host's number where that is another."""
        return str(inside) if not self.remapped else f"{inside} (host {self.to_host(inside)})"

    def same(self, other: IdMap | None) -> bool:
        """Say whether an id that both have is the same number in both: a range may have become longer meanwhile."""
        return other is not None and self.base == other.base

    def as_text(self) -> str:
        """Write it in the form that `parse_id_map` reads."""
        return f"{self.base}:{self.size}"


IDENTITY = IdMap()


def describe_process(ids: IdMap | None, uid: int) -> str:
    """Return whom a process runs as, as its container calls it, by its mapping and the host's number of its uid."""
    inside = None if ids is None else ids.to_container(uid)
    return f"{uid} of the host" if ids is None or inside is None else ids.describe(inside)


def parse_id_map(text: str) -> IdMap:
    """Read BASE:SIZE. Raises ValueError for anything else."""
    base, size = (int(part) for part in text.split(":"))
    if base < 0 or size < 1 or base + size > ALL_IDS:
        raise ValueError(f"{text} is no range of ids")
    return IdMap(base, size)


def id_map_of(content: Mapping[str, object]) -> IdMap:
    """Read a mapping out of a file's field `ids`, which only a remapped instance has. Raises ValueError."""
    text = content.get("ids")
    if text is None:
        return IDENTITY
    if not isinstance(text, str):
        raise ValueError(f"ids: {text!r} is no range of ids")  # noqa: TRY004 - one error for whatever a file holds
    return parse_id_map(text)


def read_id_map(pid: int | str, proc: Path = PROC) -> IdMap | None:
    """Read the mapping that a process lives in; None where it is none that this platform makes.

    From /proc/PID/uid_map and gid_map, which the kernel writes in the numbers of whoever reads them. A process of the
    reader's own user namespace has the reader's numbers, whatever those files say. One that has ended has no mapping
    of its own either: callers see to it that it still lives.
    """
    if _namespace(pid, proc) == _namespace("self", proc):
        return IDENTITY
    rows = [read_rows(pid, kind, proc) for kind in ("uid_map", "gid_map")]
    if rows == [[], []]:
        return IDENTITY  # a kernel without user namespaces
    first, *more = rows[0]
    if rows[0] != rows[1] or more or first[0] != 0:
        return None
    return IdMap(first[1], first[2])


def read_rows(pid: int | str, kind: str, proc: Path = PROC) -> list[tuple[int, int, int]]:
    """Read the first id inside, the first outside, and how many, of each row of `uid_map` or `gid_map`."""
    found = []
    for line in (read_of_process(proc / str(pid) / kind) or "").splitlines():
        inside, outside, count = (int(word) for word in line.split())
        found.append((inside, outside, count))
    return found


def _namespace(pid: int | str, proc: Path) -> str:
    """Return what names a process's user namespace; where that cannot be read, nothing that equals another's."""
    try:
        return str((proc / str(pid) / "ns/user").readlink())
    except OSError:
        return f"unknown, of {pid}"
