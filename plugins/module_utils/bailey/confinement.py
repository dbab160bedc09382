"""What of /proc and /sys no instance sees, and what it may only read: the same for every container.

The engine's own lists, moby's oci/defaults.go, are part of these. Beyond them go files that a hosted program has no
use for: what an attack on the kernel is prepared with (addresses, the layout of its memory, its configuration), what
one tenant could watch another by (counts of interrupts, of pages, of keys), and what says which machine this is.
A path that a kernel does not have is no difference. A program that asks for one finds an empty file or directory.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

CONTROL_GROUPS = "/sys/fs/cgroup"
_ROOT = Path("/")

# fmt: off
_ENGINES = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_KERNELS_SHAPE = (  # where its code and data lie, how it was built, what is loaded
    "/proc/config.gz", "/proc/iomem", "/proc/ioports", "/proc/kallsyms", "/proc/kmsg", "/proc/modules",
    "/proc/vmallocinfo", "/sys/kernel/btf", "/sys/kernel/notes", "/sys/kernel/vmcoreinfo", "/sys/module",
)
_KERNELS_MEMORY = (  # how full its caches are, which decides whether an overflow meets what it should
    "/proc/buddyinfo", "/proc/pagetypeinfo", "/proc/slabinfo", "/sys/kernel/slab",
)
_OTHERS_DOINGS = (  # side channels: what runs beside it, and when
    "/proc/key-users", "/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags", "/proc/schedstat", "/proc/softirqs",
)
_MACHINES = (  # serial numbers; switches that the owner of a file may turn, and root owns all of these
    "/proc/dynamic_debug", "/proc/mtrr", "/sys/devices/virtual/dmi",
)
# fmt: on
# One for each processor that counts how often it was too hot: another side channel, and the engine's since 28.
_THROTTLE = "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"

# The first five are the engine's; drivers put what they like below the last.
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/proc/driver")


def masked_paths(root: Path = _ROOT) -> tuple[str, ...]:
    """Return the paths that are covered, those of this host's processors among them; `root` is the host's."""
    return (*_ENGINES, *_KERNELS_SHAPE, *_KERNELS_MEMORY, *_OTHERS_DOINGS, *_MACHINES, *_throttles(root))


@lru_cache(maxsize=4)
def _throttles(root: Path) -> tuple[str, ...]:
    """Return those of this host's processors. Asked for each instance again and again; processors seldom come."""
    return tuple(sorted(f"/{path.relative_to(root)}" for path in root.glob(_THROTTLE)))


def read_only_paths(cgroup_version: int, *, remapped: bool) -> tuple[str, ...]:
    """Return the paths that are made read-only in a container.

    An engine that remaps ids leaves the control groups writable (moby's daemon/oci_linux.go). With cgroup v2 runc then
    gives the container's own group to the uid that it runs as (libcontainer/specconv), by which a tenant could move his
    processes out of the gate's and the scan's sight. With v1 the groups stay the host root's, who is nobody inside.
    """
    return (*READ_ONLY, CONTROL_GROUPS) if remapped and cgroup_version == 2 else READ_ONLY


def present(paths: Iterable[str], root: Path = _ROOT) -> frozenset[str]:
    """Return those of the paths that this host's kernel has: of the others nothing can be covered."""
    return frozenset(path for path in paths if (root / path[1:]).exists())
