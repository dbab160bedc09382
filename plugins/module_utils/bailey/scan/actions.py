"""Ending one process: the very one that was found, whatever has become of its number since."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from ..host.cgroup import Group
from ..host.proc import PROC
from .findings import KILLED
from .processes import Process, still_there


def kill(process: Process, group: Group, proc: Path = PROC) -> str:
    """Kill a process of an instance's control group, and return what was done.

    The descriptor is opened first and the process looked at again after it: from then on the number cannot be
    another's (pidfd_open(2)).
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return "nothing: it has ended"
    try:
        if not still_there(process, proc) or process.pid not in group.pids():
            return "nothing: it has ended"
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        return "nothing: it has ended"
    except OSError as error:
        return f"nothing: it could not be killed: {error.strerror}"
    finally:
        os.close(descriptor)
    return KILLED
