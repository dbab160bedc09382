"""One list of differences gives `changed` and the diff."""

from __future__ import annotations

from bailey.changes import Difference, Differences


def test_nothing_found_is_nothing_changed() -> None:
    differences = Differences()
    assert not differences.add("memory", "64M", "64M")
    assert not differences
    assert differences.as_diff() == {"before": {}, "after": {}}


def test_both_sides_of_a_difference_are_kept() -> None:
    differences = Differences()
    assert differences.add("memory", "64M", "128M")
    assert differences.add("cpus", None, "0.5")
    assert differences
    assert differences.as_diff() == {
        "before": {"memory": "64M", "cpus": None},
        "after": {"memory": "128M", "cpus": "0.5"},
    }


def test_differences_keep_the_order_in_which_they_were_found() -> None:
    differences = Differences()
    for path in ("b", "a", "c"):
        differences.add(path, 0, 1)
    assert [item.path for item in differences] == ["b", "a", "c"]


def test_another_list_is_taken_over_below_a_prefix() -> None:
    inner = Differences([Difference("memory", 1, 2)])
    outer = Differences([Difference("a", 0, 1)])
    outer.extend(inner, prefix="blog.")
    assert [item.path for item in outer] == ["a", "blog.memory"]
    assert [item.path for item in inner] == ["memory"]


def test_two_lists_share_nothing() -> None:
    Differences().add("a", 0, 1)
    assert not Differences()
