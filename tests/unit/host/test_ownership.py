"""A volume's files change their owners together with the engine's ids, whatever a tenant has left, and cut off too."""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bailey.errors import HostError
from bailey.host import ownership
from bailey.host.idmap import IDENTITY, IdMap
from bailey.host.ownership import MARK, bring, convert, converted_acl, marked
from bailey.host.subids import SIZE

ONE, TWO, THREE = (IdMap(0x70000000 + number * SIZE, SIZE) for number in range(3))
UID = 200_005
Owner = tuple[int, int]


def acl(*named: int) -> bytes:
    """Return an access control list that names users beside the owner, as the kernel shows one."""
    entries = [(0x01, 6, 2**32 - 1), *((0x02, 4, number) for number in named), (0x04, 4, 2**32 - 1)]
    entries += [(0x08, 4, named[0]), (0x10, 4, 2**32 - 1), (0x20, 0, 2**32 - 1)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A volume that a tenant has used: its own files, some of root's, a link out, and what else there may be."""
    root, outside = tmp_path / "volumes/web", tmp_path / "outside"
    data = root / "data"
    (data / "deep/er").mkdir(parents=True)
    outside.write_text("not the tenant's")
    (data / "file").write_text("kept")
    (data / "deep/er/roots").write_text("by docker exec")
    (data / "link").symlink_to(outside)
    (data / "away").symlink_to(tmp_path)
    os.mkfifo(data / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(data / "socket"))
    for path in (data, *data.rglob("*")):
        os.chown(path, UID, UID, follow_symlinks=False)
    os.chown(data / "deep/er/roots", 0, UID)
    os.link(data / "file", data / "deep/same")
    return root


def owners(root: Path) -> dict[str, Owner]:
    """Return the owner and group of everything below a volume's root, and of the root."""
    paths = {".": root, **{str(path.relative_to(root)): path for path in root.rglob("*")}}
    return {name: (path.lstat().st_uid, path.lstat().st_gid) for name, path in paths.items()}


def shifted(before: dict[str, Owner], ids: IdMap) -> dict[str, Owner]:
    moved = {name: (ids.to_host(uid), ids.to_host(gid)) for name, (uid, gid) in before.items()}
    return {**moved, ".": before["."]}


def test_everything_below_the_root_is_moved_and_nothing_beside_it(root: Path, tmp_path: Path) -> None:
    before = owners(root)
    outside = [(path, path.stat().st_uid) for path in (tmp_path, tmp_path / "outside")]
    assert marked(root) == [IDENTITY]
    assert bring(root, ONE)
    assert owners(root) == shifted(before, ONE)
    assert marked(root) == [ONE]
    assert [(path, path.stat().st_uid) for path, _ in outside] == outside
    assert (root / "data/file").read_text() == "kept"


def test_it_is_done_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(root, ONE)
    monkeypatch.setattr(ownership, "_directories", pytest.fail)
    assert not bring(root, ONE)


def test_the_way_back_leaves_nothing(root: Path) -> None:
    before = owners(root)
    bring(root, ONE)
    assert bring(root, IDENTITY)
    assert owners(root) == before
    assert MARK not in os.listxattr(root)
    assert not bring(root, IDENTITY)


def test_from_one_range_to_another(root: Path) -> None:
    before = owners(root)
    bring(root, ONE)
    assert bring(root, TWO)
    assert owners(root) == shifted(before, TWO)


def cut_off(root: Path, ids: IdMap, after: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Begin to bring a volume to a mapping, and have it fail at some change of an owner; return how many were made."""
    real, done = os.chown, 0

    def chown(*arguments: Any, **options: Any) -> None:
        nonlocal done
        if done == after:
            raise OSError(5, "the disk has gone")
        done += 1
        real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ownership.os, "chown", chown)
        with pytest.raises(HostError, match="the disk has gone; the next run goes on with that"):
            bring(root, ids)
    return done


@pytest.mark.parametrize("after", range(9))
@pytest.mark.parametrize("wanted", [IDENTITY, ONE, TWO])
def test_what_was_cut_off_anywhere_is_taken_up_again_also_by_another_mapping(
    root: Path, after: int, wanted: IdMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = owners(root)
    assert cut_off(root, ONE, after, monkeypatch) == after
    assert marked(root) == [IDENTITY, ONE]
    assert bring(root, wanted)
    assert owners(root) == (before if wanted == IDENTITY else shifted(before, wanted))
    assert marked(root) == [wanted]


def test_it_may_be_cut_off_again_and_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = owners(root)
    for ids, after in ((ONE, 3), (TWO, 2), (IDENTITY, 1), (THREE, 3)):
        cut_off(root, ids, after, monkeypatch)
    assert set(marked(root)) == {IDENTITY, ONE, TWO, THREE}
    assert bring(root, TWO)
    assert owners(root) == shifted(before, TWO)


def test_a_range_that_has_become_longer_has_the_same_ids(root: Path) -> None:
    bring(root, ONE)
    before = owners(root)
    assert not bring(root, IdMap(ONE.base, 2 * SIZE))
    assert owners(root) == before


def test_an_empty_volume_is_only_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "_flush_all", pytest.fail)
    assert bring(tmp_path, ONE)
    assert marked(tmp_path) == [ONE]
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", ONE.to_host(UID), ONE.to_host(UID))
    assert not bring(tmp_path, ONE)


def test_mappings_that_cannot_be_told_apart_are_refused(root: Path) -> None:
    bring(root, ONE)
    before = owners(root)
    with pytest.raises(HostError, match=r"cannot be told: .* overlap"):
        bring(root, IdMap(ONE.base + 1, SIZE))
    assert owners(root) == before
    assert marked(root) == [ONE]


def test_low_ranges_are_not_told_from_the_hosts_own_ids(root: Path) -> None:
    with pytest.raises(HostError, match="cannot be told"):
        bring(root, IdMap(100_000, 300_000))


def test_a_mark_that_cannot_be_read_is_named(root: Path) -> None:
    os.setxattr(root, MARK, b"soon")
    with pytest.raises(HostError, match=r"trusted\.bailey\.ids cannot be read"):
        bring(root, ONE)


def test_a_tree_may_be_deeper_than_descriptors_and_stack_allow(tmp_path: Path) -> None:
    depth, root = 3000, tmp_path / "web"
    root.mkdir()
    current = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=current)
        os.chown("d", UID, UID, dir_fd=current)
        below = os.open("d", os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = below
    try:
        bring(root, ONE)
        status = os.fstat(current)
        seen = sum(1 for _ in ownership._directories(root))
    finally:
        os.close(current)
        subprocess.run(["rm", "-rf", root], check=True)  # pytest would not come to the bottom of it
    assert (status.st_uid, status.st_gid) == (ONE.to_host(UID), ONE.to_host(UID))
    assert seen == depth + 1


def test_another_file_system_is_not_entered(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstat
    inode = (root / "data/deep").stat().st_ino

    def fstat(descriptor: int) -> os.stat_result:
        found = real(descriptor)
        return found if found.st_ino != inode else os.stat_result((*found[:2], found.st_dev + 1, *found[3:10]))

    monkeypatch.setattr(ownership.os, "fstat", fstat)
    with pytest.raises(HostError, match="another file system lies in it"):
        bring(root, ONE)
    assert (root / "data/deep/er").stat().st_uid == UID


def test_a_directory_that_is_moved_away_meanwhile_ends_it(root: Path, tmp_path: Path) -> None:
    walk = ownership._directories(root)
    with pytest.raises(OSError, match="moved meanwhile"):  # noqa: PT012 - it is moved in the middle of the walk
        for directory, names in walk:
            assert os.fstat(directory).st_dev == tmp_path.stat().st_dev
            if "er" in names:
                (root / "data/deep").rename(tmp_path / "elsewhere")


def test_set_id_bits_go_with_the_owner(root: Path) -> None:
    (root / "data/file").chmod(0o4755)
    bring(root, ONE)
    assert stat.S_IMODE((root / "data/file").stat().st_mode) == 0o755


def test_lists_of_access_name_the_same_users_inside(root: Path) -> None:
    os.setxattr(root / "data/file", "system.posix_acl_access", acl(UID, 0))
    os.setxattr(root / "data/deep", "system.posix_acl_default", acl(UID))
    bring(root, ONE)
    moved = [ONE.to_host(UID), ONE.to_host(0)]
    assert os.getxattr(root / "data/file", "system.posix_acl_access") == acl(*moved)
    assert os.getxattr(root / "data/deep", "system.posix_acl_default") == acl(moved[0])


@pytest.mark.parametrize("value", [b"", b"\2\0", struct.pack("<I", 1) + b"12345678", acl(UID)[:-1]])
def test_a_list_of_an_unknown_form_stays(value: bytes) -> None:
    assert converted_acl(value, [IDENTITY], ONE) == value


@pytest.mark.parametrize(
    ("number", "others", "ids", "result"),
    [
        (UID, [IDENTITY], ONE, ONE.base + UID),
        (ONE.base + UID, [IDENTITY], ONE, ONE.base + UID),  # it has come there already
        (SIZE, [IDENTITY], ONE, SIZE),  # no id inside
        (ONE.base + UID, [ONE], IDENTITY, UID),
        (UID, [ONE], IDENTITY, UID),
        (ONE.base + UID, [ONE], TWO, TWO.base + UID),
        (ONE.base + UID, [IDENTITY, ONE], TWO, TWO.base + UID),
        (UID, [IDENTITY, ONE], TWO, TWO.base + UID),
        (THREE.base, [ONE], TWO, THREE.base),
    ],
)
def test_a_number_is_the_same_id_in_the_other_mapping(
    number: int, others: list[IdMap], ids: IdMap, result: int
) -> None:
    assert convert(number, others, ids) == result
