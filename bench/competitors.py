"""The competitors: Bailey's own deploy play, a loop over docker_container, and the SDK alone as the floor.

All get the same declaration. What they cannot do alike is in the notes of report.py.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, ClassVar

import docker

from .figures import BAILEY, FLOOR, LOOP, Timing
from .ground import Ground
from .plays import SYSTEM_PYTHON, fastest_settings, run_play, write_inventory
from .workload import (
    FIRST_UID,
    IMAGE_COMMAND,
    LIMITS,
    LOG_FILES,
    LOG_SIZE,
    MEMORY,
    MORE_MEMORY,
    NOFILE,
    NPROC,
    TARGET,
    Instance,
    with_first,
)

WORKERS = 8


class Competitor(ABC):
    """One way to bring N containers to what is declared."""

    name: ClassVar[str]

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    @abstractmethod
    def converge(self, declared: Sequence[Instance]) -> Timing:
        """Make what is missing; where nothing is, find that out."""

    @abstractmethod
    def change(self, declared: Sequence[Instance]) -> Timing:
        """Give the first container more memory while it runs."""

    @abstractmethod
    def recreate(self, declared: Sequence[Instance]) -> Timing:
        """Give the first container another environment, which needs a new one."""

    @abstractmethod
    def remove(self, declared: Sequence[Instance]) -> Timing:
        """Stop and remove all."""


class PlayCompetitor(Competitor):
    """A competitor that is a playbook: each run is one ansible-playbook, its start included."""

    playbook: ClassVar[str]
    # How Ansible runs the module: the variables of an inventory, on top of this project's ansible.cfg.
    settings: Mapping[str, Any] = MappingProxyType({"ansible_python_interpreter": SYSTEM_PYTHON})

    @abstractmethod
    def variables(self, declared: Sequence[Instance], *, present: bool) -> dict[str, Any]:
        """Return the inventory's variables."""

    @abstractmethod
    def read(self, seconds: float, result: Mapping[str, Any]) -> Timing:
        """Make a timing of what the play's last task returned."""

    def converge(self, declared: Sequence[Instance]) -> Timing:
        """Run the play."""
        return self._play(declared)

    def change(self, declared: Sequence[Instance]) -> Timing:
        """Run the play with more memory declared for the first."""
        return self._play(with_first(list(declared), memory=MORE_MEMORY))

    def recreate(self, declared: Sequence[Instance]) -> Timing:
        """Run the play with another environment declared for the first."""
        return self._play(with_first(list(declared), memory=MORE_MEMORY, generation="2"))

    def remove(self, declared: Sequence[Instance]) -> Timing:
        """Run the play with all declared absent."""
        return self._play(declared, present=False)

    def _play(self, declared: Sequence[Instance], *, present: bool = True) -> Timing:
        variables = self.variables(declared, present=present)
        write_inventory(self.ground.inventory, {**variables, **self.settings})
        return self.read(*run_play(self.ground.inventory, self.playbook))


class Bailey(PlayCompetitor):
    """The deploy playbook as it is, with an inventory that declares one app a container."""

    name = BAILEY
    playbook = "playbooks/deploy.yml"

    def variables(self, declared: Sequence[Instance], *, present: bool) -> dict[str, Any]:
        """Return every variable of the role, so that nothing depends on its defaults."""
        return {
            "tenants_docker_host": self.ground.engine.docker_host,
            "tenants_storage_path": str(self.ground.volumes),
            "tenants_state_dir": str(self.ground.state),
            "tenants_run_dir": str(self.ground.run),
            "tenants_wsh_dir": str(self.ground.programs.mounted),
            "tenants_plans": {"bench": LIMITS},
            "tenants_apps": [self._app(instance) for instance in declared] if present else [],
            "tenants_containers": [],
            "tenants_purge": True,
            "tenants_remove_volumes": True,
            "tenants_uid_range": f"{FIRST_UID}-{FIRST_UID + 999}",
            "tenants_overcommit": {"cpus": 100},
            "tenants_lsm": "none",
            "tenants_workers": WORKERS,
        }

    def _app(self, instance: Instance) -> dict[str, Any]:
        app: dict[str, Any] = {
            "tenant": "bench",
            "name": instance.app,
            "image": self.ground.image,
            "plan": "bench",
            "command": list(IMAGE_COMMAND),
            "environment": instance.environment,
            "volumes": [TARGET],
        }
        return app if instance.memory == MEMORY else {**app, "mem_limit": instance.memory}

    def read(self, seconds: float, result: Mapping[str, Any]) -> Timing:
        """Take the module's own account."""
        changed = sum(item["action"] != "none" for item in result["containers"])
        return Timing(seconds, changed, float(result["elapsed"]))


class Loop(PlayCompetitor):
    """One community.docker.docker_container task in a loop."""

    name = LOOP
    playbook = "bench/playbooks/loop.yml"

    def variables(self, declared: Sequence[Instance], *, present: bool) -> dict[str, Any]:
        """Return the same declaration in the module's words."""
        return {
            "bench_docker_host": self.ground.engine.docker_host,
            "bench_image": self.ground.image,
            "bench_command": list(IMAGE_COMMAND),
            "bench_limits": LIMITS,
            "bench_ulimits": [f"nofile:{NOFILE}:{NOFILE}", f"nproc:{NPROC}:{NPROC}"],
            "bench_log_options": {"max-size": LOG_SIZE, "max-file": str(LOG_FILES)},
            "bench_instances": [
                {
                    "name": instance.name,
                    "state": "started" if present else "absent",
                    "user": f"{instance.uid}:{instance.uid}",
                    "env": instance.environment,
                    "memory": instance.memory,
                    "directory": str(instance.directory),
                }
                for instance in declared
            ],
        }

    def read(self, seconds: float, result: Mapping[str, Any]) -> Timing:
        """Count the turns of the loop that changed something."""
        return Timing(seconds, sum(bool(item["changed"]) for item in result["results"]))

    def take_fastest_settings(self, declared: Sequence[Instance]) -> None:
        """Choose what the loop is fastest with: the distribution's Python or this one, pipelining or not."""
        for instance in declared:
            instance.directory.mkdir(exist_ok=True)
        self.converge(declared)

        def measure(settings: Mapping[str, Any]) -> float:
            self.settings = settings
            return self.converge(declared).seconds

        self.settings = fastest_settings(measure)
        self.remove(declared)


class SdkFloor(Competitor):
    """The Docker SDK's bare requests, eight at a time: no Ansible, no check of any kind."""

    name = FLOOR

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self._api: Any = docker.APIClient(base_url=ground.engine.docker_host, timeout=300)

    def converge(self, declared: Sequence[Instance]) -> Timing:
        """Create and start what is not listed; of what is, inspect each, the least that comparing needs."""
        begun = time.perf_counter()
        listed = {name.lstrip("/") for item in self._api.containers(all=True) for name in item["Names"]}
        missing = [instance for instance in declared if instance.name not in listed]
        _in_parallel(self._start, missing)
        _in_parallel(lambda item: self._api.inspect_container(item.name), (i for i in declared if i.name in listed))
        return Timing(time.perf_counter() - begun, len(missing))

    def change(self, declared: Sequence[Instance]) -> Timing:
        """Update the first."""
        begun = time.perf_counter()
        self._api.update_container(declared[0].name, mem_limit=MORE_MEMORY, memswap_limit=MORE_MEMORY)
        return Timing(time.perf_counter() - begun, 1)

    def recreate(self, declared: Sequence[Instance]) -> Timing:
        """Replace the first."""
        begun = time.perf_counter()
        self._remove(declared[0])
        self._start(with_first(list(declared), memory=MORE_MEMORY, generation="2")[0])
        return Timing(time.perf_counter() - begun, 1)

    def remove(self, declared: Sequence[Instance]) -> Timing:
        """Stop and remove each."""
        begun = time.perf_counter()
        _in_parallel(self._remove, declared)
        return Timing(time.perf_counter() - begun, len(declared))

    def _start(self, instance: Instance) -> None:
        created = self._api.create_container(
            self.ground.image,
            list(IMAGE_COMMAND),
            name=instance.name,
            hostname=instance.name,
            user=f"{instance.uid}:{instance.uid}",
            environment=instance.environment,
            healthcheck={"test": ["NONE"]},
            host_config=self._host_config(instance),
        )
        self._api.start(created["Id"])

    def _host_config(self, instance: Instance) -> Any:
        return self._api.create_host_config(
            init=True,
            ipc_mode="private",
            network_mode="bridge",
            restart_policy={"Name": "unless-stopped"},
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            mem_limit=instance.memory,
            memswap_limit=instance.memory,
            nano_cpus=round(float(str(LIMITS["cpus"])) * 1_000_000_000),
            cpu_shares=LIMITS["cpu_shares"],
            pids_limit=LIMITS["pids_limit"],
            shm_size=LIMITS["shm_size"],
            tmpfs=LIMITS["tmpfs"],
            ulimits=[
                docker.types.Ulimit(name="nofile", soft=NOFILE, hard=NOFILE),
                docker.types.Ulimit(name="nproc", soft=NPROC, hard=NPROC),
            ],
            log_config=docker.types.LogConfig(
                type="json-file", config={"max-size": LOG_SIZE, "max-file": str(LOG_FILES)}
            ),
            mounts=[docker.types.Mount(TARGET, str(instance.directory), type="bind", propagation="rprivate")],
        )

    def _remove(self, instance: Instance) -> None:
        self._api.stop(instance.name)
        self._api.remove_container(instance.name, v=True)


def _in_parallel(action: Callable[[Instance], object], chosen: Iterable[Instance]) -> None:
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        list(pool.map(action, chosen))
