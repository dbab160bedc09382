"""A name is a DNS label, for it becomes a container's name, a host name and a directory."""

from __future__ import annotations

import contextlib

import pytest
from bailey.errors import InvalidValueError
from bailey.names import PREDECESSOR_SUFFIX, parse_name
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("name", ["a", "0", "ada-web-1", "a" * 63, "a--b"])
def test_names(name: str) -> None:
    assert parse_name("name", name) == name


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a_b",
            "a b",
            "a\n",
            "\na",
            "a" * 64,
            "../a",
            "a/b",
            "\N{LATIN SMALL LETTER E WITH ACUTE}",
        ),
        *(None, 1, True, ["a"], {"a": 1}),
    ],
)
def test_what_is_no_name_is_refused(value: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^containers\[0\]\.name: .* as in a DNS label"):
        parse_name("containers[0].name", value)


@given(st.text() | st.from_regex(r"\A[a-z0-9-]{0,70}\Z"))
def test_no_name_can_be_taken_for_a_path_an_option_or_a_predecessor(text: str) -> None:
    with contextlib.suppress(InvalidValueError):
        name = parse_name("name", text)
        assert name.isascii()
        assert not name.startswith(("-", "."))
        assert not {"/", ".", "\n", "\0"} & set(name)
        assert PREDECESSOR_SUFFIX not in name
