"""Bad input to bailey_containers, as Ansible runs it: one clear message, and nothing has changed.

Needs root, btrfs and dockerd.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.fixtures.platform import Platform, Result, Task, tenant

pytest_plugins = ("tests.integration.fixtures.on_platform",)

SECRET = "s3cret-value"
CPUS = os.cpu_count() or 1
TIMEOUT = 3
# What stands in a case for a place that only the run knows.
NOWHERE, DEAF, HUNG, PLAIN = "<no socket>", "<nobody listens>", "<never answers>", "<plain directory>"


@dataclass(frozen=True)
class Case:
    """What is declared beside a good declaration, and what the message has to hold."""

    says: tuple[str, ...]
    fields: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    others: tuple[dict[str, Any], ...] = ()


def bad(*says: str, **fields: Any) -> Case:
    return Case(says, fields)


PLANS = {"small": {"mem_limit": "64M", "cpus": 0.5, "pids_limit": 32}}
CASES = {
    # Declarations that nobody could mean.
    "unknown plan": Case((".plan", "'huge'", "small"), {"plan": "huge"}, {"plans": PLANS}),
    "unknown limit in a plan": Case(
        ("plans.small", "mem_limits", "mem_limit"), {"plan": "small"}, {"plans": {"small": {"mem_limits": "1G"}}}
    ),
    "unknown field": bad("mem_limits", "Supported parameters include", mem_limits="64M"),
    "no tenant": bad(".tenant", "required", tenant=None),
    "no image": bad(".image", "required", image=None),
    "no memory": bad(".mem_limit", "required", "plan", mem_limit=None),
    "memory without a unit": bad(".mem_limit", "64", "a size with a unit", mem_limit=64),
    "negative memory": bad(".mem_limit", "'-64M'", "a size with a unit", mem_limit="-64M"),
    "nonsense memory": bad(".mem_limit", "'plenty'", "a size with a unit", mem_limit="plenty"),
    "memory of no whole pages": bad(".mem_limit", "'67108865B'", "4K", mem_limit="67108865B"),
    "memory below what it has to hold": bad(".mem_limit", "'24M'", "shm_size 16M + /tmp 16M = 32M", mem_limit="24M"),
    "a tmpfs larger than the memory": bad(".mem_limit", "/tmp 1G", mem_limit="64M", tmpfs=["/tmp:size=1G"]),
    "swap below the memory": bad(".memswap_limit", "'32M'", "at least mem_limit", memswap_limit="32M"),
    "a reservation above the memory": bad(".mem_reservation", "'1G'", "at most mem_limit", mem_reservation="1G"),
    "no processors at all": bad(".cpus", "0", "at least 0.01", cpus=0),
    "negative processors": bad(".cpus", "-1", "at least 0.01", cpus=-1),
    "nonsense shares": bad(".cpu_shares", "'high'", "a whole number from 2", cpu_shares="high"),
    "negative pids": bad(".pids_limit", "-1", "a whole number from 1", pids_limit=-1),
    "disk without a unit": bad(".disk_limit", "32", "a size with a unit", disk_limit=32),
    "volumes without a disk limit": bad(".disk_limit", "required", disk_limit=None),
    "an I/O rate without a unit": bad(
        ".blkio_config.device_read_bps", "1000", "a size with a unit", blkio_config={"device_read_bps": 1000}
    ),
    "a negative rate of operations": bad(
        ".blkio_config.device_write_iops", "-5", "operations", blkio_config={"device_write_iops": -5}
    ),
    "unknown ulimit": bad(".ulimits.files", "nofile", ulimits={"files": 10}),
    "a soft limit above the hard one": bad(
        ".ulimits.nofile.soft", "20", "at most the hard limit, 10", ulimits={"nofile": {"soft": 20, "hard": 10}}
    ),
    "root": bad(".user", "0", "at least 1000", "policy names root", user=0),
    "root by name": bad(".user", "0", "at least 1000", "policy names root", user="root"),
    "privileged": bad(".privileged", "True", "device rules that the gate reads back", privileged=True),
    "the host's processes": bad(".pid", "'host'", "number 1 of a namespace of its own", pid="host"),
    "the host's network": bad(".network_mode", "'host'", "neither of the firewall's bridges", network_mode="host"),
    "the host's memory": bad(".ipc", "'host'", "no shm_size could bind it", ipc="host"),
    "no filter": bad(".security_opt[0]", "seccomp=unconfined", "disk limit", security_opt=["seccomp=unconfined"]),
    "the engine's socket": bad(
        ".volumes",
        "docker.sock",
        "root of the host",
        volumes=[{"type": "bind", "source": "/var/run/docker.sock", "target": "/run/docker.sock"}],
    ),
    "a disk of the host's": bad(".devices[0]", "'/dev/sda'", "one of /dev/kvm", devices=["/dev/sda"]),
    "a device that nobody named": bad(".devices", "'/dev/kvm'", "policy names device:/dev/kvm", devices=["/dev/kvm"]),
    "an exception of one's own making": bad(".exceptions", "root", "ask for: []", exceptions=["root"]),
    "an exception for somebody else": Case(
        (".user", "0", "policy names root"), {"user": 0}, {"policy": {"test/other": ["root"]}}
    ),
    "a policy that nobody can have": Case(
        ("policy.web[0]", "'privileged'", "allowed to nobody"), {}, {"policy": {"web": ["privileged"]}}
    ),
    "a capability that breaks out": bad(".cap_add", "'SYS_ADMIN'", "NET_BIND_SERVICE", cap_add=["SYS_ADMIN"]),
    "a volume in /proc": bad(".volumes", "'/proc/sys'", "outside /proc", volumes=["/proc/sys"]),
    "a volume that climbs": bad(".volumes", "'/data/../etc'", "a normal path", volumes=["/data/../etc"]),
    "a volume inside another": bad(".volumes", "/data/inner", "apart from", volumes=["/data", "/data/inner"]),
    "a tmpfs over a volume": bad("/data", "apart from", tmpfs=["/data:size=4M"]),
    "a name that is no DNS label": bad(".name", "'Bad_Name'", "DNS label", name="Bad_Name"),
    "a secret of a wrong type": bad(".environment.TOKEN", "dict", environment={"TOKEN": {"value": SECRET}}),
    "an environment that is a list": bad("environment", environment=[SECRET]),
    "a port that is none": bad(".ports[0]", "'80:http'", "PUBLISHED:TARGET", ports=["80:http"], network_mode="bridge"),
    "a port without a network": bad(".ports", "8080", "network_mode: none", ports=["8080:80"]),
    "a writable root without a bound": bad(".storage_opt", "read_only: false", read_only=False),
    # Declarations that contradict each other.
    "two of one name": Case((".name", "no other container"), others=({},)),
    "overlapping ports": Case(
        (".ports", "127.0.0.1:18080:81/tcp", "does not publish"),
        {"network_mode": "bridge", "ports": ["18080:80"]},
        others=({"name": "another", "network_mode": "bridge", "ports": ["18080:81"]},),
    ),
    "a port on every address": Case(
        (".ports", "0.0.0.0:18080", "does not publish"),
        {"network_mode": "bridge", "ports": ["18080:80"]},
        others=({"name": "another", "network_mode": "bridge", "ports": ["0.0.0.0:18080:81"]},),
    ),
    "two of one uid": Case(
        (".user", "210007", "a uid of its own"), {"user": 210_007}, others=({"name": "another", "user": 210_007},)
    ),
    # Declarations that this host or engine cannot hold.
    "processors that are not there": bad(".cpus", f"'{CPUS + 1}'", f"at most {CPUS}", cpus=CPUS + 1),
    "a cpuset outside the host": bad(".cpuset", f"'{CPUS + 7}'", "processors of this host", cpuset=str(CPUS + 7)),
    "memory below the engine's minimum": bad(
        ".mem_limit", "'4M'", "6M", mem_limit="4M", shm_size="1M", tmpfs=["/tmp:size=1M"]
    ),
    "a resource limit that the engine does not set": bad(".ulimits.as", "does not set", ulimits={"as": "1G"}),
    "I/O rates on cgroup v1": bad(
        ".blkio_config", "cgroup v1", "io_scope: direct", blkio_config={"device_read_bps": "1M"}
    ),
    "a writable root with a bound": bad(
        ".storage_opt.size", "storage driver", read_only=False, storage_opt={"size": "64M"}
    ),
    "unknown runtime": bad(".runtime", "'kata'", "runc", runtime="kata"),
    "an image that does not exist": bad(
        "image", "'no-such-image.invalid/app:1'", "on this host or in its registry", image="no-such-image.invalid/app:1"
    ),
    "an image that may not be fetched": bad(
        "image", "'no-such-image:1'", "pull_policy is never", image="no-such-image:1", pull_policy="never"
    ),
    "a disk limit on a host without quotas": Case(
        (".disk_limit", "'32M'", "no quotas"), options={"storage_path": PLAIN}
    ),
    "memory overcommitted": Case(
        ("2 instances declare mem_limit 2T together", "times overcommit 1"),
        {"mem_limit": "1T"},
        {"overcommit": {}},
        ({"name": "another", "mem_limit": "1T"},),
    ),
    "processors overcommitted": Case(
        (f"2 instances declare cpus {CPUS + 1} together", f"{CPUS} times overcommit 1 = {CPUS}"),
        {"cpus": CPUS},
        {"overcommit": {}},
        ({"name": "another", "cpus": 1},),
    ),
    "disk overcommitted": Case(
        ("2 instances declare disk_limit 200G together", "times overcommit 2"),
        {"disk_limit": "100G"},
        {"overcommit": {"disk": 2}},
        ({"name": "another", "disk_limit": "100G"},),
    ),
    "uids used up": Case(
        ("uid_range", "210000-210000", "in use"), options={"uid_range": "210000-210000"}, others=({"name": "another"},)
    ),
    # Options of the module itself.
    "a uid range that includes root": Case(("uid_range", "'0-10'", "1000"), options={"uid_range": "0-10"}),
    "a negative overcommit": Case(
        ("overcommit.memory", "-1", "a number above 0"), options={"overcommit": {"memory": -1}}
    ),
    "no storage": Case(("storage_path", "/no/such/directory"), options={"storage_path": "/no/such/directory"}),
    "an engine over TCP": Case(("docker_host", "tcp://", "unix://"), options={"docker_host": "tcp://127.0.0.1:2375"}),
    "an engine that is not there": Case(("docker_host", "does not answer"), options={"docker_host": NOWHERE}),
    "an engine that has died": Case(("docker_host", "does not answer"), options={"docker_host": DEAF}),
    "an engine that hangs": Case(("no answer", f"{TIMEOUT} s"), options={"docker_host": HUNG, "timeout": TIMEOUT}),
}


@dataclass
class Refusals:
    """What came of all cases, run in one play with nothing else on the platform."""

    output: str
    results: dict[str, Result]
    before: dict[str, list[str]]
    after: dict[str, list[str]]
    plain: list[str]


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, str]]:
    """Sockets of engines that do not work, and a directory on a file system without quotas."""
    with tempfile.TemporaryDirectory() as root, socket.socket(socket.AF_UNIX) as hung:
        deaf = socket.socket(socket.AF_UNIX)
        deaf.bind(f"{root}/deaf")
        deaf.close()
        hung.bind(f"{root}/hung")
        hung.listen()
        Path(root, "plain").mkdir()
        yield {
            NOWHERE: f"unix://{root}/none",
            DEAF: f"unix://{root}/deaf",
            HUNG: f"unix://{root}/hung",
            PLAIN: f"{root}/plain",
        }


def task(platform: Platform, places: dict[str, str], name: str, case: Case) -> Task:
    instance = f"case-{list(CASES).index(name)}"
    base = tenant(instance, command=["sleep", "600"])
    declared = [
        {key: value for key, value in {**base, **fields}.items() if value is not None}
        for fields in (case.fields, *case.others)
    ]
    options = {key: places.get(str(value), value) for key, value in case.options.items()}
    return Task(name, platform.arguments(*declared, **options))


@pytest.fixture(scope="module")
def refusals(platform: Platform, places: dict[str, str]) -> Refusals:
    before = platform.holdings()
    output, results = platform.play([task(platform, places, name, case) for name, case in CASES.items()])
    plain = sorted(path.name for path in Path(places[PLAIN]).iterdir())
    return Refusals(output, {item.task: item for item in results}, before, platform.holdings(), plain)


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_with_one_clear_message(refusals: Refusals, name: str) -> None:
    result = refusals.results[name]
    assert result.failed
    message = result.values["msg"]
    missing = [words for words in CASES[name].says if words not in message]
    assert not missing, message
    assert "\n" not in message
    assert "Traceback" not in str(result.values)
    assert not result.values.get("changed")
    # Long enough to name field, value and what is allowed; short enough to be read.
    assert 20 < len(message) < 900


def test_nothing_has_changed(refusals: Refusals) -> None:
    assert refusals.before == refusals.after
    assert refusals.before["containers"] == []
    assert refusals.plain == []


def test_no_secret_is_shown(refusals: Refusals) -> None:
    assert "a secret of a wrong type" in refusals.output
    assert SECRET not in refusals.output


def test_ansible_exits_non_zero(platform: Platform, places: dict[str, str]) -> None:
    code, result = platform.module(
        "bailey_containers", task(platform, places, "unknown plan", CASES["unknown plan"]).arguments
    )
    assert code != 0
    assert "'huge'" in result["msg"]


def test_a_hung_engine_is_given_up_in_time(platform: Platform, places: dict[str, str]) -> None:
    begun = time.monotonic()
    case = Case((), options={"docker_host": HUNG, "timeout": 1})
    _, (result,) = platform.play([task(platform, places, next(iter(CASES)), case)])
    assert result.failed
    assert time.monotonic() - begun < 15  # Ansible's own start included


def test_a_good_declaration_passes(platform: Platform, places: dict[str, str]) -> None:
    """What every case above differs from by one thing: they would not all be refused for another reason."""
    _, (result,) = platform.play([task(platform, places, next(iter(CASES)), Case(()))])
    assert not result.failed, result.values
    assert result.values["changed"]
