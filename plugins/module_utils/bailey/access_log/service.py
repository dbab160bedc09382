"""The service: from ulogd's lines to the log's, within its bounds, until it is told to end."""

from __future__ import annotations

import logging
import os
import select
import selectors
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from ..errors import HostError
from ..leases import LeaseReader
from .bounds import RATE, SEQUENCE, SIZE, TokenBucket, read_counts, write_counts
from .files import LogFiles
from .lines import View, dropped_line, views_of
from .packet import Report, format_time, parse_report
from .settings import Settings
from .ulogd import Ulogd

LOG = logging.getLogger("bailey-access-log")
_READ_SIZE = 1 << 18
_TICK = 1.0  # seconds between two looks at what was dropped
_START_SECONDS = 10.0
_LINGER = 0.2  # seconds in which the kernel hands over what it holds back
_END_SECONDS = 5.0
_SEQUENCES = 1 << 32


class Writer:
    """What is made of ulogd's output; its caller sees to when."""

    def __init__(self, settings: Settings) -> None:
        self._state = settings.run_dir / "access-log/counts.json"
        self.counts = read_counts(self._state)
        self._leases = LeaseReader(settings.run_dir, self.counts.unlogged_since)
        self._bucket = TokenBucket(settings.rate)
        self._files = LogFiles(settings.log, settings.max_size, settings.files)
        self._files.write([])  # so that there is a log from the start
        self._partial = b""
        self._next = 0  # the number that the kernel gives to the next packet; a new ulogd's first is 0
        self._kept = ""

    def take(self, data: bytes, read_at: float) -> None:
        """Write what a piece of ulogd's output makes; a line may come in several pieces."""
        *whole, self._partial = (self._partial + data).split(b"\n")
        views: list[View] = []
        for line in whole:
            try:
                report = parse_report(line, read_at)
            except ValueError:
                continue  # its number is missing, and so it is counted with the next
            self._count_missing(report)
            if report.packet is not None:
                views.extend(views_of(report.packet, self._leases.owner))
        self._write(views)

    def _count_missing(self, report: Report) -> None:
        if report.sequence is not None:
            self.counts.drop(SEQUENCE, (report.sequence - self._next) % _SEQUENCES)
            self._next = (report.sequence + 1) % _SEQUENCES

    def _write(self, views: list[View]) -> None:
        allowed = self._bucket.take(len(views))
        written = self._files.write([view.line() for view in views[:allowed]]) if allowed else 0
        self.counts.written += written
        self.counts.drop(RATE, len(views) - allowed)
        self.counts.drop(SIZE, allowed - written)

    def tell(self, now: float) -> None:
        """Write what was dropped, a line for each cause and instance. What finds no room is told the next time."""
        for item in self._leases.unlogged():
            self.counts.drop(RATE, item.count, item.owner)
        self.counts.unlogged_since = self._leases.unlogged_since
        for (reason, owner), count in list(self.counts.untold.items()):
            if self._files.write([dropped_line(format_time(now), reason, count, owner)]) == 0:
                break
            del self.counts.untold[reason, owner]
        if str(self.counts) != self._kept:
            with suppress(OSError):  # the next time, then
                write_counts(self._state, self.counts)
                self._kept = str(self.counts)

    def close(self) -> None:
        """Tell what is left to tell, and let go of the files."""
        self.tell(time.time())
        self._files.close()
        self._leases.close()


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises HostError where ulogd does not start, or ends by itself."""
    with ExitStack() as stack:
        stopped = stack.enter_context(_stop_signals())
        ulogd = Ulogd(settings.run_dir / "access-log/ulogd.conf", settings.group)
        stack.callback(ulogd.last_words, 0.0)
        writer = Writer(settings)
        stack.callback(writer.close)
        selector = stack.enter_context(selectors.DefaultSelector())
        for descriptor in (stopped, ulogd.output, ulogd.messages):
            selector.register(descriptor, selectors.EVENT_READ)
        _Loop(settings, selector, stopped, ulogd, writer).run()


class _Loop:
    def __init__(
        self, settings: Settings, selector: selectors.BaseSelector, stopped: int, ulogd: Ulogd, writer: Writer
    ) -> None:
        self._settings, self._selector, self._stopped = settings, selector, stopped
        self._ulogd, self._writer = ulogd, writer
        self._started = self._told = time.monotonic()
        self._is_announced = self._is_ended = False

    def run(self) -> None:
        """Go round until it is told to end, or ulogd has ended."""
        while self._turn(_TICK):
            self._announce()
        if self._is_ended and not self._is_told_to_end():
            raise HostError(self._ulogd.last_words())
        self._selector.unregister(self._stopped)
        self._drain(_LINGER)
        self._ulogd.end()
        self._drain(_END_SECONDS)
        LOG.info("ended: %s", self._writer.counts)

    def _turn(self, seconds: float) -> bool:
        """Take in what has come, and say whether to go on."""
        ready = {key.fd for key, _ in self._selector.select(seconds)}
        if self._ulogd.messages in ready:
            for words in self._ulogd.hear():
                LOG.info("ulogd: %s", words)
        if self._ulogd.output in ready:
            data = os.read(self._ulogd.output, _READ_SIZE)
            self._is_ended = not data
            self._writer.take(data, time.time())
        if time.monotonic() - self._told >= _TICK:
            self._told = time.monotonic()
            self._writer.tell(time.time())
        return self._stopped not in ready and not self._is_ended

    def _announce(self) -> None:
        if self._is_announced:
            return
        if self._ulogd.is_ready:
            self._is_announced = True
            LOG.info("ready: NFLOG group %d to %s", self._settings.group, self._settings.log)
        elif time.monotonic() - self._started > _START_SECONDS:
            raise HostError(f"ulogd is not ready after {_START_SECONDS:g} s")

    def _is_told_to_end(self) -> bool:
        """Say whether the signal is there, which a supervisor may have given to ulogd at the same time."""
        return bool(select.select([self._stopped], [], [], _LINGER)[0])

    def _drain(self, seconds: float) -> None:
        """Take in what still comes, until ulogd's output ends or the time is over."""
        deadline = time.monotonic() + seconds
        while not self._is_ended and (left := deadline - time.monotonic()) > 0:
            self._turn(left)


@contextmanager
def _stop_signals() -> Iterator[int]:
    """Yield a descriptor that can be read once this process has been told to end."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writing)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reading)
        os.close(writing)
