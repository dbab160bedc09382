"""From what was found to a finding: its evidence kept, its action taken or left to the agent, its line sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import HostError
from ..host.cgroup import Group
from ..host.proc import PROC
from .actions import kill
from .evidence import Evidence, describe
from .findings import LEFT, NOTHING, REPORTED, Finding
from .processes import Process
from .rules import FREEZE, KILL, REPORT, STOP, Rule

TOLD_OF_ONE = 100  # findings of one instance that one scan tells of; it acts on all


@dataclass(frozen=True)
class Target:
    """An instance that is looked at. `init` is the host's number of its PID 1, `nano_cpus` what it may use."""

    name: str
    tenant: str
    app: str
    group: Group
    init: int
    container: str
    nano_cpus: int


@dataclass(frozen=True)
class Found:
    """What was found. `subject` stays the same from one scan to the next, while it is the same thing that is found."""

    rule: str
    detail: str
    subject: str
    path: str = ""
    sha256: str = ""
    process: Process | None = None
    modest: bool = False  # whatever the rule's action, it is only reported


class Reporter:
    """Takes what one scan finds. Without `evidence` it only looks: nothing is kept, nothing done."""

    def __init__(
        self,
        rules: Mapping[str, Rule],
        evidence: Evidence | None,
        tell: Callable[[Finding], None],
        proc: Path = PROC,
    ) -> None:
        self.notes: list[str] = []
        self.left_off = 0
        self._rules, self._evidence, self._tell, self._proc = rules, evidence, tell, proc
        self._told: Counter[str] = Counter()
        self._seen: set[tuple[str, str, str, int]] = set()

    def found(self, target: Target, found: Found) -> None:
        """Deal with one thing that was found."""
        process = found.process
        mark = (target.name, found.rule, found.subject, 0 if process is None else process.pid)
        if mark in self._seen:
            return
        self._seen.add(mark)
        finding = Finding(
            rule=found.rule,
            instance=target.name,
            detail=found.detail,
            tenant=target.tenant,
            app=target.app,
            container=target.container,
            pid=None if process is None else process.pid,
            path=found.path,
            sha256=found.sha256,
            action=REPORT if found.modest else self._rules[found.rule].action,
            taken=NOTHING,
        )
        if self._evidence is not None:
            self._keep_and_act(self._evidence, target, found, finding)
        self._told[target.name] += 1
        if self._told[target.name] > TOLD_OF_ONE:
            self.left_off += 1
        else:
            self._tell(finding)

    def _keep_and_act(self, evidence: Evidence, target: Target, found: Found, finding: Finding) -> None:
        details: dict[str, Any] = {} if found.process is None else describe(found.process, self._proc)
        try:
            evidence.keep(finding, found.subject, details)
        except HostError as error:  # what is hostile ends all the same
            self.notes.append(str(error))
        finding.taken = self._act(finding.action, found.process, target)
        try:
            evidence.note(finding)
        except OSError as error:
            self.notes.append(f"{finding.evidence}: what was done cannot be noted: {error.strerror}")

    def _act(self, action: str, process: Process | None, target: Target) -> str:
        if action in (FREEZE, STOP):
            return LEFT
        if action != KILL:
            return REPORTED
        if process is None or process.pid == target.init:
            return "nothing: no process is known"
        return kill(process, target.group, self._proc)
