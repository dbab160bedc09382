"""A mapping is read by known keys alone, and an error names the place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from bailey.errors import InvalidValueError
from bailey.fields import Fields


def fields(**values: object) -> Fields:
    return Fields("web", values, ("flag", "text", "choice", "items", "words", "inner"))


def test_an_unknown_key_is_named_with_the_known_ones_and_its_value_is_not_shown() -> None:
    with pytest.raises(InvalidValueError) as caught:
        fields(flga="hunter2")
    assert str(caught.value) == (
        "web.flga: 'flga' is not valid; allowed: as a key, one of choice, flag, inner, items, text, words"
    )


def test_a_key_that_is_no_text_is_an_unknown_one() -> None:
    with pytest.raises(InvalidValueError, match=r"^web\.1: 1 is not valid"):
        Fields("web", {1: 2}, ("a",))


def test_an_unknown_key_that_is_null_was_not_given() -> None:
    assert "flga" not in fields(flga=None)


@pytest.mark.parametrize("value", [None, "a", ["a"], 1, True])
def test_what_is_no_mapping_is_refused(value: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^web: .* allowed: a mapping"):
        Fields("web", value, ("a",))


def test_at_the_top_a_path_is_the_key_alone() -> None:
    assert Fields("", {}, ("a",)).path("a") == "a"
    assert Fields("web", {}, ("a",)).path("a") == "web.a"


def test_values_are_returned_as_they_were_given() -> None:
    given = fields(flag=True, text="a", choice="b", items=[1, "c"], words=["d", 2], inner={"e": 1})
    assert given.flag("flag", default=False) is True
    assert given.text("text") == "a"
    assert given.choice("choice", ("a", "b"), "a") == "b"
    assert given.items("items") == [1, "c"]
    assert given.words("words") == ("d", "2")
    assert given.get("inner") == given.required("inner", "a mapping") == {"e": 1}
    assert "flag" in given


def test_what_was_not_given_has_its_default() -> None:
    given = fields(flag=None)
    assert given.flag("flag", default=True) is True
    assert given.text("text", "a") == "a"
    assert given.choice("choice", ("a", "b"), "b") == "b"
    assert given.items("items") == []
    assert given.words("words") is None
    assert given.get("inner", 7) == 7
    assert "flag" not in given
    with pytest.raises(InvalidValueError, match=r"^web\.inner: None is not valid; allowed: it is required: a mapping"):
        given.required("inner", "a mapping")


@pytest.mark.parametrize(
    ("read", "key", "value", "allowed"),
    [
        (lambda given: given.flag("flag", default=True), "flag", "yes", "true or false"),
        (lambda given: given.flag("flag", default=True), "flag", 1, "true or false"),
        (lambda given: given.text("text"), "text", 1, "a string"),
        (lambda given: given.text("text"), "text", "a\0b", "a string"),
        (lambda given: given.choice("choice", ("a", "b"), "a"), "choice", "c", "one of a, b"),
        (lambda given: given.choice("choice", ("a", "b"), "a"), "choice", ["a"], "one of a, b"),
        (lambda given: given.items("items"), "items", "abc", "a list"),
        (lambda given: given.items("items"), "items", {"a": 1}, "a list"),
    ],
)
def test_a_value_of_another_type_is_refused(
    read: Callable[[Fields], object], key: str, value: object, allowed: str
) -> None:
    with pytest.raises(InvalidValueError, match=rf"^web\.{key}: .* is not valid; allowed: {allowed}$"):
        read(fields(**{key: value}))


@pytest.mark.parametrize("value", [True, None, 1.5, [], {}, "a\0b"])
def test_a_word_that_is_none_is_named_by_its_number(value: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^web\.words\[1\]: "):
        fields(words=["a", value]).words("words")
