"""What an engine leaves behind when it has stopped: processes, mounts, links, rules, files."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shlex
import shutil
import signal
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..changes import Differences
from ..errors import CommandError, HostError
from ..host.command import run
from ..host.files import read_text, write_atomic
from ..host.mounts import read_mounts
from ..host.processes import argv_of, in_our_namespace, parent_of, pids, program_of
from ..host.runit import remove_if_empty, wait_for
from . import userns
from .claim import Places, Record, remapped_roots
from .kernel import engines_of_this_network, restore_kernel_settings, shares_chains

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_CHAIN = re.compile(r"DOCKER(-[A-Z0-9-]+)?")
_SHIM_ADDRESSES = (
    "/run/containerd/containerd.sock",
    "/run/docker/containerd/containerd.sock",
    "/var/run/docker/containerd/containerd.sock",
)


def remove_remains(places: Places, record: Record) -> Differences:
    """Remove everything that Bailey's engine left on the host, and nothing that was there before it."""
    found = Differences()
    data_root = Path(str(record.options["data-root"]))
    ours = str(data_root) not in record.found.paths
    alone = not engines_of_this_network()
    _end_processes(found)
    bridges = bridges_of(data_root)
    doomed = [data_root] if ours else [root for root in (userns.own_root(places, data_root),) if root is not None]
    _unmount([places.exec_root, *doomed, data_root / "containers"], found)
    _remove_rules(bridges, alone=not shares_chains(), found=found)
    _remove_links(bridges, found)
    if alone:
        for name, before, after in restore_kernel_settings(record.found.kernel):
            found.add(name, before, after)
    _remove_files(places, record, doomed, alone=alone, found=found)
    return found


def restore_config(places: Places, record: Record) -> Differences:
    """Put the former daemon.json back, or remove Bailey's where there was none before."""
    found = Differences()
    former = record.found.config
    if found.add(str(places.config), read_text(places.config), former):
        if former is None:
            places.config.unlink()
        else:
            places.config.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_atomic(places.config, former.encode(), mode=0o644)
    return found


def bridges_of(data_root: Path) -> list[str]:
    """Return the bridges of an engine that need not run, from the file in which it keeps its networks."""
    paths = [root / "network/files/local-kv.db" for root in (data_root, *remapped_roots(data_root))]
    raw = b"".join(path.read_bytes() for path in paths if path.exists())
    names = {match.decode() for match in re.findall(rb'"BridgeName":"([A-Za-z0-9_.-]{1,15})"', raw)}
    return sorted(names | {"docker0"})


def deletions(saved: str, bridges: Iterable[str], *, alone: bool) -> list[list[str]]:
    """Return what to pass to iptables, so that nothing of the engine is left of what iptables-save printed.

    With another engine on the same host only rules for our bridges and their networks go: the chains are shared.
    """
    rules = list(_rules(saved))
    # An operator's own rules in the chain that is meant for them outlive the engine.
    kept = {chain for _, chain, rest in rules if chain == "DOCKER-USER" and rest != ["-j", "RETURN"]}
    names = set(bridges)
    networks = _networks_of(rules, names)
    commands = [
        ["-t", table, "-D", chain, *rest]
        for table, chain, rest in rules
        if chain not in kept
        and (names & set(rest) or _names_address(rest, networks) or (alone and _is_engines(chain, rest, kept)))
    ]
    if alone:
        chains = [(table, chain) for table, chain in _chains(saved) if _CHAIN.fullmatch(chain) and chain not in kept]
        commands += [["-t", table, "-X", chain] for table, chain in chains]
    return commands


def _networks_of(rules: list[tuple[str, str, list[str]]], bridges: set[str]) -> list[Network]:
    """Return the bridges' networks: each has a rule that hides its addresses from other links."""
    return [
        ipaddress.ip_network(rest[1])
        for _, chain, rest in rules
        if chain == "POSTROUTING" and rest[:1] == ["-s"] and bridges & set(rest)
    ]


def _names_address(rest: list[str], networks: list[Network]) -> bool:
    """Say whether a rule is for a container: published ports name its address and no bridge."""
    addresses = [address for address in map(_address_in, rest) if address is not None]
    return any(address in network for address in addresses for network in networks)


def _address_in(word: str) -> Address | None:
    """Read an address out of a rule's word, with or without a prefix length or a port."""
    text = word.partition("/")[0]
    if re.fullmatch(r"\[.+\]:\d+|[\d.]+:\d+", text):
        text = text.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_engines(chain: str, rest: list[str], kept: set[str]) -> bool:
    target = rest[rest.index("-j") + 1] if "-j" in rest[:-1] else ""
    return bool(_CHAIN.fullmatch(chain)) or (bool(_CHAIN.fullmatch(target)) and target not in kept)


def _rules(saved: str) -> Iterator[tuple[str, str, list[str]]]:
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A "):
            words = shlex.split(line)
            yield table, words[1], words[2:]


def _chains(saved: str) -> Iterator[tuple[str, str]]:
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            yield table, line[1:].split()[0]


def _remove_rules(bridges: list[str], *, alone: bool, found: Differences) -> None:
    for program in ("iptables", "ip6tables"):
        if shutil.which(program) is None or shutil.which(f"{program}-save") is None:
            continue
        try:
            saved = run([f"{program}-save"])
        except CommandError:
            continue  # a kernel without this family has no rules in it
        for command in deletions(saved, bridges, alone=alone):
            run([program, "-w", "10", *command])
            found.add(f"{program} {shlex.join(command[3:])}", "present", "absent")


def _remove_links(bridges: list[str], found: Differences) -> None:
    for name in bridges:
        if Path(f"/sys/class/net/{name}/bridge").exists():
            run(["ip", "link", "delete", name])
            found.add(f"link {name}", "present", "absent")


def _end_processes(found: Differences) -> None:
    """End containers' shims and the engine's own containerd, where a kill of the engine left them."""
    for pid in list(pids()):
        argv = argv_of(pid)
        if not in_our_namespace(pid) or not _is_left_over(program_of(pid), argv):
            continue
        for child in [child for child in pids() if parent_of(child) == pid]:
            _kill(child)
        _kill(pid)
        found.add(f"process {' '.join(argv)}", "running", "ended")


def _is_left_over(program: str, argv: list[str]) -> bool:
    if program.startswith("containerd-shim"):
        return "moby" in argv and any(address in argv for address in _SHIM_ADDRESSES)
    return program == "containerd" and any("/run/docker/containerd/" in word for word in argv)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not argv_of(pid), 10.0, f"process {pid} does not end on SIGKILL")


def _unmount(roots: Sequence[Path], found: Differences) -> None:
    points = [mount.point for mount in read_mounts() if any(mount.point.is_relative_to(root) for root in roots)]
    for point in reversed(points):  # later mounts first: they may lie inside earlier ones
        run(["umount", "--lazy", str(point)])
        found.add(f"mount {point}", "present", "absent")


def _remove_files(places: Places, record: Record, data: Sequence[Path], *, alone: bool, found: Differences) -> None:
    before = set(record.found.paths)
    shared = [places.key, *places.containerd]
    doomed = [places.pid_file, places.socket, *_inside(places.exec_root, alone=alone)]
    doomed += data
    # The distribution's containerd uses its directories as long as it runs.
    doomed += [path for path in shared if alone and not record.found.containerd_running and str(path) not in before]
    for path in doomed:
        if path.exists() or path.is_symlink():
            run(["rm", "-rf", "--one-file-system", str(path)], timeout=600)
            found.add(str(path), "present", "absent")
    for directory in (places.exec_root, places.config.parent):
        if str(directory) not in before:
            remove_if_empty(directory)


def _inside(directory: Path, *, alone: bool) -> list[Path]:
    """Return what an engine keeps there; plugins/ is shared by all engines of a host."""
    if not directory.is_dir():
        return []
    return [path for path in directory.iterdir() if alone or path.name != "plugins"]


def check_no_engine(pid: int | None) -> None:
    """Raise HostError while the engine runs."""
    if pid is not None:
        raise HostError(f"dockerd still runs (pid {pid}): stop it before its remains are removed")
