#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module bailey_network: what a host's network is told to be, in files and in the living kernel."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: bailey_network
short_description: Set what the tenants' network needs of a host
version_added: "0.1.0"
description:
  - Writes C(/etc/bailey/network.json), from which the agent makes the tenants' firewall and log. Every value is
    checked before anything changes.
  - Has the host forward packets, the bridge answer for its containers, and the kernel note when connections begin; all
    is read back from the kernel. After a reboot the engine turns forwarding on, and a drop-in in C(/etc/sysctl.d) whose
    name sorts last sets what is the bridge's own. A file that says otherwise is a warning.
  - Where the host forwarded nothing before the role C(docker) came, the policy of iptables' chain FORWARD is kept at
    DROP, as the engine itself sets it when it turns forwarding on. Forwarding is therefore left out of the drop-in - an
    engine that finds it on leaves the policy alone.
  - It writes no rule of a firewall; the agent alone does.
author:
  - The Bailey authors
attributes:
  check_mode:
    description: Can run in check mode and predict changes without making them, before there is a bridge too.
    support: full
  diff_mode:
    description: Returns each setting that differs.
    support: full
options:
  state:
    description:
      - V(present) brings files and kernel to what is declared.
      - V(absent) removes both files. What the kernel holds is put back by the agent's and the engine's removal.
    type: str
    choices: [present, absent]
    default: present
  bridge:
    description:
      - The engine's default bridge.
    type: str
    default: docker0
  table:
    description:
      - Name of the agent's nftables tables, one of family inet and one of family bridge.
    type: str
    default: bailey
  resolvers:
    description:
      - Addresses that tenants may ask for names, on port 53 by UDP and TCP. Empty stands for those that the engine
        hands to containers.
    type: list
    elements: str
    default: []
  services:
    description:
      - Services of the host itself that every tenant may reach.
    type: list
    elements: dict
    default: []
    suboptions:
      address:
        description: An IPv4 address of the host.
        type: str
        required: true
      protocol:
        description: V(tcp) or V(udp).
        type: str
        default: tcp
      port:
        description: The port.
        type: int
        required: true
  denied_networks:
    description:
      - Networks that no tenant reaches without a rule of its own, the agent's own list unless given.
    type: list
    elements: str
  denied_ports:
    description:
      - TCP ports that no tenant reaches without a rule of its own, the agent's own list unless given.
    type: list
    elements: int
  new_connections:
    description:
      - New connections a second that a tenant may open where it declares no number, the agent's own unless given.
    type: int
  connections:
    description:
      - Connections that a tenant may have open at a time where it declares no number, the agent's own unless given.
    type: int
  log_group:
    description:
      - The NFLOG group that connections are logged to, the agent's own unless given.
    type: int
  log_rate:
    description:
      - Connections a second of each address that are logged; more are counted. The agent's own unless given.
    type: int
  log_burst:
    description:
      - How many may come at once above that. The agent's own unless given.
    type: int
"""

EXAMPLES = r"""
- name: Set the tenants' network, with a resolver and one service of the host's own
  bailey_network:
    resolvers: [10.0.0.53]
    services:
      - {address: 172.17.0.1, port: 5000}
    new_connections: 100

- name: Say whether the values are valid, and what would change
  bailey_network:
    denied_ports: [25, 465, 587]
  check_mode: true
"""

from typing import Any

from ..module_utils.bailey.engine.network import arrange, disarrange
from ..module_utils.bailey_ansible import Outcome, run_module

SERVICE = {
    "address": {"type": "str", "required": True},
    "protocol": {"type": "str", "default": "tcp"},
    "port": {"type": "int", "required": True},
}


def handle(params: dict[str, Any], check_mode: bool) -> Outcome:
    """Bring the host's network to its state."""
    if params["state"] == "absent":
        done = disarrange(check=check_mode)
    else:
        given = {name: value for name, value in params.items() if name != "state" and value is not None}
        done = arrange(given, check=check_mode)
    return Outcome(done.differences, warnings=done.warnings)


def main() -> None:
    """Run the module."""
    run_module(
        handle,
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "bridge": {"type": "str", "default": "docker0"},
            "table": {"type": "str", "default": "bailey"},
            "resolvers": {"type": "list", "elements": "str", "default": []},
            "services": {"type": "list", "elements": "dict", "default": [], "options": SERVICE},
            "denied_networks": {"type": "list", "elements": "str"},
            "denied_ports": {"type": "list", "elements": "int"},
            "new_connections": {"type": "int"},
            "connections": {"type": "int"},
            "log_group": {"type": "int"},
            "log_rate": {"type": "int"},
            "log_burst": {"type": "int"},
        },
    )


if __name__ == "__main__":
    main()
