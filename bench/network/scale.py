"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Turns, and what is done in each."""

    policies: int = 1000
    joins: int = 60  # with few on the bridge, and again with all
    puts: int = 60
    peers: int = 20  # of what is done by programs of the distribution
    rounds: int = 7
    seconds: float = 2.0  # of each stream
    flushes: int = 200
    starts: int = 40  # through the gate, of each kind


FULL = Scale()
# To see that it works; its figures mean little.
QUICK = Scale(policies=50, joins=10, puts=10, peers=5, rounds=1, seconds=1.0, flushes=10, starts=5)
