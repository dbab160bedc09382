"""Published ports of a spec, as they are written and as they are told."""

from __future__ import annotations

import pytest
from bailey.errors import InvalidValueError
from bailey.ports import Port

from tests.unit import samples


@pytest.mark.parametrize(
    ("written", "port"),
    [
        ("8001:8080", Port("127.0.0.1", 8001, 8080, "tcp")),
        ("0.0.0.0:53:53/udp", Port("0.0.0.0", 53, 53, "udp")),
        ("[::1]:80:8080", Port("::1", 80, 8080, "tcp")),
        ("[2001:DB8::1]:80:8080", Port("2001:db8::1", 80, 8080, "tcp")),
        ({"target": "80", "published": "81"}, Port("127.0.0.1", 81, 80, "tcp")),
    ],
)
def test_ports_in_short_and_long_form(written: object, port: Port) -> None:
    assert samples.spec(ports=[written]).ports == (port,)
    assert samples.spec(ports=[str(port)]).ports == (port,)


def test_a_ports_address_is_fit_for_a_url() -> None:
    assert Port("127.0.0.1", 80, 8080, "tcp").address == "127.0.0.1:80"
    assert Port("::1", 80, 8080, "tcp").address == "[::1]:80"


def test_ports_without_a_network_contradict_each_other() -> None:
    with pytest.raises(InvalidValueError, match=r"ada-web-1\.ports: .* none with network_mode: none"):
        samples.spec(ports=["80:80"], network_mode="none")
