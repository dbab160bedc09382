"""Looking into a container's files from the host, without running anything inside."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..host.beneath import exists_beneath
from .client import Client
from .errors import UnreachableError

_PROC = Path("/proc")


def paths_that_exist(client: Client, paths: Sequence[str]) -> set[str]:
    """Return which of the absolute paths exist inside, seen through the root directory of the container's PID 1.

    The kernel says who listens on the control socket. That it answers after its directory was opened proves that
    the number was still its own then.
    """
    roots: list[int] = []

    def look(pid: int) -> None:
        try:
            roots.append(os.open(_PROC / str(pid) / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            raise UnreachableError(f"{client.path}: its files cannot be seen ({error.strerror})") from error

    try:
        client.ping(greet=look)
        return {path for path in paths if exists_beneath(roots[-1], path)}
    finally:
        for root in roots:
            os.close(root)
