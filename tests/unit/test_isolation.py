"""What an exception or a volume is read back as; the rest of the lock-down: test_enforcement.py."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from bailey import grants, isolation
from bailey.host.apparmor import Confinement
from bailey.host.idmap import IDENTITY
from bailey.host.mounts import Mount, parse_mountinfo
from bailey.host.proc import Process
from bailey.isolation import (
    device_finding,
    identity_findings,
    mount_findings,
    namespace_findings,
    process_findings,
)
from bailey.spec import Spec

from tests.unit import samples

SOCKET = {"type": "bind", "source": "/run/engine.sock", "target": "/run/engine.sock"}
HELD = Confinement(("bailey-tenant",), "enforce")
INIT = Process(
    *(7, 1, 200_000, frozenset({200_000}), frozenset({200_000, 105}), 1, 0, 0, 0),
    no_new_privs=True,
    seccomp=True,
    filters=1,
)
USUAL = isolation._USUAL_DEVICES


def mount(point: str, options: str = "ro", root: str = "/", kind: str = "ext4") -> Mount:
    return parse_mountinfo(f"1 2 0:3 {root} {point} {options} - {kind} none rw\n")[0]


def mounted(spec: Spec, *mounts: Mount) -> dict[str, tuple[str, str]]:
    findings = mount_findings(spec, 7, [mount("/"), *mounts])
    return {field: (declared, actual) for field, declared, actual in findings if declared != actual}


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(isolation, "resolve_inside", lambda _pid, path: path)
    monkeypatch.setattr(isolation, "PROC", tmp_path)
    monkeypatch.setattr(isolation, "present", lambda _paths: frozenset())


@pytest.mark.parametrize(
    ("found", "actual"),
    [
        ([mount("/data", "rw,nosuid", "/ada-web-1/data")], None),
        ([mount("/data", "rw", "/volumes/ada-web-1/data")], None),
        ([mount("/data", "ro", "/ada-web-1/data")], "read-only"),
        ([mount("/data", "rw", "/bob-web-1/data")], "another directory, /bob-web-1/data"),
        ([mount("/data", "rw", "/ada-web-1/data//deleted")], "another directory, /ada-web-1/data//deleted"),
        ([], "not mounted"),
    ],
)
def test_a_volume_is_the_instances_own_directory(found: list[Mount], actual: str | None) -> None:
    spec = samples.spec(volumes=["/data"], disk_limit="1M", tmpfs=[])
    assert mounted(spec, *found) == ({} if actual is None else {"volumes[/data]": ("read-write", actual)})


def test_a_volume_of_roots_has_no_set_user_id_programs_for_others() -> None:
    spec = samples.spec(user=0, volumes=[{"target": "/data", "read_only": True}], tmpfs=[])
    assert mounted(spec, mount("/data", "ro,nosuid", "/ada-web-1/data")) == {}
    assert mounted(spec, mount("/data", "ro", "/ada-web-1/data")) == {
        "volumes[/data]": ("read-only, nosuid", "read-only")
    }


@pytest.mark.parametrize(
    ("found", "actual"),
    [
        ([mount("/run/engine.sock", root="/engine.sock")], None),
        ([mount("/run/engine.sock", root="/engine.sock//deleted")], "another file, /engine.sock//deleted"),
        ([mount("/run/engine.sock", "rw", root="/engine.sock")], "the engine's socket, writable"),
        ([], "not mounted"),
    ],
)
def test_the_engines_socket_is_the_one_that_it_answers_at(
    monkeypatch: pytest.MonkeyPatch, found: list[Mount], actual: str | None
) -> None:
    monkeypatch.setattr(isolation, "mount_holding", lambda _path: mount("/run", "rw", "/", "tmpfs"))
    spec = samples.spec(volumes=[SOCKET], tmpfs=[])
    assert mounted(spec, *found) == (
        {} if actual is None else {"volumes[/run/engine.sock]": ("the engine's socket, read-only", actual)}
    )


@pytest.mark.parametrize(
    ("host", "inside", "rules", "shown"),
    [
        ("c 10:232", "c 10:232", {"c 10:232 rw"}, "/dev/kvm"),
        ("c 10:232", "c 10:232", None, "/dev/kvm"),
        ("c 10:232", "c 10:232", set(), "none"),
        ("c 10:232", "c 10:232", {"c 10:232 r"}, "c 10:232 r"),
        ("c 10:232", "c 10:232", {"c 10:232 rwm"}, "c 10:232 rwm"),
        ("c 10:232", "c 10:233", {"c 10:232 rw"}, "none"),
        ("c 10:232", None, None, "none"),
        (None, None, None, "none"),
        ("c 10:232", "c 10:232", {"c 10:232 rw", "b 8:0 rwm"}, "/dev/kvm, b 8:0 rwm"),
    ],
)
def test_a_device_is_there_and_is_all_that_is(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    host: str | None,
    inside: str | None,
    rules: Iterable[str] | None,
    shown: str,
) -> None:
    nodes = {"/dev/kvm": host, f"{tmp_path}/7/root/dev/kvm": inside}
    monkeypatch.setattr(isolation, "device_rule", nodes.get)
    held = None if rules is None else USUAL | frozenset(rules)
    assert device_finding(samples.spec(devices=["/dev/kvm"]), 7, held) == ("devices", "/dev/kvm", shown)


@pytest.mark.parametrize(
    ("declared", "held", "shown"),
    [
        ("bailey-tenant", HELD, "bailey-tenant"),
        ("bailey-tenant", Confinement(("bailey-tenant", "bailey-tenant-program"), "enforce"), "bailey-tenant"),
        ("bailey-tenant", Confinement(("bailey-tenant",), "complain"), "bailey-tenant (complain)"),
        ("bailey-tenant", Confinement(("bailey-tenant", "crun"), "mixed"), "bailey-tenant//&crun (mixed)"),
        ("bailey-tenant", Confinement(("docker-default",), "enforce"), "docker-default (enforce)"),
        ("bailey-tenant", Confinement((), "unconfined"), "none"),
        ("bailey-tenant", None, "none"),
        ("none", None, "none"),
        ("none", Confinement(("docker-default",), "enforce"), "none"),
    ],
)
def test_a_profile_holds_where_it_binds(declared: str, held: Confinement | None, shown: str) -> None:
    spec = samples.spec(apparmor_profile=declared)
    found = {field: (wanted, actual) for field, wanted, actual in process_findings(spec, INIT, 0, held)}
    assert found["apparmor_profile"] == (declared, shown)


def test_groups_are_those_that_were_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "supplementary_groups", lambda _spec, _ids: frozenset({105}))
    found = list(identity_findings(samples.spec(), INIT, IDENTITY, IDENTITY))
    assert found == [("user", "200000", "200000"), ("groups", "105, 200000", "105, 200000")]
    assert all(declared == actual for _, declared, actual in process_findings(samples.spec(), INIT, 0, HELD))
    assert grants.supplementary_groups(samples.spec()) == frozenset()


def test_users_have_a_namespace_where_ids_are_remapped() -> None:
    own = frozenset({"ipc", "mnt", "net", "pid", "uts"})
    assert list(namespace_findings(own, 1, remapped=True)) == [
        ("namespaces", "ipc, mnt, net, pid, user, uts", "ipc, mnt, net, pid, uts")
    ]
    assert [declared == actual for _, declared, actual in namespace_findings(own | {"user"}, 1, remapped=True)] == [
        True
    ]


def test_control_groups_have_a_namespace_with_cgroup_v2() -> None:
    own = frozenset({"ipc", "mnt", "net", "pid", "uts"})
    assert [declared == actual for _, declared, actual in namespace_findings(own, 1)] == [True]
    assert list(namespace_findings(own, 2)) == [
        ("namespaces", "cgroup, ipc, mnt, net, pid, uts", "ipc, mnt, net, pid, uts")
    ]
    assert next(iter(namespace_findings(frozenset(), 1)))[2] == "the host's"
