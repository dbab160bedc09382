"""What an exception means on one host: the node behind a device's path, and the group that may use it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import InvalidValueError, UnsupportedError
from .exceptions import ROOT_UID, numbers_of
from .host.idmap import IDENTITY, IdMap
from .spec import Spec

_READ_WRITE = 0o6
_STAT = os.stat  # a name of its own for the tests: no ordinary user can make a device


def device_rule(device: str) -> str | None:
    """Return a character device as the device rules write it, `c MAJOR:MINOR`; None where the host has none there."""
    try:
        status = _STAT(device)
    except OSError:
        return None
    number = status.st_rdev
    return f"c {os.major(number)}:{os.minor(number)}" if stat.S_ISCHR(status.st_mode) else None


def supplementary_groups(spec: Spec, ids: IdMap = IDENTITY) -> frozenset[int]:
    """Return the groups that an instance needs beside its own to use what was admitted for it.

    They are named as inside; `ids` are those of its container on the host.
    """
    paths = [*spec.devices, *([] if spec.socket is None else [spec.socket.source])]
    return frozenset(gid for path in paths if (gid := _group_needed(path, spec.uid, ids)) is not None)


def _group_needed(path: str, uid: int, ids: IdMap) -> int | None:
    try:
        status = _STAT(path)
    except OSError:
        return None
    if _may_without_group(status, uid, ids):
        return None
    group = ids.to_container(status.st_gid)  # with remapped ids the host's own groups are nobody inside
    return group if group and _may(status.st_mode >> 3) else None


def _may_without_group(status: os.stat_result, uid: int, ids: IdMap) -> bool:
    mine = ids.to_container(status.st_uid) == uid
    return _may(status.st_mode) or (mine and _may(status.st_mode >> 6))


def _may(bits: int) -> bool:
    return bits & _READ_WRITE == _READ_WRITE


def check_grants(spec: Spec, engine_socket: Path, storage_options: frozenset[str], ids: IdMap = IDENTITY) -> None:
    """Refuse an exception that this host cannot keep; raises InvalidValueError or UnsupportedError.

    `storage_options` are those that the tenants' storage is mounted with, `ids` those that containers have on the host.
    """
    for device in spec.devices:
        _check_device(f"{spec.name}.devices", device, spec.uid, ids)
    if spec.socket is not None:
        source = spec.socket.source
        if Path(source).resolve() != engine_socket.resolve():
            raise InvalidValueError(f"{spec.name}.volumes", source, f"the engine's own socket, {engine_socket}")
        _check_usable(f"{spec.name}.volumes", source, spec.uid, ids)
    if spec.uid == ROOT_UID and spec.volumes and "nosuid" not in storage_options:
        reason = "its files could be set-user-ID root for everybody: the tenants' storage is mounted without nosuid"
        raise UnsupportedError(f"{spec.name}.user", ROOT_UID, reason)


def _check_device(field: str, device: str, uid: int, ids: IdMap) -> None:
    rule, allowed = device_rule(device), numbers_of(device)
    if rule is None or allowed is None:
        raise UnsupportedError(field, device, "this host has no such character device")
    major, minor = map(int, rule.removeprefix("c ").split(":"))
    if major != allowed.major or minor not in allowed.minors:
        reason = f"it is device {major}:{minor} here, and not one of that name"
        raise UnsupportedError(field, device, reason)
    _check_usable(field, device, uid, ids)


def _check_usable(field: str, path: str, uid: int, ids: IdMap) -> None:
    status = _STAT(path)
    if _may_without_group(status, uid, ids) or _group_needed(path, uid, ids) is not None:
        return
    wanted = "give it a group of its own that may read and write"
    if ids.remapped:
        wanted = "with docker_userns_remap an instance is in none of the host's groups"
    reason = (
        f"uid {uid} could not open it: its mode is {stat.S_IMODE(status.st_mode):04o}, "
        f"its owner {status.st_uid}:{status.st_gid}; {wanted}"
    )
    raise UnsupportedError(field, path, reason)
