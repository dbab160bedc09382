"""The only restarter: what has become of containers, against what is declared for them.

The engine's own restart policy is "no", so that nothing starts while nobody waits at its gate. An instance is
started again after it ended by itself, after the engine's or the host's restart, and after it was found unhealthy;
not after it was stopped by hand, until somebody asks for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL

from ..backends.base import signal_of
from ..errors import BaileyError, EngineError, EngineUnavailableError
from ..instance_state import BACKOFF, EXITED, FAILED, REFUSED, WAITING, LastExit
from ..scan.findings import CHANGED, FROZEN, STOPPED
from ..spec import STARTED
from .custody import Custody
from .gate import CLOSED, Gate
from .hands import Hands
from .ledger import LOG, Ledger, Record
from .memory import was_for_memory
from .peer import StrangerError
from .policy import (
    BY_HAND,
    DECLARED_STOPPED,
    DRAINED,
    GONE,
    NOT_BY_POLICY,
    OLDER,
    PASSING,
    UNREAD,
    Backoff,
    Decision,
    End,
    at_end,
    decide,
)
from .workers import Workers

ENGINE_RETRY = 5.0  # seconds; the engine's own failures are not the instance's
_SETTLED = (EXITED, FAILED, REFUSED)


class Supervisor:
    """Decides what starts and stops. `closed` is told of each instance that has ended."""

    def __init__(
        self, ledger: Ledger, gate: Gate, hands: Hands, custody: Custody, workers: Workers, limit: int
    ) -> None:
        self.closed: Callable[[Record], None] = lambda _record: None
        self.synced = False  # whether the engine has told once what there is
        self.draining = False
        self._ledger = ledger
        self._gate = gate
        self._hands = hands
        self._custody = custody
        self._workers = workers
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Do something on the side; a defect in it is logged and ends nothing else."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            LOG.error("a task failed", exc_info=task.exception())

    def close(self) -> None:
        """Decide nothing more."""
        for record in self._ledger:
            record.cancel_timer()
        for task in self._tasks:
            task.cancel()

    # What has become of an instance.

    def remember(self, record: Record, *, first_start: bool) -> None:
        """Take over what a former agent has said of an instance, unless the machine has come up since."""
        self._custody.remember(record)
        reason = record.state.reason
        passing = reason in PASSING or reason.startswith(UNREAD)
        record.settled = not first_start and record.state.status in (EXITED, FAILED) and not passing
        if record.state.status in (BACKOFF, REFUSED):
            record.ours_until = time.time_ns()  # whoever stopped it, it was to start again
        if not first_start and record.state.status == BACKOFF and record.state.pid is not None:  # its end was to come
            record.interrupted = reason

    async def look_at(self, record: Record) -> None:
        """Find out on which side of its gate a running instance is."""
        try:
            await self._gate.settle(record)
        except StrangerError:  # it ended just now: the engine will say so
            self.arm(record)
        except OSError as error:
            LOG.error("%s: its gate cannot be served: %s", record.name, error)

    def arm(self, record: Record) -> None:
        """Have somebody at an instance's gate."""
        try:
            self._gate.arm(record)
        except OSError as error:
            LOG.error("%s: nobody waits at its gate: %s", record.name, error)

    def has_started(self, record: Record, at: int) -> None:
        """Take note of a start, whoever asked for it."""
        record.running, record.interrupted = True, ""
        record.cancel_timer()
        if at > record.ours_until and not record.acting and not record.holds:
            record.settled, record.backoff = False, Backoff()
        record.killed_at = 0
        if record.state.container == record.container and (record.is_open or record.state.status == REFUSED):
            return  # it knocked before the engine told of it
        if record.state.status != WAITING or record.state.container != record.container:
            self._ledger.publish(record, **CLOSED, container=record.container)
        self.spawn(self.look_at(record))

    def has_ended(self, record: Record, code: int | None, at: int, *, by_hand: bool = False) -> None:
        """Take note of an end, and decide what follows once the engine has told more of it."""
        container, state = record.container, record.state
        opened_at, record.opened_at = record.opened_at, None
        record.running = record.settled = False
        signal = None if code is None else signal_of(code)
        oom = signal == SIGKILL and was_for_memory(record, at)
        last = LastExit(code if signal is None else None, signal, oom=oom, at=at / 1e9)
        refusal = state.reason if state.status == REFUSED and state.container == container else ""
        by_hand = not record.ends_interrupted(at) and (by_hand or record.was_killed(at, ours=False))
        end = End(code, oom, by_hand=by_hand, asked=record.asked or record.interrupted, refusal=refusal)
        requested = bool(end.by_hand or end.asked or refusal) or record.was_killed(at, ours=True)
        record.killed_at, record.asked, record.interrupted = 0, "", ""
        self._custody.let_go(record)
        self._ledger.ended(record, container, last)
        status, reason = (EXITED, record.condemned) if record.condemned else at_end(end)
        self._ledger.publish(record, **{**CLOSED, "status": status, "reason": reason}, last_exit=last)
        self.arm(record)
        self.closed(record)
        uptime = None if opened_at is None else max(0.0, at / 1e9 - opened_at)
        self.spawn(self._after(record, end, container, last, uptime, requested=requested))

    async def _after(
        self, record: Record, end: End, container: str, last: LastExit, uptime: float | None, *, requested: bool
    ) -> None:
        async with record.lock:
            facts = await self._hands.facts(container)
            if facts is not None and last.signal == SIGKILL and facts.oom and not last.oom:
                last, end = replace(last, oom=True), replace(end, oom=True)
                self._ledger.publish(record, last_exit=last)
            if not requested and last.code != 0:
                LOG.warning("%s: %s", record.name, end.describe())
                await self._hands.record_crash(record, container, last, uptime)
            if not record.running:
                self._follow(record, end, uptime, requested=requested)

    def _follow(self, record: Record, end: End, uptime: float | None, *, requested: bool) -> None:
        self._ledger.reload(record)
        if record.holds or record.settled:
            return  # whoever holds it deals with it, or somebody has stopped it by hand
        obstacle = self._obstacle(record)
        if obstacle:
            self._ledger.publish(record, status=EXITED, reason=obstacle)
            return
        if not requested or end.refusal or end.asked:
            record.backoff.ended(uptime)
        assert record.spec is not None  # noqa: S101 - that it is read is no obstacle
        self._carry_out(record, decide(record.spec.restart, end, record.backoff, self._limit))

    def _carry_out(self, record: Record, decision: Decision) -> None:
        self._ledger.publish(record, status=decision.status, reason=decision.reason)
        if decision.delay is None:
            record.settled = True
        else:
            self._schedule(record, decision.delay)

    def was_stopped_by_hand(self, record: Record) -> None:
        """Leave an instance alone: somebody has stopped it with the engine's own client."""
        if record.running:
            return
        record.settled = True
        record.cancel_timer()
        self._ledger.publish(record, status=EXITED, reason=self._obstacle(record) or BY_HAND)

    # What is to become of it.

    def _obstacle(self, record: Record) -> str:
        """Return why an instance is not to run at all, whatever its restart policy."""
        if record.problem:
            return record.problem
        if record.declared is None or record.spec is None or record.declared.state != STARTED:
            return DECLARED_STOPPED
        if self.draining:
            return DRAINED
        if record.condemned:
            return record.condemned
        if not record.container:
            return GONE
        return OLDER if record.made_from != record.spec.recreate_hash() else ""

    def consider(self, record: Record) -> None:
        """Start an instance that should run and does not."""
        self._ledger.reload(record)
        if record.declared is None and not record.problem:
            self._let_go(record)
            return
        if not self.synced or record.holds or record.timer or record.lock.locked():
            return
        interrupted, record.interrupted = record.interrupted, ""
        if not record.running:
            self._consider_start(record)
        elif self.draining:
            self.spawn(self._stop_drained(record))
        elif interrupted:
            self.restart(record, interrupted)

    def _consider_start(self, record: Record) -> None:
        obstacle = self._obstacle(record)
        if record.settled and obstacle in ("", DRAINED):
            return
        if obstacle:
            self._ledger.publish(record, **{**CLOSED, "status": EXITED, "reason": obstacle})
        elif record.spec is not None and record.spec.restart == "no":
            if record.state.status not in _SETTLED or record.state.reason in PASSING:
                self._ledger.publish(record, **{**CLOSED, "status": EXITED, "reason": NOT_BY_POLICY})
        else:
            self._schedule(record, record.backoff.delay)

    def _let_go(self, record: Record) -> None:
        """Forget what is declared no more. Whoever removes it removes the rest of it, or has."""
        if not record.holds:
            self._gate.disarm(record.name)
            self.closed(record)
            self._ledger.drop(record)

    def _schedule(self, record: Record, delay: float) -> None:
        record.cancel_timer()
        record.timer = asyncio.get_running_loop().call_later(delay, self._is_due, record)

    def _is_due(self, record: Record) -> None:
        record.timer = None
        self.spawn(self._start(record))

    def _may_start(self, record: Record) -> bool:
        return not (record.holds or record.settled or record.running or self._obstacle(record))

    async def _start(self, record: Record) -> None:
        async with record.lock, self._hands.starts:
            if not self._may_start(record):
                return
            if self._gate.passed(record.name) is not None:
                await self.look_at(record)
                return
            state = record.state
            again = state.last_exit is not None or state.status in (BACKOFF, REFUSED)
            self.arm(record)
            self._ledger.publish(
                record, **CLOSED, container=record.container, restarts=state.restarts + (1 if again else 0)
            )
            try:
                await self._hands.start(record)
            except EngineUnavailableError as error:
                self._ledger.publish(record, status=BACKOFF, reason=str(error), restarts=state.restarts)
                self._schedule(record, ENGINE_RETRY)
            except EngineError as error:
                record.backoff.ended(None)
                end = End(None, refusal=f"the engine cannot start it: {error}")
                policy = "no" if record.spec is None else record.spec.restart
                decision = decide(policy, end, record.backoff, self._limit)
                self._carry_out(record, replace(decision, status=BACKOFF if decision.delay else FAILED))

    def restart(self, record: Record, reason: str) -> None:
        """End an instance that runs, and start it again by the rules of its back-off."""
        busy = record.holds or self.draining or record.lock.locked() or record.asked
        if record.running and not busy and not record.frozen:  # what stands still answers nobody
            record.asked = reason
            self.spawn(self._end(record, reason))

    async def _end(self, record: Record, reason: str) -> None:
        async with record.lock:
            before = record.state
            LOG.warning("%s: it is restarted: %s", record.name, reason)
            # Written down first: an agent that is killed now finds that it is to start again.
            self._ledger.publish(record, status=BACKOFF, reason=reason)
            if not await self._stop(record) and record.running:
                record.asked = ""
                self._ledger.publish(record, status=before.status, reason=before.reason)

    async def _stop(self, record: Record, grace: float | None = None) -> bool:
        self._custody.let_go(record)  # what stands still cannot end
        try:
            await self._hands.stop(record, grace)
        except EngineError as error:
            LOG.error("%s: it could not be stopped: %s", record.name, error)
            return False
        return True

    # What others ask for.

    async def hold(self, record: Record) -> None:
        """Leave an instance alone from now on; whatever is under way is finished first."""
        record.holds += 1
        record.cancel_timer()
        self._custody.thaw(record)
        try:
            async with record.lock:
                pass
        except BaseException:
            self.release(record)
            raise

    def release(self, record: Record) -> None:
        """End one hold; with the last one, the instance is the agent's again."""
        record.holds -= 1
        record.ours_until = time.time_ns()
        if not record.holds:
            self._custody.tend(record)
            self.consider(record)
            if record.is_open:
                self.spawn(self.look_at(record))  # what is declared for it may have changed

    def expect(self, record: Record) -> None:
        """Wait at an instance's gate for what its spec file says now, and forget how it did before."""
        self._ledger.reload(record)
        record.settled, record.backoff, record.killed_at = False, Backoff(), 0
        record.asked = record.interrupted = ""
        record.expected_at = time.time_ns()
        self._custody.pardon(record)
        record.cancel_timer()
        record.ends.clear()
        record.opened.clear()
        if self._gate.passed(record.name) is None:
            self._gate.arm(record)
            self._ledger.publish(record, **CLOSED, container="", restarts=0)

    async def apply(self, record: Record) -> str:
        """Put what its spec file says now in force for an instance that runs; return what does not hold."""
        try:
            return await self._gate.apply(record)
        except StrangerError as error:
            return str(error)

    def forget(self, record: Record) -> None:
        """Have nothing more to do with an instance whose container is gone."""
        record.container, record.running = "", False
        self._custody.pardon(record)
        self._gate.disarm(record.name)
        self.closed(record)
        if record.holds:
            self._ledger.reset(record)
        else:
            self._ledger.drop(record)

    # What a scan's rules ask for.

    def freeze(self, record: Record, container: str, reason: str) -> str:
        """Have an instance stand still; return what was done."""
        if record.holds or not record.is_open or record.state.container != container:
            return CHANGED
        try:
            self._custody.freeze(record, reason)
        except (BaileyError, OSError) as error:
            return f"nothing: it could not be frozen: {error}"
        self._ledger.publish(record, reason=reason)
        return FROZEN

    async def condemn(self, record: Record, container: str, reason: str) -> str:
        """Stop an instance for good, without a grace: it runs again once it is deployed again. Return what was done."""
        async with record.lock:
            if record.holds or not record.running or record.container != container:
                return CHANGED
            LOG.warning("%s: it is %s", record.name, reason)
            self._custody.condemn(record, reason)  # first, so that an agent that is killed now starts it no more
            if await self._stop(record, grace=0):
                return STOPPED
        return f"{self.freeze(record, container, reason)}: the engine could not stop it"

    def pardon(self, record: Record) -> bool:
        """Let an instance go on that a scan's rule has frozen or stopped; say whether one had."""
        held = bool(record.frozen or record.condemned)
        self._custody.pardon(record)
        if held:
            record.settled, record.backoff = False, Backoff()
            if record.is_open:
                self._ledger.publish(record, reason="")
            self.consider(record)
        return held

    def let_end(self, record: Record) -> None:
        """Have an instance run that somebody has sent a signal to end: what stands still takes none."""
        self._custody.let_go(record)

    async def drain(self, flag: Path) -> int:
        """Take no instance any more, across reboots too, and stop all that run; return how many do."""
        await self._workers.kernel(flag.touch, 0o600)
        self.draining = True
        running = [record for record in self._ledger if record.running]
        for record in self._ledger:
            record.cancel_timer()
        for record in running:
            self.spawn(self._stop_drained(record))
        return len(running)

    async def _stop_drained(self, record: Record) -> None:
        """Stop an instance of a host that is drained."""
        async with record.lock:
            if self.draining and record.running and not record.holds:
                await self._stop(record)

    async def resume(self, flag: Path) -> None:
        """Take instances again, and start those that should run."""
        await self._workers.kernel(flag.unlink, missing_ok=True)
        self.draining = False
        for record in self._ledger:
            self.consider(record)
