"""The scan's settings on a host: checked, the operator's rules compiled, and only then written."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..changes import Differences, Json
from ..host.files import read_text, write_atomic
from ..host.runit import remove_if_empty
from .rules import VERSION, parse_settings
from .yara import check_rules, sources

CONFIG = Path("/etc/bailey/scan.json")


def arrange(given: Mapping[str, Json], *, check: bool, config: Path = CONFIG) -> Differences:
    """Bring the file to what is declared. The agent reads it before each scan.

    `given` holds the settings by name. Raises InvalidValueError for the first that is wrong, and HostError where the
    operator's YARA rules do not compile; the file is then as it was. In check mode rules are not compiled, for yara
    may not be installed yet.
    """
    content: dict[str, Json] = {"version": VERSION, **given}
    settings = parse_settings(content, "scan")
    differences = _compare(content, config)
    if not check:
        files = sources(config.parent / "none", settings.rules_dir)
        if files:
            with tempfile.TemporaryDirectory() as directory:
                check_rules(files, Path(directory, "rules"))
        if differences:
            config.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_atomic(config, _text(content).encode(), mode=0o644)
    return differences


def disarrange(*, check: bool, config: Path = CONFIG) -> Differences:
    """Remove the file: nothing is scanned for any more."""
    differences = Differences()
    if differences.add(str(config), "present" if config.exists() else "absent", "absent") and not check:
        config.unlink()
        remove_if_empty(config.parent)
    return differences


def _compare(content: Mapping[str, Json], config: Path) -> Differences:
    """Record each setting that differs, or the whole file where what is there is none of ours."""
    differences = Differences()
    former = read_text(config)
    if former == _text(content):
        return differences
    try:
        before = json.loads(former or "{}")
    except ValueError:
        before = None
    if not isinstance(before, dict) or before == content:
        differences.add(str(config), former, _text(content))
        return differences
    for key in sorted({*before, *content}):
        differences.add(f"{config.stem}.{key}", before.get(key), content.get(key))
    return differences


def _text(content: Mapping[str, Json]) -> str:
    return json.dumps(content, indent=2, sort_keys=True) + "\n"
