"""Points at which a test has the agent killed. Nothing else reads BAILEY_FAULT, and without it nothing happens.

A kill in the middle of a gate must leave either a gate that is still closed and asked again, or one that has opened
and is found so. The only way to know is to die at each point, as a power cut or the kernel's out-of-memory killer
would have it, and to start again.
"""

from __future__ import annotations

import os
import signal

GATE_POINTS = (
    "knocked",  # a connection was accepted
    "identified",  # its peer is PID 1 of the instance's container
    "proven",  # every limit holds
    "bound",  # the control socket has its name, nobody listens
    "described",  # wsh's file is written
    "sent",  # wshd has its word to go
    "opened",  # wshd has answered
    "unbound",  # the boot socket is gone
    "written",  # the state file says open
)
REPAIR_POINTS = (
    "noted",  # who is to be frozen is written down
    "frozen",  # every tenant stands still
    "rebuilt",  # the firewall stands again
)
REFUSAL_POINTS = ("refusing", "refused", "told", "killed")
_ARMED = os.environ.get("BAILEY_FAULT", "")


def fault(point: str) -> None:
    """Die here and now, if this is the point that was asked for."""
    if point == _ARMED:
        os.kill(os.getpid(), signal.SIGKILL)
