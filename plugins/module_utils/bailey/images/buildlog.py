"""What a build says while it runs: its steps' images, its result, and the end of its log."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from typing import Any

from ..errors import EngineError

_STEP_IMAGE = re.compile(r" ---> ([0-9a-f]{12,64})\s*")
_RESULT = re.compile(r"Successfully built ([0-9a-f]{12,64})\s*")
_NOISE = re.compile(r" ---> |Removing intermediate container ")
_TAIL_LINES = 25


class BuildFailedError(EngineError):
    """A build ended without an image."""


class BuildLog:
    """Collects the events of one build."""

    def __init__(self) -> None:
        self.image_ids: list[str] = []
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._result: str | None = None
        self._error: str | None = None

    def add(self, event: Mapping[str, Any]) -> None:
        """Take one event of the engine's stream."""
        if "error" in event:
            self._error = str(event["error"]).strip()
        self._result = (event.get("aux") or {}).get("ID", self._result)
        for line in str(event.get("stream", "")).splitlines():
            self._add_line(line)

    def _add_line(self, line: str) -> None:
        step = _STEP_IMAGE.fullmatch(line)
        if step:
            self.image_ids.append(step[1])
        done = _RESULT.fullmatch(line)
        if done:
            self._result = self._result or done[1]
        if line.strip() and not _NOISE.match(line):
            self._tail.append(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line.rstrip()))

    def result(self) -> str:
        """Return the ID of the built image; raise BuildFailedError where there is none."""
        if self._error is not None:
            raise BuildFailedError(self._error)
        if self._result is None:
            raise BuildFailedError("the engine ended the build without an image")
        return self._result

    def failure(self, error: EngineError) -> EngineError:
        """Return the error with the end of the log, which is where the cause stands."""
        text = str(error)
        if self._tail:
            text = f"{text}; the last lines of the build's log:\n" + "\n".join(self._tail)
        return BuildFailedError(text, error.status)
