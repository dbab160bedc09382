"""Which ids an engine gives its containers, out of what it tells of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bailey.backends.docker_ids import engine_ids
from bailey.errors import HostError
from bailey.host.idmap import IDENTITY, IdMap

from tests.unit.samples import REMAPPED

LINES = f"ada:100000:65536\nbailey-remap:{REMAPPED.base}:{REMAPPED.size}\n"
SECURITY = ["name=seccomp,profile=default", "name=userns"]


def info(root: str = f"/var/lib/docker/{REMAPPED.root_name}", security: Any = SECURITY) -> dict[str, Any]:
    return {"SecurityOptions": security, "DockerRootDir": root}


def ids(tmp_path: Path, answer: dict[str, Any], uids: str = LINES, gids: str = LINES) -> IdMap:
    (tmp_path / "subuid").write_text(uids)
    (tmp_path / "subgid").write_text(gids)
    return engine_ids(answer, tmp_path / "subuid", tmp_path / "subgid")


@pytest.mark.parametrize("security", [None, [], ["name=seccomp,profile=default", "name=no-new-privileges"]])
def test_an_engine_that_remaps_none_has_the_hosts(tmp_path: Path, security: Any) -> None:
    assert ids(tmp_path, info("/var/lib/docker", security), "ada") == IDENTITY


def test_the_range_begins_where_the_engine_says_and_ends_where_the_files_do(tmp_path: Path) -> None:
    assert ids(tmp_path, info()) == REMAPPED
    assert ids(tmp_path, info("/var/lib/docker/100000.100000")) == IdMap(100_000, 65_536)


@pytest.mark.parametrize(
    ("root", "uids", "gids"),
    [
        ("/var/lib/docker", LINES, LINES),
        ("/var/lib/docker/5.5", LINES, LINES),
        (f"/var/lib/docker/{REMAPPED.base}.5", LINES, LINES),
        (f"/var/lib/docker/{REMAPPED.root_name}", LINES, ""),
        (f"/var/lib/docker/{REMAPPED.root_name}", LINES, LINES.replace(str(REMAPPED.size), "65536")),
        (f"/var/lib/docker/{REMAPPED.root_name}", f"{LINES}bailey-remap:5:6\n", f"{LINES}bailey-remap:5:6\n"),
    ],
)
def test_a_range_that_is_not_known_is_an_error(tmp_path: Path, root: str, uids: str, gids: str) -> None:
    with pytest.raises(HostError, match="the engine remaps ids"):
        ids(tmp_path, info(root), uids, gids)
