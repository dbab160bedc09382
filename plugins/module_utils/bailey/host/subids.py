"""The host's ranges of ids for user namespaces: /etc/subuid and /etc/subgid, subuid(5).

Several programs read these files, and each range may belong to one account only. A line of another owner is never
changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import HostError
from .files import read_text, write_atomic
from .idmap import IdMap

SUBUID, SUBGID = Path("/etc/subuid"), Path("/etc/subgid")
# A mebi of ids: a container's own, the tenants' range (200000 to 265535 by default), and room above it.
SIZE = 1 << 20
# From 0x70000000 on, where nobody looks for ids: useradd takes ranges below 600,100,000 (login.defs(5), SUB_UID_MAX),
# systemd those up to here for its own containers, and others from 0x7FFE0000 on (docs/UIDS-GIDS.md in its sources).
# From 0x80000000 on the numbers are negative to some programs.
_FIRST, _END = 0x70000000, 0x7FFE0000


class Range(NamedTuple):
    """Ids that belong to somebody."""

    owner: str
    first: int
    size: int

    def overlaps(self, ids: IdMap) -> bool:
        """Say whether any id of a mapping is among them."""
        return ids.overlaps(IdMap(self.first, self.size))


def read_ranges(path: Path) -> list[Range]:
    """Read all ranges of a file. Raises HostError for a line that cannot be read: the engine refuses it too."""
    found = []
    for line in (read_text(path) or "").splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            owner, first, size = text.split(":")
            found.append(Range(owner, int(first), int(size)))
        except ValueError:
            raise HostError(f"{path}: this line is no range of ids: {line!r}; repair or remove it") from None
    return found


def read_accounts(path: Path) -> list[Range]:
    """Read the ids that accounts or groups have: the third field of passwd(5) and group(5)."""
    found = []
    for line in (read_text(path) or "").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdigit():
            found.append(Range(fields[0], int(fields[2]), 1))
    return found


def range_of(owner: str, uids: Iterable[Range], gids: Iterable[Range]) -> IdMap | None:
    """Return an account's range, None where it has not exactly one, the same in both files."""
    own = [[item for item in ranges if item.owner == owner] for ranges in (uids, gids)]
    if own[0] != own[1] or len(own[0]) != 1:
        return None
    return IdMap(own[0][0].first, own[0][0].size)


def choose(taken: Sequence[Range], preferred: Iterable[int] = ()) -> IdMap:
    """Return a range that nobody has: one that begins as preferred, or the first that is free.

    Two ranges that are chosen by this are the same or have no id in common, and none has an id that containers have
    inside: so a file's owner alone tells by which of them it was made. Raises HostError where all is taken.
    """
    steps = range(_FIRST, _END - SIZE + 1, SIZE)
    for base in (*(base for base in preferred if base in steps), *steps):
        ids = IdMap(base, SIZE)
        if not any(item.overlaps(ids) for item in taken):
            return ids
    raise HostError(f"{SUBUID} and {SUBGID}: no {SIZE} ids in a row are free from {_FIRST} to {_END - 1}")


def with_range(text: str | None, owner: str, ids: IdMap | None) -> str:
    """Return a file's text with one range for an account, or with none; every other line stays as it is."""
    kept = [line for line in (text or "").splitlines() if line.strip().split(":")[0] != owner]
    return "".join(f"{line}\n" for line in [*kept, *([f"{owner}:{ids.base}:{ids.size}"] if ids else [])])


def write_ranges(path: Path, text: str) -> None:
    """Put a file in place, whole, with the mode that it had."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    write_atomic(path, text.encode(), mode=mode)
