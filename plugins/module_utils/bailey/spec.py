"""Spec: the whole declaration of one container, parsed once and compared in canonical form."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .capabilities import parse_capabilities
from .changes import Json
from .errors import InvalidValueError
from .exceptions import (
    ROOT_RLIMITS,
    ROOT_UID,
    STANDING_FIELDS,
    SocketMount,
    check_network_mode,
    check_root,
    check_standing,
    needed,
    parse_devices,
    parse_socket,
)
from .fields import Fields
from .healthcheck import Healthcheck, parse_healthcheck
from .limits import LIMIT_FIELDS, Limits, merge_declarations, parse_limits, parse_target
from .names import parse_name
from .network import Network, parse_network
from .ports import Port, parse_ports
from .units import format_duration, parse_count, parse_duration

STARTED, STOPPED, ABSENT = "started", "stopped", "absent"
STATES = (STARTED, STOPPED, ABSENT)
PROGRAM_FIELDS = (
    "name", "tenant", "app", "plan", "image", "pull_policy", "command", "entrypoint", "environment", "working_dir",
    "hostname", "user", "ports", "volumes", "read_only", "cap_add", "apparmor_profile", "network_mode", "restart",
    "runtime", "stop_signal", "stop_grace_period", "healthcheck", "devices", "exceptions", *STANDING_FIELDS,
)  # fmt: skip
# What a plan may say, below what the container says itself.
PLAN_FIELDS = (*LIMIT_FIELDS, "network")
SPEC_FIELDS = PROGRAM_FIELDS + PLAN_FIELDS
# What the engine, the kernel or Bailey itself changes on a living container. All else needs a new one.
LIVE_FIELDS = frozenset((
    "tenant", "app", "pull_policy", "mem_limit", "memswap_limit", "mem_reservation", "cpus", "cpu_shares", "cpuset",
    "pids_limit", "disk_limit", "io_scope", "restart", "stop_grace_period", "healthcheck", "network",
))  # fmt: skip
# A living container can change these, but cannot lose them: the engine takes "not set" for "leave as it is".
_LIVE_WHILE_SET = ("mem_reservation", "cpuset")
# Counts what the platform itself puts into every container: a container of another layout is made again.
_LAYOUT = 2

# The grammar of distribution/reference: [HOST[:PORT]/]PATH[/PATH...][:TAG][@DIGEST].
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_IMAGE = re.compile(
    rf"(?:{_HOST}/)?{_PATH}(?:/{_PATH})*(?::[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
)
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESTART = re.compile(r"no|always|unless-stopped|on-failure(:[1-9][0-9]{0,3})?")
_RESTART_ALLOWED = "no, always, unless-stopped or on-failure[:times]"
_SIGNAL = re.compile(r"SIG[A-Z0-9+]{2,12}")
_RUNTIME = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_PROFILE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_ROOT_NAMES = (ROOT_UID, "0", "root")
BRIDGE, NONE = "bridge", "none"  # network modes
TENANT_PROFILE, UNCONFINED = "bailey-tenant", "unconfined"  # of AppArmor; NONE on a host that is declared to have none
_NAME_MAX = 255  # bytes that the kernel takes for a directory's name
_FINGERPRINT_KEY = secrets.token_bytes(16)


class VolumeMount(NamedTuple):
    """A directory of the instance's own storage, mounted in its container."""

    target: str
    read_only: bool

    @property
    def directory(self) -> str:
        """Name of the directory below the instance's volume: the target with its slashes made plain."""
        return self.target.strip("/").replace("%", "%25").replace("/", "%2F")


@dataclass(frozen=True)
class Spec:
    """One container as declared. `user` is None until a uid of the host's range has been given to it."""

    name: str
    tenant: str
    app: str
    image: str
    pull_policy: str
    command: tuple[str, ...] | None
    entrypoint: tuple[str, ...] | None
    environment: Mapping[str, str]
    working_dir: str
    hostname: str
    user: int | None
    ports: tuple[Port, ...]
    volumes: tuple[VolumeMount, ...]
    socket: SocketMount | None
    devices: tuple[str, ...]
    read_only: bool
    cap_add: tuple[str, ...]
    apparmor_profile: str
    network_mode: str
    network: Network
    restart: str
    runtime: str
    stop_signal: str
    stop_grace_period: float
    healthcheck: Healthcheck | None
    limits: Limits

    @property
    def uid(self) -> int:
        """The uid that the instance runs under, once it has been given one."""
        if self.user is None:
            raise ValueError(f"{self.name} has not been given a uid yet")
        return self.user

    @property
    def exceptions(self) -> dict[str, tuple[str, object]]:
        """What the host's policy has to allow for it by name, each with the field and value that ask for it."""
        return needed(self.user, self.devices, self.socket)

    def canonical(self) -> dict[str, Json]:
        """Return the declaration that parses to exactly this spec, with every default written out."""
        declared: dict[str, Json] = {
            "name": self.name,
            "tenant": self.tenant,
            "app": self.app,
            "image": self.image,
            "pull_policy": self.pull_policy,
            "environment": dict(sorted(self.environment.items())),
            "hostname": self.hostname,
            "ports": [str(port) for port in self.ports],
            "volumes": self._canonical_volumes(),
            "read_only": self.read_only,
            "cap_add": list(self.cap_add),
            "apparmor_profile": self.apparmor_profile,
            "network_mode": self.network_mode,
            "restart": self.restart,
            "stop_grace_period": format_duration(self.stop_grace_period),
            **self.limits.canonical(),
        }
        optional: dict[str, Json] = {
            "command": None if self.command is None else list(self.command),
            "entrypoint": None if self.entrypoint is None else list(self.entrypoint),
            "working_dir": self.working_dir or None,
            "user": self.user,
            "runtime": self.runtime or None,
            "stop_signal": self.stop_signal or None,
            "healthcheck": None if self.healthcheck is None else self.healthcheck.canonical(),
            "network": None if self.network_mode == NONE else self.network.canonical(),
            "devices": [*self.devices] if self.devices else None,
            "exceptions": [*sorted(self.exceptions)] if self.exceptions else None,
        }
        declared.update({key: value for key, value in optional.items() if value is not None})
        return declared

    def _canonical_volumes(self) -> list[Json]:
        volumes: list[Json] = [{"target": item.target, "read_only": item.read_only} for item in self.volumes]
        if self.socket is not None:
            volumes.append({"type": "bind", "source": self.socket.source, "target": self.socket.target})
        return volumes

    def shown(self) -> dict[str, Json]:
        """Return the canonical form fit for a diff or a log: the environment's values are only fingerprints."""
        return redact(self.canonical())

    def recreate_hash(self) -> str:
        """Return the hash of all that a living container cannot change; it is the container's label."""
        declared = self.canonical()
        fixed = {key: value for key, value in declared.items() if key not in LIVE_FIELDS}
        fixed["set"] = [key for key in _LIVE_WHILE_SET if key in declared]
        fixed["layout"] = _LAYOUT
        return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


def redact(canonical: Mapping[str, Json]) -> dict[str, Json]:
    """Replace the environment's values by fingerprints: a diff shows that one changed, never what it is."""
    environment = canonical.get("environment")
    if not isinstance(environment, dict):
        return dict(canonical)
    return {**canonical, "environment": {key: _fingerprint(str(value)) for key, value in environment.items()}}


def _fingerprint(secret: str) -> str:
    """Return a mark that is the same for the same value within this run, and tells nothing outside it."""
    return "hidden:" + hmac.new(_FINGERPRINT_KEY, secret.encode(), "sha256").hexdigest()[:12]


def parse_spec(declared: object, plans: Mapping[str, object] | None = None, where: str = "containers[]") -> Spec:
    """Read one container's declaration, what its plan says below what it says itself.

    Raises InvalidValueError naming the first field that is unknown, missing or not valid; `where` names
    the place of the declaration until its own name is known.
    """
    first = Fields(where, declared, SPEC_FIELDS)
    name = parse_name(first.path("name"), first.required("name", "the instance's name"))
    fields = Fields(name, declared, SPEC_FIELDS)
    check_standing(fields)
    volumes, socket = _parse_volumes(fields)
    devices, user = parse_devices(fields), _parse_user(fields)
    read_only = fields.flag("read_only", default=True)
    merged = merge_declarations(_plan(fields, plans or {}), {key: fields.get(key) for key in PLAN_FIELDS})
    if user == ROOT_UID:
        merged = merge_declarations({"ulimits": ROOT_RLIMITS}, merged)
    limits = parse_limits(
        name,
        {key: merged.get(key) for key in LIMIT_FIELDS},
        writable_root=not read_only,
        has_volumes=any(not volume.read_only for volume in volumes),
    )
    if user == ROOT_UID:
        check_root(fields, limits, read_only=read_only)
    _check_targets(fields, volumes, socket, limits)
    _check_exceptions(fields, tuple(sorted(needed(user, devices, socket))))
    tenant = parse_name(fields.path("tenant"), fields.required("tenant", "the owner of the code"))
    check_network_mode(fields, (BRIDGE, NONE))
    network_mode = fields.choice("network_mode", (BRIDGE, NONE), BRIDGE)
    return Spec(
        name=name,
        tenant=tenant,
        app=parse_name(fields.path("app"), fields.get("app", name)),
        image=_matching(fields, "image", _IMAGE, "an image reference such as registry.example:5000/app:1"),
        pull_policy=fields.choice("pull_policy", ("missing", "always", "never"), "missing"),
        command=fields.words("command"),
        entrypoint=fields.words("entrypoint"),
        environment=_parse_environment(fields),
        working_dir=_parse_working_dir(fields),
        hostname=parse_name(fields.path("hostname"), fields.get("hostname", name)),
        user=user,
        ports=_parse_ports(fields, network_mode),
        volumes=volumes,
        socket=socket,
        devices=devices,
        read_only=read_only,
        cap_add=parse_capabilities(fields.path("cap_add"), fields.items("cap_add")),
        apparmor_profile=_parse_profile(fields),
        network_mode=network_mode,
        network=_parse_network(fields, merged.get("network"), tenant, network_mode),
        restart=_matching(fields, "restart", _RESTART, _RESTART_ALLOWED, "unless-stopped"),
        runtime=_matching(fields, "runtime", _RUNTIME, "the name of a runtime that the engine offers", ""),
        stop_signal=_matching(fields, "stop_signal", _SIGNAL, "a signal's name such as SIGTERM", ""),
        stop_grace_period=_parse_grace(fields),
        healthcheck=parse_healthcheck(fields.path("healthcheck"), fields.get("healthcheck")),
        limits=limits,
    )


def _plan(fields: Fields, plans: Mapping[str, object]) -> Mapping[str, object]:
    if "plan" not in fields:
        return {}
    name = fields.get("plan")
    if not isinstance(name, str) or name not in plans:
        raise InvalidValueError(
            fields.path("plan"), name, f"one of the plans {', '.join(sorted(map(str, plans))) or '(none)'}"
        )
    plan = plans[name]
    Fields(f"plans.{name}", plan, PLAN_FIELDS)
    assert isinstance(plan, Mapping)  # noqa: S101 - Fields has just seen to it; this tells the type checker
    return plan


def _matching(fields: Fields, key: str, pattern: re.Pattern[str], allowed: str, default: str | None = None) -> str:
    """Return a string of a known shape. A default of None makes the key required."""
    value = fields.required(key, allowed) if default is None else fields.get(key, default)
    if value == default and default is not None:
        return default
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidValueError(fields.path(key), value, allowed)
    return value


def _parse_profile(fields: Fields) -> str:
    allowed = f"the name of a profile that the host has loaded, such as {TENANT_PROFILE}"
    profile = _matching(fields, "apparmor_profile", _PROFILE, allowed, TENANT_PROFILE)
    if profile == UNCONFINED:
        raise InvalidValueError(fields.path("apparmor_profile"), profile, allowed)
    return profile


def _parse_environment(fields: Fields) -> dict[str, str]:
    path = fields.path("environment")
    given = fields.get("environment", {})
    if not isinstance(given, Mapping):
        raise InvalidValueError(path, type(given).__name__, "a mapping of names to values")
    environment: dict[str, str] = {}
    for key, value in given.items():
        if not isinstance(key, str) or not _ENVIRONMENT_NAME.fullmatch(key):
            raise InvalidValueError(path, key, "names of letters, digits and underscores")
        if not isinstance(value, str | int | float) or "\0" in str(value):
            # A value may be a secret: the message tells its type only.
            raise InvalidValueError(f"{path}.{key}", type(value).__name__, "a string, a number or a boolean")
        environment[key] = str(value).lower() if isinstance(value, bool) else str(value)
    return environment


def _parse_working_dir(fields: Fields) -> str:
    path = fields.text("working_dir")
    if path and not path.startswith("/"):
        raise InvalidValueError(fields.path("working_dir"), path, "an absolute path")
    return path


def _parse_user(fields: Fields) -> int | None:
    if "user" not in fields:
        return None
    given = fields.get("user")
    if not isinstance(given, bool | float) and given in _ROOT_NAMES:
        return ROOT_UID
    try:
        return parse_count(fields.path("user"), fields.get("user"), 1000, 4_294_967_293)
    except InvalidValueError:
        allowed = "a uid of at least 1000 and no system account's; 0 where the host's policy names root"
        raise InvalidValueError(fields.path("user"), fields.get("user"), allowed) from None


def _parse_grace(fields: Fields) -> float:
    seconds = parse_duration(fields.path("stop_grace_period"), fields.get("stop_grace_period", "10s"))
    if not 0 <= seconds <= 600:
        raise InvalidValueError(fields.path("stop_grace_period"), fields.get("stop_grace_period"), "from 0s to 10m")
    return seconds


def _parse_network(fields: Fields, merged: object, tenant: str, network_mode: str) -> Network:
    """Read what container and plan say together. Without a network a plan's share is of no use, and no mistake."""
    if network_mode == BRIDGE:
        return parse_network(fields.path("network"), merged, tenant)
    if "network" in fields:
        raise InvalidValueError(fields.path("network"), fields.get("network"), f"none with network_mode: {NONE}")
    return Network()


def _parse_ports(fields: Fields, network_mode: str) -> tuple[Port, ...]:
    ports = parse_ports(fields)
    if ports and network_mode == NONE:
        raise InvalidValueError(fields.path("ports"), str(ports[0]), f"none with network_mode: {NONE}")
    return ports


def _parse_volumes(fields: Fields) -> tuple[tuple[VolumeMount, ...], SocketMount | None]:
    """Return the directories of the instance's storage, and the engine's socket where it is asked for."""
    volumes: list[VolumeMount] = []
    socket: SocketMount | None = None
    for number, item in enumerate(fields.items("volumes")):
        path = f"{fields.path('volumes')}[{number}]"
        if isinstance(item, Mapping) and item.get("type") == "bind":
            if socket is not None:
                raise InvalidValueError(path, item.get("source"), "the engine's socket once")
            socket = parse_socket(path, item)
            continue
        given = Fields(path, {"target": item} if isinstance(item, str) else item, ("target", "read_only"))
        target = parse_target(given.path("target"), given.required("target", "a path inside the container"))
        volume = VolumeMount(target, given.flag("read_only", default=False))
        if len(volume.directory.encode()) > _NAME_MAX:
            raise InvalidValueError(given.path("target"), target, f"a path that makes a name of {_NAME_MAX} bytes")
        volumes.append(volume)
    return tuple(volumes), socket


def _check_exceptions(fields: Fields, wanted: tuple[str, ...]) -> None:
    """Hold a declaration that names its exceptions to naming exactly those; the host's policy is another matter."""
    if "exceptions" in fields and (given := fields.items("exceptions")) != list(wanted):
        raise InvalidValueError(fields.path("exceptions"), given, f"what the other fields ask for: {list(wanted)}")


def _check_targets(
    fields: Fields, volumes: tuple[VolumeMount, ...], socket: SocketMount | None, limits: Limits
) -> None:
    """Refuse mount points inside one another: a tenant who may write the outer one could replace the inner."""
    targets = [volume.target for volume in volumes] + [item.target for item in limits.tmpfs]
    targets += [] if socket is None else [socket.target]
    for number, target in enumerate(targets):
        for other in targets[number + 1 :]:
            if f"{target}/".startswith(f"{other}/") or f"{other}/".startswith(f"{target}/"):
                raise InvalidValueError(fields.path("volumes"), other, f"mount points apart from {target}")
