"""The harness that runs a command again and again: spawn.c, compiled, and what it measured."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from tests.ground.engine import command

_SOURCE = Path(__file__).with_name("spawn.c")
_FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Wmissing-prototypes", "-Werror")
_PATIENCE = 300.0  # seconds


@dataclass(frozen=True)
class Series:
    """The seconds of each run, and of all together."""

    seconds: Sequence[float]
    elapsed: float


@dataclass(frozen=True)
class Harness:
    """The compiled program."""

    program: Path

    @classmethod
    def build(cls, directory: Path) -> Harness:
        """Compile it."""
        program = directory / "spawn"
        command(["cc", *_FLAGS, "-o", str(program), str(_SOURCE)])
        return cls(program)

    def run(
        self,
        argv: Sequence[str],
        *,
        clients: int = 1,
        count: int = 0,
        seconds: float = 0.0,
        environment: Mapping[str, str] | None = None,
    ) -> Series:
        """Run a command `count` times for each client, or for so many seconds. BenchError where a run fails."""
        done = subprocess.run(
            [self.program, str(clients), str(count), str(seconds), *argv],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + _PATIENCE,
        )
        if done.returncode != 0:
            raise BenchError(f"{' '.join(argv)}: a run failed: {done.stderr[-2000:]}")
        return parse(done.stdout)


def parse(output: str) -> Series:
    """Read what the harness prints."""
    elapsed, *runs = (int(line) / 1e9 for line in output.splitlines())
    return Series(runs, elapsed)
