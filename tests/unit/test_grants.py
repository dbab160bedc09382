"""An exception on one host: the node that is there, and the group by which an instance may use it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from bailey import grants
from bailey.errors import BaileyError, InvalidValueError, UnsupportedError
from bailey.grants import check_grants, device_rule, supplementary_groups
from bailey.spec import Spec

from tests.unit import samples
from tests.unit.samples import REMAPPED

SAFE = frozenset({"nosuid", "nodev"})
ENGINE = Path("/run/engine.sock")
NODES: dict[str, SimpleNamespace] = {}


def node(
    path: str, mode: int, gid: int = 0, number: tuple[int, int] = (10, 232), kind: int = stat.S_IFCHR, uid: int = 0
) -> None:
    NODES[path] = SimpleNamespace(st_mode=kind | mode, st_uid=uid, st_gid=gid, st_rdev=os.makedev(*number))


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    NODES.clear()

    def status(path: object) -> SimpleNamespace:
        if str(path) not in NODES:
            raise FileNotFoundError(str(path))
        return NODES[str(path)]

    monkeypatch.setattr(grants, "_STAT", status)


def with_socket(**fields: object) -> Spec:
    return samples.spec(volumes=[{"type": "bind", "source": str(ENGINE), "target": "/run/engine.sock"}], **fields)


@pytest.mark.parametrize(
    ("mode", "gid", "uid", "groups"),
    [
        (0o666, 105, 200_000, set()),
        (0o660, 105, 200_000, {105}),
        (0o660, 105, 0, set()),
        (0o600, 105, 0, set()),
        (0o662, 105, 200_000, {105}),
    ],
)
def test_an_instance_gets_the_group_that_it_needs(mode: int, gid: int, uid: int, groups: set[int]) -> None:
    node("/dev/kvm", mode, gid)
    spec = samples.spec(user=uid, devices=["/dev/kvm"])
    assert supplementary_groups(spec) == groups
    check_grants(spec, ENGINE, SAFE)


@pytest.mark.parametrize(("mode", "gid"), [(0o600, 105), (0o660, 0), (0o640, 105), (0o664, 0)])
def test_a_device_that_it_could_not_open_is_refused_with_what_to_do(mode: int, gid: int) -> None:
    node("/dev/kvm", mode, gid)
    spec = samples.spec(devices=["/dev/kvm"])
    assert supplementary_groups(spec) == frozenset()
    with pytest.raises(
        UnsupportedError, match=rf"devices: '/dev/kvm' .* its mode is {mode:04o}, its owner 0:{gid}; give"
    ):
        check_grants(spec, ENGINE, SAFE)


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        ((10, 237), stat.S_IFCHR, "it is device 10:237 here"),
        ((8, 0), stat.S_IFCHR, "it is device 8:0 here"),
        ((10, 232), stat.S_IFBLK, "no such character device"),
        ((10, 232), stat.S_IFREG, "no such character device"),
        (None, 0, "no such character device"),
    ],
)
def test_a_name_is_not_enough(number: tuple[int, int] | None, kind: int, reason: str) -> None:
    if number is not None:
        node("/dev/kvm", 0o666, 0, number, kind)
    with pytest.raises(UnsupportedError, match=reason):
        check_grants(samples.spec(devices=["/dev/kvm"]), ENGINE, SAFE)


def test_a_device_is_written_as_the_device_rules_do() -> None:
    node("/dev/kvm", 0o600)
    assert device_rule("/dev/kvm") == "c 10:232"
    assert device_rule("/dev/other") is None


def test_only_the_engines_own_socket_is_its_socket(tmp_path: Path) -> None:
    node(str(ENGINE), 0o660, 111, kind=stat.S_IFSOCK)
    assert supplementary_groups(with_socket()) == {111}
    check_grants(with_socket(), ENGINE, SAFE)
    link = tmp_path / "link"
    link.symlink_to(ENGINE)
    check_grants(with_socket(), link, SAFE)
    with pytest.raises(InvalidValueError, match=r"volumes: '/run/engine\.sock' .* the engine's own"):
        check_grants(with_socket(), Path("/run/other.sock"), SAFE)
    node(str(ENGINE), 0o600, kind=stat.S_IFSOCK)
    with pytest.raises(UnsupportedError, match="uid 200000 could not open it"):
        check_grants(with_socket(), ENGINE, SAFE)
    check_grants(with_socket(user=0), ENGINE, SAFE)


@pytest.mark.parametrize(
    ("mode", "owner", "gid", "uid", "groups"),
    [
        (0o666, 0, 105, 200_000, set()),
        (0o660, REMAPPED.to_host(200_000), 105, 200_000, set()),
        (0o660, REMAPPED.base, 105, 0, set()),
        (0o660, 0, REMAPPED.to_host(105), 200_000, {105}),
    ],
)
def test_with_remapped_ids_it_gets_what_somebody_inside_may_use(
    mode: int, owner: int, gid: int, uid: int, groups: set[int]
) -> None:
    node("/dev/kvm", mode, gid, uid=owner)
    spec = samples.spec(user=uid, devices=["/dev/kvm"])
    assert supplementary_groups(spec, REMAPPED) == groups
    check_grants(spec, ENGINE, SAFE, REMAPPED)


@pytest.mark.parametrize(
    ("mode", "owner", "gid", "uid"),
    [(0o660, 0, 105, 200_000), (0o660, 0, 105, 0), (0o660, 200_000, 105, 200_000), (0o660, 0, REMAPPED.base, 200_000)],
)
def test_with_remapped_ids_the_hosts_groups_and_its_root_are_nobody(mode: int, owner: int, gid: int, uid: int) -> None:
    reason = "with docker_userns_remap an instance is in none of the host's groups"
    node("/dev/kvm", mode, gid, uid=owner)
    node(str(ENGINE), mode, gid, kind=stat.S_IFSOCK, uid=owner)
    device = samples.spec(user=uid, devices=["/dev/kvm"])
    for field, spec in (("devices: '/dev/kvm'", device), (r"volumes: '/run/engine\.sock'", with_socket(user=uid))):
        assert supplementary_groups(spec, REMAPPED) == frozenset()
        with pytest.raises(UnsupportedError, match=rf"{field} .* its owner {owner}:{gid}; {reason}"):
            check_grants(spec, ENGINE, SAFE, REMAPPED)


def test_roots_files_must_not_be_set_user_id_on_the_host() -> None:
    spec = samples.spec(user=0, volumes=["/data"], disk_limit="1M")
    check_grants(spec, ENGINE, SAFE)
    with pytest.raises(BaileyError, match=r"user: 0 cannot be enforced on this host: .* mounted without nosuid"):
        check_grants(spec, ENGINE, frozenset({"nodev"}))
    check_grants(samples.spec(user=0), ENGINE, frozenset())
