"""Whether and when an instance starts again."""

from __future__ import annotations

import pytest
from bailey.agent.policy import BY_HAND, LONGEST_DELAY, STABLE, Backoff, End, decide
from bailey.instance_state import BACKOFF, EXITED, FAILED, REFUSED


def backoff(ends: int = 1) -> Backoff:
    return Backoff(ends)


class TestBackoff:
    def test_doubles_to_a_minute(self) -> None:
        made = Backoff()
        delays = []
        for _ in range(12):
            made.ended(0.0)
            delays.append(made.delay)
        assert delays[:10] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2])
        assert delays[10:] == [LONGEST_DELAY, LONGEST_DELAY]

    @pytest.mark.parametrize(("uptime", "ends"), [(STABLE, 1), (STABLE - 0.1, 6), (0.0, 6), (None, 6)])
    def test_begins_anew_after_a_stable_time(self, uptime: float | None, ends: int) -> None:
        made = backoff(5)
        made.ended(uptime)
        assert made.ends == ends

    def test_never_overflows(self) -> None:
        assert backoff(10**9).delay == LONGEST_DELAY


@pytest.mark.parametrize(
    ("restart", "end", "status"),
    [
        ("always", End(0), BACKOFF),
        ("always", End(1), BACKOFF),
        ("unless-stopped", End(0), BACKOFF),
        ("unless-stopped", End(137), BACKOFF),
        ("on-failure", End(1), BACKOFF),
        ("on-failure", End(None), BACKOFF),
        ("on-failure:3", End(1), BACKOFF),
        ("on-failure", End(0, asked="it is unhealthy"), BACKOFF),
        ("always", End(125, refusal="a limit"), REFUSED),
        ("on-failure", End(0, refusal="a limit"), REFUSED),
    ],
)
def test_what_starts_again(restart: str, end: End, status: str) -> None:
    decision = decide(restart, end, backoff(2), limit=10)
    assert decision.status == status
    assert decision.delay == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("restart", "end", "ends", "status"),
    [
        ("no", End(1), 1, EXITED),
        ("no", End(125, refusal="a limit"), 1, REFUSED),
        ("no", End(0, asked="it is unhealthy"), 1, EXITED),
        ("on-failure", End(0), 1, EXITED),
        ("on-failure:2", End(1), 3, FAILED),
        ("always", End(1), 10, FAILED),
        ("unless-stopped", End(125, refusal="a limit"), 10, FAILED),
        ("on-failure:100", End(1), 10, FAILED),
        ("always", End(143, by_hand=True), 1, EXITED),
        ("on-failure", End(137, by_hand=True), 99, EXITED),
    ],
)
def test_what_does_not(restart: str, end: End, ends: int, status: str) -> None:
    decision = decide(restart, end, backoff(ends), limit=10)
    assert (decision.delay, decision.status) == (None, status)


@pytest.mark.parametrize(("ends", "again"), [(1, True), (2, True), (3, False)])
def test_on_failure_allows_that_many_restarts(ends: int, again: bool) -> None:
    assert (decide("on-failure:2", End(1), backoff(ends), limit=10).delay is not None) == again


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (End(3), "it ended with exit code 3"),
        (End(143), "it was ended by signal 15"),
        (End(137, oom=True), "it was killed for memory"),
        (End(None), "it ended"),
        (End(125, refusal="pids_limit is 7, not 8"), "pids_limit is 7, not 8"),
        (End(0, asked="it is unhealthy: no"), "it is unhealthy: no"),
        (End(143, by_hand=True), BY_HAND),
    ],
)
def test_the_reason_says_how_it_ended(end: End, reason: str) -> None:
    assert decide("always", end, backoff(), limit=10).reason == reason


def test_a_failure_says_how_often() -> None:
    reason = decide("always", End(1), backoff(4), limit=4).reason
    assert reason == "it ended with exit code 1; it ended 4 times in a row and is left alone"
