"""Scans for hostile processes: each a process of its own that the agent starts, reads, and acts for.

What is hostile is read there and not here, and the memory that it takes is given back. Freezing and stopping are the
agent's own, for it alone says what is to run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BaileyError, HostError
from ..scan.evidence import Evidence
from ..scan.findings import LEFT, NOTHING, Finding, parse_finding
from ..scan.rules import FREEZE, NAMES, STOP, Settings, read_settings, with_rules
from .ledger import LOG, Ledger, Record
from .policy import FROZEN_BY_SCAN, STOPPED_BY_SCAN
from .settings import Settings as AgentSettings
from .supervisor import Supervisor
from .workers import Workers

_CORE = Path(__file__).resolve().parents[2]  # where the package is
_LINE_MAX = 1 << 20
_ERRORS_MAX = 1 << 16
_SLACK = 60.0  # seconds above its own bound after which a scan that does not end is ended
_RETRY = 60.0
_FINDINGS_MAX = 5000


@dataclass(frozen=True)
class Order:
    """What to scan: instances, all where none is named; rules laid over those of the settings; whether to act."""

    names: Sequence[str] = ()
    rules: dict[str, Any] = field(default_factory=dict)
    act: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether what it finds is what there is to find on the host."""
        return self.act and not self.names and not self.rules


@dataclass
class Outcome:
    """What a scan has found, and its own account of itself."""

    findings: list[Finding] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as the API's answer."""
        return {"findings": [finding.as_json() for finding in self.findings], "summary": self.summary}


@dataclass
class Counts:
    """What the metrics tell of the last scan of the whole host: findings by rule, seconds, and when it ended."""

    findings: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(NAMES, 0)))
    seconds: float = 0.0
    at: float = 0.0


class Scans:
    """One scan at a time: by the timer, or because somebody asks for it."""

    def __init__(self, settings: AgentSettings, ledger: Ledger, supervisor: Supervisor, workers: Workers) -> None:
        self.counts: Counts | None = None  # until the first has ended
        self._settings, self._ledger, self._supervisor, self._workers = settings, ledger, supervisor, workers
        self._evidence = Evidence(settings.state_dir / "findings")
        self._alone = asyncio.Lock()
        self._notes: list[str] = []

    async def follow(self) -> None:
        """Scan again and again, with some jitter, so that the hosts of a fleet do not do it all at once."""
        pause = self._interval() * random.uniform(0.1, 0.5)  # noqa: S311 - nothing secret
        while True:
            await asyncio.sleep(pause)
            pause = self._interval() * random.uniform(0.9, 1.1)  # noqa: S311 - nothing secret here either
            try:
                await self.scan(Order())
            except (BaileyError, OSError) as error:
                LOG.error("the scan: %s", error)
            except Exception:
                LOG.exception("the scan failed")

    def _interval(self) -> float:
        try:
            return self._read().interval
        except BaileyError:  # the scan itself says so
            return _RETRY

    def _read(self) -> Settings:
        """Read the settings as they are now: another content needs no other agent."""
        if self._settings.scan_config is None:
            raise HostError("the agent was given no --scan-config: nothing is scanned for on this host")
        return read_settings(self._settings.scan_config)

    async def scan(self, order: Order) -> Outcome:
        """Scan once, after the scan that is under way. Raises HostError where it fails, InvalidValueError."""
        settings = with_rules(self._read(), order.rules)
        async with self._alone:
            outcome = await self._run(order, settings.timeout + _SLACK)
        self._tell(outcome)
        if order.is_whole:
            counts = Counts(seconds=float(outcome.summary.get("seconds", 0.0)), at=time.time())
            counts.findings.update(finding.rule for finding in outcome.findings)
            self.counts = counts
        return outcome

    async def _run(self, order: Order, seconds: float) -> Outcome:
        process = await asyncio.create_subprocess_exec(
            *self._words(order),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_MAX,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(_CORE)},
        )
        try:
            async with asyncio.timeout(seconds):
                return await self._follow(process)
        except TimeoutError:
            raise HostError(f"the scan has not ended after {seconds:g} s, and was ended") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):  # its children too, yara among them
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    def _words(self, order: Order) -> list[str]:
        words = ["nice", "-n", "19", sys.executable, "-m", "bailey.scan"]
        words += [f"--config={self._settings.scan_config}", f"--rules={json.dumps(order.rules)}"]
        words += [f"--state-dir={self._settings.state_dir}", f"--run-dir={self._settings.run_dir}"]
        words += [f"--name={name}" for name in order.names]
        return words if order.act else [*words, "--look-only"]

    async def _follow(self, process: asyncio.subprocess.Process) -> Outcome:
        """Act on each finding as it is told: what is hostile does not run on until the scan has ended."""
        assert process.stdout is not None  # noqa: S101 - both are pipes
        assert process.stderr is not None  # noqa: S101
        said = asyncio.ensure_future(process.stderr.read(_ERRORS_MAX))
        outcome, acts = Outcome(), _Acts(self._act)
        try:
            while line := await process.stdout.readline():
                self._take(line, outcome, acts)
            await acts.finish()
            status = await process.wait()
            errors = (await said).decode(errors="replace").strip()
        except ValueError:
            raise HostError("the scan has sent something that is no finding") from None
        finally:
            said.cancel()
        if status != 0 or not outcome.summary:
            raise HostError(f"the scan ended with status {status}: {errors[-500:] or 'it said nothing'}")
        return outcome

    def _take(self, line: bytes, outcome: Outcome, acts: _Acts) -> None:
        content = json.loads(line)
        summary = content.get("summary") if isinstance(content, dict) else None
        if isinstance(summary, dict):
            outcome.summary = summary
            return
        finding = parse_finding(content.get("finding") if isinstance(content, dict) else None)
        if finding.taken == LEFT:
            acts.begin(finding)
        if len(outcome.findings) < _FINDINGS_MAX:
            outcome.findings.append(finding)

    async def _act(self, finding: Finding) -> str:
        record = self._ledger.get(finding.instance)
        if record is None:
            return "nothing: it is declared no more"
        return await self._carry_out(record, finding)

    async def _carry_out(self, record: Record, finding: Finding) -> str:
        text = f"{finding.rule}: {finding.detail}"
        try:
            if finding.action == FREEZE:
                return self._supervisor.freeze(record, finding.container, FROZEN_BY_SCAN + text)
            return await self._supervisor.condemn(record, finding.container, STOPPED_BY_SCAN + text)
        except OSError as error:
            return f"nothing: {error}"

    def _tell(self, outcome: Outcome) -> None:
        """Write what is new into the log; what was found before stands in its evidence."""
        for finding in outcome.findings:
            if finding.new and finding.taken != NOTHING:
                where = f" ({finding.path})" if finding.path else ""
                words = (finding.instance, finding.rule, finding.detail, where, finding.taken)
                LOG.warning("%s: scan rule %s: %s%s: %s", *words)
        notes = [str(note) for note in outcome.summary.get("notes", ())]
        for note in notes:
            if note not in self._notes:
                LOG.warning("the scan: %s", note)
        self._notes = notes
        acted = [finding for finding in outcome.findings if finding.evidence and finding.action in (FREEZE, STOP)]
        if acted:
            self._supervisor.spawn(self._note(acted))

    async def _note(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            try:
                await self._workers.kernel(self._evidence.note, finding)
            except OSError as error:
                LOG.warning("%s: what was done cannot be noted: %s", finding.evidence, error)


class _Acts:
    """What is done for findings while more of them are told: one thing after the other for each instance."""

    def __init__(self, act: Callable[[Finding], Coroutine[None, None, str]]) -> None:
        self._act = act
        self._tasks: dict[tuple[str, str], asyncio.Task[str]] = {}
        self._findings: list[tuple[tuple[str, str], Finding]] = []

    def begin(self, finding: Finding) -> None:
        """Do what a finding asks for; what several ask for of one instance is done once."""
        key = (finding.instance, finding.action)
        if key not in self._tasks:
            self._tasks[key] = asyncio.get_running_loop().create_task(self._act(finding))
        self._findings.append((key, finding))

    async def finish(self) -> None:
        """Wait for all of it, and say in the findings what was done."""
        for key, finding in self._findings:
            finding.taken = await asyncio.shield(self._tasks[key])
