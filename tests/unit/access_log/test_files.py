"""The log's files: how much is on disk, and that every line in them is whole."""

from __future__ import annotations

import errno
import grp
import os
from pathlib import Path

import pytest
from bailey.access_log.files import LogFiles, file_numbers, former

SIZE = 4096


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.json"


def numbered(first: int, count: int) -> list[bytes]:
    return [b"%0100d\n" % number for number in range(first, first + count)]


def on_disk(log: Path) -> list[Path]:
    return [former(log, number) for number in file_numbers(log)]


def content(log: Path) -> list[bytes]:
    """Return all lines, the oldest first."""
    return [line for path in reversed(on_disk(log)) for line in path.read_bytes().splitlines(keepends=True)]


class TestRotation:
    def test_lines_go_on_in_the_next_file(self, log: Path) -> None:
        files = LogFiles(log, SIZE, 5)
        assert files.write(numbered(0, 100)) == 100
        assert content(log) == numbered(0, 100)
        assert len(on_disk(log)) == 3

    @pytest.mark.parametrize("count", [1, 2, 7])
    def test_never_more_is_on_disk_than_the_bound(self, log: Path, count: int) -> None:
        files = LogFiles(log, SIZE, count)
        for first in range(0, 3000, 7):
            assert files.write(numbered(first, 7)) == 7
            sizes = [path.stat().st_size for path in on_disk(log)]
            assert len(sizes) <= count
            assert max(sizes) <= SIZE
        kept = content(log)
        assert kept == numbered(3003 - len(kept), len(kept))
        assert len(kept) * 101 > SIZE * (count - 1) * 0.9

    def test_it_goes_on_where_the_last_writer_was(self, log: Path) -> None:
        for first in range(0, 100, 10):
            files = LogFiles(log, SIZE, 5)
            files.write(numbered(first, 10))
            files.close()
        assert content(log) == numbered(0, 100)

    def test_narrower_bounds_hold_for_what_is_there(self, log: Path) -> None:
        LogFiles(log, SIZE, 10).write(numbered(0, 400))
        LogFiles(log, 2048, 4).write(numbered(400, 1))
        assert sum(path.stat().st_size for path in on_disk(log)) <= 4 * 2048
        assert content(log)[-1:] == numbered(400, 1)
        (log.parent / "access.json.old").touch()  # not one of the log's
        LogFiles(log, 2048, 1).write(numbered(401, 1))
        assert on_disk(log) == [log]
        assert (log.parent / "access.json.old").exists()

    def test_a_line_that_is_longer_than_a_file_stands_alone(self, log: Path) -> None:
        files = LogFiles(log, SIZE, 3)
        files.write([b"a\n", b"x" * SIZE + b"\n", b"b\n"])
        assert [path.read_bytes()[:1] for path in on_disk(log)] == [b"b", b"x", b"a"]


class TestFile:
    def test_it_is_for_root_and_the_readers_of_logs(self, log: Path) -> None:
        LogFiles(log.parent / "new/access.json", SIZE, 2).write([])
        status = (log.parent / "new/access.json").stat()
        assert status.st_mode & 0o777 == 0o640
        assert status.st_gid in (grp.getgrnam("adm").gr_gid, os.getgid())

    def test_one_that_is_taken_away_is_made_again(self, log: Path) -> None:
        files = LogFiles(log, SIZE, 2)
        files.write([b"a\n"])
        log.rename(log.with_name("elsewhere"))
        assert files.write([b"b\n"]) == 1
        assert log.read_bytes() == b"b\n"

    @pytest.mark.parametrize(("torn", "left"), [(b"a\nb", b"a\n"), (b"b", b""), (b"", b""), (b"a\n", b"a\n")])
    def test_a_line_that_a_crash_has_torn_is_taken_away(self, log: Path, torn: bytes, left: bytes) -> None:
        log.write_bytes(torn)
        LogFiles(log, SIZE, 2).write([b"c\n"])
        assert log.read_bytes() == left + b"c\n"


class TestNoRoom:
    def test_what_finds_none_is_told_and_the_next_is_tried_again(
        self, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = LogFiles(log, SIZE, 2)
        write = os.write

        def refuse(*_: object) -> int:
            raise OSError(errno.ENOSPC, "no room")

        monkeypatch.setattr(os, "write", refuse)
        assert files.write(numbered(0, 3)) == 0
        monkeypatch.setattr(os, "write", write)
        assert files.write(numbered(3, 3)) == 3
        assert content(log) == numbered(3, 3)

    def test_a_line_that_is_taken_in_part_is_taken_away(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = LogFiles(log, SIZE, 2)
        write = os.write
        monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:250]))
        assert files.write(numbered(0, 5)) == 2
        monkeypatch.setattr(os, "write", write)
        assert files.write(numbered(5, 1)) == 1
        assert content(log) == numbered(0, 2) + numbered(5, 1)

    def test_a_directory_that_cannot_be_is_no_end(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert LogFiles(tmp_path / "file/access.json", SIZE, 2).write([b"a\n"]) == 0
