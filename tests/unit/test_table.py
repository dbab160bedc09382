"""What people and programs are shown of an instance: its limits, and never its environment."""

from __future__ import annotations

import json

from bailey.backends.base import Container
from bailey.enforcement import Check
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


def instance(*checks: Check, container: Container | None = CONTAINER, state: str = STARTED) -> Instance:
    return Instance(StoredSpec("web", 2000, state, SPEC.canonical()), SPEC, container, None, None, list(checks))


def test_a_row_for_each_limit_and_a_mark_where_it_does_not_hold() -> None:
    assert render([instance(HELD, BROKEN)]).splitlines() == [
        "TENANT  INSTANCE  STATE    ADDRESS         LIMIT      DECLARED  ENFORCED",
        "ada     web       running  127.0.0.1:8001  mem_limit  64M       64M",
        "                                           cpus       0.5       unlimited  NOT ENFORCED",
    ]


def test_an_instance_that_should_run_and_does_not_stands_out() -> None:
    assert render([instance(container=None)]).splitlines()[1].endswith("NOT RUNNING")
    assert "missing" in render([instance(container=None)])
    assert "NOT RUNNING" not in render([instance(container=None, state=STOPPED)])


def test_an_instance_is_enforced_only_where_everything_holds() -> None:
    assert instance(HELD).as_result()["enforced"] is True
    assert instance(HELD, BROKEN).as_result()["enforced"] is False
    assert instance().as_result()["enforced"] is False, "nothing could be read back"


def test_no_value_of_the_environment_is_shown() -> None:
    shown = json.dumps(instance(HELD).as_result())
    assert "TOKEN" in shown
    assert "s3cret-value" not in shown
