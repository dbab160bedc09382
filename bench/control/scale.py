"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Turns, and what is done in each."""

    rounds: int = 5
    few_rounds: int = 3  # of what takes long
    plays: int = 15  # over wsh and local, where five per cent are to be told apart; a third over the others
    commands: int = 60  # one at a time, by each way
    seconds: float = 12.0  # of eight clients
    bytes: int = 1 << 30
    starts: int = 60  # one at a time, of each kind
    starts_8: int = 10  # times eight
    fleet: int = 100


FULL = Scale()
# To see that it works; its figures mean little.
QUICK = Scale(rounds=1, few_rounds=1, plays=1, commands=20, seconds=2.0, bytes=64 << 20, starts=3, starts_8=1, fleet=10)
