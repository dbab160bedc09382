from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.bailey.errors import InvalidValueError
from plugins.module_utils.bailey.images.reference import Repository, parse_repository, parse_tag, split_tag


@pytest.mark.parametrize(
    ("text", "domain", "path"),
    [
        ("python", "", "python"),
        ("bailey/python", "", "bailey/python"),
        ("registry.bailey.internal:5000/bailey/python", "registry.bailey.internal:5000", "bailey/python"),
        ("localhost/x", "localhost", "x"),
        ("host:5000/x", "host:5000", "x"),
        ("127.0.0.1:5000/a_b/c-d.e__f", "127.0.0.1:5000", "a_b/c-d.e__f"),
        ("[::1]:5000/x", "[::1]:5000", "x"),
    ],
)
def test_a_repository_is_read_and_written_back(text: str, domain: str, path: str) -> None:
    parsed = parse_repository("name", text)
    assert parsed == Repository(domain, path)
    assert str(parsed) == text


@pytest.mark.parametrize(
    "text",
    ["", "Python", "a:1", "a@sha256:00", "a//b", "/a", "a/", "host:5000", "a b", "a\n", "-a", "a" * 256, None, 5],
)
def test_what_is_no_repository_is_refused(text: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^name: .* allowed: a repository without tag or digest"):
        parse_repository("name", text)


@pytest.mark.parametrize("tag", ["", "-x", ".x", "a b", "x" * 129, "0123456789ab", "latest\n", None])
def test_a_wrong_or_reserved_tag_is_refused(tag: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^tag: "):
        parse_tag("tag", tag)


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}", fullmatch=True).filter(lambda tag: len(tag) != 12))
def test_a_tag_comes_back_from_a_reference(tag: str) -> None:
    repository = Repository("host:5000", "a/b")
    assert split_tag(repository.tagged(parse_tag("tag", tag))) == (str(repository), tag)


def test_without_a_tag_latest_is_meant() -> None:
    assert split_tag("host:5000/a") == ("host:5000/a", "latest")
