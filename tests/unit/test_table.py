"""What people and programs are shown of an instance: its limits, and never its environment."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from bailey.backends.base import Container
from bailey.enforcement import Check, Reading
from bailey.host.cgroup import Enforced, Usage
from bailey.host.proc import Process
from bailey.instance_state import BACKOFF, OPEN, InstanceState
from bailey.inventory import Instance
from bailey.spec import STARTED, STOPPED, parse_spec
from bailey.store import StoredSpec
from bailey.table import render

SPEC = parse_spec(
    {
        "name": "web",
        "tenant": "ada",
        "image": "web:1",
        "user": 2000,
        "mem_limit": "64M",
        "cpus": 0.5,
        "pids_limit": 9,
        "ports": ["8001:80"],
        "environment": {"TOKEN": "s3cret-value"},
    }
)
CONTAINER = Container("id", "web", "web", SPEC.recreate_hash(), "web:1", True, "Up 1 hour", ())
HELD = Check("mem_limit", "64M", "64M", holds=True)
BROKEN = Check("cpus", "0.5", "unlimited", holds=False)


PROCESS = Process(
    4711, 1, 2000, frozenset({2000}), frozenset({2000}), 1, 0, 0, 0, no_new_privs=True, seccomp=True, filters=1
)
ENFORCED = Enforced(None, None, False, None, None, None, None, frozenset(), None)
GATE = InstanceState("web", container="id", status=OPEN, gate_ms=6.25, pid=4711)


def instance(
    *checks: Check,
    container: Container | None = CONTAINER,
    state: str = STARTED,
    gate: InstanceState | None = GATE,
) -> Instance:
    stored = StoredSpec("web", 2000, state, SPEC.canonical())
    reading = Reading(ENFORCED, Usage(0, 0, 0, 0), PROCESS, {}, [], frozenset(), 1, 0, None)
    return Instance(stored, SPEC, container, reading, None, gate, list(checks))


def test_a_row_for_each_limit_and_a_mark_where_it_does_not_hold() -> None:
    assert render([instance(HELD, BROKEN)]).splitlines() == [
        "TENANT  INSTANCE  STATE    GATE    ADDRESS         LIMIT      DECLARED  ENFORCED",
        "ada     web       running  6.2 ms  127.0.0.1:8001  mem_limit  64M       64M",
        "                                                   cpus       0.5       unlimited  NOT ENFORCED",
    ]


def test_what_the_hosts_policy_allows_stands_out() -> None:
    spec = replace(SPEC, user=0, devices=("/dev/kvm",))
    shown = replace(instance(HELD), spec=spec)
    row = render([shown]).splitlines()[-1].split()
    assert row == ["exceptions", "device:/dev/kvm,", "root", "BY", "POLICY"]
    assert shown.as_result()["exceptions"] == ["device:/dev/kvm", "root"]
    assert instance(HELD).as_result()["exceptions"] == []


def test_an_instance_that_should_run_and_does_not_stands_out() -> None:
    assert render([instance(container=None)]).splitlines()[1].endswith("NOT RUNNING")
    assert "missing" in render([instance(container=None)])
    assert "NOT RUNNING" not in render([instance(container=None, state=STOPPED)])


@pytest.mark.parametrize(
    ("gate", "state"),
    [
        (None, "waiting"),
        (replace(GATE, container="other"), "waiting"),
        (replace(GATE, pid=4712), "waiting"),
        (replace(GATE, status=BACKOFF, reason="cpus is unlimited, not 0.5"), "backoff"),
    ],
    ids=["no word of the agent", "another container", "started again since", "to be tried again"],
)
def test_nothing_runs_before_its_own_gate_has_opened(gate: InstanceState | None, state: str) -> None:
    shut = instance(HELD, gate=gate)
    assert (shut.state, shut.as_result()["enforced"]) == (state, False)
    assert render([shut]).splitlines()[1].endswith(f"NOT RUNNING{': ' + gate.reason if gate and gate.reason else ''}")


def test_an_instance_is_enforced_only_where_everything_holds() -> None:
    assert instance(HELD).as_result()["enforced"] is True
    assert instance(HELD, BROKEN).as_result()["enforced"] is False
    assert instance().as_result()["enforced"] is False, "nothing could be read back"


def test_no_value_of_the_environment_is_shown() -> None:
    shown = json.dumps(instance(HELD).as_result())
    assert "TOKEN" in shown
    assert "s3cret-value" not in shown
