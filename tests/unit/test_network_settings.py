"""A host's network settings: a default for everything, and no mistake that passes."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from bailey import network_settings
from bailey.errors import HostError, InvalidValueError
from bailey.network_settings import NetworkSettings, Service, parse_network_settings, read_network_settings

FULL = {
    "version": 1,
    "table": "bailey_2",
    "bridge": "br-tenants",
    "resolvers": ["10.0.0.53", "10.0.0.53", "169.254.169.253"],
    "services": [{"address": "172.17.0.1", "protocol": "udp", "port": 123}, {"address": "172.17.0.1", "port": 5000}],
    "denied_networks": ["192.168.0.0/16", "10.0.0.0/8", "10.1.0.0/16"],
    "denied_ports": [587, 25, 25],
    "new_connections": 9,
    "connections": 99,
    "log_group": 7,
    "log_rate": 3,
    "log_burst": 4,
}


def test_every_setting_is_read() -> None:
    assert parse_network_settings(FULL, "network.json") == NetworkSettings(
        table="bailey_2",
        bridge="br-tenants",
        resolvers=("10.0.0.53", "169.254.169.253"),
        services=(Service("172.17.0.1", "udp", 123), Service("172.17.0.1", "tcp", 5000)),
        denied_networks=(IPv4Network("10.0.0.0/8"), IPv4Network("192.168.0.0/16")),
        denied_ports=(25, 587),
        new_connections=9,
        connections=99,
        log_group=7,
        log_rate=3,
        log_burst=4,
    )


def test_nothing_is_required() -> None:
    settings = parse_network_settings({}, "network.json")
    assert (settings.table, settings.bridge, settings.resolvers, settings.services) == ("bailey", "docker0", (), ())
    assert settings.denied_ports == (25, 465, 587)
    assert list(map(str, settings.denied_networks)) == list(network_settings.DENIED_NETWORKS)
    assert parse_network_settings(dict.fromkeys(FULL), "network.json") == settings


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "127.0.0.53", "169.254.169.254", "224.0.0.1"),
        *("0.0.0.0", "255.255.255.255", "198.19.0.1", "192.0.0.8"),
    ],
)
def test_what_is_not_the_internet_is_denied_by_default(address: str) -> None:
    denied = parse_network_settings({}, "network.json").denied_networks
    assert any(IPv4Address(address) in network for network in denied)
    assert not any(IPv4Address("8.8.8.8") in network for network in denied)


def test_an_empty_list_denies_nothing() -> None:
    settings = parse_network_settings({"denied_networks": [], "denied_ports": []}, "network.json")
    assert settings.denied_networks == ()
    assert settings.denied_ports == ()


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [
        ("version", 2, ".version"),
        ("colour", "red", ".colour"),
        *(("table", value, ".table") for value in ("", "Bailey", "1a", "a b", "a;flush ruleset", "a" * 32, 1)),
        *(("bridge", value, ".bridge") for value in ("", "a/b", 'a"b', "a b", "a:1", "b*", ".", "..", "a" * 16, 1)),
        *(("resolvers", [value], ".resolvers[0]") for value in ("::1", "127.0.0.53", "0.0.0.0", "dns", 8)),
        ("resolvers", "10.0.0.53", ".resolvers"),
        ("services", [{"port": 1}], ".services[0].address"),
        ("services", [{"address": "10.0.0.1"}], ".services[0].port"),
        ("services", [{"address": "::1", "port": 1}], ".services[0].address"),
        ("services", [{"address": "10.0.0.1", "port": 0}], ".services[0].port"),
        ("services", [{"address": "10.0.0.1", "port": 1, "protocol": "any"}], ".services[0].protocol"),
        ("services", [{"address": "10.0.0.1", "port": 1, "host": True}], ".services[0].host"),
        ("services", ["10.0.0.1:1"], ".services[0]"),
        ("denied_networks", ["10.0.0.0/8", "10.1.2.3/8"], ".denied_networks[1]"),
        ("denied_ports", [25, 0], ".denied_ports[1]"),
        *((key, 0, f".{key}") for key in ("new_connections", "connections", "log_group", "log_rate", "log_burst")),
        ("log_group", 65536, ".log_group"),
        ("log_rate", 100_001, ".log_rate"),
        ("connections", "many", ".connections"),
    ],
)
def test_what_is_refused_is_named(key: str, value: object, field: str) -> None:
    with pytest.raises(InvalidValueError) as error:
        parse_network_settings({**FULL, key: value}, "network.json")
    assert error.value.details["field"] == f"network.json{field}"


def test_a_file_is_read_and_named_where_it_is_not_valid(tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    path.write_text(json.dumps(FULL))
    assert read_network_settings(path) == parse_network_settings(FULL, "")
    path.write_text('{"table": "X"}')
    with pytest.raises(InvalidValueError, match=f"{path}.table"):
        read_network_settings(path)
    path.write_text("[]")
    with pytest.raises(InvalidValueError, match=f"{path}: .* a mapping"):
        read_network_settings(path)


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff"])
def test_a_file_that_cannot_be_read_is_the_hosts_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "network.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HostError, match=f"{path}: the network's settings cannot be read"):
        read_network_settings(path)
