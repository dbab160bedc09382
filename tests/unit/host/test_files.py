"""A file that is written is whole, old or new, whatever happens."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from bailey.host import files


def test_a_new_file_has_its_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    previous = os.umask(0o077)
    try:
        files.write_atomic(path, b"{}", mode=0o644)
    finally:
        os.umask(previous)
    assert path.read_bytes() == b"{}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_file_is_private_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    files.write_atomic(tmp_path / "key", b"secret")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_an_old_file_is_replaced_and_not_written_into(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        files.write_atomic(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["spec.json"]


def test_a_file_gets_its_owner(tmp_path: Path) -> None:
    owner = (12345, 54321) if os.geteuid() == 0 else (os.geteuid(), os.getegid())  # only root may give it away
    files.write_atomic(tmp_path / "data", b"", uid=owner[0], gid=owner[1])
    status = (tmp_path / "data").stat()
    assert (status.st_uid, status.st_gid) == owner


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "directory"
    target.mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_atomic(target, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["directory"]


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write_atomic(tmp_path / "missing/spec.json", b"")


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert files.read_text(tmp_path / "file") == "text"
    assert files.read_text(tmp_path / "missing") is None
    assert files.read_text(tmp_path / "file/below") is None
