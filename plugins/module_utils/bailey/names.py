"""Names of tenants, apps and instances, and the small names that derive from them."""

from __future__ import annotations

import re

from .errors import InvalidValueError

LABEL_NAME = "bailey.name"
LABEL_HASH = "bailey.hash"

# A recreated container's predecessor keeps this suffix until its successor is proven. A dot cannot stand in
# an instance's own name, so the two can never be confused.
PREDECESSOR_SUFFIX = ".bailey-old"

# Where a container has what the platform put into it: PID 1 and, below it, the socket that it boots from.
CONTAINER_DIRECTORY = "/.bailey"
WSHD = f"{CONTAINER_DIRECTORY}/wshd"
BOOT_DIRECTORY = f"{CONTAINER_DIRECTORY}/boot"

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def parse_name(field: str, value: object) -> str:
    """Accept a DNS label: it serves as container name, host name, directory name and log key."""
    if not isinstance(value, str) or not _LABEL.fullmatch(value):
        raise InvalidValueError(field, value, "1 to 63 lower-case letters, digits and inner hyphens, as in a DNS label")
    return value
