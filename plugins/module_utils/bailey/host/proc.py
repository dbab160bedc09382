"""What the kernel tells of a process under /proc/PID, proc(5)."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..rlimits import KINDS, UNLIMITED, Rlimit
from .files import read_whole

PROC = Path("/proc")
_ENDED = (errno.ENOENT, errno.ENOTDIR, errno.ESRCH, errno.EINVAL)
_HELD = ("CapInh", "CapPrm", "CapEff", "CapAmb")


@dataclass(frozen=True)
class Process:
    """The parts of /proc/PID/status that say what a process may do. Capabilities are bit masks."""

    pid: int
    parent: int
    uid: int  # the effective one
    uids: frozenset[int]  # real, effective, saved, and that of the file system
    gids: frozenset[int]  # the same of the groups, and all supplementary ones
    namespace_pid: int
    capabilities_bounding: int
    capabilities_effective: int
    capabilities_held: int  # in any of the four sets that are a process's own
    no_new_privs: bool
    seccomp: bool
    filters: int | None  # of system calls, how many; None before Linux 5.9


def read_process(pid: int | str, proc: Path = PROC) -> Process | None:
    """Read a process, or None where it has ended."""
    text = read_of_process(f"{proc}/{pid}/status")
    if text is None:
        return None
    fields = dict(line.partition(":\t")[::2] for line in text.split("\n"))
    if "CapBnd" not in fields or "NSpid" not in fields:
        return None
    uids = [int(word) for word in fields["Uid"].split()]
    held = 0
    for name in _HELD:
        held |= int(fields[name], 16)
    return Process(
        pid=int(fields["Pid"]),
        parent=int(fields["PPid"]),
        uid=uids[1],
        uids=frozenset(uids),
        gids=frozenset(int(word) for word in (fields["Gid"] + " " + fields["Groups"]).split()),
        namespace_pid=int(fields["NSpid"].split()[-1]),
        capabilities_bounding=int(fields["CapBnd"], 16),
        capabilities_effective=int(fields["CapEff"], 16),
        capabilities_held=held,
        no_new_privs=fields.get("NoNewPrivs", "0").strip() == "1",
        seccomp=fields.get("Seccomp", "0").strip() == "2",
        filters=int(fields["Seccomp_filters"]) if "Seccomp_filters" in fields else None,
    )


def find_init(pids: Iterable[int], proc: Path = PROC) -> Process | None:
    """Return the process that is PID 1 of its own pid namespace, among a container's processes."""
    for pid in sorted(pids):
        process = read_process(pid, proc)
        if process is not None and process.namespace_pid == 1:
            return process
    return None


def read_rlimits(pid: int | str, proc: Path = PROC) -> dict[str, Rlimit]:
    """Read a process's resource limits; empty where it has ended.

    The file is read, not prlimit(2) asked: reading another user's limits so needs CAP_SYS_RESOURCE.
    """
    rows: dict[str, Rlimit] = {}
    for line in (read_of_process(f"{proc}/{pid}/limits") or "").splitlines()[1:]:
        soft, hard = line[26:].split()[:2]
        rows[line[:26].strip()] = Rlimit(_limit(soft), _limit(hard))
    return {name: rows[kind.row] for name, kind in KINDS.items() if kind.row in rows}


def _limit(text: str) -> int:
    return UNLIMITED if text == "unlimited" else int(text)


def read_meminfo(proc: Path = PROC) -> Mapping[str, int]:
    """Read /proc/meminfo and return bytes by name."""
    sizes: dict[str, int] = {}
    for line in (read_of_process(proc / "meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        amount, *unit = rest.split()
        sizes[name] = int(amount) * (1024 if unit == ["kB"] else 1)
    return sizes


def read_of_process(path: str | Path) -> str | None:
    """Read a file of a process that may end at any moment; None where it has.

    The kernel says ESRCH then, and EINVAL for the mounts of one that has ended and is not reaped yet. A tenant
    names its processes as it likes: the bytes need not be UTF-8, nor free of what Python takes for line ends.
    """
    try:
        return read_whole(path).decode(errors="surrogateescape")
    except OSError as error:
        if error.errno in _ENDED:
            return None
        raise
