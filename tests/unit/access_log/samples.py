"""Lines as ulogd 2.0.8 writes them, recorded from real packets."""

from __future__ import annotations

import json

AT = 1_795_643_938.388937
TIME = "2026-11-25T21:58:58.388937Z"

TCP = {
    "timestamp": "2026-11-25T21:58:58.388937",
    "dvc": "Netfilter",
    "raw.pktlen": 60,
    "raw.pktcount": 1,
    "oob.prefix": "bailey allow",
    "oob.time.sec": 1795643938,
    "oob.time.usec": 388937,
    "oob.mark": 0,
    "oob.ifindex_out": 1,
    "oob.hook": 3,
    "oob.seq.local": 0,
    "oob.family": 2,
    "oob.protocol": 2048,
    "raw.label": 0,
    "ip.protocol": 6,
    "ip.ttl": 64,
    "ip.totlen": 60,
    "src_port": 44020,
    "dest_port": 88,
    "tcp.syn": 1,
    "oob.in": "",
    "oob.out": "docker0",
    "src_ip": "172.17.0.2",
    "dest_ip": "172.17.0.3",
}
_MAC = {"mac.saddr.str": "ca:da:d0:bf:9d:0c", "mac.daddr.str": "ff:ff:ff:ff:ff:ff"}
_NO_PORTS = {"src_port": None, "dest_port": None, "tcp.syn": None}
ICMP = {**TCP, **_NO_PORTS, "ip.protocol": 1, "icmp.type": 8, "icmp.code": 0, "icmp.echoid": 1}
FRAME = {**TCP, **_MAC, "oob.family": 7, "oob.prefix": "bailey deny bridge spoof", "oob.in": "docker0"}
ARP = {
    **FRAME,
    **_NO_PORTS,
    "ip.protocol": None,
    "src_ip": None,
    "dest_ip": None,
    "oob.protocol": 2054,
    "arp.operation": 1,
    "arp.saddr.str": "210.96.252.201",  # of ulogd's own memory
    "arp.daddr.str": "220.96.252.201",
}


def told(sample: dict[str, object], **changes: object) -> bytes:
    """Return a sample's line, without what is None; a change's key has __ for each dot."""
    values = sample | {key.replace("__", "."): value for key, value in changes.items()}
    return json.dumps({key: value for key, value in values.items() if value is not None}).encode()
