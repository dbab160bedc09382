#!/usr/bin/python
# Copyright: Bailey's founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Drain a host of its tenants, or take it into service again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bailey_agent
short_description: Drain a host of its tenants, or take it into service again
version_added: "0.1.0"
author: Bailey's founders (@bailey)
description:
  - Asks the host's agent. A drained host stops every tenant in order, each within its C(stop_grace_period), and starts
    none until it is active again, not even after a reboot.
options:
  state:
    description: What the host is to be; C(active) starts again what is declared started.
    type: str
    choices: [active, drained]
    default: active
  run_dir:
    description: Directory of the agent's sockets.
    type: path
    default: /run/bailey
  timeout:
    description: Seconds that draining waits for the last tenant to stop.
    type: int
    default: 660
attributes:
  check_mode:
    description: Reports whether the host would change.
    support: full
  diff_mode:
    description: Lists the state before and after.
    support: full
seealso:
  - module: bailey_containers
"""

EXAMPLES = r"""
- name: Empty the host before it is worked on
  bailey_agent:
    state: drained
"""

RETURN = r"""
agent:
  description: The agent after it - C(version), C(pid), C(draining), C(instances), C(running).
  returned: success
  type: dict
"""

from pathlib import Path
from typing import Any

from ..module_utils.bailey.agent_client import ACTIVE, DRAINED, AgentClient
from ..module_utils.bailey.changes import Differences
from ..module_utils.bailey.units import parse_count
from ..module_utils.bailey_ansible import Outcome, run_module

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": [ACTIVE, DRAINED], "default": ACTIVE},
    "run_dir": {"type": "path", "default": "/run/bailey"},
    "timeout": {"type": "int", "default": 660},
}


def change(params: dict[str, Any], check_mode: bool) -> Outcome:
    """Drain or resume where the agent is not already doing so."""
    client = AgentClient(Path(params["run_dir"]))
    timeout = parse_count("timeout", params["timeout"], 1, 3600)
    differences = Differences()
    if differences.add("state", client.state(), params["state"]) and not check_mode:
        if params["state"] == DRAINED:
            client.drain(timeout)
        else:
            client.ask("resume")
    return Outcome(differences, {"agent": client.ask("status")["agent"]})


def main() -> None:
    """Run the module."""
    run_module(change, argument_spec=ARGUMENTS)


if __name__ == "__main__":
    main()
