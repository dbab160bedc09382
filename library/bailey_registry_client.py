#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module bailey_registry_client: a host's trust in the private registry, and its login."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: bailey_registry_client
short_description: Give a host's container engine trust in the private registry and a login
version_added: "0.1.0"
description:
  - Writes the authority's certificate where the engine looks for it (C(certs.d/NAME:PORT/ca.crt)) and the account into
    the engine's client configuration. Neither needs a restart of the engine.
  - The client configuration is shared with other registries; their entries stay as they are. A configuration that
    keeps its logins in a credentials helper is refused, because an entry written there would not be used.
author:
  - The Bailey authors
attributes:
  check_mode:
    description: Can run in check mode and predict changes without making them.
    support: full
  diff_mode:
    description: Returns what differs; secrets are never part of it.
    support: full
options:
  state:
    description:
      - V(present) gives trust and login, V(absent) takes both away, and only those of this registry.
    type: str
    choices: [present, absent]
    default: present
  name:
    description:
      - The registry's DNS name.
    type: str
    required: true
  port:
    description:
      - The registry's TCP port.
    type: int
    default: 5000
  ca:
    description:
      - The authority's certificate (PEM). Required with O(state=present).
    type: str
  username:
    description:
      - The name of the account.
    type: str
    default: bailey
  password:
    description:
      - The account's password. Required with O(state=present).
    type: str
  certs_dir:
    description:
      - The engine's directory of trusted authorities.
    type: str
    default: /etc/docker/certs.d
  docker_config:
    description:
      - The engine's client configuration, written with mode 0600.
    type: str
    default: /root/.docker/config.json
"""

EXAMPLES = r"""
- name: Read the authority's certificate on the registry's host
  ansible.builtin.slurp:
    src: /etc/bailey/pki/ca.crt
  register: authority
  delegate_to: registry1

- name: Trust the registry and log in to it
  bailey_registry_client:
    name: registry.bailey.internal
    ca: "{{ authority.content | b64decode }}"
    password: "{{ vault_registry_password }}"

- name: Forget the registry
  bailey_registry_client:
    name: registry.bailey.internal
    state: absent
"""

RETURN = r"""
ca_file:
  description: The file in which the engine finds the authority's certificate.
  type: str
  returned: success
  sample: /etc/docker/certs.d/registry.bailey.internal:5000/ca.crt
"""

from pathlib import Path
from typing import Any

from ..module_utils.bailey.registry import accounts, engine, settings
from ..module_utils.bailey.registry.client import Credentials
from ..module_utils.bailey_ansible import Outcome, run_module


def converge(params: dict[str, Any], check_mode: bool) -> Outcome:
    """Bring the engine's files to the declared state."""
    reference = settings.reference(settings.parse_name(params["name"]), settings.parse_port(params["port"]))
    files = engine.EngineFiles(reference, Path(params["certs_dir"]), Path(params["docker_config"]))
    values = {"ca_file": str(files.trust)}
    if params["state"] == "absent":
        return Outcome(engine.absent(files, check_mode=check_mode), values)
    credentials = Credentials(
        accounts.parse_username(params["username"]), accounts.parse_password("password", params["password"])
    )
    return Outcome(engine.present(files, params["ca"], credentials, check_mode=check_mode), values)


def main() -> None:
    """Run the module."""
    run_module(
        converge,
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "name": {"type": "str", "required": True},
            "port": {"type": "int", "default": 5000},
            "ca": {"type": "str"},
            "username": {"type": "str", "default": "bailey"},
            "password": {"type": "str", "no_log": True},
            "certs_dir": {"type": "str", "default": "/etc/docker/certs.d"},
            "docker_config": {"type": "str", "default": "/root/.docker/config.json"},
        },
        required_if=[("state", "present", ("ca", "password"))],
    )


if __name__ == "__main__":
    main()
