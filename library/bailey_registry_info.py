#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module bailey_registry_info: whether the private registry is well, and what is stored in it."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: bailey_registry_info
short_description: Read the private image registry
version_added: "0.1.0"
description:
  - Asks the registry as a client does, by TLS that is verified with the internal authority alone, once with the account
    and once without, and lists its repositories, tags, digests and sizes.
  - A registry that does not answer is a result (RV(health.error)) and not a failure, unless O(healthy_within) is given.
author:
  - The Bailey authors
attributes:
  check_mode:
    description: It only reads, so it does the same in check mode.
    support: full
  diff_mode:
    description: It changes nothing.
    support: none
options:
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
  address:
    description:
      - Connect to this address and not to where O(name) leads. The certificate must be for O(name) all the same.
    type: str
  ca_file:
    description:
      - The authority's certificate; that of this registry under C(/etc/docker/certs.d) unless given.
    type: path
  username:
    description:
      - The name of the account; with O(password).
    type: str
  password:
    description:
      - The account's password. Without it, the login in O(docker_config) is used.
    type: str
  docker_config:
    description:
      - The engine's client configuration, in which the login is found.
    type: path
    default: /root/.docker/config.json
  contents:
    description:
      - Whether to list what is stored. Two requests for each repository, and one for each tag.
    type: bool
    default: true
  healthy_within:
    description:
      - Wait until the registry is well, so many seconds at most, and fail where it is not well by then.
    type: int
"""

EXAMPLES = r"""
- name: Wait until the registry is well
  bailey_registry_info:
    name: registry.bailey.internal
    contents: false
    healthy_within: 20

- name: What is stored in it
  bailey_registry_info:
    name: registry.bailey.internal
"""

RETURN = r"""
health:
  description: What a client meets.
  type: dict
  returned: success
  contains:
    error:
      description: What is wrong, none where all is well.
      type: str
    reachable:
      description: Whether a TLS connection could be made and verified.
      type: bool
    authenticated:
      description: Whether the account is accepted.
      type: bool
    anonymous_refused:
      description: Whether a request without an account is turned away.
      type: bool
    certificate_end:
      description: When the server's certificate ends (ISO 8601, UTC).
      type: str
      sample: "2027-11-24T13:31:00+00:00"
    certificate_days_left:
      description: Days until then.
      type: float
    authority_end:
      description: When the authority's certificate ends (ISO 8601, UTC).
      type: str
    authority_days_left:
      description: Days until then.
      type: float
repositories:
  description: What is stored.
  type: list
  elements: dict
  returned: when O(contents=true) and the registry is well
  contains:
    name:
      description: The repository's name.
      type: str
      sample: bailey/python
    size:
      description: Bytes of its images, compressed. A blob that several share counts once.
      type: int
    tags:
      description: Its tags.
      type: list
      elements: dict
      contains:
        name:
          description: The tag.
          type: str
        digest:
          description: The digest of the image that it stands for.
          type: str
        size:
          description: Bytes of the image, compressed.
          type: int
counts:
  description: How much there is.
  type: dict
  returned: when O(contents=true) and the registry is well
  contains:
    repositories:
      description: Number of repositories.
      type: int
    tags:
      description: Number of tags.
      type: int
    size:
      description: Bytes of all images, compressed. A blob that several share counts once.
      type: int
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..module_utils.bailey.errors import BaileyError
from ..module_utils.bailey.registry import engine, settings, survey
from ..module_utils.bailey.registry.client import Credentials, RegistryClient
from ..module_utils.bailey_ansible import Outcome, run_module


def read(params: dict[str, Any], _check_mode: bool) -> Outcome:
    """Read health and contents."""
    name, port = settings.parse_name(params["name"]), settings.parse_port(params["port"])
    files = engine.EngineFiles(settings.reference(name, port), engine.CERTS_D, Path(params["docker_config"]))
    ca_file = Path(params["ca_file"]) if params["ca_file"] else files.trust
    try:
        credentials = _credentials(params, files)
        client = RegistryClient(name, port, ca_file, credentials, address=params["address"])
    except BaileyError as error:
        if params["healthy_within"] is not None:
            raise
        return Outcome(values={"health": _health(survey.Health(error=str(error)))})
    with client:
        if params["healthy_within"] is None:
            health = survey.check(client, ca_file)
        else:
            health = survey.await_health(client, ca_file, params["healthy_within"])
        values: dict[str, Any] = {"health": _health(health)}
        if params["contents"] and health.error is None:
            values |= _contents(list(survey.contents(client)))
    return Outcome(values=values)


def _credentials(params: dict[str, Any], files: engine.EngineFiles) -> Credentials | None:
    if params["password"]:
        return Credentials(params["username"], params["password"])
    return files.credentials()


def _health(health: survey.Health) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "error": health.error,
        "reachable": health.reachable,
        "authenticated": health.authenticated,
        "anonymous_refused": health.anonymous_refused,
    }
    for of, end in (("certificate", health.certificate_end), ("authority", health.authority_end)):
        left = None if end is None else round((end - datetime.now(UTC)).total_seconds() / 86400, 2)
        shown |= {f"{of}_end": end and end.isoformat(), f"{of}_days_left": left}
    return shown


def _contents(repositories: list[survey.Repository]) -> dict[str, Any]:
    counts = {
        "repositories": len(repositories),
        "tags": sum(len(repository.tags) for repository in repositories),
        "size": survey.distinct_size(repositories),
    }
    return {"repositories": [_repository(repository) for repository in repositories], "counts": counts}


def _repository(repository: survey.Repository) -> dict[str, Any]:
    tags = [{"name": tag, "digest": image.digest, "size": image.size} for tag, image in repository.tags.items()]
    return {"name": repository.name, "size": repository.size, "tags": tags}


def main() -> None:
    """Run the module."""
    run_module(
        read,
        argument_spec={
            "name": {"type": "str", "required": True},
            "port": {"type": "int", "default": 5000},
            "address": {"type": "str"},
            "ca_file": {"type": "path"},
            "username": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "docker_config": {"type": "path", "default": "/root/.docker/config.json"},
            "contents": {"type": "bool", "default": True},
            "healthy_within": {"type": "int"},
        },
        required_together=[("username", "password")],
    )


if __name__ == "__main__":
    main()
