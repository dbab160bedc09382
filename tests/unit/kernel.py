"""What a kernel told of one real container, laid out so that a test can change a word of it.

Recorded under Docker 20.10 on cgroup v1: `recorded/cgroup-v1` holds the files of the container's groups by
controller, and of its first process below `proc`. The declaration that it was made from stands here.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from bailey import enforcement
from bailey.host import idmap, mounts, proc
from bailey.host.cgroup import Hierarchy

RECORDED = Path(__file__).with_name("recorded") / "cgroup-v1"
CONTAINER = "e58710172dc792c3ffd3e08b692576e8781ae8423e05bcc789e2b3a632781015"
INIT = 859
CONTROLLERS = ("memory", "cpu", "cpuacct", "cpuset", "pids", "blkio", "freezer")
DECLARED: dict[str, object] = {
    "user": 200_000,
    "network_mode": "none",
    "mem_limit": "64M",
    "memswap_limit": "96M",
    "mem_reservation": "32M",
    "cpus": 0.5,
    "cpu_shares": 512,
    "cpuset": "0-1",
    "pids_limit": 16,
    "shm_size": "8M",
    "tmpfs": ["/tmp:size=4M", "/run/my app:size=1M,mode=700,exec"],
    "ulimits": {"nofile": {"soft": 512, "hard": 1024}, "core": 0},
    "cap_add": ["NET_BIND_SERVICE"],
    "blkio_config": {"device_read_bps": "1M", "device_write_iops": 100},
    "io_scope": "direct",
}


@dataclass
class Kernel:
    """The recorded files below a directory of the test's own."""

    root: Path
    hierarchy: Hierarchy
    proc: Path

    def path(self, name: str) -> Path:
        """Return a file of the container's groups, or one of its first process where the name has no slash."""
        controller, slash, file = name.partition("/")
        return self.root / controller / "docker" / CONTAINER / file if slash else self.proc / str(INIT) / name

    def change(self, name: str, old: str, new: str) -> None:
        """Change a word that is there."""
        text = self.path(name).read_text()
        assert old in text, f"{name} has no {old!r}"
        self.path(name).write_text(text.replace(old, new))


def lay_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Lay the recorded files out, and let the core's readers look there."""
    for controller in CONTROLLERS:
        shutil.copytree(RECORDED / controller, root / controller / "docker" / CONTAINER)
    shutil.copytree(RECORDED / "proc", root / "proc")
    monkeypatch.setattr(enforcement, "find_init", partial(proc.find_init, proc=root / "proc"))
    monkeypatch.setattr(enforcement, "read_rlimits", partial(proc.read_rlimits, proc=root / "proc"))
    monkeypatch.setattr(enforcement, "read_mounts", partial(mounts.read_mounts, proc=root / "proc"))
    monkeypatch.setattr(enforcement, "read_id_map", partial(idmap.read_id_map, proc=root / "proc"))
    hierarchy = Hierarchy(1, {controller: root / controller for controller in CONTROLLERS})
    return Kernel(root, hierarchy, root / "proc")
