"""Which ids of the host the containers of a running dockerd have, by its own account and the host's files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import HostError
from ..host.idmap import IDENTITY, IdMap
from ..host.subids import SUBGID, SUBUID, range_of, read_ranges

_REMAPPED = re.compile(r"name=userns(,.*)?")
_ROOT = re.compile(r"([0-9]+)\.([0-9]+)")


def engine_ids(info: Mapping[str, Any], subuid: Path = SUBUID, subgid: Path = SUBGID) -> IdMap:
    """Return the mapping of an engine that answers GET /info so.

    A dockerd that remaps ids names its data root after the first uid and gid of its range, and read the range's end
    from /etc/subuid and /etc/subgid when it started. Raises HostError where they have no such range.
    """
    if not any(_REMAPPED.fullmatch(option) for option in info.get("SecurityOptions") or []):
        return IDENTITY
    match = _ROOT.fullmatch(PurePosixPath(info["DockerRootDir"]).name)
    if match is None:
        raise HostError(f"the engine remaps ids, and its data root {info['DockerRootDir']} does not tell to which")
    first, first_gid = int(match[1]), int(match[2])
    uids, gids = read_ranges(subuid), read_ranges(subgid)
    owners = {item.owner for item in uids if item.first == first}
    found = [ids for owner in owners if (ids := range_of(owner, uids, gids)) is not None and ids.base == first]
    if len(found) != 1 or first_gid != first:
        raise HostError(
            f"the engine remaps ids to uids from {first} and gids from {first_gid} on, which is not the one range, the"
            f" same in {subuid} and {subgid}, that an account of docker_userns_remap has; run role docker"
        )
    return found[0]
