"""The scan's settings: what is read, what is refused by name, and that the role and the core agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bailey.errors import HostError, InvalidValueError
from bailey.scan.rules import (
    FOREIGN,
    IGNORE,
    KILL,
    MINER,
    NAMES,
    REPORT,
    SETUID,
    STOP,
    Settings,
    parse_settings,
    read_settings,
    with_rules,
)


def test_an_empty_file_has_the_defaults() -> None:
    assert parse_settings({}, "scan") == Settings()
    actions = {name: rule.action for name, rule in Settings().rules.items()}
    assert actions == {**dict.fromkeys(NAMES, REPORT), FOREIGN: IGNORE}


def test_all_that_may_be_said() -> None:
    settings = parse_settings(
        {
            "version": 1,
            "interval": "10m",
            "cpu_share": "0.5",
            "timeout": 60,
            "file_max": "1M",
            "memory_max": "64K",
            "entries": 1000,
            "files": 0,
            "rules_dir": "/r",
            "access_log": "/a",
            "rules": {
                SETUID: STOP,
                MINER: {"action": KILL, "cpu": 0.5, "ports": [1, "2"], "window": "20s", "except": ["ada-web-1"]},
            },
        },
        "scan",
    )
    assert (settings.interval, settings.timeout, settings.cpu_share) == (600, 60, 0.5)
    assert (settings.file_max, settings.memory_max, settings.entries, settings.files) == (1 << 20, 1 << 16, 1000, 0)
    assert (settings.rules_dir, settings.access_log) == (Path("/r"), Path("/a"))
    assert settings.rules[SETUID].action == STOP
    miner = settings.rules[MINER]
    assert (miner.action, miner.cpu, miner.ports, miner.window) == (KILL, 0.5, frozenset({1, 2}), 20)
    assert not miner.concerns("ada-web-1")
    assert miner.concerns("ada-web-2")


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ([], "scan: "),
        ({"intervall": 1}, "scan.intervall: "),
        ({"version": 2}, "scan.version: "),
        ({"interval": 1}, "scan.interval: "),
        ({"interval": True}, "scan.interval: "),
        ({"interval": "soon"}, "scan.interval: "),
        ({"interval": float("nan")}, "scan.interval: "),
        ({"interval": 60, "timeout": 61}, "scan.timeout: "),
        ({"cpu_share": 0}, "scan.cpu_share: "),
        ({"cpu_share": 2}, "scan.cpu_share: "),
        ({"cpu_share": "nan"}, "scan.cpu_share: "),
        ({"file_max": 4096}, "scan.file_max: "),
        ({"file_max": "4G"}, "scan.file_max: "),
        ({"entries": 1}, "scan.entries: "),
        ({"rules_dir": "yara"}, "scan.rules_dir: "),
        ({"rules": {"yara": REPORT}}, "scan.rules.yara: "),
        ({"rules": {SETUID: "burn"}}, "scan.rules.setuid-file.action: "),
        ({"rules": {SETUID: KILL}}, "scan.rules.setuid-file.action: "),
        ({"rules": {SETUID: {"cpu": 0.5}}}, "scan.rules.setuid-file.cpu: "),
        ({"rules": {SETUID: {"except": ["A"]}}}, "scan.rules.setuid-file.except[0]: "),
        ({"rules": {MINER: {"ports": [0]}}}, "scan.rules.miner-behaviour.ports[0]: "),
        ({"rules": {"connection-scan": {"destinations": 1}}}, "scan.rules.connection-scan.destinations: "),
    ],
)
def test_what_is_refused(content: Any, field: str) -> None:
    with pytest.raises(InvalidValueError) as error:
        parse_settings(content, "scan")
    assert str(error.value).startswith(field)


def test_rules_of_one_scan_are_laid_over_the_others() -> None:
    base = parse_settings({"rules": {MINER: {"cpu": 0.5, "action": STOP}}}, "scan")
    rules = with_rules(base, {MINER: REPORT, SETUID: {"except": ["ada-web-1"]}}).rules
    assert (rules[MINER].action, rules[MINER].cpu) == (REPORT, 0.5)
    assert (rules[SETUID].action, rules[SETUID].spared) == (REPORT, frozenset({"ada-web-1"}))


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "scan.json"
    with pytest.raises(HostError, match="role scan writes them"):
        read_settings(path)
    path.write_text("{")
    with pytest.raises(HostError, match="cannot be read"):
        read_settings(path)
    path.write_text(json.dumps({"interval": 20}))
    assert read_settings(path).timeout == 20
