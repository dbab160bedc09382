"""What takes a part of an instance's lock-down away: refused, unless the host's policy allows it by name.

A policy maps an instance's name, or an app as TENANT/APP, to exceptions. Their vocabulary is closed, and small: each
keeps the gate's promise, and is read back like everything else. What could not keep it has no word here, and is
refused for everybody, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .errors import InvalidValueError
from .fields import Fields
from .limits import Limits, parse_target
from .names import parse_name
from .rlimits import UNLIMITED

ROOT, ENGINE_SOCKET = "root", "engine-socket"
_DEVICE = "device:"
ROOT_UID = 0
# What the kernel counts by user on the whole host, root's own among it. The filter keeps inotify from root's instances
# (seccomp.py), which has no limit of its own; of these two the instance gets no further than this.
ROOT_RLIMITS: Mapping[str, object] = {"sigpending": 1024, "msgqueue": "64K"}

Policy = Mapping[str, frozenset[str]]


class SocketMount(NamedTuple):
    """The engine's socket, by the path that the host has it under, at a path inside."""

    source: str
    target: str


class Numbers(NamedTuple):
    """A kind of character device: its major number and the minor ones, Documentation/admin-guide/devices.txt."""

    major: int
    minors: range


# Devices that give a program something to work with, and nothing of the host: no disk, no memory, no keyboard, no
# network past the firewall. /dev/fuse and /dev/net/tun are not among them: without mount(2) and CAP_NET_ADMIN they
# would be of no use.
DEVICES: Mapping[str, Numbers] = {
    r"/dev/kvm": Numbers(10, range(232, 233)),
    r"/dev/hwrng": Numbers(10, range(183, 184)),
    r"/dev/dri/renderD[0-9]{3}": Numbers(226, range(128, 192)),
    r"/dev/ttyUSB[0-9]{1,3}": Numbers(188, range(256)),
    r"/dev/ttyACM[0-9]{1,3}": Numbers(166, range(256)),
    r"/dev/video[0-9]{1,3}": Numbers(81, range(256)),
}
_DEVICES_ALLOWED = (
    "one of /dev/kvm, /dev/hwrng, /dev/dri/renderDNUMBER, /dev/ttyUSBNUMBER, /dev/ttyACMNUMBER, /dev/videoNUMBER, "
    "as PATH or PATH:PATH:rw; any other leads to the host's disks, memory, input or network, or is of no use inside"
)

_NEVER: Mapping[str, str] = {
    "privileged": "it takes away the filter, the capabilities' bound and the device rules that the gate reads back",
    "pid": "the instance's first process has to be number 1 of a namespace of its own, or nothing holds its gate",
    "ipc": "/dev/shm would be the host's: no shm_size could bind it, and what is in it would outlive it",  # noqa: S108 - words
    "uts": "the host's name is not the instance's to know, and hostname could not be what is declared",
    "userns_mode": "the user namespace is the engine's, for all of its containers: role docker sets it",
    "network_mode": "the host's network is on neither of the firewall's bridges: no rule and no rate could bind it",
}
_SECURITY_OPTIONS: Mapping[str, str] = {
    "seccomp": "the filter holds the disk limit and other processes' limits, and is the same for all",
    "no-new-privileges": "a set-user-ID program of the image would be root",
    "apparmor": "apparmor_profile names another profile, and nobody does without one",
    "label": "the label is the platform's to choose",
    "systempaths": "the paths that are covered are the same for all",
}
_WITHOUT = {
    "user": "a uid of at least 1000: a tenant's program does not run as root",
    "devices": "no device",
    "volumes": "none of the host's files: who may ask the engine is root of the host",
}
_ALREADY_SO = ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true")
# Fields that Compose has for taking isolation away. Only their harmless value is taken, which changes nothing.
STANDING_FIELDS = ("privileged", "pid", "ipc", "uts", "userns_mode", "security_opt")


def check_standing(fields: Fields) -> None:
    """Refuse what no policy can allow; raises InvalidValueError with the reason."""
    if fields.flag("privileged", default=False):
        raise InvalidValueError(fields.path("privileged"), True, f"false: {_NEVER['privileged']}")
    for key in ("pid", "ipc", "uts", "userns_mode"):
        if fields.get(key, "private") != "private":
            raise InvalidValueError(fields.path(key), fields.get(key), f"private: {_NEVER[key]}")
    for number, item in enumerate(fields.items("security_opt")):
        if item not in _ALREADY_SO:
            kind = re.split("[:=]", item)[0] if isinstance(item, str) else ""
            reason = _SECURITY_OPTIONS.get(kind, "all others are the platform's to choose")
            allowed = f"no-new-privileges:true, which always holds: {reason}"
            raise InvalidValueError(f"{fields.path('security_opt')}[{number}]", item, allowed)


def check_network_mode(fields: Fields, modes: Sequence[str]) -> None:
    """Refuse the host's network and other containers'."""
    mode = fields.get("network_mode", modes[0])
    if mode not in modes:
        allowed = f"one of {', '.join(modes)}: {_NEVER['network_mode']}"
        raise InvalidValueError(fields.path("network_mode"), mode, allowed)


def parse_devices(fields: Fields) -> tuple[str, ...]:
    """Read character devices of the host by their paths, in Compose's short form."""
    devices: set[str] = set()
    for number, item in enumerate(fields.items("devices")):
        path, *rest = item.split(":") if isinstance(item, str) else ("",)
        if rest not in ([], [path], [path, "rw"]) or numbers_of(path) is None:
            raise InvalidValueError(f"{fields.path('devices')}[{number}]", item, _DEVICES_ALLOWED)
        devices.add(path)
    return tuple(sorted(devices))


def numbers_of(device: str) -> Numbers | None:
    """Return which numbers a device of that path has to have, None where no instance may have it."""
    return next((numbers for pattern, numbers in DEVICES.items() if re.fullmatch(pattern, device)), None)


def parse_socket(path: str, item: Mapping[object, object]) -> SocketMount:
    """Read a bind mount of Compose's: of all the host's files, only the engine's socket can be one."""
    given = Fields(path, item, ("type", "source", "target", "read_only"))
    source = given.required("source", "the path of the engine's socket")
    if not isinstance(source, str) or not source.startswith("/") or not source.isprintable() or "," in source:
        raise InvalidValueError(given.path("source"), source, "the absolute path of the engine's socket")
    if not given.flag("read_only", default=True):
        allowed = "true: through it the socket's own mode and owner would be the instance's to change"
        raise InvalidValueError(given.path("read_only"), False, allowed)
    return SocketMount(source, parse_target(given.path("target"), given.required("target", "a path inside")))


def check_root(fields: Fields, limits: Limits, *, read_only: bool) -> None:
    """Refuse what user: 0 cannot be held to."""
    if fields.items("cap_add"):
        allowed = "none with user: 0: root has in force what others only keep in their bounding set"
        raise InvalidValueError(fields.path("cap_add"), fields.get("cap_add"), allowed)
    if not read_only:
        allowed = "true with user: 0: root may write files that lie outside of storage_opt"
        raise InvalidValueError(fields.path("read_only"), False, allowed)
    nproc = limits.rlimits.get("nproc")
    if nproc is not None and nproc.hard != UNLIMITED:
        allowed = "none with user: 0, here and in the plan: the kernel lets root pass it; pids_limit holds"
        raise InvalidValueError(fields.path("ulimits.nproc"), str(nproc), allowed)


def needed(user: int | None, devices: Iterable[str], socket: SocketMount | None) -> dict[str, tuple[str, object]]:
    """Return the exceptions that a spec is in need of, in the policy's words, each with the field and value of it."""
    words: dict[str, tuple[str, object]] = {f"{_DEVICE}{path}": ("devices", path) for path in devices}
    if socket is not None:
        words[ENGINE_SOCKET] = ("volumes", socket.source)
    if user == ROOT_UID:
        words[ROOT] = ("user", user)
    return words


def check_policy(name: str, app: str, wanted: Mapping[str, tuple[str, object]], policy: Policy) -> None:
    """Refuse what the policy does not name for an instance or its app, TENANT/APP; raises InvalidValueError."""
    granted = policy.get(name, frozenset()) | policy.get(app, frozenset())
    for word, (field, value) in wanted.items():
        if word not in granted:
            allowed = f"{_WITHOUT[field]}, unless the host's policy names {word} for {name} or {app}"
            raise InvalidValueError(f"{name}.{field}", value, allowed)


def parse_policy(field: str, value: object) -> Policy:
    """Read a host's policy; raises InvalidValueError for a name or a word that is not known."""
    if not isinstance(value, Mapping):
        raise InvalidValueError(field, value, "a mapping of instances or TENANT/APP to lists of exceptions")
    policy: dict[str, frozenset[str]] = {}
    for name, words in value.items():
        path = f"{field}.{name}"
        tenant, slash, app = name.partition("/") if isinstance(name, str) else ("", "", "")
        for part in (tenant, app) if slash else (tenant,):
            parse_name(path, part)
        if not isinstance(words, list | tuple):
            raise InvalidValueError(path, words, "a list of exceptions")
        policy[name] = frozenset(_parse_word(f"{path}[{number}]", word) for number, word in enumerate(words))
    return policy


def _parse_word(path: str, word: object) -> str:
    text = word if isinstance(word, str) else ""
    if text in (ROOT, ENGINE_SOCKET):
        return text
    if text.startswith(_DEVICE) and numbers_of(text.removeprefix(_DEVICE)) is not None:
        return text
    if text.startswith(_DEVICE):
        raise InvalidValueError(path, word, f"{_DEVICE} and {_DEVICES_ALLOWED}")
    kind = re.split("[:= ]", text)[0]
    reason = {**_SECURITY_OPTIONS, **_NEVER}.get(kind)
    because = f"; {kind} is allowed to nobody: {reason}" if reason else ""
    raise InvalidValueError(path, word, f"one of {ROOT}, {ENGINE_SOCKET}, {_DEVICE}PATH{because}")
