"""The journal of addresses: who had one when, through crashes, growth and compaction."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from bailey import leases
from bailey.errors import HostError
from bailey.leases import EARLY_SECONDS, KEPT_SECONDS, LeaseReader, LeaseWriter, journal

ADDRESS, OTHER = "172.17.0.5", "172.17.0.6"
START = 1_000_000.0


class Clock:
    """The time as the writer reads it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(leases.time, "time", made)
    return made


@pytest.fixture
def writer(tmp_path: Path, clock: Clock) -> LeaseWriter:
    assert clock
    return LeaseWriter(tmp_path)


@pytest.fixture
def reader(tmp_path: Path) -> LeaseReader:
    return LeaseReader(tmp_path)


@pytest.fixture
def name_at(reader: LeaseReader) -> Callable[[float], str | None]:
    """Return who had the address so many seconds after the start."""

    def ask(seconds: float) -> str | None:
        owner = reader.owner(ADDRESS, START + seconds)
        return None if owner is None else owner.name

    return ask


NameAt = Callable[[float], str | None]


def counts(reader: LeaseReader) -> list[tuple[str, int, str | None]]:
    return [(item.address, item.count, item.owner and item.owner.name) for item in reader.unlogged()]


class TestOwner:
    def test_without_a_journal_nobody_has_an_address(self, name_at: NameAt) -> None:
        assert name_at(0) is None

    def test_it_is_told_with_tenant_and_app(self, writer: LeaseWriter, reader: LeaseReader) -> None:
        writer.take(ADDRESS, "a-web-1", "a", "web")
        owner = reader.owner(ADDRESS, START)
        assert owner is not None
        assert (owner.name, owner.tenant, owner.app) == ("a-web-1", "a", "web")
        assert reader.owner(OTHER, START) is None

    def test_an_address_that_goes_to_another_is_told_by_time(
        self, writer: LeaseWriter, clock: Clock, name_at: NameAt
    ) -> None:
        writer.take(ADDRESS, "one", "a", "x")
        clock.now += 10
        writer.give_up(ADDRESS)
        clock.now += 10
        writer.take(ADDRESS, "two", "b", "x")
        clock.now += 10
        writer.take(ADDRESS, "three", "c", "x")  # a crash has left no line in between
        assert [name_at(t) for t in (-1, 5, 15, 25, 35)] == [None, "one", None, "two", "three"]

    def test_a_packet_that_is_stamped_a_moment_before_its_lease_is_the_new_owners(
        self, writer: LeaseWriter, clock: Clock, name_at: NameAt
    ) -> None:
        clock.now += 10
        writer.take(ADDRESS, "one", "a", "x")
        assert name_at(10 - EARLY_SECONDS / 2) == "one"
        assert name_at(10 - EARLY_SECONDS * 2) is None

    def test_a_moment_before_the_next_lease_it_is_still_the_last_owners(
        self, writer: LeaseWriter, clock: Clock, name_at: NameAt
    ) -> None:
        writer.take(ADDRESS, "one", "a", "x")
        clock.now += 10
        writer.take(ADDRESS, "two", "b", "x")
        assert name_at(10 - EARLY_SECONDS / 2) == "one"

    def test_a_reader_follows_what_is_written_after_it_has_read(
        self, writer: LeaseWriter, clock: Clock, name_at: NameAt
    ) -> None:
        writer.take(ADDRESS, "one", "a", "x")
        assert name_at(0) == "one"
        clock.now += 1
        writer.give_up(ADDRESS)
        assert name_at(1) is None

    def test_a_reader_forgets_what_no_packet_can_ask_for(self, writer: LeaseWriter, clock: Clock) -> None:
        reader = LeaseReader(journal_of(writer))
        for number in range(50):
            writer.take(ADDRESS, f"i-{number}", "a", "x")
            clock.now += KEPT_SECONDS
            assert reader.owner(ADDRESS, clock.now) is not None
        assert len(reader._leases[ADDRESS]) <= 4


def journal_of(writer: LeaseWriter) -> Path:
    return writer._path.parent


class TestCrashes:
    @pytest.mark.parametrize("torn", ['{"at": 1000000, "addr', "{", "\x00\x00\x00"])
    def test_a_torn_line_is_ignored_and_the_next_stands_alone(
        self, torn: str, writer: LeaseWriter, name_at: NameAt, tmp_path: Path
    ) -> None:
        writer.take(ADDRESS, "one", "a", "x")
        with journal(tmp_path).open("a") as file:
            file.write(torn)
        assert name_at(0) == "one"
        writer.take(ADDRESS, "two", "b", "x")
        assert name_at(0) == "two"
        assert [json.loads(line)["name"] for line in journal(tmp_path).read_text().splitlines()[::2]] == ["one", "two"]

    def test_a_line_that_is_written_in_two_pieces_is_read_once_it_is_whole(
        self, name_at: NameAt, tmp_path: Path
    ) -> None:
        line = json.dumps({"at": START, "address": ADDRESS, "name": "one", "tenant": "a", "app": "x"}) + "\n"
        journal(tmp_path).write_text(line[:20])
        assert name_at(0) is None
        with journal(tmp_path).open("a") as file:
            file.write(line[20:])
        assert name_at(0) == "one"

    @pytest.mark.parametrize(
        "line",
        [
            "[]",
            "null",
            '{"at": "1", "address": "172.17.0.5", "name": "x"}',
            '{"at": 1, "address": 5, "name": "x"}',
            '{"at": 1, "address": "172.17.0.5", "name": 5}',
            '{"at": 1, "address": "172.17.0.5", "name": "x", "tenant": []}',
            '{"at": 1, "address": "172.17.0.5", "unlogged": "many"}',
        ],
    )
    def test_a_line_of_another_shape_is_ignored(self, line: str, reader: LeaseReader, tmp_path: Path) -> None:
        journal(tmp_path).write_text(line + "\n")
        assert reader.owner(ADDRESS, START) is None
        assert counts(reader) == []

    def test_where_there_is_no_room_the_address_is_not_given(self, tmp_path: Path) -> None:
        journal(tmp_path).symlink_to("/dev/full")
        with pytest.raises((OSError, HostError)):
            LeaseWriter(tmp_path).take(ADDRESS, "one", "a", "x")


class TestCompaction:
    def test_it_keeps_what_is_current_and_what_was_in_the_last_minutes(
        self, writer: LeaseWriter, clock: Clock, name_at: NameAt, tmp_path: Path
    ) -> None:
        writer.take(OTHER, "gone", "a", "x")
        writer.take(ADDRESS, "older", "a", "x")
        clock.now += 1
        writer.give_up(OTHER)
        writer.take(ADDRESS, "old", "a", "x")
        clock.now += KEPT_SECONDS * 2
        writer.take(ADDRESS, "new", "b", "x")
        clock.now += 1
        before = name_at(2), name_at(KEPT_SECONDS * 2 + 2)
        writer.compact()
        text = journal(tmp_path).read_text()
        assert "gone" not in text
        assert "older" not in text
        assert (name_at(2), name_at(KEPT_SECONDS * 2 + 2)) == before == ("old", "new")
        assert journal(tmp_path).stat().st_mode & 0o777 == 0o600

    def test_without_a_journal_it_makes_an_empty_one(self, writer: LeaseWriter, tmp_path: Path) -> None:
        writer.compact()
        assert journal(tmp_path).read_text() == ""

    def test_a_reader_follows_the_file_that_takes_its_place(
        self, writer: LeaseWriter, clock: Clock, name_at: NameAt
    ) -> None:
        writer.take(ADDRESS, "one", "a", "x")
        assert name_at(0) == "one"
        clock.now += 1
        writer.take(ADDRESS, "two", "b", "x")  # not read before the file is replaced
        writer.compact()
        clock.now += 1
        writer.give_up(ADDRESS)
        assert [name_at(t) for t in (0, 1, 2)] == ["one", "two", None]

    def test_the_file_does_not_grow_for_ever(
        self, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leases, "_GROWTH", 4096)
        writer = LeaseWriter(tmp_path)
        for number in range(200):
            clock.now += KEPT_SECONDS
            writer.take(ADDRESS, f"i-{number}", "a", "x")
        assert journal(tmp_path).stat().st_size < 8192


class TestUnlogged:
    def test_a_count_is_told_once_with_its_owner(self, writer: LeaseWriter, reader: LeaseReader) -> None:
        writer.take(ADDRESS, "one", "a", "x")
        writer.count_unlogged(ADDRESS, 7)
        writer.count_unlogged(OTHER, 3)
        assert counts(reader) == [(ADDRESS, 7, "one"), (OTHER, 3, None)]
        assert counts(reader) == []

    def test_compaction_repeats_none_and_loses_none(
        self, writer: LeaseWriter, clock: Clock, reader: LeaseReader
    ) -> None:
        writer.take(ADDRESS, "one", "a", "x")
        writer.count_unlogged(ADDRESS, 1)
        assert counts(reader) == [(ADDRESS, 1, "one")]
        clock.now += 1
        writer.count_unlogged(ADDRESS, 2)
        writer.compact()
        assert counts(reader) == [(ADDRESS, 2, "one")]

    def test_a_new_reader_goes_on_where_the_last_one_was(
        self, writer: LeaseWriter, clock: Clock, reader: LeaseReader, tmp_path: Path
    ) -> None:
        writer.count_unlogged(ADDRESS, 1)
        assert counts(reader) == [(ADDRESS, 1, None)]
        clock.now += 1
        writer.count_unlogged(ADDRESS, 2)
        assert counts(LeaseReader(tmp_path, reader.unlogged_since)) == [(ADDRESS, 2, None)]


def test_a_missing_journal_may_come_and_go(writer: LeaseWriter, name_at: NameAt, tmp_path: Path) -> None:
    writer.take(ADDRESS, "one", "a", "x")
    assert name_at(0) == "one"
    journal(tmp_path).unlink()
    assert name_at(0) == "one"
    writer.take(ADDRESS, "two", "b", "x")
    assert name_at(0) == "two"
