"""Who talked to what: asked of a log and its former files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from bailey.access_log import query
from bailey.access_log.files import LogFiles
from bailey.access_log.packet import format_time
from bailey.access_log.query import Answer, Query, parse_moment, parse_query, read_log
from bailey.access_log.table import render
from bailey.errors import HostError, InvalidValueError

NOW = 1_795_643_938.0


def entry(at: float = NOW, **changes: Any) -> dict[str, Any]:
    return {
        "time": format_time(at),
        "tenant": "a",
        "app": "web",
        "instance": "a-web-1",
        "direction": "egress",
        "verdict": "allow",
        "reason": None,
        "protocol": "tcp",
        "source": "172.17.0.2",
        "source_port": 40000,
        "destination": "203.0.113.1",
        "destination_port": 443,
        "peer": None,
        **changes,
    }


def dropped(count: int, reason: str = "rate", at: float = NOW, **owner: str) -> dict[str, Any]:
    nobody = {"tenant": None, "app": None, "instance": None}
    return {"time": format_time(at), **nobody, **owner, "event": "dropped", "reason": reason, "count": count}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.json"


def ask(log: Path, *entries: dict[str, Any], **wanted: str) -> Answer:
    lines = [json.dumps(item).encode() + b"\n" for item in entries]
    assert LogFiles(log, 4096, 100).write(lines) == len(lines)
    return read_log(log, Query(wanted))


class TestFiles:
    def test_former_files_are_read_in_their_order(self, log: Path) -> None:
        answer = ask(log, *(entry(NOW + number, source_port=number) for number in range(200)))
        assert len(list(log.parent.iterdir())) > 10
        assert [item["source_port"] for item in answer.entries] == list(range(200))

    def test_a_file_that_is_renamed_while_it_is_opened_is_read_once(
        self, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ask(log, *(entry(NOW + number, source_port=number) for number in range(50)))
        files, numbers = LogFiles(log, 4096, 100), query.file_numbers

        def list_and_rotate(path: Path) -> list[int]:
            found = numbers(path)
            files._rotate()
            return found

        monkeypatch.setattr(query, "file_numbers", list_and_rotate)
        answer = read_log(log, Query())
        assert [item["source_port"] for item in answer.entries] == list(range(50))

    def test_a_former_file_from_before_is_not_even_read(self, log: Path) -> None:
        ask(log, *(entry(NOW + number) for number in range(50)))
        oldest = max(log.parent.glob("access.json.*"), key=lambda path: int(path.suffix[1:]))
        oldest.write_bytes(json.dumps(entry(NOW + 1000)).encode() + b"\n")
        os.utime(oldest, (NOW - 10, NOW - 10))
        assert len(read_log(log, Query(since=NOW + 999)).entries) == 0

    def test_where_there_is_none_it_says_so(self, log: Path) -> None:
        with pytest.raises(HostError, match="there is no access log"):
            read_log(log, Query())

    @pytest.mark.parametrize("line", [b"", b"{", b"[]", b"\xff\xfe", b'{"time": "2026-11-25T21:58:58.000000Z", "ten'])
    def test_what_is_no_entry_is_passed_over(self, log: Path, line: bytes) -> None:
        log.write_bytes(json.dumps(entry()).encode() + b"\n" + line + b"\n")
        assert len(read_log(log, Query()).entries) == 1


class TestWanted:
    def test_a_tenant_sees_its_own_alone(self, log: Path) -> None:
        answer = ask(log, entry(), entry(tenant="b", peer="a/web/a-web-1"), entry(tenant=None), tenant="a")
        assert [item["tenant"] for item in answer.entries] == ["a"]

    @pytest.mark.parametrize(
        ("name", "value"), [("app", "x"), ("instance", "a-x-1"), ("direction", "ingress"), ("verdict", "deny")]
    )
    def test_each_of_them_narrows_it_down(self, log: Path, name: str, value: str) -> None:
        answer = ask(log, entry(), entry(**{name: value}), **{name: value})
        assert [item[name] for item in answer.entries] == [value]

    def test_times_are_bounds_on_both_sides(self, log: Path) -> None:
        ask(log, *(entry(NOW + number, source_port=number) for number in range(10)))
        answer = read_log(log, Query(since=NOW + 3, before=NOW + 5))
        assert [item["source_port"] for item in answer.entries] == [3, 4, 5]

    def test_the_newest_are_kept_and_all_are_counted(self, log: Path) -> None:
        ask(log, *(entry(NOW + number, source_port=number, destination_port=number % 3) for number in range(10)))
        result = read_log(log, Query(limit=2)).as_result()
        assert [item["source_port"] for item in result["entries"]] == [8, 9]
        assert [row["connections"] for row in result["summary"]] == [4, 3]
        assert result["left_off"] == {"entries": 8, "summary": 1}


class TestSummary:
    def test_alike_connections_are_one_row(self, log: Path) -> None:
        answer = ask(log, entry(NOW), entry(NOW + 5, source_port=1), entry(NOW + 2, destination_port=80))
        first, second = answer.summary()
        assert (first["connections"], first["port"], first["peer"]) == (2, 443, "203.0.113.1")
        assert (first["first"], first["last"]) == (format_time(NOW), format_time(NOW + 5))
        assert (second["connections"], second["port"]) == (1, 80)

    def test_the_other_end_is_an_instance_where_it_is_known(self, log: Path) -> None:
        (row,) = ask(log, entry(peer="b/api/b-api-1")).summary()
        assert row["peer"] == "b/api/b-api-1"

    def test_of_what_came_in_it_is_the_source(self, log: Path) -> None:
        (row,) = ask(log, entry(direction="ingress")).summary()
        assert (row["peer"], row["port"]) == ("172.17.0.2", 443)

    def test_a_scan_does_not_make_it_grow_for_ever(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(query, "MAX_ROWS", 10)
        answer = ask(log, *(entry(destination_port=number) for number in range(100)))
        assert len(answer.rows) == 11
        assert [(row["connections"], row["peer"], row["port"]) for row in answer.summary()[:1]] == [
            (90, "(others)", None)
        ]


class TestDropped:
    def test_it_is_summed_up_for_a_tenant_and_for_all(self, log: Path) -> None:
        own = {"tenant": "a", "app": "web", "instance": "a-web-1"}
        other = {"tenant": "b", "app": "web", "instance": "b-web-1"}
        entries = [dropped(1, **own), dropped(2, **own), dropped(4, **other), dropped(8), dropped(16, "sequence")]
        result = ask(log, *entries, tenant="a", verdict="deny").as_result()
        assert result["dropped"] == [
            {"reason": "sequence", "instance": None, "count": 16},
            {"reason": "rate", "instance": None, "count": 8},
            {"reason": "rate", "instance": "a-web-1", "count": 3},
        ]
        assert result["entries"] == []

    def test_only_that_of_the_time_counts(self, log: Path) -> None:
        ask(log, dropped(1, at=NOW), dropped(2, at=NOW + 10))
        assert read_log(log, Query(since=NOW + 5)).dropped == {("rate", None): 2}


class TestTable:
    def test_it_shows_the_summary_and_what_is_missing(self, log: Path) -> None:
        denied = entry(verdict="deny", reason="egress policy", peer="b/api/b-api-1", destination_port=None)
        ask(log, entry(), entry(), denied, dropped(3))
        lines = render(read_log(log, Query())).splitlines()
        assert lines[0].split() == [
            *("INSTANCE", "DIRECTION", "VERDICT", "WITH", "PROTOCOL", "PORT", "CONNECTIONS", "FIRST", "LAST")
        ]
        assert lines[1].split()[:7] == ["a-web-1", "egress", "allow", "203.0.113.1", "tcp", "443", "2"]
        assert "deny (egress policy)  b/api/b-api-1  tcp       -" in lines[2]
        assert lines[3] == "not logged: 3 of any instance (rate)"

    def test_of_nothing_it_says_so(self, log: Path) -> None:
        assert render(ask(log)).splitlines()[1] == "no connection was logged"

    def test_it_tells_what_it_leaves_off(self, log: Path) -> None:
        ask(log, entry(), entry(destination_port=1))
        assert render(read_log(log, Query(limit=1))).splitlines()[-1] == "1 more rows are left off"


class TestOptions:
    @pytest.mark.parametrize(
        ("text", "at"),
        [
            ("1h", NOW - 3600),
            ("1m30s", NOW - 90),
            ("1970-01-01T00:01:00Z", 60.0),
            ("1970-01-01T01:01:00.5+01:00", 60.5),
        ],
    )
    def test_a_time_is_a_moment_or_how_long_ago(self, text: str, at: float) -> None:
        assert parse_moment("since", text, NOW) == at

    @pytest.mark.parametrize("text", ["", "yesterday", "60", "2026-11-25T19:00:00", "-1h", "1h ago"])
    def test_another_form_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidValueError, match=r"since.*RFC 3339"):
            parse_moment("since", text, NOW)

    def test_all_of_them_are_read(self) -> None:
        given = {"tenant": "a", "app": None, "direction": "egress", "since": "1h", "before": "1m", "limit": 7}
        assert parse_query(given, NOW) == Query({"tenant": "a", "direction": "egress"}, NOW - 3600, NOW - 60, 7)

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"tenant": 'a", "x'}, "tenant"),
            ({"instance": "A"}, "instance"),
            ({"limit": 0}, "limit"),
            ({"since": "1h", "before": "2h"}, "before"),
        ],
    )
    def test_what_is_not_valid_is_refused(self, given: dict[str, Any], field: str) -> None:
        with pytest.raises(InvalidValueError, match=field):
            parse_query(given, NOW)
