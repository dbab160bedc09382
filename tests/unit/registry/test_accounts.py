"""Names and passwords that a registry's account may have."""

from __future__ import annotations

from pathlib import Path

import pytest
from bailey.errors import InvalidSecretError, InvalidValueError
from bailey.registry import accounts


@pytest.mark.parametrize("name", ["", "Bailey", "a:b", "1a", "a" * 33, "a b", "a\n", None])
def test_a_name_that_htpasswd_would_misread_is_refused(name: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^username: "):
        accounts.parse_username(name)


@pytest.mark.parametrize("password", ["x" * 11, "x" * 73, "twelve chars\n", "zwölf-zeichen", "tab\there-and-so-on"])
def test_a_password_out_of_bounds_is_refused_and_not_shown(password: str) -> None:
    with pytest.raises(InvalidSecretError) as raised:
        accounts.parse_password("password", password)
    assert password not in str(raised.value)
    assert password not in repr(raised.value.details)


@pytest.mark.parametrize("password", ["x" * 12, "x" * 72, "with spaces and :$\\\"'"])
def test_a_password_within_bounds_is_accepted(password: str) -> None:
    assert accounts.parse_password("password", password) == password


def test_a_given_password_goes_before_a_kept_one(tmp_path: Path) -> None:
    kept = tmp_path / "password"
    kept.write_text("the-kept-password\n")
    assert accounts.find_password("the-given-password", kept, generate=True) == ("the-given-password", False)
    assert accounts.find_password(None, kept, generate=True) == ("the-kept-password", False)
    with pytest.raises(accounts.MissingPasswordError):
        accounts.find_password("", kept, generate=False)


def test_a_made_password_is_another_each_time(tmp_path: Path) -> None:
    made = {accounts.find_password(None, tmp_path / "none", generate=True) for _ in range(3)}
    assert len(made) == 3
    assert all(new and accounts.parse_password("password", password) for password, new in made)
