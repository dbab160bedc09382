"""The kernel's list of mounts, and one's own line in fstab among those of others."""

from __future__ import annotations

from pathlib import Path

import pytest
from bailey.errors import HostError
from bailey.host.mounts import FstabEntry, fstab_entry, mount_holding, parse_mountinfo, resolve_inside, set_fstab_entry

RECORDED = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 22 0:27 / /dev/shm rw,nosuid,nodev - tmpfs shm rw,size=16384k,inode64
41 22 0:45 /v /srv/a\040b ro,noatime - btrfs /dev/loop0 rw,space_cache=v2,subvolid=5,subvol=/
42 22 0:46 / /srv/a\040b rw - tmpfs tmpfs rw
"""


def test_lines_are_read_with_their_escapes() -> None:
    root, shm, data, _ = parse_mountinfo(RECORDED)
    assert (root.point, root.fs_type, root.source) == (Path("/"), "ext4", "/dev/vda")
    assert (data.point, data.root) == (Path("/srv/a b"), "/v")
    assert (root.read_only, data.read_only) == (False, True)
    assert (shm.tmpfs_size, root.tmpfs_size) == (16 << 20, None)
    assert "subvolid=5" in data.super_options


def test_the_deepest_and_newest_mount_holds_a_path() -> None:
    mounts = parse_mountinfo(RECORDED)
    assert mount_holding(Path("/srv/a b/c"), mounts).fs_type == "tmpfs"
    assert mount_holding(Path("/srv/a bc"), mounts).fs_type == "ext4"
    with pytest.raises(HostError, match="no mount holds"):
        mount_holding(Path("/srv"), [])


def test_a_path_leads_where_the_images_links_do(tmp_path: Path) -> None:
    root = tmp_path / "7/root"
    (root / "run/lock").mkdir(parents=True)
    (root / "var/lib").mkdir(parents=True)
    for link, target in {
        "var/run": "/run",
        "var/lock": "../run/lock",
        "up": "../../../../etc",
        "circle": "circle",
        "var/lib/here": ".",
    }.items():
        (root / link).symlink_to(target)
    assert {
        path: resolve_inside(7, path, tmp_path)
        for path in ("/data", "/var/run/app", "/var/lock", "/up/x", "/var/lib/here/y", "/run/lock")
    } == {
        "/data": "/data",
        "/var/run/app": "/run/app",
        "/var/lock": "/run/lock",
        "/up/x": "/etc/x",
        "/var/lib/here/y": "/var/lib/y",
        "/run/lock": "/run/lock",
    }
    resolve_inside(7, "/circle/x", tmp_path)  # it ends


def test_a_line_that_cannot_be_read_is_shown() -> None:
    with pytest.raises(HostError, match="nonsense"):
        parse_mountinfo("nonsense")


ENTRY = FstabEntry("/srv/img file", Path("/srv/data"), "btrfs", ("loop", "nofail"))
OTHERS = "# a comment\nUUID=1 / ext4 defaults 0 1"


def test_an_entry_comes_and_goes_and_the_others_stay(tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text(OTHERS)
    fstab.chmod(0o640)
    for _ in range(2):
        set_fstab_entry(ENTRY.point, ENTRY, fstab)
        assert fstab.read_text() == OTHERS + "\n/srv/img\\040file /srv/data btrfs loop,nofail 0 0\n"
        assert fstab_entry(ENTRY.point, fstab) == ENTRY
    assert fstab.stat().st_mode & 0o777 == 0o640
    set_fstab_entry(ENTRY.point, None, fstab)
    assert fstab.read_text() == OTHERS + "\n"


def test_two_entries_of_one_point_are_not_guessed_between(tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text(f"{ENTRY.line()}\n{ENTRY.line()}\n")
    with pytest.raises(HostError, match="2 entries for /srv/data"):
        fstab_entry(ENTRY.point, fstab)
