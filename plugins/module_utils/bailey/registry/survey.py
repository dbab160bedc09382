"""Reading a registry: whether it is well, and what is stored in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ..errors import BaileyError
from .client import Manifest, RegistryClient, RegistryError, authority_end


@dataclass(frozen=True)
class Health:
    """What a client meets. `error` says what is wrong; None means that all is well."""

    error: str | None
    reachable: bool = False
    authenticated: bool = False
    anonymous_refused: bool = False
    certificate_end: datetime | None = None
    authority_end: datetime | None = None


@dataclass
class Repository:
    """A repository, and the image of each of its tags."""

    name: str
    tags: dict[str, Manifest] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The bytes of its images; a blob that several share counts once."""
        return distinct_size([self])


def check(client: RegistryClient, ca_file: Path) -> Health:
    """Ask as a client does: by TLS, once without and once with the credentials."""
    refused = authenticated = False
    error: str | None = None
    try:
        refused = client.refuses_anonymous()
        client.ping()
        authenticated = True
    except BaileyError as failure:
        error = str(failure)
    if error is None and not refused:
        error = f"{client.reference}: answers requests without credentials"
    end = client.certificate_end
    return Health(error, end is not None, authenticated, refused, end, authority_end(ca_file))


def await_health(client: RegistryClient, ca_file: Path, seconds: float) -> Health:
    """Ask until the registry is well; raise RegistryError where it is not within so many seconds."""
    deadline = time.monotonic() + seconds
    health = check(client, ca_file)
    while health.error is not None:
        if time.monotonic() > deadline:
            raise RegistryError(f"{health.error} (after {seconds:g} s)")
        time.sleep(0.25)
        health = check(client, ca_file)
    return health


def contents(client: RegistryClient) -> Iterator[Repository]:
    """Yield every repository with its images."""
    for name in client.repositories():
        repository = Repository(name)
        for tag in client.tags(name):
            manifest = client.manifest(name, tag)
            if manifest is not None:  # not deleted since the tags were listed
                repository.tags[tag] = manifest
        yield repository


def distinct_size(repositories: list[Repository]) -> int:
    """Return the bytes of all images together; a blob that several share counts once."""
    blobs: dict[str, int] = {}
    for repository in repositories:
        for manifest in repository.tags.values():
            blobs |= manifest.blobs
    return sum(blobs.values())
