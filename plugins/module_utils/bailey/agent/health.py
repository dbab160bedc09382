"""Asking instances for their health, each in its own rhythm, from the moment when their gate has opened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from ..agent_files import AgentFiles
from ..errors import BaileyError
from ..healthcheck import RESTART, Healthcheck
from ..instance_state import HEALTH_NONE, HEALTH_STARTING, HEALTHY, UNHEALTHY
from ..wsh.client import Client
from .ledger import LOG, Ledger, Record
from .peer import StrangerError, identified
from .probe import UnhealthyError, probe_http, probe_tcp, socket_inside
from .workers import Workers

_OUTPUT_MAX = 4096  # bytes of what a command prints, for the reason
_AT_ONCE = 8  # no more than there are threads for sessions


@dataclass
class Standing:
    """What the answers so far make of an instance: a decision without anything around it."""

    check: Healthcheck
    opened: float  # by the loop's clock
    health: str = HEALTH_STARTING
    failures: int = 0

    def passed(self) -> None:
        """Count an answer that was good."""
        self.health, self.failures = HEALTHY, 0

    def failed(self, now: float) -> bool:
        """Count one that was not; say whether the instance has just come to be unhealthy by it.

        While it starts, and has not been healthy yet, nothing counts.
        """
        if self.health == HEALTH_STARTING and now - self.opened < self.check.start_period:
            return False
        self.failures += 1
        if self.failures < self.check.retries or self.health == UNHEALTHY:
            return False
        self.health = UNHEALTHY
        return True


@dataclass
class _Watch:
    """One instance that is being asked: the question, which run of it, and how it stands."""

    check: Healthcheck
    run: str
    standing: Standing
    task: asyncio.Task[None]


class Health:
    """The checks of all instances. `restart` is called for those whose declaration wants that when they are unwell."""

    def __init__(
        self, ledger: Ledger, files: AgentFiles, workers: Workers, restart: Callable[[Record, str], None]
    ) -> None:
        self._ledger = ledger
        self._files = files
        self._workers = workers
        self._restart = restart
        self._watches: dict[str, _Watch] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)

    def follow(self, record: Record) -> None:
        """Begin to ask an instance that has opened; go on where it is the same program and the same question."""
        check = None if record.spec is None else record.spec.healthcheck
        run = record.run
        known = self._watches.get(record.name)
        if known is not None and (known.check, known.run) == (check, run) and not known.task.done():
            self._publish(record, known.standing.health)
            return
        self.forget(record)
        if check is None:
            self._publish(record, HEALTH_NONE)
            return
        loop = asyncio.get_running_loop()
        standing = Standing(check, loop.time())
        self._publish(record, standing.health)
        self._watches[record.name] = _Watch(check, run, standing, loop.create_task(self._ask_on(record, standing)))

    def forget(self, record: Record) -> None:
        """Ask no more."""
        known = self._watches.pop(record.name, None)
        if known is not None:
            known.task.cancel()

    def close(self) -> None:
        """Ask nobody any more."""
        for watch in self._watches.values():
            watch.task.cancel()

    def _publish(self, record: Record, health: str) -> None:
        if record.is_open and record.state.health != health:
            self._ledger.publish(record, health=health)

    async def _ask_on(self, record: Record, standing: Standing) -> None:
        loop, check = asyncio.get_running_loop(), standing.check
        while True:
            await asyncio.sleep(check.interval)
            try:
                async with self._room:
                    await self._ask(record, check)
                standing.passed()
            except UnhealthyError as error:
                if standing.failed(loop.time()):
                    self._unwell(record, check, str(error))
            except Exception:
                LOG.exception("%s: its health could not be asked", record.name)
            self._publish(record, standing.health)

    def _unwell(self, record: Record, check: Healthcheck, reason: str) -> None:
        LOG.warning("%s: unhealthy after %d failures: %s", record.name, check.retries, reason)
        if check.action == RESTART:
            self._restart(record, f"it is unhealthy: {reason}")

    async def _ask(self, record: Record, check: Healthcheck) -> None:
        if check.argv:
            # Its session ends by itself in time; its thread is not left to it while another one waits for that.
            await self._workers.session(self._command, record.name, check)
            return
        try:
            async with asyncio.timeout(check.timeout):
                await self._ask_network(record, check)
        except TimeoutError:
            raise UnhealthyError(f"no answer within {check.timeout:g} s") from None

    def _command(self, name: str, check: Healthcheck) -> None:
        """Run the command inside; its time over, wshd kills all of its session."""
        try:
            client = Client(self._files.control_socket(name))
            done = client.run(check.argv, timeout=check.timeout, output_limit=_OUTPUT_MAX)
        except BaileyError as error:
            raise UnhealthyError(str(error)) from error
        if done.timed_out:
            raise UnhealthyError(f"the command did not end within {check.timeout:g} s")
        if done.code != 0:
            ended = f"exit code {done.code}" if done.signal is None else f"signal {done.signal}"
            printed = (done.stdout + done.stderr).decode(errors="replace").strip()[-200:]
            raise UnhealthyError(f"the command ended with {ended}" + (f": {printed!r}" if printed else ""))

    async def _ask_network(self, record: Record, check: Healthcheck) -> None:
        pid, container = record.state.pid, record.state.container
        try:
            with identified(pid or 0) as peer:
                if peer.container != container:
                    raise UnhealthyError("it has ended")
                inside = await self._workers.kernel(socket_inside, peer.pid)
                if not peer.alive:  # the namespace may have been another's
                    inside.close()
                    raise UnhealthyError("it has ended")
        except (StrangerError, OSError) as error:
            raise UnhealthyError(str(error)) from error
        with inside:
            if check.http is not None:
                await probe_http(inside, check.http)
            elif check.tcp is not None:
                await probe_tcp(inside, check.tcp)
