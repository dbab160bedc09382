from __future__ import annotations

import base64
import io
import os
import tarfile
from pathlib import Path

import pytest

from plugins.module_utils.bailey.errors import InvalidValueError
from plugins.module_utils.bailey.images import context


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("hello")
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    (tmp_path / "run").write_text("#!/bin/sh\n")
    (tmp_path / "run").chmod(0o755)
    (tmp_path / "link").symlink_to("run")
    return tmp_path


def digest(root: Path) -> str:
    return context.digest(context.read_directory("context", root))


def test_times_and_owners_do_not_count(root: Path) -> None:
    before = digest(root)
    os.utime(root / "run", (1, 1))
    os.chown(root / "run", 12, 34)
    assert digest(root) == before


@pytest.mark.parametrize("change", ["content", "mode", "name", "kind", "target", "more", "less"])
def test_everything_else_counts(root: Path, change: str) -> None:
    before = digest(root)
    match change:
        case "content":
            (root / "site/index.html").write_text("hellp")
        case "mode":
            (root / "run").chmod(0o644)
        case "name":
            (root / "run").rename(root / "ran")
        case "kind":
            (root / "link").unlink()
            (root / "link").write_text("run")
        case "target":
            (root / "link").unlink()
            (root / "link").symlink_to("Dockerfile")
        case "more":
            (root / "empty").mkdir()
        case "less":
            (root / "link").unlink()
    assert digest(root) != before


def test_what_the_ignore_file_names_is_left_out(root: Path) -> None:
    (root / ".dockerignore").write_text("# none of these\nsite\n\nli*\n!link\n")
    paths = {entry.path for entry in context.read_directory("context", root)}
    assert paths == {".dockerignore", "Dockerfile", "run", "link"}


def test_the_archive_holds_what_the_digest_counts(root: Path) -> None:
    entries = context.read_directory("context", root)
    stream = io.BytesIO()
    context.write_tar(entries, stream, 1000)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        members = {member.name: member for member in archive.getmembers()}
        index = archive.extractfile("site/index.html")
        assert index is not None
        assert index.read() == b"hello"
    assert set(members) == {"Dockerfile", "link", "run", "site", "site/index.html"}
    assert (members["run"].mode, members["run"].mtime, members["run"].uid) == (0o755, 1000, 0)
    assert members["link"].linkname == "run"
    assert members["site"].isdir()


def test_special_files_and_missing_directories_are_refused(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(InvalidValueError, match=r"pipe' is not valid; allowed: regular files"):
        digest(root)
    with pytest.raises(InvalidValueError, match=r"^context: .*none"):
        digest(root / "none")


def inline(**values: str) -> dict[str, str]:
    return {"path": "a/b", "content": base64.b64encode(b"x").decode(), "mode": "0644", **values}


def test_inline_files_are_sorted_and_read() -> None:
    entries = context.read_inline("files", [inline(path="b"), inline(path="a", mode="0755")])
    assert [(entry.path, entry.mode, entry.read()) for entry in entries] == [("a", 0o755, b"x"), ("b", 0o644, b"x")]


@pytest.mark.parametrize(
    ("files", "field"),
    [
        ([inline(path="/etc/passwd")], r"files\[0\].path"),
        ([inline(path="../x")], r"files\[0\].path"),
        ([inline(path="a/./b")], r"files\[0\].path"),
        ([inline(path=".")], r"files\[0\].path"),
        ([inline(content="%%%")], r"files\[0\].content"),
        ([inline(mode="0888")], r"files\[0\].mode"),
        ([inline(mode="4755")], r"files\[0\].mode"),
        ([inline(mode="-1")], r"files\[0\].mode"),
        ([inline(), inline()], r"files\[1\].path"),
    ],
)
def test_wrong_inline_files_are_named(files: list[dict[str, str]], field: str) -> None:
    with pytest.raises(InvalidValueError, match=rf"^{field}: "):
        context.read_inline("files", files)
