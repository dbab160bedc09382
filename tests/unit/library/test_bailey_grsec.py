"""The module as AnsibleModule runs it: its report, its check mode, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from tests.unit import house
from tests.unit.lockdown.trees import make_host, setting, tree

MODULE = house.import_module(house.ROOT / "library/bailey_grsec.py")

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return make_host(tmp_path / "host")


@pytest.fixture
def run(host: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the module on a host that is a tree of files, and return its result."""
    for name in ("harden", "soften"):
        monkeypatch.setattr(MODULE, name, partial(getattr(MODULE, name), root=host))

    def run_module(**arguments: object) -> dict[str, Any]:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            MODULE.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run_module


def test_it_changes_once_and_reports_each_feature(run: Run) -> None:
    first = run()
    assert first["changed"] is True
    assert first["diff"]["after"]["kernel.kptr_restrict"] == "2"
    rows = {row["feature"]: row for row in first["features"]}
    held = {"status": "enforced", "reason": ""}
    assert rows["hidesym"] == {
        "feature": "hidesym",
        "grsecurity": ["GRKERNSEC_HIDESYM"],
        **held,
        "means": [{"kind": "sysctl", "name": "kernel.kptr_restrict", "wanted": "2", "found": "2", **held}],
    }
    assert any(line.split() == ["hidesym", "enforced"] for line in first["table"].splitlines())
    assert "io_uring: unsupported: this kernel has no kernel.io_uring_disabled" in first["summary"]
    second = run()
    assert second["changed"] is False
    assert second["features"] == first["features"]


def test_check_mode_changes_nothing(host: Path, run: Run) -> None:
    before = tree(host)
    assert run(_ansible_check_mode=True)["changed"] is True
    assert tree(host) == before


def test_absent_puts_back(host: Path, run: Run) -> None:
    run(boot_parameters=["quiet"])
    assert run(state="absent")["changed"] is True
    assert setting(host, "kernel/kptr_restrict") == "0"
    assert run(state="absent")["changed"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"features": {"user_namespaces": True}}, "unless user_namespaces is in conflicts"),
        ({"sysctls": {"net.ipv4.ip_forward": 0}}, "without forwarding no tenant has a network"),
        ({"boot_parameters": "quiet"}, "boot_parameters: 'quiet' is not valid"),
        ({"modules_denied": ["overlay"]}, "a module that the platform does without"),
        ({"required": ["tpe"]}, "required: 'tpe' cannot be enforced on this host: no equivalent"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(
    host: Path, run: Run, arguments: dict[str, object], words: str
) -> None:
    before = tree(host)
    result = run(**arguments)
    assert result["failed"] is True
    assert words in result["msg"]
    assert tree(host) == before
