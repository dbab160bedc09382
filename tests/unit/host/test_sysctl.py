"""A drop-in for the kernel's settings: its text, and which other files undo it."""

from __future__ import annotations

from pathlib import Path

import pytest
from bailey.host.sysctl import contradictions, render

DROP_IN = Path("/etc/sysctl.d/zz-bailey.conf")
SETTINGS = {"net/ipv4/ip_forward": "1", "net/ipv4/conf/br.1/forwarding": "1"}


def wrote(root: Path, name: str, text: str) -> list[str]:
    """Return what contradicts once a file says something."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return contradictions(DROP_IN.name, SETTINGS, root)


def test_a_links_setting_is_a_pattern_that_only_its_name_matches() -> None:
    lines = render(SETTINGS).splitlines()
    assert lines[0].startswith("#")
    assert lines[1:] == ["net/ipv4/ip_forward = 1", "net/ipv4/conf/br.[1]/forwarding = 1"]


@pytest.mark.parametrize(
    "line",
    [
        *("net.ipv4.ip_forward=0", "  net.ipv4.ip_forward = 0", "-net.ipv4.ip_forward = 0", "net/ipv4/ip_forward = 0"),
        *("net.ipv4.conf.br/1.forwarding = 0", "net/ipv4/conf/br.1/forwarding = 0", "net.ipv4.conf.*.forwarding = 0"),
    ],
)
def test_another_value_in_a_later_file_is_told_with_the_file(tmp_path: Path, line: str) -> None:
    found = wrote(tmp_path, "usr/lib/sysctl.d/zzz.conf", f"# why\n{line}\n")
    assert len(found) == 1
    assert found[0].startswith("/usr/lib/sysctl.d/zzz.conf: net/ipv4/")


def test_the_file_that_procps_reads_last_counts_as_later(tmp_path: Path) -> None:
    assert wrote(tmp_path, "etc/sysctl.conf", "net.ipv4.ip_forward = 0\n") == [
        "/etc/sysctl.conf: net/ipv4/ip_forward = 0"
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("etc/sysctl.d/99-hardening.conf", "net.ipv4.ip_forward = 0\n"),  # read before ours
        ("etc/sysctl.d/zzz.conf", "net.ipv4.ip_forward = 1\nnet.ipv4.tcp_syncookies = 0\n"),
        ("etc/sysctl.d/zzz.conf", "#net.ipv4.ip_forward = 0\n; net.ipv4.ip_forward = 0\n\nnonsense\n"),
        ("etc/sysctl.d/zzz.bak", "net.ipv4.ip_forward = 0\n"),
    ],
)
def test_what_does_not_undo_it_is_not_told(tmp_path: Path, name: str, text: str) -> None:
    assert wrote(tmp_path, name, text) == []


def test_a_file_that_another_of_its_name_hides_is_not_read(tmp_path: Path) -> None:
    wrote(tmp_path, "etc/sysctl.d/zzz.conf", "")
    assert wrote(tmp_path, "usr/lib/sysctl.d/zzz.conf", "net.ipv4.ip_forward = 0\n") == []
