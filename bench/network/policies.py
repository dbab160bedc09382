"""The policies that are in force in each turn, for Bailey and as rules of iptables."""

from __future__ import annotations

from collections.abc import Iterator

from bailey.firewall.policy import Endpoint
from bailey.network import parse_network

TENANT = "bench"
# What an app that has thought about it declares: a database, a peer of its own tenant, somebody unwanted, and a client.
DECLARED: dict[str, object] = {
    "ingress": "50Mbit",
    "egress": "25Mbit",
    "new_connections": 100,
    "connections": 2000,
    "rules": [
        {"action": "allow", "cidr": "10.20.0.0/16", "protocol": "tcp", "ports": [5432]},
        {"action": "allow", "app": "peer", "protocol": "tcp", "ports": [8080]},
        {"action": "deny", "cidr": "198.51.100.0/24"},
        {"action": "allow", "direction": "ingress", "app": "peer", "protocol": "tcp", "ports": [80]},
    ],
}
# The two that speak with each other, as fast as they can. A rate of connections that binds would be all that is seen.
OPEN: dict[str, object] = {"new_connections": 1_000_000, "connections": 65_000, "same_tenant": True}


def address_of(number: int) -> str:
    """Return the address of a policy that nothing stands behind."""
    return f"10.99.{128 + number // 250}.{1 + number % 250}"


def pretended(number: int) -> Endpoint:
    """Return an instance that nothing stands behind, with a policy."""
    return Endpoint(
        name=f"{TENANT}-p{number:04}-1",
        tenant=TENANT,
        app=f"p{number:04}",
        address=address_of(number),
        mac="02:42:" + ":".join(f"{int(byte):02x}" for byte in address_of(number).split(".")),
        port=f"none{number:04}",
        network=parse_network("network", DECLARED, TENANT),
        published=(("tcp", 8080),),
    )


def linear_rules(number: int, peer: str) -> Iterator[str]:
    """Yield the same policy as rules in one list, as iptables-restore takes them; `peer` is an address.

    The bound on new connections is limited by each source's own bucket, as in Bailey.
    """
    here = address_of(number)
    yield f"-A FORWARD -s {here} -p tcp -m connlimit --connlimit-above 2000 --connlimit-saddr -j DROP"
    yield (
        f"-A FORWARD -s {here} -m conntrack --ctstate NEW -m hashlimit --hashlimit-above 100/sec "
        f"--hashlimit-mode srcip --hashlimit-name p{number} -j DROP"
    )
    yield f"-A FORWARD -s {here} -d 10.20.0.0/16 -p tcp --dport 5432 -j ACCEPT"
    yield f"-A FORWARD -s {here} -d {peer} -p tcp --dport 8080 -j ACCEPT"
    yield f"-A FORWARD -s {here} -d 198.51.100.0/24 -j DROP"
    yield f"-A FORWARD -s {peer} -d {here} -p tcp --dport 80 -j ACCEPT"
    yield f"-A FORWARD -d {here} -m conntrack --ctstate DNAT -p tcp --dport 8080 -j ACCEPT"
    yield f"-A FORWARD -d {here} -j DROP"
