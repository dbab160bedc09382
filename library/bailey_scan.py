#!/usr/bin/python
# Copyright: Bailey's founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Scan a host's instances for hostile processes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bailey_scan
short_description: Scan a host's instances for hostile processes
version_added: "0.1.0"
author: Bailey's founders (@bailey)
description:
  - Has the host's agent scan now, with the settings that M(bailey_scan_settings) has written, and waits for what is
    found. Each rule's action is taken as soon as it finds something.
  - The agent alone freezes and stops instances, and has YARA's rules beside it. Without an agent there is no scan.
  - In check mode it looks, and does nothing - no evidence is kept, nobody is killed, frozen or stopped.
options:
  names:
    description: The instances to look at; all whose gate is open where none is given.
    type: list
    elements: str
    default: []
  rules:
    description:
      - Rules for this scan alone, laid over those of the settings - a rule's name with an action, or with a mapping as
        in M(bailey_scan_settings).
    type: dict
    default: {}
  pardon:
    description:
      - Instances that a rule has frozen or stopped, and that go on before the scan begins. One that was stopped starts
        again as its restart policy says.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait for the scan, and for one that is under way before it.
    type: int
    default: 600
  run_dir:
    description: Directory of the agent's socket.
    type: path
    default: /run/bailey
attributes:
  check_mode:
    description: Looks, and does nothing. Before there is an agent it finds nothing.
    support: full
  diff_mode:
    description: It acts, and what it finds is in its result.
    support: none
seealso:
  - module: bailey_scan_settings
"""

EXAMPLES = r"""
- name: Scan the whole host as its timer does
  bailey_scan:

- name: Say what is found in two instances, and do nothing
  bailey_scan:
    names: [ada-web-1, ada-web-2]
  check_mode: true
  register: scan

- name: Stop whoever runs a miner
  bailey_scan:
    rules:
      yara-match: stop
      miner-behaviour: {action: stop, cpu: 0.6}

- name: Let an instance go on
  bailey_scan:
    names: [ada-web-1]
    pardon: [ada-web-1]
"""

RETURN = r"""
findings:
  description: What was found.
  returned: success
  type: list
  elements: dict
  contains:
    rule:
      description: The rule.
      type: str
    instance:
      description: The instance.
      type: str
    tenant:
      description: Whose it is.
      type: str
    app:
      description: The app that it is an instance of.
      type: str
    container:
      description: Id of its container.
      type: str
    detail:
      description: What is wrong, in words.
      type: str
    pid:
      description: The process, as the host numbers it, or null where it is about none.
      type: int
    path:
      description: The file, as the instance's processes see it, cleaned of control characters.
      type: str
    sha256:
      description: Digest of that file, empty where it could not be read.
      type: str
    action:
      description: What the rule asks for.
      type: str
    taken:
      description: What was done - reported, killed, frozen or stopped; or why nothing was.
      type: str
    evidence:
      description: File of the host that keeps what is known of it, empty in check mode.
      type: str
    new:
      description: Whether it was not found before.
      type: bool
summary:
  description:
    - The scan itself - C(instances) that were looked at, whether it was C(complete), C(seconds), C(cpu_seconds),
      C(contents) that were read, findings C(left_off), and C(notes) for the operator.
  returned: success
  type: dict
pardoned:
  description: The instances of O(pardon) that had been held.
  returned: success
  type: list
  elements: str
table:
  description: The findings as a text table, for people.
  returned: success
  type: str
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..module_utils.bailey.agent_client import SOCKET_NAME, AgentClient
from ..module_utils.bailey.names import parse_name
from ..module_utils.bailey.scan.findings import FROZEN, KILLED, STOPPED
from ..module_utils.bailey.scan.rules import FREEZE, KILL, STOP, Settings, parse_rules
from ..module_utils.bailey.scan.table import render
from ..module_utils.bailey.units import parse_count
from ..module_utils.bailey_ansible import Outcome, run_module

ARGUMENTS: dict[str, Any] = {
    "names": {"type": "list", "elements": "str", "default": []},
    "rules": {"type": "dict", "default": {}},
    "pardon": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": 600},
    "run_dir": {"type": "path", "default": "/run/bailey"},
}


def scan(params: dict[str, Any], check_mode: bool) -> Outcome:
    """Let go on who is pardoned, and scan."""
    names = [parse_name(f"names[{at}]", name) for at, name in enumerate(params["names"])]
    pardon = [parse_name(f"pardon[{at}]", name) for at, name in enumerate(params["pardon"])]
    parse_rules(params["rules"], "rules", Settings().rules)
    timeout = parse_count("timeout", params["timeout"], 1, 86_400)
    client = AgentClient(Path(params["run_dir"]))
    if check_mode and not (client.run_dir / SOCKET_NAME).exists():
        return _outcome({"summary": {"notes": ["there is no agent on this host yet: nothing was looked at"]}}, [])
    pardoned = [] if check_mode else [name for name in pardon if client.pardon(name)]
    return _outcome(client.scan(names, params["rules"], timeout, act=not check_mode), pardoned)


def _outcome(answer: Mapping[str, Any], pardoned: list[str]) -> Outcome:
    findings, summary = answer.get("findings", []), answer.get("summary", {})
    acted = any(item["taken"].startswith((KILLED, FROZEN, STOPPED)) for item in findings)
    would_act = any(item["action"] in (FREEZE, KILL, STOP) and not item["evidence"] for item in findings)
    values = {"findings": findings, "summary": summary, "pardoned": pardoned, "table": render(findings, summary)}
    return Outcome(values=values, changed=acted or would_act or bool(pardoned))


def main() -> None:
    """Run the module."""
    run_module(scan, argument_spec=ARGUMENTS)


if __name__ == "__main__":
    main()
