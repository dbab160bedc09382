"""Whose the container engine of a host is.

Bailey writes one record of what it found and what it wrote. Everything that this record does not
cover belongs to somebody else, and is refused with a message, never changed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import HostError
from ..host.files import read_text, write_atomic
from ..host.processes import argv_of, in_our_namespace, parent_of, pids, program_of
from ..host.subids import SUBGID, SUBUID
from .config import BOUND_TO_CONTAINERS, BOUND_TO_RUNNING, Options, render, shown, variable_of

_VERSION = 1
# An engine that remaps ids keeps everything of a range in a directory of that range's first uid and gid.
_REMAPPED_ROOT = re.compile(r"[0-9]+\.[0-9]+")
# What the distribution's own unit passes to dockerd.
_UNITS_FLAGS = (r"--host=fd://", r"--containerd=/run/containerd/containerd\.sock")
# Flags without a value of their own; the next word after any other one is its value.
_SWITCHES = frozenset(
    {"debug", "experimental", "icc", "init", "ip-forward", "ip-masq", "ip6tables", "iptables", "ipv6", "live-restore"}
    | {"no-new-privileges", "raw-logs", "selinux-enabled", "tls", "tlsverify", "userland-proxy"}
)
_LONG_NAMES = {
    "-D": "--debug",
    "-G": "--group",
    "-H": "--host",
    "-b": "--bridge",
    "-l": "--log-level",
    "-p": "--pidfile",
    "-s": "--storage-driver",
}


@dataclass(frozen=True)
class Places:
    """Where the engine of this host is; a second engine with other places is not Bailey's concern."""

    config: Path = Path("/etc/docker/daemon.json")
    key: Path = Path("/etc/docker/key.json")
    record: Path = Path("/etc/bailey/docker.json")
    exec_root: Path = Path("/run/docker")
    pid_file: Path = Path("/run/docker.pid")
    socket: Path = Path("/run/docker.sock")
    subuid: Path = SUBUID
    subgid: Path = SUBGID
    passwd: Path = Path("/etc/passwd")
    group: Path = Path("/etc/group")
    containerd: tuple[Path, ...] = (Path("/run/containerd"), Path("/var/lib/containerd"), Path("/opt/containerd"))

    def made_by_the_engine(self, data_root: Path) -> tuple[Path, ...]:
        """Return every path that an engine makes by itself when it starts."""
        return (data_root, self.config.parent, self.key, self.exec_root, *self.containerd)


DEFAULT_PLACES = Places()


@dataclass(frozen=True)
class Found:
    """What there was before Bailey came, so that teardown leaves the same."""

    paths: tuple[str, ...] = ()  # of those that an engine makes
    config: str | None = None  # another owner's daemon.json, taken over by docker_adopt
    running: bool = False
    containerd_running: bool = False
    kernel: dict[str, str] = field(default_factory=dict)  # settings that an engine changes


@dataclass(frozen=True)
class Record:
    """What Bailey wrote. Two checksums, because a crash may come between writing this and writing the file."""

    sha256: tuple[str, ...]  # of the file as it should be, then of the one before it
    options: Options
    found: Found

    def covers(self, text: str) -> bool:
        """Say whether a daemon.json is one that Bailey wrote."""
        return _sha256(text) in self.sha256


@dataclass(frozen=True)
class RunningEngine:
    """A dockerd that uses this host's places."""

    pid: int
    argv: tuple[str, ...]
    supervised: bool  # by the host's service manager or by Bailey's runit
    data_root: Path

    def foreign_flags(self) -> list[str]:
        """Return the flags that neither the distribution nor Bailey passes."""
        return [flag for flag in flags_of(self.argv) if not any(re.fullmatch(own, flag) for own in _UNITS_FLAGS)]


@dataclass(frozen=True)
class Container:
    """A container as the engine keeps it on disk."""

    name: str
    running: bool


def read_record(places: Places) -> Record | None:
    """Return Bailey's record, None where there is none."""
    text = read_text(places.record)
    if text is None:
        return None
    try:
        raw: dict[str, Any] = json.loads(text)
        if raw["version"] != _VERSION:
            raise HostError(f"{places.record}: version {raw['version']} is not known to this Bailey")
        found = Found(**{**raw["found"], "paths": tuple(raw["found"]["paths"])})
        return Record(tuple(raw["sha256"]), raw["options"], found)
    except (ValueError, KeyError, TypeError) as error:
        raise HostError(f"{places.record}: not readable as Bailey's record ({error}); repair or remove it") from error


def write_record(places: Places, record: Record) -> None:
    """Write the record, 0600."""
    places.record.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    text = json.dumps({"version": _VERSION, **asdict(record)}, indent=2, sort_keys=True) + "\n"
    write_atomic(places.record, text.encode())


def next_record(record: Record | None, found: Found, options: Options, former: str | None) -> Record:
    """Return the record for new options; what was found at first stays, and so does the present file's checksum."""
    new = _sha256(render(options))
    if record is None:
        return Record((new,), options, found)
    kept = {_sha256(former)} if former is not None and record.covers(former) else set()
    return Record((new, *(kept - {new})), options, record.found)


def find_engine(places: Places, data_root: Path) -> RunningEngine | None:
    """Return the dockerd that uses this host's places or this data root, whoever started it."""
    for pid in pids():
        if program_of(pid) != "dockerd" or not in_our_namespace(pid):
            continue
        argv = tuple(argv_of(pid))
        if argv and uses_places(argv, places, data_root):
            return RunningEngine(pid, argv, _is_supervised(pid), _data_root_of(argv, places))
    return None


def flags_of(argv: Sequence[str]) -> list[str]:
    """Return a dockerd's flags in the one form --name=value."""
    flags: list[str] = []
    words = list(argv[1:])
    while words:
        word = words.pop(0)
        word = _LONG_NAMES.get(word, word)
        takes_value = word.startswith("--") and "=" not in word and word.removeprefix("--") not in _SWITCHES
        flags.append(f"{word}={words.pop(0)}" if takes_value and words else word)
    return flags


def _values(flags: Sequence[str], name: str) -> list[str]:
    return [flag.partition("=")[2] for flag in flags if flag.startswith(f"--{name}=")]


def uses_places(argv: Sequence[str], places: Places, data_root: Path) -> bool:
    """Say whether an engine is the one of this host; a second one has all its places elsewhere."""
    flags = flags_of(argv)
    configured = _options_of(flags, places)
    pid_file = _setting(flags, configured, "pidfile", str(places.pid_file))
    configured_hosts: list[str] = configured.get("hosts") or [f"unix://{places.socket}"]
    hosts = _values(flags, "host") or configured_hosts
    sockets = [Path(host.removeprefix("unix://")).resolve() for host in hosts if host.startswith("unix://")]
    return (
        "fd://" in hosts
        or places.socket.resolve() in sockets
        or Path(pid_file).resolve() == places.pid_file.resolve()
        or _data_root_of(argv, places).resolve() == data_root.resolve()
    )


def _data_root_of(argv: Sequence[str], places: Places) -> Path:
    flags = flags_of(argv)
    return Path(_setting(flags, _options_of(flags, places), "data-root", "/var/lib/docker"))


def _options_of(flags: Sequence[str], places: Places) -> dict[str, Any]:
    return _read_options(Path((_values(flags, "config-file") or [str(places.config)])[-1]))


def _setting(flags: Sequence[str], configured: dict[str, Any], name: str, default: str) -> str:
    return str((_values(flags, name) or [configured.get(name, default)])[-1])


def _read_options(path: Path) -> dict[str, Any]:
    try:
        options = json.loads(read_text(path) or "{}")
    except (OSError, ValueError):
        return {}
    return options if isinstance(options, dict) else {}


def _is_supervised(pid: int) -> bool:
    cgroups = read_text(Path(f"/proc/{pid}/cgroup")) or ""
    return "/docker.service" in cgroups or argv_of(parent_of(pid)) == ["runsv", "docker"]


def remapped_roots(data_root: Path) -> list[Path]:
    """Return the directories of an engine that has remapped ids, one for each range."""
    return sorted(path for path in data_root.glob("*.*") if _REMAPPED_ROOT.fullmatch(path.name) and path.is_dir())


def read_containers(data_root: Path) -> list[Container]:
    """Return the containers below a data root, whether or not an engine runs, and of whichever range of ids."""
    found = []
    roots = [data_root, *remapped_roots(data_root)]
    for path in sorted(path for root in roots for path in root.glob("containers/*/config.v2.json")):
        try:
            raw = json.loads(path.read_text())
            found.append(Container(str(raw["Name"]).lstrip("/"), bool(raw["State"]["Running"])))
        except (OSError, ValueError, KeyError, TypeError):
            found.append(Container(path.parent.name[:12], running=True))  # half written: treat it with care
    return found


def check_claim(
    places: Places, record: Record | None, engine: RunningEngine | None, options: Options, *, adopt: bool
) -> None:
    """Raise HostError where the engine here is somebody else's. `docker_adopt` overrides what can be taken over."""
    _check_running(engine, options, adopt=adopt or record is not None)
    if adopt:
        return
    text = read_text(places.config)
    if text is not None and text.strip() not in ("", "{}") and text != render(options):
        if record is None:
            raise HostError(
                f"{places.config} is another owner's: Bailey did not write it. Remove it, or set"
                " docker_adopt: true to replace it (teardown puts it back)"
            )
        if not record.covers(text):
            raise HostError(
                f"{places.config} was changed by hand since Bailey wrote it. Move the change into"
                " docker_daemon_options and remove the file, or set docker_adopt: true to overwrite it"
            )
    if record is None:
        _check_containers({Path(str(options["data-root"])), *([engine.data_root] if engine else [])})


def _check_containers(data_roots: Iterable[Path]) -> None:
    for data_root in sorted(data_roots):
        containers = read_containers(data_root)
        if containers:
            raise HostError(
                f"{data_root} holds containers of an engine that Bailey does not manage: {_names(containers)}."
                " Remove them, or set docker_adopt: true to take the engine over with them; its restart stops"
                " them unless it has live-restore already"
            )


def _check_running(engine: RunningEngine | None, options: Options, *, adopt: bool) -> None:
    if engine is None:
        return
    command = " ".join(engine.argv)
    if not engine.supervised:
        raise HostError(
            f"a dockerd that no service manager supervises uses this host's engine paths (pid {engine.pid}:"
            f" {command}). Stop it with `kill -TERM {engine.pid}` and run this again"
        )
    flags = engine.foreign_flags()
    clashing = [flag for flag in flags if flag.removeprefix("--").partition("=")[0] in options]
    if clashing:
        raise HostError(
            f"dockerd (pid {engine.pid}) is started with {' '.join(clashing)}, which daemon.json is to hold:"
            " dockerd refuses an option given twice. Remove it from its unit or from DOCKER_OPTS in"
            " /etc/default/docker"
        )
    if flags and not adopt:
        raise HostError(
            f"dockerd (pid {engine.pid}) runs with another owner's flags: {' '.join(flags)}. Remove them, or"
            " set docker_adopt: true to manage this engine with them"
        )


def check_changes(record: Record | None, options: Options) -> None:
    """Raise HostError for a change that the containers there are would not survive, or would not get."""
    if record is None:
        return
    containers = read_containers(Path(str(record.options["data-root"])))
    running = [container for container in containers if container.running]
    for keys, bound, state in (
        (BOUND_TO_CONTAINERS, containers, "exist"),
        (BOUND_TO_RUNNING, running, "run"),
    ):
        changed = sorted(key for key in keys if record.options.get(key) != options.get(key))
        if changed and bound:
            before, after = (shown(changed[0], given.get(changed[0])) for given in (record.options, options))
            raise HostError(
                f"{variable_of(changed[0])}: it cannot change from {before!r} to {after!r} while containers {state}"
                f" ({_names(bound)}): remove them first"
            )


def _names(containers: Sequence[Container]) -> str:
    names = [container.name for container in containers]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
