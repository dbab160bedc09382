#!/usr/bin/python
# Copyright: Bailey's founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read a host's access log."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bailey_access_log_info
short_description: Read a host's access log, who talked to what
version_added: "0.1.0"
author: Bailey's founders (@bailey)
description:
  - Reads the log that C(bailey-access-log) writes, its former files too, and sums up the connections of a tenant.
  - What was not logged is counted in the log itself, and returned.
options:
  path:
    description: The log. Its former files are beside it.
    type: path
    default: /var/log/bailey/access.json
  tenant:
    description: Only connections of this tenant's instances. All where it is not given, those of no known instance too.
    type: str
  app:
    description: Only connections of this app's instances.
    type: str
  instance:
    description: Only connections of this instance.
    type: str
  direction:
    description: Only connections that the instance began (V(egress)), or that came to it (V(ingress)).
    type: str
    choices: [egress, ingress]
  verdict:
    description: Only connections that were let through, or only those that were not.
    type: str
    choices: [allow, deny]
  since:
    description:
      - Only connections from this time on.
      - RFC 3339 with a zone, such as C(2026-11-25T19:00:00Z), or how long ago it was, such as C(1h) or C(30m).
    type: str
  before:
    description: Only connections up to this time, in the same forms as O(since).
    type: str
  limit:
    description:
      - How many entries, the newest, and how many rows of the summary, those of most connections, are returned at most.
        The summary counts all that match, whatever the limit.
      - From 1 to 10000.
    type: int
    default: 1000
attributes:
  check_mode:
    description: It only reads.
    support: full
  diff_mode:
    description: It changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Read whom alice's instances talked to in the last hour
  bailey_access_log_info:
    tenant: alice
    since: 1h
  register: log

- name: Show it
  ansible.builtin.debug:
    msg: "{{ log.table }}"

- name: Read what was denied on one evening
  bailey_access_log_info:
    verdict: deny
    since: "2026-11-25T18:00:00Z"
    before: "2026-11-25T23:00:00Z"
"""

RETURN = r"""
entries:
  description: The newest entries that match, in the order of the log.
  returned: success
  type: list
  elements: dict
  contains:
    time:
      description: When the packet came (RFC 3339, UTC).
      type: str
      sample: "2026-11-25T19:00:00.123456Z"
    tenant:
      description: Owner of the instance, from whose point of view the entry is; none where no instance is known.
      type: str
    app:
      description: The instance's app.
      type: str
    instance:
      description: The instance.
      type: str
    direction:
      description: egress where it began the connection, ingress where another did.
      type: str
    verdict:
      description: allow or deny.
      type: str
    reason:
      description: What denied it, and at which end; none where it was let through.
      type: str
      sample: egress policy
    protocol:
      description: Name of the protocol, its number where it has none here.
      type: str
      sample: tcp
    source:
      description: Address that it came from.
      type: str
    source_port:
      description: Port that it came from, where the protocol has ports.
      type: int
    destination:
      description: Address that it went to.
      type: str
    destination_port:
      description: Port that it went to.
      type: int
    peer:
      description: The instance at the other end, as TENANT/APP/INSTANCE, where that is one of this host's.
      type: str
    icmp_type:
      description: With icmp, the message's type; C(icmp_code) is beside it.
      type: int
    mac:
      description: With what was denied at the bridge, the hardware address that it claims to be from.
      type: str
summary:
  description: Connections that are alike, those of most connections first.
  returned: success
  type: list
  elements: dict
  contains:
    tenant:
      description: Owner of the instance.
      type: str
    instance:
      description: The instance.
      type: str
    direction:
      description: egress or ingress.
      type: str
    verdict:
      description: allow or deny.
      type: str
    reason:
      description: What denied it.
      type: str
    peer:
      description: The other end, an instance as TENANT/APP/INSTANCE or an address. Of very many, the rest is (others).
      type: str
    protocol:
      description: The protocol.
      type: str
    port:
      description: Port that they went to.
      type: int
    connections:
      description: How many there were.
      type: int
    first:
      description: Time of the first (RFC 3339, UTC).
      type: str
    last:
      description: Time of the last.
      type: str
dropped:
  description: What was not logged in that time, by reason and instance; of what concerns no single instance, all of it.
  returned: success
  type: list
  elements: dict
  contains:
    reason:
      description:
        - rate for what is over the bound on the rate of an instance or of the log, size for what found no room on disk,
          sequence for what was lost between the kernel and the log.
      type: str
    instance:
      description: The instance, none where it may be any.
      type: str
    count:
      description: How many lines, or for a named instance connections.
      type: int
left_off:
  description: How many C(entries) and rows of the C(summary) are not returned because of O(limit).
  returned: success
  type: dict
table:
  description: The summary and what was dropped as a text table, for people.
  returned: success
  type: str
"""

import time
from pathlib import Path
from typing import Any

from ..module_utils.bailey.access_log.query import parse_query, read_log
from ..module_utils.bailey.access_log.table import render
from ..module_utils.bailey_ansible import Outcome, run_module

ARGUMENTS: dict[str, Any] = {
    "path": {"type": "path", "default": "/var/log/bailey/access.json"},
    "tenant": {"type": "str"},
    "app": {"type": "str"},
    "instance": {"type": "str"},
    "direction": {"type": "str", "choices": ["egress", "ingress"]},
    "verdict": {"type": "str", "choices": ["allow", "deny"]},
    "since": {"type": "str"},
    "before": {"type": "str"},
    "limit": {"type": "int", "default": 1000},
}


def read(params: dict[str, Any], _check_mode: bool) -> Outcome:
    """Read the log."""
    answer = read_log(Path(params["path"]), parse_query(params, time.time()))
    return Outcome(values={**answer.as_result(), "table": render(answer)})


def main() -> None:
    """Run the module."""
    run_module(read, argument_spec=ARGUMENTS)


if __name__ == "__main__":
    main()
