"""A spec is read once and loudly: what is valid survives being written and read, and junk is refused by name."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from bailey.errors import InvalidValueError
from bailey.exceptions import STANDING_FIELDS
from bailey.network import Network
from bailey.spec import (
    LIVE_FIELDS,
    PLAN_FIELDS,
    PROGRAM_FIELDS,
    SPEC_FIELDS,
    STATES,
    VolumeMount,
    parse_spec,
    redact,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit import samples

# Everything that can be declared, with another value for each field, both valid.
FULL: dict[str, object] = samples.declaration(
    app="web",
    pull_policy="always",
    command=["serve", 8080],
    entrypoint=["/bin/run"],
    environment={"SECRET": "hunter2", "COUNT": 3, "DEBUG": True},
    working_dir="/srv",
    hostname="web",
    user=200_000,
    ports=["8001:8080", {"target": 53, "published": 53, "host_ip": "::1", "protocol": "udp"}],
    volumes=["/data", {"target": "/site", "read_only": True}],
    read_only=False,
    cap_add=["NET_BIND_SERVICE"],
    apparmor_profile="bailey-static",
    devices=["/dev/kvm"],
    network_mode="bridge",
    restart="on-failure:3",
    runtime="runc",
    stop_signal="SIGINT",
    stop_grace_period="3s",
    healthcheck={"http": {"port": 80, "path": "/x", "status": 204}, "interval": "5s", "retries": 2, "action": "report"},
    network={
        "ingress": "20Mbit",
        "egress": "10Mbit",
        "new_connections": 50,
        "connections": 512,
        "same_tenant": True,
        "rules": [
            {"action": "allow", "cidr": "10.1.0.0/16", "protocol": "tcp", "ports": [5432, "8000-8100"]},
            {"action": "deny", "direction": "ingress", "app": "bob/web"},
            {"action": "allow", "host": True, "protocol": "udp", "ports": [123]},
        ],
    },
    memswap_limit="96M",
    mem_reservation="32M",
    cpu_shares=512,
    cpuset="0-1",
    disk_limit="1G",
    blkio_config={"device_read_bps": "1M", "device_write_iops": 100},
    io_scope="direct",
    shm_size="8M",
    tmpfs=["/tmp:size=4M,mode=700,exec"],
    logging={"driver": "json-file", "options": {"max-size": "1M", "max-file": 3}},
    ulimits={"nofile": {"soft": 512, "hard": 1024}, "core": 0},
    storage_opt={"size": "64M"},
)
OTHER: dict[str, object] = {
    "name": "ada-web-2",
    "tenant": "bob",
    "app": "site",
    "image": "web:2",
    "pull_policy": "never",
    "command": ["other"],
    "entrypoint": [],
    "environment": {"SECRET": "swordfish", "COUNT": 3, "DEBUG": True},
    "working_dir": "/opt",
    "hostname": "other",
    "user": 200_001,
    "ports": [],
    "volumes": ["/data"],
    "read_only": True,
    "cap_add": [],
    "apparmor_profile": "bailey-tenant",
    "devices": ["/dev/hwrng:/dev/hwrng:rw"],
    "network_mode": "none",
    "restart": "no",
    "runtime": "crun",
    "stop_signal": "SIGTERM",
    "stop_grace_period": "4s",
    "healthcheck": {"test": ["CMD", "true"], "timeout": "5s", "start_period": "1s"},
    "mem_limit": "65M",
    "network": {"ingress": "20Mbit", "egress": "11Mbit"},
    "memswap_limit": "97M",
    "mem_reservation": "33M",
    "cpus": 0.2,
    "cpu_shares": 513,
    "cpuset": "0",
    "pids_limit": 17,
    "disk_limit": "unlimited",
    "blkio_config": {"device_read_bps": "2M", "device_write_iops": 100},
    "io_scope": "all",
    "shm_size": "9M",
    "tmpfs": ["/tmp:size=4M,mode=700"],
    "logging": {"options": {"max-size": "1M", "max-file": 4}},
    "ulimits": {"nofile": {"soft": 512, "hard": 1024}},
    "storage_opt": {"size": "65M"},
}
# Fields that cannot change alone: what goes before and after with each. A container without a network has no ports and
# no rules for it, and one with a read-only root no size of its layer.
TOGETHER: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "network_mode": ({"ports": [], "network": None}, {"ports": [], "network": None}),
    "read_only": ({}, {"storage_opt": None}),
}


def places(declared: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of every value in a declaration, however deep."""
    if path:
        yield path
    if isinstance(declared, dict):
        for key, value in declared.items():
            yield from places(value, (*path, key))
    if isinstance(declared, list):
        for number, value in enumerate(declared):
            yield from places(value, (*path, number))


def put(declared: dict[str, object], path: tuple[str | int, ...], value: object) -> dict[str, object]:
    """Return a copy with another value at one place."""
    changed: Any = copy.deepcopy(declared)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed  # type: ignore[no-any-return] # what Ansible prints is not typed


def mappings(declared: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of every mapping whose keys are known to the core."""
    for place in ((), *places(declared, path)):
        inner: Any = declared
        for key in place:
            inner = inner[key]
        if isinstance(inner, dict) and place != ("environment",):
            yield place


@given(samples.declarations())
def test_a_spec_written_out_reads_back_as_itself(declared: dict[str, object]) -> None:
    spec = parse_spec(declared)
    canonical = spec.canonical()
    again = parse_spec(json.loads(json.dumps(canonical)))
    assert again == spec
    assert again.canonical() == canonical
    assert again.recreate_hash() == spec.recreate_hash()


def test_the_full_declaration_of_these_tests_is_full() -> None:
    # What stands whatever is said, and what follows from the other fields: test_exceptions.py.
    assert {*FULL, "plan", "exceptions", *STANDING_FIELDS} == set(SPEC_FIELDS)
    assert OTHER.keys() == FULL.keys()
    parse_spec(FULL)


@pytest.mark.parametrize("path", list(places(FULL)), ids=lambda path: ".".join(map(str, path)))
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(junk=samples.JUNK)
@example(junk=None)
@example(junk="")
@example(junk="\0")
@example(junk="9" * 5000)
@example(junk="\ud800")
@example(junk=-1)
@example(junk=1e308)
@example(junk=float("nan"))
@example(junk=[])
@example(junk={})
@example(junk=[[]])
@example(junk={"": {}})
def test_junk_anywhere_is_read_or_refused_by_name(path: tuple[str | int, ...], junk: object) -> None:
    with contextlib.suppress(InvalidValueError):
        spec = parse_spec(put(FULL, path, junk))
        assert parse_spec(spec.canonical()) == spec


@given(samples.JUNK)
def test_a_declaration_that_is_junk_altogether_is_refused(junk: object) -> None:
    with pytest.raises(InvalidValueError):
        parse_spec(junk)


@given(plans=st.dictionaries(st.text(max_size=3), samples.JUNK, max_size=3), plan=samples.JUNK)
def test_junk_plans_are_refused_by_name(plans: dict[str, object], plan: object) -> None:
    with contextlib.suppress(InvalidValueError):
        parse_spec({**FULL, "plan": plan}, plans)


@pytest.mark.parametrize("path", list(mappings(FULL)), ids=lambda path: ".".join(map(str, path)) or "top")
def test_an_unknown_key_is_refused_by_its_path_and_its_value_is_not_shown(path: tuple[str | int, ...]) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_spec(put(FULL, (*path, "enviroment"), {"PASSWORD": "hunter2"}))
    field = str(caught.value.details["field"])
    assert field.endswith(".enviroment")
    for key in path:
        assert str(key) in field
    assert "hunter2" not in f"{caught.value} {caught.value.details}"


@pytest.mark.parametrize("key", ["name", "tenant", "image", "mem_limit", "cpus", "pids_limit"])
def test_a_required_field_that_is_missing_is_named(key: str) -> None:
    declared = samples.declaration()
    del declared[key]
    with pytest.raises(InvalidValueError, match=rf"\.?{key}: None is not valid; allowed: it is required") as caught:
        parse_spec(declared, where="containers[3]")
    assert str(caught.value).startswith("containers[3].name" if key == "name" else f"ada-web-1.{key}")


def test_what_is_null_was_not_given() -> None:
    assert parse_spec({**dict.fromkeys(SPEC_FIELDS), **samples.declaration()}) == parse_spec(samples.declaration())


def test_what_is_not_said_is_safe() -> None:
    spec = parse_spec(samples.declaration())
    assert (spec.app, spec.hostname, spec.pull_policy, spec.restart) == (
        spec.name,
        spec.name,
        "missing",
        "unless-stopped",
    )
    assert spec.read_only
    assert spec.cap_add == ()
    assert (spec.network_mode, spec.network) == ("bridge", Network())
    assert spec.stop_grace_period == 10
    assert spec.limits.memory_swap == spec.limits.memory
    assert [item.target for item in spec.limits.tmpfs] == ["/tmp"]
    assert not spec.limits.tmpfs[0].executable
    with pytest.raises(ValueError, match="has not been given a uid"):
        _ = spec.uid


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Upper"),
        ("name", "a" * 64),
        ("name", "ada-web-1\n"),
        ("tenant", "../x"),
        ("app", "-a"),
        ("hostname", "a.b"),
        *(("image", value) for value in ("", "Web", "web:", "a//b", "a/../b", "a b", "web@sha256:0", "-web", ":1", 1)),
        ("pull_policy", "sometimes"),
        ("command", "serve"),
        ("command", [True]),
        ("command", [None]),
        ("entrypoint", ["a\0b"]),
        ("environment", ["A=b"]),
        ("environment", {"A-B": "c"}),
        ("environment", {"A": None}),
        ("environment", {"A": ["b"]}),
        ("working_dir", "srv"),
        ("read_only", "yes"),
        ("network_mode", "host"),
        *(("network", value) for value in ("20Mbit", {"ingress": 20}, {"rules": [{"action": "allow"}]})),
        ("restart", "on-failure:0"),
        ("restart", "unless-stopped:3"),
        ("runtime", "../runc"),
        ("stop_signal", "TERM"),
        ("stop_signal", 15),
        ("stop_grace_period", "601s"),
        ("stop_grace_period", 10),
        *(("user", value) for value in (0.0, False, 999, "toor", "00", 4_294_967_294, True, "1000:1000")),
        *(
            ("ports", [value])
            for value in (
                *("8080", "0:80", "65536:80", "80:80/sctp", "1.2.3:80:80", "[fe80::1%eth0]:80:80", "::1:80:80", 80),
                *({"published": 80}, {"target": 80}, {"target": 80, "published": 80, "mode": "host"}),
                *({"target": 80, "published": 80, "host_ip": address} for address in ("lo", "fe80::1%eth0", 1)),
            )
        ),
        ("ports", "80:80"),
        *(
            ("volumes", [value])
            for value in (
                *("data", "/", "/a//b", "/a/", "/a/../b", "/a:b", "/a,b", "/a\nb", "/a\x0cb", "/proc/1", "/dev/shm"),
                *("/sys", "/" + "a" * 256, 1, {"source": "/etc", "target": "/e"}, {"read_only": True}),
            )
        ),
        ("cap_add", ["SYS_ADMIN"]),
        ("cap_add", "KILL"),
        ("apparmor_profile", "unconfined"),
        ("apparmor_profile", "../x"),
        ("apparmor_profile", ["bailey-tenant"]),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_by_its_path(field: str, value: object) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_spec(samples.declaration(disk_limit="1G", **{field: value}))
    assert f".{field}" in str(caught.value.details["field"])


def test_an_environment_that_is_refused_is_not_shown() -> None:
    for given_ in ({"PASSWORD": ["hunter2"]}, ["PASSWORD=hunter2"], "PASSWORD=hunter2"):
        with pytest.raises(InvalidValueError) as caught:
            parse_spec(samples.declaration(environment=given_))
        assert "hunter2" not in f"{caught.value} {caught.value.details}"


def test_a_diff_shows_that_a_secret_changed_and_not_what_it_is() -> None:
    shown = {secret: samples.spec(environment={"SECRET": secret}).shown() for secret in ("hunter2", "swordfish")}
    assert shown["hunter2"] != shown["swordfish"]
    assert shown["hunter2"] == samples.spec(environment={"SECRET": "hunter2"}).shown()
    assert "hunter2" not in json.dumps(list(shown.values()))
    assert redact({"name": "a"}) == {"name": "a"}


def test_environment_values_become_text_as_compose_does_it() -> None:
    spec = samples.spec(environment={"A": True, "B": 1, "C": 0.5, "D": ""})
    assert spec.environment == {"A": "true", "B": "1", "C": "0.5", "D": ""}


@pytest.mark.parametrize(
    ("volumes", "tmpfs"),
    [
        (["/data", "/data"], ["/tmp:size=1M"]),
        (["/data", "/data/inner"], ["/tmp:size=1M"]),
        (["/data/inner", "/data"], ["/tmp:size=1M"]),
        (["/tmp/data"], ["/tmp:size=1M"]),
        ([], ["/run:size=1M", "/run/app:size=1M"]),
    ],
)
def test_a_mount_point_inside_another_is_refused(volumes: list[str], tmpfs: list[str]) -> None:
    with pytest.raises(InvalidValueError, match="mount points apart from"):
        samples.spec(volumes=volumes, tmpfs=tmpfs, disk_limit="1G")
    assert samples.spec(volumes=["/data", "/data2"], disk_limit="1G").volumes


@given(st.lists(samples.PATHS, min_size=2, max_size=6, unique=True))
def test_no_two_targets_share_a_directory(targets: list[str]) -> None:
    directories = [VolumeMount(target, read_only=False).directory for target in targets]
    assert len(set(directories)) == len(targets)
    assert all("/" not in directory and directory not in ("", ".", "..") for directory in directories)


def test_the_plans_limits_lie_below_the_instances_own() -> None:
    plans = {"small": {"mem_limit": "64M", "cpus": 0.1, "pids_limit": 16, "ulimits": {"nofile": 64, "core": 0}}}
    spec = parse_spec(
        {"name": "a", "tenant": "t", "image": "web", "plan": "small", "pids_limit": 32, "ulimits": {"nofile": 128}},
        plans,
    )
    assert (spec.limits.memory, spec.limits.pids) == (64 << 20, 32)
    assert {name: limit.hard for name, limit in spec.limits.rlimits.items()} == {"nofile": 128, "core": 0}
    assert "plan" not in spec.canonical()


@pytest.mark.parametrize(
    ("plan", "plans", "message"),
    [
        (
            "huge",
            {"small": {}, "medium": {}},
            "ada-web-1.plan: 'huge' is not valid; allowed: one of the plans medium, small",
        ),
        ("huge", {}, r"one of the plans \(none\)"),
        (["small"], {"small": {}}, "one of the plans small"),
        ("small", {"small": {"image": "web"}}, r"plans\.small\.image: 'image' is not valid"),
        ("small", {"small": "64M"}, r"plans\.small: '64M' is not valid; allowed: a mapping"),
    ],
)
def test_a_plan_that_is_not_there_or_not_valid_is_named(plan: object, plans: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        parse_spec(samples.declaration(plan=plan), plans)


@pytest.mark.parametrize("field", sorted(OTHER))
def test_the_hash_depends_on_exactly_what_a_living_container_cannot_change(field: str) -> None:
    before = parse_spec({**FULL, **TOGETHER.get(field, ({}, {}))[0]})
    after = parse_spec({**FULL, field: OTHER[field], **TOGETHER.get(field, ({}, {}))[1]})
    assert before != after
    assert (before.recreate_hash() == after.recreate_hash()) == (field in LIVE_FIELDS)


@pytest.mark.parametrize("field", ["mem_reservation", "cpuset"])
def test_a_limit_that_an_engine_cannot_take_away_again_needs_a_new_container(field: str) -> None:
    without = {key: value for key, value in FULL.items() if key != field}
    assert parse_spec(without).recreate_hash() != parse_spec(FULL).recreate_hash()


def test_live_fields_are_fields() -> None:
    assert set(SPEC_FIELDS) > LIVE_FIELDS
    assert set(PROGRAM_FIELDS) < set(SPEC_FIELDS)
    assert set(PROGRAM_FIELDS) | set(PLAN_FIELDS) == set(SPEC_FIELDS)
    assert len(set(SPEC_FIELDS)) == len(SPEC_FIELDS)
    assert STATES == ("started", "stopped", "absent")


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        samples.spec().name = "other"  # type: ignore[misc]
