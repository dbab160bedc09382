"""One scan of a host's instances, from its beginning to its end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..agent_files import AgentFiles
from ..errors import BaileyError, HostError, InvalidValueError
from ..host.cgroup import Hierarchy
from ..host.proc import PROC
from ..instance_state import OPEN, read_state
from ..spec import parse_spec
from ..store import SpecStore
from ..units import NANO
from .behaviour import Load, Reach, connections, read_load, read_reach, saturation, to_pools
from .budget import Budget
from .evidence import Evidence
from .findings import Finding
from .judge import Judge
from .look import Look
from .memory import read_memory, write_memory
from .processes import owner_of_socket, read_processes
from .report import Found, Reporter, Target
from .rules import CONNECTIONS, IGNORE, MINER, YARA, YARA_FILE, Rule, Settings
from .yara import OWN_RULES, Ruleset, compile_rules, sources

_SHARES = 4  # no instance takes more than this part of a scan's time from the others, where there are more


@dataclass(frozen=True)
class Places:
    """Where a host's platform keeps what the scan reads and writes."""

    state_dir: Path = Path("/var/lib/bailey")
    run_dir: Path = Path("/run/bailey")
    own_rules: Path = OWN_RULES
    proc: Path = PROC

    @property
    def work(self) -> Path:
        """The scan's own directory: compiled rules, and what is remembered."""
        return self.state_dir / "scan"

    @property
    def findings(self) -> Path:
        """Where evidence is kept."""
        return AgentFiles(self.state_dir, self.run_dir, Path()).findings_directory


@dataclass
class Summary:
    """What a scan was. Times are in seconds; `notes` are for the operator, `complete` says that time sufficed."""

    instances: list[str] = field(default_factory=list)
    complete: bool = True
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    contents: int = 0
    left_off: int = 0
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as a mapping."""
        return vars(self)


def find_targets(places: Places, hierarchy: Hierarchy, names: Collection[str] = ()) -> tuple[list[Target], list[str]]:
    """Return the instances whose gate is open, those named or all, and what cannot be read of others.

    Raises InvalidValueError for the name of an instance that is not declared.
    """
    store = SpecStore(places.state_dir)
    declared = {path.stem for path in store.specs.glob("*.json")}
    unknown = sorted(set(names) - declared)
    if unknown:
        raise InvalidValueError("names", unknown[0], "the names of declared instances")
    targets: list[Target] = []
    notes: list[str] = []
    for name in sorted(set(names) or declared):
        try:
            target = _find_target(name, store, places.run_dir, hierarchy)
        except (BaileyError, OSError) as error:
            notes.append(f"{name} was not looked at: {error}")
            continue
        if target is not None:
            targets.append(target)
    return targets, notes


def _find_target(name: str, store: SpecStore, run_dir: Path, hierarchy: Hierarchy) -> Target | None:
    stored, state = store.read(name), read_state(run_dir, name)
    if stored is None or state is None or state.status != OPEN or not state.pid:
        return None
    group = hierarchy.find(state.container)
    if group is None:
        return None
    nano_cpus = parse_spec(stored.canonical).limits.nano_cpus or (os.cpu_count() or 1) * NANO
    return Target(name, state.tenant, state.app, group, state.pid, state.container, nano_cpus)


class Scanner:
    """One scan. `tell` is called for each finding as soon as it is made; without `act` nothing else is done at all."""

    def __init__(
        self, settings: Settings, places: Places, budget: Budget, tell: Callable[[Finding], None], *, act: bool
    ) -> None:
        self._settings, self._places, self._budget, self._act = settings, places, budget, act
        evidence = Evidence(places.findings) if act else None
        self._reporter = Reporter(settings.rules, evidence, tell, places.proc)
        self._notes: list[str] = []

    def run(self, targets: Sequence[Target]) -> Summary:
        """Look at every instance, where time suffices; the next scan begins with those that were left."""
        path = self._places.work / "memory.json"
        memory = read_memory(path)
        before = {target.name: (self._load(target), self._budget.elapsed) for target in targets}
        judge = Judge(self._ruleset(), memory, self._budget, self._settings.file_max)
        look = Look(self._settings, judge, self._reporter, self._budget, self._places.run_dir, self._places.proc)
        summary = Summary()
        reach = self._reach() if targets else {}
        self._report_scans(targets, reach)
        share = max(self._settings.timeout / max(1, len(targets)), self._settings.timeout / _SHARES)
        for target in rotate(targets, memory.last):
            memory.last = target.name  # the next scan begins behind it, whatever it took
            if look.at(target, memory, share):
                summary.instances.append(target.name)
                continue
            summary.complete = False
            if self._budget.left <= 0:
                break
        self._report_miners(targets, reach, before)
        if self._act:
            memory.forget_others({target.container for target in targets})
            write_memory(path, memory)
        summary.notes = [*self._notes, *judge.notes, *self._reporter.notes]
        summary.seconds, summary.cpu_seconds = self._budget.elapsed, self._budget.spent
        summary.contents, summary.left_off = judge.read, self._reporter.left_off
        return summary

    def _rule(self, name: str) -> Rule:
        return self._settings.rules[name]

    def _ruleset(self) -> Ruleset | None:
        """Compile the rules. Where the operator's do not compile, ours serve, and it is said."""
        if not any(self._rule(name).action != IGNORE for name in (YARA, YARA_FILE)):
            return None
        try:
            return self._compile(self._settings.rules_dir)
        except HostError as error:
            self._notes.append(f"the rules in {self._settings.rules_dir} were left out: {error}")
            return self._compile(self._places.work / "none")

    def _compile(self, operators: Path) -> Ruleset:
        return compile_rules(sources(self._places.own_rules, operators), self._places.work)

    # Behaviour.

    def _load(self, target: Target) -> Load:
        return read_load(target.group, self._places.proc)

    def _reach(self) -> Mapping[str, Reach]:
        miner, scan = self._rule(MINER), self._rule(CONNECTIONS)
        if miner.action == scan.action == IGNORE:
            return {}
        try:
            return read_reach(self._settings.access_log, time.time() - max(scan.window, miner.window))
        except (BaileyError, OSError) as error:
            self._notes.append(f"no access log was looked at: {error}")
            return {}

    def _report_scans(self, targets: Sequence[Target], reach: Mapping[str, Reach]) -> None:
        rule = self._rule(CONNECTIONS)
        for target in targets:
            found = reach.get(target.name)
            if found is not None and rule.concerns(target.name) and found.destinations >= rule.destinations:
                detail = f"it was denied {found.destinations} addresses and ports within {rule.window:g} s"
                self._reporter.found(target, Found(CONNECTIONS, detail, ""))

    def _report_miners(
        self, targets: Sequence[Target], reach: Mapping[str, Reach], before: Mapping[str, tuple[Load, float]]
    ) -> None:
        rule = self._rule(MINER)
        suspects = [target for target in targets if rule.concerns(target.name) and self._pools(target, reach)]
        if suspects:
            self._budget.wait(rule.window)
        for target in suspects:
            load, at = before[target.name]
            share = saturation(load, self._load(target), self._budget.elapsed - at, target.nano_cpus)
            if share >= rule.cpu:
                self._report_miner(target, share, self._pools(target, reach))

    def _pools(self, target: Target, reach: Mapping[str, Reach]) -> Mapping[int, frozenset[int]]:
        """Return the pools' ports that an instance speaks to, each with the sockets that do where they are known."""
        ports = self._rule(MINER).ports
        found: dict[int, frozenset[int]] = {}
        for connection in to_pools(connections(target.init, self._places.proc), ports):
            found[connection.port] = found.get(connection.port, frozenset()) | {connection.inode}
        logged = reach[target.name].ports if target.name in reach else {}
        return found | {port: frozenset() for port in logged if port in ports and port not in found}

    def _report_miner(self, target: Target, share: float, pools: Mapping[int, frozenset[int]]) -> None:
        processes = read_processes(target.group.pids(), self._places.proc)
        processes.pop(target.init, None)
        sockets = frozenset().union(*pools.values())
        pid = owner_of_socket(processes, sockets, self._places.proc)
        busiest = max(processes.values(), key=lambda process: process.ticks, default=None)
        process = busiest if pid is None else processes[pid]
        listed = ", ".join(map(str, sorted(pools)))
        detail = f"it wants {share:.0%} of its processors, and speaks to port {listed}, where miners' pools are"
        self._reporter.found(target, Found(MINER, detail, "", process=process))


def rotate(targets: Sequence[Target], last: str) -> list[Target]:
    """Return the instances in the order of their names, beginning behind the one that was looked at last."""
    ordered = sorted(targets, key=lambda target: target.name)
    behind = [target for target in ordered if target.name > last]
    return behind + ordered[: len(ordered) - len(behind)]
