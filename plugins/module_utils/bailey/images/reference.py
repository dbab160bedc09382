"""Names of images: a repository, and the tags that Bailey gives in it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InvalidValueError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN = r"(?:localhost|(?:[A-Za-z0-9-]+\.)+[A-Za-z0-9-]+|[A-Za-z0-9-]+(?=:[0-9])|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_REPOSITORY = re.compile(rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_INPUTS_TAG = re.compile(r"[0-9a-f]{12}")
_MAX_REPOSITORY = 255


@dataclass(frozen=True)
class Repository:
    """A repository of images, such as registry.example:5000/bailey/python; `domain` is empty where none is named."""

    domain: str
    path: str

    def __str__(self) -> str:
        return f"{self.domain}/{self.path}" if self.domain else self.path

    def tagged(self, tag: str) -> str:
        """Return the reference of one image in this repository."""
        return f"{self}:{tag}"


def parse_repository(field: str, value: object) -> Repository:
    """Read a repository's name; a tag or digest in it is refused."""
    match = _REPOSITORY.fullmatch(value) if isinstance(value, str) and len(value) <= _MAX_REPOSITORY else None
    if match is None:
        raise InvalidValueError(
            field, value, "a repository without tag or digest, such as registry.example:5000/bailey/python"
        )
    return Repository(match["domain"] or "", match["path"])


def parse_tag(field: str, value: object) -> str:
    """Read the tag that follows the newest image; the form of the inputs' tags is kept for those."""
    if not isinstance(value, str) or _TAG.fullmatch(value) is None:
        raise InvalidValueError(field, value, "a tag of at most 128 letters, digits, '_', '.' and '-'")
    if is_inputs_tag(value):
        raise InvalidValueError(field, value, "a tag that is not 12 hexadecimal digits: those name an image's inputs")
    return value


def inputs_tag(fingerprint: str) -> str:
    """Return the tag that names an image by its inputs."""
    return fingerprint[:12]


def is_inputs_tag(tag: str) -> bool:
    """Say whether a tag has the form that names an image by its inputs."""
    return _INPUTS_TAG.fullmatch(tag) is not None


def split_tag(reference: str) -> tuple[str, str]:
    """Split a reference without digest into repository and tag; without a tag the engines mean latest."""
    repository, separator, tag = reference.rpartition(":")
    if not separator or "/" in tag:
        return reference, "latest"
    return repository, tag
