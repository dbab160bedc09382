"""What stands on a host: every instance, declared against enforced."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .agent_client import AgentClient, AgentUnavailableError
from .backends.base import Backend, Container
from .carry import Host
from .enforcement import Check, Reading, checks, read_container
from .host.quota import Volume
from .instance_state import EXITED, OPEN, WAITING, InstanceState, read_states
from .limits import LogLimit
from .planning import find_presences
from .spec import BRIDGE, Spec, parse_spec, redact
from .store import StoredSpec
from .units import format_size

_GATE = ("status", "reason", "gate_ms", "opened_at", "restarts", "health", "last_exit")


@dataclass(frozen=True)
class Instance:
    """One instance as it stands. `checks` is empty where it does not run, `gate` is what the agent says of it."""

    stored: StoredSpec
    spec: Spec
    container: Container | None
    reading: Reading | None
    volume: Volume | None
    gate: InstanceState | None
    checks: list[Check]

    @property
    def is_open(self) -> bool:
        """Whether the container that runs now is the one whose gate has opened."""
        return (
            self.container is not None
            and self.gate is not None
            and self.gate.is_open(self.container.id)
            and self.reading is not None
            and self.reading.init.pid == self.gate.pid
        )

    @property
    def state(self) -> str:
        """What it is, in one word: missing, stopped, running, or where the agent has it before it runs."""
        if self.container is None:
            return "missing"
        if self.is_open:
            return "running"
        if self.gate is not None and self.gate.status not in (OPEN, EXITED):
            return self.gate.status
        return WAITING if self.container.running else "stopped"

    def as_result(self) -> dict[str, object]:
        """Return the instance as a module's result; the environment's values are hidden."""
        usage = None if self.reading is None else self.reading.usage
        return {
            "name": self.spec.name,
            "tenant": self.spec.tenant,
            "app": self.spec.app,
            "state": self.state,
            "declared_state": self.stored.state,
            "status": self.container.status if self.container else "",
            "uid": self.stored.uid,
            "host_uid": self.stored.host_uid,
            "addresses": [port.address for port in self.spec.ports],
            "exceptions": sorted(self.spec.exceptions),
            "declared": redact(self.stored.canonical),
            "checks": [vars(check) for check in self.checks],
            "enforced": self.is_open and bool(self.checks) and all(check.holds for check in self.checks),
            "gate": None
            if self.gate is None
            else {key: value for key, value in self.gate.as_json().items() if key in _GATE},
            "usage": {
                "memory_bytes": usage.memory if usage else None,
                "cpu_seconds": usage.cpu_ns / 1e9 if usage else None,
                "pids": usage.pids if usage else None,
                "oom_kills": usage.oom_kills if usage else None,
                "disk_bytes": self.volume.used if self.volume else None,
            },
        }


def read_instances(host: Host, names: Iterable[str] = ()) -> list[Instance]:
    """Read all instances that were declared on a host, or those named, in the order of their names."""
    stored = host.store.load()
    wanted = set(names) or set(stored)
    presences = find_presences(host.backend.list())
    volumes = host.quota.volumes()
    gates = read_states(host.files.run_dir)
    specs = {name: parse_spec(item.canonical) for name, item in stored.items() if name in wanted}
    network = read_network(host.agent, specs.values())
    instances = []
    for name, spec in specs.items():
        container = presences[name].current if name in presences else None
        instance = _read(host, stored[name], spec, container, volumes.get(name), gates.get(name))
        if instance.checks:
            instance.checks.extend(network.get(name, []))
        instances.append(instance)
    return instances


def read_network(agent: AgentClient, specs: Iterable[Spec]) -> dict[str, list[Check]]:
    """Have the agent read every running instance's network back from the kernel, by the instance's name.

    The agent alone owns the network. Where it does not answer, nothing is taken for enforced.
    """
    connected = [spec.name for spec in specs if spec.network_mode == BRIDGE]
    if not connected:
        return {}
    try:
        answer = agent.network(connected)
    except AgentUnavailableError as error:
        unknown = Check("network", "in force", f"not known: {error}", holds=False)
        return {name: [unknown] for name in connected}
    closed = Check("network", "in force", "its gate is not open", holds=False)
    return {name: [Check(**check) for check in answer[name]] if name in answer else [closed] for name in connected}


def _read(
    host: Host,
    stored: StoredSpec,
    spec: Spec,
    container: Container | None,
    volume: Volume | None,
    gate: InstanceState | None,
) -> Instance:
    reading = read_container(host.hierarchy, container.id) if container is not None and container.running else None
    results: list[Check] = []
    if container is not None and reading is not None:
        results = checks(spec, reading, volume, host.io_devices, stored.ids)
        results.append(_log_check(spec.limits.log, host.backend, container))
    return Instance(stored, spec, container, reading, volume, gate, results)


def _log_check(declared: LogLimit, backend: Backend, container: Container) -> Check:
    """Check the engine's bound on the log: the one limit that the engine enforces and not the kernel."""
    actual = backend.log_limit(container.id)
    shown = "unlimited" if actual is None else _log_text(actual)
    return Check("logging", _log_text(declared), shown, actual == declared)


def _log_text(limit: LogLimit) -> str:
    return f"{limit.max_file} x {format_size(limit.max_size)}"
