"""What systemd keeps of a container's group beside the kernel: when it reloads, it writes that again.

Engines hand a container's limits to systemd as properties of its scope. runc hands on no limit of swap that is zero,
and writes the kernel's file alone, so that the next `systemctl daemon-reload` sets it to unlimited. Sources:
systemd.resource-control(5), MemorySwapMax=; runc's libcontainer/cgroups/systemd/v2.go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .cgroup import Group, GroupV2
from .command import run
from .files import read_text


def _told(command: Sequence[str]) -> str:
    return run(command, timeout=10.0)


def keep_swap_off(group: Group, execute: Callable[[Sequence[str]], object] = _told) -> bool:
    """Have systemd know that a scope may not swap, where the kernel says so; return whether it had to be told.

    `execute` runs a program. Raises CommandError where systemd refuses, HostError where it does not answer in ten
    seconds.
    """
    path = group.paths["memory"]
    if not isinstance(group, GroupV2) or path.suffix != ".scope":
        return False
    if (read_text(path / "memory.swap.max") or "").strip() != "0":
        return False
    execute(["systemctl", "set-property", "--runtime", path.name, "MemorySwapMax=0"])
    return True
