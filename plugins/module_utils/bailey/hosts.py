"""Opening a host: the adapters that the work is done through, from what an operator gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .admission import Overcommit
from .agent_client import SOCKET_NAME, AgentClient
from .agent_files import AgentFiles
from .backends.docker import DockerBackend
from .carry import Host
from .errors import InvalidValueError
from .fields import Fields
from .host.cgroup import open_hierarchy
from .host.quota import open_quota
from .store import SpecStore
from .units import parse_count


def open_host(settings: Mapping[str, Any]) -> Host:
    """Return the adapters for `docker_host`, `timeout` (seconds) and the platform's directories.

    With `remove_volumes` the data of removed instances goes with them.
    """
    root = Path(settings["storage_path"])
    if not root.is_dir():
        raise InvalidValueError("storage_path", str(root), "a directory, such as bailey_storage makes")
    files = AgentFiles(Path(settings["state_dir"]), Path(settings["run_dir"]), Path(settings["wsh_dir"]))
    return Host(
        backend=DockerBackend(settings["docker_host"], parse_count("timeout", settings["timeout"], 1, 3600)),
        quota=open_quota(root),
        hierarchy=open_hierarchy(),
        store=SpecStore(files.state_dir),
        agent=AgentClient(files.run_dir),
        files=files,
        remove_volumes=bool(settings.get("remove_volumes")),
    )


def missing_parts(settings: Mapping[str, Any]) -> list[str]:
    """Return what of the platform is not on the host yet: the engine's and the agent's sockets, the directories."""
    needed = (
        Path(settings["docker_host"].removeprefix("unix://")),
        Path(settings["storage_path"]),
        Path(settings["wsh_dir"]),
        Path(settings["run_dir"]) / SOCKET_NAME,
    )
    return [str(path) for path in needed if not path.exists()]


def parse_overcommit(value: object) -> Overcommit:
    """Read how often each resource may be promised: numbers above 0, 1 where not given."""
    fields = Fields("overcommit", value, ("memory", "cpus", "disk"))
    return Overcommit(_factor(fields, "memory"), _factor(fields, "cpus"), _factor(fields, "disk"))


def _factor(fields: Fields, key: str) -> float:
    given = fields.get(key, 1)
    try:
        factor = float(str(given))
    except ValueError:
        factor = 0.0
    if isinstance(given, bool) or not 0 < factor <= 1000:
        raise InvalidValueError(fields.path(key), given, "a number above 0 and up to 1000, such as 1 or 1.5")
    return factor
