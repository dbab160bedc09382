"""A state file says exactly what was written, is replaced whole, and is refused where it is something else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from bailey.errors import HostError
from bailey.instance_state import (
    OPEN,
    InstanceState,
    LastExit,
    read_state,
    read_states,
    remove_state,
    state_file,
    write_state,
)

STATE = InstanceState(
    "web", "ada", "shop", "c0ffee", OPEN, gate_ms=6.25, opened_at=1e9, pid=7, last_exit=LastExit(None, 9, True, 1.5)
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)
    other = replace(STATE, name="api", last_exit=None)
    write_state(tmp_path, other)
    assert read_state(tmp_path, "web") == STATE
    assert read_states(tmp_path) == {"api": other, "web": STATE}
    assert state_file(tmp_path, "web").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_state_that_is_gone_is_none(tmp_path: Path) -> None:
    assert read_states(tmp_path) == {}
    write_state(tmp_path, STATE)
    remove_state(tmp_path, "web")
    remove_state(tmp_path, "web")
    assert read_state(tmp_path, "web") is None


def test_a_gate_is_open_for_one_container_alone() -> None:
    assert STATE.is_open("c0ffee")
    assert not STATE.is_open("other")
    assert not replace(STATE, status="waiting").is_open("c0ffee")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 2}, "version 2 is not known; allowed: 1"),
        ({"status": "ajar"}, "status 'ajar' is not known; allowed: waiting, open"),
        ({"colour": "red"}, "not an instance's state .*colour"),
        ({"last_exit": {"code": 1}}, "not an instance's state .*signal"),
    ],
)
def test_another_files_content_is_refused(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    path = state_file(tmp_path, "web")
    path.parent.mkdir()
    path.write_text(json.dumps({**STATE.as_json(), **change}))
    with pytest.raises(HostError, match=rf"web\.json: {reason}"):
        read_state(tmp_path, "web")


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = state_file(tmp_path, "web")
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(HostError, match=r"web\.json: not an instance's state"):
        read_state(tmp_path, "web")
