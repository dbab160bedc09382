"""Declared against enforced with remapped ids: whom an instance is inside and outside, and what its runtime mounts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bailey import enforcement, isolation
from bailey.confinement import CONTROL_GROUPS, READ_ONLY, read_only_paths
from bailey.enforcement import Check, checks, failing, read_container
from bailey.host.idmap import IDENTITY, IdMap
from bailey.host.mounts import parse_mountinfo
from bailey.spec import Spec

from tests.unit import kernel, samples
from tests.unit.samples import REMAPPED

DEVICE = "/dev/example"
UID = 200_000
HOST_UID = REMAPPED.to_host(UID)
WANTED = f"{UID} (host {HOST_UID})"
MEMORY = "/sys/fs/cgroup/memory"


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> kernel.Kernel:
    monkeypatch.setattr(enforcement, "device_numbers", lambda devices: dict.fromkeys(devices, "254:0"))
    return kernel.lay_out(tmp_path, monkeypatch)


@pytest.fixture
def remapped(recorded: kernel.Kernel) -> kernel.Kernel:
    recorded.remap(REMAPPED, HOST_UID)
    return recorded


def declared(**changes: object) -> Spec:
    return samples.spec(**{**kernel.DECLARED, **changes})


def judge(recorded: kernel.Kernel, ids: IdMap, **changes: object) -> list[Check]:
    reading = read_container(recorded.hierarchy, kernel.CONTAINER)
    assert reading is not None
    return checks(declared(**changes), reading, None, [DEVICE], ids)


def broken(recorded: kernel.Kernel, ids: IdMap = REMAPPED, **changes: object) -> dict[str, str]:
    return {check.field: check.enforced for check in failing(judge(recorded, ids, **changes))}


def test_a_remapped_instance_holds_and_is_shown_by_both_its_numbers(remapped: kernel.Kernel) -> None:
    results = judge(remapped, REMAPPED)
    assert failing(results) == []
    shown = {check.field: check.enforced for check in results}
    assert (shown["user"], shown["groups"]) == (WANTED, WANTED)
    assert shown["namespaces"] == "ipc, mnt, net, pid, user, uts"


def test_it_is_none_that_was_made_without(remapped: kernel.Kernel) -> None:
    found = broken(remapped, IDENTITY)
    assert (found.keys(), found["user"]) == ({"user", "groups", "mounts"}, WANTED)


def test_nor_is_one_that_was_made_without_a_remapped_one(recorded: kernel.Kernel) -> None:
    assert broken(recorded) == {"user": "200000", "groups": "200000", "namespaces": "ipc, mnt, net, pid, uts"}


@pytest.mark.parametrize(
    ("name", "old", "new", "field", "enforced"),
    [
        ("status", f"Uid:\t{HOST_UID}\t", f"Uid:\t{HOST_UID + 1}\t", "user", f"{WANTED}, 200001 (host {HOST_UID + 1})"),
        ("status", f"Uid:\t{HOST_UID}\t", f"Uid:\t{UID}\t", "user", f"{UID} of the host, {WANTED}"),
        ("status", f"Groups:\t{HOST_UID}", f"Groups:\t{HOST_UID} 6", "groups", f"6 of the host, {WANTED}"),
        ("status", f"Gid:\t{HOST_UID}", f"Gid:\t{REMAPPED.base}", "groups", f"0 (host {REMAPPED.base}), {WANTED}"),
        ("mountinfo", "/null /dev/null", "/zero /dev/null", "mounts", "/dev/null is another node, /zero"),
        ("mountinfo", "/tty /dev/tty", "/kvm /dev/kvm", "mounts", "/dev/kvm is mounted beside them"),
        ("mountinfo", "/proc/sys ro,", "/proc/sys rw,", "read_only_paths", "writable: /proc/sys"),
        ("mountinfo", "/sys ro,nosuid,nodev,noexec,relatime - sysfs", "/sys rw - sysfs", "mounts",
         "/sys can be written to"),
        ("mountinfo", f" {MEMORY} rw", " /mnt rw", "mounts", "/mnt is mounted beside them; /mnt can be written to"),
    ],
)  # fmt: skip
def test_a_word_that_differs_is_one_check_that_fails(
    remapped: kernel.Kernel, name: str, old: str, new: str, field: str, enforced: str
) -> None:
    remapped.change(name, old, new)
    assert broken(remapped) == {field: enforced}


@pytest.mark.parametrize(
    ("uid", "row", "ids", "user"),
    [
        (UID, f"0 {REMAPPED.base} {REMAPPED.size}\n", REMAPPED, f"{UID} of the host"),
        (300_000, "0 100000 65536\n0 1 2\n", IDENTITY, "300000 of the host"),
        (HOST_UID, f"0 {HOST_UID} 9\n", REMAPPED, f"0 (host {HOST_UID})"),
    ],
)
def test_numbers_outside_alone_make_nobody(recorded: kernel.Kernel, uid: int, row: str, ids: IdMap, user: str) -> None:
    recorded.remap(REMAPPED, uid)
    for name in ("uid_map", "gid_map"):
        recorded.write(name, row)
    found = broken(recorded, ids)
    assert (found["user"], found["groups"]) == (user, user)


def test_a_user_namespace_of_the_hosts_is_none_of_its_own(remapped: kernel.Kernel) -> None:
    remapped.share("user")
    assert broken(remapped) == {
        "user": str(HOST_UID),
        "groups": str(HOST_UID),
        "namespaces": "ipc, mnt, net, pid, uts",
    }


@pytest.mark.parametrize(("owner", "mode"), [(HOST_UID, 0o755), (REMAPPED.base, 0o755), (0, 0o775), (0, 0o757)])
def test_control_groups_that_somebody_inside_may_write_to(remapped: kernel.Kernel, owner: int, mode: int) -> None:
    inside = remapped.path("root") / MEMORY[1:]
    inside.chmod(mode)
    os.chown(inside, owner, owner)
    assert broken(remapped) == {"mounts": f"{MEMORY} can be written to"}


def test_roots_own_numbers(recorded: kernel.Kernel) -> None:
    recorded.remap(REMAPPED, REMAPPED.base)
    root = {"user": 0, "cap_add": [], "ulimits": {"core": 0}}
    found = broken(recorded, **root)
    assert not {"user", "groups"} & found.keys()
    (user,) = [check for check in judge(recorded, REMAPPED, **root) if check.field == "user"]
    assert user.enforced == f"0 (host {REMAPPED.base})"


GROUPS = "1 2 0:30 / /sys/fs/cgroup {},nosuid - cgroup2 cgroup rw\n"


@pytest.mark.parametrize(
    ("layers", "problem"),
    [
        (("rw", "ro"), None),
        (("ro",), None),
        (("rw",), ("read_only_paths", f"writable: {CONTROL_GROUPS}")),
        (("ro", "rw"), ("read_only_paths", f"writable: {CONTROL_GROUPS}")),
        (("rw", "ro", "ro"), ("mounts", f"{CONTROL_GROUPS} is mounted twice")),
    ],
)
def test_control_groups_of_version_2_are_covered_by_a_read_only_mount(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, layers: tuple[str, ...], problem: tuple[str, str] | None
) -> None:
    monkeypatch.setattr(isolation, "resolve_inside", lambda _pid, path: path)
    monkeypatch.setattr(isolation, "PROC", tmp_path)
    (tmp_path / "7/root" / CONTROL_GROUPS[1:]).mkdir(parents=True)
    lower = "".join(f"1 2 0:3 / {path} ro - proc none rw\n" for path in ("/", *READ_ONLY))
    mounts = parse_mountinfo(lower + "".join(map(GROUPS.format, layers)))
    monkeypatch.setattr(isolation, "present", lambda paths: {*paths} & {*READ_ONLY, CONTROL_GROUPS})
    paths = read_only_paths(2, remapped=True)
    found = isolation.mount_findings(samples.spec(tmpfs=[]), 7, mounts, paths, REMAPPED)
    differing = [(field, actual) for field, wanted, actual in found if wanted != actual]
    assert differing == ([] if problem is None else [problem])
