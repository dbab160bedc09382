"""What stands on a host: every instance, declared against enforced."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .backends.base import Backend, Container
from .carry import Host
from .enforcement import Check, Reading, checks, read_container
from .host.quota import Volume
from .limits import LogLimit
from .planning import find_presences
from .spec import Spec, parse_spec, redact
from .store import StoredSpec
from .units import format_size


@dataclass(frozen=True)
class Instance:
    """One instance as it stands. `checks` is empty where it does not run."""

    stored: StoredSpec
    spec: Spec
    container: Container | None
    reading: Reading | None
    volume: Volume | None
    checks: list[Check]

    @property
    def state(self) -> str:
        """What the engine says of it, in one word."""
        if self.container is None:
            return "missing"
        return "running" if self.container.running else "stopped"

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
            "addresses": [port.address for port in self.spec.ports],
            "declared": redact(self.stored.canonical),
            "checks": [vars(check) for check in self.checks],
            "enforced": bool(self.checks) and all(check.holds for check in self.checks),
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
    return [
        _read(host, item, presences[name].current if name in presences else None, volumes.get(name))
        for name, item in stored.items()
        if name in wanted
    ]


def _read(host: Host, stored: StoredSpec, container: Container | None, volume: Volume | None) -> Instance:
    spec = parse_spec(stored.canonical)
    reading = read_container(host.hierarchy, container.id) if container is not None and container.running else None
    results: list[Check] = []
    if container is not None and reading is not None:
        results = checks(spec, reading, volume, host.io_devices)
        results.append(_log_check(spec.limits.log, host.backend, container))
    return Instance(stored, spec, container, reading, volume, results)


def _log_check(declared: LogLimit, backend: Backend, container: Container) -> Check:
    """Check the engine's bound on the log: the one limit that the engine enforces and not the kernel."""
    actual = backend.log_limit(container.id)
    shown = "unlimited" if actual is None else _log_text(actual)
    return Check("logging", _log_text(declared), shown, actual == declared)


def _log_text(limit: LogLimit) -> str:
    return f"{limit.max_file} x {format_size(limit.max_size)}"
