"""What ends the bench."""

from __future__ import annotations


class BenchError(Exception):
    """A competitor did not do what it was timed for; its figures would mean nothing."""
