"""What a host held before and holds after: every thing that came or went is named, and only that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ground import snapshot


def with_files(*names: str) -> snapshot.Snapshot:
    return {"files": list(names)}


def test_equal_hosts_do_not_differ() -> None:
    assert list(snapshot.compare(with_files("/etc/a"), with_files("/etc/a"))) == []


def test_what_came_and_what_went_is_named() -> None:
    findings = list(snapshot.compare(with_files("/etc/a", "/etc/b"), with_files("/etc/b", "/etc/c")))
    assert findings == ["files: left behind: /etc/c", "files: gone: /etc/a"]


def test_a_second_process_of_the_same_name_is_seen() -> None:
    before, after = {"processes": ["runsvdir"]}, {"processes": ["runsvdir", "runsvdir"]}
    assert list(snapshot.compare(before, after)) == ["processes: left behind: runsvdir"]


@pytest.mark.parametrize("path", ["/etc/ld.so.cache", "/etc/rc2.d/S01docker", "/var/log/dpkg.log"])
def test_what_packages_leave_is_allowed(path: str) -> None:
    assert list(snapshot.compare(with_files(), with_files(path))) == []


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/bailey", "/etc/docker/daemon.json", "/etc/hosts.bak", "/run/bailey", "/var/lib/bailey"),
        *("/etc/systemd/system/bailey-registry.service", "/usr/lib/bailey", "/root/.docker"),
    ],
)
def test_what_the_platform_leaves_is_not_allowed(path: str) -> None:
    assert list(snapshot.compare(with_files(), with_files(path))) == [f"files: left behind: {path}"]


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        *(("tables", "ip filter"), ("tables", "ip6 nat"), ("rules", "table ip nat {"), ("rules", "}")),
        *(("rules", "chain FORWARD {"), ("rules", "type filter hook forward priority filter; policy accept;")),
        *(("rules", "type nat hook postrouting priority srcnat; policy accept;"), ("files", "/var/log/ulog")),
        *(("rules", "type filter hook prerouting priority mangle - 5; policy accept;"), ("accounts", "user ulog")),
        *(("files", "/etc/rc2.d/S01ulogd2"), ("files", "/run/ulog")),
    ],
)
def test_what_iptables_and_the_logger_make_by_themselves_is_allowed(kind: str, line: str) -> None:
    assert list(snapshot.compare({kind: []}, {kind: [line]})) == []


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        *(("tables", "inet bailey"), ("tables", "bridge bailey"), ("links", "ifb1234 bailey ada-web-1")),
        *(("rules", "table inet bailey {"), ("rules", "chain DOCKER {"), ("rules", "ip saddr 172.17.0.2 accept")),
        *(("rules", "type filter hook forward priority filter; policy drop;"), ("files", "/var/log/bailey")),
        ("contents", "/etc/sysctl.d/zz-bailey-network.conf: net/ipv4/ip_forward = 1"),
    ],
)
def test_what_is_left_of_the_network_is_not_allowed(kind: str, line: str) -> None:
    assert list(snapshot.compare({kind: []}, {kind: [line]})) == [f"{kind}: left behind: {line}"]


def test_an_account_of_the_platforms_own_is_not_allowed() -> None:
    before, after = {"accounts": ["user root"]}, {"accounts": ["user root", "user bailey", "user docker-registry"]}
    assert list(snapshot.compare(before, after)) == ["accounts: left behind: user bailey"]


def test_a_process_and_a_link_are_seen_on_a_real_host() -> None:
    before = snapshot.take()
    with subprocess.Popen(["sleep", "12.5"]) as sleeper:
        after = snapshot.take()
        sleeper.terminate()
    assert "processes: left behind: sleep 12.5" in list(snapshot.compare(before, after))
    assert "lo" in after["links"]
    assert any(line.startswith("/proc ") for line in after["mounts"])
    assert "user root" in after["accounts"]


def test_the_one_who_asks_is_no_finding() -> None:
    note = json.loads(
        subprocess.run(["/usr/bin/python3", snapshot.__file__, "take"], capture_output=True, check=True).stdout
    )
    assert f"/usr/bin/python3 {snapshot.__file__} take" not in note["processes"]


def test_files_of_packages_are_left_out_and_others_are_not() -> None:
    files = snapshot.take()["files"]
    assert "/etc/debian_version" not in files
    assert "/etc/passwd" in files


def test_the_program_compares_two_notes(tmp_path: Path) -> None:
    for name, files in (("before", []), ("after", ["/etc/bailey"])):
        (tmp_path / name).write_text(json.dumps(with_files(*files)))
    program = [sys.executable, snapshot.__file__, "compare"]
    done = subprocess.run(
        [*program, tmp_path / "before", tmp_path / "after"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "files: left behind: /etc/bailey\n")
    assert subprocess.run([*program, tmp_path / "after", tmp_path / "after"], check=False).returncode == 0
