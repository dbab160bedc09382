"""The scan's settings on a host: the role's, the module's and the core's agree; what is wrong changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from bailey.errors import HostError, InvalidValueError
from bailey.scan.config import arrange, disarrange
from bailey.scan.rules import Settings, parse_settings, read_settings
from bailey.scan.table import render

from tests.unit import house

DEFAULTS: dict[str, Any] = yaml.safe_load((house.ROOT / "roles/scan/defaults/main.yml").read_text())
ELSEWHERE = {"scan_packages", "scan_rules_files", "scan_state_dir", "scan_run_dir", "scan_remove"}
FILE = {name.removeprefix("scan_"): value for name, value in DEFAULTS.items() if name not in ELSEWHERE}


def test_the_roles_defaults_are_what_is_taken_where_nothing_is_said() -> None:
    assert parse_settings(FILE, "scan") == Settings()


def test_the_module_takes_every_setting_and_has_its_default() -> None:
    options = house.argument_spec(house.import_module(house.ROOT / "library/bailey_scan_settings.py"))
    assert {name: option.get("default") for name, option in options.items() if name != "state"} == FILE


def test_it_is_written_once_and_removed_once(tmp_path: Path) -> None:
    config = tmp_path / "bailey/scan.json"
    assert arrange(FILE, check=True, config=config)
    assert not config.parent.exists()
    assert arrange(FILE, check=False, config=config)
    assert not arrange(FILE, check=False, config=config)
    assert read_settings(config) == Settings()
    changed = arrange({**FILE, "files": 60}, check=False, config=config)
    assert [item.path for item in changed] == ["scan.files"]
    assert disarrange(check=True, config=config)
    assert config.exists()
    assert disarrange(check=False, config=config)
    assert not disarrange(check=False, config=config)
    assert not config.parent.exists()


@pytest.mark.parametrize("content", ["no json", "[]"])
def test_what_is_none_of_ours_is_replaced(tmp_path: Path, content: str) -> None:
    config = tmp_path / "scan.json"
    config.write_text(content)
    assert arrange(FILE, check=False, config=config)
    assert read_settings(config) == Settings()


def test_what_is_wrong_changes_nothing(tmp_path: Path) -> None:
    config, rules = tmp_path / "scan.json", tmp_path / "yara"
    arrange({**FILE, "rules_dir": str(rules)}, check=False, config=config)
    before = config.read_text()
    with pytest.raises(InvalidValueError, match=r"scan\.rules\.setuid-file\.action: 'kill' is not valid"):
        arrange({**FILE, "rules": {"setuid-file": "kill"}}, check=True, config=config)
    rules.mkdir()
    (rules / "mine.yar").write_text("rule one { condition: nothing_of_it }")
    with pytest.raises(HostError, match=r"mine\.yar\(1\)"):
        arrange({**FILE, "rules_dir": str(rules), "files": 60}, check=False, config=config)
    (rules / "mine.yar").rename(rules / "bailey_mine.yar")
    with pytest.raises(HostError, match="rename the file"):
        arrange({**FILE, "rules_dir": str(rules), "files": 60}, check=False, config=config)
    assert config.read_text() == before
    assert json.loads(before)["files"] == 50


def test_a_table() -> None:
    finding = {
        "instance": "ada-web-1", "rule": "setuid-file", "pid": None, "path": "/data/" + "x" * 80, "taken": "reported",
        "detail": "it runs as uid 0",
    }  # fmt: skip
    summary = {"instances": ["ada-web-1"], "seconds": 1.25, "cpu_seconds": 0.5, "complete": False, "left_off": 2}
    text = render([finding, {**finding, "path": "", "pid": 7}], {**summary, "notes": ["one"]})
    lines = text.splitlines()
    assert lines[0].split() == ["INSTANCE", "RULE", "PID", "PATH", "TAKEN", "FOUND"]
    assert "…" in lines[1]
    assert lines[2].split()[2:4] == ["7", "-"]
    assert lines[3] == "1 instances in 1.2 s, 0.5 s of processor time"
    assert lines[-2:] == ["2 more findings are left off", "note: one"]
    assert render([], {}) == "nothing was found"
