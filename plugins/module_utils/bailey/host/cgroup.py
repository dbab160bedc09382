"""A container's control group: where it is, and what the kernel enforces in it.

Both hierarchies are read into the same values, so that nothing above needs to know which one a host has.
Sources: the kernel's Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst.
"""

from __future__ import annotations

import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..limits import IoRates
from ..units import NANO, parse_cpuset
from .files import read_text
from .mounts import read_mounts
from .proc import PROC, read_of_process

# Controllers of v1 that limits are read from, and the names under which runtimes place a container.
_V1_CONTROLLERS = ("memory", "cpu", "cpuacct", "cpuset", "pids", "blkio", "freezer", "devices")
_PLACES = ("docker/{id}", "system.slice/docker-{id}.scope", "bailey.slice/docker-{id}.scope")
_LAST_PART = re.compile(r"(?:.*/)?(?:docker-)?([0-9a-f]{64})(?:\.scope)?")
_PAGE_MAX = (1 << 63) - (1 << 12)  # what v1 shows where memory is not limited (LONG_MAX in whole pages)


@dataclass(frozen=True)
class Usage:
    """What a group has used: bytes of memory now, nanoseconds of processor time, processes, kills for memory."""

    memory: int
    cpu_ns: int
    pids: int
    oom_kills: int


@dataclass(frozen=True)
class Enforced:
    """What the kernel holds a group to. Sizes are bytes, processors billionths; None is unlimited."""

    memory: int | None
    memory_swap: int | None  # memory and swap together
    counts_swap: bool  # whether the kernel can limit swap (on v1 it may have been booted without that)
    memory_reservation: int | None
    nano_cpus: int | None
    cpu_shares: int | None  # on v1
    cpu_weight: int | None  # on v2
    cpuset: frozenset[int]
    pids: int | None
    io: Mapping[str, IoRates] = field(default_factory=dict)  # by device, as major:minor
    devices: frozenset[str] | None = None  # rules such as "c 1:3 rwm"; None on v2, where they are a program

    def holds_shares(self, shares: int) -> bool:
        """Say whether the group's processor share is what a declaration of cpu_shares asks for."""
        return shares == self.cpu_shares or self.cpu_weight in weights_of_shares(shares)


@dataclass(frozen=True)
class Hierarchy:
    """The host's mounted control groups: v2's one root, or v1's root for each controller."""

    version: int
    roots: Mapping[str, Path]

    def find(self, container_id: str) -> Group | None:
        """Return a running container's group, or None where it has none."""
        anchor = self.roots["memory"]
        for place in _PLACES:
            relative = place.format(id=container_id)
            if os.path.isdir(f"{anchor}/{relative}"):  # noqa: PTH112 - by a string: it is asked again and again
                paths = {controller: root / relative for controller, root in self.roots.items()}
                return GroupV2(paths) if self.version == 2 else GroupV1(paths)
        return None


def open_hierarchy() -> Hierarchy:
    """Find out from the mounts which hierarchy holds the controllers."""
    roots: dict[str, Path] = {}
    unified: Path | None = None
    for mount in read_mounts():
        if mount.fs_type == "cgroup":
            roots.update({name: mount.point for name in _V1_CONTROLLERS if name in mount.super_options})
        elif mount.fs_type == "cgroup2":
            unified = mount.point
    if "memory" in roots or unified is None:
        return Hierarchy(1, roots)
    return Hierarchy(2, dict.fromkeys(_V1_CONTROLLERS, unified))


def container_of(pid: int, proc: Path = PROC) -> str | None:
    """Return the id of the container whose group a process is in, or None where it is in none, or has ended.

    Only the host's root can move a process there, so that this is the kernel's word on where it belongs.
    """
    text = read_of_process(proc / str(pid) / "cgroup") or ""
    by_controller = {names: place for _, names, place in (line.split(":", 2) for line in text.splitlines())}
    memory = [place for names, place in by_controller.items() if "memory" in names.split(",")]
    place = memory[0] if memory else by_controller.get("", "")
    match = _LAST_PART.fullmatch(place)
    return None if match is None else match[1]


class Group(ABC):
    """One container's group, in either hierarchy."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.paths = paths

    def pids(self) -> list[int]:
        """Return the processes in the group, as the host numbers them."""
        return [int(line) for line in self._lines("memory", "cgroup.procs")]

    @property
    @abstractmethod
    def oom_counter(self) -> Path:
        """The file with the line `oom_kill N`: how many of the group's processes were killed for memory."""

    @abstractmethod
    def enforced(self) -> Enforced:
        """Read all limits. Where the group has gone meanwhile, every value is unlimited or empty."""

    @abstractmethod
    def usage(self) -> Usage:
        """Read what the group uses; zero where it has gone."""

    def _text(self, controller: str, name: str) -> str:
        return (read_text(f"{self.paths[controller]}/{name}") or "").strip()

    def _lines(self, controller: str, name: str) -> Iterator[str]:
        yield from self._text(controller, name).splitlines()

    def _number(self, controller: str, name: str) -> int | None:
        text = self._text(controller, name)
        return int(text) if text.lstrip("-").isdigit() else None

    def _cpuset(self) -> frozenset[int]:
        text = self._text("cpuset", "cpuset.cpus") or self._text("cpuset", "cpuset.cpus.effective")
        return parse_cpuset("cpuset.cpus", text) if text else frozenset()


class GroupV1(Group):
    """A group in cgroup v1, one directory a controller."""

    @property
    def oom_counter(self) -> Path:
        """The counter's file."""
        return self.paths["memory"] / "memory.oom_control"

    def enforced(self) -> Enforced:
        """Read all limits."""
        quota, period = self._number("cpu", "cpu.cfs_quota_us"), self._number("cpu", "cpu.cfs_period_us")
        return Enforced(
            memory=self._memory("memory.limit_in_bytes"),
            memory_swap=self._memory("memory.memsw.limit_in_bytes"),
            counts_swap=bool(self._text("memory", "memory.memsw.limit_in_bytes")),
            memory_reservation=self._memory("memory.soft_limit_in_bytes"),
            nano_cpus=quota * NANO // period if quota and period and quota > 0 else None,
            cpu_shares=self._number("cpu", "cpu.shares"),
            cpu_weight=None,
            cpuset=self._cpuset(),
            pids=self._number("pids", "pids.max"),
            io=self._io(),
            devices=frozenset(self._lines("devices", "devices.list")) if "devices" in self.paths else None,
        )

    def usage(self) -> Usage:
        """Read what the group uses."""
        kills = [line.split()[1] for line in self._lines("memory", "memory.oom_control") if "oom_kill " in line]
        return Usage(
            memory=self._number("memory", "memory.usage_in_bytes") or 0,
            cpu_ns=self._number("cpuacct", "cpuacct.usage") or 0,
            pids=self._number("pids", "pids.current") or 0,
            oom_kills=int(kills[0]) if kills else 0,
        )

    def _memory(self, name: str) -> int | None:
        size = self._number("memory", name)
        return None if size is None or size >= _PAGE_MAX else size

    def _io(self) -> dict[str, IoRates]:
        files = {
            "read_bps": "blkio.throttle.read_bps_device",
            "write_bps": "blkio.throttle.write_bps_device",
            "read_iops": "blkio.throttle.read_iops_device",
            "write_iops": "blkio.throttle.write_iops_device",
        }
        rates: dict[str, dict[str, int]] = {}
        for kind, name in files.items():
            for line in self._lines("blkio", name):
                device, rate = line.split()
                rates.setdefault(device, {})[kind] = int(rate)
        return {device: IoRates(**by_kind) for device, by_kind in rates.items()}


class GroupV2(Group):
    """A group in cgroup v2, one directory for all controllers."""

    @property
    def oom_counter(self) -> Path:
        """The counter's file."""
        return self.paths["memory"] / "memory.events"

    def enforced(self) -> Enforced:
        """Read all limits."""
        memory, swap = self._number("memory", "memory.max"), self._number("memory", "memory.swap.max")
        return Enforced(
            memory=memory,
            memory_swap=None if memory is None or swap is None else memory + swap,
            counts_swap=bool(self._text("memory", "memory.swap.max")),
            memory_reservation=self._number("memory", "memory.low") or None,
            nano_cpus=self._nano_cpus(),
            cpu_shares=None,
            cpu_weight=self._number("cpu", "cpu.weight"),
            cpuset=self._cpuset(),
            pids=self._number("pids", "pids.max"),
            io={device: rates for device, rates in map(_parse_io_max, self._lines("blkio", "io.max")) if rates},
        )

    def usage(self) -> Usage:
        """Read what the group uses."""
        events = dict(line.split() for line in self._lines("memory", "memory.events"))
        stat = dict(line.split() for line in self._lines("cpu", "cpu.stat"))
        return Usage(
            memory=self._number("memory", "memory.current") or 0,
            cpu_ns=int(stat.get("usage_usec", 0)) * 1000,
            pids=self._number("pids", "pids.current") or 0,
            oom_kills=int(events.get("oom_kill", 0)),
        )

    def _nano_cpus(self) -> int | None:
        quota, _, period = self._text("cpu", "cpu.max").partition(" ")
        return int(quota) * NANO // int(period) if quota.isdigit() else None


def _parse_io_max(line: str) -> tuple[str, IoRates]:
    device, *settings = line.split()
    given = dict(setting.split("=") for setting in settings)
    rates = {name: None if given.get(name, "max") == "max" else int(given[name]) for name in given}
    return device, IoRates(rates.get("rbps"), rates.get("wbps"), rates.get("riops"), rates.get("wiops"))


def weights_of_shares(shares: int) -> frozenset[int]:
    """Return the cpu.weight values that runtimes write for cpu.shares.

    Two conversions are in use, both named ConvertCPUSharesToCgroupV2Value: the linear one of runc and crun
    until 2025, and the one of opencontainers/cgroups since, which keeps the default of 1024 at 100.
    """
    linear = 1 + (shares - 2) * 9999 // 262_142
    logarithm = math.log2(shares)
    quadratic = 10 ** ((logarithm * logarithm + 125 * logarithm) / 612 - 7 / 34)
    return frozenset((linear, min(10_000, math.ceil(quadratic))))
