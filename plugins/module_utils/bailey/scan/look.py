"""One look at one instance: its processes, what they run, what they have in memory, and where they can write."""

from __future__ import annotations

import math
from pathlib import Path

from ..errors import BaileyError
from ..host.proc import PROC
from ..wsh.client import instance_client
from .budget import Budget
from .judge import Judge, Verdict
from .memory import Memory
from .places import Entry, Walk, open_places, walk
from .processes import (
    PLATFORM,
    Process,
    Program,
    executable_regions,
    open_executable,
    open_region,
    open_regular,
    open_scripts,
    read_memory,
    read_processes,
    still_there,
    uid_of,
)
from .report import Found, Reporter, Target
from .rules import DELETED, FOREIGN, MEMFD, SETUID, YARA, YARA_FILE, Settings
from .tree import foreign

_SCRIPT_MAX = 16 << 20  # bytes; what is larger and named on a command line is data
_FILES_OF_ONE = 256  # files that one process has mapped, of those that are looked at


class Look:
    """Looks at one instance after the other."""

    def __init__(
        self, settings: Settings, judge: Judge, reporter: Reporter, budget: Budget, run_dir: Path, proc: Path = PROC
    ) -> None:
        self._settings, self._judge, self._reporter = settings, judge, reporter
        self._budget, self._run_dir, self._proc = budget, run_dir, proc
        self._until = math.inf

    def at(self, target: Target, memory: Memory, seconds: float) -> bool:
        """Look at all of it, for so many seconds at most; say whether there was time to."""
        self._until = self._budget.elapsed + seconds
        processes = read_processes(target.group.pids(), self._proc)
        if self._concerns(target, FOREIGN):
            self._look_at_tree(target, processes)
        if self._concerns(target, YARA, DELETED, MEMFD) and not self._look_at_processes(target, processes):
            return False
        return not self._concerns(target, SETUID, YARA_FILE) or self._look_at_places(target, memory)

    def _concerns(self, target: Target, *rules: str) -> bool:
        return any(self._settings.rules[rule].concerns(target.name) for rule in rules)

    def _has_time(self) -> bool:
        return self._budget.pace() and self._budget.elapsed < self._until

    # Processes.

    def _look_at_processes(self, target: Target, processes: dict[int, Process]) -> bool:
        wshd = open_executable(target.init, self._proc)
        if wshd is not None:
            wshd.close()
        mapped: set[tuple[str, int]] = set()
        for process in processes.values():
            # PID 1 is the platform's own program, which its tenant can neither change nor trace.
            if process.pid == target.init:
                continue
            if not self._has_time():
                return False
            program = open_executable(process.pid, self._proc)
            if program is None:
                continue
            try:
                if still_there(process, self._proc):
                    self._look_at_process(target, process, program, wshd, mapped)
            finally:
                program.close()
        return True

    def _look_at_process(
        self, target: Target, process: Process, program: Program, wshd: Program | None, mapped: set[tuple[str, int]]
    ) -> None:
        if wshd is not None and program.key == wshd.key:
            return  # a session that is about to begin
        self._look_at_executable(target, process, program, is_platforms=_is_platforms(program, wshd))
        if not self._concerns(target, YARA):
            return
        for script in open_scripts(process.pid, self._proc):
            try:
                if script.status.st_size <= _SCRIPT_MAX:
                    self._match(target, process, script, "a file that it was started with")
            finally:
                script.close()
        self._look_at_memory(target, process, program, mapped)

    def _look_at_executable(self, target: Target, process: Process, program: Program, *, is_platforms: bool) -> None:
        verdict = self._judge.of_program(program)
        sha256 = "" if verdict is None else verdict.sha256
        rule, detail = "", ""
        if program.is_memfd:
            rule, detail = MEMFD, "it runs from memory, from a file that never had a name"
            is_platforms = program.is_runtimes_copy and not self._is_tenants(target, process)
        elif program.is_deleted:
            rule, detail = DELETED, "its executable was deleted while it runs, or before"
        if rule and not is_platforms and self._concerns(target, rule):
            subject = f"{program.shown}\0{sha256}"
            self._reporter.found(target, Found(rule, detail, subject, program.shown, sha256, process))
        if self._concerns(target, YARA):
            self._match(target, process, program, "its executable")

    def _is_tenants(self, target: Target, process: Process) -> bool:
        """Say whether a process is under the instance's uid, and so none of the host's root on its way in."""
        return uid_of(process.pid, self._proc) in (None, uid_of(target.init, self._proc))

    def _match(self, target: Target, process: Process, program: Program, what: str) -> None:
        self._report(target, YARA, self._judge.of_program(program), what, program.shown, process)

    def _report(
        self, target: Target, rule: str, verdict: Verdict | None, what: str, path: str, process: Process | None = None
    ) -> None:
        for item in () if verdict is None else verdict.matches:
            detail, subject = f"{item.name} matches {what}", f"{item.name}\0{path}"
            sha256 = "" if verdict is None else verdict.sha256
            self._reporter.found(target, Found(rule, detail, subject, path, sha256, process, item.modest))

    def _look_at_memory(self, target: Target, process: Process, program: Program, mapped: set[tuple[str, int]]) -> None:
        """Look at what a process may execute beside its executable: libraries, and memory of no file at all."""
        regions = executable_regions(process.pid, self._proc)
        nameless = [region for region in regions if region.inode == 0]
        looked = 0
        for region in regions:
            key = (region.device, region.inode)
            if region.inode == 0 or key in mapped or looked >= _FILES_OF_ONE:
                continue
            mapped.add(key)
            looked += 1
            library = open_region(process.pid, region, self._proc)
            if library is None:
                continue
            try:
                if library.key != program.key:
                    self._match(target, process, library, "a file that it has mapped to execute")
            finally:
                library.close()
            if not self._has_time():
                return
        data = read_memory(process.pid, nameless, self._settings.memory_max, self._proc) if nameless else b""
        verdict = self._judge.of_memory(data, process.name) if data else None
        self._report(target, YARA, verdict, "memory that it may execute", program.shown, process)

    def _look_at_tree(self, target: Target, processes: dict[int, Process]) -> None:
        try:
            sessions = instance_client(self._run_dir, target.name).ping(2.0).sessions
        except (BaileyError, OSError):
            sessions = 1  # not known, so that none is taken for foreign that may be one
        for process in foreign(processes, target.init, sessions):
            if not still_there(process, self._proc):
                continue
            program = open_executable(process.pid, self._proc)
            path = "" if program is None else program.shown
            if program is not None:
                program.close()
            detail = "it descends neither from the declared program nor from a session of wsh"
            self._reporter.found(target, Found(FOREIGN, detail, path, path, process=process))

    # Files.

    def _look_at_places(self, target: Target, memory: Memory) -> bool:
        places = open_places(target.init, self._proc)
        state = Walk(memory.sweeps.pop(target.container, []))
        room = self._settings.files
        try:
            for entry in walk(places, state, self._settings.entries):
                if entry.reason:
                    self._report_setuid(target, entry)
                elif self._concerns(target, YARA_FILE):
                    room -= self._read(target, entry)
                if not self._has_time():
                    return False
                if room <= 0:
                    break  # the next scan goes on here
        finally:
            memory.sweeps[target.container] = state.waiting
            for place in places:
                place.close()
        if state.unreached:
            self._reporter.notes.append(f"{target.name}: {state.unreached} directories are too deep or too many")
        return True

    def _report_setuid(self, target: Target, entry: Entry) -> None:
        if not self._concerns(target, SETUID):
            return
        program = open_regular(entry.place.descriptor, entry.path, straight=True)
        verdict = None
        if program is not None:
            verdict = self._judge.of_program(program)
            program.close()
        sha256 = "" if verdict is None else verdict.sha256
        self._reporter.found(target, Found(SETUID, entry.reason, f"{entry.shown}\0{entry.reason}", entry.shown, sha256))

    def _read(self, target: Target, entry: Entry) -> int:
        """Look into a file; return how often YARA had to be asked for it."""
        program = open_regular(entry.place.descriptor, entry.path, straight=True)
        if program is None:
            return 0
        before = self._judge.asked
        try:
            verdict = self._judge.of_program(program)
        finally:
            program.close()
        self._report(target, YARA_FILE, verdict, "a file that it can write to", entry.shown)
        return self._judge.asked - before


def _is_platforms(program: Program, wshd: Program | None) -> bool:
    """Say whether a program is one that the platform has mounted: an upgrade replaces those below running tenants."""
    return wshd is not None and program.status.st_dev == wshd.status.st_dev and program.path.startswith(PLATFORM)
