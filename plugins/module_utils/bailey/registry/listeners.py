"""Who listens on a TCP port of this host, and which registries run here, as /proc tells it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_LISTENING = "0A"


@dataclass(frozen=True)
class Process:
    """A process and its arguments."""

    pid: int
    argv: tuple[str, ...]

    def describe(self) -> str:
        """Name the process for a message."""
        return f"{Path(self.argv[0]).name} (pid {self.pid})"


def processes() -> Iterator[Process]:
    """Yield the processes that can be seen, containers' too, but for the kernel's own."""
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            argv = tuple((entry / "cmdline").read_bytes().decode(errors="replace").split("\0"))
            if argv[0]:
                yield Process(int(entry.name), argv)


def registries(configuration: str) -> list[Process]:
    """Return the docker-registry processes of this host that serve a configuration file.

    A container's process is seen too, and its path means a file of the container's.
    """
    return [
        process
        for process in processes()
        if Path(process.argv[0]).name == "docker-registry" and configuration in process.argv and _is_ours(process.pid)
    ]


def is_listening(port: int) -> bool:
    """Tell whether any process listens on the TCP port, on whatever address."""
    return bool(_listening_inodes(port))


def listeners(port: int) -> list[Process]:
    """Return the processes that listen on the TCP port. One in another pid namespace is not seen."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    return [process for process in processes() if wanted and wanted & _descriptors(process.pid)]


def _is_ours(pid: int) -> bool:
    """Tell whether a process is in our own pid namespace."""
    try:
        return (_PROC / str(pid) / "ns/pid").readlink() == (_PROC / "self/ns/pid").readlink()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _listening_inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue  # IPv6 is off
        for fields in map(str.split, lines):
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def _descriptors(pid: int) -> set[str]:
    targets: set[str] = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for entry in (_PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                targets.add(str(entry.readlink()))
    return targets
