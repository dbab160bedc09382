"""What both tables hold before any container is in them. docs/network.md has the packet's way through it.

No set is anonymous: libnftables reads every set of a table at each change, and each costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from string import Template

from ..network import LINK_LOCAL
from ..network_settings import NetworkSettings

DENY_EGRESS, DENY_RATE, DENY_CONNECTIONS = "deny_egress", "deny_rate", "deny_connections"
DENY_INGRESS = "deny_ingress"
DNS = 53

# Chains that deny: the reason in the log, and which address is the instance's.
_DENIALS = {
    DENY_EGRESS: ("egress policy", "saddr"),
    DENY_RATE: ("egress rate", "saddr"),
    DENY_CONNECTIONS: ("egress connections", "saddr"),
    DENY_INGRESS: ("ingress policy", "daddr"),
}

# A connection is decided on once: its first packet is new and not confirmed. What is confirmed has passed here before;
# without that, each datagram that nobody answers would count as another connection. Only what comes from an instance is
# asked so: with bridge-nf-call-iptables the kernel confirms what is sent to all before it comes here.
_KNOWN = """ct state established,related accept
        ct state invalid drop
        ct status confirmed accept"""

# To some groups of link-local hardware addresses (01:80:c2:00:00:0e) a frame goes up from the port itself, past the
# bridge and all of its hooks: br_handle_frame() in net/bridge/br_input.c. What comes by a port of ours is never right.
_INET = Template("""
table inet $table {
    set ports { type ifname; }
    set instances { type ipv4_addr; }
    set rates { type ipv4_addr; limit rate over 1/second burst 1 packets; }
    map connections { type ipv4_addr : verdict; }
    set services { type ipv4_addr . inet_proto . inet_service; $services }
    set published { type ipv4_addr . inet_proto . inet_service; }
    map egress { type ipv4_addr : verdict; }
    map tohost { type ipv4_addr : verdict; }
    map ingress { type ipv4_addr : verdict; }
    set denied_networks { type ipv4_addr; flags interval; $denied_networks }
    set denied_ports { type inet_service; $denied_ports }
    set logged_allowed { type ipv4_addr; flags dynamic,timeout; timeout 5m; size 65535; }
    set logged_denied { type ipv4_addr; flags dynamic,timeout; timeout 5m; size 65535; }
    set unlogged { type ipv4_addr; flags dynamic; size 65535; counter; }

    $denials
    chain deny_unknown {
        $limit log prefix "bailey deny egress unknown" group $log_group drop
        drop
    }
    chain deny_spoof {
        $limit log prefix "bailey deny bridge spoof" group $log_group drop
        drop
    }
    chain log_egress {
        $log_egress
    }
    chain log_ingress {
        $log_ingress
    }

    chain check_limits {
        ip saddr @rates goto deny_rate
        ip saddr vmap @connections
    }
    chain leave_bridge {
        jump check_limits
        ip daddr . meta l4proto . th dport @services accept
        fib daddr type != unicast goto deny_egress
        ip daddr $link_local goto deny_egress
        ip saddr vmap @egress
        oifname "$bridge" goto deny_egress
        ip daddr @denied_networks goto deny_egress
        tcp dport @denied_ports goto deny_egress
        udp dport @denied_ports goto deny_egress
        accept
    }
    chain enter_bridge {
        ip daddr vmap @ingress
        iifname "$bridge" goto deny_ingress
        ct status dnat ip daddr . meta l4proto . th dport @published accept
        goto deny_ingress
    }
    chain reach_host {
        jump check_limits
        ip daddr . meta l4proto . th dport @services accept
        fib daddr type != local goto deny_egress
        ip daddr 127.0.0.0/8 goto deny_egress
        ip saddr vmap @tohost
        goto deny_egress
    }

    chain prerouting {
        type filter hook prerouting priority -300; policy accept;
        iifname "$bridge" accept
        iifname @ports goto deny_spoof
        iifname != "lo" ip saddr $network goto deny_spoof
    }
    chain forward_egress {
        type filter hook forward priority -10; policy accept;
        iifname != "$bridge" accept
        meta nfproto != ipv4 drop
        ip saddr != @instances goto deny_unknown
        $known
        goto leave_bridge
    }
    chain forward_ingress {
        type filter hook forward priority -9; policy accept;
        oifname != "$bridge" accept
        meta nfproto != ipv4 drop
        ip daddr != @instances drop
        $known
        goto enter_bridge
    }
    chain forward_log {
        type filter hook forward priority 10; policy accept;
        iifname != "$bridge" oifname != "$bridge" accept
        ct state != new accept
        ct status confirmed accept
        iifname "$bridge" goto log_egress
        goto log_ingress
    }
    chain input {
        type filter hook input priority -10; policy accept;
        iifname != "$bridge" accept
        meta nfproto != ipv4 drop
        ip saddr != @instances goto deny_unknown
        $known
        goto reach_host
    }
    chain input_log {
        type filter hook input priority 10; policy accept;
        iifname != "$bridge" accept
        ct state != new accept
        ct status confirmed accept
        goto log_egress
    }
    chain output {
        type filter hook output priority -10; policy accept;
        oifname != "$bridge" accept
        meta nfproto != ipv4 drop
        icmp type redirect drop
    }
    chain output_log {
        type filter hook output priority 10; policy accept;
        ip daddr != @instances accept
        ct state != new accept
        ct status confirmed accept
        goto log_ingress
    }
}
""")

# `ether type` reads the frame itself, so that a VLAN's tag is not looked through, as `meta protocol` would.
_BRIDGE = Template("""
table bridge $table {
    set ports { type ifname; }
    set neighbours { type ifname . ether_addr . ipv4_addr; }
    set logged { type ifname; flags dynamic,timeout; timeout 5m; size 4096; }

    chain deny_spoof {
        update @logged { iifname $limit } log prefix "bailey deny bridge spoof" group $log_group drop
        drop
    }
    chain arp_from_port {
        iifname . arp saddr ether . arp saddr ip != @neighbours goto deny_spoof
        ether daddr $mac accept
        ether daddr ff:ff:ff:ff:ff:ff accept
        goto deny_spoof
    }
    chain from_port {
        ether type ip ether daddr $mac iifname . ether saddr . ip saddr @neighbours accept
        ether type arp iifname . ether saddr . arp saddr ip @neighbours goto arp_from_port
        goto deny_spoof
    }
    chain to_port {
        ether type ip oifname . ether daddr . ip daddr @neighbours accept
        ether type arp accept
        drop
    }
    chain from_stranger {
        ether daddr $mac drop
        ether saddr $mac drop
        ip saddr $network drop
        arp saddr ip $network drop
        arp daddr ip $network drop
        $from_bridge
    }

    chain prerouting {
        type filter hook prerouting priority -300; policy accept;
        iifname @ports goto from_port
        goto from_stranger
    }
    chain input {
        type filter hook input priority -300; policy accept;
        iifname @ports goto from_port
        goto from_stranger
    }
    chain forward {
        type filter hook forward priority -300; policy accept;
        iifname @ports drop
        oifname @ports drop
        ip saddr $network drop
        ip daddr $network drop
    }
    chain output {
        type filter hook output priority -300; policy accept;
        oifname @ports goto to_port
        ether saddr $mac drop
        $to_bridge
    }
}
""")

# Whether the kernel can tell a frame's bridge (CONFIG_NFT_BRIDGE_META).
BRIDGE_META_PROBE = """
add table bridge bailey-probe
add chain bridge bailey-probe probe
add rule bridge bailey-probe probe meta ibrname "bailey" drop
"""


@dataclass(frozen=True)
class Ground:
    """The bridge as it is: its network, its own hardware address, and whether the kernel can tell a frame's bridge."""

    network: IPv4Network
    mac: str
    tells_bridge: bool


def render(settings: NetworkSettings, resolvers: Sequence[str], ground: Ground) -> str:
    """Return the commands that make both tables, neither of which is there."""
    services = {f"{address} . {protocol} . {DNS}" for address in resolvers for protocol in ("tcp", "udp")}
    services |= {f"{item.address} . {item.protocol} . {item.port}" for item in settings.services}
    words = {
        "table": settings.table,
        "bridge": settings.bridge,
        "network": str(ground.network),
        "mac": ground.mac,
        "link_local": str(LINK_LOCAL),
        "known": _KNOWN,
        "services": _listed(sorted(services)),
        "denied_networks": _listed(settings.denied_networks),
        "denied_ports": _listed(settings.denied_ports),
        "denials": "".join(_denial(settings, name) for name in _DENIALS),
        "log_egress": _log(settings, "logged_allowed", "saddr", "allow", "accept"),
        "log_ingress": _log(settings, "logged_allowed", "daddr", "allow", "accept"),
        "log_group": str(settings.log_group),
        "limit": _limit(settings),
        "from_bridge": f'meta ibrname "{settings.bridge}" drop' if ground.tells_bridge else "",
        "to_bridge": f'meta obrname "{settings.bridge}" drop' if ground.tells_bridge else "",
    }
    return _INET.substitute(words) + _BRIDGE.substitute(words)


def clear(table: str) -> str:
    """Return the commands that take both tables away, whether they are there or not."""
    return "".join(f"add table {family} {table}\ndelete table {family} {table}\n" for family in ("inet", "bridge"))


def _listed(items: Iterable[object]) -> str:
    """Return the elements of a set; nft knows no empty list."""
    text = ", ".join(map(str, items))
    return f"elements = {{ {text} }};" if text else ""


def _limit(settings: NetworkSettings) -> str:
    return f"limit rate {settings.log_rate}/second burst {settings.log_burst} packets"


def _denial(settings: NetworkSettings, name: str) -> str:
    reason, side = _DENIALS[name]
    return f"chain {name} {{\n        {_log(settings, 'logged_denied', side, f'deny {reason}', 'drop')}\n    }}\n    "


def _log(settings: NetworkSettings, seen: str, side: str, text: str, verdict: str) -> str:
    """Return rules that log within the rate of the instance's address, and count by it what is over that."""
    log = f'log prefix "bailey {text}" group {settings.log_group}'
    rules = (
        f"update @{seen} {{ ip {side} {_limit(settings)} }} {log} {verdict}",
        f"update @unlogged {{ ip {side} }} {verdict}",
        verdict,
    )
    return "\n        ".join(rules)
