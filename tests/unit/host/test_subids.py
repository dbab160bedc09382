"""Ranges of ids for user namespaces: read, chosen so that they are nobody else's, and written without harm."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from bailey.errors import HostError
from bailey.host import subids
from bailey.host.idmap import ALL_IDS, IdMap
from bailey.host.subids import SIZE, Range, choose, range_of, read_accounts, read_ranges, with_range, write_ranges

FIRST = 0x70000000


def test_ranges_are_read(tmp_path: Path) -> None:
    path = tmp_path / "subuid"
    assert read_ranges(path) == []
    path.write_text("ada:100000:65536\n# a comment\n\n1000:165536:65536\n")
    assert read_ranges(path) == [Range("ada", 100_000, 65_536), Range("1000", 165_536, 65_536)]


@pytest.mark.parametrize("line", ["ada", "ada:1", "ada:1:2:3", "ada:x:2"])
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "subuid"
    path.write_text(f"{line}\n")
    with pytest.raises(HostError, match=f"subuid: this line is no range of ids: '{line}'"):
        read_ranges(path)


def test_accounts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_text("root:x:0:0:root:/root:/bin/bash\n+::::::\nada:x:1000:1000::/home/ada:/bin/sh\n")
    assert read_accounts(path) == [Range("root", 0, 1), Range("ada", 1000, 1)]


@pytest.mark.parametrize(
    ("uids", "gids", "found"),
    [
        ([Range("a", 5, 9)], [Range("a", 5, 9)], IdMap(5, 9)),
        ([Range("b", 1, 2), Range("a", 5, 9)], [Range("a", 5, 9), Range("c", 3, 4)], IdMap(5, 9)),
        ([Range("a", 5, 9)], [Range("a", 6, 9)], None),
        ([Range("a", 5, 9)], [], None),
        ([Range("a", 5, 9)] * 2, [Range("a", 5, 9)] * 2, None),
        ([], [], None),
    ],
)
def test_an_account_has_one_range_or_none(uids: list[Range], gids: list[Range], found: IdMap | None) -> None:
    assert range_of("a", uids, gids) == found


def test_the_first_range_that_nobody_has_is_chosen() -> None:
    assert choose([]) == IdMap(FIRST, SIZE)
    taken = [Range("a", FIRST + SIZE - 1, 1), Range("b", FIRST + SIZE, 5), Range("c", 100_000, 65_536)]
    assert choose(taken) == IdMap(FIRST + 2 * SIZE, SIZE)


def test_a_range_that_is_preferred_is_chosen_where_it_is_free_and_one_of_ours() -> None:
    wanted = FIRST + 7 * SIZE
    assert choose([], [100_000, wanted]) == IdMap(wanted, SIZE)
    assert choose([Range("a", wanted, 1)], [wanted]) == IdMap(FIRST, SIZE)


def test_no_range_reaches_where_ids_are_others_or_negative() -> None:
    everything = [Range("a", FIRST, 254 * SIZE)]
    last = choose(everything)
    assert last.base + last.size <= 0x7FFE0000 < 1 << 31 < ALL_IDS
    with pytest.raises(HostError, match="no 1048576 ids in a row are free"):
        choose([*everything, Range("b", last.base, 1)])


def test_every_uid_of_the_tenants_range_is_inside() -> None:
    assert SIZE > 265_535 + 65_536
    assert choose([]).base >= SIZE  # no id of a container's is one of the host's numbers for them


def test_other_lines_stay_as_they_are() -> None:
    before = "# mine\nada:100000:65536\nbailey-remap:5:6\n\nbailey-remapped:7:8\n"
    after = "# mine\nada:100000:65536\n\nbailey-remapped:7:8\n"
    assert with_range(before, "bailey-remap", None) == after
    assert with_range(before, "bailey-remap", IdMap(9, 10)) == f"{after}bailey-remap:9:10\n"
    assert with_range(None, "bailey-remap", IdMap(9, 10)) == "bailey-remap:9:10\n"
    assert with_range("ada:1:2", "bailey-remap", IdMap(9, 10)) == "ada:1:2\nbailey-remap:9:10\n"


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "subuid"
    write_ranges(path, "one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    path.chmod(0o640)
    write_ranges(path, "two")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("two", 0o640)


def test_where_the_files_are() -> None:
    assert (str(subids.SUBUID), str(subids.SUBGID)) == ("/etc/subuid", "/etc/subgid")
