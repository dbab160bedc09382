#!/usr/bin/python
# Copyright: Bailey's founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a host's containers to what is declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bailey_containers
short_description: Bring a host's containers to what is declared, each behind its limits
version_added: "0.1.0"
author: Bailey's founders (@bailey)
description:
  - Reconciles a whole host in one task and in parallel - creates, changes, makes again and removes containers
    until they are as declared, and reads every limit back from the kernel.
  - Everything is validated before anything changes. A limit that this host cannot enforce is refused.
  - Memory, processors, pids and disk space change on the living container; all else makes it again, and the old
    container is kept until the new one has proven its limits.
  - An instance that fails is put back as it was; the others go on, and the failure names each.
extends_documentation_fragment:
  - bailey_spec
  - bailey_host
options:
  apps:
    description:
      - Declarations to be spread out into containers - the options of O(containers), with the app's C(name) in
        place of the instance's, and C(instances), a count (1 where not given).
      - Instance N of app A of tenant T is the container C(T-A-N); published ports count up with the instances.
    type: list
    elements: dict
    default: []
  plans:
    description: Named sets of limits; each has any of the limits that O(containers) has, and O(containers[].network).
    type: dict
    default: {}
  purge:
    description: Whether instances that Bailey made and that are not declared here are removed.
    type: bool
    default: false
  remove_volumes:
    description:
      - Whether the data of an instance that is removed goes too. It stays by default, is listed in
        RV(kept_volumes), and is found again by an instance of the same name.
      - Data that was kept goes when its instance is declared absent once more, with this on.
    type: bool
    default: false
  uid_range:
    description: Uids, as FIRST-LAST, of which each instance gets one of its own.
    type: str
    default: 200000-265535
  overcommit:
    description:
      - How often C(memory), C(cpus) and C(disk) may be promised; each is 1 where not given.
      - What all instances of the host declare together must fit its capacity times this.
    type: dict
    default: {}
  lsm:
    description:
      - The kernel's security module that holds containers in profiles. V(none) is for kernels without AppArmor, and has
        to be said; they are refused otherwise.
    type: str
    choices: [apparmor, none]
    default: apparmor
  policy:
    description:
      - What this host allows of that which is refused to everybody else - a mapping of an instance's name, or of an
        app as C(TENANT/APP), to a list of C(root) (O(containers[].user=0)), C(engine-socket) (a bind of the engine's
        socket in O(containers[].volumes)) and C(device:PATH) (one of O(containers[].devices)).
      - What no host can allow has no word here - C(privileged), the host's namespaces, another filter.
      - With C(docker_userns_remap) no instance is in a group of the host's, and a device or a socket that takes one is
        refused all the same.
    type: dict
    default: {}
  workers:
    description: How many containers are changed at a time, 1 to 64.
    type: int
    default: 8
attributes:
  check_mode:
    description:
      - Reports what would change, having validated everything that can be validated without changing.
      - On a host that is not provisioned yet it checks the declarations alone, and says so in a warning.
    support: full
  diff_mode:
    description: Lists each difference with its value before and after.
    support: full
seealso:
  - module: bailey_containers_info
  - module: bailey_storage
"""

EXAMPLES = r"""
- name: Two instances of one app, and nothing else on this host
  bailey_containers:
    purge: true
    plans:
      small: {mem_limit: 128M, cpus: 0.25, pids_limit: 64, disk_limit: 256M, ulimits: {nofile: 1024}}
    apps:
      - tenant: ada
        name: web
        instances: 2
        image: registry.bailey.internal:5000/bailey/datasette:current
        plan: small
        ports: [{published: 8001, target: 8080}]

- name: One container, every limit its own
  bailey_containers:
    containers:
      - name: ada-batch-1
        tenant: ada
        image: registry.bailey.internal:5000/bailey/python:current
        command: [python3, -m, http.server, "8080"]
        mem_limit: 64M
        cpus: 0.1
        pids_limit: 16
        network_mode: none

- name: A backup that may read its volume as root, because this host's policy says so
  bailey_containers:
    policy: {ops/backup: [root]}
    apps:
      - tenant: ops
        name: backup
        image: registry.bailey.internal:5000/bailey/python:current
        command: [python3, -m, http.server, "8080"]
        user: 0
        mem_limit: 64M
        cpus: 0.1
        pids_limit: 16
        network_mode: none

- name: Remove it with its data
  bailey_containers:
    remove_volumes: true
    containers:
      - name: ada-batch-1
        state: absent
"""

RETURN = r"""
containers:
  description: What was done to each instance, or in check mode would be done.
  returned: success
  type: list
  elements: dict
  sample: [{"name": "ada-web-1", "action": "created", "uid": 200000, "gate_ms": 6.2}]
  contains:
    name:
      description: The instance.
      type: str
    action:
      description: One of none, created, recreated, updated, started, stopped, removed.
      type: str
    uid:
      description: Its uid; null where it was removed.
      type: int
    gate_ms:
      description:
        - Milliseconds for which a new container stood at its gate while its limits were read back; null where none
          was started.
      type: float
kept_volumes:
  description: Directories of removed instances' data, which were kept.
  returned: success
  type: list
  elements: str
failures:
  description: Why each instance that failed did; all others are as declared.
  returned: when an instance failed
  type: dict
elapsed:
  description: Seconds that the work took inside the module.
  returned: success
  type: float
"""

import time
from typing import Any

from ..module_utils.bailey.admission import APPARMOR, LSMS
from ..module_utils.bailey.apps import expand_apps
from ..module_utils.bailey.exceptions import parse_policy
from ..module_utils.bailey.hosts import missing_parts, open_host, parse_overcommit
from ..module_utils.bailey.reconcile import Request, preview, reconcile
from ..module_utils.bailey.uids import parse_uid_range
from ..module_utils.bailey.units import parse_count
from ..module_utils.bailey_ansible import HOST_ARGUMENTS, Outcome, run_module
from ..module_utils.bailey_spec_arguments import CONTAINER_OPTIONS

ARGUMENTS: dict[str, Any] = {
    "containers": {"type": "list", "elements": "dict", "default": [], "options": CONTAINER_OPTIONS},
    "apps": {"type": "list", "elements": "dict", "default": []},
    "plans": {"type": "dict", "default": {}},
    "purge": {"type": "bool", "default": False},
    "remove_volumes": {"type": "bool", "default": False},
    "uid_range": {"type": "str", "default": "200000-265535"},
    "overcommit": {"type": "dict", "default": {}},
    "policy": {"type": "dict", "default": {}},
    "lsm": {"type": "str", "choices": list(LSMS), "default": APPARMOR},
    "workers": {"type": "int", "default": 8},
    **HOST_ARGUMENTS,
}


def converge(params: dict[str, Any], check_mode: bool) -> Outcome:
    """Reconcile the host, and report each instance."""
    begun = time.monotonic()
    request = Request(
        declarations=[*params["containers"], *expand_apps(params["apps"])],
        plans=params["plans"],
        uids=parse_uid_range("uid_range", params["uid_range"]),
        purge=params["purge"],
        overcommit=parse_overcommit(params["overcommit"]),
        workers=parse_count("workers", params["workers"], 1, 64),
        policy=parse_policy("policy", params["policy"]),
        lsm=params["lsm"],
    )
    missing = missing_parts(params) if check_mode else []
    report = preview(request) if missing else reconcile(request, open_host(params), check_mode=check_mode)
    containers = [
        {
            "name": plan.name,
            "action": plan.action.value,
            "uid": plan.spec.user if plan.spec else None,
            "gate_ms": plan.gate_ms,
        }
        for plan in report.plans.values()
    ]
    elapsed = round(time.monotonic() - begun, 4)
    values = {"containers": containers, "kept_volumes": list(report.kept_volumes), "elapsed": elapsed}
    warnings = (
        [f"not provisioned yet, only the declarations were checked: no {' and no '.join(missing)}"] if missing else []
    )
    return Outcome(report.differences, values, warnings)


def main() -> None:
    """Run the module."""
    run_module(converge, argument_spec=ARGUMENTS)


if __name__ == "__main__":
    main()
