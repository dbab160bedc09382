"""Which of an instance's processes descend neither from its declared program nor from a session of wsh.

wshd starts the program first, and each session as the leader of a session of its own (setsid(2)). A process that lost
its parent comes to be a child of wshd, too: it leads no session, or there are more of those than wshd has.
"""

from __future__ import annotations

from collections.abc import Mapping

from .processes import Process


def foreign(processes: Mapping[int, Process], init: int, sessions: int) -> list[Process]:
    """Return the uppermost processes of the trees that are nobody's.

    `sessions` is how many wshd has open. Where it has some, no leader can be told from one of theirs, and none is
    returned.
    """
    children = sorted(
        (process for process in processes.values() if process.parent == init and process.pid != init),
        key=lambda process: (process.started, process.pid),
    )
    # Nothing in the instance is older than the program but wshd: while it lives it is the first.
    return [process for process in children[1:] if not process.leads_session or not sessions]
