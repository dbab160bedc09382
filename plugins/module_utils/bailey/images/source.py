"""What an image can be made from: a root file system, a build context, or a saved archive.

Each source says what its result depends on (`inputs`), as plain data without secrets. The digest of
that is the image's label, and an image is made again only when it differs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..changes import Json
from ..errors import BaileyError, InvalidSecretError, InvalidValueError
from . import context

# Raised whenever what is made from the same inputs changes, so that every image is made anew.
_FORMAT = 1
_ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_NAME = re.compile(r"passw|secret|token|credential|api_?key|private_?key", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"://[^/@\s]*:[^/@\s]*@")
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
CA_BUNDLE = "ca-bundle.crt"


class MissingInputError(BaileyError):
    """Something that an image is made from is not there (yet: in check mode an earlier task would make it)."""


class Bases(Protocol):
    """Finds the image that a build starts from."""

    def image_id(self, reference: str) -> str | None:
        """Return an image's ID, or None where the engine has no such image."""


def fingerprint(inputs: Mapping[str, Json]) -> str:
    """Return the digest of inputs, whatever their order."""
    text = json.dumps({"format": _FORMAT, **inputs}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class ImageConfig:
    """How a container of an imported root file system starts where nothing else is declared."""

    cmd: Sequence[str] = ()
    entrypoint: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = ""

    def __post_init__(self) -> None:
        for name, value in (("user", self.user), ("workdir", self.workdir)):
            if re.search(r"[\s$\"'\\]", value):
                raise InvalidValueError(f"rootfs.{name}", value, "a text without blanks, quotes and dollar signs")
        for name, value in self.env.items():
            if _ARGUMENT.fullmatch(name) is None:
                raise InvalidValueError("rootfs.env", name, "names of letters, digits and '_'")
            if not value.isprintable():
                raise InvalidValueError(f"rootfs.env.{name}", value, "printable characters only")

    def changes(self) -> list[str]:
        """Return the instructions that an import applies."""
        lines = [f"ENV {name}={_quoted(value)}" for name, value in sorted(self.env.items())]
        lines += [f"USER {self.user}"] if self.user else []
        lines += [f"WORKDIR {self.workdir}"] if self.workdir else []
        lines += [f"ENTRYPOINT {json.dumps(list(self.entrypoint))}"] if self.entrypoint else []
        lines += [f"CMD {json.dumps(list(self.cmd))}"] if self.cmd else []
        return lines


def _quoted(value: str) -> str:
    return '"' + re.sub(r'(["\\$])', r"\\\1", value) + '"'


@dataclass(frozen=True)
class RootfsSource:
    """A root file system: a directory, or a tar archive in any compression that the engine reads."""

    path: Path
    config: ImageConfig = ImageConfig()

    def inputs(self, _bases: Bases) -> dict[str, Json]:
        """Return what the image depends on."""
        return {"kind": "rootfs", "content": self._digest(), "config": list(self.config.changes())}

    def _digest(self) -> str:
        if self.path.is_dir():
            if self.path.resolve() == Path("/"):
                raise InvalidValueError("rootfs.path", str(self.path), "a directory other than the host's own root")
            return _tree_digest(self.path)
        if not self.path.exists():
            raise MissingInputError(f"rootfs.path: there is no {self.path} on this host")
        if not self.path.is_file() or not _is_archive(self.path):
            raise InvalidValueError("rootfs.path", str(self.path), "a directory or a tar archive")
        return file_digest(self.path)


def _is_archive(path: Path) -> bool:
    if tarfile.is_tarfile(path):
        return True
    with path.open("rb") as stream:
        return stream.read(4) == b"\x28\xb5\x2f\xfd"  # zstd, which the engine unpacks and tarfile does not yet


def _tree_digest(root: Path) -> str:
    total = hashlib.sha256()
    for path in _walk(root):
        status = path.lstat()
        parts = [path.relative_to(root).as_posix(), f"{status.st_mode:o}", str(status.st_uid), str(status.st_gid)]
        if stat.S_ISLNK(status.st_mode):
            parts.append(str(path.readlink()))
        elif stat.S_ISREG(status.st_mode):
            parts.append(file_digest(path))
        else:
            parts.append(str(status.st_rdev))
        total.update("\0".join(parts).encode(errors="surrogateescape") + b"\n")
    return total.hexdigest()


def _walk(root: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(root):
        names.sort()
        for name in sorted([*names, *files]):
            yield Path(directory, name)


@dataclass(frozen=True)
class BuildSource:
    """A build context with its Dockerfile, and what the build is given."""

    entries: Sequence[context.Entry]
    dockerfile: str = "Dockerfile"
    args: Mapping[str, str] = field(default_factory=dict)
    base: str = ""
    network: str = ""
    ca_bundle: Path | None = None

    def __post_init__(self) -> None:
        if not any(entry.path == self.dockerfile and entry.content is not None for entry in self.entries):
            raise InvalidValueError("build.dockerfile", self.dockerfile, "a file of the build's context")
        if any(entry.path == CA_BUNDLE for entry in self.entries):
            raise InvalidValueError("build", CA_BUNDLE, "a context without a file of this name: it is put there")
        if self.network and _NETWORK.fullmatch(self.network) is None:
            raise InvalidValueError("build.network", self.network, "a network's name, or host, or none")
        _check_arguments(self.args)

    def inputs(self, bases: Bases) -> dict[str, Json]:
        """Return what the image depends on.

        The bundle of authorities is left out: it is how the build reaches its sources, and not in the result.
        """
        result: dict[str, Json] = {
            "kind": "build",
            "content": context.digest(self.entries),
            "dockerfile": self.dockerfile,
            "args": dict(self.args),
            "network": self.network,
        }
        if self.base:
            base = bases.image_id(self.base)
            if base is None:
                raise MissingInputError(f"build.base: the engine has no image {self.base}")
            result["base"] = base
        return result

    def staged(self) -> list[context.Entry]:
        """Return the context as it is sent, with the bundle of authorities (empty where there is none)."""
        bundle: bytes | Path = self.ca_bundle if self.ca_bundle is not None else b""
        return [*self.entries, context.Entry(CA_BUNDLE, 0o644, bundle)]

    def arguments(self) -> dict[str, str]:
        """Return the build arguments; the base image is the argument BASE."""
        return {**self.args, **({"BASE": self.base} if self.base else {})}


def _check_arguments(args: Mapping[str, str]) -> None:
    """Refuse what is not a name, and secrets: everybody who has the image reads them in its history."""
    for name, value in args.items():
        if _ARGUMENT.fullmatch(name) is None or name == "BASE":
            raise InvalidValueError("build.args", name, "names of letters, digits and '_'; BASE is set by build.base")
        if _SECRET_NAME.search(name) or _SECRET_VALUE.search(value):
            raise InvalidSecretError(
                f"build.args.{name}", "values without secrets: everybody who has the image can read its arguments"
            )


@dataclass(frozen=True)
class ArchiveSource:
    """An archive with exactly one image, as `docker save` writes it."""

    path: Path

    def inputs(self, _bases: Bases) -> dict[str, Json]:
        """Return what the image depends on."""
        if not self.path.exists():
            raise MissingInputError(f"archive: there is no {self.path} on this host")
        self.saved_tags()
        return {"kind": "archive", "content": file_digest(self.path)}

    def saved_tags(self) -> list[str]:
        """Return the references that loading the archive would set; refuse what is not one saved image."""
        try:
            with tarfile.open(self.path) as archive:
                member = archive.extractfile("manifest.json")
                manifest = json.loads(member.read()) if member is not None else None
            tags = manifest[0]["RepoTags"] or [] if manifest is not None and len(manifest) == 1 else None
        except (OSError, tarfile.TarError, KeyError, TypeError, ValueError):
            tags = None
        if tags is None:
            raise InvalidValueError("archive", str(self.path), "an archive that holds one image, as docker save writes")
        return [str(tag) for tag in tags]


Source = RootfsSource | BuildSource | ArchiveSource
