"""Limits: each in its bounds, none against another, and what must be said is asked for."""

from __future__ import annotations

import re

import pytest
from bailey.errors import InvalidValueError
from bailey.limits import LIMIT_FIELDS, IoRates, Limits, LogLimit, Tmpfs, merge_declarations, parse_limits
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import samples

MINIMAL: dict[str, object] = {"mem_limit": "64M", "cpus": 0.5, "pids_limit": 16}


def limits(*, writable_root: bool = False, has_volumes: bool = False, **declared: object) -> Limits:
    return parse_limits("web", {**MINIMAL, **declared}, writable_root=writable_root, has_volumes=has_volumes)


@given(data=st.data(), writable_root=st.booleans(), has_volumes=st.booleans())
def test_limits_written_out_read_back_as_themselves(
    data: st.DataObject, writable_root: bool, has_volumes: bool
) -> None:
    declared = data.draw(samples.limit_declarations(writable_root=writable_root, has_volumes=has_volumes))
    parsed = parse_limits("web", declared, writable_root=writable_root, has_volumes=has_volumes)
    assert set(parsed.canonical()) <= set(LIMIT_FIELDS)
    assert parse_limits("web", parsed.canonical(), writable_root=writable_root, has_volumes=has_volumes) == parsed


def test_what_is_not_said() -> None:
    parsed = limits()
    assert parsed.memory_swap == parsed.memory
    assert parsed.memory_reservation is None
    assert parsed.cpu_shares == 1024
    assert parsed.cpuset is None
    assert parsed.disk is None
    assert not parsed.io
    assert parsed.io_scope == "all"
    assert parsed.tmpfs == (Tmpfs("/tmp", 16 << 20, 0o1777, executable=False),)
    assert parsed.shm_size == 16 << 20
    assert parsed.log == LogLimit(10 << 20, 2)
    assert parsed.log.total == 20 << 20
    assert parsed.layer is None
    assert parsed.rlimits == {}


def test_what_is_said() -> None:
    parsed = limits(
        memswap_limit="96M",
        mem_reservation="32M",
        cpu_shares=2,
        cpuset="0-1",
        disk_limit="1G",
        blkio_config={"device_read_bps": "1M", "device_write_iops": 100},
        shm_size="4K",
        tmpfs=["/run:size=4K,mode=0755,exec"],
        storage_opt={"size": "1M"},
        logging={"options": {"max-size": "1M", "max-file": 1}},
        ulimits={"core": 0},
        writable_root=True,
    )
    assert (parsed.memory_swap, parsed.memory_reservation, parsed.cpu_shares) == (96 << 20, 32 << 20, 2)
    assert (parsed.cpuset, parsed.disk, parsed.layer) == ({0, 1}, 1 << 30, 1 << 20)
    assert parsed.io == IoRates(read_bps=1 << 20, write_iops=100)
    assert parsed.tmpfs == (Tmpfs("/run", 4096, 0o755, executable=True),)
    assert parsed.log == LogLimit(1 << 20, 1)
    assert parsed.rlimits["core"].hard == 0


@pytest.mark.parametrize("key", sorted(MINIMAL))
def test_a_limit_that_is_required_says_where_it_can_come_from(key: str) -> None:
    with pytest.raises(InvalidValueError, match=rf"^web\.{key}: .* required: name a plan that has it, or declare it"):
        limits(**{key: None})


@pytest.mark.parametrize(
    ("declared", "field", "allowed"),
    [
        ({"mem_limit": "64"}, "web.mem_limit", "a size with a unit"),
        ({"mem_limit": "-64M"}, "web.mem_limit", "a size with a unit"),
        ({"mem_limit": "67108865B"}, "web.mem_limit", "a multiple of 4K"),
        ({"memswap_limit": "32M"}, "web.memswap_limit", "at least mem_limit, 64M"),
        ({"memswap_limit": "-1"}, "web.memswap_limit", "a size with a unit"),
        ({"mem_reservation": "65M"}, "web.mem_reservation", "at most mem_limit, 64M"),
        ({"cpus": 0}, "web.cpus", "at least 0.01"),
        ({"cpu_shares": 1}, "web.cpu_shares", "from 2 to 262144"),
        ({"cpu_shares": 262_145}, "web.cpu_shares", "from 2 to 262144"),
        ({"cpuset": "1-0"}, "web.cpuset", "processor numbers"),
        ({"pids_limit": 0}, "web.pids_limit", "from 1 to 4194304"),
        ({"pids_limit": -1}, "web.pids_limit", "from 1 to 4194304"),
        ({"disk_limit": "1020K"}, "web.disk_limit", "at least 1M"),
        ({"disk_limit": "none"}, "web.disk_limit", "a size with a unit"),
        ({"blkio_config": {"device_read_bps": "4095B"}}, "web.blkio_config.device_read_bps", "at least 4K"),
        ({"blkio_config": {"device_read_iops": 0}}, "web.blkio_config.device_read_iops", "operations a second"),
        ({"blkio_config": {"weight": 10}}, "web.blkio_config.weight", "device_read_bps"),
        ({"blkio_config": [1]}, "web.blkio_config", "a mapping"),
        ({"io_scope": "buffered"}, "web.io_scope", "one of all, direct"),
        ({"shm_size": "64"}, "web.shm_size", "a size with a unit"),
        ({"tmpfs": "/tmp:size=1M"}, "web.tmpfs", "a list"),
        ({"tmpfs": ["/tmp"]}, "web.tmpfs[0]", "short form with a size"),
        ({"tmpfs": ["/tmp:mode=700"]}, "web.tmpfs[0]", "short form with a size"),
        ({"tmpfs": ["/tmp:size=1M,uid=0"]}, "web.tmpfs[0]", "options: size, mode, exec"),
        ({"tmpfs": ["/tmp:size=1M,size=2M"]}, "web.tmpfs[0]", "options: size, mode, exec"),
        ({"tmpfs": ["/tmp:size=1M,exec=no"]}, "web.tmpfs[0]", "options: size, mode, exec"),
        ({"tmpfs": ["/tmp:size"]}, "web.tmpfs[0]", "options: size, mode, exec"),
        ({"tmpfs": [{"target": "/tmp"}]}, "web.tmpfs[0]", "short form with a size"),
        ({"tmpfs": ["/tmp:size=1M,mode=2777"]}, "web.tmpfs[0]", "a mode from 0 to 1777"),
        ({"tmpfs": ["/tmp:size=1M,mode=0o7"]}, "web.tmpfs[0]", "a mode from 0 to 1777"),
        ({"tmpfs": ["/tmp:size=1"]}, "web.tmpfs[0].size", "a size with a unit"),
        ({"tmpfs": ["/dev/shm:size=1M"]}, "web.tmpfs[0]", "for /dev/shm use shm_size"),
        ({"tmpfs": ["tmp:size=1M"]}, "web.tmpfs[0]", "an absolute path"),
        ({"tmpfs": ["/tmp:size=1M", "/tmp:size=2M"]}, "web.tmpfs", "each target once"),
        ({"logging": {"driver": "syslog"}}, "web.logging.driver", "one of json-file"),
        ({"logging": {"options": {"max-size": "1"}}}, "web.logging.options.max-size", "a size with a unit"),
        ({"logging": {"options": {"max-file": 101}}}, "web.logging.options.max-file", "from 1 to 100"),
        ({"logging": {"options": {"mode": "x"}}}, "web.logging.options.mode", "max-file, max-size"),
        ({"storage_opt": {"size": "1M"}}, "web.storage_opt", "it goes with read_only: false only"),
        ({"ulimits": {"nofile": "many"}}, "web.ulimits.nofile", "a whole number of at least 0, or unlimited"),
        ({"memory": "64M"}, "web.memory", "mem_limit"),
    ],
)
def test_a_limit_out_of_its_bounds_is_refused(declared: dict[str, object], field: str, allowed: str) -> None:
    with pytest.raises(InvalidValueError, match=rf"^{re.escape(field)}: .*{re.escape(allowed)}"):
        limits(**declared)


def test_file_systems_in_memory_must_fit_their_memory_and_the_sum_is_shown() -> None:
    assert limits(shm_size="60M", tmpfs=["/tmp:size=4M"])
    sums = "shm_size 60M + /tmp 4M + /run 4K = 65540K"
    with pytest.raises(InvalidValueError, match=rf"^web\.mem_limit: '64M' .*{re.escape(sums)}"):
        limits(shm_size="60M", tmpfs=["/tmp:size=4M", "/run:size=4K"])


def test_with_volumes_a_disk_limit_is_required_or_expressly_none() -> None:
    with pytest.raises(InvalidValueError, match=r"^web\.disk_limit: .*with volumes it is required"):
        limits(has_volumes=True)
    assert limits(has_volumes=True, disk_limit="unlimited").disk is None
    assert limits(has_volumes=True, disk_limit="1M").disk == 1 << 20


def test_a_writable_root_must_be_limited_too() -> None:
    with pytest.raises(InvalidValueError, match=r"^web\.storage_opt: .*with read_only: false it is required"):
        limits(writable_root=True)
    with pytest.raises(InvalidValueError, match=r"^web\.storage_opt\.size: .*at least 1M"):
        limits(writable_root=True, storage_opt={"size": "1K"})


def test_no_file_system_in_memory_may_be_asked_for() -> None:
    assert limits(tmpfs=[]).tmpfs == ()


def test_an_instances_own_limits_lie_over_its_plans_and_mappings_merge() -> None:
    plan = {"mem_limit": "64M", "ulimits": {"core": 0, "nofile": 1}, "tmpfs": ["/a"], "cpus": None}
    overrides = {"ulimits": {"nofile": 2}, "tmpfs": ["/b"], "mem_limit": None, "pids_limit": 3}
    assert merge_declarations(plan, overrides) == {
        "mem_limit": "64M",
        "ulimits": {"core": 0, "nofile": 2},
        "tmpfs": ["/b"],
        "pids_limit": 3,
    }
    assert plan["ulimits"] == {"core": 0, "nofile": 1}


def test_rates_are_true_where_one_of_them_is_set() -> None:
    assert not IoRates()
    assert IoRates(write_iops=1)
