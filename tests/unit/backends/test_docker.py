"""What a blueprint becomes in the engine's words, and what is read out of the engine's answers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from bailey.backends import docker
from bailey.backends.base import Blueprint, EngineMount
from bailey.errors import HostError
from bailey.spec import parse_spec

DECLARED: dict[str, object] = {
    "name": "web",
    "tenant": "ada",
    "image": "web:1",
    "mem_limit": "64M",
    "cpus": 0.5,
    "pids_limit": 9,
}


def config(**fields: object) -> dict[str, Any]:
    spec = parse_spec({**DECLARED, **fields})
    mounts = [EngineMount(Path("/host/data"), "/data", read_only=False)]
    return docker.container_config(Blueprint(spec, "web", 2000, mounts, ["/dev/loop0"], {"bailey.name": "web"}))


def test_a_container_is_locked_down_without_being_asked() -> None:
    made = config()
    host = made["HostConfig"]
    assert made["User"] == "2000:2000"
    assert made["Healthcheck"] == {"Test": ["NONE"]}
    assert (host["ReadonlyRootfs"], host["Privileged"], host["CapDrop"], host["CapAdd"]) == (True, False, ["ALL"], [])
    assert host["SecurityOpt"][0] == "no-new-privileges"
    assert json.loads(host["SecurityOpt"][1].removeprefix("seccomp="))["defaultAction"] == "SCMP_ACT_ERRNO"
    assert host["IpcMode"] == "private"


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
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 4}
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


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("web", ("web", "latest")),
        ("web:1", ("web", "1")),
        ("registry.example:5000/a/web", ("registry.example:5000/a/web", "latest")),
        ("registry.example:5000/a/web:1", ("registry.example:5000/a/web", "1")),
        ("registry.example:5000/web@sha256:ab", ("registry.example:5000/web", "sha256:ab")),
        ("registry.example:5000/web:1@sha256:ab", ("registry.example:5000/web", "sha256:ab")),
    ],
)
def test_references_are_split(reference: str, parts: tuple[str, str]) -> None:
    assert docker._split_reference(reference) == parts


def backend(path: Path) -> docker.DockerBackend:
    return docker.DockerBackend("unix:///absent", client_config=path)


def test_a_login_is_sent_to_its_own_registry_alone(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {"r.example:5000": {"auth": base64.b64encode(b"me:pass:word").decode()}}}))
    header = backend(path)._registry_header("r.example:5000/web")["X-Registry-Auth"]
    account = json.loads(base64.urlsafe_b64decode(header))
    assert account == {"username": "me", "password": "pass:word", "serveraddress": "r.example:5000"}
    assert backend(path)._registry_header("other.example/web") == {}
    assert backend(tmp_path / "absent")._registry_header("r.example:5000/web") == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"r": {"auth": "s3cret-not-base64!"}}}'])
def test_a_broken_client_configuration_is_named_and_not_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(HostError, match=r"config\.json") as refusal:
        backend(path)._registry_header("r/web")
    assert "s3cret" not in str(refusal.value)


def test_the_log_stream_is_read_frame_by_frame() -> None:
    frames = b"".join(bytes([1, 0, 0, 0]) + len(part).to_bytes(4, "big") + part for part in (b"one\n", b"two\n"))
    assert docker._log_text(frames) == "one\ntwo"
    assert docker._log_text(frames[:6]) == ""


def test_a_listed_container_is_read() -> None:
    item = {
        "Id": "abc",
        "Names": ["/web"],
        "Labels": {"bailey.name": "web", "bailey.hash": "h"},
        "Image": "web:1",
        "State": "running",
        "Status": "Up",
        "Ports": [{"IP": "127.0.0.1", "PublicPort": 8001, "PrivatePort": 80, "Type": "tcp"}, {"PrivatePort": 9}],
    }
    made = docker._container(item)
    assert (made.name, made.declared_name, made.declared_hash, made.running) == ("web", "web", "h", True)
    assert made.ports == ("127.0.0.1:8001/tcp",)
    foreign = docker._container({**item, "Labels": None, "Ports": None, "State": "exited"})
    assert (foreign.declared_name, foreign.running, foreign.ports) == (None, False, ())
