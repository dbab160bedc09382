"""A finding: what a rule has found in whose instance, and what followed. As JSON it goes from the scan to the agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import HostError

# What has been done so far. The agent alone freezes and stops.
REPORTED, KILLED, LEFT, NOTHING = "reported", "killed", "left to the agent", "nothing: only looked"
FROZEN, STOPPED, CHANGED = "frozen", "stopped", "nothing: it has ended, or is being changed"
_TEXT = (
    "rule", "instance", "detail", "tenant", "app", "container", "path", "sha256", "action", "taken", "evidence",
)  # fmt: skip


@dataclass
class Finding:
    """One finding. `path` is as the tenant's processes see it; `pid` is the host's number, None where it is of none.

    `action` is what the rule asks for, `taken` what was done; `evidence` is a file of the host's, `new` whether it
    was not found before.
    """

    rule: str
    instance: str
    detail: str
    tenant: str = ""
    app: str = ""
    container: str = ""
    pid: int | None = None
    path: str = ""
    sha256: str = ""
    action: str = ""
    taken: str = ""
    evidence: str = ""
    new: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return it as a mapping."""
        return asdict(self)


def parse_finding(content: object) -> Finding:
    """Read what as_json() returned. Raises HostError for anything else."""
    if not isinstance(content, Mapping) or not all(isinstance(content.get(name), str) for name in _TEXT):
        raise HostError("the scan has sent something that is no finding")
    pid = content.get("pid")
    if pid is not None and not isinstance(pid, int):
        raise HostError("the scan has sent a finding whose pid is no number")
    words = {name: str(content[name]) for name in _TEXT}
    return Finding(**words, pid=pid, new=content.get("new") is True)
