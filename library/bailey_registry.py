#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module bailey_registry: the files of the private registry on its host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: bailey_registry
short_description: Configure the private image registry on its host
version_added: "0.1.0"
description:
  - Writes what docker-registry needs to run as the platform's private registry - its configuration, a certificate
    from a small internal authority, and one account with a bcrypt hash.
  - The server's certificate is renewed before it ends and whenever the registry's name or address changes. The
    authority is renewed with the same key, so hosts that still trust its former certificate go on working.
  - Everything is checked before anything is written. A port that another program holds is refused.
  - It neither installs the program nor starts it; role C(registry) does both.
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
      - V(present) brings the registry's files to what is declared.
      - V(absent) removes them, the authority too. It refuses while the registry still runs.
    type: str
    choices: [present, absent]
    default: present
  name:
    description:
      - The registry's DNS name, of at least two parts. Required with O(state=present).
    type: str
  address:
    description:
      - The address at which the hosts reach the registry. Required with O(state=present).
      - Not a loopback address, because engines do not verify the certificate of a name that leads there.
    type: str
  listen_address:
    description:
      - The address on which the registry listens, O(address) unless given. V(0.0.0.0) stands for all.
    type: str
  port:
    description:
      - The TCP port, from 1024 on, because the registry runs as an ordinary account.
    type: int
    default: 5000
  username:
    description:
      - The name of the one account.
    type: str
    default: bailey
  password:
    description:
      - The account's password, 12 to 72 printable ASCII characters. bcrypt reads no more.
    type: str
  generate_password:
    description:
      - Without O(password), make one on this host and keep it in C(registry_password) under O(secrets_dir), mode 0600.
    type: bool
    default: false
  certificate_days:
    description:
      - How many days a server certificate holds.
    type: int
    default: 365
  certificate_renew_before_days:
    description:
      - The certificate is renewed by the first run that finds fewer days left than this.
    type: int
    default: 60
  authority_days:
    description:
      - How many days the authority's certificate holds, at least twice O(certificate_days). It is renewed once it has
        less than O(certificate_days) left.
    type: int
    default: 3650
  account:
    description:
      - The account, with a group of the same name, that the registry runs as.
    type: str
    default: bailey-registry
  config_dir:
    description:
      - Directory of the configuration, the accounts and the server's certificate.
    type: str
    default: /etc/bailey/registry
  authority_dir:
    description:
      - Directory of the internal authority, C(ca.crt) and C(ca.key).
    type: str
    default: /etc/bailey/pki
  secrets_dir:
    description:
      - Directory of the secrets that are made on this host.
    type: str
    default: /etc/bailey/secrets
  storage_dir:
    description:
      - Directory of the images.
    type: str
    default: /var/lib/bailey/registry
  remove_data:
    description:
      - With O(state=absent), remove the images in O(storage_dir) too. Refused where it holds anything else.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: A registry whose password comes from the vault
  bailey_registry:
    name: registry.bailey.internal
    address: 10.0.0.5
    password: "{{ vault_registry_password }}"

- name: A registry for a single machine, its password made there
  bailey_registry:
    name: registry.bailey.internal
    address: 10.0.0.5
    generate_password: true

- name: No registry, and none of its images
  bailey_registry:
    state: absent
    remove_data: true
"""

RETURN = r"""
reference:
  description: NAME:PORT, with which image references begin.
  type: str
  returned: when O(state=present)
  sample: registry.bailey.internal:5000
restart_needed:
  description: Whether the configuration or the certificate changed, which the registry reads only when it starts.
  type: bool
  returned: when O(state=present)
"""

from datetime import UTC, datetime
from typing import Any

from ..module_utils.bailey.registry import accounts, server, settings
from ..module_utils.bailey.registry.authority import Lifetimes
from ..module_utils.bailey.registry.settings import Endpoint, Locations
from ..module_utils.bailey_ansible import Outcome, run_module


def converge(params: dict[str, Any], check_mode: bool) -> Outcome:
    """Bring the registry's files to the declared state."""
    locations = Locations.parse(
        params["config_dir"], params["authority_dir"], params["secrets_dir"], params["storage_dir"]
    )
    if params["state"] == "absent":
        return Outcome(server.absent(locations, remove_data=params["remove_data"], check_mode=check_mode))
    declared = server.Declared(
        endpoint=Endpoint.parse(params["name"], params["address"], params["listen_address"], params["port"]),
        locations=locations,
        lifetimes=Lifetimes.parse(
            params["certificate_days"], params["certificate_renew_before_days"], params["authority_days"]
        ),
        account=params["account"],
        username=accounts.parse_username(params["username"]),
        password=params["password"],
        generate_password=params["generate_password"],
    )
    report = server.present(declared, datetime.now(UTC), check_mode=check_mode)
    reference = settings.reference(declared.endpoint.name, declared.endpoint.port)
    return Outcome(report.differences, {"reference": reference, "restart_needed": report.restart_needed})


def main() -> None:
    """Run the module."""
    run_module(
        converge,
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "name": {"type": "str"},
            "address": {"type": "str"},
            "listen_address": {"type": "str"},
            "port": {"type": "int", "default": 5000},
            "username": {"type": "str", "default": "bailey"},
            "password": {"type": "str", "no_log": True},
            "generate_password": {"type": "bool", "default": False, "no_log": False},
            "certificate_days": {"type": "int", "default": 365},
            "certificate_renew_before_days": {"type": "int", "default": 60},
            "authority_days": {"type": "int", "default": 3650},
            "account": {"type": "str", "default": "bailey-registry"},
            "config_dir": {"type": "str", "default": "/etc/bailey/registry"},
            "authority_dir": {"type": "str", "default": "/etc/bailey/pki"},
            "secrets_dir": {"type": "str", "default": "/etc/bailey/secrets", "no_log": False},
            "storage_dir": {"type": "str", "default": "/var/lib/bailey/registry"},
            "remove_data": {"type": "bool", "default": False},
        },
        required_if=[("state", "present", ("name", "address"))],
    )


if __name__ == "__main__":
    main()
