"""What a kernel told of one real container, laid out so that a test can change a word of it.

Recorded under Docker 20.10 on cgroup v1: `recorded/cgroup-v1` holds the files of the container's groups by
controller, and of its first process below `proc`. The declaration that it was made from stands here.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from bailey import enforcement, isolation
from bailey.host import idmap, mounts, namespaces, proc
from bailey.host.cgroup import Hierarchy
from bailey.host.idmap import IdMap

RECORDED = Path(__file__).with_name("recorded") / "cgroup-v1"
CONTAINER = "e58710172dc792c3ffd3e08b692576e8781ae8423e05bcc789e2b3a632781015"
INIT = 859
CONTROLLERS = ("memory", "cpu", "cpuacct", "cpuset", "pids", "blkio", "freezer", "devices")
# Of the paths that the platform covers, and of those that it makes read-only, the ones that the recorded kernel had.
PATHS = (
    "/proc/acpi",
    "/proc/keys",
    "/proc/timer_list",
    "/sys/firmware",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
)
NAMESPACES = {"cgroup": 1, "ipc": 2, "mnt": 3, "net": 4, "pid": 5, "user": 6, "uts": 7}
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
    "apparmor_profile": "none",
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

    def write(self, name: str, text: str) -> None:
        """Have a file hold a text, or one of the first process."""
        self.path(name).write_text(text)

    def remap(self, ids: IdMap, uid: int) -> None:
        """Have the container be what runc makes of it where ids are remapped, its user the host's `uid`.

        Devices are mounted from the host, and the control groups are writable, whose files stay the host root's.
        """
        for kind in ("Uid", "Gid"):
            self.change("status", "\t".join([f"{kind}:", *["200000"] * 4]), "\t".join([f"{kind}:", *[str(uid)] * 4]))
        self.change("status", "Groups:\t200000", f"Groups:\t{uid}")
        for name in ("uid_map", "gid_map"):
            self.write(name, f"         0 {ids.base} {ids.size}\n")
        self.rename_namespace("user", NAMESPACES["user"] + 100)
        text = self.path("mountinfo").read_text()
        for name in ("full", "null", "random", "tty", "urandom", "zero"):
            text += f"720 683 0:5 /{name} /dev/{name} rw,nosuid,relatime - devtmpfs udev rw,size=1024k,mode=755\n"
        for group in re.findall(r" (/sys/fs/cgroup/\S+) ro,", text):
            text = text.replace(f" {group} ro,", f" {group} rw,")
            inside = self.path("root") / group[1:]
            inside.mkdir(parents=True)
            inside.chmod(0o755)
        self.write("mountinfo", text)

    def share(self, namespace: str) -> None:
        """Have the container share a namespace with the host."""
        self.rename_namespace(namespace, NAMESPACES[namespace])

    def rename_namespace(self, kind: str, number: int) -> None:
        """Have the container be in a namespace of that number."""
        link = self.proc / str(INIT) / "ns" / kind
        link.unlink()
        link.symlink_to(f"{kind}:[{number}]")


def lay_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Lay the recorded files out, and let the core's readers look there."""
    for controller in CONTROLLERS:
        shutil.copytree(RECORDED / controller, root / controller / "docker" / CONTAINER)
    shutil.copytree(RECORDED / "proc", root / "proc")
    for pid in ("self", INIT):
        (root / "proc" / str(pid) / "ns").mkdir(parents=True)
        for kind, number in NAMESPACES.items():
            its = number + (100 if pid == INIT and kind not in ("cgroup", "user") else 0)
            (root / "proc" / str(pid) / "ns" / kind).symlink_to(f"{kind}:[{its}]")
    for module, read in (
        (enforcement, proc.find_init),
        (enforcement, proc.read_process),
        (enforcement, proc.read_rlimits),
        (enforcement, mounts.read_mounts),
        (enforcement, mounts.resolve_inside),
        (isolation, mounts.resolve_inside),
        (enforcement, namespaces.own_namespaces),
        (enforcement, idmap.read_id_map),
    ):
        monkeypatch.setattr(module, read.__name__, partial(read, proc=root / "proc"))
    monkeypatch.setattr(isolation, "PROC", root / "proc")
    monkeypatch.setattr(isolation, "present", lambda paths: frozenset(paths) & frozenset(PATHS))
    hierarchy = Hierarchy(1, {controller: root / controller for controller in CONTROLLERS})
    return Kernel(root, hierarchy, root / "proc")
