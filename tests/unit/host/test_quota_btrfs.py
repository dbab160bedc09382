"""What `btrfs qgroup show` prints, read into groups. The limits themselves are tried on real file systems."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from bailey.errors import HostError
from bailey.host.quota_btrfs import Group, parse_groups

# Printed by btrfs-progs 6.2 for three subvolumes, one inside another.
RECORDED = """\
Qgroupid    Referenced    Exclusive  Max referenced   Path 
--------    ----------    ---------  --------------   ---- 
0/5              16384        16384            none   <toplevel>
0/256            81920        81920        16777216   v/web
0/257            16384        16384            none   v/job
0/258            16384        16384            none   v/web/inner
"""  # noqa: W291 - the blanks are the program's


def test_groups_of_subvolumes_are_read() -> None:
    assert parse_groups(RECORDED) == [
        Group(5, 16384, None, PurePosixPath()),
        Group(256, 81920, 16 << 20, PurePosixPath("v/web")),
        Group(257, 16384, None, PurePosixPath("v/job")),
        Group(258, 16384, None, PurePosixPath("v/web/inner")),
    ]


@pytest.mark.parametrize("path", ["<stale>", "<under deletion>"])
def test_a_group_whose_subvolume_is_gone_has_no_path(path: str) -> None:
    (group,) = parse_groups(f"0/300   16384   16384   none   {path}\n")
    assert group.path is None


def test_a_path_may_hold_blanks_and_groups_of_groups_are_left_out() -> None:
    text = "0/300  1  1  none  v/with two blanks\n1/100  1  1  4096  <0 member qgroups>\n"
    assert [group.path for group in parse_groups(text)] == [PurePosixPath("v/with two blanks")]


def test_a_line_that_cannot_be_read_is_shown() -> None:
    with pytest.raises(HostError, match="16k"):
        parse_groups("0/300  16k  16k  none  v/web\n")
