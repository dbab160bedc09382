"""A plain text table of instances: a row for each limit, declared beside enforced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .inventory import Instance

_HEADINGS = ("TENANT", "INSTANCE", "STATE", "GATE", "ADDRESS", "LIMIT", "DECLARED", "ENFORCED", "")


def render(instances: Iterable[Instance]) -> str:
    """Return the table; a row whose limit does not hold ends with NOT ENFORCED.

    What the host's policy allows to an instance and to nobody else is a row of its own, which ends with BY POLICY.
    """
    rows = [_HEADINGS, *(row for instance in instances for row in _rows(instance))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _rows(instance: Instance) -> Iterator[tuple[str, ...]]:
    spec = instance.spec
    addresses = " ".join(port.address for port in spec.ports)
    first = (spec.tenant, spec.name, instance.state, _gate(instance), addresses or "-")
    if not instance.is_open or not instance.checks:
        yield (*first, "-", "-", "-", "" if instance.stored.state == "stopped" else _not_running(instance))
        return
    for number, check in enumerate(instance.checks):
        mark = "" if check.holds else "NOT ENFORCED"
        yield (*(first if number == 0 else ("",) * len(first)), check.field, check.declared, check.enforced, mark)
    if spec.exceptions:
        yield (*("",) * len(first), "exceptions", ", ".join(sorted(spec.exceptions)), "", "BY POLICY")


def _gate(instance: Instance) -> str:
    """Return how long its container stood at the gate before every limit was found in force."""
    if not instance.is_open or instance.gate is None or instance.gate.gate_ms is None:
        return "-"
    return f"{instance.gate.gate_ms:.1f} ms"


def _not_running(instance: Instance) -> str:
    reason = "" if instance.gate is None else instance.gate.reason
    return f"NOT RUNNING: {reason}" if reason else "NOT RUNNING"
