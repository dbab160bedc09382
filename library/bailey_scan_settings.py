#!/usr/bin/python
# Copyright: Bailey's founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Set what a host is scanned for."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bailey_scan_settings
short_description: Set what a host's instances are scanned for
version_added: "0.1.0"
author: Bailey's founders (@bailey)
description:
  - Writes C(/etc/bailey/scan.json), which the agent reads before each scan. Every value is checked, and the operator's
    YARA rules are compiled, before anything changes.
options:
  state:
    description:
      - V(present) brings the file to what is declared. With V(absent) nothing is scanned for any more.
    type: str
    choices: [present, absent]
    default: present
  interval:
    description: Seconds between two scans, or a duration with a unit.
    type: str
    default: 5m
  cpu_share:
    description: Share of one processor that a scan takes on the average, from 0.01 to 1.
    type: float
    default: 0.2
  timeout:
    description: Seconds that a scan may take, at most O(interval), or a duration with a unit.
    type: str
    default: 4m
  file_max:
    description: Size of the largest file that is read.
    type: str
    default: 128M
  memory_max:
    description: How much of one process's executable memory is read that belongs to no file.
    type: str
    default: 8M
  entries:
    description: Directory entries that are looked at in each instance and scan; the next scan goes on behind them.
    type: int
    default: 20000
  files:
    description: Files among those that YARA is asked about.
    type: int
    default: 50
  rules_dir:
    description: Directory of the operator's YARA rules, files that end in C(.yar) or C(.yara).
    type: path
    default: /etc/bailey/yara
  access_log:
    description: The access log that connections are read from.
    type: path
    default: /var/log/bailey/access.json
  rules:
    description:
      - Rules by name, each with an action (V(ignore), V(report), V(freeze), V(kill) or V(stop)) or a mapping of
        C(action), C(except) (names of instances that it does not concern) and what the rule takes beside it -
        C(cpu), C(ports) and C(window) for C(miner-behaviour), C(destinations) and C(window) for C(connection-scan).
        What is not said has its default.
      - The rules are C(yara-match), C(yara-file), C(deleted-executable), C(memfd-executable), C(miner-behaviour),
        C(connection-scan), C(setuid-file) and C(foreign-process).
    type: dict
    default: {}
attributes:
  check_mode:
    description: Checks the values and says what would change. YARA rules are not compiled then.
    support: full
  diff_mode:
    description: Returns each setting that differs.
    support: full
seealso:
  - module: bailey_scan
"""

EXAMPLES = r"""
- name: Scan every ten minutes, stop miners, and leave the batch job alone
  bailey_scan_settings:
    interval: 10m
    rules:
      yara-match: kill
      miner-behaviour: {action: stop, except: [ada-batch-1]}
"""

from typing import Any

from ..module_utils.bailey.scan.config import arrange, disarrange
from ..module_utils.bailey_ansible import Outcome, run_module

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "interval": {"type": "str", "default": "5m"},
    "cpu_share": {"type": "float", "default": 0.2},
    "timeout": {"type": "str", "default": "4m"},
    "file_max": {"type": "str", "default": "128M"},
    "memory_max": {"type": "str", "default": "8M"},
    "entries": {"type": "int", "default": 20_000},
    "files": {"type": "int", "default": 50},
    "rules_dir": {"type": "path", "default": "/etc/bailey/yara"},
    "access_log": {"type": "path", "default": "/var/log/bailey/access.json"},
    "rules": {"type": "dict", "default": {}},
}


def handle(params: dict[str, Any], check_mode: bool) -> Outcome:
    """Bring the settings to their state."""
    if params["state"] == "absent":
        return Outcome(disarrange(check=check_mode))
    given = {name: value for name, value in params.items() if name != "state"}
    return Outcome(arrange(given, check=check_mode))


def main() -> None:
    """Run the module."""
    run_module(handle, argument_spec=ARGUMENTS)


if __name__ == "__main__":
    main()
