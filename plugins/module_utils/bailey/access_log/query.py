"""Who talked to what: reading the access log, its former files too, as a stream."""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import HostError, InvalidValueError
from ..names import parse_name
from ..units import parse_count, parse_duration
from .files import file_numbers, former
from .lines import DROPPED, INGRESS
from .packet import format_time

_HEAD = b'{"time": "'
_TIME = slice(len(_HEAD), len(_HEAD) + len("2026-11-25T19:00:00.123456Z"))
_MOMENT_ALLOWED = "RFC 3339 with a zone, such as 2026-11-25T19:00:00Z, or a time back, such as 1h or 30m"
# A tenant may reach a new port each time; what is beyond so many rows is one row for each instance.
MAX_ROWS = 10_000
OTHERS = "(others)"
_NAMES = ("tenant", "app", "instance")
_CHOICES = ("direction", "verdict")


@dataclass(frozen=True)
class Query:
    """What is asked for: what an entry has to have, times (seconds since the epoch), a bound on the answer."""

    wanted: Mapping[str, str] = field(default_factory=dict)
    since: float | None = None
    before: float | None = None
    limit: int = 1000


@dataclass
class Row:
    """Connections that are alike in everything but their time and the ports that they came from."""

    first: str
    last: str
    connections: int = 0


@dataclass
class Answer:
    """Entries, the newest of them; the summary's rows by their key; and what was dropped, by reason and instance."""

    entries: deque[dict[str, Any]]
    limit: int
    matching: int = 0
    rows: dict[tuple[Any, ...], Row] = field(default_factory=dict)
    dropped: Counter[tuple[str, str | None]] = field(default_factory=Counter)

    def summary(self) -> list[dict[str, Any]]:
        """Return the rows with most connections, `limit` at most."""
        ordered = sorted(self.rows.items(), key=lambda item: (-item[1].connections, item[1].first))
        return [{**dict(zip(_KEY, key, strict=True)), **vars(row)} for key, row in ordered[: self.limit]]

    def as_result(self) -> dict[str, Any]:
        """Return it as the module does."""
        summary = self.summary()
        return {
            "entries": list(self.entries),
            "summary": summary,
            "dropped": [
                {"reason": reason, "instance": instance, "count": count}
                for (reason, instance), count in sorted(self.dropped.items(), key=lambda item: (-item[1], str(item[0])))
            ],
            "left_off": {"entries": self.matching - len(self.entries), "summary": len(self.rows) - len(summary)},
        }


_KEY = ("tenant", "instance", "direction", "verdict", "reason", "peer", "protocol", "port")


def parse_query(params: Mapping[str, Any], now: float) -> Query:
    """Read a module's options. Raises InvalidValueError for one that is not valid."""
    wanted = {name: parse_name(name, params[name]) for name in _NAMES if params.get(name) is not None}
    wanted |= {name: str(params[name]) for name in _CHOICES if params.get(name) is not None}
    since, before = (
        None if params.get(name) is None else parse_moment(name, params[name], now) for name in ("since", "before")
    )
    if since is not None and before is not None and since > before:
        raise InvalidValueError("before", params["before"], "a time after since")
    return Query(wanted, since, before, parse_count("limit", params.get("limit", Query.limit), 1, MAX_ROWS))


def parse_moment(name: str, value: object, now: float) -> float:
    """Read a time, or how long before `now` it was, and return seconds since the epoch."""
    text = str(value).strip()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now - parse_duration(name, text)
        except InvalidValueError:
            raise InvalidValueError(name, value, _MOMENT_ALLOWED) from None
    if moment.tzinfo is None:
        raise InvalidValueError(name, value, _MOMENT_ALLOWED)
    return moment.timestamp()


def read_log(log: Path, query: Query) -> Answer:
    """Answer a query. Raises HostError where there is no log."""
    answer = Answer(deque(maxlen=query.limit), query.limit)
    with ExitStack() as stack:
        files = _open_files(log, stack)
        if not files:
            raise HostError(f"{log}: there is no access log; is the service running?")
        for file in reversed(files):
            if query.since is None or os.fstat(file.fileno()).st_mtime >= query.since:
                for entry in _matching(file, query):
                    _add(answer, entry)
    return answer


def _open_files(log: Path, stack: ExitStack) -> list[BinaryIO]:
    """Open the log's files, the newest first: one that is renamed meanwhile is met again, and known."""
    files: dict[int, BinaryIO] = {}
    numbers = file_numbers(log)
    for number in [*numbers, numbers[-1] + 1]:
        try:
            file = stack.enter_context(former(log, number).open("rb"))
        except FileNotFoundError:
            continue
        files.setdefault(os.fstat(file.fileno()).st_ino, file)
    return list(files.values())


def _matching(file: BinaryIO, query: Query) -> Iterator[dict[str, Any]]:
    """Yield the entries that are asked for. A line is parsed only where it may be one."""
    is_possible = _filter(query)
    for line in file:
        if not is_possible(line):
            continue
        try:
            entry = json.loads(line)
        except ValueError:  # it is being written just now
            continue
        if _is_wanted(entry, query.wanted):
            yield entry


def _filter(query: Query) -> Callable[[bytes], bool]:
    since = b"" if query.since is None else format_time(query.since).encode()
    before = b"~" if query.before is None else format_time(query.before).encode()
    tenant = query.wanted.get("tenant")
    owner = b"" if tenant is None else f'"tenant": "{tenant}"'.encode()

    def is_possible(line: bytes) -> bool:
        return line.startswith(_HEAD) and since <= line[_TIME] <= before and (owner in line or b'"event": ' in line)

    return is_possible


def _is_wanted(entry: dict[str, Any], wanted: Mapping[str, str]) -> bool:
    """Say whether an entry is asked for; what was dropped of nobody known, concerns all."""
    if entry.get("event") == DROPPED:
        return all(entry.get(name) in (None, wanted[name]) for name in _NAMES if name in wanted)
    return "event" not in entry and all(entry.get(name) == value for name, value in wanted.items())


def _add(answer: Answer, entry: dict[str, Any]) -> None:
    if entry.get("event") == DROPPED:
        answer.dropped[str(entry.get("reason")), entry.get("instance")] += int(entry.get("count", 0))
        return
    answer.matching += 1
    answer.entries.append(entry)
    key = _key(entry)
    if key not in answer.rows and len(answer.rows) >= MAX_ROWS:
        key = (*key[:5], OTHERS, key[6], None)
    row = answer.rows.setdefault(key, Row(entry["time"], entry["time"]))
    row.first, row.last = min(row.first, entry["time"]), max(row.last, entry["time"])
    row.connections += 1


def _key(entry: dict[str, Any]) -> tuple[Any, ...]:
    other = "source" if entry.get("direction") == INGRESS else "destination"
    return (
        *(entry.get(name) for name in _KEY[:5]),
        entry.get("peer") or entry.get(other),
        entry.get("protocol"),
        entry.get("destination_port"),
    )
