"""Endpoints and settings for the tests of the firewall, each as a declaration has them."""

from __future__ import annotations

from typing import Any

from bailey.firewall.policy import Endpoint
from bailey.network import parse_network
from bailey.network_settings import NetworkSettings, parse_network_settings

SETTINGS = parse_network_settings({"bridge": "br0", "new_connections": 50, "connections": 1024}, "settings")


def settings(**fields: Any) -> NetworkSettings:
    return parse_network_settings({"bridge": "br0", **fields}, "settings")


def endpoint(name: str = "ada-web-1", number: int = 2, *rules: dict[str, Any], **fields: Any) -> Endpoint:
    """Return an endpoint of the tenant ada and the app web; `network` is what of it is not rules."""
    tenant = fields.get("tenant", "ada")
    return Endpoint(
        name=name,
        tenant=tenant,
        app=fields.get("app", "web"),
        address=f"172.17.0.{number}",
        mac=f"02:42:ac:11:00:{number:02x}",
        port=fields.get("port", f"veth{number}"),
        network=parse_network("network", {"rules": list(rules), **fields.get("network", {})}, tenant),
        published=tuple(fields.get("published", ())),
    )


def allow(**fields: Any) -> dict[str, Any]:
    return {"action": "allow", **fields}


def deny(**fields: Any) -> dict[str, Any]:
    return {"action": "deny", **fields}
