"""The access log's lines: what is told of a packet, to whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..leases import Lease
from .packet import Packet

EGRESS, INGRESS = "egress", "ingress"
DROPPED = "dropped"

Owner = Callable[[str, float], Lease | None]


@dataclass(frozen=True, slots=True)
class View:
    """A packet from the point of view of an instance at one of its ends, or of nobody."""

    packet: Packet
    lease: Lease | None
    direction: str | None
    peer: Lease | None

    def line(self) -> bytes:
        """Return its line."""
        packet, peer = self.packet, self.peer
        return _encode(
            {
                "time": packet.time,
                **_instance(self.lease),
                "direction": self.direction,
                "verdict": packet.verdict,
                "reason": packet.reason,
                "protocol": packet.protocol,
                "source": packet.source,
                "source_port": packet.source_port,
                "destination": packet.destination,
                "destination_port": packet.destination_port,
                "peer": None if peer is None else f"{peer.tenant}/{peer.app}/{peer.name}",
                **packet.details,
            }
        )


def views_of(packet: Packet, owner: Owner) -> list[View]:
    """Return a packet's views: one for each instance at its ends.

    Where no instance is known there is one that names none: what a packet claims of its source is nobody's deed.
    """
    source = None if packet.is_claimed else _owner(owner, packet.source, packet.at)
    destination = None if packet.is_frame else _owner(owner, packet.destination, packet.at)
    views = []
    if source is not None:
        views.append(View(packet, source, EGRESS, destination))
    if destination is not None:
        views.append(View(packet, destination, INGRESS, source))
    return views or [View(packet, None, _direction(packet), None)]


def dropped_line(time: str, reason: str, count: int, owner: Lease | None) -> bytes:
    """Return the line that stands for those that were not written."""
    return _encode({"time": time, **_instance(owner), "event": DROPPED, "reason": reason, "count": count})


def _encode(entry: dict[str, Any]) -> bytes:
    """Write an entry as one line of ASCII, whatever is in it; the time comes first, then the tenant."""
    return json.dumps(entry).encode() + b"\n"


def _owner(owner: Owner, address: str | None, at: float) -> Lease | None:
    return None if address is None else owner(address, at)


def _instance(lease: Lease | None) -> dict[str, str | None]:
    if lease is None:
        return {"tenant": None, "app": None, "instance": None}
    return {"tenant": lease.tenant, "app": lease.app, "instance": lease.name}


def _direction(packet: Packet) -> str | None:
    """Return what the rule says where no instance does: only what comes from a port is seen as a frame."""
    if packet.is_frame:
        return EGRESS
    named = (packet.reason or "").partition(" ")[0]
    return named if named in (EGRESS, INGRESS) else None
