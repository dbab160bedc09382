"""Findings as text, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_HEADINGS = ("INSTANCE", "RULE", "PID", "PATH", "TAKEN", "FOUND")
_PATH_MAX = 60


def render(findings: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    """Return the findings as a table, and below it what else there is to know of the scan."""
    rows = [_HEADINGS, *map(_row, findings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if not findings:
        lines = ["nothing was found"]
    if "seconds" in summary:
        lines.append(
            f"{len(summary.get('instances', ()))} instances in {summary.get('seconds', 0.0):.1f} s, "
            f"{summary.get('cpu_seconds', 0.0):.1f} s of processor time"
        )
        if not summary.get("complete", True):
            lines.append("there was no time for all; the next scan begins with those that are left")
        if summary.get("left_off"):
            lines.append(f"{summary['left_off']} more findings are left off")
    return "\n".join([*lines, *(f"note: {note}" for note in summary.get("notes", ()))])


def _row(finding: Mapping[str, Any]) -> tuple[str, ...]:
    path = str(finding["path"]) or "-"
    shown = path if len(path) <= _PATH_MAX else f"…{path[-_PATH_MAX:]}"
    pid = "-" if finding["pid"] is None else str(finding["pid"])
    return (finding["instance"], finding["rule"], pid, shown, finding["taken"], finding["detail"])
