"""Which images of a repository must stay: the newest, and whatever a container is or may be made from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..changes import Json
from ..errors import BaileyError
from .engine import Container, Image
from .reference import Repository, is_inputs_tag, split_tag


@dataclass(frozen=True)
class Use:
    """Somebody who needs an image: a container, or a declared spec; `image` is a reference or an ID."""

    user: str
    image: str
    image_id: str | None = None

    def needs(self, image: Image) -> bool:
        """Say whether it is this image that is needed."""
        if self.image_id == image.image_id or self.image in image.digests:
            return True
        if self.image in (image.image_id, image.image_id.removeprefix("sha256:")):
            return True
        return ":".join(split_tag(self.image)) in image.tags


def container_uses(containers: Iterable[Container]) -> list[Use]:
    """Return what containers use, running or not."""
    return [Use(f"container {item.name}", item.image_id, item.image_id) for item in containers]


def declared_uses(directory: Path) -> list[Use]:
    """Return what the spec files of a host declare; one that cannot be read stops everything that removes."""
    uses: list[Use] = []
    for path in sorted(directory.glob("*.json")):
        try:
            document = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise BaileyError(f"{path}: cannot be read, so it is not known which image it needs: {error}") from error
        uses += [Use(f"spec {path.stem}", image) for image in _images(document)]
    return uses


def _images(value: Json) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _images(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "image" and isinstance(item, str):
                yield item
            else:
                yield from _images(item)


def tags_of(repository: Repository, image: Image) -> list[str]:
    """Return the tags that an image has in one repository."""
    prefix = f"{repository}:"
    return sorted(tag.removeprefix(prefix) for tag in image.tags if tag.startswith(prefix))


def inputs_tags(repository: Repository, image: Image) -> list[str]:
    """Return the tags that name an image by its inputs; a foreign tag of that form does not count."""
    return [tag for tag in tags_of(repository, image) if is_inputs_tag(tag) and (image.inputs or "").startswith(tag)]


def surplus(
    repository: Repository, images: Sequence[Image], keep: int, current: str | None, uses: Sequence[Use]
) -> list[str]:
    """Return the inputs' tags to remove so that `keep` remain, `current` (a tag) and used ones always among them."""
    named = [image for image in images if inputs_tags(repository, image)]
    named.sort(key=lambda image: (current in inputs_tags(repository, image), image.used_at), reverse=True)
    unused = [image for image in named[keep:] if not any(use.needs(image) for use in uses)]
    return sorted(tag for image in unused for tag in inputs_tags(repository, image))
