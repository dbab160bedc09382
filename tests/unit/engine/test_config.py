"""What becomes daemon.json, and what is refused before anything is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bailey.engine.config import FIXED, EngineSettings, compose, render, variable_of
from bailey.errors import InvalidValueError
from bailey.rlimits import KINDS, UNLIMITED

CEILINGS = {**dict.fromkeys(KINDS, UNLIMITED), "nofile": 20000}


def composed(**settings: Any) -> dict[str, Any]:
    return dict(compose(EngineSettings(**settings), CEILINGS))


def test_the_defaults_hold_what_the_platform_rests_on() -> None:
    options = composed()
    assert options["live-restore"] is True
    assert options["userland-proxy"] is False
    assert options["icc"] is True  # the agent's firewall decides; the engine's own bar would be final
    assert options["no-new-privileges"] is True
    assert options["insecure-registries"] == []
    assert options["log-driver"] == "json-file"
    assert options["log-opts"] == {"max-size": str(10 << 20), "max-file": "3"}
    assert options["storage-driver"] == "overlay2"
    assert options["runtimes"] == {"crun": {"path": "/usr/bin/crun"}}
    assert "bip" not in options
    assert "userns-remap" not in options


def test_ids_are_remapped_to_an_account_of_our_own() -> None:
    assert composed(userns_remap=True)["userns-remap"] == "bailey-remap"


def test_what_does_not_work_with_remapped_ids_is_refused() -> None:
    assert composed(runtimes=["crun", "runsc"])["runtimes"]["runsc"]
    with pytest.raises(InvalidValueError, match=r"docker_runtimes: 'runsc' .* runc or crun with docker_userns_remap"):
        composed(runtimes=["crun", "runsc"], userns_remap=True)


def test_equal_options_are_equal_bytes() -> None:
    options = composed(daemon_options={"dns": ["192.0.2.1"], "mtu": 1400})
    text = render(options)
    assert text == render(dict(reversed(options.items())))
    assert json.loads(text) == options


def test_ulimits_take_the_engines_form() -> None:
    given = {"nofile": {"soft": 1024, "hard": 20000}, "core": 0, "nproc": -1}
    assert composed(default_ulimits=given)["default-ulimits"] == {
        "core": {"Name": "core", "Soft": 0, "Hard": 0},
        "nofile": {"Name": "nofile", "Soft": 1024, "Hard": 20000},
        "nproc": {"Name": "nproc", "Soft": -1, "Hard": -1},
    }


@pytest.mark.parametrize("value", [20001, -1, {"soft": 1, "hard": 20001}])
def test_a_ulimit_above_the_hosts_is_refused_with_the_highest_allowed(value: object) -> None:
    with pytest.raises(InvalidValueError, match=r"docker_default_ulimits\.nofile\.hard: .* at most 20000"):
        composed(default_ulimits={"nofile": value})


def test_a_ulimit_that_the_engine_does_not_know_is_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"docker_default_ulimits\.as"):
        composed(default_ulimits={"as": 5})


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("data_root", "var/lib/docker", "docker_data_root: .* absolute path"),
        ("data_root", "/", "docker_data_root"),
        ("data_root", "/srv/../etc", "docker_data_root"),
        ("storage_driver", "aufs", "docker_storage_driver: 'aufs' .* overlay2"),
        ("log_level", "loud", "docker_log_level: 'loud' .* debug"),
        ("log_max_size", "10", "docker_log_max_size: '10' .* a size with a unit"),
        ("log_max_files", 0, "docker_log_max_files: 0 "),
        ("runtimes", ["kata"], "docker_runtimes: 'kata' .* crun or runsc"),
        ("default_runtime", "runsc", "docker_default_runtime: 'runsc' .* runc or crun"),
        ("bip", "10.0.0.0/8", "docker_bip"),
        ("bip", "10.255.255.255/8", "docker_bip"),
        ("bip", "172.30.0.300/24", "docker_bip"),
        ("bip", "172.30.0.1/31", "docker_bip"),
        ("default_address_pools", [{"base": "10.1.2.3/8", "size": 24}], r"pools\[0\]\.base"),
        ("default_address_pools", [{"base": "10.0.0.0/16", "size": 8}], r"pools\[0\]\.size: 8 .* from 16 to 30"),
        ("default_address_pools", [{"base": "10.0.0.0/16"}], r"pools\[0\]: "),
    ],
)
def test_a_wrong_value_is_refused_by_the_variables_name(setting: str, value: object, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        composed(**{setting: value})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("live-restor", True, "one of the engine's options"),
        ("data-root", "/srv/docker", "set it by docker_data_root"),
        ("userns-remap", "default", "set it by docker_userns_remap"),
        ("hosts", ["tcp://0.0.0.0:2375"], "the role itself decides"),
        ("debug", "yes", "true or false"),
        ("mtu", "1400", "a whole number"),
        ("mtu", True, "a whole number"),
        ("dns", "192.0.2.1", "a list of strings"),
        ("dns", [1], "a list of strings"),
        ("group", 5, "a string"),
        ("features", {"buildkit": "on"}, "a mapping of true or false"),
        ("builder", [], "a mapping"),
    ],
)
def test_a_wrong_extra_option_is_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(InvalidValueError, match=rf"docker_daemon_options\.{key}: .*{message}"):
        composed(daemon_options={key: value})


@pytest.mark.parametrize("key", sorted(FIXED))
def test_what_the_platform_rests_on_is_not_open(key: str) -> None:
    with pytest.raises(InvalidValueError, match="Bailey rests on"):
        composed(daemon_options={key: FIXED[key]})


def test_addresses_are_written_as_they_are_meant() -> None:
    options = composed(bip="172.30.0.1/24", default_address_pools=[{"base": "172.31.0.0/16", "size": "24"}])
    assert options["bip"] == "172.30.0.1/24"
    assert options["default-address-pools"] == [{"base": "172.31.0.0/16", "size": 24}]


def test_an_option_is_named_by_what_an_operator_can_change() -> None:
    assert variable_of("data-root") == "docker_data_root"
    assert variable_of("userns-remap") == "docker_userns_remap"
    assert variable_of("mtu") == "docker_daemon_options.mtu"
