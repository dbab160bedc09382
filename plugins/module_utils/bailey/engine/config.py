"""The container engine's configuration: from the role's variables to a checked daemon.json.

Errors name the role's variables, because those are what an operator can change. The values are
checked here and not only by dockerd, whose own check comes too late on a host that has none yet,
and which does not know what this host's kernel lets it hand on.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ..changes import Json
from ..errors import InvalidValueError
from ..rlimits import UNLIMITED, Rlimit, parse_rlimits
from ..units import parse_count, parse_size

Options = dict[str, Json]

PREFIX = "docker_"
RUNTIMES = {"crun": "/usr/bin/crun", "runsc": "/usr/bin/runsc"}
STORAGE_DRIVERS = ("overlay2", "btrfs", "zfs", "vfs")
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")

# What the platform's promises rest on. Not open to variables.
FIXED: Options = {
    # What containers may say to each other is decided by the agent's firewall alone, which drops all that nobody has
    # declared. The engine would drop the rest too, after it, and nothing could be declared.
    "icc": True,
    "insecure-registries": [],  # images come over TLS that is checked
    "live-restore": True,  # tenants outlive the engine
    "log-driver": "json-file",  # bounded, and readable without the engine
    "no-new-privileges": True,  # a setuid file in an image gives nobody anything
    "userland-proxy": False,  # one process a published port, and the client's address would be lost
}

# The account whose range of /etc/subuid and /etc/subgid containers' ids are with docker_userns_remap.
REMAP_ACCOUNT = "bailey-remap"
REMAP = "userns-remap"
# Runtimes that are known to give containers a user namespace whose ids the kernel shows.
_REMAPPING_RUNTIMES = ("runc", "crun")

# Where the role itself looks for the engine, and rules that teardown must find again.
_RESERVED = ("bridge", "containerd", "exec-root", "hosts", "iptables", "pidfile")

_NOT_THE_ENGINES = ("as",)

_OF_VARIABLES = {
    "bip": "docker_bip",
    "data-root": "docker_data_root",
    "default-address-pools": "docker_default_address_pools",
    "default-runtime": "docker_default_runtime",
    "default-ulimits": "docker_default_ulimits",
    "log-level": "docker_log_level",
    "log-opts": "docker_log_max_size and docker_log_max_files",
    "runtimes": "docker_runtimes",
    "storage-driver": "docker_storage_driver",
    REMAP: "docker_userns_remap",
}

_BOOLEANS = """debug experimental init ip-forward ip-masq ip6tables ipv6 raw-logs selinux-enabled tls
    tlsverify"""
_NUMBERS = """max-concurrent-downloads max-concurrent-uploads max-download-attempts mtu
    network-control-plane-mtu oom-score-adjust shutdown-timeout"""
_STRINGS = """cgroup-parent default-cgroupns-mode default-gateway default-gateway-v6 default-ipc-mode
    default-shm-size fixed-cidr fixed-cidr-v6 group init-path ip metrics-addr seccomp-profile tlscacert
    tlscert tlskey"""
_LISTS = """authorization-plugins dns dns-opts dns-search exec-opts labels node-generic-resources
    registry-mirrors storage-opts"""

_KINDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    **dict.fromkeys(_BOOLEANS.split(), ("true or false", lambda value: isinstance(value, bool))),
    **dict.fromkeys(_NUMBERS.split(), ("a whole number", lambda value: type(value) is int)),
    **dict.fromkeys(_STRINGS.split(), ("a string", lambda value: isinstance(value, str))),
    **dict.fromkeys(_LISTS.split(), ("a list of strings", lambda value: _is_list_of(value, str))),
    "builder": ("a mapping", lambda value: isinstance(value, dict)),
    "features": ("a mapping of true or false", lambda value: _is_mapping_of(value, bool)),
    "proxies": ("a mapping of strings", lambda value: _is_mapping_of(value, str)),
}

# Options that a running engine cannot change under the containers it has: their data would be out
# of its sight, or live-restore would keep the old network as it was and only log that it did.
BOUND_TO_CONTAINERS = frozenset({"data-root", "storage-driver", REMAP})
BOUND_TO_RUNNING = frozenset(
    {"bip", "default-gateway", "default-gateway-v6", "fixed-cidr", "fixed-cidr-v6", "icc", "ip", "ip-masq"}
    | {"ipv6", "mtu", "userland-proxy"}
)


@dataclass(frozen=True)
class EngineSettings:
    """The role's variables, as they were given."""

    data_root: str = "/var/lib/docker"
    storage_driver: str = "overlay2"
    bip: str = ""
    default_address_pools: Sequence[Mapping[str, object]] = ()
    log_level: str = "info"
    log_max_size: str = "10M"
    log_max_files: int = 3
    default_ulimits: Mapping[str, object] = field(default_factory=dict)
    runtimes: Sequence[str] = ("crun",)
    default_runtime: str = "runc"
    userns_remap: bool = False
    daemon_options: Mapping[str, object] = field(default_factory=dict)


def compose(settings: EngineSettings, ceilings: Mapping[str, int]) -> Options:
    """Return the options for daemon.json; raise InvalidValueError for the first value that is wrong."""
    options: Options = {
        **FIXED,
        "data-root": _absolute_path("data_root", settings.data_root),
        "default-runtime": _one_of("default_runtime", settings.default_runtime, ("runc", *settings.runtimes)),
        "default-ulimits": _ulimits(settings.default_ulimits, ceilings),
        "log-level": _one_of("log_level", settings.log_level, LOG_LEVELS),
        "log-opts": _log_options(settings),
        "runtimes": _runtimes(settings.runtimes),
        "storage-driver": _one_of("storage_driver", settings.storage_driver, STORAGE_DRIVERS),
    }
    if settings.bip:
        options["bip"] = _bridge_address(settings.bip)
    if settings.default_address_pools:
        options["default-address-pools"] = [
            _pool(number, pool) for number, pool in enumerate(settings.default_address_pools)
        ]
    if settings.userns_remap:
        options[REMAP] = _remap(settings)
    return {**options, **_extra(settings.daemon_options)}


def render(options: Options) -> str:
    """Write options the one way that this file is ever written, so that equal options are equal bytes."""
    return json.dumps(options, indent=2, sort_keys=True) + "\n"


def shown(key: str, value: Json) -> Json:
    """Return an option's value as the role's variable has it."""
    return value is not None if key == REMAP and value in (None, REMAP_ACCOUNT) else value


def variable_of(key: str) -> str:
    """Return the role's variable that an option of daemon.json comes from."""
    return _OF_VARIABLES.get(key, f"{PREFIX}daemon_options.{key}")


def _absolute_path(name: str, value: str) -> str:
    path = PurePosixPath(value)
    if not path.is_absolute() or len(path.parts) < 3 or ".." in path.parts:
        raise InvalidValueError(PREFIX + name, value, "an absolute path below a top directory, without ..")
    return str(path)


def _one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise InvalidValueError(PREFIX + name, value, " or ".join(allowed))
    return value


def _log_options(settings: EngineSettings) -> Json:
    size = parse_size(f"{PREFIX}log_max_size", settings.log_max_size, minimum=4096)
    files = parse_count(f"{PREFIX}log_max_files", settings.log_max_files, maximum=1000)
    return {"max-file": str(files), "max-size": str(size)}


def _runtimes(names: Sequence[str]) -> Json:
    return {name: {"path": RUNTIMES[_one_of("runtimes", name, tuple(RUNTIMES))]} for name in names}


def _remap(settings: EngineSettings) -> str:
    for name in settings.runtimes:
        if name not in _REMAPPING_RUNTIMES:
            allowed = f"{' or '.join(_REMAPPING_RUNTIMES)} with {PREFIX}userns_remap: true"
            raise InvalidValueError(f"{PREFIX}runtimes", name, allowed)
    return REMAP_ACCOUNT


def _bridge_address(value: str) -> str:
    try:
        address = ipaddress.IPv4Interface(value)
    except ValueError:
        address = None
    network = address.network if address else None
    if (
        address is None
        or network is None
        or not 8 <= network.prefixlen <= 30
        or address.ip
        in (
            network.network_address,
            network.broadcast_address,
        )
    ):
        raise InvalidValueError(f"{PREFIX}bip", value, "a host's address with its prefix, such as 172.20.0.1/16")
    return str(address)


def _pool(number: int, pool: Mapping[str, object]) -> Json:
    name = f"{PREFIX}default_address_pools[{number}]"
    if set(pool) != {"base", "size"}:
        raise InvalidValueError(name, dict(pool), "a mapping of base and size")
    try:
        base = ipaddress.IPv4Network(str(pool["base"]))
    except ValueError:
        raise InvalidValueError(f"{name}.base", pool["base"], "an IPv4 network such as 172.20.0.0/14") from None
    size = parse_count(f"{name}.size", pool["size"], minimum=base.prefixlen, maximum=30)
    return {"base": str(base), "size": size}


def _ulimits(ulimits: Mapping[str, object], ceilings: Mapping[str, int]) -> Json:
    where = f"{PREFIX}default_ulimits"
    limits: dict[str, Json] = {}
    for name, limit in parse_rlimits(where, ulimits).items():
        if name in _NOT_THE_ENGINES:
            raise InvalidValueError(f"{where}.{name}", str(limit), "nothing: the engine does not know this limit")
        ceiling = ceilings.get(name, UNLIMITED)
        if not limit.within(Rlimit(ceiling, ceiling)):
            allowed = f"at most {ceiling}, the hard limit of this host"
            raise InvalidValueError(f"{where}.{name}.hard", str(limit), allowed)
        limits[name] = {"Name": name, "Hard": limit.hard, "Soft": limit.soft}
    return limits


def _extra(options: Mapping[str, object]) -> Options:
    return {key: _extra_value(key, value) for key, value in options.items()}


def _extra_value(key: str, value: object) -> Json:
    where = f"{PREFIX}daemon_options.{key}"
    if key in _OF_VARIABLES:
        raise InvalidValueError(where, value, f"set it by {_OF_VARIABLES[key]}")
    if key in FIXED:
        raise InvalidValueError(where, value, f"nothing: Bailey rests on {key} = {json.dumps(FIXED[key])}")
    if key in _RESERVED:
        raise InvalidValueError(where, value, "nothing: the role itself decides where the engine is found")
    if key not in _KINDS:
        raise InvalidValueError(where, value, f"one of the engine's options {', '.join(sorted(_KINDS))}")
    allowed, fits = _KINDS[key]
    if not fits(value):
        raise InvalidValueError(where, value, allowed)
    plain: Json = json.loads(json.dumps(value))
    return plain


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def _is_mapping_of(value: object, kind: type) -> bool:
    return isinstance(value, dict) and all(type(item) is kind for item in value.values())
