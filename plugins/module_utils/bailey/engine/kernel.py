"""What an engine needs of the kernel, and what it changes in it."""

from __future__ import annotations

import json
import socket
from itertools import pairwise
from pathlib import Path

from ..errors import CommandError, HostError, UnsupportedError
from ..host.command import run
from ..host.files import read_text
from ..host.mounts import mount_holding
from ..host.processes import argv_of, in_our_namespace, pids, program_of
from .config import Options

_SYSCTLS = (
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv6.conf.default.forwarding",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
)
_FILTERS = ("iptables", "ip6tables")
_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")


def check_host(options: Options) -> None:
    """Raise UnsupportedError for an option that this host's kernel cannot hold."""
    driver, root = str(options["storage-driver"]), str(options["data-root"])
    if driver == "overlay2":
        if not _has_filesystem("overlay"):
            raise UnsupportedError("docker_storage_driver", driver, "the kernel has no overlay file system")
        below = filesystem_of(Path(root))
        if below in ("overlay", "nfs", "nfs4", "fuse.sshfs", "vfat"):
            raise UnsupportedError("docker_data_root", root, f"overlay2 cannot work on a file system of type {below}")
    missing = [name for name in _CONTROLLERS if name not in _controllers()]
    if missing:
        reason = f"the kernel has no such cgroup controllers: {', '.join(missing)}"
        raise UnsupportedError("containers' limits", ", ".join(missing), reason)


def check_socket_is_free(path: Path) -> None:
    """Raise HostError where something that is no dockerd of this host answers on the engine's socket."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except OSError:
            return  # left behind by an engine that died
    raise HostError(f"{path} is answered by a program that is not this host's dockerd; stop that program first")


def filesystem_of(path: Path) -> str:
    """Return the type of the file system that a path is on, or would be on."""
    return mount_holding(path).fs_type


def read_kernel_settings() -> dict[str, str]:
    """Return the settings that an engine changes when it starts, as they are."""
    settings = {name: (read_text(_sysctl(name)) or "").strip() for name in _SYSCTLS}
    for program in _FILTERS:
        settings[program] = _forward_policy(program)
    return {name: value for name, value in settings.items() if value}


def restore_kernel_settings(before: dict[str, str]) -> list[tuple[str, str, str]]:
    """Put settings back; return the name, the value found and the value restored of each that differed."""
    now = read_kernel_settings()
    restored = [(name, now[name], value) for name, value in before.items() if name in now and now[name] != value]
    for name, _, value in restored:
        if name in _FILTERS:
            run([name, "-w", "10", "-P", "FORWARD", value])
        else:
            _sysctl(name).write_text(value)
    return restored


def forwards_for_all(before: dict[str, str]) -> bool:
    """Say whether the host forwards packets from anywhere to anywhere, though it forwarded none before Bailey came.

    An engine that turns forwarding on closes the FORWARD chain for what no rule lets through. One that finds it on
    already, as after a boot with Bailey's sysctl drop-in, does not.
    """
    return before.get("net.ipv4.ip_forward") == "0" and _forward_policy("iptables") == "ACCEPT"


def forward_no_more_than_rules_allow() -> None:
    """Close the FORWARD chain as the engine would have done; the engine's removal puts the former policy back."""
    run(["iptables", "-w", "10", "-P", "FORWARD", "DROP"])


def engines_of_this_network() -> list[int]:
    """Return every dockerd that shares this host's network, and so its firewall's chains."""
    return [pid for pid in pids() if program_of(pid) == "dockerd" and argv_of(pid) and in_our_namespace(pid, "net")]


def shares_chains() -> bool:
    """Say whether another engine of this network keeps rules in the chains that all engines share."""
    return any(_keeps_rules(pid) for pid in engines_of_this_network())


def _keeps_rules(pid: int) -> bool:
    """Say whether an engine writes rules, which it does unless its command line or its configuration forbids it."""
    argv = [word for given in argv_of(pid) for word in given.split("=", 1)]
    options = dict(pairwise(argv))
    if options.get("--iptables") == "false":
        return False
    config = options.get("--config-file", "/etc/docker/daemon.json")
    try:
        declared = json.loads(read_text(Path(f"/proc/{pid}/root{config}")) or "{}")
        return bool(declared.get("iptables", True))
    except (ValueError, AttributeError):
        return True


def containerd_runs() -> bool:
    """Say whether the host runs a containerd that is not an engine's own child process."""
    return any(
        program_of(pid) == "containerd" and in_our_namespace(pid) and "--config" not in argv_of(pid) for pid in pids()
    )


def _sysctl(name: str) -> Path:
    return Path("/proc/sys") / name.replace(".", "/")


def _forward_policy(program: str) -> str:
    try:
        lines = run([program, "-w", "10", "-S", "FORWARD"]).splitlines()
    except (CommandError, HostError):
        return ""  # not installed, or the kernel has no such family
    policies = [line.split()[2] for line in lines if line.startswith("-P FORWARD ")]
    return policies[0] if policies else ""


def _has_filesystem(name: str) -> bool:
    known = (read_text(Path("/proc/filesystems")) or "").split()
    return name in known or _has_module(name)


def _has_module(name: str) -> bool:
    if Path(f"/sys/module/{name}").exists():
        return True
    try:
        run(["modprobe", "--dry-run", "--quiet", name])
    except (CommandError, HostError):
        return False
    return True


def _controllers() -> set[str]:
    unified = read_text(Path("/sys/fs/cgroup/cgroup.controllers"))
    if unified is not None:
        return set(unified.split())
    rows = (line.split() for line in (read_text(Path("/proc/cgroups")) or "").splitlines()[1:])
    return {name for name, _, _, enabled in rows if enabled == "1"}
