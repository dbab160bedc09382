"""The module as AnsibleModule runs it: its arguments, what it returns, and what it never shows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from bailey.instance_state import InstanceState, write_state

from tests.unit import house
from tests.unit.wsh.standin import serving

MODULE = house.import_module(house.ROOT / "library/bailey_wsh.py")
MASKED = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run the module with two instances there, and return its result."""
    (tmp_path / "ctl").mkdir()

    def run_module(check_mode: bool = False, **arguments: object) -> dict[str, Any]:
        given = {**arguments, "run_dir": str(tmp_path), "_ansible_check_mode": check_mode}
        with patch_module_args(given), pytest.raises(SystemExit):
            MODULE.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    with contextlib.ExitStack() as stack:
        for name in ("one", "two"):
            write_state(tmp_path, InstanceState(name, "a", "web", status="open"))
            stack.enter_context(serving(tmp_path / f"ctl/{name}.sock"))
        yield run_module


def test_a_command_changes_something(run: Run) -> None:
    result = run(name="one", cmd="echo out")
    assert (result["changed"], result["rc"], result["stdout"]) == (True, 0, "out")
    assert "failed" not in result
    assert result["elapsed"] > 0
    assert run(tenant="a", argv=["false"])["failed"] is True


def test_a_condition_skips(run: Run, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    first = run(name="one", argv=["touch", str(mark)], creates=str(mark))
    again = run(name="one", argv=["touch", str(mark)], creates=str(mark))
    assert (first["changed"], again["changed"], again["skipped"]) == (True, False, True)
    would = run(name="one", argv=["rm", str(mark)], removes=str(mark), check_mode=True)
    assert (would["changed"], mark.exists()) == (True, True)
    assert run(name="one", argv=["rm", str(mark)], check_mode=True)["skipped"] is True


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"cmd": "true"}, "one of the following is required: name, names, tenant, app, all"),
        ({"name": "one"}, "one of the following is required: argv, cmd"),
        ({"name": "one", "cmd": "a", "argv": ["a"]}, "mutually exclusive: argv|cmd"),
        ({"name": "one", "names": ["two"], "cmd": "a"}, "mutually exclusive: name|names"),
        ({"names": ["two"], "app": "web", "cmd": "a"}, "mutually exclusive: names|app"),
        ({"name": "one", "all": True, "cmd": "a"}, "mutually exclusive: name|all"),
        ({"all": False, "cmd": "a"}, "all: False is not valid"),
        ({"name": "one", "cmd": "a", "workers": 0}, "workers: 0 is not valid"),
    ],
)
def test_arguments_that_do_not_go_together(run: Run, arguments: dict[str, object], text: str) -> None:
    result = run(**arguments)
    assert result["failed"] is True
    assert text in result["msg"]


def test_secrets_are_masked_and_short_words_are_not(run: Run) -> None:
    result = run(
        name="one",
        argv=["sh", "-c", 'echo "$TOKEN $NUMBER"; cat; exit 3'],
        environment={"TOKEN": "hush-hush-one", "NUMBER": 3},
        stdin="hush-hush-two",
    )
    assert result["rc"] == 3
    assert result["instances"][0]["rc"] == 3
    assert result["stdout_lines"] == ["******** 3", MASKED]
    shown = result["invocation"]["module_args"]
    assert (shown["environment"], shown["stdin"], shown["name"]) == (MASKED, MASKED, "one")
    assert "hush" not in json.dumps(result)


def test_nothing_that_is_meant_changes_nothing(run: Run) -> None:
    result = run(tenant="nobody", cmd="true")
    assert (result["changed"], result["instances"]) == (False, [])
