"""The agent as one process: what is opened, in which order, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import socket
import time
from collections.abc import Collection
from pathlib import Path

from ..agent_client import SOCKET_NAME
from ..carry import Host
from ..errors import BaileyError, HostError, InvalidValueError
from ..hosts import open_host
from ..network_settings import read_network_settings
from ..spec import BRIDGE
from . import notify
from .api import Answer, Api, Session
from .custody import Custody
from .engine_threads import EngineKeeper
from .gate import Gate
from .guard import Guard
from .hands import Hands
from .health import Health
from .ledger import LOG, Ledger, Record, first_start_after_boot
from .listener import Listener
from .memory import MemoryWatch
from .metrics import MetricsServer, Overview, render
from .network import HostNetwork, Standing
from .peer import StrangerError
from .proof import Prover, drain_flag
from .scan import Scans
from .settings import Settings
from .supervisor import Supervisor
from .sweep import Sweep
from .workers import Workers

VERSION = "0.1.0"
_BACKLOG = 128
_STORAGE_RETRY, _METRICS_RETRY = 2.0, 2.0  # seconds


class Agent:
    """All parts of one host's agent, and what each has to tell the others."""

    def __init__(self, settings: Settings, host: Host, workers: Workers) -> None:
        self._settings = settings
        self._host = host
        self._ledger = Ledger(host.store, settings.run_dir)
        self._workers = workers
        self._network, self._guard = self._open_network()
        self._well = time.time()  # when the firewall was last seen to be as it should be
        self._prover = Prover(host, self._network)
        self._gate = Gate(self._ledger, self._prover, workers)
        hands = Hands(host.backend, host.files, workers)
        self._custody = Custody(host.hierarchy, host.files)
        limit = settings.restart_limit
        self._supervisor = Supervisor(self._ledger, self._gate, hands, self._custody, workers, limit)
        self._scans = Scans(settings, self._ledger, self._supervisor, workers)
        self._listener = Listener(self._ledger, self._gate, self._supervisor, host.backend, workers)
        self._health = Health(self._ledger, host.files, workers, self._supervisor.restart)
        engine_socket = Path(settings.docker_host.removeprefix("unix://"))
        self._sweep = Sweep(self._ledger, self._prover, workers, engine_socket)
        threads, command = settings.engine_threads_max, settings.engine_restart_command
        self._keeper = EngineKeeper(threads, command, host.backend, workers, settings.run_dir, self._engine_is_needed)
        self._api = Api(self._make_session)
        self._metrics = MetricsServer(self._page)
        self._memory = MemoryWatch(host.hierarchy)
        self._gate.opened = self._opened
        self._supervisor.closed = self._closed

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until it is to end. The gates come first: nothing of theirs needs the engine."""
        await self._take_over()
        listener = _listen(self._settings.run_dir / SOCKET_NAME)
        await self._api.serve(listener)
        tasks = [
            asyncio.create_task(self._serve_metrics()),
            asyncio.create_task(self._listener.follow()),
            asyncio.create_task(self._sweep_on()),
            asyncio.create_task(notify.keep_watchdog()),
            *([asyncio.create_task(self._scans.follow())] if self._settings.scan_config is not None else []),
        ]
        notify.notify(notify.READY)
        LOG.info("version %s is ready: %d instances are declared", VERSION, len(self._ledger))
        await stopping.wait()
        notify.notify(notify.STOPPING)
        for task in tasks:
            task.cancel()
        self.close()

    def _make_session(self) -> Session:
        asked = (self._about, self._read_network, self._scans.scan)
        return Session(self._ledger, self._supervisor, self._host.files, *asked)

    def _open_network(self) -> tuple[HostNetwork | None, Guard | None]:
        """Have the host's network ready to be held, and its tables watched before anything is made of them."""
        path = self._settings.network_config
        if path is None:
            return None, None
        network, loop = HostNetwork(read_network_settings(path), self._settings.run_dir), asyncio.get_running_loop()

        def told() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._firewall_changed)

        return network, Guard(network, self._host.hierarchy, self._settings.run_dir, told)

    def _opened(self, record: Record) -> None:
        self._memory.follow(record)
        self._health.follow(record)

    def _closed(self, record: Record) -> None:
        self._memory.forget(record)
        self._health.forget(record)
        if self._network is not None:
            self._supervisor.spawn(self._workers.kernel(self._network.leave, record.name))

    def _firewall_changed(self) -> None:
        """Say of every instance that stands still why it does; the next sweep says how they are once it is over."""
        self._tend_frozen()
        failed = "" if self._guard is None else self._guard.repairs.failed
        for record in self._ledger if failed else ():
            if record.is_open and record.spec is not None and record.spec.network_mode == BRIDGE:
                self._ledger.publish(record, reason=f"it stands still until its firewall can be made again: {failed}")

    def _tend_frozen(self) -> None:
        """Have those stand still that a scan has frozen: the guard lets all go on after a repair."""
        for record in self._ledger:
            self._custody.tend(record)

    async def _take_over(self) -> None:
        """Find every instance behind its gate or in front of it, without the engine."""
        first_start = first_start_after_boot(self._settings.run_dir)
        if first_start:
            for path in (self._settings.run_dir / "state").glob("*.json"):
                path.unlink()
        self._supervisor.draining = drain_flag(self._settings.state_dir).exists()
        self._ledger.reload_all()
        await self._take_over_network()
        for record in self._ledger:
            self._supervisor.remember(record, first_start=first_start)
            await self._supervisor.look_at(record)

    async def _take_over_network(self) -> None:
        if self._network is None or self._guard is None:
            return
        standing: list[Standing] = []
        for record in self._ledger:
            found = self._gate.standing(record)
            if found is not None and record.spec is not None:
                with contextlib.suppress(StrangerError), found as peer:
                    standing.append(Standing(record.spec, peer.pid, peer.container))
        await self._workers.kernel(self._network.take_over, standing, self._guard.interrupted)
        self._guard.start()

    async def _read_network(self, names: Collection[str]) -> Answer:
        """Return what the kernel holds of the network of instances, of those that run; declared against enforced."""
        found: Answer = {}
        for record in list(self._ledger):
            if record.name in names and record.is_open and record.spec is not None:
                checks = await self._workers.kernel(self._prover.network_checks, record.spec)
                found[record.name] = [vars(check) for check in checks]
        return found

    async def _tend_network(self) -> None:
        """Put right what has changed without anybody's word, and take away what is left."""
        if self._network is None or self._guard is None:
            return
        for text in await self._workers.kernel(lambda network: list(network.tidy()), self._network):
            LOG.warning("network: %s", text)
        looked = time.time()
        differences = await self._workers.kernel(self._network.differences)
        if differences:
            self._guard.suspect("; ".join(differences[:3]), self._well)
        else:
            self._well = looked

    def _engine_is_needed(self) -> bool:
        """Say whether anybody is in the middle of something that the engine does."""
        return any(record.holds or record.acting or record.lock.locked() for record in self._ledger)

    async def _tend_engine(self) -> None:
        engine = self._sweep.findings.engine
        await self._keeper.tend(None if engine is None else engine.threads)

    async def _serve_metrics(self) -> None:
        """Have metrics served as soon as their address is free: no gate depends on them."""
        address, said = self._settings.metrics, ""
        while address is not None:
            try:
                await self._metrics.serve(address)
            except OSError as error:
                said = _say_once(f"no metrics are served: {error}", said)
            else:
                return
            await asyncio.sleep(_METRICS_RETRY)

    async def _sweep_on(self) -> None:
        while True:
            for part in (self._tend_network, self._sweep.run, self._tend_engine):
                try:
                    await part()
                except Exception:
                    LOG.exception("a sweep failed")
            self._tend_frozen()
            await asyncio.sleep(self._settings.sweep)
            self._listener.watch.look()

    def close(self) -> None:
        """Let go of everything, and leave every tenant and its control socket as it is."""
        self._keeper.close()
        self._api.close()
        self._metrics.close()
        self._health.close()
        self._memory.close()
        self._supervisor.close()
        self._listener.watch.close()
        self._gate.close()
        if self._network is not None and self._guard is not None:
            self._guard.close()
            self._network.close()
        (self._settings.run_dir / SOCKET_NAME).unlink(missing_ok=True)

    def _about(self) -> Answer:
        return {
            "version": VERSION,
            "pid": os.getpid(),
            "draining": self._supervisor.draining,
            "instances": len(self._ledger),
            "running": sum(record.running for record in self._ledger),
            "engine_up": self._listener.engine_up,
        }

    def _page(self) -> str:
        repairs = None if self._guard is None else self._guard.repairs
        parts = repairs, self._keeper.care, self._scans.counts
        overview = Overview(VERSION, self._listener.engine_up, self._supervisor.draining, *parts)
        return render(overview, self._ledger, self._sweep.findings)


def _listen(path: Path) -> socket.socket:
    """Return the agent's own socket. Its directory is open to all, so that it has its mode before it has its name."""
    fresh = path.with_name(f".{path.name}")
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listener.bind(str(fresh))
    fresh.chmod(0o600)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    fresh.rename(path)
    return listener


def prepare(settings: Settings) -> None:
    """Make the directories, see that this is the only agent here, and take as many descriptors as are allowed.

    Each instance that waits has a socket. The lock is the process's: it goes with it, however it ends.
    """
    os.umask(0o022)
    settings.state_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    for path, mode in (
        (settings.state_dir / "boot", 0o755),
        (settings.run_dir, 0o755),
        (settings.run_dir / "ctl", 0o700),
        (settings.run_dir / "state", 0o700),
        (settings.run_dir / "exec", 0o700),
    ):
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        path.chmod(mode)
    lock = os.open(settings.run_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HostError(f"another agent runs with {settings.run_dir}; there can be one") from None
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _open(settings: Settings, stopping: asyncio.Event) -> Host | None:
    """Open the host's adapters, waiting for the tenants' storage: at boot it is mounted late."""
    said = ""
    while not stopping.is_set():
        try:
            return open_host(settings.host())
        except InvalidValueError as error:
            if error.details["field"] != "storage_path":
                raise
            said = _say_once(f"not ready yet: {error}", said)
        except (BaileyError, OSError) as error:
            said = _say_once(f"not ready yet: {error}", said)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _STORAGE_RETRY)
    return None


def _say_once(text: str, said: str) -> str:
    if text != said:
        LOG.warning("%s", text)
    return text


async def serve(settings: Settings) -> None:
    """Run the agent until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    workers = Workers()
    host = await _open(settings, stopping)
    if host is not None:
        await Agent(settings, host, workers).run(stopping)
    workers.close()
