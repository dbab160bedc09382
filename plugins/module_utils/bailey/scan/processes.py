"""An instance's processes, as /proc shows them: each may end, or become another, while it is looked at.

Whatever is read here is the tenant's own word: names hold what they like, and links lead where they like. Text is
cleaned and cut, and files are opened through the kernel's own links to what is running, never by a path's text.
Sources: proc(5); fs/proc/base.c for /proc/PID/exe and map_files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..host.beneath import open_beneath
from ..host.proc import PROC, read_of_process

_DELETED = " (deleted)"
_MEMFD = "/memfd:"
# Runtimes run themselves from a sealed copy in memory while they enter a container for the host's root (`docker exec`).
_RUNTIMES_COPIES = ("/memfd:runc_cloned:", "/memfd:crun_cloned:")
PLATFORM = "/.bailey/"
_CMDLINE_MAX = 8192  # bytes
_MAPS_MAX = 4 << 20  # bytes of /proc/PID/maps
_WORD_MAX, _WORDS_MAX = 512, 64


@dataclass(frozen=True)
class Process:
    """One process. `started` is in clock ticks since the boot and with the pid names it; `ticks` is its time so far."""

    pid: int
    parent: int
    session: int
    started: int
    ticks: int
    state: str
    name: str

    @property
    def leads_session(self) -> bool:
        """Whether it has called setsid(2) itself."""
        return self.session == self.pid


@dataclass(frozen=True)
class Region:
    """A part of a process's memory that it may execute. A region without a file has inode 0."""

    start: int
    end: int
    device: str
    inode: int
    path: str


@dataclass
class Program:
    """A file that is open as `descriptor`, and where the process says that it was."""

    descriptor: int
    path: str
    status: os.stat_result

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)

    @property
    def shown(self) -> str:
        """Its path, for a reader."""
        return clean(self.path.removesuffix(_DELETED))

    @property
    def is_deleted(self) -> bool:
        """Whether it has lost its name.

        The kernel writes so behind the path. What was deleted from the lower layer of an overlay still counts a link
        there; and who names a file so that it looks deleted shall be looked at, too.
        """
        return self.status.st_nlink == 0 or self.path.endswith(_DELETED)

    @property
    def is_memfd(self) -> bool:
        """Whether it has never had a name in any file system."""
        return self.status.st_nlink == 0 and self.path.startswith(_MEMFD)

    @property
    def is_runtimes_copy(self) -> bool:
        """Whether it is what the container runtime runs from while it enters a container."""
        return self.is_memfd and self.path.startswith(_RUNTIMES_COPIES)

    @property
    def key(self) -> tuple[int, int]:
        """What tells this file from every other that is there now."""
        return self.status.st_dev, self.status.st_ino


def clean(text: str, limit: int = _WORD_MAX) -> str:
    """Return text that is fit to be shown: nothing in it controls a terminal, and it has an end."""
    shown = "".join(char if char.isprintable() else "?" for char in text[:limit])
    return shown + "…" if len(text) > limit else shown


def read_process(pid: int, proc: Path = PROC) -> Process | None:
    """Read /proc/PID/stat; None where the process has ended. Its name may hold brackets and spaces."""
    text = read_of_process(proc / str(pid) / "stat")
    if text is None:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    if len(fields) < 20:
        return None
    return Process(
        pid=pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        started=int(fields[19]),
        ticks=int(fields[11]) + int(fields[12]),
        state=fields[0],
        name=clean(name, 64),
    )


def read_processes(pids: Iterable[int], proc: Path = PROC) -> dict[int, Process]:
    """Read those that have not ended, zombies left out."""
    found = (read_process(pid, proc) for pid in pids)
    return {process.pid: process for process in found if process is not None and process.state not in "ZX"}


def still_there(process: Process, proc: Path = PROC) -> bool:
    """Say whether a process is the one that was read, and not another that has its number."""
    now = read_process(process.pid, proc)
    return now is not None and now.started == process.started


def command_line(pid: int, proc: Path = PROC) -> list[str]:
    """Return its words, cut and cleaned, for a reader."""
    return [clean(word) for word in _words(pid, proc)]


def _words(pid: int, proc: Path) -> list[str]:
    try:
        with (proc / str(pid) / "cmdline").open("rb") as file:
            raw = file.read(_CMDLINE_MAX)
    except OSError:
        return []
    words = raw.removesuffix(b"\0").split(b"\0") if raw else []
    return [word.decode(errors="surrogateescape") for word in words[:_WORDS_MAX]]


def uid_of(pid: int, proc: Path = PROC) -> int | None:
    """Return its effective uid, None where it has ended."""
    for line in (read_of_process(proc / str(pid) / "status") or "").split("\n"):
        if line.startswith("Uid:"):
            return int(line.split()[2])
    return None


def open_executable(pid: int, proc: Path = PROC) -> Program | None:
    """Open what a process runs, deleted or not; None where it has ended."""
    return _open_link(proc / str(pid) / "exe")


def open_scripts(pid: int, proc: Path = PROC) -> Iterator[Program]:
    """Open the files that a process was given by name on its command line: what an interpreter interprets.

    They are found as the process finds them, below its own root; symbolic links lead nowhere else.
    """
    words = [word for word in _words(pid, proc)[1:9] if word and not word.startswith("-")]
    if not words:
        return
    try:
        root = os.open(proc / str(pid) / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        cwd = (proc / str(pid) / "cwd").readlink()
        for word in words:
            program = open_regular(root, str(cwd / word))
            if program is not None:
                yield program
    except OSError:
        return  # it has ended
    finally:
        os.close(root)


def open_regular(root: int, path: str, *, straight: bool = False) -> Program | None:
    """Open a regular file below a directory that is open as `root`; None for everything else, which is not touched."""
    try:
        handle = open_beneath(root, path, os.O_PATH | os.O_NOFOLLOW if straight else os.O_PATH, straight=straight)
    except OSError:
        return None
    return _reopen(handle, path)


def _open_link(link: Path) -> Program | None:
    """Open what one of the kernel's links leads to, if it is a regular file."""
    try:
        path = str(link.readlink())
        handle = os.open(link, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    return _reopen(handle, path)


def _reopen(handle: int, path: str) -> Program | None:
    """Open for reading what is a regular file; the handle by which it was looked at is closed in any case."""
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        descriptor = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    finally:
        os.close(handle)
    return Program(descriptor, path, os.fstat(descriptor))


def executable_regions(pid: int, proc: Path = PROC) -> list[Region]:
    """Return what a process may execute of its memory, in the order of the addresses; the kernel's own left out."""
    try:
        with (proc / str(pid) / "maps").open("rb") as file:
            text = file.read(_MAPS_MAX).decode(errors="surrogateescape")
    except OSError:
        return []
    regions = []
    for line in text.split("\n"):
        fields = line.split(maxsplit=5)
        if len(fields) < 5 or fields[1][2:3] != "x":
            continue
        path = fields[5] if len(fields) > 5 else ""
        if fields[4] == "0" and path.startswith("[v"):  # vdso, vsyscall
            continue
        start, _, end = fields[0].partition("-")
        regions.append(Region(int(start, 16), int(end, 16), fields[3], int(fields[4]), path))
    return regions


def open_region(pid: int, region: Region, proc: Path = PROC) -> Program | None:
    """Open the file of a region, deleted or not; None where it is none, or the process has ended."""
    return _open_link(proc / str(pid) / "map_files" / f"{region.start:x}-{region.end:x}")


def read_memory(pid: int, regions: Iterable[Region], limit: int, proc: Path = PROC) -> bytes:
    """Return the content of regions, of all together `limit` bytes at most; what cannot be read is left out."""
    parts: list[bytes] = []
    try:
        with (proc / str(pid) / "mem").open("rb", buffering=0) as memory:
            for region in regions:
                size = min(region.end - region.start, limit)
                if size <= 0:
                    break
                part = _read_at(memory.fileno(), region.start, size)
                limit -= len(part)
                parts.append(part)
    except OSError:
        pass  # it has ended
    return b"".join(parts)


def _read_at(descriptor: int, offset: int, size: int) -> bytes:
    try:
        return os.pread(descriptor, size, offset)
    except (OSError, OverflowError):
        return b""


def open_files(pid: int, limit: int, proc: Path = PROC) -> list[str]:
    """Return what a process has open, as the kernel names it: descriptor and target."""
    found: list[str] = []
    for descriptor, target in _descriptors(pid, proc):
        if len(found) == limit:
            found.append("…")
            break
        found.append(f"{descriptor} -> {clean(target)}")
    return found


def owner_of_socket(pids: Iterable[int], inodes: frozenset[int], proc: Path = PROC) -> int | None:
    """Return the first process that has one of these sockets open."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in pids:
        if any(target in wanted for _, target in _descriptors(pid, proc)):
            return pid
    return None


def _descriptors(pid: int, proc: Path) -> Iterator[tuple[str, str]]:
    try:
        with os.scandir(proc / str(pid) / "fd") as entries:
            for entry in entries:
                try:
                    yield entry.name, os.readlink(entry.path)  # noqa: PTH115 - no path, but the kernel's text
                except OSError:
                    continue
    except OSError:
        return
