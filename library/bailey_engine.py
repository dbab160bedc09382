#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module bailey_engine: the container engine's configuration, and its removal without a trace."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: bailey_engine
short_description: Configure the container engine, or remove what it left
version_added: "0.1.0"
description:
  - Checks every option, this host's kernel and whose the engine is before it writes C(/etc/docker/daemon.json).
    Where the host has a dockerd, that reads the file too before it is installed.
  - An engine with another owner's configuration, flags or containers is refused, unless O(adopt) takes it over.
  - What the platform rests on is always set - live-restore, no new privileges, bounded logs, no userland proxy, no
    insecure registry. The engine's own bar between containers on the default bridge is off, because the agent's
    firewall decides what passes there, and what is dropped in one place cannot be let through in another.
  - It neither installs nor starts the engine; role C(docker) does both. Errors name that role's variables, which are
    the options of this module with C(docker_) before them.
author:
  - The Bailey authors
attributes:
  check_mode:
    description: Can run in check mode and predict changes without making them.
    support: full
  diff_mode:
    description: Returns each option that differs.
    support: full
options:
  state:
    description:
      - V(present) brings the engine's configuration to what is declared.
      - V(absent) removes the configuration and all that the stopped engine left - its data where it was made under
        this configuration, mounts, bridges, firewall rules, and the kernel settings that it changed. Without
        this module's record of an engine it does nothing. An engine that was there before keeps running, with its
        former configuration.
      - In check mode V(absent) says whether it may be done; the engine may still run then.
    type: str
    choices: [present, absent]
    default: present
  adopt:
    description:
      - Take over an engine that has another owner's configuration, flags or containers. Its daemon.json is kept in the
        record, and O(state=absent) puts it back.
    type: bool
    default: false
  force:
    description:
      - With O(state=absent), destroy containers that are still there.
    type: bool
    default: false
  data_root:
    description:
      - Where the engine keeps images, containers and volumes.
    type: str
    default: /var/lib/docker
  storage_driver:
    description:
      - How the engine stacks an image's layers.
    type: str
    default: overlay2
  bip:
    description:
      - Address and prefix of the default bridge, the engine's own choice unless given.
    type: str
    default: ""
  default_address_pools:
    description:
      - Networks from which further bridges get theirs, the engine's own choice unless given.
    type: list
    elements: dict
    default: []
    suboptions:
      base:
        description: The network to divide.
        type: str
        required: true
      size:
        description: The prefix length of each part.
        type: int
        required: true
  log_level:
    description:
      - How much the engine itself logs.
    type: str
    default: info
  log_max_size:
    description:
      - Size of one log file of a container, with a unit.
    type: str
    default: 10M
  log_max_files:
    description:
      - How many log files a container keeps.
    type: int
    default: 3
  default_ulimits:
    description:
      - Limits of containers that declare none of their own - by name a number, or a mapping of soft and hard. This
        host's hard limits bound them.
    type: dict
    default: {}
  runtimes:
    description:
      - Runtimes offered besides runc.
    type: list
    elements: str
    default: [crun]
  default_runtime:
    description:
      - The runtime of containers that name none.
    type: str
    default: runc
  userns_remap:
    description:
      - Give containers a user namespace, in which their root and all their ids are nobody's of the host. Their ids are
        a range of the account C(bailey-remap), which this module chooses so that nobody else has it, and writes to
        C(/etc/subuid) and C(/etc/subgid). Role C(docker) makes the account.
      - It cannot change while containers exist. The engine keeps images of each range apart.
      - A range stays reserved when this is switched off, because volumes may still have files of its ids;
        O(state=absent) gives it back.
    type: bool
    default: false
  daemon_options:
    description:
      - Further options of daemon.json under their own names.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Configure the engine
  bailey_engine:
    default_ulimits:
      nofile: {soft: 1024, hard: 16384}

- name: Configure an engine that somebody set up before, with DNS servers of its own
  bailey_engine:
    adopt: true
    daemon_options:
      dns: [192.0.2.53]

- name: Configure the engine so that containers' root is nobody of the host
  bailey_engine:
    userns_remap: true

- name: Say whether the engine may be removed
  bailey_engine:
    state: absent
  check_mode: true
"""

RETURN = r"""
options:
  description: The content of daemon.json.
  returned: O(state=present)
  type: dict
  sample: {live-restore: true}
previous:
  description: The text of the daemon.json that was replaced, null where there was none.
  returned: O(state=present)
  type: str
  sample: "{}"
recorded:
  description: Whether this host's engine was configured by this module.
  returned: O(state=absent)
  type: bool
  sample: true
was_running:
  description: Whether the engine ran before this module configured it; it then stays.
  returned: O(state=absent)
  type: bool
  sample: false
containerd_was_running:
  description: Whether a containerd ran on the host before; it then stays.
  returned: O(state=absent)
  type: bool
  sample: false
"""

from dataclasses import fields
from typing import Any

from ..module_utils.bailey.engine.config import EngineSettings
from ..module_utils.bailey.engine.setup import configure, unconfigure
from ..module_utils.bailey_ansible import Outcome, run_module


def handle(params: dict[str, Any], check_mode: bool) -> Outcome:
    """Bring the engine's configuration to its state."""
    if params["state"] == "absent":
        gone = unconfigure(force=params["force"], check=check_mode)
        values = {
            "recorded": gone.found is not None,
            "was_running": gone.found is not None and gone.found.running,
            "containerd_was_running": gone.found is not None and gone.found.containerd_running,
        }
        return Outcome(gone.differences, values, gone.warnings)
    settings = EngineSettings(**{option.name: params[option.name] for option in fields(EngineSettings)})
    applied = configure(settings, adopt=params["adopt"], check=check_mode)
    values = {"options": applied.options, "previous": applied.previous}
    return Outcome(applied.differences, values, applied.warnings)


def main() -> None:
    """Run the module."""
    pool = {"base": {"type": "str", "required": True}, "size": {"type": "int", "required": True}}
    run_module(
        handle,
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "adopt": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
            "data_root": {"type": "str", "default": "/var/lib/docker"},
            "storage_driver": {"type": "str", "default": "overlay2"},
            "bip": {"type": "str", "default": ""},
            "default_address_pools": {"type": "list", "elements": "dict", "default": [], "options": pool},
            "log_level": {"type": "str", "default": "info"},
            "log_max_size": {"type": "str", "default": "10M"},
            "log_max_files": {"type": "int", "default": 3},
            "default_ulimits": {"type": "dict", "default": {}},
            "runtimes": {"type": "list", "elements": "str", "default": ["crun"]},
            "default_runtime": {"type": "str", "default": "runc"},
            "userns_remap": {"type": "bool", "default": False},
            "daemon_options": {"type": "dict", "default": {}},
        },
    )


if __name__ == "__main__":
    main()
