"""Limits: everything that bounds what one instance may use.

The names are the Compose specification's where it has one. Differences, each for a reason:
`blkio_config` takes one rate for every device under a writable mount (an app's author does not know
the host's devices), `disk_limit` is what an instance may write to its volumes together (Compose has
no such thing), and `io_scope` says that the declarer knows what cgroup v1 cannot do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .changes import Json
from .errors import InvalidValueError
from .fields import Fields
from .names import CONTAINER_DIRECTORY
from .rlimits import Rlimit, parse_rlimits
from .units import (
    format_cpus,
    format_cpuset,
    format_size,
    parse_count,
    parse_cpus,
    parse_cpuset,
    parse_iops,
    parse_size,
)

PAGE = 4096
_DISK_MINIMUM = 1 << 20
UNLIMITED = "unlimited"
LIMIT_FIELDS = (
    "mem_limit", "memswap_limit", "mem_reservation", "cpus", "cpu_shares", "cpuset", "pids_limit", "disk_limit",
    "blkio_config", "io_scope", "shm_size", "tmpfs", "logging", "ulimits", "storage_opt",
)  # fmt: skip
_DEFAULT_TMPFS = ("/tmp:size=16M",)  # noqa: S108 - a path inside the container
_TMPFS_OPTIONS = (("size", "="), ("mode", "="), ("exec", ""))
_TMPFS_MODE = re.compile(r"[01]?[0-7]{1,3}")
_DEFAULT_SHM = "16M"
_DEFAULT_LOG = {"max-size": "10M", "max-file": 2}


@dataclass(frozen=True)
class IoRates:
    """Disk I/O, in bytes a second and operations a second; None is unlimited."""

    read_bps: int | None = None
    write_bps: int | None = None
    read_iops: int | None = None
    write_iops: int | None = None

    def __bool__(self) -> bool:
        return any(rate is not None for rate in (self.read_bps, self.write_bps, self.read_iops, self.write_iops))


class Tmpfs(NamedTuple):
    """A file system in the instance's memory: where, its size in bytes, its mode, whether programs may run."""

    target: str
    size: int
    mode: int = 0o1777
    executable: bool = False


class LogLimit(NamedTuple):
    """The engine's log of the instance's output: bytes a file and how many files are kept."""

    max_size: int
    max_file: int

    @property
    def total(self) -> int:
        """Bytes that the log can take."""
        return self.max_size * self.max_file


@dataclass(frozen=True)
class Limits:
    """All limits of one instance. Sizes are bytes; processors are billionths of one."""

    memory: int
    memory_swap: int  # memory and swap together, as Compose's memswap_limit; equal to memory: no swap
    memory_reservation: int | None
    nano_cpus: int
    cpu_shares: int
    cpuset: frozenset[int] | None
    pids: int
    disk: int | None  # None: not limited (only where it was declared so, or where nothing can be written)
    io: IoRates
    io_scope: str
    shm_size: int
    tmpfs: tuple[Tmpfs, ...]
    log: LogLimit
    layer: int | None  # the writable layer, where the root is not read-only
    rlimits: Mapping[str, Rlimit] = field(default_factory=dict)

    def canonical(self) -> dict[str, Json]:
        """Return the declaration that parses to exactly these limits; what is not set is left out."""
        declared: dict[str, Json] = {
            "mem_limit": format_size(self.memory),
            "memswap_limit": format_size(self.memory_swap),
            "cpus": format_cpus(self.nano_cpus),
            "cpu_shares": self.cpu_shares,
            "pids_limit": self.pids,
            "disk_limit": UNLIMITED if self.disk is None else format_size(self.disk),
            "io_scope": self.io_scope,
            "shm_size": format_size(self.shm_size),
            "tmpfs": [_format_tmpfs(item) for item in self.tmpfs],
            "logging": {
                "options": {"max-size": format_size(self.log.max_size), "max-file": self.log.max_file},
            },
        }
        if self.memory_reservation is not None:
            declared["mem_reservation"] = format_size(self.memory_reservation)
        if self.cpuset is not None:
            declared["cpuset"] = format_cpuset(self.cpuset)
        if self.layer is not None:
            declared["storage_opt"] = {"size": format_size(self.layer)}
        if self.io:
            declared["blkio_config"] = _format_io(self.io)
        if self.rlimits:
            declared["ulimits"] = {
                name: {"soft": limit.soft, "hard": limit.hard} for name, limit in sorted(self.rlimits.items())
            }
        return declared


def merge_declarations(plan: Mapping[str, object], overrides: Mapping[str, object]) -> dict[str, object]:
    """Lay an instance's own limits over its plan's. Mappings merge by key, everything else replaces."""
    merged = {key: value for key, value in plan.items() if value is not None}
    for key, value in overrides.items():
        below = merged.get(key)
        if value is None:
            continue
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = merge_declarations(below, value)  # noqa: PLW2901 - the merged value takes its place
        merged[key] = value
    return merged


def parse_limits(where: str, declared: Mapping[str, object], *, writable_root: bool, has_volumes: bool) -> Limits:
    """Read a declaration in which every required limit must be present, from a plan or by itself."""
    fields = Fields(where, declared, LIMIT_FIELDS)
    hint = "name a plan that has it, or declare it"
    memory = _page_multiple(fields.path("mem_limit"), fields.required("mem_limit", hint))
    shm_size = _page_multiple(fields.path("shm_size"), fields.get("shm_size", _DEFAULT_SHM))
    tmpfs = _parse_tmpfs(fields)
    _check_memory_file_systems(fields, memory, shm_size, tmpfs)
    return Limits(
        memory=memory,
        memory_swap=_parse_swap(fields, memory),
        memory_reservation=_parse_reservation(fields, memory),
        nano_cpus=parse_cpus(fields.path("cpus"), fields.required("cpus", hint)),
        cpu_shares=parse_count(fields.path("cpu_shares"), fields.get("cpu_shares", 1024), 2, 262_144),
        cpuset=parse_cpuset(fields.path("cpuset"), fields.get("cpuset")) if "cpuset" in fields else None,
        pids=parse_count(fields.path("pids_limit"), fields.required("pids_limit", hint), 1, 4_194_304),
        disk=_parse_disk(fields, has_volumes),
        io=_parse_io(fields),
        io_scope=fields.choice("io_scope", ("all", "direct"), "all"),
        shm_size=shm_size,
        tmpfs=tmpfs,
        log=_parse_log(fields),
        layer=_parse_layer(fields, writable_root),
        rlimits=parse_rlimits(fields.path("ulimits"), fields.get("ulimits", {})),
    )


def _page_multiple(field_name: str, value: object) -> int:
    size = parse_size(field_name, value)
    if size % PAGE:
        raise InvalidValueError(field_name, value, "a multiple of 4K, the kernel's page size")
    return size


def _parse_swap(fields: Fields, memory: int) -> int:
    if "memswap_limit" not in fields:
        return memory
    total = _page_multiple(fields.path("memswap_limit"), fields.get("memswap_limit"))
    if total < memory:
        allowed = f"memory and swap together, so at least mem_limit, {format_size(memory)}"
        raise InvalidValueError(fields.path("memswap_limit"), fields.get("memswap_limit"), allowed)
    return total


def _parse_reservation(fields: Fields, memory: int) -> int | None:
    if "mem_reservation" not in fields:
        return None
    reservation = _page_multiple(fields.path("mem_reservation"), fields.get("mem_reservation"))
    if reservation > memory:
        allowed = f"at most mem_limit, {format_size(memory)}"
        raise InvalidValueError(fields.path("mem_reservation"), fields.get("mem_reservation"), allowed)
    return reservation


def _parse_disk(fields: Fields, has_volumes: bool) -> int | None:
    given, path = fields.get("disk_limit"), fields.path("disk_limit")
    if given == UNLIMITED:
        return None
    if given is None:
        if has_volumes:
            raise InvalidValueError(path, None, f"with volumes it is required: a size, or '{UNLIMITED}'")
        return None
    size = _page_multiple(path, given)
    if size < _DISK_MINIMUM:
        raise InvalidValueError(path, given, f"at least {format_size(_DISK_MINIMUM)}")
    return size


def _parse_layer(fields: Fields, writable_root: bool) -> int | None:
    path = fields.path("storage_opt")
    if "storage_opt" not in fields:
        if writable_root:
            raise InvalidValueError(path, None, "with read_only: false it is required: {size: …}")
        return None
    if not writable_root:
        raise InvalidValueError(path, fields.get("storage_opt"), "it goes with read_only: false only")
    options = Fields(path, fields.get("storage_opt"), ("size",))
    return parse_size(options.path("size"), options.required("size", "a size"), minimum=_DISK_MINIMUM)


def _parse_io(fields: Fields) -> IoRates:
    names = ("device_read_bps", "device_write_bps", "device_read_iops", "device_write_iops")
    given = Fields(fields.path("blkio_config"), fields.get("blkio_config", {}), names)
    read_bps, write_bps = (
        parse_size(given.path(name), given.get(name), minimum=PAGE) if name in given else None for name in names[:2]
    )
    read_iops, write_iops = (
        parse_iops(given.path(name), given.get(name)) if name in given else None for name in names[2:]
    )
    return IoRates(read_bps, write_bps, read_iops, write_iops)


def _format_io(io: IoRates) -> dict[str, Json]:
    declared: dict[str, Json] = {}
    for name, size in (("device_read_bps", io.read_bps), ("device_write_bps", io.write_bps)):
        if size is not None:
            declared[name] = format_size(size)
    operations = (("device_read_iops", io.read_iops), ("device_write_iops", io.write_iops))
    declared.update({name: rate for name, rate in operations if rate is not None})
    return declared


def _parse_tmpfs(fields: Fields) -> tuple[Tmpfs, ...]:
    given = fields.items("tmpfs") if "tmpfs" in fields else list(_DEFAULT_TMPFS)
    parsed = tuple(_parse_one_tmpfs(f"{fields.path('tmpfs')}[{number}]", item) for number, item in enumerate(given))
    targets = [item.target for item in parsed]
    for target in targets:
        if targets.count(target) > 1:
            raise InvalidValueError(fields.path("tmpfs"), target, "each target once")
    return parsed


def _parse_one_tmpfs(path: str, value: object) -> Tmpfs:
    allowed = "Compose's short form with a size, such as /tmp:size=16M,mode=1777 (options: size, mode, exec)"
    target, _, text = value.partition(":") if isinstance(value, str) else ("", "", "")
    options: dict[str, str] = {}
    for option in text.split(","):
        name, equals, setting = option.partition("=")
        if name in options or (name, equals) not in _TMPFS_OPTIONS:
            raise InvalidValueError(path, value, allowed)
        options[name] = setting
    if "size" not in options:
        raise InvalidValueError(path, value, allowed)
    if not _TMPFS_MODE.fullmatch(options.get("mode", "1777")):
        raise InvalidValueError(path, value, "a mode from 0 to 1777")
    size = _page_multiple(f"{path}.size", options["size"])
    return Tmpfs(parse_target(path, target), size, int(options.get("mode", "1777"), 8), "exec" in options)


def _format_tmpfs(item: Tmpfs) -> str:
    executable = ",exec" if item.executable else ""
    return f"{item.target}:size={format_size(item.size)},mode={item.mode:o}{executable}"


def parse_target(path: str, value: object) -> str:
    """Read a mount point inside a container: absolute, normal, and none that the engine needs itself."""
    if not isinstance(value, str) or not value.startswith("/") or value == "/":
        raise InvalidValueError(path, value, "an absolute path inside the container other than /")
    parts = value.split("/")[1:]
    if any(part in ("", ".", "..") for part in parts) or not value.isprintable() or any(char in value for char in ":,"):
        raise InvalidValueError(path, value, "a normal path: no empty part, '.', '..', ':', ',' or control character")
    if parts[0] in ("proc", "sys", "dev", CONTAINER_DIRECTORY[1:]):
        allowed = f"a path outside /proc, /sys, {CONTAINER_DIRECTORY} and /dev (for /dev/shm use shm_size)"
        raise InvalidValueError(path, value, allowed)
    return value


def _check_memory_file_systems(fields: Fields, memory: int, shm_size: int, tmpfs: tuple[Tmpfs, ...]) -> None:
    """Refuse file systems that do not fit the memory they are charged to: filling them would kill the program."""
    total = shm_size + sum(item.size for item in tmpfs)
    if total > memory:
        sums = " + ".join(
            [f"shm_size {format_size(shm_size)}"] + [f"{item.target} {format_size(item.size)}" for item in tmpfs]
        )
        allowed = f"at least the file systems inside it: {sums} = {format_size(total)}"
        raise InvalidValueError(fields.path("mem_limit"), format_size(memory), allowed)


def _parse_log(fields: Fields) -> LogLimit:
    logging = Fields(fields.path("logging"), fields.get("logging", {}), ("driver", "options"))
    logging.choice("driver", ("json-file",), "json-file")
    options = Fields(logging.path("options"), logging.get("options", {}), tuple(_DEFAULT_LOG))
    size = parse_size(options.path("max-size"), options.get("max-size", _DEFAULT_LOG["max-size"]), minimum=PAGE)
    files = parse_count(options.path("max-file"), options.get("max-file", _DEFAULT_LOG["max-file"]), 1, 100)
    return LogLimit(size, files)
