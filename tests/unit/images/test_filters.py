"""The role's filters, which run on the controller."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from plugins.filter.bailey_images import bailey_build_order, bailey_context


def build(name: str, base: str = "") -> dict[str, Any]:
    return {"name": name, "base": base}


@given(st.permutations([("a", "base"), ("b", "a"), ("c", "b"), ("d", ""), ("e", "b"), ("f", "other/x:1")]))
def test_each_build_follows_its_base(pairs: list[tuple[str, str]]) -> None:
    ordered = [item["name"] for item in bailey_build_order([build(*pair) for pair in pairs], ["base"])]
    assert sorted(ordered) == ["a", "b", "c", "d", "e", "f"]
    assert ordered.index("a") < ordered.index("b") < min(ordered.index("c"), ordered.index("e"))


@pytest.mark.parametrize(
    ("builds", "message"),
    [
        ([build("a", "b"), build("b", "a")], "circle: (a → b → a|b → a → b)"),
        ([build("a", "a")], "circle: a → a"),
        ([build("a"), build("a")], "more than one image is called a"),
        ([build("base")], "more than one image is called base"),
        ([build("a", "pyhton"), build("python")], "a has the base 'pyhton'; allowed: base, python, or"),
    ],
)
def test_what_cannot_be_ordered_is_refused(builds: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        bailey_build_order(builds, ["base"])


def test_a_context_is_read_with_the_executable_bit_alone(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/run").write_bytes(b"\x00\xff")
    (tmp_path / "sub/run").chmod(0o700)
    (tmp_path / "Dockerfile").write_text("FROM x")
    (tmp_path / "Dockerfile").chmod(0o600)
    assert bailey_context(str(tmp_path)) == [
        {"path": "Dockerfile", "content": base64.b64encode(b"FROM x").decode(), "mode": "0644"},
        {"path": "sub/run", "content": base64.b64encode(b"\x00\xff").decode(), "mode": "0755"},
    ]


@pytest.mark.parametrize("name", [".dockerignore", "link"])
def test_what_a_context_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "link":
        path.symlink_to("/etc")
    else:
        path.touch()
    with pytest.raises(AnsibleFilterError, match=name):
        bailey_context(str(tmp_path))
    with pytest.raises(AnsibleFilterError, match="no directory"):
        bailey_context(str(tmp_path / "none"))
