"""The module as AnsibleModule runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from tests.unit import house
from tests.unit.access_log.test_query import NOW, dropped, entry

MODULE = house.import_module(house.ROOT / "library/bailey_access_log_info.py")

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the module on a log with an entry of each of two tenants, and return its result."""
    log = tmp_path / "access.json"
    log.write_text("".join(json.dumps(item) + "\n" for item in (entry(), entry(tenant="b"), dropped(3))))

    def run_module(**arguments: object) -> dict[str, Any]:
        with patch_module_args({"path": str(log), **arguments}), pytest.raises(SystemExit):
            MODULE.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run_module


def test_it_answers_for_a_tenant_and_changes_nothing(run: Run) -> None:
    result = run(tenant="a", since="1970-01-01T00:00:00Z", _ansible_check_mode=True)
    assert result["changed"] is False
    assert result["entries"] == [entry(NOW)]
    assert [row["connections"] for row in result["summary"]] == [1]
    assert result["dropped"] == [{"reason": "rate", "instance": None, "count": 3}]
    assert result["table"].startswith("INSTANCE")


def test_without_a_tenant_it_answers_for_all(run: Run) -> None:
    assert [item["tenant"] for item in run()["entries"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"since": "noon"}, "since: 'noon' is not valid"),
        ({"tenant": "A"}, "tenant: 'A' is not valid"),
        ({"verdict": "maybe"}, "verdict must be one of"),
        ({"path": "/nowhere/access.json"}, "there is no access log"),
    ],
)
def test_what_is_wrong_is_said(run: Run, arguments: dict[str, object], words: str) -> None:
    result = run(**arguments)
    assert result["failed"] is True
    assert words in result["msg"]
