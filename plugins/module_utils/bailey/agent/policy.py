"""Whether an instance that has ended starts again, and when: a decision without anything around it."""

from __future__ import annotations

from dataclasses import dataclass

from ..backends.base import signal_of
from ..instance_state import BACKOFF, EXITED, FAILED, REFUSED

FIRST_DELAY, LONGEST_DELAY = 0.1, 60.0  # seconds
STABLE = 10.0  # seconds behind an open gate after which earlier ends are forgotten

# Reasons that are not the instance's own doing. They are looked at again whenever something changes.
DECLARED_STOPPED = "it is declared stopped"
DRAINED = "the host is being drained"
GONE = "its container has gone; the next run of the playbook makes it again"
OLDER = "its container is of an older declaration; the next run of the playbook makes it again"
HELD = "it is being changed"
UNREAD = "its spec file cannot be read: "
PASSING = (DECLARED_STOPPED, DRAINED, GONE, OLDER, HELD)

# What a scan's rules had done; each is followed by the rule's name and what it has found.
FROZEN_BY_SCAN, STOPPED_BY_SCAN = "frozen by scan rule ", "stopped by scan rule "

NOT_BY_POLICY = "its restart policy is no"
BY_HAND = "it was stopped by hand"


@dataclass
class Backoff:
    """How often an instance has ended in a row, and what that makes of its next start."""

    ends: int = 0

    def ended(self, uptime: float | None) -> None:
        """Count an end; `uptime` is how long it was behind its open gate, None where that never opened."""
        self.ends = 1 if uptime is not None and uptime >= STABLE else self.ends + 1

    @property
    def delay(self) -> float:
        """Return the seconds until the next start: doubling with every end in a row."""
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(max(0, self.ends - 1), 32))


@dataclass(frozen=True)
class End:
    """How an instance ended, and what was known of it then. `refusal` is why its gate stayed closed."""

    code: int | None
    oom: bool = False
    by_hand: bool = False
    asked: str = ""  # why the agent itself ended it to start it again
    refusal: str = ""

    def describe(self) -> str:
        """Return how it ended, for a reader."""
        if self.code is None:
            return "it ended"
        signal = signal_of(self.code)
        if signal is None:
            return f"it ended with exit code {self.code}"
        return "it was killed for memory" if self.oom else f"it was ended by signal {signal}"


@dataclass(frozen=True)
class Decision:
    """What follows. `delay` is None where it does not start again; `status` and `reason` are published then."""

    delay: float | None
    status: str
    reason: str


def at_end(end: End) -> tuple[str, str]:
    """Return the status and the reason that are published at once, before it is decided what follows."""
    if end.asked:
        return BACKOFF, end.asked
    if end.refusal:
        return REFUSED, end.refusal
    return EXITED, BY_HAND if end.by_hand else end.describe()


def decide(restart: str, end: End, backoff: Backoff, limit: int) -> Decision:
    """Decide by the instance's restart policy; `limit` bounds the ends in a row under every policy."""
    policy, _, times = restart.partition(":")
    text = end.asked or end.refusal or end.describe()
    status = REFUSED if end.refusal else EXITED
    if end.by_hand:
        return Decision(None, EXITED, BY_HAND)
    if policy == "no" or (policy == "on-failure" and end.code == 0 and not end.asked and not end.refusal):
        return Decision(None, status, text)
    allowed = min(limit, int(times) + 1) if times else limit
    if backoff.ends >= allowed:
        return Decision(None, FAILED, f"{text}; it ended {backoff.ends} times in a row and is left alone")
    return Decision(backoff.delay, REFUSED if end.refusal else BACKOFF, text)
