"""A plain text table of instances: a row for each limit, declared beside enforced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .inventory import Instance

_HEADINGS = ("TENANT", "INSTANCE", "STATE", "ADDRESS", "LIMIT", "DECLARED", "ENFORCED", "")


def render(instances: Iterable[Instance]) -> str:
    """Return the table; a row whose limit does not hold ends with NOT ENFORCED."""
    rows = [_HEADINGS, *(row for instance in instances for row in _rows(instance))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _rows(instance: Instance) -> Iterator[tuple[str, ...]]:
    spec = instance.spec
    addresses = " ".join(port.address for port in spec.ports)
    first = (spec.tenant, spec.name, instance.state, addresses or "-")
    if not instance.checks:
        yield (*first, "-", "-", "-", "" if instance.stored.state == "stopped" else "NOT RUNNING")
    for number, check in enumerate(instance.checks):
        mark = "" if check.holds else "NOT ENFORCED"
        yield (*(first if number == 0 else ("",) * 4), check.field, check.declared, check.enforced, mark)
