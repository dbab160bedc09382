"""Whom a scan has convicted: instances that stand still, and those that may not run until they are deployed again.

Both stand in files beside what is said of the instance, so that neither the agent's end nor, for who was stopped, the
machine's makes it forgotten.
"""

from __future__ import annotations

import json

from ..agent_files import AgentFiles
from ..errors import HostError
from ..host.cgroup import Group, Hierarchy
from ..host.files import read_text, write_atomic
from ..host.freezer import freeze, is_frozen, thaw
from .ledger import LOG, Record


class Custody:
    """Freezes, and remembers. All of it is of the event loop's thread."""

    def __init__(self, hierarchy: Hierarchy, files: AgentFiles) -> None:
        self._hierarchy, self._files = hierarchy, files

    def remember(self, record: Record) -> None:
        """Take over what a former agent has done with an instance."""
        record.condemned = read_text(self._files.condemned_file(record.name)) or ""
        try:
            content = json.loads(read_text(self._files.frozen_file(record.name)) or "{}")
            same = content["container"] == record.state.container and record.is_open
            record.frozen = str(content["reason"]) if same else ""
        except (ValueError, LookupError, TypeError):  # none of ours, or none at all
            record.frozen = ""

    # Standing still.

    def freeze(self, record: Record, reason: str) -> None:
        """Have an instance stand still until it is let go. Raises HostError where it has ended, OSError."""
        group = self._group(record)
        if group is None:
            raise HostError("it has ended")
        path = self._files.frozen_file(record.name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = {"container": record.state.container, "reason": reason}
        write_atomic(path, json.dumps(content).encode() + b"\n")
        record.frozen = reason
        freeze(group)

    def tend(self, record: Record) -> None:
        """Have an instance that is to stand still do so, whoever has thawed it meanwhile."""
        if not record.frozen or record.holds:
            return
        group = self._group(record)
        try:
            if group is not None and not is_frozen(group):
                freeze(group)
        except OSError as error:
            LOG.warning("%s: it cannot be frozen again: %s", record.name, error)

    def thaw(self, record: Record) -> None:
        """Have an instance run for as long as somebody changes it."""
        group = self._group(record) if record.frozen else None
        try:
            if group is not None:
                thaw(group)
        except OSError as error:  # it has ended
            LOG.info("%s: it cannot be thawed: %s", record.name, error)

    def let_go(self, record: Record) -> None:
        """Have an instance stand still no more."""
        if record.frozen:
            self.thaw(record)
            record.frozen = ""
            self._files.frozen_file(record.name).unlink(missing_ok=True)

    def _group(self, record: Record) -> Group | None:
        return self._hierarchy.find(record.state.container) if record.state.container else None

    # Not running.

    def condemn(self, record: Record, reason: str) -> None:
        """Have an instance start no more until it is pardoned. Raises OSError where that cannot be written down."""
        path = self._files.condemned_file(record.name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, reason.encode())
        record.condemned = reason

    def pardon(self, record: Record) -> None:
        """Forget all that was held against an instance."""
        self.let_go(record)
        record.condemned = ""
        self._files.condemned_file(record.name).unlink(missing_ok=True)
