"""The highest hard resource limits that a service started on this host may hand on."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import HostError
from ..rlimits import KINDS, UNLIMITED
from .proc import PROC, read_process, read_rlimits

_CAP_SYS_RESOURCE = 24
SYSTEMD_MARK = Path("/run/systemd/system")


def has_systemd() -> bool:
    """Say whether systemd is PID 1, by the mark that systemd itself documents for this."""
    return SYSTEMD_MARK.is_dir()


def read_ceilings(*, systemd: bool, proc: Path = PROC) -> dict[str, int]:
    """Return the highest hard value of each limit, UNLIMITED where there is no bound.

    Who holds CAP_SYS_RESOURCE may raise any limit; only open files then have a bound, fs.nr_open.
    Without it (in a container, say) nothing gets above the hard limits of whoever starts services:
    PID 1 under systemd, this very process otherwise.
    """
    me = os.getpid()
    process = read_process(me, proc)
    if process is None:
        raise HostError(f"{proc}/{me}/status: cannot be read")
    if process.capabilities_effective >> _CAP_SYS_RESOURCE & 1:
        return {**dict.fromkeys(KINDS, UNLIMITED), "nofile": int((proc / "sys/fs/nr_open").read_text())}
    return {name: limit.hard for name, limit in read_rlimits(1 if systemd else me, proc).items()}
