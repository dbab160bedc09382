"""What dockerd tells, read from its own words: events and the state of an ended container."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bailey.backends.base import Ended, Event, Happening, signal_of
from bailey.backends.docker import DockerBackend
from bailey.backends.docker_events import parse_ended, parse_event, parse_time
from bailey.errors import EngineUnavailableError

from tests.unit.backends.test_engine_api import Handler, Server, server

__all__ = ["server"]

CONTAINER = "e58710172dc792c3ffd3e08b692576e8781ae8423e05bcc789e2b3a632781015"


def said(action: str, **attributes: str) -> dict[str, Any]:
    """An event of Docker 20.10, as it was recorded, with another action and more attributes."""
    labels = {"bailey.name": "one", "bailey.hash": "c0ffee", "image": "base:1", "name": "one"}
    return {
        "status": action,
        "id": CONTAINER,
        "Type": "container",
        "Action": action,
        "Actor": {"ID": CONTAINER, "Attributes": {**labels, **attributes}},
        "scope": "local",
        "time": 1795546455,
        "timeNano": 1795546455854063437,
    }


@pytest.mark.parametrize(
    ("item", "kind", "exit_code", "signal"),
    [
        (said("start"), Happening.STARTED, None, None),
        (said("die", exitCode="137"), Happening.DIED, 137, None),
        (said("kill", signal="15"), Happening.SIGNALLED, None, 15),
        (said("stop"), Happening.STOPPED, None, None),
        (said("create"), Happening.CREATED, None, None),
        (said("destroy"), Happening.REMOVED, None, None),
    ],
)
def test_events(item: dict[str, Any], kind: Happening, exit_code: int | None, signal: int | None) -> None:
    assert parse_event(item) == Event(
        kind, CONTAINER, "one", "one", "c0ffee", 1795546455854063437, exit_code=exit_code, signal=signal
    )


def test_a_new_name_is_the_events_name() -> None:
    event = parse_event(said("rename", name="one.bailey-old", oldName="/one"))
    assert event is not None
    assert (event.name, event.declared_name) == ("one.bailey-old", "one")


@pytest.mark.parametrize(
    "item",
    [
        said("exec_start: sh"),
        said("die"),
        said("die", exitCode="what"),
        said("kill", signal="SIGTERM"),
        {**said("start"), "timeNano": None},
        {"Action": "start", "Actor": {"ID": CONTAINER, "Attributes": {"name": "foreign"}}, "timeNano": 1},
        {"Action": "start"},
        {},
        [],
        None,
        "start",
    ],
)
def test_what_is_not_of_the_contract_is_passed_over(item: object) -> None:
    assert parse_event(item) is None


def state(**changes: Any) -> dict[str, Any]:
    return {
        "Running": False,
        "ExitCode": 0,
        "OOMKilled": False,
        "Error": "",
        "FinishedAt": "2026-11-24T18:54:17.152662163Z",
        **changes,
    }


@pytest.mark.parametrize(
    ("given", "ended"),
    [
        (state(ExitCode=3), Ended(3, None, False, 1795546457.152662, "")),
        (state(ExitCode=137, OOMKilled=True), Ended(137, 9, True, 1795546457.152662, "")),
        (state(Running=True), None),
        (state(FinishedAt="0001-01-01T00:00:00Z"), None),
        (
            state(FinishedAt="0001-01-01T00:00:00Z", ExitCode=128, Error="no mount"),
            Ended(128, None, False, None, "no mount"),
        ),
    ],
)
def test_how_a_container_ended(given: dict[str, Any], ended: Ended | None) -> None:
    found = parse_ended(given)
    assert (found is None) == (ended is None)
    if found is not None and ended is not None:
        assert (found.code, found.signal, found.oom, found.error) == (ended.code, ended.signal, ended.oom, ended.error)
        assert found.at == (None if ended.at is None else pytest.approx(ended.at, abs=1e-3))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T01:00:00.5+01:00", 0.5),
        ("0001-01-01T00:00:00Z", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_times(text: str, seconds: float | None) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    ("code", "signal"), [(0, None), (1, None), (128, None), (129, 1), (137, 9), (192, 64), (193, None)]
)
def test_a_signal_stands_in_the_exit_code(code: int, signal: int | None) -> None:
    assert signal_of(code) == signal


def stream(handler: Handler, *lines: bytes, whole: bool = True) -> None:
    """Answer in chunks, as dockerd does, and break off before the last one where it is not whole."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for line in lines:
        handler.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
    if whole:
        handler.wfile.write(b"0\r\n\r\n")
    handler.close_connection = True


class TestTheStream:
    def test_events_come_in_order_and_it_ends(self, server: Server) -> None:
        lines = [json.dumps(said(action)).encode() + b"\n" for action in ("start", "exec_die", "stop")]
        server.answers["/v1.41/events"] = lambda handler: stream(handler, *lines)
        events = list(DockerBackend(f"unix://{server.path}").events(1_500_000_000, until=2_000_000_001))
        assert [event.kind for event in events] == [Happening.STARTED, Happening.STOPPED]
        (asked,) = server.asked
        assert "since=1.500000000" in asked
        assert "until=2.000000001" in asked
        assert "bailey.name" in asked

    @pytest.mark.parametrize("rest", [b'{"Action": ', b"no JSON\n"])
    def test_one_that_breaks_off_is_an_error(self, server: Server, rest: bytes) -> None:
        line = json.dumps(said("start")).encode() + b"\n"
        server.answers["/v1.41/events"] = lambda handler: stream(handler, line, rest, whole=False)
        events = iter(DockerBackend(f"unix://{server.path}").events(0))
        assert next(events).kind is Happening.STARTED
        with pytest.raises(EngineUnavailableError):
            next(events)

    def test_no_engine_is_an_error_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(EngineUnavailableError):
            DockerBackend(f"unix://{tmp_path}/none").events(0)


def test_the_logs_of_a_container_that_has_gone_are_empty(server: Server) -> None:
    assert DockerBackend(f"unix://{server.path}").log_tail("gone", 20) == []
    assert DockerBackend(f"unix://{server.path}").ended("gone") is None


def test_the_last_lines_of_a_log(server: Server) -> None:
    frames = b"".join(b"\1\0\0\0" + len(line).to_bytes(4, "big") + line for line in (b"one\n", b"two\n"))
    server.answers["/v1.41/containers/c/logs"] = (200, frames)
    assert DockerBackend(f"unix://{server.path}").log_tail("c", 1) == ["two"]
