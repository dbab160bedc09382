"""What a blueprint becomes in the engine's words: everything that was declared, and the lock-down nobody asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bailey.backends.base import Blueprint, EngineMount
from bailey.backends.docker_config import ImageProgram, check_image_volumes, container_config, living_limits, program
from bailey.confinement import READ_ONLY, masked_paths
from bailey.errors import InvalidValueError
from bailey.spec import parse_spec

DECLARED: dict[str, object] = {
    "name": "web",
    "tenant": "ada",
    "image": "web:1",
    "mem_limit": "64M",
    "cpus": 0.5,
    "pids_limit": 9,
}
IMAGE = ImageProgram(("/entry",), ("serve", "--all"))


def config(**fields: object) -> dict[str, Any]:
    spec = parse_spec({**DECLARED, **fields})
    mounts = [EngineMount(Path("/host/data"), "/data", read_only=False)]
    return container_config(Blueprint(spec, "web", 2000, mounts, ["/dev/loop0"], {"bailey.name": "web"}), IMAGE)


def test_a_container_is_locked_down_without_being_asked() -> None:
    made = config()
    host = made["HostConfig"]
    assert made["User"] == "2000:2000"
    assert made["Healthcheck"] == {"Test": ["NONE"]}
    assert (host["ReadonlyRootfs"], host["Privileged"], host["CapDrop"], host["CapAdd"]) == (True, False, ["ALL"], [])
    assert host["SecurityOpt"][0] == "no-new-privileges"
    assert json.loads(host["SecurityOpt"][1].removeprefix("seccomp="))["defaultAction"] == "SCMP_ACT_ERRNO"
    assert host["IpcMode"] == "private"


def test_the_kernels_paths_are_covered_by_the_platforms_own_list() -> None:
    host = config()["HostConfig"]
    assert host["MaskedPaths"] == list(masked_paths())
    assert host["ReadonlyPaths"] == list(READ_ONLY)
    assert (host["Devices"], host["GroupAdd"]) == ([], [])


def test_what_was_admitted_reaches_the_engine_and_root_has_a_filter_of_its_own() -> None:
    spec = parse_spec({**DECLARED, "user": 0, "devices": ["/dev/kvm"]})
    host = container_config(Blueprint(spec, "web", 0, [], [], {}, [105, 44], ["/sys/fs/cgroup"]), IMAGE)["HostConfig"]
    assert host["ReadonlyPaths"] == ["/sys/fs/cgroup"]
    assert host["Devices"] == [
        {"PathOnHost": "/dev/kvm", "PathInContainer": "/dev/kvm", "CgroupPermissions": "rw"},
    ]
    assert host["GroupAdd"] == ["44", "105"]
    assert "inotify_init1" not in host["SecurityOpt"][1]
    assert "inotify_init1" in config()["HostConfig"]["SecurityOpt"][1]
    assert (host["Privileged"], host["CapAdd"], host["CapDrop"]) == (False, [], ["ALL"])


@pytest.mark.parametrize("volume", ["/data", "/data/", "/scratch"])
def test_an_images_volume_needs_a_place_that_is_bounded(volume: str) -> None:
    declared = {**DECLARED, "volumes": ["/data"], "disk_limit": "1G"}
    check_image_volumes(parse_spec({**declared, "tmpfs": ["/scratch:size=1M"]}), [volume])
    with pytest.raises(InvalidValueError, match=r"web\.volumes: \['/tmp'\] is not valid; allowed: /"):
        check_image_volumes(parse_spec(DECLARED), [volume])


def test_pid_1_is_the_platforms_own_and_nobody_else_restarts_it() -> None:
    made = config(restart="always")
    assert (made["Entrypoint"], made["Cmd"]) == (["/.bailey/wshd"], ["--", "/entry", "serve", "--all"])
    assert made["HostConfig"]["Init"] is False
    assert made["HostConfig"]["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ["/entry", "serve", "--all"]),
        ({"command": ["check"]}, ["/entry", "check"]),
        ({"command": []}, ["/entry"]),
        ({"entrypoint": ["/own"]}, ["/own"]),
        ({"entrypoint": ["/own"], "command": ["a", "b"]}, ["/own", "a", "b"]),
        ({"entrypoint": [], "command": ["a"]}, ["a"]),
    ],
)
def test_a_command_line_is_composed_as_the_engine_composes_it(fields: dict[str, object], words: list[str]) -> None:
    assert program(parse_spec({**DECLARED, **fields}), IMAGE) == words


def test_no_program_at_all_is_refused_before_a_container_is_made() -> None:
    with pytest.raises(
        InvalidValueError, match=r"web\.command: None is not valid; allowed: a command: the image web:1"
    ):
        program(parse_spec(DECLARED), ImageProgram((), ()))


def test_a_living_container_follows_its_limits() -> None:
    limits = parse_spec({**DECLARED, "cpuset": "1,0", "mem_reservation": "32M"}).limits
    assert living_limits(limits) == {
        "Memory": 64 << 20,
        "MemorySwap": 64 << 20,
        "NanoCpus": 500_000_000,
        "CpuShares": 1024,
        "PidsLimit": 9,
        "MemoryReservation": 32 << 20,
        "CpusetCpus": "0,1",
    }


def test_every_limit_reaches_the_engine() -> None:
    host = config(
        memswap_limit="96M",
        mem_reservation="32M",
        cpu_shares=512,
        cpuset="0-1",
        shm_size="8M",
        tmpfs=["/tmp:size=4M,mode=700,exec"],
        ulimits={"nofile": {"soft": 5, "hard": 9}},
        logging={"options": {"max-size": "1M", "max-file": 3}},
        blkio_config={"device_read_bps": "1M", "device_write_iops": 7},
        restart="on-failure:4",
        read_only=False,
        storage_opt={"size": "1G"},
    )["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["MemoryReservation"]) == (64 << 20, 96 << 20, 32 << 20)
    assert (host["NanoCpus"], host["CpuShares"], host["CpusetCpus"], host["PidsLimit"]) == (500_000_000, 512, "0,1", 9)
    assert host["ShmSize"] == 8 << 20
    assert host["Tmpfs"] == {"/tmp": "size=4194304,mode=700,nosuid,nodev,exec"}
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 5, "Hard": 9}]
    assert host["LogConfig"]["Config"] == {"max-size": "1048576", "max-file": "3"}
    assert host["BlkioDeviceReadBps"] == [{"Path": "/dev/loop0", "Rate": 1 << 20}]
    assert host["BlkioDeviceWriteIOps"] == [{"Path": "/dev/loop0", "Rate": 7}]
    assert "BlkioDeviceWriteBps" not in host
    assert (host["ReadonlyRootfs"], host["StorageOpt"]) == (False, {"size": str(1 << 30)})


def test_a_missing_source_of_a_mount_is_an_error_and_not_a_directory() -> None:
    (mount,) = config()["HostConfig"]["Mounts"]
    assert (mount["Type"], mount["Source"], mount["Target"], mount["ReadOnly"]) == (
        "bind",
        "/host/data",
        "/data",
        False,
    )
    assert "Binds" not in config()["HostConfig"]


def test_ports_are_published_on_their_addresses() -> None:
    host = config(ports=["8001:80", "127.0.0.2:8002:80", "8003:53/udp"])["HostConfig"]
    assert host["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8001"}, {"HostIp": "127.0.0.2", "HostPort": "8002"}],
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "8003"}],
    }
