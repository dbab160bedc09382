"""python3 -m bailey.scan: see --help. Findings are lines of JSON as they are made; the last line is the summary."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import BaileyError, HostError, InvalidValueError
from ..host.cgroup import open_hierarchy
from .budget import Budget, make_humble
from .findings import Finding
from .rules import Settings, read_settings, with_rules
from .scanner import Places, Scanner, find_targets
from .yara import OWN_RULES, check_rules, sources

LOCK_NAME = "scan.lock"


def main() -> int:
    """Run one scan, or check the settings, and return the exit status."""
    given = _parse(sys.argv[1:])
    try:
        if given.check is not None:
            check(read_settings(given.check))
        else:
            scan(given)
    except (BaileyError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    default = Places()
    parser = argparse.ArgumentParser(prog="bailey-scan", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("/etc/bailey/scan.json"), help="the scan's settings")
    parser.add_argument("--state-dir", type=Path, default=default.state_dir, help="specs, evidence, what is remembered")
    parser.add_argument("--run-dir", type=Path, default=default.run_dir, help="state files, and the lock")
    parser.add_argument("--name", action="append", default=[], help="an instance; all where none is named")
    parser.add_argument("--rules", default="{}", help="rules for this scan, laid over those of the settings, as JSON")
    parser.add_argument("--look-only", action="store_true", help="keep no evidence, remember nothing, end nobody")
    parser.add_argument("--check", type=Path, metavar="FILE", help="only say whether a file of settings is valid")
    return parser.parse_args(arguments)


def check(settings: Settings) -> None:
    """See that the rules compile, the operator's too. Raises HostError where they do not."""
    with tempfile.TemporaryDirectory() as directory:
        check_rules(sources(OWN_RULES, settings.rules_dir), Path(directory, "rules"))


def scan(given: argparse.Namespace) -> None:
    """Scan once, alone on the host."""
    settings = with_rules(read_settings(given.config), _parse_rules(given.rules))
    places = Places(given.state_dir, given.run_dir)
    with _alone(given.run_dir / LOCK_NAME):
        budget = Budget(settings.cpu_share, settings.timeout)
        notes = make_humble(settings.cpu_share, settings.timeout)
        targets, unread = find_targets(places, open_hierarchy(), given.name)
        summary = Scanner(settings, places, budget, _tell, act=not given.look_only).run(targets)
        summary.notes = [*notes, *unread, *summary.notes]
        _print({"summary": summary.as_json()})


def _parse_rules(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise InvalidValueError("--rules", text, "a JSON object") from None


def _alone(path: Path) -> Any:
    """Hold the lock until the block ends, or the process, however it does. Raises HostError where another has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    lock = os.fdopen(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise HostError(f"another scan runs ({path}); there can be one at a time") from None
    return lock


def _tell(finding: Finding) -> None:
    _print({"finding": finding.as_json()})


def _print(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
