"""What the agent is started with."""

from __future__ import annotations

import argparse
import ipaddress
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidValueError
from ..units import parse_count
from .engine_threads import THREADS_ALLOWED

_ADDRESS_ALLOWED = "an address of loopback and a port, such as 127.0.0.1:9464"


@dataclass(frozen=True)
class Settings:
    """Places, bounds and times; times are in seconds."""

    state_dir: Path = Path("/var/lib/bailey")
    run_dir: Path = Path("/run/bailey")
    wsh_dir: Path = Path("/usr/lib/bailey/wsh")
    storage_path: Path = Path("/var/lib/bailey/volumes")
    docker_host: str = "unix:///var/run/docker.sock"
    metrics: tuple[str, int] | None = None
    engine_timeout: int = 30
    restart_limit: int = 10
    sweep: float = 30.0
    network_config: Path | None = None
    remove_network: bool = False
    engine_threads_max: int = 0
    engine_restart_command: tuple[str, ...] = ()
    scan_config: Path | None = None

    def host(self) -> dict[str, Any]:
        """Return what opens the host's adapters, as the modules give it."""
        return {
            "docker_host": self.docker_host,
            "timeout": self.engine_timeout,
            "storage_path": str(self.storage_path),
            "state_dir": str(self.state_dir),
            "run_dir": str(self.run_dir),
            "wsh_dir": str(self.wsh_dir),
        }


def parse_settings(arguments: Sequence[str]) -> Settings:
    """Read the command line. Raises InvalidValueError for a value that is not valid."""
    default = Settings()
    parser = argparse.ArgumentParser(prog="baileyd", description=__doc__)
    for option, what in (
        ("state_dir", "what survives a reboot: specs, boot directories, crash records"),
        ("run_dir", "sockets and state files"),
        ("wsh_dir", "the programs that containers have mounted"),
        ("storage_path", "the tenants' volumes"),
    ):
        parser.add_argument(f"--{option.replace('_', '-')}", type=Path, default=getattr(default, option), help=what)
    parser.add_argument("--docker-host", default=default.docker_host, help="the engine's socket")
    parser.add_argument("--metrics", default="", help="ADDRESS:PORT on loopback for Prometheus; none where not given")
    parser.add_argument(
        "--engine-timeout", default=default.engine_timeout, help="seconds that the engine has to answer"
    )
    parser.add_argument("--restart-limit", default=default.restart_limit, help="ends in a row after which it is left")
    parser.add_argument("--sweep", type=float, default=default.sweep, help="seconds between two looks at all limits")
    parser.add_argument("--network-config", type=Path, help="what the host's network is; none connects no instance")
    parser.add_argument("--remove-network", action="store_true", help="take away what was made of it, and end")
    parser.add_argument(
        "--engine-threads-max", default=default.engine_threads_max, help="above it the engine is restarted; 0 does not"
    )
    parser.add_argument("--engine-restart-command", default="", help="what restarts it: words, or a list in JSON")
    parser.add_argument("--scan-config", default="", help="what is scanned for; where not given nothing is")
    given = parser.parse_args(arguments)
    if not 0.1 <= given.sweep <= 3600:
        raise InvalidValueError("--sweep", given.sweep, "from 0.1 to 3600 seconds")
    return Settings(
        given.state_dir,
        given.run_dir,
        given.wsh_dir,
        given.storage_path,
        given.docker_host,
        parse_address(given.metrics) if given.metrics else None,
        parse_count("--engine-timeout", given.engine_timeout, 1, 3600),
        parse_count("--restart-limit", given.restart_limit, 1, 1000),
        given.sweep,
        given.network_config,
        given.remove_network,
        parse_count("--engine-threads-max", given.engine_threads_max, 0, THREADS_ALLOWED),
        parse_command("--engine-restart-command", given.engine_restart_command),
        Path(given.scan_config) if given.scan_config else None,
    )


def parse_command(option: str, text: str) -> tuple[str, ...]:
    """Read a command line, as a list in JSON or as words for a shell to split; nothing is no command."""
    try:
        words: object = json.loads(text) if text.lstrip().startswith("[") else shlex.split(text)
    except ValueError:
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) and word and "\0" not in word for word in words):
        raise InvalidValueError(option, text, "words, or a JSON list of strings, such as systemctl restart docker")
    return tuple(words)


def parse_address(text: str) -> tuple[str, int]:
    """Read where metrics are served: on loopback alone, for they tell of every tenant."""
    host, colon, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise InvalidValueError("--metrics", text, _ADDRESS_ALLOWED) from None
    if not colon or not address.is_loopback:
        raise InvalidValueError("--metrics", text, _ADDRESS_ALLOWED)
    return str(address), parse_count("--metrics", port, 1, 65535)
