"""What may be declared for a registry, and the configuration that comes of it."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
import yaml
from bailey.errors import InvalidValueError
from bailey.registry import settings
from bailey.registry.settings import Endpoint, Locations
from hypothesis import given
from hypothesis import strategies as st

LOCATIONS = Locations.parse(
    "/etc/bailey/registry", "/etc/bailey/pki", "/etc/bailey/secrets", "/var/lib/bailey/registry"
)


@pytest.mark.parametrize("name", ["registry.bailey.internal", "r.x", "a-b.c1.example", "1.example"])
def test_a_dns_name_is_accepted(name: str) -> None:
    assert settings.parse_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *["", "registry", "Registry.example", "a..b", "-a.example", "a-.example", "10.0.0.1", "a.b/c", "a.b\n"],
        *["a.b:1", "x" * 64 + ".example", ".".join(["abcdefgh"] * 30), None, 7],
    ],
)
def test_anything_else_is_not(name: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^name: "):
        settings.parse_name(name)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "224.0.0.1", "fe80::1", "host", "10.0.0", "", None]
)
def test_an_address_that_would_not_do_is_refused(address: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^address: "):
        settings.parse_address(address)


@given(st.ip_addresses())
def test_an_accepted_address_is_one_at_which_tls_is_verified(address: ipaddress.IPv4Address) -> None:
    try:
        parsed = settings.parse_address(str(address))
    except InvalidValueError:
        return
    assert parsed == str(address)
    assert not address.is_loopback


@pytest.mark.parametrize("port", [0, 1023, 65536, -1, "x", True])
def test_a_port_out_of_range_is_refused(port: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^port: "):
        settings.parse_port(port)


def test_the_registry_listens_on_its_address_alone_unless_told() -> None:
    assert Endpoint.parse("r.example", "10.0.0.5", None, 5000).listen_address == "10.0.0.5"
    assert Endpoint.parse("r.example", "10.0.0.5", "", 5000).listen_address == "10.0.0.5"
    assert Endpoint.parse("r.example", "10.0.0.5", "0.0.0.0", 5000).listen_address == "0.0.0.0"
    with pytest.raises(InvalidValueError, match=r"^listen_address: "):
        Endpoint.parse("r.example", "10.0.0.5", "eth0", 5000)


@pytest.mark.parametrize(
    "path", ["relative/path", "/", "/var", "/var/../etc", "/srv/a b", "/srv/\\u0100", "/srv/a\\n", "", None]
)
def test_a_directory_that_may_hold_others_files_is_refused(path: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^storage_dir: "):
        settings.parse_directory("storage_dir", path)


def test_two_directories_cannot_be_one() -> None:
    with pytest.raises(InvalidValueError, match=r"^storage_dir: "):
        Locations.parse("/srv/a", "/srv/b", "/srv/c", "/srv/a/")


def test_the_configuration_is_what_the_registry_reads() -> None:
    endpoint = Endpoint.parse("r.example", "2001:db8::5", None, 5001)
    document = yaml.safe_load(settings.configuration(endpoint, LOCATIONS, "the-secret"))
    assert document["http"]["addr"] == "[2001:db8::5]:5001"
    assert document["http"]["secret"] == "the-secret"
    assert document["http"]["tls"] == {
        "certificate": "/etc/bailey/registry/server.pem",
        "key": "/etc/bailey/registry/server.pem",
        "minimumtls": "tls1.2",
    }
    assert "debug" not in document["http"]
    assert document["auth"]["htpasswd"]["path"] == "/etc/bailey/registry/htpasswd"
    assert document["storage"]["delete"] == {"enabled": True}
    assert document["storage"]["filesystem"]["rootdirectory"] == "/var/lib/bailey/registry"


@given(st.text(max_size=20))
def test_an_accepted_path_comes_through_the_configuration_unchanged(name: str) -> None:
    try:
        storage = settings.parse_directory("storage_dir", f"/srv/{name}")
    except InvalidValueError:
        return
    locations = Locations(Path("/etc/r"), Path("/etc/p"), Path("/etc/s"), storage)
    endpoint = Endpoint.parse("r.example", "10.0.0.5", None, 5000)
    document = yaml.safe_load(settings.configuration(endpoint, locations, "s"))
    assert document["storage"]["filesystem"]["rootdirectory"] == str(storage)
