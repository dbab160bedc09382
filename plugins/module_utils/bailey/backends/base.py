"""The contract of a container engine: what reconcile needs of one, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..confinement import READ_ONLY
from ..host.idmap import IDENTITY, IdMap
from ..limits import Limits, LogLimit
from ..rlimits import Rlimit
from ..spec import Spec


@dataclass(frozen=True)
class Capabilities:
    """What an engine on this host can do. What it cannot is refused, never dropped."""

    version: str
    runtimes: frozenset[str]
    memory_minimum: int  # bytes
    limits_layer: bool  # whether a container's own writable layer can be bounded
    limits_swap: bool
    rlimits: frozenset[str]  # the resource limits that it can set
    rlimit_ceiling: Mapping[str, Rlimit]  # hard limits that it cannot raise on this host; empty: it can
    ids: IdMap = IDENTITY  # of containers, on the host


@dataclass(frozen=True)
class Container:
    """One container as the engine lists it."""

    id: str
    name: str
    declared_name: str | None  # of the instance, None where Bailey did not make it
    declared_hash: str
    image: str  # the reference it was made from; an image id once that reference means another image
    running: bool
    status: str
    ports: tuple[str, ...]  # the host's addresses that are published, as ADDRESS:PORT/PROTOCOL


@dataclass(frozen=True)
class EngineMount:
    """A directory or file of the host in a container."""

    source: Path
    target: str
    read_only: bool


@dataclass(frozen=True)
class Blueprint:
    """A spec with what only this host knows: its uid, its mounts and its devices."""

    spec: Spec
    name: str
    uid: int
    mounts: Sequence[EngineMount]
    io_devices: Sequence[str]  # block devices, as paths, that the I/O rates apply to
    labels: Mapping[str, str]
    groups: Sequence[int] = ()  # beside the uid's own, for what was admitted as an exception
    read_only: Sequence[str] = READ_ONLY  # of what the kernel shows, as paths inside


class Happening(Enum):
    """What an engine tells of its containers while it goes on."""

    CREATED = "create"
    STARTED = "start"
    SIGNALLED = "kill"  # on somebody's order; a stop is one too
    DIED = "die"
    STOPPED = "stop"  # on somebody's order, once it has ended
    OUT_OF_MEMORY = "oom"
    RENAMED = "rename"
    REMOVED = "destroy"


@dataclass(frozen=True)
class Event:
    """One thing that happened to a container that Bailey made. `at` is in nanoseconds since the epoch."""

    kind: Happening
    container: str
    name: str  # the container's own, after what happened
    declared_name: str
    declared_hash: str
    at: int
    exit_code: int | None = None
    signal: int | None = None


class EventStream(ABC):
    """What an engine tells, as it happens. Iterating ends where the engine ends it, or `close` does."""

    @abstractmethod
    def __iter__(self) -> Iterator[Event]:
        """Yield events as they come. Raises EngineUnavailableError where the connection breaks."""

    @abstractmethod
    def close(self) -> None:
        """End the stream, from any thread."""


@dataclass(frozen=True)
class Ended:
    """How a container last ended, as the engine knows it.

    `code` is the exit status as a shell shows it: 128 and the signal's number where PID 1 hands on that a signal
    ended the program; `signal` is that number. `at` is in seconds since the epoch.
    """

    code: int
    signal: int | None
    oom: bool
    at: float | None
    error: str  # why the engine could not even start it


def signal_of(code: int) -> int | None:
    """Return the signal that an exit status of PID 1 stands for, None where it is the program's own code."""
    return code - 128 if 128 < code <= 128 + 64 else None


class Backend(ABC):
    """An engine. Methods raise EngineError, or EngineUnavailableError where it does not answer."""

    @abstractmethod
    def list(self) -> list[Container]:
        """Return all containers on the host, those of others included, in one request."""

    @abstractmethod
    def capabilities(self) -> Capabilities:
        """Return what this engine can do here."""

    @abstractmethod
    def survives_restart(self) -> bool:
        """Say whether the engine's containers go on while it is restarted."""

    @abstractmethod
    def has_image(self, reference: str) -> bool:
        """Say whether an image is on the host."""

    @abstractmethod
    def pull(self, reference: str) -> None:
        """Fetch an image from its registry."""

    @abstractmethod
    def create(self, blueprint: Blueprint) -> str:
        """Create a container that does not run yet, and return its id."""

    @abstractmethod
    def start(self, container_id: str) -> None:
        """Start a container; nothing happens where it runs."""

    @abstractmethod
    def stop(self, container_id: str, grace: float) -> None:
        """Stop a container, killing it after `grace` seconds; nothing happens where it does not run."""

    @abstractmethod
    def remove(self, container_id: str) -> None:
        """Remove a container, killing it first where it runs; nothing happens where it has gone."""

    @abstractmethod
    def rename(self, container_id: str, name: str) -> None:
        """Give a container another name."""

    @abstractmethod
    def update(self, container_id: str, limits: Limits) -> None:
        """Change what can change on a living container: memory, processors and pids."""

    @abstractmethod
    def log_limit(self, container_id: str) -> LogLimit | None:
        """Return what bounds a container's log, None where nothing does or the container has gone."""

    @abstractmethod
    def failure(self, container_id: str) -> str:
        """Return why a container is not running, with its last output: for a message."""

    @abstractmethod
    def events(self, since: int, until: int | None = None) -> EventStream:
        """Listen to what happens to Bailey's containers, from `since` on (nanoseconds since the epoch).

        Of its past the engine knows what it still remembers. With `until` the stream ends there.
        """

    @abstractmethod
    def ended(self, container_id: str) -> Ended | None:
        """Return how a container last ended; None where it runs, has never run, or has gone."""

    @abstractmethod
    def log_tail(self, container_id: str, lines: int) -> Sequence[str]:
        """Return the last lines of a container's output; empty where it has gone."""

    @property
    @abstractmethod
    def socket(self) -> Path:
        """The socket at which the engine answers."""

    @abstractmethod
    def client(self) -> Sequence[str]:
        """Return the words by which the engine's own command-line client is called for this engine."""
