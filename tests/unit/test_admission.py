"""What a host and its engine take in, and the sums that a refusal shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from bailey.admission import (
    BRIDGE_PORTS,
    Ground,
    Overcommit,
    check_apps,
    check_bridge,
    check_capacity,
    check_engine,
    check_host,
    check_kernel,
    check_ports,
    check_profiles,
    in_profile,
)
from bailey.backends.base import Capabilities
from bailey.errors import AdmissionError, InvalidValueError, UnsupportedError
from bailey.host.apparmor import AppArmor
from bailey.host.quota import NoQuota, Quota, Volume
from bailey.rlimits import Rlimit
from bailey.spec import Spec, parse_spec

from tests.unit.samples import REMAPPED

GIB = 1 << 30
ENGINE = Capabilities(
    version="20.10",
    runtimes=frozenset({"runc"}),
    memory_minimum=6 << 20,
    limits_layer=False,
    limits_swap=True,
    rlimits=frozenset({"nofile", "core"}),
    rlimit_ceiling={"nofile": Rlimit(20_000, 20_000)},
)


class Disk(Quota):
    """Ten gibibytes on a device, or on none; nothing is made here."""

    kind = "btrfs"

    def __init__(self, device: str | None = "/dev/loop0") -> None:
        self._device = device

    def device(self) -> str | None:
        return self._device

    def capacity(self) -> int:
        return 10 * GIB

    def volumes(self) -> dict[str, Volume]:
        return {}

    def create(self, name: str, limit: int | None, uid: int, gid: int) -> None:
        raise AssertionError((name, limit, uid, gid))

    def set_limit(self, name: str, limit: int | None) -> None:
        raise AssertionError((name, limit))

    def remove(self, name: str) -> None:
        raise AssertionError(name)


GROUND = Ground(cgroup_version=1, quota=Disk(), cpus=frozenset({0, 1}), memory=4 * GIB)


def spec(name: str = "web", **fields: object) -> Spec:
    required = {"name": name, "tenant": "ada", "image": "web:1", "mem_limit": "1G", "cpus": 0.5, "pids_limit": 9}
    return parse_spec({**required, **fields})


@pytest.mark.parametrize("runtime", ["", "runc"])
def test_an_engine_that_remaps_ids_takes_what_it_has_numbers_for(runtime: str) -> None:
    check_engine(spec(user=REMAPPED.size - 1, runtime=runtime), replace(ENGINE, ids=REMAPPED))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"user": REMAPPED.size}, r"web\.user: 1048576 .* below 1048576: .* tenants_uid_range"),
        ({"runtime": "runsc"}, r"web\.runtime: 'runsc' .* runc or crun, with docker_userns_remap"),
    ],
)
def test_an_engine_that_remaps_ids_refuses_what_does_not_work_so(fields: dict[str, object], message: str) -> None:
    engine = replace(ENGINE, runtimes=frozenset({"runc", "runsc"}))
    check_engine(spec(**fields), engine)
    with pytest.raises(InvalidValueError, match=message):
        check_engine(spec(**fields), replace(engine, ids=REMAPPED))


def test_what_fits_is_taken() -> None:
    check_host(spec(cpus=2, cpuset="0-1", disk_limit="1G"), GROUND)
    check_engine(spec(ulimits={"nofile": 20_000, "core": 0}), ENGINE)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cpus": 2.5}, "web.cpus"),
        ({"cpuset": "1-2"}, "web.cpuset"),
    ],
)
def test_processors_that_the_host_does_not_have_are_refused(fields: Mapping[str, object], field: str) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        check_host(spec(**fields), GROUND)
    assert refusal.value.details["field"] == field


IO = {"blkio_config": {"device_read_bps": "1M"}}


def test_cgroup_v1_binds_direct_io_only_and_that_has_to_be_known() -> None:
    with pytest.raises(UnsupportedError, match="io_scope: direct accepts that"):
        check_host(spec(**IO), GROUND)
    check_host(spec(**IO, io_scope="direct"), GROUND)
    check_host(spec(**IO), replace(GROUND, cgroup_version=2))


def test_io_rates_need_a_device() -> None:
    with pytest.raises(UnsupportedError, match="no block device"):
        check_host(spec(**IO, io_scope="direct"), replace(GROUND, quota=_Deviceless()))


class _Deviceless(Disk):
    root = "/somewhere"  # type: ignore[assignment] # only shown

    def __init__(self) -> None:
        super().__init__(None)


def test_a_disk_limit_needs_quotas(tmp_path: object) -> None:
    nothing = NoQuota.__new__(NoQuota)
    nothing.root = tmp_path  # type: ignore[assignment]
    with pytest.raises(UnsupportedError, match="no quotas in force"):
        check_host(spec(disk_limit="1G"), replace(GROUND, quota=nothing))


@pytest.mark.parametrize(
    ("fields", "engine", "field"),
    [
        ({"mem_limit": "4M", "shm_size": "1M", "tmpfs": []}, ENGINE, "web.mem_limit"),
        ({"runtime": "kata"}, ENGINE, "web.runtime"),
        ({}, replace(ENGINE, limits_swap=False), "web.memswap_limit"),
        ({"read_only": False, "storage_opt": {"size": "1G"}}, ENGINE, "web.storage_opt.size"),
        ({"ulimits": {"as": 1}}, ENGINE, "web.ulimits.as"),
        ({"ulimits": {"nofile": 20_001}}, ENGINE, "web.ulimits.nofile"),
        ({"ulimits": {"nofile": "unlimited"}}, ENGINE, "web.ulimits.nofile"),
    ],
)
def test_what_the_engine_cannot_do_is_refused(fields: Mapping[str, object], engine: Capabilities, field: str) -> None:
    with pytest.raises((InvalidValueError, UnsupportedError)) as refusal:
        check_engine(spec(**fields), engine)
    assert refusal.value.details["field"] == field


@pytest.mark.parametrize(("one", "other"), [("", ""), ("0.0.0.0:", "127.0.0.1:"), ("127.0.0.1:", "0.0.0.0:")])
def test_a_port_of_an_address_is_published_once(one: str, other: str) -> None:
    with pytest.raises(InvalidValueError, match="a port that a does not publish"):
        check_ports([spec("a", ports=[f"{one}8001:80"]), spec("b", ports=[f"{other}8001:81"])])


@pytest.mark.parametrize("other", ["127.0.0.2:8001:80", "8002:80", "8001:80/udp"])
def test_other_addresses_ports_and_protocols_are_free(other: str) -> None:
    check_ports([spec("a", ports=["8001:80"]), spec("b", ports=[other])])


def test_one_instance_publishes_a_port_once() -> None:
    with pytest.raises(InvalidValueError, match="a port that a does not publish"):
        check_ports([spec("a", ports=["0.0.0.0:8001:80", "192.0.2.1:8001:81"])])
    check_ports([spec("a", ports=["0.0.0.0:8001:80", "192.0.2.1:8001:80/udp"])])


def naming(app: str, name: str = "web", **fields: object) -> Spec:
    rules = [{"action": "deny", "cidr": "192.0.2.0/24"}, {"action": "allow", "app": app}]
    return spec(name, network={"rules": rules}, **fields)


@pytest.mark.parametrize("app", ["api", "ada/api", "bob/site", "web"])
def test_a_rule_may_name_an_app_that_is_declared_or_stays_and_its_own(app: str) -> None:
    check_apps([naming(app), spec("api-1", app="api")], staying=[spec("site", tenant="bob")])


@pytest.mark.parametrize("app", ["ap", "bob/api", "carol/web", "api-1"])
def test_a_rule_that_names_an_app_that_nobody_declares_is_refused_with_those_that_are(app: str) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        check_apps([naming(app), spec("api-1", app="api")], staying=[spec("site", tenant="bob")])
    written = app if "/" in app else f"ada/{app}"
    assert refusal.value.details == {
        "field": "web.network.rules[1].app",
        "value": repr(written),
        "allowed": "an app that is declared for this host: ada/api, ada/web, bob/site",
    }


def test_a_rule_of_one_that_stays_keeps_nobody_from_going() -> None:
    check_apps([spec("api")], staying=[naming("gone")])


def test_one_bridge_takes_as_many_containers_as_the_kernel_allows() -> None:
    full = [spec()] * BRIDGE_PORTS
    check_bridge([*full, spec(network_mode="none")])
    with pytest.raises(AdmissionError) as refusal:
        check_bridge([*full, spec(), spec()])
    for shown in ("1025 containers", "1023 ports", "BR_MAX_PORTS", "at least 2 of them on another host"):
        assert shown in str(refusal.value)


def limits(**fields: object) -> dict[str, object]:
    return {name: spec(name, **fields).limits for name in ("a", "b", "c", "d", "e")}


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"mem_limit": "1G"}, "5 instances declare mem_limit 5G together; the host has 4G times overcommit 1 = 4G"),
        ({"mem_limit": "1M", "shm_size": "4K", "tmpfs": []}, ""),
        ({"mem_limit": "64M", "cpus": 0.5}, "declare cpus 2.5 together; the host has 2 times"),
        ({"mem_limit": "64M", "cpus": 0.1, "disk_limit": "3G"}, "declare disk_limit 15G together; the host has 10G"),
    ],
)
def test_a_refusal_shows_the_sum_that_is_too_large(fields: Mapping[str, object], shown: str) -> None:
    declared = limits(**{"cpus": 0.1, **fields})
    if not shown:
        check_capacity(declared, GROUND, Overcommit())  # type: ignore[arg-type]
        return
    with pytest.raises(AdmissionError) as refusal:
        check_capacity(declared, GROUND, Overcommit())  # type: ignore[arg-type]
    assert shown in str(refusal.value)


def test_overcommit_promises_more() -> None:
    check_capacity(limits(cpus=0.1), GROUND, Overcommit(memory=1.25))  # type: ignore[arg-type]
    with pytest.raises(AdmissionError, match=r"times overcommit 1\.2 "):
        check_capacity(limits(cpus=0.1), GROUND, Overcommit(memory=1.2))  # type: ignore[arg-type]


def kernel(root: Path, *profiles: str, enabled: str = "Y\n") -> AppArmor:
    """Lay out what a kernel shows of AppArmor."""
    for name, text in (
        ("sys/module/apparmor/parameters/enabled", enabled),
        ("sys/kernel/security/apparmor/profiles", "".join(f"{line}\n" for line in profiles)),
    ):
        path = root / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return AppArmor(root)


def test_a_kernel_without_apparmor_is_refused_unless_that_is_declared(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"^docker_lsm: 'apparmor' .* has no AppArmor; declare docker_lsm: none"):
        check_kernel("apparmor", AppArmor(tmp_path))
    check_kernel("none", AppArmor(tmp_path))
    with pytest.raises(InvalidValueError, match=r"^docker_lsm: 'smack'"):
        check_kernel("smack")


def test_a_kernel_with_apparmor_is_taken(tmp_path: Path) -> None:
    check_kernel("apparmor", kernel(tmp_path))


def test_a_kernel_with_apparmor_turned_off_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="turned off"):
        check_kernel("apparmor", kernel(tmp_path, enabled="N\n"))


def test_a_profile_has_to_be_loaded_and_to_bind(tmp_path: Path) -> None:
    host = kernel(tmp_path, "bailey-tenant (enforce)", "bailey-lenient (complain)", "/usr/sbin/ntpd (enforce)")
    check_profiles([spec("a"), spec("b", apparmor_profile="none")], host)
    for profile in ("bailey-lenient", "bailey-static"):
        with pytest.raises(InvalidValueError, match=rf"^a\.apparmor_profile: '{profile}' .* there are bailey-tenant$"):
            check_profiles([spec("a", apparmor_profile=profile)], host)


def test_the_host_decides_whether_there_are_profiles() -> None:
    assert in_profile(spec("a"), "apparmor").apparmor_profile == "bailey-tenant"
    assert in_profile(spec("a"), "none").apparmor_profile == "none"
    with pytest.raises(InvalidValueError, match=r"^a\.apparmor_profile: 'none'"):
        in_profile(spec("a", apparmor_profile="none"), "apparmor")
    with pytest.raises(UnsupportedError, match=r"^a\.apparmor_profile: 'bailey-static'"):
        in_profile(spec("a", apparmor_profile="bailey-static"), "none")
