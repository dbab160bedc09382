#!/usr/bin/python
"""The Ansible module bailey_image."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: bailey_image
short_description: Makes, pushes and prunes the images of one repository
version_added: "0.1.0"
description:
  - Makes an image from a root file system, a build context or a saved archive, but only when what it is made from
    has changed.
  - What an image is made from is digested (SHA-256) over the files with their paths, modes and contents, the build's
    arguments and options, and the base image's ID. The digest is the image's label C(bailey.image.inputs).
  - The image gets two tags, the first 12 digits of that digest and O(tag). Both are set only when the image is
    whole. A failure leaves no tag, no container and no intermediate image behind.
  - Builds go through the engine's own builder; nothing but the Docker SDK for Python is needed on the host.
author:
  - The Bailey project (@bailey)
requirements:
  - python3-docker 5.0.3 or newer on the managed host
attributes:
  check_mode:
    description: Reports what would change without changing it. An input that is not there yet is a warning and
      counts as changed, since an earlier task of the same run may make it.
    support: full
  diff_mode:
    description: Shows the tags that move, are pushed and are removed.
    support: full
options:
  name:
    description: The repository, without tag or digest, such as V(registry.bailey.internal:5000/bailey/python).
    type: str
    required: true
  state:
    description:
      - V(present) makes the image; exactly one of O(rootfs), O(build) and O(archive) says from what.
      - V(absent) removes every tag of the repository from the engine. It is refused while a container, running or
        stopped, or a declared spec needs one of the images.
    type: str
    choices: [present, absent]
    default: present
  tag:
    description: The tag that always names the newest image. Must not be 12 hexadecimal digits.
    type: str
    default: current
  rootfs:
    description: A root file system that is imported.
    type: dict
    suboptions:
      path:
        description: A directory, or a tar archive, on the managed host.
        type: path
        required: true
      cmd:
        description: The command that a container runs by default.
        type: list
        elements: str
        default: []
      entrypoint:
        description: What the command is given to.
        type: list
        elements: str
        default: []
      env:
        description: Environment variables. Not a place for secrets, everybody who has the image can read them.
        type: dict
        default: {}
      user:
        description: The account that a container runs as by default.
        type: str
        default: ""
      workdir:
        description: The working directory.
        type: str
        default: ""
  build:
    description:
      - A build context with a Dockerfile. Exactly one of O(build.context) and O(build.files) is given.
      - A file C(ca-bundle.crt) is put into the context, see O(build.ca_bundle).
    type: dict
    suboptions:
      context:
        description: A directory on the managed host. Its C(.dockerignore) is honoured.
        type: path
      files:
        description: The files of the context, given inline, so that none need to be on the managed host. The filter
          C(bailey_context) reads them from a directory of the controller.
        type: list
        elements: dict
        suboptions:
          path:
            description: The file's relative path in the context.
            type: str
            required: true
          content:
            description: The file's content in base64.
            type: str
            required: true
          mode:
            description: The file's mode, in octal.
            type: str
            default: "0644"
      dockerfile:
        description: The Dockerfile's path in the context.
        type: str
        default: Dockerfile
      args:
        description: Build arguments. Names and values that look like secrets are refused, because everybody who has
          the image can read them.
        type: dict
        default: {}
      base:
        description: The reference of an image of the engine's, given to the build as its argument C(BASE). The image
          is made anew when the base's ID changes.
        type: str
        default: ""
      network:
        description: The network of the build's containers. By default C(bailey-build), a bridge of the builds' own
          that is made where it is missing, because the default bridge is the tenants' and lets nobody else through.
        type: str
        default: ""
      ca_bundle:
        description: A file of certificate authorities on the managed host, for builds behind a proxy that inspects
          TLS. It is put into the context as C(ca-bundle.crt), which is empty where this option is. It is not counted
          among the inputs, so a Dockerfile must use it in an earlier stage only.
        type: str
        default: ""
  archive:
    description: An archive with one image on the managed host, as C(docker save) writes it. The tags that it brings
      are not kept.
    type: path
  push:
    description: Also push both tags. A tag is pushed only where the registry has something else behind it.
    type: bool
    default: false
  keep:
    description: How many images of the repository stay, the newest and the present one first; the tags of the rest
      are removed. An image that a container (running or stopped) or a declared spec needs always stays. Without it
      all stay.
    type: int
  registry_username:
    description: The registry's account. Without it the engine's client configuration is used.
    type: str
  registry_password:
    description: The account's password.
    type: str
  client_config:
    description: The client configuration file that holds the registry's login. By default that of the account that
      the module runs as, C(~/.docker/config.json).
    type: path
  specs_directory:
    description: Where the declared containers' specs are; an image that one names stays.
    type: path
    default: /var/lib/bailey/specs
  docker_host:
    description: The engine's address.
    type: str
    default: unix:///var/run/docker.sock
  timeout:
    description: Seconds that a build, a load or a push may stay silent before it is given up.
    type: int
    default: 1800
"""

EXAMPLES = r"""
- name: Import a root file system
  bailey_image:
    name: registry.bailey.internal:5000/bailey/base
    rootfs:
      path: /var/lib/bailey/images/base.tar
      cmd: [/bin/sh]
      user: app
    keep: 3

- name: Build an image on it and push it
  bailey_image:
    name: registry.bailey.internal:5000/bailey/shop
    build:
      files: "{{ (inventory_dir ~ '/images/shop') | bailey_context }}"
      base: registry.bailey.internal:5000/bailey/base:current
      args:
        SHOP_VERSION: "1.4"
    push: true
    keep: 3

- name: Load an image that was saved elsewhere
  bailey_image:
    name: registry.bailey.internal:5000/bailey/legacy
    archive: /srv/legacy.tar

- name: Remove all images of a repository
  bailey_image:
    name: registry.bailey.internal:5000/bailey/legacy
    state: absent
"""

RETURN = r"""
image:
  description: The image's reference by its inputs. Empty in check mode where an input is not there yet.
  returned: when O(state=present)
  type: str
  sample: registry.bailey.internal:5000/bailey/base:0a1b2c3d4e5f
image_id:
  description: The image's ID in the engine; empty where it is not made yet.
  returned: when O(state=present)
  type: str
inputs:
  description: The digest (SHA-256, 64 hexadecimal digits) of what the image is made from.
  returned: when O(state=present)
  type: str
built:
  description: Whether the image was made in this run, or would be.
  returned: when O(state=present)
  type: bool
pushed:
  description: The tags that were pushed, or would be.
  returned: when O(state=present)
  type: list
  elements: str
removed:
  description: The tags that were removed from the engine, or would be.
  returned: always
  type: list
  elements: str
duration:
  description: How long it took, in seconds.
  returned: always
  type: float
"""

import contextlib
import time
from pathlib import Path
from typing import Any

from ..module_utils.bailey.errors import InvalidValueError
from ..module_utils.bailey.images import context, manage, source
from ..module_utils.bailey.images.engine import Credentials, Engine
from ..module_utils.bailey.images.reference import parse_repository, parse_tag
from ..module_utils.bailey.units import parse_count
from ..module_utils.bailey_ansible import Outcome, run_module

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "tag": {"type": "str", "default": "current"},
    "rootfs": {
        "type": "dict",
        "options": {
            "path": {"type": "path", "required": True},
            "cmd": {"type": "list", "elements": "str", "default": []},
            "entrypoint": {"type": "list", "elements": "str", "default": []},
            "env": {"type": "dict", "default": {}},
            "user": {"type": "str", "default": ""},
            "workdir": {"type": "str", "default": ""},
        },
    },
    "build": {
        "type": "dict",
        "options": {
            "context": {"type": "path"},
            "files": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "path": {"type": "str", "required": True},
                    "content": {"type": "str", "required": True},
                    "mode": {"type": "str", "default": "0644"},
                },
            },
            "dockerfile": {"type": "str", "default": "Dockerfile"},
            "args": {"type": "dict", "default": {}},
            "base": {"type": "str", "default": ""},
            "network": {"type": "str", "default": ""},
            "ca_bundle": {"type": "str", "default": ""},
        },
        "mutually_exclusive": [("context", "files")],
        "required_one_of": [("context", "files")],
    },
    "archive": {"type": "path"},
    "push": {"type": "bool", "default": False},
    "keep": {"type": "int"},
    "registry_username": {"type": "str"},
    "registry_password": {"type": "str", "no_log": True},
    "client_config": {"type": "path"},
    "specs_directory": {"type": "path", "default": "/var/lib/bailey/specs"},
    "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
    "timeout": {"type": "int", "default": 1800},
}
SOURCES = ("rootfs", "build", "archive")


def _source(params: dict[str, Any]) -> source.Source:
    if params["rootfs"] is not None:
        rootfs = dict(params["rootfs"])
        rootfs["env"] = {str(name): str(value) for name, value in rootfs["env"].items()}
        return source.RootfsSource(Path(rootfs.pop("path")), source.ImageConfig(**rootfs))
    if params["build"] is not None:
        return _build_source(params["build"])
    if params["archive"] is not None:
        return source.ArchiveSource(Path(params["archive"]))
    raise InvalidValueError("state", "present", "exactly one of rootfs, build and archive with it")


def _build_source(build: dict[str, Any]) -> source.BuildSource:
    if build["context"] is not None:
        entries = context.read_directory("build.context", Path(build["context"]))
    else:
        entries = context.read_inline("build.files", build["files"])
    bundle = Path(build["ca_bundle"]) if build["ca_bundle"] else None
    if bundle is not None and not bundle.is_file():
        raise InvalidValueError("build.ca_bundle", str(bundle), "a file of the managed host")
    return source.BuildSource(
        entries=entries,
        dockerfile=build["dockerfile"],
        args={str(name): str(value) for name, value in build["args"].items()},
        base=build["base"],
        network=build["network"],
        ca_bundle=bundle,
    )


def _desired(params: dict[str, Any]) -> manage.Desired:
    credentials = None
    if params["registry_username"] is not None:
        credentials = Credentials(params["registry_username"], params["registry_password"])
    return manage.Desired(
        repository=parse_repository("name", params["name"]),
        tag=parse_tag("tag", params["tag"]),
        source=_source(params),
        push=params["push"],
        keep=None if params["keep"] is None else parse_count("keep", params["keep"]),
        credentials=credentials,
        specs=Path(params["specs_directory"]),
    )


def _open(params: dict[str, Any]) -> Engine:
    config = Path(params["client_config"]) if params["client_config"] is not None else None
    if config is not None and not config.is_file():
        raise InvalidValueError("client_config", str(config), "a file of the managed host")
    return Engine(params["docker_host"], parse_count("timeout", params["timeout"]), config)


def _handle(params: dict[str, Any], check_mode: bool) -> Outcome:
    """Bring the repository to its declared state."""
    began = time.monotonic()
    if params["state"] == "absent":
        repository = parse_repository("name", params["name"])
        with contextlib.closing(_open(params)) as engine:
            report = manage.absent(engine, repository, Path(params["specs_directory"]), check_mode=check_mode)
        values: dict[str, Any] = {}
    else:
        desired = _desired(params)
        with contextlib.closing(_open(params)) as engine:
            report = manage.present(engine, desired, check_mode=check_mode)
        values = {
            "image": desired.repository.tagged(report.inputs[:12]) if report.inputs else "",
            "image_id": report.image_id or "",
            "inputs": report.inputs or "",
            "built": report.built,
            "pushed": report.pushed,
        }
    values |= {"removed": report.removed, "duration": round(time.monotonic() - began, 3)}
    return Outcome(report.differences, values, report.warnings)


def main() -> None:
    """Run the module."""
    run_module(
        _handle,
        argument_spec=ARGUMENTS,
        mutually_exclusive=[SOURCES],
        required_together=[("registry_username", "registry_password")],
    )


if __name__ == "__main__":
    main()
