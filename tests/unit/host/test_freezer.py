"""Freezing a group in both hierarchies, laid out as the kernel does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bailey.host.cgroup import Group, Hierarchy
from bailey.host.freezer import freeze, is_frozen, thaw

CONTAINER = "c0ffee"
CONTROLLERS = ("memory", "freezer")


@pytest.fixture(params=[1, 2])
def group(request: pytest.FixtureRequest, tmp_path: Path) -> Group:
    version = request.param
    roots = {name: tmp_path / name if version == 1 else tmp_path for name in CONTROLLERS}
    for root in roots.values():
        (root / "docker" / CONTAINER).mkdir(parents=True, exist_ok=True)
    found = Hierarchy(version, roots).find(CONTAINER)
    assert found is not None
    file_of(found).write_text("THAWED\n" if version == 1 else "0\n")
    return found


def file_of(group: Group) -> Path:
    own = group.paths["freezer"]
    return own / ("freezer.state" if own != group.paths["memory"] else "cgroup.freeze")


def test_the_kernel_is_told_in_its_hierarchys_words(group: Group) -> None:
    v1 = file_of(group).name == "freezer.state"
    freeze(group)
    assert file_of(group).read_text() == ("FROZEN" if v1 else "1")
    thaw(group)
    assert file_of(group).read_text() == ("THAWED" if v1 else "0")


def test_it_is_read_back(group: Group) -> None:
    assert not is_frozen(group)
    freeze(group)
    assert is_frozen(group)
    thaw(group)
    assert not is_frozen(group)


@pytest.mark.parametrize(
    ("text", "frozen"), [("FREEZING\n", True), ("FROZEN\n", True), ("1\n", True), ("THAWED\n", False), ("0\n", False)]
)
def test_one_that_is_about_to_be_frozen_counts(group: Group, text: str, frozen: bool) -> None:
    file_of(group).write_text(text)
    assert is_frozen(group) is frozen


@pytest.mark.parametrize("change", [freeze, thaw])
def test_a_group_that_has_gone_is_an_error_and_is_not_frozen(group: Group, change: Callable[[Group], None]) -> None:
    shutil.rmtree(group.paths["freezer"])
    with pytest.raises(FileNotFoundError):
        change(group)
    assert not is_frozen(group)
