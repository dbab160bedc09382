"""The host's processes, as /proc shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")


def pids() -> Iterator[int]:
    """Return every process id that can be seen from here."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def argv_of(pid: int) -> list[str]:
    """Return a process's command line, empty for a kernel thread, a zombie and a process that has ended."""
    try:
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return [word.decode(errors="replace") for word in raw.split(b"\0")[:-1]]


def program_of(pid: int) -> str:
    """Return the file name of the program that a process runs, or nothing where it has ended."""
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def parent_of(pid: int) -> int:
    """Return a process's parent, 0 where it has ended."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[1])


def in_our_namespace(pid: int, kind: str = "pid") -> bool:
    """Say whether a process is this host's own, and not one of a container's that is seen from outside."""
    try:
        return (_PROC / str(pid) / "ns" / kind).readlink() == (_PROC / "self/ns" / kind).readlink()
    except OSError:
        return False
