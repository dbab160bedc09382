"""What every competitor has to run: N small containers, each behind every limit that all of them can set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

IMAGE_COMMAND = ("sleep", "infinity")
TARGET = "/data"
FIRST_UID = 300_000
MEMORY, MORE_MEMORY = "64M", "96M"
NOFILE, NPROC = 1024, 64
LOG_SIZE, LOG_FILES = "1M", 2
# The values are Compose's; 0.5 of a processor lets a program start without waiting for its next period.
LIMITS: dict[str, object] = {
    "mem_limit": MEMORY,
    "cpus": 0.5,
    "cpu_shares": 512,
    "pids_limit": 32,
    "disk_limit": "16M",
    "shm_size": "4M",
    "tmpfs": ["/tmp:size=4M,mode=1777"],
    "ulimits": {"nofile": NOFILE, "nproc": NPROC},
    "logging": {"options": {"max-size": LOG_SIZE, "max-file": LOG_FILES}},
}


@dataclass(frozen=True)
class Instance:
    """One container: what makes it differ from its neighbours, and from what it was before."""

    number: int
    directory: Path  # what competitors without volumes of their own bind at /data
    memory: str = MEMORY
    generation: str = "1"  # a change of it needs a new container

    @property
    def app(self) -> str:
        """The name under which Bailey's inventory declares it."""
        return f"c{self.number:03}"

    @property
    def name(self) -> str:
        """The container's name, the same for all competitors."""
        return f"bench-{self.app}-1"

    @property
    def uid(self) -> int:
        """The account that its program runs under."""
        return FIRST_UID + self.number

    @property
    def environment(self) -> dict[str, str]:
        """The program's environment."""
        return {"GENERATION": self.generation}


def instances(count: int, directories: Path) -> list[Instance]:
    """Return the declaration that each competitor starts from."""
    return [Instance(number, directories / f"{number:03}") for number in range(count)]


def with_first(declared: list[Instance], *, memory: str = MEMORY, generation: str = "1") -> list[Instance]:
    """Return the same declaration with another memory limit or another generation of the first container."""
    return [replace(declared[0], memory=memory, generation=generation), *declared[1:]]
