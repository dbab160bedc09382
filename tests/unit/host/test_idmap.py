"""A container's ids are the host's by one rule, both ways; and the kernel is asked which rule it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bailey.errors import HostError
from bailey.host.idmap import ALL_IDS, IDENTITY, IdMap, id_map_of, parse_id_map, read_id_map
from hypothesis import given
from hypothesis import strategies as st

REMAPPED = IdMap(1_879_048_192, 1 << 20)


@given(st.integers(0, REMAPPED.size - 1))
def test_there_and_back(inside: int) -> None:
    assert REMAPPED.to_container(REMAPPED.to_host(inside)) == inside
    assert IDENTITY.to_host(inside) == IDENTITY.to_container(inside) == inside


@pytest.mark.parametrize("outside", [0, REMAPPED.base - 1, REMAPPED.base + REMAPPED.size])
def test_what_is_no_id_of_a_container_has_no_number_inside(outside: int) -> None:
    assert REMAPPED.to_container(outside) is None


@pytest.mark.parametrize("inside", [-1, REMAPPED.size])
def test_what_is_no_id_inside_has_none_on_the_host(inside: int) -> None:
    with pytest.raises(HostError, match=f"id {inside} has no number on this host: .* 0 to {REMAPPED.size - 1}"):
        REMAPPED.to_host(inside)


def test_people_read_both_numbers_where_they_differ() -> None:
    assert IDENTITY.describe(200_000) == "200000"
    assert REMAPPED.describe(200_000) == "200000 (host 1879248192)"


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (IdMap(100, 10), IdMap(110, 10), False),
        (IdMap(100, 10), IdMap(109, 10), True),
        (IdMap(100, 10), IdMap(90, 30), True),
        (IDENTITY, REMAPPED, True),
    ],
)
def test_overlap(one: IdMap, other: IdMap, overlap: bool) -> None:
    assert one.overlaps(other) is other.overlaps(one) is overlap


@pytest.mark.parametrize("ids", [IDENTITY, REMAPPED])
def test_what_is_written_can_be_read(ids: IdMap) -> None:
    assert parse_id_map(ids.as_text()) == ids


@pytest.mark.parametrize("text", ["", "1", "1:2:3", "a:1", "-1:5", "0:0", f"1:{ALL_IDS}"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_id_map(text)


def test_a_file_without_a_range_has_the_hosts_ids() -> None:
    assert id_map_of({}) == IDENTITY
    assert id_map_of({"ids": REMAPPED.as_text()}) == REMAPPED
    with pytest.raises(ValueError, match="ids"):
        id_map_of({"ids": 5})


class TestReading:
    """Maps as the kernel writes them, on a tree that stands for /proc."""

    ROW = f"{0:>10} {REMAPPED.base:>10} {REMAPPED.size:>10}\n"

    def lay_out(self, proc: Path, uids: str | None, gids: str | None, namespace: str = "user:[2]") -> Path:
        for pid, name in (("self", "user:[1]"), ("7", namespace)):
            (proc / pid / "ns").mkdir(parents=True)
            (proc / pid / "ns/user").symlink_to(name)
        for kind, text in (("uid_map", uids), ("gid_map", gids)):
            if text is not None:
                (proc / "7" / kind).write_text(text)
        return proc

    def test_one_range_for_both(self, tmp_path: Path) -> None:
        assert read_id_map(7, self.lay_out(tmp_path, self.ROW, self.ROW)) == REMAPPED

    @pytest.mark.parametrize(
        ("uids", "gids"),
        [
            (ROW, "0 1000 65536\n"),
            (ROW * 2, ROW * 2),
            ("5 1000 10\n", "5 1000 10\n"),
            (ROW, ""),
        ],
    )
    def test_what_this_platform_does_not_make(self, tmp_path: Path, uids: str, gids: str) -> None:
        assert read_id_map(7, self.lay_out(tmp_path, uids, gids)) is None

    def test_the_hosts_own_namespace_has_the_hosts_ids_whatever_its_parent_calls_them(self, tmp_path: Path) -> None:
        assert read_id_map(7, self.lay_out(tmp_path, self.ROW, self.ROW, "user:[1]")) == IDENTITY

    def test_a_kernel_without_user_namespaces(self, tmp_path: Path) -> None:
        (tmp_path / "7").mkdir()
        assert read_id_map(7, tmp_path) == IDENTITY

    def test_this_process(self) -> None:
        assert read_id_map(os.getpid()) == IDENTITY
