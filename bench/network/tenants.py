"""What a tenant sees of it, on the real engine behind the real agent: its gate, and the firewall's loss and repair."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bailey.agent_client import AgentClient

from bench.control.boxes import Boxes, declare
from bench.errors import BenchError
from bench.ground import TABLE, Ground
from bench.samples import Results
from tests.ground.rootfs import BASE
from tests.integration.fixtures.traffic import FLOOD, Arrivals, arrivals

from .figures import BAILEY, EXPOSURE, GATE, STILL, WITH, WITHOUT
from .policies import DECLARED
from .scale import Scale

_NAME = "bench-net-1"
_SETTLE, _LATER = 0.4, 0.1  # seconds: for all that slips through to have come, and at most longer
_REPAIRS, _SECONDS = "bailey_firewall_repairs_total", "bailey_firewall_repair_seconds"


def measure_gates(boxes: Boxes, scale: Scale, results: Results) -> None:
    """Start a container again and again, with a network and without: the agent's word for the gate's time."""
    ways: dict[str, dict[str, object]] = {WITHOUT: {"network_mode": "none"}, WITH: {"network": DECLARED}}
    for way, fields in ways.items():
        _converge(boxes, **fields)
        client = AgentClient(boxes.ground.run)
        for _ in range(scale.starts):
            with client.hold(_NAME) as held:
                boxes.ground.engine.docker("kill", _NAME)
                held.expect()
                boxes.ground.engine.docker("start", _NAME)
                state = held.await_gate(boxes.inspect(_NAME)["Id"], 30)
            if state.gate_ms is None:
                raise BenchError(f"the agent says nothing of the gate: {state}")
            results.add(GATE, way, [state.gate_ms / 1000])


def measure_exposure(boxes: Boxes, scale: Scale, results: Results) -> None:
    """Take the tables away under a flood of datagrams that they deny; the last that comes ends the exposure."""
    _converge(boxes, network=DECLARED)
    host = boxes.ground.engine.address.partition("/")[0]
    with arrivals(host) as listening:
        flood = subprocess.Popen(boxes.wsh(_NAME, "python3", "-c", FLOOD, host, str(listening.port)))
        try:
            time.sleep(1)
            if listening.times:
                raise BenchError("datagrams come though nothing is taken away")
            for _ in range(scale.flushes):
                results.add(EXPOSURE, BAILEY, [_one_exposure(listening)])
                results.add(STILL, BAILEY, [_metric(boxes.ground, _SECONDS)])
        finally:
            flood.kill()
            flood.wait()
    if _metric(boxes.ground, _REPAIRS) < scale.flushes:
        raise BenchError("the agent has not counted each repair")


def _converge(boxes: Boxes, **fields: object) -> None:
    """Have the one container, and the app that its policy speaks of."""
    boxes.converge([declare(_NAME, image=BASE.image, **fields), declare("bench-peer-1", image=BASE.image, app="peer")])


def _one_exposure(listening: Arrivals) -> float:
    listening.times.clear()
    begun = time.monotonic()
    subprocess.run(["nft", f"delete table inet {TABLE}; delete table bridge {TABLE}"], check=True)
    time.sleep(_SETTLE + _LATER * os.urandom(1)[0] / 256)
    last = max(listening.times, default=begun)
    if time.monotonic() - last < _SETTLE / 10:
        raise BenchError("datagrams go on to come")
    return last - begun


def _metric(ground: Ground, name: str) -> float:
    return ground.agent.metrics()[name]


def say(text: str) -> None:
    """Tell the progress."""
    print(f"bench: network: {text}", file=sys.stderr, flush=True)
