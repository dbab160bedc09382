"""Declaring a health check: every form, every default, every refusal, and the way back."""

from __future__ import annotations

import pytest
from bailey.errors import InvalidValueError
from bailey.healthcheck import HttpProbe, parse_healthcheck

from tests.unit.samples import spec

DEFAULTS = {"interval": "30s", "timeout": "30s", "retries": 3, "start_period": "0s", "action": "restart"}


@pytest.mark.parametrize(
    ("declared", "argv"),
    [
        ({"test": "curl -f localhost"}, ("/bin/sh", "-c", "curl -f localhost")),
        ({"test": ["CMD-SHELL", "exit 0"]}, ("/bin/sh", "-c", "exit 0")),
        ({"test": ["CMD", "true", 1]}, ("true", "1")),
        ({"tcp": 80}, ()),
        ({"http": {"port": "8080"}}, ()),
    ],
)
def test_what_is_run(declared: dict[str, object], argv: tuple[str, ...]) -> None:
    check = parse_healthcheck("one.healthcheck", declared)
    assert check is not None
    assert check.argv == argv


@pytest.mark.parametrize("declared", [None, {"test": ["NONE"]}, {"test": ["NONE"], "interval": "1s"}])
def test_none(declared: object) -> None:
    assert parse_healthcheck("one.healthcheck", declared) is None


@pytest.mark.parametrize(
    "declared",
    [
        {"test": ["CMD", "true"], "interval": "1m30s", "timeout": "500ms", "retries": 1, "start_period": "2s"},
        {"test": "exit 0", "action": "report"},
        {"tcp": 1},
        {"http": {"port": 65535, "path": "/health?deep=1", "status": 204}},
        {"http": {"port": 1}},
    ],
)
def test_the_canonical_form_is_read_back_as_the_same(declared: dict[str, object]) -> None:
    check = parse_healthcheck("one.healthcheck", declared)
    assert check is not None
    again = check.canonical()
    assert set(DEFAULTS) < set(again)
    assert parse_healthcheck("one.healthcheck", again) == check
    assert parse_healthcheck("one.healthcheck", again).canonical() == again  # type: ignore[union-attr]


def test_defaults_are_written_out() -> None:
    check = parse_healthcheck("one.healthcheck", {"http": {"port": 80}})
    assert check is not None
    assert check.canonical() == {**DEFAULTS, "http": {"port": 80, "path": "/"}}
    assert check.http == HttpProbe(80, "/", None)


@pytest.mark.parametrize(
    ("declared", "field"),
    [
        ("true", "one.healthcheck"),
        ({}, "one.healthcheck"),
        ({"test": "true", "tcp": 80}, "one.healthcheck"),
        ({"test": ["true"]}, "one.healthcheck.test"),
        ({"test": []}, "one.healthcheck.test"),
        ({"test": ["CMD"]}, "one.healthcheck.test"),
        ({"test": ["CMD", ""]}, "one.healthcheck.test"),
        ({"test": ["CMD-SHELL", "a", "b"]}, "one.healthcheck.test"),
        ({"test": ["NONE", "a"]}, "one.healthcheck.test"),
        ({"test": " "}, "one.healthcheck.test"),
        ({"test": "a\0b"}, "one.healthcheck.test"),
        ({"tcp": 0}, "one.healthcheck.tcp"),
        ({"tcp": 65536}, "one.healthcheck.tcp"),
        ({"http": 80}, "one.healthcheck.http"),
        ({"http": {"path": "/"}}, "one.healthcheck.http.port"),
        ({"http": {"port": 80, "path": "x"}}, "one.healthcheck.http.path"),
        ({"http": {"port": 80, "path": "/a b"}}, "one.healthcheck.http.path"),
        ({"http": {"port": 80, "path": "/a\r\nHost: x"}}, "one.healthcheck.http.path"),
        ({"http": {"port": 80, "path": "/ä"}}, "one.healthcheck.http.path"),
        ({"http": {"port": 80, "status": 99}}, "one.healthcheck.http.status"),
        ({"tcp": 80, "interval": "100ms"}, "one.healthcheck.interval"),
        ({"tcp": 80, "interval": 30}, "one.healthcheck.interval"),
        ({"tcp": 80, "timeout": "0s"}, "one.healthcheck.timeout"),
        ({"tcp": 80, "start_period": "25h"}, "one.healthcheck.start_period"),
        ({"tcp": 80, "retries": 0}, "one.healthcheck.retries"),
        ({"tcp": 80, "action": "explode"}, "one.healthcheck.action"),
        ({"tcp": 80, "disable": True}, "one.healthcheck.disable"),
    ],
)
def test_what_is_refused_is_named(declared: object, field: str) -> None:
    with pytest.raises(InvalidValueError) as error:
        parse_healthcheck("one.healthcheck", declared)
    assert error.value.details["field"] == field


def test_a_living_container_follows_it() -> None:
    before, after = spec(), spec(healthcheck={"tcp": 80})
    assert before.recreate_hash() == after.recreate_hash()
    assert "healthcheck" not in before.canonical()
    assert after.canonical()["healthcheck"] == {**DEFAULTS, "tcp": 80}
