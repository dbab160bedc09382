"""Attacks from inside a tenant's instance: each fails, and at the layer that was built, or is known, to stop it.

The program is tests/ground/attacks.py; a virtual machine runs the same. Needs root, btrfs and dockerd.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bailey import seccomp
from bailey.exceptions import Policy

from tests.ground import attacks
from tests.ground.attacks import (
    CAPABILITY,
    DEVICES,
    MASK,
    MOUNT,
    NAMESPACE,
    OWNERSHIP,
    PRIVILEGES,
    PTRACE,
    SECCOMP,
)
from tests.ground.rootfs import BASE
from tests.integration.fixtures.platform import Platform, tenant
from tests.integration.test_limits_confinement import CAPABILITY_SETS, NONE, STATUS

pytest_plugins = ("tests.integration.fixtures.on_platform",)

PROGRAM = Path(attacks.__file__).read_text()
# (attack, the layer that stops it)
ATTACKS = tuple((item.name, item.layer) for item in attacks.ATTACKS)
BY_NAME = {item.name: item for item in attacks.ATTACKS}
Result = dict[str, Any]

PROFILE = seccomp.profile()
ANY_ARGUMENTS = {name for rule in PROFILE["syscalls"] if not rule["args"] for name in rule["names"]} - {"clone3"}
# What a layer says. Where a path is closed by more than one, the kernel asks about the file's owner before it looks at
# how the file is mounted: to root inside it then says that.
SAYS: dict[str, set[int | None]] = {
    SECCOMP: {errno.EPERM, errno.ENOSYS},
    CAPABILITY: {errno.EPERM, errno.EACCES},
    MOUNT: {errno.EROFS, errno.EACCES, errno.EPERM, errno.ETXTBSY},
    MASK: {None},
    NAMESPACE: {None, errno.ENOENT, errno.ESRCH, errno.ECONNREFUSED},
    OWNERSHIP: {errno.EACCES},
    PTRACE: {errno.EACCES, errno.EPERM},
    PRIVILEGES: {None},
    DEVICES: {errno.ENOENT},
}
# What this machine's kernel does not have: to try it proves nothing here, and the virtual machine's does.
NOT_HERE = {"trigger a system request", "change the program that loads modules"}
# To root inside no file's owner is in the way: how it is mounted must be.
ROOT: Policy = {"rooted": frozenset({"root"})}
READ_ONLY_TO_ROOT = {
    *("change the pattern of core dumps", "change a setting of the kernel's network", "raise its own memory limit"),
    *("leave its control group", "allow itself a device", "have the host run a program when a group is empty"),
    *("change a processor's frequency", "write to any file of the kernel's", "remove wshd", "make wshd writable"),
    *("put another program in wshd's place", "put a socket at the gate", "write to the image", "change who there is"),
    *("change whom it talks to",),
}


def attacked(platform: Platform, name: str) -> dict[str, Result]:
    results: list[Result] = platform.python(name, PROGRAM, timeout=300).json()
    return {result["attack"]: result for result in results}


@pytest.fixture(scope="module")
def set_id_image(platform: Platform) -> Iterator[str]:
    """The base image with more set-user-ID programs than a distribution has, as an image of a tenant's may."""
    docker, name, image = platform.engine.docker, f"make-{uuid.uuid4().hex[:8]}", "bailey-test/set-id:1"
    docker("run", "--name", name, "--network=none", BASE.image, "install", "-m6755", "/bin/cat", "/usr/bin/rootcat")
    try:
        docker("commit", name, image)
    finally:
        docker("rm", "-f", name)
    yield image
    docker("rmi", "-f", image)


@pytest.fixture(scope="module")
def results(platform: Platform, set_id_image: str) -> dict[str, Result]:
    platform.converge(tenant("mallory", image=set_id_image, ulimits={"core": 1 << 20, "nofile": 256}))
    return attacked(platform, "mallory")


@pytest.fixture(scope="module")
def roots(platform: Platform, set_id_image: str) -> dict[str, Result]:
    platform.converge(tenant("rooted", image=set_id_image, user=0, ulimits={"nofile": 256}), policy=ROOT)
    return attacked(platform, "rooted")


def test_all_attacks_were_made(results: dict[str, Result], roots: dict[str, Result]) -> None:
    assert list(results) == [name for name, _ in ATTACKS]
    assert list(roots) == [item.name for item in attacks.ATTACKS if item.by_root]


@pytest.mark.parametrize("name", BY_NAME)
def test_an_attack_is_stopped(results: dict[str, Result], name: str) -> None:
    found = results[name]
    assert found["outcome"] == "refused", found
    if name in NOT_HERE and found["errno"] == errno.ENOENT:
        return
    assert found["errno"] in SAYS[BY_NAME[name].layer], found


@pytest.mark.parametrize("name", [item.name for item in attacks.ATTACKS if item.by_root])
def test_an_attack_by_root_inside_is_stopped(roots: dict[str, Result], name: str) -> None:
    found = roots[name]
    assert found["outcome"] == "refused", found
    if name in READ_ONLY_TO_ROOT:
        assert found["errno"] in (errno.EROFS, errno.ETXTBSY), found


@pytest.mark.parametrize("item", [item for item in attacks.ATTACKS if item.call], ids=lambda item: item.name)
def test_a_call_is_stopped_by_the_layer_that_is_named(item: attacks.Attack) -> None:
    # What the filter refuses, call by call, no capability is asked for; what it lets through, it does not stop.
    if item.layer == SECCOMP:
        assert item.call not in ANY_ARGUMENTS
    else:
        assert item.call in ANY_ARGUMENTS | {"ioctl", "socket", "prlimit64"}


@pytest.mark.usefixtures("results", "roots")
@pytest.mark.parametrize("name", ["mallory", "rooted"])
def test_the_instance_stands_as_it_stood(platform: Platform, name: str) -> None:
    status = platform.python(name, STATUS).json()
    assert {status[key] for key in CAPABILITY_SETS} == {NONE}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert platform.broken(name) == {}
    assert platform.instance(name).state == "running"


def test_the_image_had_set_user_id_programs_to_try(results: dict[str, Result]) -> None:
    detail = str(results["use the image's set-user-ID programs"]["detail"])
    assert "/usr/bin/rootcat" in detail
    assert "su" in detail


def test_a_device_that_the_host_puts_into_a_volume_is_none(platform: Platform, results: dict[str, Result]) -> None:
    assert results
    node = platform.volume("mallory") / "disk"
    os.mknod(node, stat.S_IFBLK | 0o666, os.makedev(7, 0))
    try:
        answer = platform.run("mallory", "sh", "-c", "head -c1 /data/disk | wc -c")
        assert answer.out.strip() == "0"
        assert "Permission denied" in answer.err
    finally:
        node.unlink()


# Attacks that succeed where nothing was built against them: in a container of the same engine with all capabilities,
# without a filter and without covered paths. So each test above can fail.
WEAK = {
    *("mount a file system", "mount by the new interface", "uncover a covered path", "change the root with chroot"),
    *("make a user namespace with unshare", "make a user namespace with clone", "enter another namespace"),
    *(
        "trace a sibling",
        "trace PID 1",
        "open PID 1's memory",
        "read PID 1's environment",
        "open a descriptor of PID 1's",
    ),
    *("write to PID 1's memory by call", "read PID 1's memory by call", "steal a descriptor of PID 1's"),
    *("take PID 1's limits away", "read a key ring", "add a key", "load a BPF program", "set up io_uring"),
    *("handle page faults of the kernel's", "open a file by its handle", "restart the host"),
    *("set the clock", "read the kernel's log", "switch swap on", "name the host", "open a packet socket"),
    *("open a raw socket", "change a network interface", "join the group of root", "give a file capabilities"),
    *("say whose its volume is", "change the pattern of core dumps", "change a setting of the kernel's network"),
    *("write to any file of the kernel's", "look behind a covered path", "reach a covered path by another name"),
    *("make a device", "write to the image", "change who there is"),
    *("change whom it talks to", "run a program from memory file systems"),
    *("be nicer to itself than to others",),
}


def test_the_attacks_succeed_where_nothing_stops_them(platform: Platform) -> None:
    options = ("--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--security-opt=seccomp=unconfined", "--network=none")
    weak = ("--security-opt=systempaths=unconfined", "--security-opt=apparmor=unconfined", "--init")
    out = platform.engine.docker(
        "run", "--rm", *options, *weak, BASE.image, "python3", "-c", PROGRAM, *sorted(WEAK), timeout=300
    )
    found = {result["attack"]: result for result in json.loads(out)}
    assert {name: found[name] for name in WEAK if found[name]["outcome"] != "SUCCEEDED"} == {}


def test_an_ordinary_user_of_the_engines_default_gains_by_set_user_id(platform: Platform, set_id_image: str) -> None:
    name = "use the image's set-user-ID programs"
    words = ("run", "--rm", "--network=none", "--user=1234:1234", set_id_image, "python3", "-c", PROGRAM, name)
    assert "SUCCEEDED" in platform.engine.docker(*words)


def test_the_program_needs_no_more_than_python() -> None:
    done = subprocess.run(
        ["/usr/bin/python3", "-I", attacks.__file__, "no such attack"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (1, "there is no attack no such attack")
