"""The docker engine as the images need it; the one place that knows the docker SDK.

It works with the SDK from 5.0.3 (Debian 12) on. The SDK is imported when an engine is opened, because
that alone takes a quarter of a second.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import EngineError, EngineUnavailableError, HostError
from . import context
from .buildlog import BuildFailedError, BuildLog
from .source import BuildSource

LABEL = "bailey.image.inputs"
# Builds have a network of their own: on the default bridge, the tenants', nothing passes that the agent does not know.
BUILD_NETWORK = "bailey-build"
_BUILD_NETWORK_LABEL = ("bailey.network", "build")
_QUICK_SECONDS = 60
# What registries and engines of the last years say, in words, where a tag is not there.
_NOT_IN_REGISTRY = re.compile(r"manifest unknown|not found|name unknown|repository name not known", re.IGNORECASE)


@dataclass(frozen=True)
class Image:
    """One image of the engine's; `used_at` (seconds since 1970) is when it was last made or tagged."""

    image_id: str
    tags: frozenset[str]
    digests: frozenset[str]
    inputs: str | None
    used_at: float


@dataclass(frozen=True)
class Container:
    """A container, running or not, and the image that it was made from."""

    name: str
    image: str
    image_id: str


@dataclass(frozen=True)
class Credentials:
    """An account of a registry; never shown."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(…)"

    def as_config(self) -> dict[str, str]:
        """Return the form that the SDK wants."""
        return {"username": self.username, "password": self.password}


class Engine:
    """An open connection to an engine."""

    def __init__(self, docker_host: str, timeout: int, client_config: Path | None = None) -> None:
        """Connect; `timeout` (seconds) bounds each wait for a sign of life from builds, loads and pushes."""
        try:
            self._docker = importlib.import_module("docker")
        except ImportError as error:
            raise HostError("the docker SDK for Python is missing on this host: install python3-docker") from error
        self._unanswered = (
            self._docker.errors.DockerException,
            importlib.import_module("requests.exceptions").RequestException,
            importlib.import_module("urllib3.exceptions").HTTPError,
            OSError,
        )
        self._where = docker_host
        self._timeout = timeout
        with self._errors("connecting"):
            self._api = self._docker.APIClient(base_url=docker_host, version="auto", timeout=_QUICK_SECONDS)
            self._slow = self._docker.APIClient(base_url=docker_host, version="auto", timeout=timeout)
            if client_config is not None:
                self._api.reload_config(str(client_config))
                self._slow.reload_config(str(client_config))

    def close(self) -> None:
        """Close the connections."""
        self._api.close()
        self._slow.close()

    @contextlib.contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        """Turn the SDK's errors into the core's."""
        try:
            yield
        except self._docker.errors.APIError as error:
            raise EngineError(f"{action}: {error.explanation or error}", error.status_code) from error
        except self._unanswered as error:
            raise EngineUnavailableError(
                f"docker_host: the engine at {self._where} does not answer ({action}: {error}); is its daemon running?"
            ) from error

    # --- reading

    def image(self, reference: str) -> Image | None:
        """Return an image by reference or ID, or None where there is none."""
        with self._errors(f"reading image {reference}"):
            try:
                details = self._api.inspect_image(reference)
            except self._docker.errors.ImageNotFound:
                return None
        return _image(details)

    def image_id(self, reference: str) -> str | None:
        """Return an image's ID, or None where there is none."""
        image = self.image(reference)
        return image.image_id if image else None

    def repository(self, name: str) -> list[Image]:
        """Return the images that have a tag in a repository."""
        with self._errors(f"listing images of {name}"):
            listed = self._api.images(name=name)
        found = (self.image(item["Id"]) for item in listed)
        return [image for image in found if image is not None]

    def containers(self) -> list[Container]:
        """Return all containers, stopped ones included."""
        with self._errors("listing containers"):
            listed = self._api.containers(all=True)
        return [
            Container((item["Names"] or [item["Id"][:12]])[0].lstrip("/"), item["Image"], item["ImageID"])
            for item in listed
        ]

    # --- making

    def import_rootfs(self, path: Path, changes: Sequence[str], inputs: str) -> str:
        """Import a root file system without a tag and return the image's ID."""
        instructions = [*changes, f"LABEL {LABEL}={inputs}"]
        with self._errors(f"importing {path}"), _as_archive(path) as archive:
            answer = self._slow.import_image(src=str(archive), changes=instructions)
        for line in answer.splitlines():
            event = json.loads(line)
            if "error" in event:
                raise EngineError(f"importing {path}: {event['error']}")
            if str(event.get("status", "")).startswith("sha256:"):
                return str(event["status"])
        raise EngineError(f"importing {path}: the engine gave no image ID: {answer.strip()[-200:]}")

    def build(self, source: BuildSource, inputs: str) -> str:
        """Build an image without a tag and return its ID; nothing but it remains, nothing at all after a failure."""
        with tempfile.TemporaryFile() as stream:
            context.write_tar(source.staged(), stream, int(time.time()))
            stream.seek(0)
            return self._build(stream, source, {LABEL: inputs})

    def _build(self, stream: Any, source: BuildSource, labels: Mapping[str, str]) -> str:
        before = self._all_ids()
        log = BuildLog()
        image_id: str | None = None
        try:
            with self._errors("building"):
                for event in self._slow.build(
                    fileobj=stream,
                    custom_context=True,
                    dockerfile=source.dockerfile,
                    buildargs=source.arguments(),
                    network_mode=source.network or self._build_network(),
                    labels=dict(labels),
                    timeout=self._timeout,  # its default is to wait for ever, whatever the client's timeout
                    rm=True,
                    forcerm=True,
                    decode=True,
                ):
                    log.add(event)
            image_id = log.result()
        except (EngineError, BuildFailedError) as error:
            raise log.failure(error) from error
        finally:
            self._remove_intermediate(log.image_ids, before, image_id)
        return image_id

    def _build_network(self) -> str:
        """Return the ID of the builds' network, which is made where it is missing."""
        key, value = _BUILD_NETWORK_LABEL
        with _one_at_a_time(), self._errors(f"providing the network {BUILD_NETWORK}"):
            for network in self._api.networks(names=[BUILD_NETWORK]):  # those whose names contain it
                if network["Name"] == BUILD_NETWORK and (network["Labels"] or {}).get(key) != value:
                    raise HostError(
                        f"build.network: the engine's network {BUILD_NETWORK} is not Bailey's; remove it, or name it or"
                        " another one here"
                    )
                if network["Name"] == BUILD_NETWORK:
                    return str(network["Id"])
            made = self._api.create_network(BUILD_NETWORK, driver="bridge", labels={key: value})
            return str(made["Id"])

    def _all_ids(self) -> frozenset[str]:
        with self._errors("listing images"):
            return frozenset(self._api.images(all=True, quiet=True))

    def _remove_intermediate(self, made: Sequence[str], before: frozenset[str], result: str | None) -> None:
        """Remove what a build left beside its result: earlier stages, or all its steps after a failure."""
        kept = set(before)
        if result is not None:
            with self._errors("reading the new image"):
                kept.update(step["Id"] for step in self._api.history(result))
        for short in reversed(made):
            image = self.image(short)
            if image is not None and image.image_id not in kept and not image.tags:
                # A step that another build shares by now stays: the engine refuses to remove it.
                with contextlib.suppress(EngineError):
                    self.remove(image.image_id)

    def load(self, path: Path, saved_tags: Sequence[str], inputs: str) -> str:
        """Load an archive and return the ID of its image with our label; the archive's own tags are not kept."""
        before = {tag: self.image_id(tag) for tag in saved_tags}
        loaded: list[str] = []
        try:
            loaded = self._load(path)
            base = self.image_id(loaded[-1])
            if base is None:
                raise EngineError(f"loading {path}: the engine does not know {loaded[-1]} that it has loaded")
            dockerfile = context.Entry("Dockerfile", 0o644, f"FROM {base}\n".encode())
            return self.build(BuildSource([dockerfile]), inputs)
        finally:
            self._restore_tags(before)

    def _load(self, path: Path) -> list[str]:
        names: list[str] = []
        with self._errors(f"loading {path}"), path.open("rb") as stream:
            for event in self._slow.load_image(stream):
                if "error" in event:
                    raise EngineError(f"loading {path}: {event['error']}")
                match = re.match(r"Loaded image(?: ID)?: (\S+)", str(event.get("stream", "")))
                if match:
                    names.append(match[1])
        if not names:
            raise EngineError(f"loading {path}: the engine loaded no image")
        return names

    def _restore_tags(self, before: Mapping[str, str | None]) -> None:
        for tag, image_id in before.items():
            if image_id is None:
                if self.image(tag) is not None:
                    self.remove(tag)
            elif self.image_id(tag) != image_id:
                self.tag(image_id, *tag.rsplit(":", 1))

    # --- names

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        """Give an image a tag; it moves there from an image that has it."""
        with self._errors(f"tagging {repository}:{tag}"):
            self._api.tag(image_id, repository, tag)

    def remove(self, reference: str) -> None:
        """Remove a tag, and the image with the last of them; or an untagged image by its ID."""
        with self._errors(f"removing {reference}"):
            self._api.remove_image(reference)

    # --- registry

    def registry_digest(self, reference: str, credentials: Credentials | None) -> str | None:
        """Ask the registry for the digest behind a tag; None where the registry has no such tag."""
        config = credentials.as_config() if credentials else None
        with self._errors(f"asking the registry for {reference}"):
            try:
                answer = self._api.inspect_distribution(reference, auth_config=config)
            except self._docker.errors.APIError as error:
                if error.status_code == 404 or _NOT_IN_REGISTRY.search(str(error.explanation)):
                    return None
                raise
        return str(answer["Descriptor"]["digest"])

    def push(self, repository: str, tag: str, credentials: Credentials | None) -> str | None:
        """Push one tag and return the digest that the registry gave it."""
        config = credentials.as_config() if credentials else None
        reference = f"{repository}:{tag}"
        digest = None
        with self._errors(f"pushing {reference}"):
            for event in self._slow.push(repository, tag, stream=True, decode=True, auth_config=config):
                if "error" in event:
                    raise EngineError(f"pushing {reference}: {event['error']}")
                digest = event.get("aux", {}).get("Digest", digest)
        return digest


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Keep two builds from making the same network twice, which older engines allow.

    The lock is on the account's home: nobody else can hold it, and nothing of it stays behind.
    """
    descriptor = os.open(Path.home(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _as_archive(path: Path) -> Iterator[Path]:
    """Give a path to an archive: the file itself, or a directory packed for the time of its import."""
    if not path.is_dir():
        yield path
        return
    tarfile = importlib.import_module("tarfile")
    # /tmp may be in memory, and a root file system too large for it.
    with tempfile.NamedTemporaryFile(dir="/var/tmp", suffix=".tar") as packed:
        with tarfile.open(packed.name, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for child in sorted(path.iterdir()):
                archive.add(child, arcname=child.name)
        yield Path(packed.name)


def _image(details: Mapping[str, Any]) -> Image:
    labels = (details.get("Config") or {}).get("Labels") or {}
    times = (details.get("Created"), (details.get("Metadata") or {}).get("LastTagTime"))
    return Image(
        image_id=details["Id"],
        tags=frozenset(details.get("RepoTags") or []),
        digests=frozenset(details.get("RepoDigests") or []),
        inputs=labels.get(LABEL),
        used_at=max(_seconds(text) for text in times),
    )


def _seconds(text: str | None) -> float:
    """Read the engine's time, which may have nine decimals, be absent, or be Go's zero."""
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(.*)", text or "")
    if match is None or match[1].startswith("0001"):
        return 0.0
    zone = match[3].replace("Z", "+00:00") or "+00:00"
    moment = datetime.fromisoformat(match[1] + zone).astimezone(UTC)
    return moment.timestamp() + float(match[2] or 0)
