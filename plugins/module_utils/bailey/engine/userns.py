"""The ids that containers get with `docker_userns_remap`: one range of an account of Bailey's own.

The account stands for the range and nothing else; nothing runs as it. dockerd looks up its range in /etc/subuid and
/etc/subgid when it starts, and keeps images and containers of a range in a directory of its own, DATA/BASE.BASE.
A range stays reserved when remapping is switched off again: volumes may still hold files of its ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..changes import Differences
from ..errors import HostError, UnsupportedError
from ..host.files import read_text
from ..host.idmap import IdMap, read_rows
from ..host.proc import PROC
from ..host.subids import SIZE, Range, choose, range_of, read_accounts, read_ranges, with_range, write_ranges
from .claim import Places, read_containers, remapped_roots
from .config import REMAP_ACCOUNT

VARIABLE = "docker_userns_remap"


@dataclass
class Arranged:
    """The range that the account has or is to have, and the files that have to be written for it."""

    ids: IdMap
    differences: Differences = field(default_factory=Differences)
    texts: dict[Path, str] = field(default_factory=dict)

    def write(self) -> None:
        """Put the files in place."""
        for path, text in self.texts.items():
            write_ranges(path, text)


def arrange(places: Places, data_root: Path) -> Arranged:
    """Find the account's range, or one that can be its own; nothing is written yet.

    Raises HostError where the engine's containers are of a range that is not to be had any more.
    """
    uids, gids = read_ranges(places.subuid), read_ranges(places.subgid)
    others = [item for item in (*uids, *gids) if item.owner != REMAP_ACCOUNT]
    others += read_accounts(places.passwd) + read_accounts(places.group)
    roots = {int(path.name.partition(".")[0]): path for path in remapped_roots(data_root)}
    ids = range_of(REMAP_ACCOUNT, uids, gids)
    if ids is None or not _fits(ids, others):
        ids = choose(others, roots)
    _check_containers(ids, roots)
    arranged = Arranged(ids)
    for path in (places.subuid, places.subgid):
        before = read_text(path)
        after = with_range(before, REMAP_ACCOUNT, ids)
        if _own_lines(before) != _own_lines(after):
            arranged.differences.add(f"{path}: {REMAP_ACCOUNT}", _own_lines(before), _own_lines(after))
            arranged.texts[path] = after
    return arranged


def _fits(ids: IdMap, others: Sequence[Range]) -> bool:
    """Say whether a range is large enough, nobody else's, and has no id that containers have inside."""
    return (
        ids.size >= SIZE and ids.size <= ids.base <= (1 << 31) - ids.size and not any(o.overlaps(ids) for o in others)
    )


def _own_lines(text: str | None) -> str | None:
    lines = [line for line in (text or "").splitlines() if line.strip().split(":")[0] == REMAP_ACCOUNT]
    return "\n".join(lines) or None


def _check_containers(ids: IdMap, roots: dict[int, Path]) -> None:
    for base, path in roots.items():
        names = [container.name for container in read_containers(path)]
        if names and base != ids.base:
            raise HostError(
                f"{VARIABLE}: {path} holds containers ({', '.join(names[:5])}) whose ids are those from {base} on, and"
                f" {REMAP_ACCOUNT} can only have those from {ids.base} on: remove them, or put the line"
                f" {REMAP_ACCOUNT}:{base}:{SIZE} back into /etc/subuid and /etc/subgid"
            )


def check_kernel(ids: IdMap, data_root: Path, proc: Path = PROC) -> None:
    """Raise UnsupportedError where this host's kernel does not let containers have those ids."""

    def refuse(reason: str) -> None:
        raise UnsupportedError(VARIABLE, True, reason)

    limit = read_text(proc / "sys/user/max_user_namespaces")
    if limit is None:
        refuse("the kernel has no user namespaces")
    elif int(limit) == 0:
        refuse(
            "the sysctl user.max_user_namespaces is 0; where role hardening has made it so, take user_namespaces out of"
            " hardening_conflicts in a run before this one"
        )
    for kind in ("uid_map", "gid_map"):
        rows = read_rows("self", kind, proc)
        if not any(first <= ids.base and ids.base + ids.size <= first + count for first, _, count in rows):
            refuse(f"this host is a container itself, whose own {kind} has not all ids from {ids.base} on")
    for path in data_root.parents:
        if path.exists() and not path.stat().st_mode & 0o001:
            refuse(f"containers' root, who is nobody of this host, cannot reach docker_data_root: chmod o+x {path}")


def check_account(places: Places) -> None:
    """Raise HostError where dockerd would not find the account, or its group of the same name."""
    for path in (places.passwd, places.group):
        if REMAP_ACCOUNT not in [item.owner for item in read_accounts(path)]:
            raise HostError(f"{path}: there is no {REMAP_ACCOUNT}, which role docker makes; run that role")


def release(places: Places, existed: Sequence[str]) -> Differences:
    """Take the account's ranges away; a file that is left empty goes too, unless it is among those that existed."""
    found = Differences()
    for path in (places.subuid, places.subgid):
        before = read_text(path)
        if _own_lines(before) is None:
            continue
        found.add(f"{path}: {REMAP_ACCOUNT}", _own_lines(before), None)
        after = with_range(before, REMAP_ACCOUNT, None)
        write_ranges(path, after)
        if not after and str(path) not in existed:
            path.unlink()
    return found


def own_root(places: Places, data_root: Path) -> Path | None:
    """Return the directory in which the engine keeps what is of our range, None where we have none."""
    ids = range_of(REMAP_ACCOUNT, read_ranges(places.subuid), read_ranges(places.subgid))
    return None if ids is None else data_root / ids.root_name
