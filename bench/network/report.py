"""The report of the third part: figures as Markdown, each beside its peers'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.figures import Verdict, ratio
from bench.report import number, table, verdict_table
from bench.samples import Results, scaled

from .figures import (
    ALONE,
    BAILEY,
    CONNECTIONS,
    EXPOSURE,
    GATE,
    JOIN,
    JOIN_FULL,
    PATHS,
    PROGRAMS,
    PUT,
    PUT_FULL,
    STILL,
    STREAM,
    WITH,
    WITHOUT,
    gate_difference,
)
from .scale import Scale

_INTRODUCTION = """\
What the tenants' network costs: when a container starts, for each packet, and when somebody takes the firewall away.
Each has the host to itself. `./bailey bench network` makes this file."""
_JOINS = """\
All that stands between a container's address and its open gate: both token buckets, isolation, one transaction of
nftables, and everything read back. The containers are network namespaces with a pair of devices each, on one bridge;
all stay. The policy is two bandwidths and four rules. Beside it, what a script does with `tc`, `ip`, `bridge` and
`iptables-restore --noflush`, which finds out nothing and reads nothing back; of the containers before it there are the
rules alone."""
_GATE = """\
The same at a real gate: from wshd's knock to the agent's word to go, every limit read back, as `./bailey status` shows
it, for one container that starts again and again."""
_PUTS = """\
The transaction alone, beside `iptables-restore --noflush` with the eight rules that say the same (its start
included)."""
_PATHS = """\
One stream, and one connection after another, between two containers that may speak with each other; the host routes
them. In turns, in another order each time. *No firewall* has no rule at all. *iptables* has the same policies in one
list, eight rules each, before those of the two; *established first* lets known connections pass before all of them, as
most such lists do."""
_EXPOSURE = """\
A container sends a datagram each millisecond to where it may not; both tables are deleted again and again. Exposed it
is from the start of the program that deletes them until the last datagram that came."""


def render(machine: Mapping[str, str], scale: Scale, results: Results, verdicts: Sequence[Verdict]) -> str:
    """Return the whole report."""
    described = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    return "\n\n".join(
        (
            "# Benchmarks: the network",
            _INTRODUCTION,
            f"## The machine\n\n{described}",
            f"## Speeds that are promised\n\n{verdict_table(verdicts)}",
            f"## At the gate\n\n{_JOINS}\n\n{_beside(results, JOIN, JOIN_FULL, scale)}\n\n{_GATE}\n\n{_gates(results)}",
            f"## One more policy\n\n{_PUTS}\n\n{_beside(results, PUT, PUT_FULL, scale)}",
            f"## Between two containers\n\n{_PATHS}\n\n{_paths(results, scale)}",
            f"## When the firewall is taken away\n\n{_EXPOSURE}\n\n{_exposure(results)}\n",
        )
    )


def _beside(results: Results, few: str, full: str, scale: Scale) -> str:
    rows = []
    for what, there in ((few, "few"), (full, f"{scale.policies:,}")):
        base = results.median(what, BAILEY)
        for way in (BAILEY, PROGRAMS):
            median = results.median(what, way)
            cells = (number(_ms(median)), number(_ms(results.quantile(what, way, 0.99))), number(ratio(median, base)))
            rows.append((f"{way}, {there} there", *cells, str(results.count(what, way))))
    return table(("", "p50, ms", "p99, ms", "x Bailey", "runs"), rows)


def _gates(results: Results) -> str:
    rows = [
        (
            way,
            number(_ms(results.median(GATE, way))),
            number(_ms(results.quantile(GATE, way, 0.99))),
            str(results.count(GATE, way)),
        )
        for way in (WITHOUT, WITH)
    ]
    rows.append(("the difference of the p50", number(_ms(gate_difference(results))), "-", "-"))
    return table(("", "p50, ms", "p99, ms", "runs"), rows)


def _paths(results: Results, scale: Scale) -> str:
    streams, connections = (results.median(what, ALONE) for what in (STREAM, CONNECTIONS))
    rows = []
    for path in PATHS:
        stream, connection = results.median(STREAM, path), results.median(CONNECTIONS, path)
        rates = (number(scaled(stream, 1e-9)), number(ratio(stream, streams), "x"))
        rows.append((path, *rates, number(connection), number(ratio(connection, connections), "x")))
    text = table(("", "Gbit/s", "of these two alone", "connections a second", "of these two alone"), rows)
    return f"{text}\n\nAll policies are {scale.policies:,}; medians of {results.count(STREAM, ALONE)} turns."


def _exposure(results: Results) -> str:
    rows = [
        (
            what,
            *(number(_ms(results.quantile(what, BAILEY, share))) for share in (0.5, 0.99, 1.0)),
            str(results.count(what, BAILEY)),
        )
        for what in (EXPOSURE, STILL)
    ]
    return table(("", "p50, ms", "p99, ms", "most, ms", "flushes"), rows)


def _ms(seconds: float | None) -> float | None:
    return scaled(seconds, 1000)
