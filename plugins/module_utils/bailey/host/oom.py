"""Being told at once when processes of a control group are killed for memory.

The counter is gone with the group, and the group goes with the container: who looks afterwards sees nothing. And the
engine's own flag depends on who is faster, too.
"""

from __future__ import annotations

import contextlib
import os
import select

from .cgroup import Group, GroupV2

_SIZE = 4096
_EVENT_CONTROL = "cgroup.event_control"


class OomWatch:
    """One group's kills for memory: a descriptor that becomes readable, and the count. Close it when done.

    Version 2 tells of other events, too, and only the count says which it was. Version 1 tells of memory that is
    short, a moment before it kills: `short` is set then, whatever the count still says.
    """

    def __init__(self, group: Group) -> None:
        """Begin to watch. Raises OSError where the group has gone."""
        self.short = False
        self._counter = os.open(group.oom_counter, os.O_RDONLY | os.O_CLOEXEC)
        self._poll: select.epoll | None = None
        try:
            if isinstance(group, GroupV2):
                # The kernel marks the file itself, as it does with all of a group's event files: cgroup-v2.rst.
                self._poll = select.epoll()
                self._poll.register(self._counter, select.EPOLLPRI | select.EPOLLET)
                self._descriptor = self._poll.fileno()
            else:
                self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                control = group.oom_counter.with_name(_EVENT_CONTROL)
                control.write_text(f"{self._descriptor} {self._counter}")  # cgroup-v1/memory.rst, 10. OOM Control
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return what becomes readable when there is something new, and when the group goes."""
        return self._descriptor

    def read(self) -> int | None:
        """Take note of what is new, and return the count; None once the group has gone."""
        if self._poll is not None:
            self._poll.poll(0)
        else:
            with contextlib.suppress(BlockingIOError):
                self.short = os.eventfd_read(self._descriptor) > 0 or self.short
        try:
            # Through this very descriptor: to read it is what tells the kernel that the news have been seen.
            return parse_count(os.pread(self._counter, _SIZE, 0).decode())
        except OSError:
            return None

    def close(self) -> None:
        """End it."""
        os.close(self._counter)
        if self._poll is not None:
            self._poll.close()
        elif hasattr(self, "_descriptor"):
            os.close(self._descriptor)


def parse_count(text: str | None) -> int | None:
    """Read the counter's line out of memory.events or memory.oom_control."""
    for line in (text or "").splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill" and number.isdigit():
            return int(number)
    return None
