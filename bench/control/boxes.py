"""The containers that commands are run in: made by the core as `bailey_containers` makes them, behind their gates."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bailey.admission import Overcommit
from bailey.carry import Host
from bailey.hosts import open_host
from bailey.reconcile import Request, reconcile

from bench.competitors import WORKERS
from bench.ground import Ground
from bench.workload import FIRST_UID, IMAGE_COMMAND, LIMITS, TARGET
from tests.ground.rootfs import BASE, RootFs

# The tests' image with an ssh server in it: the same one for all.
IMAGE = RootFs("bailey-bench/control:1", (*BASE.packages, "openssh-server"))
TALK = "bench-talk-1"


def declare(name: str, **fields: Any) -> dict[str, Any]:
    """Declare a container that sleeps behind the limits of the bench."""
    return {
        "name": name,
        "tenant": "bench",
        "image": IMAGE.image,
        "plan": "bench",
        "command": list(IMAGE_COMMAND),
        "volumes": [TARGET],
        **fields,
    }


def talk() -> dict[str, Any]:
    """Declare the container that commands are run in one after the other. Its limits slow none of them down."""
    return declare(TALK, mem_limit="512M", cpus=os.cpu_count(), pids_limit=512, ulimits={"nofile": 4096, "nproc": 512})


@dataclass(frozen=True)
class Boxes:
    """The ground's containers."""

    ground: Ground

    def open(self) -> Host:
        """Open the host's adapters."""
        return open_host(
            {
                "docker_host": self.ground.engine.docker_host,
                "timeout": 60,
                "storage_path": str(self.ground.volumes),
                "state_dir": str(self.ground.state),
                "run_dir": str(self.ground.run),
                "wsh_dir": str(self.ground.programs.mounted),
                "remove_volumes": True,
            }
        )

    def converge(self, declared: Sequence[Mapping[str, Any]]) -> None:
        """Have these containers, and no others of Bailey's."""
        request = Request(
            declarations=declared,
            plans={"bench": LIMITS},
            uids=range(FIRST_UID, FIRST_UID + 1000),
            purge=True,
            overcommit=Overcommit(cpus=100),
            lsm="none",
            workers=WORKERS,
        )
        reconcile(request, self.open())

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what the engine knows of a container."""
        (found,) = json.loads(self.ground.engine.docker("inspect", "--type", "container", name))
        return dict(found)

    def wsh(self, name: str, *command: str) -> list[str]:
        """Return the words that run a command in a container by wsh."""
        return [str(self.ground.programs.wsh), name, "--run-dir", str(self.ground.run), "--", *command]
