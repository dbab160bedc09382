"""Which name servers containers get, from the files in which a host has its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from bailey.host.resolvers import read_resolvers

FALLBACK = ("8.8.8.8", "8.8.4.4")
UPSTREAM = "nameserver 10.9.9.9\n"


@pytest.mark.parametrize(
    ("etc", "resolvers"),
    [
        ("nameserver 10.0.0.53\n", ("10.0.0.53",)),
        ("# nameserver 1.1.1.1\n; nameserver 2.2.2.2\nsearch a.b\nnameserver\t10.0.0.53 # ours", ("10.0.0.53",)),
        ("nameserver 10.0.0.53\nnameserver 10.0.0.54\nnameserver 10.0.0.53\n", ("10.0.0.53", "10.0.0.54")),
        ("nameserver 127.0.0.1\nnameserver 10.0.0.53\n", ("10.0.0.53",)),
        ("nameserver ::1\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\nnameserver 10.0.0.53\n", ("10.0.0.53",)),
        ("nameserver 127.0.0.53\noptions edns0\n", ("10.9.9.9",)),
        ("nameserver 127.0.0.53\nnameserver 127.0.0.1\n", FALLBACK),
        ("nameserver 127.0.0.1\n", FALLBACK),
        ("nameserver 2001:db8::1\n", FALLBACK),
        ("nameserver\nnameserver dns.example\n", FALLBACK),
        ("", FALLBACK),
    ],
)
def test_containers_get_the_hosts_name_servers_that_they_can_reach(
    tmp_path: Path, etc: str, resolvers: tuple[str, ...]
) -> None:
    (tmp_path / "etc").write_text(etc)
    (tmp_path / "systemd").write_text(UPSTREAM)
    assert read_resolvers(tmp_path / "etc", tmp_path / "systemd") == resolvers


def test_without_files_the_engine_has_its_own(tmp_path: Path) -> None:
    assert read_resolvers(tmp_path / "etc", tmp_path / "systemd") == FALLBACK
    (tmp_path / "etc").write_text("nameserver 127.0.0.53\n")
    assert read_resolvers(tmp_path / "etc", tmp_path / "systemd") == FALLBACK


def test_this_hosts_can_be_read() -> None:
    assert read_resolvers()
