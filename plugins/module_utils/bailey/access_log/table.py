"""The answer to a query as text, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .query import Answer

_HEADINGS = ("INSTANCE", "DIRECTION", "VERDICT", "WITH", "PROTOCOL", "PORT", "CONNECTIONS", "FIRST", "LAST")


def render(answer: Answer) -> str:
    """Return the summary as a table, and below it what it does not show."""
    result = answer.as_result()
    rows = [_HEADINGS, *map(_row, result["summary"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *_remarks(result)])


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    verdict = row["verdict"] if row["reason"] is None else f"{row['verdict']} ({row['reason']})"
    cells = (row["instance"], row["direction"], verdict, row["peer"], row["protocol"], row["port"])
    seconds = (f"{row[name][:19]}Z" for name in ("first", "last"))
    return (*("-" if cell is None else str(cell) for cell in cells), str(row["connections"]), *seconds)


def _remarks(result: dict[str, Any]) -> Iterator[str]:
    if not result["summary"]:
        yield "no connection was logged"
    if result["left_off"]["summary"]:
        yield f"{result['left_off']['summary']} more rows are left off"
    for item in result["dropped"]:
        yield f"not logged: {item['count']} of {item['instance'] or 'any instance'} ({item['reason']})"
