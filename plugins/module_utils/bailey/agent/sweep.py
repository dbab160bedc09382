"""Looking at all open instances again and again: whether their limits still hold, and what they use."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path

from ..enforcement import describe, failing
from ..errors import BaileyError
from ..host.cgroup import Usage
from ..host.idmap import IDENTITY
from ..host.proc import PROC, read_of_process
from ..host.processes import pids, program_of
from ..host.quota import Volume
from ..limits import Limits
from .ledger import LOG, Ledger, Record
from .proof import Prover
from .sockets import credentials
from .workers import Workers

_ENGINE_PROGRAM = "dockerd"
_ROW = {"VmRSS:": 1024, "Threads:": 1}
_NOTHING = Usage(0, 0, 0, 0)


@dataclass
class Look:
    """What one look has found of an instance: its use, its limits, and which of those do not hold."""

    usage: Usage = _NOTHING
    disk: int | None = None
    limits: Limits | None = None
    broken: str = ""


@dataclass
class Process:
    """Memory in bytes, and threads, of a program."""

    resident: int = 0
    threads: int = 0


@dataclass
class Findings:
    """What the last sweep has found."""

    looks: dict[str, Look] = field(default_factory=dict)
    engine: Process | None = None
    agent: Process = field(default_factory=Process)


class Sweep:
    """One look at everything. It changes nothing but what is said of an instance."""

    def __init__(self, ledger: Ledger, prover: Prover, workers: Workers, engine_socket: Path) -> None:
        self.findings = Findings()
        self._ledger = ledger
        self._prover = prover
        self._workers = workers
        self._engine_socket = engine_socket
        self._engine_pid = 0

    async def run(self) -> None:
        """Look once, instance after instance, so that nothing else waits for long."""
        self.findings.engine = await self._workers.kernel(self._read_engine)
        self.findings.agent = read_program("self") or Process()
        volumes = await self._workers.kernel(self._volumes)
        known = {record.name for record in self._ledger}
        for name in self.findings.looks.keys() - known:
            del self.findings.looks[name]
        for record in self._ledger:
            if record.is_open:
                await self._look(record, volumes.get(record.name))

    def _volumes(self) -> dict[str, Volume]:
        try:
            return self._prover.host.quota.volumes()
        except (BaileyError, OSError) as error:
            LOG.warning("the volumes cannot be read: %s", error)
            return {}

    async def _look(self, record: Record, volume: Volume | None) -> None:
        spec, container = record.spec, record.state.container
        if spec is None:
            return
        ids = IDENTITY if record.declared is None else record.declared.ids
        try:
            found = await self._workers.kernel(self._prover.look, spec, container, volume, ids)
        except (BaileyError, OSError) as error:
            LOG.warning("%s: its limits cannot be read: %s", record.name, error)
            return
        if found is None or not record.is_open or record.state.container != container:
            return  # it has ended meanwhile
        reading, results = found
        broken = failing(results)
        look = self.findings.looks.setdefault(record.name, Look())
        record.count_kills(record.run, reading.usage.oom_kills)
        look.usage, look.limits = reading.usage, spec.limits
        look.disk = None if volume is None else volume.used
        look.broken = f"the kernel does not hold what was declared: {describe(broken)}" if broken else ""
        reason = look.broken or record.frozen
        if reason != record.state.reason:
            self._ledger.publish(record, reason=reason)

    def _read_engine(self) -> Process | None:
        found = read_program(str(self._engine_pid)) if self._engine_pid else None
        if found is None or program_of(self._engine_pid) != _ENGINE_PROGRAM:
            self._engine_pid = self._find_engine()
            found = read_program(str(self._engine_pid)) if self._engine_pid else None
        return found

    def _find_engine(self) -> int:
        """Return the engine's process: who listens at its socket, or where that is systemd, the one of its name."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
                connection.settimeout(1.0)
                connection.connect(str(self._engine_socket))
                pid = credentials(connection).pid
        except OSError:
            return 0
        if program_of(pid) == _ENGINE_PROGRAM:
            return pid
        named = [other for other in pids() if program_of(other) == _ENGINE_PROGRAM]
        return named[0] if len(named) == 1 else 0


def read_program(pid: str, proc: Path = PROC) -> Process | None:
    """Read a program's memory and threads, None where it has ended. One that nobody has reaped yet has no memory."""
    text = read_of_process(proc / pid / "status")
    if text is None:
        return None
    rows = {fields[0]: fields[1] for fields in map(str.split, text.splitlines()) if fields and fields[0] in _ROW}
    return Process(*(int(rows[name]) * unit for name, unit in _ROW.items())) if rows.keys() == _ROW.keys() else None
