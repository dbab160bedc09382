#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module bailey_apparmor: a profile in its file and in the living kernel."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: bailey_apparmor
short_description: Load AppArmor profiles, and see that the kernel holds them
version_added: "0.1.0"
description:
  - Installs a profile at C(/etc/apparmor.d/NAME), which is loaded at boot, and loads it into the kernel now.
  - The text is compiled before anything is written. It is loaded again exactly when the kernel does not hold what the
    text means on this host, which the kernel's own hash of the profile shows, or holds it in another mode. Both are
    read back after loading.
  - A load that fails puts the former file back, and loads that.
  - A file that is not Bailey's is never changed, and a loaded profile that does not come from this file is never
    replaced.
author:
  - The Bailey authors
attributes:
  check_mode:
    description: Can run in check mode and predict changes without making them, before the parser is installed too.
    support: full
  diff_mode:
    description: Returns the file's text, and the mode and hash of each profile that differs.
    support: full
options:
  name:
    description:
      - Name of the profile and of its file, of letters, digits, hyphens and underscores.
    type: str
    required: true
  state:
    description:
      - V(enforced) has the kernel refuse what the profile does not allow.
      - V(complaining) has it only log that, by a link in C(/etc/apparmor.d/force-complain), at boot too.
      - V(absent) unloads the profiles and removes the file. It is refused while a process runs under one of them.
    type: str
    choices: [enforced, complaining, absent]
    default: enforced
  content:
    description:
      - The profile's text. It may define further profiles whose names begin with O(name) and a hyphen, and children.
      - Profiles with O(state=enforced) may not have a flag that keeps them from being enforced.
    type: str
  path:
    description:
      - A file on the host that holds the text, in place of O(content).
    type: path
"""

EXAMPLES = r"""
- name: Enforce a profile
  bailey_apparmor:
    name: bailey-batch
    content: |
      abi <abi/3.0>,
      profile bailey-batch flags=(attach_disconnected, mediate_deleted) {
        network inet stream,
        /** mrix,
        /jobs/** rw,
      }

- name: Only log what it would refuse
  bailey_apparmor:
    name: bailey-batch
    state: complaining
    path: /usr/share/batch/apparmor

- name: Remove it
  bailey_apparmor:
    name: bailey-batch
    state: absent
"""

RETURN = r"""
loaded:
  description: Whether the kernel holds a profile of this name, after the run.
  returned: success
  type: bool
  sample: true
mode:
  description: The mode that the kernel tells for it, C(enforce), C(complain) or C(kill); null where it is not loaded.
  returned: success
  type: str
  sample: enforce
sha:
  description:
    - The kernel's hash of the profile, SHA-256 since Linux 6.8 and SHA-1 before; null where it keeps none.
  returned: success
  type: str
  sample: 5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8
processes:
  description: Process ids that run under the profile, alone or together with others.
  returned: success
  type: list
  elements: int
  sample: [4711]
"""

from pathlib import Path
from typing import Any

from ..module_utils.bailey.lockdown.apparmor import manage, read_profile
from ..module_utils.bailey_ansible import Outcome, run_module


def handle(params: dict[str, Any], check_mode: bool) -> Outcome:
    """Bring the profile to its state and return what the kernel holds."""
    text = params["content"] or ""
    if params["path"] is not None and params["state"] != "absent":
        text = read_profile(Path(params["path"]))
    done = manage(params["name"], params["state"], text, check=check_mode)
    values = {"loaded": done.loaded, "mode": done.mode, "sha": done.sha, "processes": done.processes}
    return Outcome(done.differences, values, done.warnings)


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        handle,
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["enforced", "complaining", "absent"], "default": "enforced"},
            "content": {"type": "str"},
            "path": {"type": "path"},
        },
        mutually_exclusive=[("content", "path")],
        required_if=[
            ("state", "enforced", ("content", "path"), True),
            ("state", "complaining", ("content", "path"), True),
        ],
    )


if __name__ == "__main__":
    main()
