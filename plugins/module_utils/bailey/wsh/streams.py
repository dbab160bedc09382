"""The streams of a session: its input is fed from bytes or a file, its output is kept up to a limit or passed on."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO

_CHUNK = 1 << 16
_PIPE_MAX = 1 << 20  # what a pipe of an ordinary user holds at most

Sink = Callable[[bytes], None]


class Input:
    """The program's input: a descriptor, and what is still to be written to it."""

    def __init__(self, descriptor: int, source: bytes | BinaryIO) -> None:
        self.descriptor = descriptor
        self._file = None if isinstance(source, bytes) else source
        self._pending = memoryview(source if isinstance(source, bytes) else b"")

    def write(self) -> bool:
        """Write what there is room for; False when all is written, or nobody reads it any more."""
        if not self._pending and self._file is not None:
            self._pending = memoryview(self._file.read(_CHUNK))
        if not self._pending:
            return False
        try:
            self._pending = self._pending[os.write(self.descriptor, self._pending) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return bool(self._pending) or self._file is not None


class Output:
    """One stream of output: a descriptor, and what came from it."""

    def __init__(self, descriptor: int, sink: Sink | None, limit: int) -> None:
        self.descriptor = descriptor
        self.kept = bytearray()
        self.truncated = False
        self._sink = sink
        self._limit = limit

    def read(self) -> int | None:
        """Take a chunk of what is there and return its size: 0 at the end, None where there is nothing yet."""
        try:
            data = os.read(self.descriptor, _CHUNK)
        except BlockingIOError:
            return None
        if self._sink is not None:
            if data:
                self._sink(data)
        else:
            room = max(self._limit - len(self.kept), 0)
            self.kept += data[:room]
            self.truncated = self.truncated or len(data) > room
        return len(data)

    def read_rest(self) -> None:
        """Take what the pipe holds at this moment, and no more, however fast somebody fills it."""
        taken = 0
        while taken < _PIPE_MAX and (size := self.read()):
            taken += size
