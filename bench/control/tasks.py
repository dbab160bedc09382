"""Ansible in one container, connection beside connection, and one command in many containers by one task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.errors import BenchError
from bench.plays import SYSTEM_PYTHON, fastest_settings, run_play, write_inventory
from bench.samples import Results

from .boxes import TALK, Boxes, declare
from .figures import (
    EXEC_LOOP,
    FLEET,
    FLEET_INSIDE,
    LOCAL,
    MODULE,
    PEERS,
    TASKS,
    WSH_CONNECTION,
)
from .scale import Scale

_TASKS = 20
_EVERY = 3  # turns in which the peers have one
_FEW = 4  # containers, for finding out what the loop is fastest with
_PYTHON = MappingProxyType({"ansible_python_interpreter": SYSTEM_PYTHON})


def measure_tasks(boxes: Boxes, scale: Scale, results: Results) -> None:
    """Run a play of twenty `command` tasks over each connection, in turns."""
    playbook = boxes.ground.inventory.with_name("tasks.yml")
    playbook.write_text(json.dumps(play(_TASKS)))
    connections = _connections(boxes)
    for turn in range(scale.plays):
        taking_part = [name for name in connections if name not in PEERS or turn % _EVERY == 0]
        for name in taking_part if turn % 2 else reversed(taking_part):
            write_inventory(boxes.ground.inventory, {**_PYTHON, "ansible_connection": name, **connections[name]}, TALK)
            seconds, result = run_play(boxes.ground.inventory, playbook, TALK)
            if result["rc"] != 0 or not result["changed"]:
                raise BenchError(f"{name}: the last task did not run its command: {result}")
            results.add(TASKS, name, [seconds])


def play(tasks: int) -> list[dict[str, Any]]:
    """Return a play of so many tasks that do as little as a command can."""
    return [
        {
            "name": "Run commands one by one",
            "hosts": "container_hosts",
            "gather_facts": False,
            "tasks": [
                {"name": f"Run command {number}", "ansible.builtin.command": {"argv": ["true"]}}
                for number in range(1, tasks + 1)
            ],
        }
    ]


def _connections(boxes: Boxes) -> dict[str, Mapping[str, Any]]:
    """Return what each connection has to be told, with pipelining for all that know it."""
    docker_host = boxes.ground.engine.docker_host
    docker, docker_api, nsenter = PEERS
    return {
        WSH_CONNECTION: {"wsh_run_dir": str(boxes.ground.run)},
        LOCAL: {},
        docker: {"ansible_docker_extra_args": f"--host={docker_host}"},
        docker_api: {"ansible_docker_docker_host": docker_host},
        # It is the host's root in a container whose root file system cannot be written to.
        nsenter: {"ansible_nsenter_pid": boxes.inspect(TALK)["State"]["Pid"], "ansible_remote_tmp": "/tmp/.ansible"},
    }


def measure_fleet(boxes: Boxes, scale: Scale, results: Results) -> Mapping[str, Any]:
    """Run one command in many containers; return what the loop is fastest with, which it is run with."""
    names = [f"bench-fleet-{number}" for number in range(1, scale.fleet + 1)]
    boxes.converge([declare(name) for name in names])
    inventory = boxes.ground.inventory
    settings = fastest_settings(lambda choice: _loop(boxes, names[:_FEW], choice))
    for turn in range(scale.rounds):
        write_inventory(inventory, {**_PYTHON, "bench_run_dir": str(boxes.ground.run), "bench_names": names})
        seconds, result = run_play(inventory, "bench/playbooks/wsh.yml")
        check_all_ran(names, [item["rc"] for item in result["instances"]])
        results.add(FLEET, MODULE, [seconds])
        results.add(FLEET_INSIDE, MODULE, [result["elapsed"]])
        if turn == 0:
            results.add(FLEET, EXEC_LOOP, [_loop(boxes, names, settings)])
    return settings


def _loop(boxes: Boxes, names: Sequence[str], settings: Mapping[str, Any]) -> float:
    inventory: Path = boxes.ground.inventory
    docker_host = boxes.ground.engine.docker_host
    write_inventory(inventory, {**settings, "bench_docker_host": docker_host, "bench_names": list(names)})
    seconds, result = run_play(inventory, "bench/playbooks/exec_loop.yml")
    check_all_ran(names, [item["rc"] for item in result["results"]])
    return seconds


def check_all_ran(names: Sequence[str], codes: Sequence[int]) -> None:
    """Refuse figures of a run that left a container out."""
    if list(codes) != [0] * len(names):
        raise BenchError(f"the command did not end well in all of {len(names)} containers: {codes}")
