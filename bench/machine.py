"""The machine that the figures are of."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bailey.host.cgroup import open_hierarchy

from tests.ground.engine import command

from .ground import Ground
from .plays import CHECKOUT, SYSTEM_PYTHON

_CODE = ("library", "plugins", "roles", "playbooks", "src")


def describe(ground: Ground, load: float) -> dict[str, str]:
    """Return what a reader needs in order to compare the figures with others."""
    versions = json.loads(ground.engine.docker("version", "--format", "{{json .Server}}"))
    parts = {part["Name"]: part["Version"] for part in versions["Components"]}
    engine = ", ".join(f"{name} {parts[name]}" for name in ("Engine", "containerd", "runc") if name in parts)
    driver = ground.engine.docker("info", "--format", "{{.Driver}}").strip()
    python = command([SYSTEM_PYTHON, "-c", "import platform; print(platform.python_version())"]).strip()
    return {
        "measured": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, commit {_commit()}",
        "processor": f"{os.cpu_count()} x {_first_value('/proc/cpuinfo', 'model name')}",
        "memory": f"{int(_first_value('/proc/meminfo', 'MemTotal').split()[0]) / (1 << 20):.1f} GiB",
        "system": f"{_first_value('/etc/os-release', 'PRETTY_NAME')}, Linux {platform.release()}, "
        f"cgroup v{open_hierarchy().version}",
        "engine": f"{engine}, {driver}; disk quotas by {ground.storage_kind}",
        "Ansible": f"ansible-core {importlib.metadata.version('ansible-core')} on Python {platform.python_version()}; "
        f"modules under Python {python}",
        "load before the start": f"{load:.2f}",
    }


def describe_loop(settings: Mapping[str, Any]) -> str:
    """Return the collection's version, and how its module was run."""
    collection = command(["ansible-galaxy", "collection", "list", "community.docker", "--format", "json"])
    (galaxy,) = list(json.loads(collection).values())[:1]
    return f"community.docker {galaxy['community.docker']['version']} under {_loop_settings(settings)}"


def describe_sdk() -> str:
    """Return the versions that the floor stands on."""
    return f"docker {importlib.metadata.version('docker')} on Python {platform.python_version()}"


def describe_network() -> str:
    """Return the versions of the programs that are measured beside, and the one that makes the tables."""
    said = [command([*argv]).split("\n")[0] for argv in (("iptables", "--version"), ("tc", "-V"), ("nft", "--version"))]
    return ", ".join(said)


def describe_ssh() -> str:
    """Return the version of the ssh client; the server comes from the same packages."""
    done = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True)
    return done.stderr.strip()


def _loop_settings(loop: Mapping[str, Any]) -> str:
    own = loop["ansible_python_interpreter"] != SYSTEM_PYTHON
    python = "Ansible's own Python" if own else "the distribution's Python"
    return f"{python}, {'with' if loop['ansible_pipelining'] else 'without'} pipelining"


def _commit() -> str:
    """Name the state of the code, and say where it is not as it was committed."""
    commit = command(["git", "-C", str(CHECKOUT), "rev-parse", "--short", "HEAD"]).strip()
    changed = command(["git", "-C", str(CHECKOUT), "status", "--porcelain", *_CODE])
    return commit + (" with changes" if changed.strip() else "")


def _first_value(path: str, name: str) -> str:
    """Return the value of a line NAME: VALUE or NAME="VALUE"."""
    for line in Path(path).read_text().splitlines():
        key, separator, value = re.split(r"\s*([:=])\s*", line, maxsplit=1) if re.search("[:=]", line) else ("",) * 3
        if separator and key.strip() == name:
            return value.strip('" ')
    return "unknown"
