"""The ways to run a command in one container: wsh and its peers, each as a whole command line."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import BenchError
from tests.ground.engine import command

from .boxes import TALK, Boxes
from .figures import DOCKER, HARNESS, RUNC, SSH, WSH

_PORT = 2222  # that an ordinary user may listen on
_START_SECONDS = 10.0
_SSHD = f"""\
Port {_PORT}
HostKey /data/host_key
AuthorizedKeysFile /data/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
"""


@dataclass(frozen=True)
class Ways:
    """Command lines that lead into the container; `streams` are those that take an input along."""

    plain: Mapping[str, list[str]]
    streams: Mapping[str, list[str]] = field(default_factory=dict)

    @classmethod
    def open(cls, boxes: Boxes) -> Ways:
        """Find the container, and start the ssh server in it."""
        box = boxes.inspect(TALK)
        engine = boxes.ground.engine
        wsh, client = boxes.wsh(TALK), ["docker", "--host", engine.docker_host, "exec"]
        runc = ["runc", "--root", str(engine.run / "exec/runtime-runc/moby"), "exec", box["Id"]]
        ssh = _start_ssh_server(boxes, box["NetworkSettings"]["IPAddress"])
        plain = {WSH: wsh, DOCKER: [*client, TALK], RUNC: runc, SSH: ssh, HARNESS: []}
        return cls(plain, {WSH: wsh, DOCKER: [*client, "--interactive", TALK], RUNC: runc, SSH: ssh})

    def command(self, way: str) -> list[str]:
        """Return what runs a program that does nothing."""
        return [*self.plain[way], "/bin/true"] if way == HARNESS else [*self.plain[way], "true"]


def _start_ssh_server(boxes: Boxes, address: str) -> list[str]:
    """Start sshd in the container as its ordinary user, and return the client's words. Neither reads /etc or a home."""
    directory = boxes.ground.inventory.parent / "ssh"
    directory.mkdir(mode=0o700)
    for name in ("host_key", "user_key"):
        command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", str(directory / name)])
    (directory / "sshd_config").write_text(_SSHD)
    (directory / "known_hosts").write_text(f"[{address}]:{_PORT} {(directory / 'host_key.pub').read_text()}")
    for source, target in (
        ("host_key", "host_key"),
        ("user_key.pub", "authorized_keys"),
        ("sshd_config", "sshd_config"),
    ):
        _put(boxes, directory / source, f"/data/{target}")
    # As a child of PID 1 that leads its session, which it is in a session of wsh, it takes itself for a daemon already.
    line = "/usr/sbin/sshd -f /data/sshd_config </dev/null >/dev/null 2>&1 &"
    command(boxes.wsh(TALK, "sh", "-c", line))
    options = {
        "BatchMode": "yes",
        "ControlPath": "none",
        "IdentitiesOnly": "yes",
        "LogLevel": "ERROR",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(directory / "known_hosts"),
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    client = ["ssh", "-F", "none", "-p", str(_PORT), "-i", str(directory / "user_key"), *words, f"app@{address}"]
    _await(client)
    return client


def _put(boxes: Boxes, source: Path, target: str) -> None:
    argv = boxes.wsh(TALK, "sh", "-c", f"umask 077; cat >{target}")
    subprocess.run(argv, input=source.read_bytes(), check=True, timeout=30)


def _await(client: list[str]) -> None:
    """Wait until the ssh server lets us in."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        done = subprocess.run([*client, "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if time.monotonic() > deadline:
            raise BenchError(f"the ssh server in the container does not let us in: {done.stderr}")
        time.sleep(0.1)
