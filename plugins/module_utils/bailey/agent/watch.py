"""Listening to the engine in a thread of its own, and coming back to it whenever the connection is lost."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from dataclasses import dataclass
from enum import Enum

from ..backends.base import Backend, Event, EventStream
from ..errors import EngineError
from .ledger import LOG

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between two attempts


class Word(Enum):
    """What the watch says beside events."""

    CONNECTED = "connected"  # everything may have changed since: look at all of it
    LOOK = "look"  # somebody wants all of it looked at


@dataclass(frozen=True)
class Lost:
    """The engine does not tell any more."""

    reason: str


Item = Event | Word | Lost


class EngineWatch:
    """One engine's events, in order, with what interrupted them."""

    def __init__(self, backend: Backend, since: int) -> None:
        self._backend = backend
        self._loop = asyncio.get_running_loop()
        self._items: deque[Item] = deque()
        self._arrived = asyncio.Event()
        self._closing = threading.Event()
        self._stream: EventStream | None = None
        self._since = since  # nanoseconds since the epoch

    def start(self) -> None:
        """Begin to listen."""
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def close(self) -> None:
        """End it."""
        self._closing.set()
        self.reconnect()

    def reconnect(self) -> None:
        """Give up the connection that there is, for an engine that has stopped to answer."""
        stream = self._stream
        if stream is not None:
            stream.close()

    def look(self) -> None:
        """Have everything looked at in its turn."""
        if Word.LOOK not in self._items:
            self._put(Word.LOOK)

    async def next(self) -> Item:
        """Return what is next."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        return self._items.popleft()

    def _put(self, item: Item) -> None:
        self._items.append(item)
        self._arrived.set()

    def _tell(self, item: Item) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._put, item)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closing.is_set():
            try:
                with contextlib.closing(self._backend.events(self._since)) as stream:
                    self._stream = stream
                    self._tell(Word.CONNECTED)
                    pause = _FIRST_PAUSE
                    self._pass_on(stream)
                reason = "it closed the connection"
            except EngineError as error:
                reason = str(error)
            except Exception as error:
                LOG.exception("events")
                reason = repr(error)
            self._stream = None
            self._tell(Lost(reason))
            self._closing.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _pass_on(self, stream: EventStream) -> None:
        for event in stream:
            if event.at > self._since:  # the engine tells the last one again
                self._since = event.at
                self._tell(event)
