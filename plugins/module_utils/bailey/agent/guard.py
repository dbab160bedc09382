"""Watching over the firewall: when somebody else has changed it, the tenants stand still until it is as it was.

A thread of its own, so that neither the engine nor a busy event loop makes the kernel's word wait. Who was frozen is
written down first: an agent that dies in between leaves nobody frozen for good.
"""

from __future__ import annotations

import json
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import BaileyError, HostError
from ..host.cgroup import Group, Hierarchy
from ..host.files import read_text, write_atomic
from ..host.freezer import freeze, is_frozen, thaw
from ..host.nft import TableEvents
from .faults import fault
from .ledger import LOG
from .network import HostNetwork

_RETRY_SECONDS = 1.0
_UNNOTICED_SECONDS = 2.0  # longer than it ever takes until the kernel's word is read
_VERSION = 1


@dataclass
class Repairs:
    """How often the firewall was made again, and how long tenants stood still for it the last time, in seconds."""

    count: int = 0
    seconds: float = 0.0
    failed: str = ""  # why it could not be, the last time: they still stand still


class Guard:
    """The watch over one host's tables. `told` is called, in the guard's thread, whenever there is something new."""

    def __init__(self, network: HostNetwork, hierarchy: Hierarchy, run_dir: Path, told: Callable[[], None]) -> None:
        if "freezer" not in hierarchy.roots:
            raise HostError("the kernel's freezer is not mounted, and tenants without a firewall have to be frozen")
        self.repairs = Repairs()
        self._network = network
        self._hierarchy = hierarchy
        self._note = note_of(run_dir)
        self._told = told
        self._events = TableEvents(network.settings.table)
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._suspicions: list[tuple[str, float]] = []
        self._well: float | None = None  # when the tables were last as they should be, while they are not
        self._frozen: set[str] = set()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="guard", daemon=True)

    @property
    def interrupted(self) -> bool:
        """Whether an agent before this one ended in the middle of a repair."""
        return bool(self._noted())

    def start(self) -> None:
        """Let whoever an agent before this one froze go on, if the tables stand again, and begin to watch."""
        if self._network.in_force:
            self._thaw({name: group for name in self._noted() if (group := self._hierarchy.find(name)) is not None})
        else:
            self.repairs.failed = "there is no bridge to make it for"
        self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._closing = True
        os.write(self._wake, b"x")
        if self._thread.is_alive():
            self._thread.join(_RETRY_SECONDS)
        self._events.close()
        for descriptor in (self._woken, self._wake):
            os.close(descriptor)

    def suspect(self, reason: str, well: float) -> None:
        """Have the firewall made again: something of it was found to be wrong, which it was not at a time before."""
        self._suspicions.append((reason, well))
        os.write(self._wake, b"x")

    def _run(self) -> None:
        while not self._closing:
            try:
                self._wait()
            except Exception as error:
                LOG.exception("the watch over the firewall")
                self.repairs.failed = repr(error)
                self._told()
                time.sleep(_RETRY_SECONDS)

    def _wait(self) -> None:
        """Wait until there is something to do, and do it."""
        timeout = _RETRY_SECONDS if self.repairs.failed else None
        readable, _, _ = select.select([self._events.fileno(), self._woken], [], [], timeout)
        if self._woken in readable:
            os.read(self._woken, 4096)
        touched = self._events.fileno() in readable and self._events.touched()
        if not self._closing and (touched or self._suspicions or self.repairs.failed):
            self._repair()

    def _repair(self) -> None:
        begun = time.monotonic()
        suspicions = [self._suspicions.pop(0) for _ in range(len(self._suspicions))]  # another thread may add one
        reason = suspicions[0][0] if suspicions else "somebody else has changed its tables"
        before = [time.time() - _UNNOTICED_SECONDS] if self._well is None else [self._well]
        self._well = min(before + [well for _, well in suspicions])
        frozen = self._freeze()
        fault("frozen")
        try:
            ended = self._network.rebuild(self._well)
        except (BaileyError, OSError) as error:
            if self.repairs.failed != str(error):
                LOG.error("the firewall cannot be made again, and %d tenants stand still: %s", len(frozen), error)
            self.repairs.failed = str(error)
            self._told()
            return
        fault("rebuilt")
        self._thaw(frozen)
        self._well = None
        self.repairs.count += 1
        self.repairs.seconds, self.repairs.failed = time.monotonic() - begun, ""
        LOG.warning(
            "the firewall is made again: %s; %d tenants stood still for %.0f ms, %d connections ended",
            reason,
            len(frozen),
            self.repairs.seconds * 1000,
            ended,
        )
        self._told()

    def _freeze(self) -> dict[str, Group]:
        """Freeze every container on the bridge; those that somebody else has frozen are left to whoever did."""
        noted = self._noted()
        found = {container: self._hierarchy.find(container) for container in self._network.containers.values()}
        groups = {
            container: group
            for container, group in found.items()
            if group is not None and (container in noted or container in self._frozen or not _stands_still(group))
        }
        self._frozen = set(groups)
        try:
            content = {"version": _VERSION, "containers": sorted(groups)}
            write_atomic(self._note, json.dumps(content).encode() + b"\n")
        except OSError as error:
            LOG.error("who is frozen cannot be written down: %s", error)
        fault("noted")
        for container, group in groups.items():
            try:
                freeze(group)
            except OSError as error:
                LOG.warning("container %s cannot be frozen: %s", container[:12], error)
        return groups

    def _thaw(self, groups: dict[str, Group]) -> None:
        for container, group in groups.items():
            try:
                thaw(group)
            except OSError as error:  # it has ended
                LOG.info("container %s cannot be thawed: %s", container[:12], error)
        self._frozen.clear()
        self._note.unlink(missing_ok=True)

    def _noted(self) -> list[str]:
        try:
            content = json.loads(read_text(self._note) or "{}")
            found = content["containers"] if content["version"] == _VERSION else []
        except (ValueError, LookupError, TypeError, RecursionError):  # none of ours, or none at all
            return []
        return found if isinstance(found, list) and all(isinstance(item, str) for item in found) else []


def _stands_still(group: Group) -> bool:
    try:
        return is_frozen(group)
    except OSError:  # it ends
        return False


def note_of(run_dir: Path) -> Path:
    """Return the file that says which containers are frozen."""
    return run_dir / "frozen.json"
