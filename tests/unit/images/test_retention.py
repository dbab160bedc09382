from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.bailey.errors import BaileyError
from plugins.module_utils.bailey.images.engine import Image, _seconds
from plugins.module_utils.bailey.images.reference import Repository
from plugins.module_utils.bailey.images.retention import Use, declared_uses, surplus

REPOSITORY = Repository("host:5000", "shop")


def image(number: int, *more_tags: str) -> Image:
    inputs = f"{number:012x}" + "f" * 52
    tags = {REPOSITORY.tagged(inputs[:12]), *(REPOSITORY.tagged(tag) for tag in more_tags)}
    return Image(
        f"sha256:{number:064x}", frozenset(tags), frozenset({f"{REPOSITORY}@sha256:d{number}"}), inputs, number
    )


def tag(number: int) -> str:
    return f"{number:012x}"


def test_the_newest_stay() -> None:
    images = [image(number) for number in (3, 1, 4, 2)]
    assert surplus(REPOSITORY, images, 2, None, []) == [tag(1), tag(2)]


def test_the_present_one_stays_though_it_is_the_oldest_and_takes_a_place() -> None:
    images = [image(1, "current"), image(2), image(3)]
    assert surplus(REPOSITORY, images, 2, tag(1), []) == [tag(2)]


@pytest.mark.parametrize(
    "use",
    [
        Use("container", "anything", f"sha256:{1:064x}"),
        Use("spec", f"sha256:{1:064x}"),
        Use("spec", f"{1:064x}"),
        Use("spec", REPOSITORY.tagged(tag(1))),
        Use("spec", REPOSITORY.tagged("blue")),
        Use("spec", str(REPOSITORY)),
        Use("spec", f"{REPOSITORY}@sha256:d1"),
    ],
)
def test_what_is_used_stays_however_it_is_named(use: Use) -> None:
    images = [image(1, "blue", "latest"), image(2), image(3)]
    assert surplus(REPOSITORY, images, 1, None, [use]) == [tag(2)]


def test_foreign_tags_are_never_removed() -> None:
    foreign = Image(
        "sha256:0", frozenset({REPOSITORY.tagged("0" * 12), REPOSITORY.tagged("1.0")}), frozenset(), None, 0
    )
    assert surplus(REPOSITORY, [foreign, image(1), image(2)], 1, None, []) == [tag(1)]


@given(st.sets(st.integers(0, 50)), st.integers(1, 60), st.sets(st.integers(0, 50)))
def test_keep_is_kept(numbers: set[int], keep: int, used: set[int]) -> None:
    images = [image(number) for number in numbers]
    uses = [Use("container", "", f"sha256:{number:064x}") for number in used]
    removed = {int(name, 16) for name in surplus(REPOSITORY, images, keep, None, uses)}
    assert not removed & used
    assert len(numbers - removed) >= min(keep, len(numbers))
    assert len(numbers - removed - used) <= keep


def test_specs_declare_images_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        json.dumps({"spec": {"image": "x:1", "args": ["image"]}, "more": [{"image": "y"}]})
    )
    (tmp_path / "b.json").write_text(json.dumps({"image": {"image": "z"}}))
    (tmp_path / "c.tmp").write_text("{")
    assert [(use.user, use.image) for use in declared_uses(tmp_path)] == [
        ("spec a", "x:1"),
        ("spec a", "y"),
        ("spec b", "z"),
    ]
    assert declared_uses(tmp_path / "none") == []


def test_a_spec_that_cannot_be_read_stops_all(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(BaileyError, match=r"a\.json: cannot be read"):
        declared_uses(tmp_path)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10.123456789Z", 10.123456789),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-02T00:00:00Z", 86400.0),
        ("0001-01-01T00:00:00Z", 0.0),
        ("", 0.0),
        (None, 0.0),
    ],
)
def test_the_engines_times_are_read(text: str | None, seconds: float) -> None:
    assert _seconds(text) == pytest.approx(seconds)
