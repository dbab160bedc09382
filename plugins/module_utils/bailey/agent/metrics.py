"""What Prometheus reads: plain text over HTTP, on loopback, nothing in it that is secret."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ..instance_state import HEALTH_NONE, HEALTH_STARTING, HEALTHY, OPEN, STATUSES, UNHEALTHY
from .engine_threads import Care
from .guard import Repairs
from .ledger import Record
from .scan import Counts
from .sweep import Findings, Look

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_REQUEST_SECONDS = 5.0
_REQUEST_MAX = 8192
_CONNECTIONS_MAX = 32
_HEALTHS = (HEALTH_NONE, HEALTH_STARTING, HEALTHY, UNHEALTHY)
_NANO = 1e9

Sample = tuple[dict[str, str], float]


@dataclass(frozen=True)
class Overview:
    """What concerns the agent itself."""

    version: str
    engine_up: bool
    draining: bool
    repairs: Repairs | None
    care: Care = field(default_factory=Care)  # for the engine's threads
    scan: Counts | None = None


def render(overview: Overview, records: Iterable[Record], findings: Findings) -> str:
    """Return the whole page."""
    lines: list[str] = []
    for name, kind, text, samples in _families(overview, list(records), findings):
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{key}="{_escape(value)}"' for key, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


Family = tuple[str, str, str, list[Sample]]


def _families(overview: Overview, records: list[Record], findings: Findings) -> Iterator[Family]:
    yield from _of_the_host(overview, findings)
    yield from _of_scans(overview.scan)
    yield from _of_states(records)
    yield from _of_use(records, findings)


def _of_the_host(overview: Overview, findings: Findings) -> Iterator[Family]:
    yield "bailey_agent_info", "gauge", "The agent's version.", [({"version": overview.version}, 1)]
    yield "bailey_agent_resident_bytes", "gauge", "The agent's memory.", [({}, findings.agent.resident)]
    yield "bailey_draining", "gauge", "Whether the host takes no instance.", [({}, overview.draining)]
    yield "bailey_engine_up", "gauge", "Whether the container engine answers.", [({}, overview.engine_up)]
    repairs: list[Sample] = [] if overview.repairs is None else [({}, overview.repairs.count)]
    yield "bailey_firewall_repairs_total", "counter", "How often the firewall was made again.", repairs
    still: list[Sample] = [] if overview.repairs is None else [({}, overview.repairs.seconds)]
    yield "bailey_firewall_repair_seconds", "gauge", "How long tenants stood still for the last of them.", still
    engine = findings.engine
    threads: list[Sample] = [] if engine is None else [({}, engine.threads)]
    resident: list[Sample] = [] if engine is None else [({}, engine.resident)]
    yield "bailey_engine_threads", "gauge", "Threads of the container engine.", threads
    yield "bailey_engine_resident_bytes", "gauge", "Memory of the container engine.", resident
    yield from _of_care(overview.care)


def _of_care(care: Care) -> Iterator[Family]:
    most = "Threads above which the container engine is restarted; 0 for none."
    yield "bailey_engine_threads_max", "gauge", most, [({}, care.maximum)]
    over = "Whether it has had more of them for several sweeps."
    yield "bailey_engine_threads_over", "gauge", over, [({}, care.over)]
    yield "bailey_engine_restarts_total", "counter", "How often it was restarted for that.", [({}, care.restarts)]


def _of_scans(counts: Counts | None) -> Iterator[Family]:
    if counts is None:
        return
    by_rule = [({"rule": rule}, float(count)) for rule, count in sorted(counts.findings.items())]
    yield "bailey_scan_findings", "gauge", "What the last scan of the whole host has found.", by_rule
    yield "bailey_scan_seconds", "gauge", "How long it took.", [({}, counts.seconds)]
    yield "bailey_scan_last_timestamp", "gauge", "When it ended, in seconds since the epoch.", [({}, counts.at)]


def _of_states(records: list[Record]) -> Iterator[Family]:
    named = [(record, {"name": record.name}) for record in records]
    info = [({**name, "tenant": item.state.tenant, "app": item.state.app}, 1.0) for item, name in named]
    yield "bailey_instance_info", "gauge", "Whose an instance is.", info
    status = [({**name, "status": s}, float(item.state.status == s)) for item, name in named for s in STATUSES]
    yield "bailey_instance_status", "gauge", "Where an instance stands.", status
    health = [({**name, "health": h}, float(item.state.health == h)) for item, name in named for h in _HEALTHS]
    yield "bailey_instance_health", "gauge", "What an instance's health check says.", health
    gates = [(name, item.state.gate_ms / 1e3) for item, name in named if item.state.gate_ms is not None]
    yield "bailey_instance_gate_seconds", "gauge", "How long an instance stood at its gate.", gates
    restarts = [(name, float(item.state.restarts)) for item, name in named]
    yield "bailey_instance_restarts_total", "counter", "Restarts since the last deployment.", restarts


def _of_use(records: list[Record], findings: Findings) -> Iterator[Family]:
    kills = [({"name": record.name}, float(record.oom_kills)) for record in records]
    yield "bailey_instance_oom_kills_total", "counter", "Processes killed for memory.", kills
    open_ones = [
        ({"name": record.name}, findings.looks[record.name])
        for record in records
        if record.state.status == OPEN and record.name in findings.looks
    ]
    for metric, kind, text, value in _USE:
        found = [(name, value(look)) for name, look in open_ones]
        yield metric, kind, text, [(name, number) for name, number in found if number is not None]


_Value = Callable[[Look], float | None]


def _limit(read: Callable[[Look], float | None]) -> _Value:
    return lambda look: None if look.limits is None else read(look)


_USE: tuple[tuple[str, str, str, _Value], ...] = (
    (
        "bailey_instance_limits_hold", "gauge", "Whether the kernel holds all that was declared.",
        lambda look: float(not look.broken),
    ),
    ("bailey_instance_memory_bytes", "gauge", "Memory in use.", lambda look: look.usage.memory),
    (
        "bailey_instance_memory_limit_bytes", "gauge", "Memory that is declared.",
        _limit(lambda look: look.limits.memory if look.limits else None),
    ),
    ("bailey_instance_cpu_seconds_total", "counter", "Processor time used.", lambda look: look.usage.cpu_ns / _NANO),
    (
        "bailey_instance_cpus_limit", "gauge", "Processors that are declared.",
        _limit(lambda look: look.limits.nano_cpus / _NANO if look.limits else None),
    ),
    ("bailey_instance_pids", "gauge", "Processes and threads.", lambda look: look.usage.pids),
    (
        "bailey_instance_pids_limit", "gauge", "Processes and threads that are declared.",
        _limit(lambda look: look.limits.pids if look.limits else None),
    ),
    ("bailey_instance_disk_bytes", "gauge", "Disk space in use.", lambda look: look.disk),
    (
        "bailey_instance_disk_limit_bytes", "gauge", "Disk space that is declared.",
        _limit(lambda look: look.limits.disk if look.limits else None),
    ),
)  # fmt: skip


class MetricsServer:
    """Answers GET /metrics, and nothing else."""

    def __init__(self, page: Callable[[], str]) -> None:
        self._page = page
        self._server: asyncio.Server | None = None
        self._open = 0

    async def serve(self, address: tuple[str, int]) -> None:
        """Begin to answer."""
        self._server = await asyncio.start_server(self._on_connection, *address, limit=_REQUEST_MAX)

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _CONNECTIONS_MAX:
                async with asyncio.timeout(_REQUEST_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer(head))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # it asked for nothing, too slowly or too much
        finally:
            self._open -= 1
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        target = rest.partition(b" ")[0].partition(b"?")[0]
        if target != b"/metrics":
            return _response("404 Not Found", "metrics are at /metrics\n")
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", "GET only\n")
        answer = _response("200 OK", self._page())
        return answer if method == b"GET" else answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def _response(status: str, body: str) -> bytes:
    content = body.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(content)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + content
