"""Every instance has a uid of its own, and keeps it."""

from __future__ import annotations

import pytest
from bailey.errors import HostError, InvalidValueError
from bailey.uids import allocate, parse_uid_range
from hypothesis import given
from hypothesis import strategies as st

UIDS = range(2000, 2010)
NAMES = st.sampled_from([f"i{number}" for number in range(8)])


def test_the_lowest_free_uids_are_given() -> None:
    assert allocate({"a": None, "b": None}, {"gone": 2000}, UIDS) == {"a": 2001, "b": 2002}


def test_an_instance_keeps_its_uid_even_outside_of_the_range() -> None:
    assert allocate({"a": None}, {"a": 5000}, UIDS) == {"a": 5000}


def test_a_uid_that_was_asked_for_is_not_given_to_another() -> None:
    assert allocate({"a": None, "b": 2000}, {}, UIDS) == {"a": 2001, "b": 2000}


@pytest.mark.parametrize("known", [{"other": 2005}, {}])
def test_two_instances_never_share_a_uid(known: dict[str, int]) -> None:
    declared = {"a": 2005} if known else {"a": 2005, "b": 2005}
    with pytest.raises(InvalidValueError, match="a uid of its own"):
        allocate(declared, known, UIDS)


def test_root_is_for_many_and_only_for_who_asks() -> None:
    known = {"a": 0, "other": 0}
    assert allocate({"a": 0, "b": 0}, known, UIDS) == {"a": 0, "b": 0}
    assert allocate({"a": None}, known, UIDS) == {"a": 2000}


def test_an_exhausted_range_names_who_gets_none() -> None:
    with pytest.raises(HostError, match="last gets none"):
        allocate({"last": None}, {f"i{uid}": uid for uid in UIDS}, UIDS)


@given(st.lists(NAMES, unique=True), st.dictionaries(NAMES, st.integers(2000, 2009)))
def test_allocations_are_distinct_and_stable(names: list[str], known: dict[str, int]) -> None:
    known = {name: 2000 + number for number, name in enumerate(known)}
    declared = dict.fromkeys(names)
    if len({*known, *names}) > len(UIDS):
        return
    given_uids = allocate(declared, known, UIDS)
    assert set(given_uids) == set(names)
    assert len(set(given_uids.values())) == len(names)
    assert allocate(declared, known | given_uids, UIDS) == given_uids


@pytest.mark.parametrize("value", ["", "1-2", "3000", "3000-2000", "2000-4294967294", "a-b", 5, None])
def test_a_range_is_two_uids_of_tenants(value: object) -> None:
    with pytest.raises(InvalidValueError, match="uid_range"):
        parse_uid_range("uid_range", value)


def test_a_range_holds_both_its_ends() -> None:
    assert list(parse_uid_range("uid_range", " 2000-2002 ")) == [2000, 2001, 2002]
