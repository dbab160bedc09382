"""A blueprint as dockerd takes it: the body of POST /containers/create, and what a living container can follow."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .. import seccomp
from ..confinement import masked_paths
from ..errors import InvalidValueError
from ..exceptions import ROOT_UID
from ..limits import IoRates, Limits
from ..names import WSHD
from ..spec import NONE, Spec
from .base import Blueprint

# Bailey's agent is the only restarter: the engine would start a container before anybody waits at its gate.
NO_RESTART = {"Name": "no", "MaximumRetryCount": 0}
_SECCOMP = {is_root: json.dumps(seccomp.profile(is_root=is_root)) for is_root in (False, True)}


class ImageProgram(NamedTuple):
    """What an image runs where its user says nothing else."""

    entrypoint: tuple[str, ...]
    command: tuple[str, ...]


def program(spec: Spec, image: ImageProgram) -> list[str]:
    """Return the tenant's whole command line, composed as the engine would have composed it.

    Raises InvalidValueError where neither the spec nor its image names a program.
    """
    entrypoint = image.entrypoint if spec.entrypoint is None else spec.entrypoint
    own = image.command if spec.entrypoint is None else ()
    words = [*entrypoint, *(own if spec.command is None else spec.command)]
    if not words:
        raise InvalidValueError(f"{spec.name}.command", None, f"a command: the image {spec.image} has none of its own")
    return words


def check_image_volumes(spec: Spec, volumes: Iterable[str]) -> None:
    """Refuse a volume that only the image declares: the engine would make a directory for it that nothing bounds.

    Raises InvalidValueError.
    """
    declared = {volume.target for volume in spec.volumes} | {item.target for item in spec.limits.tmpfs}
    for volume in volumes:
        target = posixpath.normpath(volume)
        if target not in declared:
            allowed = f"{target} among the volumes or tmpfs: the image {spec.image} declares a volume there"
            raise InvalidValueError(f"{spec.name}.volumes", sorted(declared), allowed)


def container_config(blueprint: Blueprint, image: ImageProgram) -> dict[str, Any]:
    """Return the body of POST /containers/create for a blueprint."""
    spec = blueprint.spec
    optional: dict[str, Any] = {
        "WorkingDir": spec.working_dir or None,
        "StopSignal": spec.stop_signal or None,
    }
    return {
        "Image": spec.image,
        "Entrypoint": [WSHD],
        "Cmd": ["--", *program(spec, image)],
        "Hostname": spec.hostname,
        "User": f"{blueprint.uid}:{blueprint.uid}",
        "Env": [f"{name}={value}" for name, value in spec.environment.items()],
        "Labels": dict(blueprint.labels),
        "ExposedPorts": {f"{port.target}/{port.protocol}": {} for port in spec.ports},
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host_config(blueprint),
        **{key: value for key, value in optional.items() if value is not None},
    }


def _host_config(blueprint: Blueprint) -> dict[str, Any]:
    spec, limits = blueprint.spec, blueprint.spec.limits
    config: dict[str, Any] = {
        **living_limits(limits),
        **_io_limits(limits.io, blueprint.io_devices),
        "RestartPolicy": NO_RESTART,
        "NetworkMode": spec.network_mode,
        "PortBindings": _port_bindings(spec),
        "ReadonlyRootfs": spec.read_only,
        "CapDrop": ["ALL"],
        "CapAdd": list(spec.cap_add),
        "SecurityOpt": _security_options(blueprint),
        "Privileged": False,
        "GroupAdd": [str(gid) for gid in sorted(blueprint.groups)],
        "Devices": [{"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rw"} for path in spec.devices],
        "Init": False,
        "MaskedPaths": list(masked_paths()),
        "ReadonlyPaths": list(blueprint.read_only),
        "IpcMode": "private",
        "ShmSize": limits.shm_size,
        "Tmpfs": {
            item.target: f"size={item.size},mode={item.mode:o},nosuid,nodev,"
            + ("exec" if item.executable else "noexec")
            for item in limits.tmpfs
        },
        "Mounts": [
            {
                "Type": "bind",
                "Source": str(mount.source),
                "Target": mount.target,
                "ReadOnly": mount.read_only,
                "BindOptions": {"Propagation": "rprivate"},
            }
            for mount in blueprint.mounts
        ],
        "Ulimits": [
            {"Name": name, "Soft": limit.soft, "Hard": limit.hard} for name, limit in sorted(limits.rlimits.items())
        ],
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": str(limits.log.max_size), "max-file": str(limits.log.max_file)},
        },
    }
    if spec.runtime:
        config["Runtime"] = spec.runtime
    if limits.layer is not None:
        config["StorageOpt"] = {"size": str(limits.layer)}
    return config


def _security_options(blueprint: Blueprint) -> list[str]:
    profile = blueprint.spec.apparmor_profile
    return [
        "no-new-privileges",
        f"seccomp={_SECCOMP[blueprint.uid == ROOT_UID]}",
        *([] if profile == NONE else [f"apparmor={profile}"]),
    ]


def living_limits(limits: Limits) -> dict[str, Any]:
    """Return the settings that the engine changes on a living container; it writes all of them to the kernel."""
    settings: dict[str, Any] = {
        "Memory": limits.memory,
        "MemorySwap": limits.memory_swap,
        "NanoCpus": limits.nano_cpus,
        "CpuShares": limits.cpu_shares,
        "PidsLimit": limits.pids,
    }
    if limits.memory_reservation is not None:
        settings["MemoryReservation"] = limits.memory_reservation
    if limits.cpuset is not None:
        settings["CpusetCpus"] = ",".join(str(cpu) for cpu in sorted(limits.cpuset))
    return settings


def _io_limits(io: IoRates, devices: Sequence[str]) -> dict[str, Any]:
    rates = {
        "BlkioDeviceReadBps": io.read_bps,
        "BlkioDeviceWriteBps": io.write_bps,
        "BlkioDeviceReadIOps": io.read_iops,
        "BlkioDeviceWriteIOps": io.write_iops,
    }
    return {
        name: [{"Path": device, "Rate": rate} for device in devices] for name, rate in rates.items() if rate is not None
    }


def _port_bindings(spec: Spec) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in spec.ports:
        published = {"HostIp": port.host_ip, "HostPort": str(port.published)}
        bindings.setdefault(f"{port.target}/{port.protocol}", []).append(published)
    return bindings
