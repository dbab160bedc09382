"""A path below another's root directory is seen as from there, whatever links its owner has put in the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from bailey.host.beneath import exists_beneath, open_beneath


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    inside = tmp_path / "root"
    (inside / "data").mkdir(parents=True)
    (inside / "data/file").touch()
    (tmp_path / "outside").touch()
    (inside / "absolute").symlink_to("/data")
    (inside / "escape").symlink_to("../outside")
    (inside / "host").symlink_to(tmp_path)
    (inside / "dangling").symlink_to("none")
    (inside / "loop").symlink_to("loop")
    descriptor = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(
    ("path", "exists"),
    [
        ("/", True),
        ("/data", True),
        ("data/file", True),
        ("/data/file", True),
        ("/absolute/file", True),
        ("/data/../data/file", True),
        ("/../../../data/file", True),
        ("/dangling", True),
        ("/loop", True),
        ("/none", False),
        ("/data/file/below", False),
        ("/dangling/below", False),
        ("/../outside", False),
        ("/escape", True),
        ("/escape/", False),
        ("/host/outside", False),
        ("/etc/passwd", False),
    ],
)
def test_paths_are_seen_from_the_root(root: int, path: str, exists: bool) -> None:
    assert exists_beneath(root, path) is exists


@pytest.mark.parametrize("path", ["/loop/below", "/" + "x" * 300])
def test_what_is_neither_is_an_error(root: int, path: str) -> None:
    with pytest.raises(OSError, match=r"Too many levels|too long"):
        exists_beneath(root, path)


def test_a_link_of_proc_is_not_followed() -> None:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        assert exists_beneath(root, "/proc/self/root")
        with pytest.raises(OSError, match="Too many levels"):
            exists_beneath(root, "/proc/self/root/etc")
    finally:
        os.close(root)


class TestOpening:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Iterator[int]:
        (tmp_path / "root/inside").mkdir(parents=True)
        (tmp_path / "root/inside/file").write_text("inside")
        (tmp_path / "root/link").symlink_to("/inside")
        (tmp_path / "root/up").symlink_to("../../outside")
        (tmp_path / "outside").write_text("outside")
        descriptor = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
        yield descriptor
        os.close(descriptor)

    def content(self, root: int, path: str, *, straight: bool = False) -> str:
        with os.fdopen(open_beneath(root, path, os.O_RDONLY, straight=straight)) as file:
            return file.read()

    def test_links_lead_below_the_root_alone(self, root: int) -> None:
        assert self.content(root, "/link/file") == "inside"
        assert self.content(root, "../../inside/file") == "inside"
        with pytest.raises(FileNotFoundError):
            self.content(root, "/up")

    def test_straight_takes_no_link_at_all(self, root: int) -> None:
        assert self.content(root, "inside/file", straight=True) == "inside"
        with pytest.raises(OSError, match="symbolic links"):
            self.content(root, "link/file", straight=True)

    def test_straight_goes_into_no_other_mount(self) -> None:
        machine = os.open("/", os.O_PATH | os.O_DIRECTORY)
        try:
            assert "cpu" in self.content(machine, "/proc/stat")
            with pytest.raises(OSError, match="cross-device"):
                self.content(machine, "/proc/stat", straight=True)
        finally:
            os.close(machine)
