"""Telling systemd of a container's limit that its engine keeps to itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from bailey.errors import CommandError
from bailey.host.cgroup import Group, Hierarchy
from bailey.host.scopes import keep_swap_off

CONTAINER = "c0ffee"
SCOPE = f"docker-{CONTAINER}.scope"


def group_at(root: Path, place: str, swap: str | None, version: int = 2) -> Group:
    directory = root / place
    directory.mkdir(parents=True)
    if swap is not None:
        (directory / "memory.swap.max").write_text(f"{swap}\n")
    found = Hierarchy(version, {"memory": root}).find(CONTAINER)
    assert found is not None
    return found


def test_a_scope_that_may_not_swap_is_told_of(tmp_path: Path) -> None:
    told: list[Sequence[str]] = []
    assert keep_swap_off(group_at(tmp_path, f"system.slice/{SCOPE}", "0"), told.append)
    assert told == [["systemctl", "set-property", "--runtime", SCOPE, "MemorySwapMax=0"]]


@pytest.mark.parametrize(
    ("place", "swap", "version"),
    [
        pytest.param(f"system.slice/{SCOPE}", "1048576", 2, id="what systemd has been told"),
        pytest.param(f"system.slice/{SCOPE}", "max", 2, id="unlimited"),
        pytest.param(f"system.slice/{SCOPE}", None, 2, id="a kernel without swap"),
        pytest.param(f"docker/{CONTAINER}", "0", 2, id="not systemd's"),
        pytest.param(f"system.slice/{SCOPE}", "0", 1, id="systemd limits no swap in v1"),
    ],
)
def test_nothing_else_is(tmp_path: Path, place: str, swap: str | None, version: int) -> None:
    told: list[Sequence[str]] = []
    assert not keep_swap_off(group_at(tmp_path, place, swap, version), told.append)
    assert told == []


def test_a_systemd_that_refuses_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate then stays closed: a limit that lasts until the next reload is none."""
    refusing = tmp_path / "bin" / "systemctl"
    refusing.parent.mkdir()
    refusing.write_text("#!/bin/sh\necho 'Unit not found.' >&2\nexit 5\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{refusing.parent}:/usr/bin:/bin")
    with pytest.raises(CommandError, match="Unit not found"):
        keep_swap_off(group_at(tmp_path / "groups", f"system.slice/{SCOPE}", "0"))
