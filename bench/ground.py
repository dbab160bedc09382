"""What the bench stands on: engine, agent, storage with quotas and directories of its own, all gone afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bailey.agent_files import AgentFiles
from bailey.host.storage import present
from bailey.host.storage_absent import absent
from bailey.host.storage_base import Settings

from tests.ground.engine import Engine, GroundError
from tests.ground.programs import Programs, build
from tests.ground.rootfs import BASE
from tests.integration.fixtures.agent import AgentProcess

ROOT = Path("/var/lib/bailey-bench")
RUN = Path("/run/bailey-bench")
_AGENT_PID = RUN / "baileyd.pid"
_AGENT_SECONDS = 20.0
_STORAGE_SIZE = 4 << 30
_NETWORK = ROOT / "network.json"
TABLE = "bailey-bench"


@dataclass(frozen=True)
class Ground:
    """Where the competitors work."""

    engine: Engine
    image: str
    storage_kind: str
    programs: Programs
    agent: AgentProcess  # without it no gate opens

    @property
    def volumes(self) -> Path:
        """Bailey's storage."""
        return Path(self.agent.storage_path)

    @property
    def state(self) -> Path:
        """Bailey's state directory."""
        return self.agent.files.state_dir

    @property
    def run(self) -> Path:
        """Where the agent answers, and the instances behind it."""
        return self.agent.files.run_dir

    @property
    def directories(self) -> Path:
        """The directories that the other competitors bind."""
        return ROOT / "directories"

    @property
    def inventory(self) -> Path:
        """The inventory of the plays."""
        return ROOT / "inventory/hosts.yml"

    def running(self) -> int:
        """Count the running containers."""
        return len(self.engine.docker("ps", "--quiet").split())


@contextlib.contextmanager
def ground() -> Iterator[Ground]:
    """Make the ground, and take all of it away whatever happens. What a killed bench left goes first."""
    engine = Engine(
        bridge="bailey-bench0",
        network="10.182.0.0/16",
        address="10.182.0.1/17",
        pool="10.182.128.0/17",
        directory=ROOT / "engine",
        run=RUN / "engine",
    )
    storage = Settings("auto", ROOT / "volumes", ROOT / "storage.img", _STORAGE_SIZE, fstab=ROOT / "fstab")
    with _alone():
        _clear(engine, storage)
        try:
            ROOT.mkdir(mode=0o711)
            storage.fstab.touch()
            kind = present(storage).backend
            engine.start("bench")
            BASE.ensure(engine)
            programs = build(ROOT / "programs")
            made = Ground(engine, BASE.image, kind or "none", programs, _agent_of(engine, programs.mounted))
            for directory in (made.state, made.directories, made.inventory.parent):
                directory.mkdir(mode=0o711)
            with _agent(made):
                yield made
        finally:
            _clear(engine, storage)


@contextlib.contextmanager
def _agent(ground: Ground) -> Iterator[None]:
    """Have the agent run."""
    _NETWORK.write_text(json.dumps({"version": 1, "table": TABLE, "bridge": ground.engine.bridge}))
    ground.agent.start()
    _AGENT_PID.write_text(str(ground.agent.pid))
    try:
        yield
    finally:
        ground.agent.stop()
        _AGENT_PID.unlink()


def _agent_of(engine: Engine, programs: Path) -> AgentProcess:
    files = AgentFiles(ROOT / "state", RUN / "agent", programs)
    options = ("--network-config", str(_NETWORK))
    return AgentProcess(engine.docker_host, ROOT / "volumes", files, ROOT / "baileyd.log", options)


def _end_left_agent() -> None:
    """End the agent of a bench that was killed."""
    pid = int(_AGENT_PID.read_text()) if _AGENT_PID.exists() else 0
    number, deadline = signal.SIGTERM, time.monotonic() + _AGENT_SECONDS
    while pid and _is_agent(pid):
        os.kill(pid, number)
        time.sleep(0.1)
        number = signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL


def _is_agent(pid: int) -> bool:
    """Tell whether a process is our agent; one that has ended and that nobody has reaped is none."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return b"bailey.agent" in arguments and str(RUN / "agent").encode() in arguments


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Refuse a second bench: it would take the first one's ground away."""
    descriptor = os.open(Path(__file__).parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise GroundError("another bench runs from this checkout") from None
    finally:
        os.close(descriptor)


def _clear(engine: Engine, storage: Settings) -> None:
    """End the agent, which would restart what goes; then containers and engine, which hold the storage's mounts."""
    _end_left_agent()
    if not ROOT.exists():
        return
    engine.purge()
    if _NETWORK.exists():
        _agent_of(engine, ROOT / "programs").remove_network()
    if storage.fstab.exists():
        absent(storage, remove_data=True)
    shutil.rmtree(ROOT)
    if RUN.exists():
        shutil.rmtree(RUN)
