"""Rules on files that appear where an instance can write, and the walk: bounded, resumed, and never led astray."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from bailey.host.idmap import IDENTITY, IdMap
from bailey.scan import look, places
from bailey.scan.places import Place, Walk, open_places, walk

from tests.unit.samples import REMAPPED
from tests.unit.scan.stage import EICAR, Stage

SHELL = b"<?php @eval(base64_decode($_POST['x'])); ?>"
CAPABILITY = bytes.fromhex("0100000200000000000000000000000000000000")


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that the instance sees as its volume /data."""
    path = tmp_path / "volume"
    path.mkdir()

    def opened(_pid: int, _proc: Path) -> list[Place]:
        return [Place("/data", os.open(path, os.O_RDONLY | os.O_DIRECTORY))]

    monkeypatch.setattr(look, "open_places", opened)
    return path


def put(path: Path, content: bytes = b"x", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


class TestSetuid:
    @pytest.mark.parametrize("mode", [0o4755, 0o4644, 0o2755])
    def test_a_mode(self, stage: Stage, volume: Path, mode: int) -> None:
        put(volume / "bin/become", mode=mode)
        stage.only(setuid_file="report")
        stage.scan()
        (finding,) = stage.found
        assert (finding.rule, finding.path, finding.pid) == ("setuid-file", "/data/bin/become", None)
        assert f"(mode {mode:04o})" in finding.detail
        assert len(finding.sha256) == 64

    @pytest.mark.parametrize(
        ("ids", "words"),
        [
            (IDENTITY, f"uid {REMAPPED.base} "),
            (REMAPPED, f"uid 0 (host {REMAPPED.base}) "),
            (None, f"uid {REMAPPED.base} of the host "),
        ],
    )
    def test_whose_it_is_is_told_as_inside(
        self, stage: Stage, volume: Path, monkeypatch: pytest.MonkeyPatch, ids: IdMap | None, words: str
    ) -> None:
        path = put(volume / "become")
        os.chown(path, REMAPPED.base, REMAPPED.base)
        path.chmod(0o4755)
        opened = lambda *_: [Place("/data", os.open(volume, os.O_RDONLY | os.O_DIRECTORY), ids)]  # noqa: E731
        monkeypatch.setattr(look, "open_places", opened)
        stage.only(setuid_file="report")
        stage.scan()
        assert [item.detail for item in stage.found] == [f"it runs as {words}(mode 4755)"]

    def test_capabilities(self, stage: Stage, volume: Path) -> None:
        os.setxattr(put(volume / "become", mode=0o755), "security.capability", CAPABILITY)
        stage.only(setuid_file="report")
        stage.scan()
        assert ["security.capability" in item.detail for item in stage.found] == [True]

    def test_what_is_none(self, stage: Stage, volume: Path) -> None:
        put(volume / "plain", mode=0o755)
        put(volume / "lock", mode=0o2644)  # mandatory locking, of old
        (volume / "shared").mkdir()
        (volume / "shared").chmod(0o2777)
        os.mkfifo(volume / "fifo", 0o4755)
        (volume / "link").symlink_to("/usr/bin/su")
        (volume / "outside").symlink_to("/usr/bin")
        stage.only(setuid_file="report")
        stage.scan()
        assert stage.found == []

    def test_a_hostile_name(self, stage: Stage, volume: Path) -> None:
        put(Path(os.fsdecode(os.fsencode(volume) + b"/a\n\x1b[2J\xff")), mode=0o4755)
        stage.only(setuid_file="report")
        stage.scan()
        assert [item.path for item in stage.found] == ["/data/a??[2J?"]


class TestFiles:
    def test_a_web_shell(self, stage: Stage, volume: Path) -> None:
        put(volume / "www/upload.php", SHELL)
        put(volume / "notes.txt", SHELL)
        stage.only(yara_file="report")
        stage.scan()
        (finding,) = stage.found
        assert (finding.rule, finding.path) == ("yara-file", "/data/www/upload.php")
        assert finding.detail == "bailey_webshells:php_runs_request matches a file that it can write to"

    def test_no_more_are_asked_about_than_allowed_and_the_next_scan_goes_on(self, stage: Stage, volume: Path) -> None:
        for number in range(6):
            put(volume / f"{number}.sh", EICAR + str(number).encode())
        stage.only(yara_file="report")
        found: set[str] = set()
        for _ in range(3):
            stage.scan(files=2)
            assert len(stage.found) <= 2
            found |= {item.path for item in stage.found}
        assert len(found) == 6


class TestWalk:
    @pytest.fixture
    def place(self, volume: Path) -> Iterator[Place]:
        place = Place("/data", os.open(volume, os.O_RDONLY | os.O_DIRECTORY))
        yield place
        place.close()

    def test_it_resumes_where_it_stopped(self, place: Place, volume: Path) -> None:
        for number in range(40):
            put(volume / f"{number % 4}/{number}", mode=0o4755)
        found: list[str] = []
        state, rounds = Walk(), 0
        while not rounds or state.waiting:
            state = Walk(state.waiting)
            found += [entry.path for entry in walk([place], state, 7) if entry.reason]
            assert state.entries <= 7
            rounds += 1
        assert (len(found), len(set(found)), rounds) == (40, 40, 7)

    def test_who_stops_in_the_middle_loses_nothing(self, place: Place, volume: Path) -> None:
        for number in range(10):
            put(volume / f"d{number}/x", mode=0o4755)
        put(volume / "y", mode=0o4755)
        state, found = Walk(), set()
        for _ in range(11):
            walking = walk([place], state, 1000)
            found.add(next(walking).path)
            walking.close()
        assert len(found) == 11

    def test_a_directory_that_becomes_a_link_leads_nowhere(self, place: Place, volume: Path, tmp_path: Path) -> None:
        put(tmp_path / "outside/become", mode=0o4755)
        (volume / "inside").symlink_to(tmp_path / "outside")
        state = Walk([("0:inside", 0), ("0:..", 0), ("0:inside/../../outside", 0), ("7:", 0), ("x", 0)])
        assert [entry.path for entry in walk([place], state, 100)] == []

    def test_depth_and_number_of_directories_are_bounded(
        self, place: Place, volume: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(volume / "/".join("d" * 70) / "x", mode=0o4755)
        state = Walk()
        assert list(walk([place], state, 1000)) == []
        assert state.unreached == 1
        monkeypatch.setattr(places, "_WAITING_MAX", 3)
        for number in range(9):
            (volume / f"wide{number}").mkdir()
        state = Walk()
        list(walk([place], state, 1000))
        assert state.unreached >= 6


class TestWhere:
    def test_of_a_process_what_is_writable(self, tmp_path: Path) -> None:
        """From its mounts: a volume, and of an overlay what lies above the image; nothing that is read-only."""
        proc, root, upper = tmp_path / "proc/7", tmp_path / "root", tmp_path / "upper"
        for path in (proc, root / "data", root / "tmp", root / "image", upper):
            path.mkdir(parents=True)
        put(root / "etc/hosts")
        (proc / "root").symlink_to(root)
        (root / "data/mine").touch()
        (upper / "written").touch()
        lines = [
            f"1 0 0:1 / / rw - overlay overlay rw,lowerdir=/l,upperdir={upper},workdir=/w",
            "2 1 0:2 /v /data rw - btrfs /dev/loop0 rw",
            "3 1 0:3 / /tmp rw - tmpfs tmpfs rw",
            "4 1 0:4 / /image ro - ext4 /dev/vda rw",
            "5 1 0:5 /h /etc/hosts rw - ext4 /dev/vda rw",
            "6 1 0:6 / /proc rw - proc proc rw",
            "7 1 0:7 / /gone rw - tmpfs tmpfs rw",
        ]
        (proc / "mountinfo").write_text("\n".join(lines) + "\n")
        found = open_places(7, tmp_path / "proc")
        assert [(place.shown, sorted(entry.name for entry in os.scandir(place.descriptor))) for place in found] == [
            ("/", ["written"]),
            ("/data", ["mine"]),
            ("/tmp", []),
        ]
        assert all(stat.S_ISDIR(os.fstat(place.descriptor).st_mode) for place in found)
        for place in found:
            place.close()

    def test_a_mount_point_that_leads_outside_does_not(self, tmp_path: Path) -> None:
        proc, root = tmp_path / "proc/7", tmp_path / "root"
        proc.mkdir(parents=True)
        root.mkdir()
        (tmp_path / "outside").mkdir()
        (proc / "root").symlink_to(root)
        (root / "data").symlink_to("../../outside")
        (proc / "mountinfo").write_text("2 1 0:2 /v /data rw - btrfs /dev/loop0 rw\n")
        assert open_places(7, tmp_path / "proc") == []

    def test_who_has_ended_has_none(self, tmp_path: Path) -> None:
        assert open_places(7, tmp_path) == []
