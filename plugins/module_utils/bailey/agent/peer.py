"""Who is at the gate: only the kernel is asked, never the peer itself."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import HostError
from ..host.cgroup import container_of
from ..host.idmap import IDENTITY, IdMap, read_id_map
from ..host.proc import read_process


class StrangerError(HostError):
    """Who connected is not the PID 1 of a container."""


@dataclass(frozen=True)
class Peer:
    """PID 1 of a container: its number on the host, a descriptor that stands for this very process, its uid there.

    `ids` is the mapping that it lives in, None where that is none that this platform makes.
    """

    pid: int
    pidfd: int
    uid: int
    container: str
    ids: IdMap | None = IDENTITY

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return not select.select([self.pidfd], [], [], 0)[0]

    def kill(self, grace: float) -> None:
        """Give it a moment to end by itself, then kill it, by the descriptor: its number may be another's."""
        if not select.select([self.pidfd], [], [], grace)[0]:
            try:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            except ProcessLookupError:
                return


@contextmanager
def identified(pid: int) -> Iterator[Peer]:
    """Find out whose PID 1 a process is, and keep hold of it. Raises StrangerError where it is none's."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError as error:
        raise StrangerError(f"process {pid} has ended") from error
    try:
        yield _identify(pid, descriptor)
    finally:
        os.close(descriptor)


def _identify(pid: int, descriptor: int) -> Peer:
    process, container, ids = read_process(pid), container_of(pid), read_id_map(pid)
    if process is None:
        raise StrangerError(f"process {pid} has ended")
    if process.namespace_pid != 1:
        raise StrangerError(f"process {pid} is number {process.namespace_pid} of its container, not 1")
    if container is None:
        raise StrangerError(f"process {pid} is in no container")
    peer = Peer(pid, descriptor, process.uid, container, ids)
    if not peer.alive:  # the files that were read may have been another's
        raise StrangerError(f"process {pid} has ended")
    return peer
