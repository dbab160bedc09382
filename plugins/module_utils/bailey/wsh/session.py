"""One session with wshd as a machine that never blocks: a loop tells it what is ready and when its time has come.

Whatever a tenant does - floods its output, never reads its input, leaves a grandchild behind that keeps a pipe -
costs its own session, within bounds of memory and time.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import CannotExecuteError, ProtocolError, SessionError, UnreachableError
from .protocol import (
    OLDEST,
    VERSION,
    Ended,
    Error,
    ErrorCode,
    Exec,
    Exited,
    Flags,
    Frame,
    FrameReader,
    Signal,
    Started,
    encode,
)
from .streams import Input, Output, Sink
from .transport import close_all, is_stream, open_socket, receive

ANSWER_SECONDS = 20.0  # for the connection and the word that the program exists
DRAIN_IDLE = 0.1  # seconds without a byte after which what is still open belongs to a grandchild
DRAIN_SECONDS = 2.0  # for a grandchild that goes on writing
_RETRY = 0.005  # seconds between tries to connect while the backlog is full
_STREAMS = 3
_KILL = 9


@dataclass(frozen=True)
class Completed:
    """How a session ended: by a code or a signal, killed for memory (`oom`), or because its time was up.

    `truncated` says that output beyond the limit was read and thrown away. `started` is in seconds since the
    epoch, `elapsed` in seconds.
    """

    code: int | None
    signal: int | None
    oom: bool = False
    stdout: bytes = b""
    stderr: bytes = b""
    timed_out: bool = False
    truncated: bool = False
    started: float = 0.0
    elapsed: float = 0.0


@dataclass(frozen=True)
class Work:
    """What a session is to do. Output goes to the sinks; where there are none it is kept, up to `output_limit`."""

    message: Exec
    stdin: bytes | BinaryIO = b""
    timeout: float | None = None
    output_limit: int = 64 << 20
    stdout: Sink | None = None
    stderr: Sink | None = None


class Session:
    """One session; `result` or `error` is set when it is over. Until then it wants `expire` called at `deadline`."""

    def __init__(self, path: Path, work: Work, version: int = VERSION) -> None:
        self.result: Completed | None = None
        self.error: Exception | None = None
        self.deadline = float("inf")
        self._path = path
        self._work = work
        self._version = version
        self._selector: selectors.BaseSelector | None = None
        self._connection: socket.socket | None = None
        self._reader = FrameReader()
        self._to_send = memoryview(b"")
        self._received: list[int] = []  # descriptors that no frame has spoken of yet
        self._input: Input | None = None
        self._outputs: list[Output] = []
        self._open: set[Output] = set()
        self._started = self._moment = 0.0
        self._drained_by: float | None = None
        self._ended: Exited | None = None
        self._timed_out = False

    @property
    def over(self) -> bool:
        """Whether there is a result or an error."""
        return self.result is not None or self.error is not None

    def start(self, selector: selectors.BaseSelector) -> None:
        """Begin. What the session waits for is registered with itself and a handler as the key's data."""
        self._selector = selector
        self._started, self._moment = time.time(), time.monotonic()
        with self._guarded():
            self._connect()

    def handle(self, handler: Callable[[int], None], mask: int) -> None:
        """Go on: what `handler` waits for is ready."""
        if not self.over:
            with self._guarded():
                handler(mask)

    def expire(self) -> None:
        """Go on: the deadline has passed."""
        with self._guarded():
            if self._drained_by is not None:
                self._finish()
            elif time.monotonic() >= self._limit():
                self._time_is_up()
            elif self._connection is None:
                self._connect()
            else:
                self._no_answer()

    def close(self) -> None:
        """Let go of everything. A session that has not ended dies of it, or goes on, as was asked for."""
        self._close_input()
        self._close_connection()
        for output in list(self._open):
            self._close_output(output)
        close_all(self._received)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.error = error
        if self.over:
            self.close()
        else:
            self._schedule()

    # Time.

    def _limit(self) -> float:
        return float("inf") if self._work.timeout is None else self._moment + self._work.timeout

    def _answer_limit(self) -> float:
        return float("inf") if self._outputs else self._moment + ANSWER_SECONDS

    def _schedule(self) -> None:
        now = time.monotonic()
        if self._drained_by is not None:
            self.deadline = min(now + DRAIN_IDLE, self._drained_by)
        elif self._connection is None:
            self.deadline = min(now + _RETRY, self._limit())
        else:
            self.deadline = min(self._limit(), self._answer_limit())

    def _time_is_up(self) -> None:
        """Kill what runs: the end of the connection does, or where that was not asked for, a signal."""
        self._timed_out = True
        if self._connection is not None and not self._work.message.flags & Flags.KILL_ON_DISCONNECT:
            with contextlib.suppress(OSError):
                self._connection.send(encode(Signal(_KILL), self._version))
        self._drain()

    def _no_answer(self) -> None:
        raise UnreachableError(f"{self._path}: the container's first process has not answered for {ANSWER_SECONDS:g} s")

    # The connection.

    def _connect(self) -> None:
        if time.monotonic() >= self._answer_limit():
            self._no_answer()
        self._connection = open_socket(self._path)
        if self._connection is not None:
            self._reader = FrameReader()
            self._to_send = memoryview(encode(self._work.message, self._version))
            both = selectors.EVENT_READ | selectors.EVENT_WRITE
            self._watch(self._connection, both, self._on_connection)

    def _close_connection(self) -> None:
        if self._connection is not None:
            self._unwatch(self._connection)
            self._connection.close()
            self._connection = None

    def _on_connection(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE and self._connection is not None:
            self._send(self._connection)
        if mask & selectors.EVENT_READ and self._connection is not None:
            self._receive(self._connection)

    def _send(self, connection: socket.socket) -> None:
        try:
            self._to_send = self._to_send[connection.send(self._to_send) :]
        except BlockingIOError:
            return
        except OSError:
            self._to_send = memoryview(b"")  # why wshd hung up is still to be read
        if not self._to_send and self._selector is not None:
            self._selector.modify(connection, selectors.EVENT_READ, (self, self._on_connection))

    def _receive(self, connection: socket.socket) -> None:
        try:
            data, descriptors = receive(connection, _STREAMS)
        except BlockingIOError:
            return
        except OSError as error:
            raise UnreachableError(f"{self._path}: {error.strerror}") from error
        if not data:
            raise UnreachableError(f"{self._path}: the connection ended before the session; the instance has ended")
        self._received += descriptors
        for frame in self._reader.feed(data):
            if self._connection is connection:  # nothing counts after a session's last frame
                self._on_frame(frame)

    def _on_frame(self, frame: Frame) -> None:
        message = frame.decode(self._version)
        if isinstance(message, Started) and not self._outputs:
            self._begin()
        elif isinstance(message, Exited) and self._outputs:
            self._ended = message
            self._drain()
        elif isinstance(message, Error):
            self._on_error(message)
        else:
            raise ProtocolError(f"{self._path}: {frame.kind.name} is not expected there")

    def _on_error(self, message: Error) -> None:
        if message.newest is not None and OLDEST <= message.newest < self._version and not self._outputs:
            self._version = message.newest
            self._close_connection()
            self._connect()
        elif message.errno is not None:
            raise CannotExecuteError(message.text, message.code, message.errno)
        elif message.code is ErrorCode.ENDING:
            raise UnreachableError(message.text or "the instance ends")
        else:
            raise SessionError(message.text or message.code.name, message.code)

    # The streams.

    def _begin(self) -> None:
        """Take the descriptors that came with STARTED: an input and two outputs."""
        if len(self._received) != _STREAMS or not all(is_stream(descriptor) for descriptor in self._received):
            raise ProtocolError(f"{self._path}: STARTED did not come with {_STREAMS} pipes")
        for descriptor in self._received:
            os.set_blocking(descriptor, False)
        first, *others = self._received
        self._received = []
        sinks = (self._work.stdout, self._work.stderr)
        self._outputs = [
            Output(descriptor, sink, self._work.output_limit) for descriptor, sink in zip(others, sinks, strict=True)
        ]
        self._open, self._input = set(self._outputs), Input(first, self._work.stdin)
        for output in self._outputs:
            self._watch(output.descriptor, selectors.EVENT_READ, self._reading(output))
        self._watch(first, selectors.EVENT_WRITE, self._on_input)
        self._on_input(selectors.EVENT_WRITE)

    def _reading(self, output: Output) -> Callable[[int], None]:
        def on_output(_mask: int) -> None:
            if output.read() == 0:
                self._close_output(output)
                if self._drained_by is not None and not self._open:
                    self._finish()

        return on_output

    def _on_input(self, _mask: int) -> None:
        if self._input is not None and not self._input.write():
            self._close_input()

    def _close_input(self) -> None:
        if self._input is not None:
            self._unwatch(self._input.descriptor)
            os.close(self._input.descriptor)
            self._input = None

    def _close_output(self, output: Output) -> None:
        self._open.discard(output)
        self._unwatch(output.descriptor)
        os.close(output.descriptor)

    def _drain(self) -> None:
        """Read what the program, which has ended, wrote; a grandchild of it is not waited for long."""
        self._close_input()
        self._close_connection()
        self._drained_by = time.monotonic() + DRAIN_SECONDS
        if not self._open:
            self._finish()

    def _finish(self) -> None:
        for output in self._open:
            output.read_rest()
        ended = self._ended
        stdout, stderr = [bytes(output.kept) for output in self._outputs] or [b"", b""]
        self.result = Completed(
            code=ended.value if ended is not None and ended.how is Ended.CODE else None,
            signal=ended.value if ended is not None and ended.how is not Ended.CODE else None,
            oom=ended is not None and ended.how is Ended.MEMORY,
            stdout=stdout,
            stderr=stderr,
            timed_out=self._timed_out,
            truncated=any(output.truncated for output in self._outputs),
            started=self._started,
            elapsed=time.monotonic() - self._moment,
        )

    # The selector.

    def _watch(self, what: int | socket.socket, events: int, handler: Callable[[int], None]) -> None:
        if self._selector is not None:
            self._selector.register(what, events, (self, handler))

    def _unwatch(self, what: int | socket.socket) -> None:
        if self._selector is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(what)
