#!/usr/bin/python
# Copyright: Bailey's founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run one command in one or many containers of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bailey_wsh
short_description: Run one command in one or many containers of a host
version_added: "0.1.0"
author: Bailey's founders (@bailey)
description:
  - Runs a command in containers through their own first process, all at the same time, as the instance's ordinary
    user and behind all of its limits. No engine and no shell takes part, and nothing has to be installed inside.
  - One of O(name), O(names), O(tenant), O(app) and O(all) says where; O(tenant) and O(app) may go together.
  - The task fails where the command does not end with 0, and names each instance that failed, with the results of
    all; C(failed_when) and C(changed_when) work on them as on those of M(ansible.builtin.command).
  - Needs root on the host. With an instance whose gate is closed there is no session; the failure tells the reason.
options:
  name:
    description: The one instance to run it in; its results then stand at the top as well.
    type: str
  names:
    description: The instances to run it in.
    type: list
    elements: str
  tenant:
    description:
      - Run it in all instances of this tenant that are on the host, but for those that have ended for good.
    type: str
  app:
    description: The same for all instances of this app.
    type: str
  all:
    description: The same for all instances of the host.
    type: bool
  argv:
    description: The program and its arguments. This or O(cmd) is required.
    type: list
    elements: str
  cmd:
    description: The same in one line, split into words as a shell would. No shell runs; name one to have one.
    type: str
  chdir:
    description: Directory inside in which it starts; that of the instance's own program where not given.
    type: str
  environment:
    description:
      - Variables for it, over the instance's own. They are kept out of logs; in results, a value of 8 characters
        or more is masked wherever the command prints it.
    type: dict
    default: {}
  umask:
    description: Its umask, four octal digits in quotes such as V('0027'); the instance's own where not given.
    type: str
  ulimits:
    description: Resource limits for it, as C(ulimits) of M(bailey_containers) has them. It can only be held tighter.
    type: dict
    default: {}
  stdin:
    description: What it reads as its input. Kept out of logs and masked in results as O(environment) is.
    type: str
  stdin_add_newline:
    description: Whether O(stdin) ends in a line end that is not in it.
    type: bool
    default: true
  strip_empty_ends:
    description: Whether empty lines at both ends of its outputs are left away.
    type: bool
    default: true
  creates:
    description:
      - A path inside, absolute or from O(chdir) on; where it exists, the command is not run.
      - The host looks for it, so that the image needs no tool. Patterns are not understood.
    type: str
  removes:
    description: The same, but the command is not run where the path does not exist.
    type: str
  timeout:
    description:
      - Seconds after which the command is killed with its whole session; no limit where not given.
      - What has made itself a session of its own, as C(setsid) does, goes on behind the instance's limits.
    type: float
  output_limit:
    description: How much of each output is kept, as a size; the rest is read and thrown away, with a warning.
    type: str
    default: 8M
  workers:
    description: In how many instances it runs at the same time, 1 to 1024.
    type: int
    default: 64
  run_dir:
    description: Directory of the agent's sockets and of what it says of each instance.
    type: path
    default: /run/bailey
attributes:
  check_mode:
    description: Reports whether it would run where O(creates) or O(removes) is given, and skips the task else.
    support: partial
  diff_mode:
    description: What a command changes is not known.
    support: none
seealso:
  - module: bailey_containers
  - module: ansible.builtin.command
"""

EXAMPLES = r"""
- name: See what a tenant's program has in its volume
  bailey_wsh:
    name: ada-web-1
    argv: [ls, -l, /data]
  register: listing
  changed_when: false

- name: Bring the database of every instance of an app up to date, once
  bailey_wsh:
    tenant: ada
    app: web
    argv: [python3, /app/migrate.py]
    chdir: /data
    creates: migrated
    environment:
      LEVEL: 3
    timeout: 120

- name: Ask all instances of the host for their uid
  bailey_wsh:
    all: true
    cmd: id -u
  register: uids
  changed_when: false
  failed_when: uids.instances | map(attribute='stdout') | unique | length < uids.instances | length

- name: Feed a program, in two instances, with half a minute for each
  bailey_wsh:
    names: [ada-web-1, ada-web-2]
    cmd: sh -c 'cat > /data/motd'
    stdin: Welcome
    umask: "0027"
    timeout: 30
"""

RETURN = r"""
instances:
  description: The result of each instance, in the order in which they were named, or of their names.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The instance.
      type: str
    rc:
      description:
        - The command's exit code; 128 plus the signal where one ended it; 127 where there is no such program, 126
          where it cannot be started, 125 where there was no session.
      type: int
    stdout:
      description: What it wrote to its output. Bytes that are no UTF-8 are replaced.
      type: str
    stdout_lines:
      description: The same by lines.
      type: list
      elements: str
    stderr:
      description: What it wrote to its error output.
      type: str
    stderr_lines:
      description: The same by lines.
      type: list
      elements: str
    signal:
      description: The signal that ended it, null where none did.
      type: int
    oom:
      description: Whether the kernel killed it because the instance's memory was used up.
      type: bool
    timed_out:
      description: Whether it was killed because its time was up.
      type: bool
    truncated:
      description: Whether there was more output than O(output_limit).
      type: bool
    skipped:
      description: Whether it was not run.
      type: bool
    msg:
      description: Why it failed or was skipped, empty where its exit code says all.
      type: str
    start:
      description: When it started, in the host's local time; null where it did not.
      type: str
    end:
      description: When it had ended.
      type: str
    delta:
      description: How long that took, as HOURS:MINUTES:SECONDS.
      type: str
failures:
  description: Why each instance that failed did.
  returned: always
  type: dict
rc:
  description: Where O(name) was given, this and the values below are those of the one instance.
  returned: with O(name)
  type: int
stdout:
  description: What the command wrote to its output.
  returned: with O(name)
  type: str
stdout_lines:
  description: The same by lines.
  returned: with O(name)
  type: list
  elements: str
stderr:
  description: What the command wrote to its error output.
  returned: with O(name)
  type: str
stderr_lines:
  description: The same by lines.
  returned: with O(name)
  type: list
  elements: str
signal:
  description: The signal that ended it, null where none did.
  returned: with O(name)
  type: int
oom:
  description: Whether it was killed because the instance's memory was used up.
  returned: with O(name)
  type: bool
timed_out:
  description: Whether it was killed because its time was up.
  returned: with O(name)
  type: bool
truncated:
  description: Whether there was more output than O(output_limit).
  returned: with O(name)
  type: bool
start:
  description: When it started, in the host's local time; null where it did not.
  returned: with O(name)
  type: str
end:
  description: When it had ended.
  returned: with O(name)
  type: str
delta:
  description: How long that took, as HOURS:MINUTES:SECONDS.
  returned: with O(name)
  type: str
elapsed:
  description: Seconds that all took together inside the module.
  returned: success
  type: float
"""

import time
from pathlib import Path
from typing import Any

from ..module_utils.bailey.wsh.commands import parse_order, run_everywhere, select
from ..module_utils.bailey_ansible import HOST_ARGUMENTS, Outcome, run_module

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str"},
    "names": {"type": "list", "elements": "str"},
    "tenant": {"type": "str"},
    "app": {"type": "str"},
    "all": {"type": "bool"},
    "argv": {"type": "list", "elements": "str"},
    "cmd": {"type": "str"},
    "chdir": {"type": "str"},
    "environment": {"type": "dict", "default": {}, "no_log": True},
    "umask": {"type": "str"},
    "ulimits": {"type": "dict", "default": {}},
    "stdin": {"type": "str", "no_log": True},
    "stdin_add_newline": {"type": "bool", "default": True},
    "strip_empty_ends": {"type": "bool", "default": True},
    "creates": {"type": "str"},
    "removes": {"type": "str"},
    "timeout": {"type": "float"},
    "output_limit": {"type": "str", "default": "8M"},
    "workers": {"type": "int", "default": 64},
    "run_dir": HOST_ARGUMENTS["run_dir"],
}


def run(params: dict[str, Any], check_mode: bool) -> Outcome:
    """Run the command wherever it is to be run."""
    begun = time.monotonic()
    run_dir, single = Path(params["run_dir"]), params["name"] is not None
    order, names = parse_order(params), select(run_dir, params)
    report = run_everywhere(run_dir, names, order, workers=params["workers"], check_mode=check_mode)
    report.check(single=single)
    values = {**report.values(single=single), "elapsed": round(time.monotonic() - begun, 4)}
    warnings = report.warnings if names else ["the host has no instance that is meant; nothing was run"]
    return Outcome(values=values, warnings=warnings, changed=report.changed)


def main() -> None:
    """Run the module."""
    run_module(
        run,
        mask_from=8,
        argument_spec=ARGUMENTS,
        required_one_of=[("argv", "cmd"), ("name", "names", "tenant", "app", "all")],
        mutually_exclusive=[("argv", "cmd"), *_alone("name"), *_alone("names"), *_alone("all")],
    )


def _alone(option: str) -> list[tuple[str, str]]:
    """Return the pairs that say that an option goes with no other one that selects instances."""
    return [(option, other) for other in ("name", "names", "tenant", "app", "all") if other != option]


if __name__ == "__main__":
    main()
