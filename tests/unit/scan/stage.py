"""An instance made of real processes of this machine: harmless stand-ins for what the rules look for."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bailey.host.cgroup import Enforced, Group, Usage
from bailey.scan.budget import Budget
from bailey.scan.findings import Finding
from bailey.scan.report import Target
from bailey.scan.rules import IGNORE, NAMES, Settings, parse_rules
from bailey.scan.scanner import Places, Scanner, Summary

NAME, CONTAINER = "ada-web-1", "c" * 64
# Written in two parts: whole, it would make this file what scanners look for.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-" + rb"ANTIVIRUS-TEST-FILE!$H+H*"


class ProcessGroup(Group):
    """A group that has the processes which a test has started, and the processor time of them."""

    def __init__(self) -> None:
        super().__init__({})
        self.members: list[subprocess.Popen[bytes]] = []

    def pids(self) -> list[int]:
        return [member.pid for member in self.members if member.poll() is None]

    @property
    def oom_counter(self) -> Path:
        raise NotImplementedError

    def enforced(self) -> Enforced:
        raise NotImplementedError

    def usage(self) -> Usage:
        return Usage(0, sum(map(_cpu_ns, self.pids())), len(self.members), 0)


def _cpu_ns(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Stage:
    """One instance, whose first process waits as wshd does, and a scan of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places = Places(root / "state", root / "run")
        self.settings = Settings(cpu_share=1.0, rules_dir=root / "operators", access_log=root / "access.json")
        self.group = ProcessGroup()
        self.found: list[Finding] = []
        init = self.start(self.copy("sleep", "wshd"), "600")
        self.target = Target(NAME, "ada", "web", self.group, init.pid, CONTAINER, 1_000_000_000)

    def copy(self, program: str, name: str, content: bytes = b"") -> Path:
        """Return a copy of a program of this machine, with something behind its end."""
        source = shutil.which(program)
        assert source is not None
        path = self.root / name
        shutil.copy(source, path)
        with path.open("ab") as file:
            file.write(content)
        return path

    def start(self, *argv: object, **options: Any) -> subprocess.Popen[bytes]:
        """Start a process of the instance, and wait until it is what it is to be."""
        process = subprocess.Popen(
            [str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **options
        )
        self.group.members.append(process)
        until(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(str(argv[0]).encode()))
        return process

    def python(self, source: str, *arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        """Start a Python program of the instance, and wait until it prints a line."""
        process = self.start(sys.executable, "-c", textwrap.dedent(source), *arguments, **options)
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    def only(self, **actions: object) -> None:
        """Have these rules alone: their names with low lines."""
        rules = {name.replace("_", "-"): action for name, action in actions.items()}
        base = parse_rules(dict.fromkeys(NAMES, IGNORE), "rules", self.settings.rules)
        self.settings = replace(self.settings, rules=parse_rules(rules, "rules", base))

    def scan(self, *, act: bool = True, targets: Sequence[Target] | None = None, **settings: Any) -> Summary:
        """Scan, and collect what is found."""
        given = replace(self.settings, **settings)
        self.found = []
        budget = Budget(given.cpu_share, given.timeout)
        scanner = Scanner(given, self.places, budget, self.found.append, act=act)
        return scanner.run([self.target] if targets is None else targets)

    def rules(self) -> set[str]:
        """Return the rules that have found something."""
        return {finding.rule for finding in self.found}

    def close(self) -> None:
        for process in self.group.members:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def listener() -> socket.socket:
    """Return a listener on a port of loopback that is free."""
    return socket.create_server(("127.0.0.1", 0))
