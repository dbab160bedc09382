"""What the access log is started with."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..units import parse_count, parse_size


@dataclass(frozen=True)
class Settings:
    """Places and bounds: `max_size` in bytes of each of `files`, `rate` in lines a second over all."""

    run_dir: Path = Path("/run/bailey")
    log: Path = Path("/var/log/bailey/access.json")
    group: int = 6464
    max_size: int = 50 << 20
    files: int = 10
    rate: int = 2000


def parse_settings(arguments: Sequence[str]) -> Settings:
    """Read the command line. Raises InvalidValueError for a value that is not valid."""
    default = Settings()
    parser = argparse.ArgumentParser(prog="bailey-access-log", description=__doc__)
    parser.add_argument("--run-dir", type=Path, default=default.run_dir, help="where the agent notes the addresses")
    parser.add_argument("--log", type=Path, default=default.log, help="the file; former ones are beside it")
    parser.add_argument("--group", default=default.group, help="the firewall's NFLOG group")
    parser.add_argument("--max-size", default=f"{default.max_size}B", help="size of a file, with a unit")
    parser.add_argument("--files", default=default.files, help="how many files are kept")
    parser.add_argument("--rate", default=default.rate, help="lines a second over all")
    given = parser.parse_args(arguments)
    return Settings(
        given.run_dir,
        given.log,
        parse_count("--group", given.group, 0, 65535),
        parse_size("--max-size", given.max_size, 4096),
        parse_count("--files", given.files, 1, 1000),
        parse_count("--rate", given.rate, 1, 100_000),
    )
