"""Docker behind the contract: dockerd from the distribution, asked over its socket."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..capabilities import SYS_RESOURCE
from ..errors import EngineError, HostError
from ..host import proc
from ..host.files import read_text
from ..host.mounts import mount_holding
from ..limits import Limits, LogLimit
from ..names import LABEL_HASH, LABEL_NAME
from ..rlimits import KINDS, Rlimit
from ..spec import Spec
from . import docker_events
from .base import Backend, Blueprint, Capabilities, Container, Ended, EventStream
from .docker_config import NO_RESTART, ImageProgram, check_image_volumes, container_config, living_limits
from .docker_ids import engine_ids
from .engine_api import EngineApi

CLIENT_CONFIG = Path("/root/.docker/config.json")
_MEMORY_MINIMUM = 6 << 20  # linuxMinMemory in moby's daemon/daemon_unix.go
# docker/go-units leaves RLIMIT_AS out: the runtime's own start would not fit in it.
_RLIMITS = frozenset(KINDS) - {"as"}
_LOG_LINES = 5
_NOT_FOUND = 404


class DockerBackend(Backend):
    """One dockerd."""

    def __init__(self, docker_host: str, timeout: float = 60.0, client_config: Path = CLIENT_CONFIG) -> None:
        self._api = EngineApi(docker_host, timeout)
        self._client_config = client_config

    def list(self) -> list[Container]:
        """Return all containers on the host."""
        return [_container(item) for item in self._api.get("/containers/json", {"all": True})]

    def capabilities(self) -> Capabilities:
        """Read the daemon's own account of itself, and the bounds that the kernel puts on it."""
        info = self._api.get("/info")
        return Capabilities(
            version=info["ServerVersion"],
            runtimes=frozenset(info["Runtimes"]),
            memory_minimum=_MEMORY_MINIMUM,
            limits_layer=_limits_layer(info),
            limits_swap=bool(info["SwapLimit"]) or not proc.read_meminfo().get("SwapTotal"),
            rlimits=_RLIMITS,
            rlimit_ceiling=_rlimit_ceiling(),
            ids=engine_ids(info),
        )

    def survives_restart(self) -> bool:
        """Say whether live-restore is on, by the daemon's own account."""
        return bool(self._api.get("/info").get("LiveRestoreEnabled"))

    def has_image(self, reference: str) -> bool:
        """Say whether an image is on the host."""
        return self._api.get(f"/images/{reference}/json", missing_ok=True) is not None

    def pull(self, reference: str) -> None:
        """Fetch an image, with the credentials that the engine's client keeps for its registry."""
        name, tag = _split_reference(reference)
        progress = self._api.post(
            "/images/create",
            query={"fromImage": name, "tag": tag},
            headers=self._registry_header(name),
            timeout=max(self._api.timeout, 600),
        )
        for step in progress if isinstance(progress, list) else [progress or {}]:
            if "error" in step:
                raise EngineError(f"image {reference} cannot be pulled: {step['error']}")

    def create(self, blueprint: Blueprint) -> str:
        """Create a container that does not run yet."""
        body = container_config(blueprint, self._image_program(blueprint.spec))
        return str(self._api.post("/containers/create", body, {"name": blueprint.name})["Id"])

    def start(self, container_id: str) -> None:
        """Start a container."""
        self._api.post(f"/containers/{container_id}/start")

    def stop(self, container_id: str, grace: float) -> None:
        """Stop a container."""
        seconds = round(grace)
        path = f"/containers/{container_id}/stop"
        self._api.post(path, query={"t": seconds}, timeout=self._api.timeout + seconds)

    def remove(self, container_id: str) -> None:
        """Remove a container with its anonymous volumes."""
        self._api.delete(f"/containers/{container_id}", {"force": True, "v": True}, missing_ok=True)

    def rename(self, container_id: str, name: str) -> None:
        """Give a container another name."""
        self._api.post(f"/containers/{container_id}/rename", query={"name": name})

    def update(self, container_id: str, limits: Limits) -> None:
        """Change limits; the engine writes every one of them to the kernel again."""
        self._api.post(f"/containers/{container_id}/update", {**living_limits(limits), "RestartPolicy": NO_RESTART})

    def log_limit(self, container_id: str) -> LogLimit | None:
        """Return what bounds a container's log."""
        found = self._api.get(f"/containers/{container_id}/json", missing_ok=True)
        config = found["HostConfig"]["LogConfig"]["Config"] if found else {}
        if not config or "max-size" not in config:
            return None
        return LogLimit(int(config["max-size"]), int(config.get("max-file", 1)))

    def failure(self, container_id: str) -> str:
        """Return the state that the engine reports and the last lines of output."""
        found = self._api.get(f"/containers/{container_id}/json", missing_ok=True)
        if found is None:
            return "the container has gone"
        state = found["State"]
        query = {"stdout": True, "stderr": True, "tail": _LOG_LINES}
        output = _log_text(self._api.text(f"/containers/{container_id}/logs", query))
        reason = "killed for memory" if state["OOMKilled"] else f"exit status {state['ExitCode']}"
        if state["Status"] == "running":
            reason = "but its program ended"  # the engine has not noticed, or has started it again meanwhile
        parts = (f"{state['Status']}, {reason}", state["Error"], output and f"last output: {output}")
        return "; ".join(part for part in parts if part)

    def events(self, since: int, until: int | None = None) -> EventStream:
        """Listen to what happens to Bailey's containers."""
        return docker_events.open_stream(self._api, since, until)

    def ended(self, container_id: str) -> Ended | None:
        """Return how a container last ended."""
        found = self._api.get(f"/containers/{container_id}/json", missing_ok=True)
        return None if found is None else docker_events.parse_ended(found["State"])

    def log_tail(self, container_id: str, lines: int) -> Sequence[str]:
        """Return the last lines of a container's output."""
        query = {"stdout": True, "stderr": True, "tail": lines}
        try:
            return _log_text(self._api.text(f"/containers/{container_id}/logs", query)).splitlines()[-lines:]
        except EngineError as error:
            if error.status == _NOT_FOUND:
                return []
            raise

    @property
    def socket(self) -> Path:
        """The daemon's socket."""
        return Path(self._api.docker_host.removeprefix("unix://"))

    def client(self) -> Sequence[str]:
        """Return the words of the engine's own client."""
        return ("docker", "--host", self._api.docker_host)

    def _image_program(self, spec: Spec) -> ImageProgram:
        config = self._api.get(f"/images/{spec.image}/json")["Config"] or {}
        check_image_volumes(spec, config.get("Volumes") or {})
        return ImageProgram(tuple(config.get("Entrypoint") or ()), tuple(config.get("Cmd") or ()))

    def _registry_header(self, name: str) -> dict[str, str]:
        registry = name.partition("/")[0]
        try:
            auths = json.loads(read_text(self._client_config) or "{}").get("auths", {})
            encoded = auths.get(registry, {}).get("auth")
            username, _, password = base64.b64decode(encoded or "").decode().partition(":")
        except (ValueError, TypeError, AttributeError):
            # Without its cause, in which the credentials could stand.
            raise HostError(f"{self._client_config}: no configuration of the engine's client, log in again") from None
        if not encoded:
            return {}
        account = {"username": username, "password": password, "serveraddress": registry}
        return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(account).encode()).decode()}


def _container(item: Mapping[str, Any]) -> Container:
    labels = item.get("Labels") or {}
    published = [port for port in item.get("Ports") or [] if "PublicPort" in port]
    return Container(
        id=item["Id"],
        name=item["Names"][0].lstrip("/") if item.get("Names") else item["Id"],
        declared_name=labels.get(LABEL_NAME),
        declared_hash=labels.get(LABEL_HASH, ""),
        image=item["Image"],
        running=item["State"] == "running",
        status=item["Status"],
        ports=tuple(sorted(f"{port['IP']}:{port['PublicPort']}/{port['Type']}" for port in published)),
    )


def _limits_layer(info: Mapping[str, Any]) -> bool:
    """Overlay2 bounds a layer on XFS with project quotas alone, and since Docker 29 not at all."""
    backing = dict(info.get("DriverStatus") or [])
    if info["Driver"] != "overlay2" or backing.get("Backing Filesystem") != "xfs":
        return False
    holder = mount_holding(Path(info["DockerRootDir"]))
    major = int(str(info["ServerVersion"]).split(".", 1)[0])
    return major < 29 and bool({"prjquota", "pquota"} & holder.super_options)


def _rlimit_ceiling() -> dict[str, Rlimit]:
    """Hard limits of this process, which the engine started on this host shares, unless they can be raised."""
    this = proc.read_process("self")
    if this is not None and this.capabilities_effective >> SYS_RESOURCE & 1:
        return {}
    return proc.read_rlimits("self")


def _split_reference(reference: str) -> tuple[str, str]:
    """Split an image reference into name and tag or digest."""
    if "@" in reference:
        name, _, digest = reference.partition("@")
        return name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name, digest
    name, colon, tag = reference.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (reference, "latest")


def _log_text(stream: bytes) -> str:
    """Take the text out of the engine's log stream: frames of an 8-byte header and a payload."""
    text = bytearray()
    while len(stream) >= 8:
        end = 8 + int.from_bytes(stream[4:8], "big")
        text += stream[8:end]
        stream = stream[end:]
    return text.decode(errors="replace").strip()
