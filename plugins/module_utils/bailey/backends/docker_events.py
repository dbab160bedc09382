"""What dockerd tells of containers as it happens, and how one has ended."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from ..names import LABEL_HASH, LABEL_NAME
from .base import Ended, Event, EventStream, Happening, signal_of
from .engine_api import EngineApi, JsonStream

_NANO = 1_000_000_000
# RFC 3339 as Go writes it: up to nine digits below the second, which Python's own reader does not take.
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_NEVER = "0001-01-01T00:00:00Z"


class DockerEvents(EventStream):
    """The answer to GET /events, as events of the contract."""

    def __init__(self, stream: JsonStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[Event]:
        """Yield what concerns Bailey's containers and is known."""
        for item in self._stream:
            event = parse_event(item)
            if event is not None:
                yield event

    def close(self) -> None:
        """End the stream."""
        self._stream.close()


def open_stream(api: EngineApi, since: int, until: int | None) -> DockerEvents:
    """Open the stream; the engine keeps a few hundred past events, so that a short gap loses none."""
    filters = {"type": ["container"], "label": [LABEL_NAME], "event": [kind.value for kind in Happening]}
    query: dict[str, object] = {"filters": filters, "since": _timestamp(since)}
    if until is not None:
        query["until"] = _timestamp(until)
    return DockerEvents(api.stream("/events", query))


def _timestamp(at: int) -> str:
    return f"{at // _NANO}.{at % _NANO:09d}"


def parse_event(item: Any) -> Event | None:
    """Read one event; None for what is not of this contract, such as an exec of a newer engine."""
    try:
        attributes = item["Actor"]["Attributes"]
        kind = Happening(item["Action"])
        return Event(
            kind=kind,
            container=item["Actor"]["ID"],
            name=attributes["name"].lstrip("/"),
            declared_name=attributes[LABEL_NAME],
            declared_hash=attributes.get(LABEL_HASH, ""),
            at=int(item["timeNano"]),
            exit_code=int(attributes["exitCode"]) if kind is Happening.DIED else None,
            signal=int(attributes["signal"]) if kind is Happening.SIGNALLED else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def parse_ended(state: Mapping[str, Any]) -> Ended | None:
    """Read the State of an inspected container; None where it runs or has never run."""
    if state["Running"] or (state["FinishedAt"] == _NEVER and not state.get("Error")):
        return None
    code = int(state["ExitCode"])
    return Ended(code, signal_of(code), bool(state["OOMKilled"]), parse_time(state["FinishedAt"]), state["Error"] or "")


def parse_time(text: str) -> float | None:
    """Read the engine's time as seconds since the epoch; None where it means never, or cannot be read."""
    match = _TIME.fullmatch(text)
    if match is None or text == _NEVER:
        return None
    whole = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    return whole.astimezone(UTC).timestamp() + float(match[2] or 0)
