"""A container engine for the tests alone, beside whatever engine the machine runs.

It has its own data root, sockets and bridge, and takes nothing from /etc/docker. It leaves the firewall
alone: a dockerd that starts with `iptables` on flushes the chains of every other one, published ports and
all. The few rules its containers need to reach the package mirrors are set here, and published ports go
through the engine's proxy.

Who needs the engine says so by a name (a holder); it stops, and everything it made goes, with its last
holder. Its images stay on disk as a cache for the next run, until `purge`.

Usage as a program, as root: python3 -m tests.ground.engine start|stop HOLDER, or status, or purge
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_PROGRAMS = ("dockerd", "docker-proxy", "containerd", "containerd-shim", "containerd-shim-runc-v2")
_START_SECONDS = 30.0
_STOP_SECONDS = 20.0


class GroundError(Exception):
    """The ground cannot be had; the tests that stand on it fail with this text."""


def command(argv: Sequence[str], *, check: bool = True, timeout: float = 120.0, stdin: str = "") -> str:
    """Run a program and return what it printed."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=timeout)
    if check and done.returncode != 0:
        raise GroundError(f"{shlex.join(argv)}: exit status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Engine:
    """A dockerd of our own. Two of different names, subnets and directories may run at the same time."""

    bridge: str = "bailey-test0"
    network: str = "10.183.0.0/16"
    address: str = "10.183.0.1/24"
    pool: str = "10.183.128.0/17"
    directory: Path = Path("/var/lib/bailey-test")
    run: Path = Path("/run/bailey-test")
    remap: str = ""  # the account whose range of ids containers get; empty leaves them the host's

    @property
    def docker_host(self) -> str:
        """The address that DOCKER_HOST takes."""
        return f"unix://{self.run}/docker.sock"

    @property
    def data_root(self) -> Path:
        """Where the engine keeps images and containers."""
        return self.directory / "docker"

    @property
    def holders(self) -> Path:
        """One empty file for each user of the engine."""
        return self.run / "holders"

    @property
    def pid(self) -> int | None:
        """The engine's process, or None where it does not run."""
        try:
            pid = int((self.run / "dockerd.pid").read_text())
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        return pid if str(self.run / "daemon.json").encode() in arguments.split(b"\0") else None

    def docker(self, *arguments: str, check: bool = True, timeout: float = 120.0) -> str:
        """Run the engine's command-line client."""
        return command(["docker", "--host", self.docker_host, *arguments], check=check, timeout=timeout)

    def start(self, holder: str) -> bool:
        """Make sure that the engine runs, on behalf of `holder`; say whether it had to be started."""
        with self._lock():
            started = self.pid is None
            if started:
                self._launch()
            self.holders.mkdir(parents=True, exist_ok=True)
            (self.holders / holder).touch()
            return started

    def stop(self, holder: str) -> bool:
        """Give the engine up; with its last holder it stops. Say whether it did."""
        with self._lock():
            (self.holders / holder).unlink(missing_ok=True)
            if not self.run.exists() or (self.holders.exists() and any(self.holders.iterdir())):
                return False
            self._stop()
            return True

    def purge(self) -> None:
        """Stop the engine whoever holds it, and remove its images too."""
        with self._lock():
            self._stop()
        shutil.rmtree(self.directory)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _launch(self) -> None:
        """Start the engine, be it on a clean host or after it was killed: live-restore finds its containers."""
        self.run.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._forget_dead_engine()
        if not Path(f"/sys/class/net/{self.bridge}").exists():
            (self.run / "ip_forward").write_text(_FORWARDING.read_text())
            command(["ip", "link", "add", self.bridge, "type", "bridge"])
            command(["ip", "address", "add", self.address, "dev", self.bridge])
            self._firewall("-I")
        configuration = self.run / "daemon.json"
        configuration.write_text(json.dumps(self._configuration(), indent=2))
        log = self.run / "dockerd.log"
        with log.open("ab") as stream:
            process = subprocess.Popen(
                ["dockerd", "--config-file", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (hard, hard))
        self._await(process, log)

    def _forget_dead_engine(self) -> None:
        """Remove the pid files of a killed engine. Its containerd dies with it, but counts as alive for as long
        as nobody has reaped it, and then the next dockerd waits for it in vain.
        """
        (self.run / "dockerd.pid").unlink(missing_ok=True)
        for pid in _processes_naming(f"{self.run}/", programs=("containerd",)):
            os.kill(pid, signal.SIGKILL)
        for name in ("containerd.pid", "containerd.sock", "containerd.sock.ttrpc"):
            (self.run / "exec/containerd" / name).unlink(missing_ok=True)

    def _await(self, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self.docker("version", "--format", "{{.Server.Version}}", check=False).strip():
            if process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                self._clean_host()
                raise GroundError(f"the tests' engine did not come up; the end of its log:\n{tail}")
            time.sleep(0.1)

    def _configuration(self) -> dict[str, object]:
        return {
            **({"userns-remap": self.remap} if self.remap else {}),
            "bridge": self.bridge,
            "data-root": str(self.data_root),
            "default-address-pools": [{"base": self.pool, "size": 24}],
            "exec-root": str(self.run / "exec"),
            "hosts": [self.docker_host],
            "iptables": False,
            "live-restore": True,
            "pidfile": str(self.run / "dockerd.pid"),
            "runtimes": {"crun": {"path": shutil.which("crun") or "crun"}},
            "storage-driver": "overlay2",
            "userland-proxy": True,
        }

    def _stop(self) -> None:
        """Remove what the engine runs, then the engine, then what is left of both on the host."""
        if self.pid is None and self.run.exists():
            self._launch()
        pid = self.pid
        if pid is not None:
            self._remove_containers()
            os.kill(pid, signal.SIGTERM)
            _wait_for_end(pid)
        self._clean_host()

    def _remove_containers(self) -> None:
        containers = self.docker("ps", "--all", "--quiet", check=False).split()
        if containers:
            self.docker("rm", "--force", "--volumes", *containers, check=False, timeout=300)
        self.docker("network", "prune", "--force", check=False)
        self.docker("volume", "prune", "--force", check=False)

    def _clean_host(self) -> None:
        """Remove what a stopped, or killed, engine leaves: processes, mounts, bridges, rules, files."""
        for pid in _processes_naming(f"{self.run}/"):
            command(["pkill", "--signal", "KILL", "--parent", str(pid)], check=False)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for point in _mounts_below(self.run, self.data_root):
            command(["umount", "--lazy", point], check=False)
        record = self.run / "ip_forward"
        before = record.read_text().strip() if record.exists() else ""
        shutil.rmtree(self.run, ignore_errors=True)
        command(["ip", "link", "delete", self.bridge], check=False)
        self._firewall("-D")
        if before == "0" and not _processes_named("dockerd"):
            _FORWARDING.write_text(before)

    def _firewall(self, verb: str) -> None:
        """Insert (-I) or delete (-D) what lets our addresses, and nobody else's, out to the world."""
        for rule in (
            f"nat {verb} POSTROUTING -s {self.network} ! -d {self.network} -j MASQUERADE",
            f"filter {verb} FORWARD -s {self.network} -j ACCEPT",
            f"filter {verb} FORWARD -d {self.network} -j ACCEPT",
        ):
            command(["iptables", "--wait", "--table", *rule.split()], check=verb == "-I")


def _wait_for_end(pid: int) -> None:
    """Wait until the process is gone, reaping it where it is our child; past the time, kill it."""
    deadline = time.monotonic() + _STOP_SECONDS
    while Path(f"/proc/{pid}").exists():
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _processes() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")


def _processes_naming(path: str, programs: tuple[str, ...] = _PROGRAMS) -> list[int]:
    """Find the engine's own programs that were started with a path of ours."""
    return [
        pid
        for pid, argv in _processes()
        if Path(argv[0]).name in programs and any(word.startswith(path) for word in argv[1:])
    ]


def _processes_named(name: str) -> list[int]:
    return [pid for pid, argv in _processes() if Path(argv[0]).name == name]


def _mounts_below(*roots: Path) -> list[str]:
    """List mount points under the given directories, innermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in reversed(points) if any(Path(point).is_relative_to(root) for root in roots)]


def main(arguments: list[str]) -> int:
    """Run one of the verbs and print what the engine's state is."""
    engine = Engine()
    match arguments:
        case ["start", holder]:
            print("started" if engine.start(holder) else "running", engine.docker_host)
        case ["stop", holder]:
            print("stopped" if engine.stop(holder) else "kept")
        case ["status"]:
            print(engine.docker_host if engine.pid else "stopped")
        case ["purge"]:
            engine.purge()
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except GroundError as error:
        sys.exit(str(error))
