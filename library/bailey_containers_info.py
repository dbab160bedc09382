#!/usr/bin/python
# Copyright: Bailey's founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read a host's instances, declared against enforced."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bailey_containers_info
short_description: Read a host's instances, every limit declared against enforced
version_added: "0.1.0"
author: Bailey's founders (@bailey)
description:
  - Reads what was declared for each instance, and what the kernel holds it to - control group files,
    C(/proc/PID/limits), C(/proc/PID/status), C(/proc/PID/mountinfo) the storage's quotas, and the agent's state files.
extends_documentation_fragment:
  - bailey_host
options:
  names:
    description: The instances to read; all where none is given.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: It only reads.
    support: full
  diff_mode:
    description: It changes nothing.
    support: none
seealso:
  - module: bailey_containers
"""

EXAMPLES = r"""
- name: Read every instance of the host
  bailey_containers_info:
  register: instances

- name: Fail where a limit does not hold
  ansible.builtin.assert:
    that: instances.instances | rejectattr('enforced') | length == 0
"""

RETURN = r"""
instances:
  description: The instances, in the order of their names.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The instance.
      type: str
    tenant:
      description: Owner of its code.
      type: str
    app:
      description: The program that it is an instance of.
      type: str
    state:
      description:
        - running once its gate has opened; else missing, stopped, or where the agent has it - waiting, refused,
          backoff, failed.
      type: str
    declared_state:
      description: What it shall be, started or stopped.
      type: str
    status:
      description: The engine's own words.
      type: str
    uid:
      description: The uid that it runs under, as it is called inside.
      type: int
    host_uid:
      description: The host's number of that uid, which is another where C(docker_userns_remap) is on.
      type: int
    addresses:
      description: Addresses of the host at which it is published.
      type: list
      elements: str
    exceptions:
      description: What the host's policy allows to it and to nobody else, in the policy's words; mostly nothing.
      type: list
      elements: str
    declared:
      description: Its declaration in canonical form; the environment's values are hidden.
      type: dict
    enforced:
      description: Whether its gate has opened and every check holds.
      type: bool
    gate:
      description:
        - What the agent says of it - C(status), C(reason), C(gate_ms) (milliseconds from PID 1's knock to the word to
          go), C(opened_at) (seconds since the epoch), C(restarts), C(health), C(last_exit); null where it says nothing.
      type: dict
    checks:
      description:
        - One for each limit, with C(field), C(declared), C(enforced) and C(holds); empty where it does not run.
      type: list
      elements: dict
    usage:
      description:
        - What it uses - C(memory_bytes), C(cpu_seconds), C(pids), C(oom_kills), C(disk_bytes); null where not known.
      type: dict
table:
  description: The same as a text table with a row for each limit, for people.
  returned: success
  type: str
"""

from typing import Any

from ..module_utils.bailey.hosts import open_host
from ..module_utils.bailey.inventory import read_instances
from ..module_utils.bailey.table import render
from ..module_utils.bailey_ansible import HOST_ARGUMENTS, Outcome, run_module

ARGUMENTS: dict[str, Any] = {"names": {"type": "list", "elements": "str", "default": []}, **HOST_ARGUMENTS}


def read(params: dict[str, Any], _check_mode: bool) -> Outcome:
    """Read the instances."""
    instances = read_instances(open_host(params), params["names"])
    return Outcome(values={"instances": [item.as_result() for item in instances], "table": render(instances)})


def main() -> None:
    """Run the module."""
    run_module(read, argument_spec=ARGUMENTS)


if __name__ == "__main__":
    main()
