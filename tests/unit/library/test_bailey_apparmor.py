"""The module as AnsibleModule runs it, on a kernel made of files."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from tests.unit import house
from tests.unit.apparmor_kernel import make_kernel

MODULE = house.import_module(house.ROOT / "library/bailey_apparmor.py")
TEXT = "profile bailey-x { /a r, }\n"

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    kernel = make_kernel(tmp_path)
    kernel.run(7, "bailey-x (enforce)")
    monkeypatch.setattr(MODULE, "manage", partial(MODULE.manage, host=kernel, cache=tmp_path / "cache"))

    def run_module(check_mode: bool = False, **arguments: object) -> dict[str, Any]:
        given = {"name": "bailey-x", **arguments, "_ansible_check_mode": check_mode, "_ansible_diff": True}
        with patch_module_args(given), pytest.raises(SystemExit):
            MODULE.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run_module


def test_a_profile_is_loaded_once(run: Run) -> None:
    assert run(content=TEXT, check_mode=True)["changed"] is True
    first, again = run(content=TEXT), run(content=TEXT)
    assert (first["changed"], again["changed"]) == (True, False)
    assert {key: again[key] for key in ("loaded", "mode", "processes")} == {
        "loaded": True,
        "mode": "enforce",
        "processes": [7],
    }
    assert len(again["sha"]) == 40
    assert first["diff"]["after"]["kernel.bailey-x"] == "enforce"


def test_a_text_may_come_from_a_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text(TEXT)
    assert run(path=str(file), state="complaining")["mode"] == "complain"
    assert run(content=TEXT, state="complaining")["changed"] is False
    assert "a file with a profile's text" in run(path=str(tmp_path / "nothing"))["msg"]


def test_absent_needs_no_text(run: Run, tmp_path: Path) -> None:
    run(content=TEXT)
    assert "binds running processes" in run(state="absent")["msg"]
    (tmp_path / "proc/7/attr/apparmor/current").unlink()
    done = run(state="absent")
    assert (done["changed"], done["loaded"], done["mode"], done["sha"]) == (True, False, None, None)
    assert run(state="absent", path="/nonexistent")["changed"] is False


@pytest.mark.parametrize("arguments", [{}, {"state": "complaining"}, {"content": TEXT, "path": "/x"}])
def test_exactly_one_text_is_needed(run: Run, arguments: dict[str, object]) -> None:
    assert run(**arguments)["failed"] is True


def test_an_unfit_name_is_told(run: Run) -> None:
    result = run(name="a/b", content=TEXT)
    assert (result["failed"], result["field"]) == (True, "name")
