"""What processes do rather than what they are: processors in full use beside a miners' pool, and scans of others."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..access_log.lines import EGRESS
from ..access_log.query import MAX_ROWS, OTHERS, Query, read_log
from ..host.cgroup import Group
from ..host.proc import PROC, read_of_process

_ALLOW, _DENY = "allow", "deny"
# States of /proc/net/tcp, include/net/tcp_states.h: a connection that stands, or is being made.
_TALKING = ("01", "02")
_LINES_MAX = 20_000
_THREADS_MAX = 4096
_SOME = 0.1


@dataclass(frozen=True)
class Connection:
    """A connection of TCP to somebody's port; `inode` is its socket's."""

    port: int
    inode: int


def connections(pid: int, proc: Path = PROC) -> Iterator[Connection]:
    """Yield the connections in the network of a process: Documentation/networking/proc_net_tcp.rst."""
    for name in ("tcp", "tcp6"):
        lines = (read_of_process(proc / str(pid) / "net" / name) or "").splitlines()[1 : _LINES_MAX + 1]
        for line in lines:
            fields = line.split()
            if len(fields) > 9 and fields[3] in _TALKING:
                yield Connection(int(fields[2].rpartition(":")[2], 16), int(fields[9]))


def to_pools(found: Iterable[Connection], ports: frozenset[int]) -> list[Connection]:
    """Return the connections that go to one of these ports."""
    return [connection for connection in found if connection.port in ports]


@dataclass(frozen=True)
class Load:
    """What an instance has used of processors so far, and how long its threads have waited for one: nanoseconds."""

    used_ns: int
    waited_ns: int


def read_load(group: Group, proc: Path = PROC) -> Load:
    """Read both: the group's own count, and /proc/PID/task/TID/schedstat, Documentation/scheduler/sched-stats.rst."""
    return Load(group.usage().cpu_ns, sum(map(_waited, itertools.islice(_threads(group.pids(), proc), _THREADS_MAX))))


def _threads(pids: Iterable[int], proc: Path) -> Iterator[Path]:
    for pid in pids:
        try:
            with os.scandir(proc / str(pid) / "task") as entries:
                yield from (Path(entry.path) for entry in entries)
        except OSError:
            continue  # it has ended


def _waited(thread: Path) -> int:
    fields = (read_of_process(thread / "schedstat") or "").split()
    return int(fields[1]) if len(fields) > 1 else 0


def saturation(before: Load, after: Load, seconds: float, nano_cpus: int) -> float:
    """Return which share of its processors an instance has used in a time: 1 is all that it may.

    On a host that is busy nobody gets all: there the time that its threads have waited for a processor counts as
    used, unless it got next to nothing and only has many threads.
    """
    room = seconds * nano_cpus
    if room <= 0:
        return 0.0
    used = (after.used_ns - before.used_ns) / room
    wanted = used + max(0, after.waited_ns - before.waited_ns) / room
    return min(1.0, wanted) if used >= _SOME else used


@dataclass
class Reach:
    """Where an instance has tried to get to: what it was denied, and the ports that it was let through to."""

    denied: set[tuple[Any, ...]] = field(default_factory=set)
    denied_others: int = 0
    ports: dict[int, str] = field(default_factory=dict)  # with an address at which each is

    @property
    def destinations(self) -> int:
        """How many addresses and ports it was denied. What the log sums up counts as one each."""
        return len(self.denied) + self.denied_others


def read_reach(log: Path, since: float) -> Mapping[str, Reach]:
    """Read the access log from a time on (seconds since the epoch), by instance. Raises HostError without one.

    Connections above an instance's bound on the log are counted by it and have no destination.
    """
    answer = read_log(log, Query({"direction": EGRESS}, since=since, limit=MAX_ROWS))
    found: dict[str, Reach] = defaultdict(Reach)
    for row in answer.summary():
        instance, peer, port = row["instance"], row["peer"], row["port"]
        if instance is None:
            continue
        reach = found[instance]
        if row["verdict"] == _ALLOW and isinstance(port, int):
            reach.ports.setdefault(port, str(peer))
        elif row["verdict"] == _DENY and peer == OTHERS:
            reach.denied_others += row["connections"]
        elif row["verdict"] == _DENY:
            reach.denied.add((peer, row["protocol"], port))
    return dict(found)
