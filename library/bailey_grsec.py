#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module bailey_grsec: a host's kernel, hardened by grsecurity or by what upstream has in its place."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: bailey_grsec
short_description: Harden a host's kernel, and report each feature as the kernel holds it
version_added: "0.1.0"
description:
  - On a kernel with grsecurity, sets its own settings as declared, PaX flags of named programs, and the lock last.
    Unproven on a real one; see C(docs/hardening.md).
  - On any other, puts the upstream equivalents of each feature of grsecurity and PaX in force - settings now and in
    C(/etc/sysctl.d), boot parameters by a drop-in of GRUB's, a list of modules that are never loaded - and reads all of
    it back.
  - What every setting was is written down before it changes. With O(state=absent) it is put back, unless somebody else
    has changed it since.
  - On a host that is itself a container only the settings of its own network are made; the rest is reported as found.
  - It never reboots a host.
author:
  - The Bailey authors
attributes:
  check_mode:
    description: Can run in check mode and predict changes, and the report, without making them.
    support: full
  diff_mode:
    description: Returns each setting and file that differs.
    support: full
options:
  state:
    description:
      - V(present) brings the kernel to what is declared.
      - V(absent) puts back what was changed and removes the files.
    type: str
    choices: [present, absent]
    default: present
  features:
    description:
      - Features to switch on or off, by their names in C(docs/hardening.md). All are on but those that conflict with
        something.
    type: dict
    default: {}
  sysctls:
    description:
      - Settings beside those of the features, or other values for them, by name. A value that closes less than the
        feature's makes the report say so. What would stop the platform is refused.
    type: dict
    default: {}
  boot_parameters:
    description:
      - Whether the features' boot parameters are passed to the kernel; a list stands for true, and names words to pass
        beside them.
    type: raw
    default: true
  modules_denied:
    description:
      - Modules that are never loaded. The module's own list unless given. One that the platform needs is refused.
    type: list
    elements: str
  grsecurity:
    description:
      - Settings of a grsecurity kernel by their names below C(kernel.grsecurity), each true, false or a number. Other
        kernels do not read them.
    type: dict
    default: {}
  pax_flags:
    description:
      - PaX flags by the absolute path of a program, as letters of C(PEMRS), capital for on and small for off. Only a
        grsecurity kernel gives them a meaning; elsewhere they are reported as unsupported and not set.
    type: dict
    default: {}
  lock:
    description:
      - Whether a grsecurity kernel's settings are locked until its reboot, once all of them hold.
    type: bool
    default: false
  conflicts:
    description:
      - Conflicts that are accepted, by the feature's name; the feature is then on. V(grsecurity_chroot) accepts
        settings of grsecurity that stop container engines.
    type: list
    elements: str
    default: []
  required:
    description:
      - Features without which the module fails. One that only waits for a reboot passes.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Harden the kernel
  bailey_grsec:
  register: hardened

- name: Show what holds
  ansible.builtin.debug:
    msg: "{{ hardened.table }}"

- name: Shut user namespaces for ordinary users, which no tenant of this host needs
  bailey_grsec:
    conflicts: [user_namespaces]
    required: [user_namespaces, dmesg, hidesym]

- name: Set grsecurity's policy where the kernel has it
  bailey_grsec:
    grsecurity: {dmesg: true, harden_ptrace: true, fifo_restrictions: true}
    pax_flags: {/usr/bin/node: m}
    lock: true
"""

RETURN = r"""
features:
  description: A row for each feature, as it is after the run, or in check mode would be.
  returned: success
  type: list
  elements: dict
  contains:
    feature: {description: The feature's name., type: str, returned: always}
    grsecurity: {description: Its names in grsecurity and PaX., type: list, elements: str, returned: always}
    status:
      description: V(enforced), V(needs-reboot), V(unsupported) or V(conflicts-with).
      type: str
      returned: always
    reason: {description: Why it is not enforced; empty where it is., type: str, returned: always}
    means:
      description: Each setting, parameter or symbol of it, as wanted and as found.
      type: list
      elements: dict
      returned: always
  sample:
    - feature: dmesg
      grsecurity: [GRKERNSEC_DMESG]
      status: enforced
      reason: ""
      means:
        - {kind: sysctl, name: kernel.dmesg_restrict, wanted: "1", found: "1", status: enforced, reason: ""}
summary:
  description: How many features are enforced, and a line for each one that is not.
  returned: success
  type: list
  elements: str
  sample: ["41 of 42 features are enforced", "ptrace: unsupported: this kernel has no kernel.yama.ptrace_scope"]
table:
  description: The same as text, one feature a line.
  returned: success
  type: str
  sample: "dmesg  enforced"
"""

from typing import Any

from ..module_utils.bailey.lockdown.hardening import harden, soften
from ..module_utils.bailey_ansible import Outcome, run_module


def handle(params: dict[str, Any], check_mode: bool) -> Outcome:
    """Bring the host's kernel to its state."""
    if params["state"] == "absent":
        done = soften(check=check_mode)
    else:
        done = harden({name: value for name, value in params.items() if name != "state"}, check=check_mode)
    values = {"features": [row.as_json() for row in done.rows], "summary": done.summary, "table": done.table}
    return Outcome(done.differences, values, done.warnings)


def main() -> None:
    """Run the module."""
    run_module(
        handle,
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "features": {"type": "dict", "default": {}},
            "sysctls": {"type": "dict", "default": {}},
            "boot_parameters": {"type": "raw", "default": True},
            "modules_denied": {"type": "list", "elements": "str"},
            "grsecurity": {"type": "dict", "default": {}},
            "pax_flags": {"type": "dict", "default": {}},
            "lock": {"type": "bool", "default": False},
            "conflicts": {"type": "list", "elements": "str", "default": []},
            "required": {"type": "list", "elements": "str", "default": []},
        },
    )


if __name__ == "__main__":
    main()
