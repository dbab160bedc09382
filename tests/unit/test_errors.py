"""Errors tell an operator what is wrong, where, and what would be right; secrets are not among it."""

from __future__ import annotations

import pytest
from bailey import errors


def test_a_value_that_is_not_valid_is_shown_with_what_is_allowed() -> None:
    error = errors.InvalidValueError("ada.cpus", "many", "a number")
    assert str(error) == "ada.cpus: 'many' is not valid; allowed: a number"
    assert error.details == {"field": "ada.cpus", "value": "'many'", "allowed": "a number"}


def test_a_secret_that_is_not_valid_is_not_shown() -> None:
    error = errors.InvalidSecretError("registry_password", "at least 12 characters")
    assert str(error) == "registry_password: the value is not valid; allowed: at least 12 characters"
    assert "value" not in error.details


def test_a_limit_that_cannot_be_enforced_tells_the_reason() -> None:
    error = errors.UnsupportedError("ada.disk_limit", "1G", "no quotas")
    assert str(error) == "ada.disk_limit: '1G' cannot be enforced on this host: no quotas"
    assert error.details["reason"] == "no quotas"


def test_a_failed_program_is_shown_with_its_status_and_what_it_said() -> None:
    error = errors.CommandError(["btrfs", "qgroup", "show"], 1, "  no such file\n")
    assert str(error) == "btrfs qgroup show: exit status 1: no such file"
    assert error.details == {"argv": ["btrfs", "qgroup", "show"], "rc": 1, "stderr": "  no such file\n"}


def test_an_engines_refusal_keeps_its_status() -> None:
    assert errors.EngineError("no such container", 404).status == 404
    assert errors.EngineUnavailableError("nothing answers").status is None


@pytest.mark.parametrize(
    "kind",
    [
        *(errors.InvalidValueError, errors.InvalidSecretError, errors.UnsupportedError, errors.AdmissionError),
        *(errors.EngineError, errors.EngineUnavailableError, errors.CommandError, errors.HostError),
        errors.EnforcementError,
    ],
)
def test_whoever_catches_a_bailey_error_catches_all_of_them(kind: type[Exception]) -> None:
    assert issubclass(kind, errors.BaileyError)
