"""Plays as an operator runs them: each a run of ansible-playbook of its own, its start included."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .errors import BenchError

CHECKOUT = Path(__file__).resolve().parents[1]
SYSTEM_PYTHON = "/usr/bin/python3"
LOCALHOST = "localhost"
_PLAY_SECONDS = 900


def write_inventory(path: Path, variables: Mapping[str, Any], host: str = LOCALHOST) -> None:
    """Write an inventory of one host, this machine unless told otherwise; JSON is YAML too."""
    hosts = {"container_hosts": {"hosts": {host: {"ansible_connection": "local", **variables}}}}
    path.write_text(json.dumps(hosts, indent=1))


def run_play(inventory: Path, playbook: Path | str, host: str = LOCALHOST) -> tuple[float, dict[str, Any]]:
    """Run a playbook; return its seconds and what its last task returned. BenchError where it fails."""
    argv = ["ansible-playbook", "--inventory", str(inventory), str(playbook)]
    environment = {
        # What a developer tells Python would reach modules on this machine and none in a container.
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "ANSIBLE_HOME": str(inventory.parent / "ansible"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    }
    begun = time.perf_counter()
    done = subprocess.run(
        argv, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False, timeout=_PLAY_SECONDS
    )
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        raise BenchError(f"{playbook}: exit status {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout)["plays"][-1]["tasks"][-1]["hosts"][host]
    return seconds, result


def fastest_settings(measure: Callable[[Mapping[str, Any]], float]) -> Mapping[str, Any]:
    """Return what a module is fastest with: the distribution's Python or this one, pipelining or not."""
    choices = [
        {"ansible_python_interpreter": interpreter, "ansible_pipelining": pipelining}
        for interpreter in (SYSTEM_PYTHON, sys.executable)
        for pipelining in (False, True)
    ]
    seconds: dict[int, float] = {}
    for turn in range(3 * len(choices)):
        number = turn % len(choices)
        seconds[number] = min(seconds.get(number, math.inf), measure(choices[number]))
    return choices[min(seconds, key=seconds.__getitem__)]
