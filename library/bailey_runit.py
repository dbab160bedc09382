#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module bailey_runit: a service on a host where PID 1 is not systemd."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: bailey_runit
short_description: Run a service under runit where PID 1 is not systemd
version_added: "0.1.0"
description:
  - Keeps a program running in the foreground under a C(runsvdir) of the platform's own, which watches
    C(/etc/bailey/service). It is started with the first service and ended with the last one.
  - The program's output goes through C(svlogd) to C(/var/log/bailey/NAME), bounded by O(log_size) and O(log_files).
  - A start counts once the program has stayed up for a second; otherwise the task fails with the end of its log.
  - On systemd hosts use M(ansible.builtin.systemd_service) instead.
author:
  - The Bailey authors
requirements:
  - The distribution's package runit on the host.
attributes:
  check_mode:
    description: Can run in check mode and predict changes without making them.
    support: full
  diff_mode:
    description: Returns the files and the state that differ.
    support: full
options:
  name:
    description:
      - The service's name - lower-case letters, digits and C(-).
    type: str
    required: true
  state:
    description:
      - V(started) writes the service and runs it, restarting it where its script or one of O(restart_on) changed.
      - V(restarted) does the same and always restarts it.
      - V(stopped) writes the service and keeps it down.
      - V(absent) stops it and removes its files and logs.
    type: str
    choices: [started, stopped, restarted, absent]
    default: started
  command:
    description:
      - The program and its arguments. It must stay in the foreground. Required unless O(state=absent).
    type: list
    elements: str
    default: []
  description:
    description:
      - One line for whoever reads the script.
    type: str
    default: ""
  user:
    description:
      - The account that the program runs as.
    type: str
    default: root
  group:
    description:
      - The group that the program runs as, the account's own unless given.
    type: str
    default: ""
  environment:
    description:
      - The program's whole environment besides C(PATH). It is readable in the script, so it is not for secrets.
    type: dict
    default: {}
  limit_nofile:
    description:
      - Open files that the program may have. The host's hard limit bounds it; what the supervisor has unless given.
    type: int
  pid_file:
    description:
      - A pid file that the program writes and refuses to start over. One that names no running program of this kind
        is removed before each start.
    type: str
    default: ""
  restart_on:
    description:
      - Files whose change asks for a restart. What counts is that a file is newer than the running program, so a
        restart that an interrupted run owed is made up for.
    type: list
    elements: path
    default: []
  log_size:
    description:
      - Size of one log file, with a unit.
    type: str
    default: 10M
  log_files:
    description:
      - How many log files are kept, the current one included.
    type: int
    default: 5
  timeout:
    description:
      - Seconds that the program has to start or to stop.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Keep a small web server running
  bailey_runit:
    name: hello
    command: [/usr/bin/python3, -m, http.server, "8099", --bind, 127.0.0.1]
    user: nobody

- name: Stop it and remove its files and logs
  bailey_runit:
    name: hello
    state: absent
"""

RETURN = r"""
pid:
  description: The program's process id, 0 while it does not run.
  returned: always
  type: int
  sample: 4711
since:
  description: When the program reached its present state, in seconds since 1970; 0 where it is not supervised.
  returned: always
  type: float
  sample: 1764000000.25
"""

from typing import Any

from ..module_utils.bailey.host.runit import Service
from ..module_utils.bailey.host.supervision import Reached, Wanted, reconcile, remove
from ..module_utils.bailey.units import parse_size
from ..module_utils.bailey_ansible import Outcome, run_module


def _service(params: dict[str, Any]) -> Service:
    plain = ("name", "description", "user", "group", "limit_nofile", "pid_file", "log_files")
    return Service(
        command=tuple(params["command"]),
        environment={key: str(value) for key, value in params["environment"].items()},
        log_size=parse_size("log_size", params["log_size"], minimum=4096),
        **{key: params[key] for key in plain},
    )


def handle(params: dict[str, Any], check_mode: bool) -> Outcome:
    """Bring the service to its state."""
    if params["state"] == "absent":
        return _outcome(remove(params["name"], timeout=params["timeout"], check=check_mode))
    wanted = Wanted(params["state"], params["restart_on"], params["timeout"])
    return _outcome(reconcile(_service(params), wanted, check=check_mode))


def _outcome(reached: Reached) -> Outcome:
    status = reached.status
    values = {"pid": status.pid if status else 0, "since": status.since if status else 0.0}
    return Outcome(reached.differences, values)


def main() -> None:
    """Run the module."""
    run_module(
        handle,
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["started", "stopped", "restarted", "absent"], "default": "started"},
            "command": {"type": "list", "elements": "str", "default": []},
            "description": {"type": "str", "default": ""},
            "user": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": ""},
            "environment": {"type": "dict", "default": {}},
            "limit_nofile": {"type": "int"},
            "pid_file": {"type": "str", "default": ""},
            "restart_on": {"type": "list", "elements": "path", "default": []},
            "log_size": {"type": "str", "default": "10M"},
            "log_files": {"type": "int", "default": 5},
            "timeout": {"type": "int", "default": 60},
        },
    )


if __name__ == "__main__":
    main()
