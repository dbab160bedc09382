"""What a host's policy allows by name, and to nobody else: root inside, a device, the engine's socket.

Each is behind the gate like everything else, read back, and seen in the table. Needs root, btrfs and dockerd.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from bailey.errors import BaileyError, InvalidValueError, UnsupportedError
from bailey.exceptions import Policy
from bailey.inventory import read_instances
from bailey.planning import Action
from bailey.table import render

from tests.ground.rootfs import BASE
from tests.integration.fixtures.platform import DATA, Platform, tenant
from tests.integration.test_limits_confinement import CAPABILITY_SETS, NONE, STATUS

pytest_plugins = ("tests.integration.fixtures.on_platform",)

DEVICE = "/dev/hwrng"  # mode 0600: of all instances only root's could open it
INSIDE = "/run/engine.sock"
ROOT: Policy = {"test/rooted": frozenset({"root"})}
# Asks the engine through the socket inside, as its own client would.
ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.connect(sys.argv[1])
    s.sendall(b"GET /_ping HTTP/1.0\\r\\n\\r\\n")
    print(s.recv(4096).decode().splitlines()[0])
"""
CALL = "import ctypes; l = ctypes.CDLL(None, use_errno=True); print(l.inotify_init1(0), ctypes.get_errno())"


def settled(platform: Platform, policy: Policy, *declared: dict[str, Any]) -> bool:
    """Declare the same again, and say whether there was nothing to do and every check holds."""
    report = platform.converge(*declared, policy=policy)
    assert not report.differences, [difference.path for difference in report.differences]
    return all(platform.broken(item["name"]) == {} for item in declared)


@pytest.fixture(scope="module")
def rooted(platform: Platform) -> dict[str, Any]:
    declared = tenant("rooted", user=0)
    platform.converge(declared, policy=ROOT)
    return declared


NOT_ROOTED: list[Policy] = [{}, {"test/other": frozenset({"root"})}, {"rooted": frozenset({"engine-socket"})}]


@pytest.mark.parametrize("policy", NOT_ROOTED)
def test_root_is_refused_to_who_is_not_named(platform: Platform, policy: Policy) -> None:
    with pytest.raises(InvalidValueError, match=r"rooted\.user: 0 is not valid; .* names root for rooted or test/"):
        platform.converge(tenant("rooted", user=0), policy=policy)
    assert not platform.exists("rooted")


@pytest.mark.usefixtures("rooted")
class TestRoot:
    def test_it_is_uid_0_and_nothing_else_of_root(self, platform: Platform, rooted: dict[str, Any]) -> None:
        status = platform.python("rooted", STATUS).json()
        assert status["Uid"].split() == status["Gid"].split() == ["0"] * 4
        assert {status[name] for name in CAPABILITY_SETS} == {NONE}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert platform.run("rooted", "id", "-un").out == "root\n"
        assert settled(platform, ROOT, rooted)

    def test_it_takes_nothing_that_the_hosts_root_needs(self, platform: Platform) -> None:
        assert platform.python("rooted", CALL).out.split() == ["-1", "1"]
        limits = platform.run("rooted", "sh", "-c", "grep -E 'pending|msgqueue' /proc/self/limits").out
        assert [line.split()[-3:-1] for line in limits.splitlines()] == [["1024", "1024"], ["65536", "65536"]]

    @pytest.mark.parametrize("path", ["/etc/hosts", "/etc/resolv.conf", "/etc/passwd", "/usr/bin/id", "/.bailey/wshd"])
    def test_the_roots_files_are_not_its_own(self, platform: Platform, path: str) -> None:
        answer = platform.run("rooted", "sh", "-c", f"chmod 666 {path}; echo x >> {path}")
        assert answer.code != 0
        assert answer.err.count("Read-only file system") + answer.err.count("Text file busy") == 2

    def test_its_set_user_id_files_gain_nobody_anything(self, platform: Platform) -> None:
        script = f"chmod 755 {DATA}; cp /usr/bin/id {DATA}/rootid; chmod 4755 {DATA}/rootid; ls -l {DATA}/rootid"
        assert platform.run("rooted", "sh", "-c", script).out.startswith("-rwsr-xr-x")
        path = platform.volume("rooted") / "rootid"
        done = subprocess.run(["setpriv", "--reuid=65534", path, "-u"], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "65534"
        shown = platform.run("rooted", "sh", "-c", f"grep ' {DATA} ' /proc/self/mountinfo").out
        assert {"nosuid", "nodev"} <= set(shown.split()[5].split(","))

    def test_it_holds_after_a_crash(self, platform: Platform) -> None:
        gate = platform.agent.state("rooted").opened_at
        os.kill(platform.inspect("rooted")["State"]["Pid"], signal.SIGKILL)
        platform.agent.until(lambda: platform.agent.state("rooted").opened_at not in (None, gate), "a second gate")
        assert platform.broken("rooted") == {}

    def test_people_see_it(self, platform: Platform) -> None:
        (instance,) = read_instances(platform.open(), ["rooted"])
        assert instance.as_result()["exceptions"] == ["root"]
        assert json.loads((platform.specs / "rooted.json").read_text())["spec"]["exceptions"] == ["root"]
        assert render([instance]).splitlines()[-1].split() == ["exceptions", "root", "BY", "POLICY"]

    def test_its_data_is_not_an_ordinary_users(self, platform: Platform) -> None:
        with pytest.raises(InvalidValueError, match=r"rooted\.user: .* 0, whose the data"):
            platform.converge(tenant("rooted"), policy=ROOT)
        assert platform.instance("rooted").state == "running"


class TestDevices:
    def test_one_that_was_named_is_there_and_no_other(self, platform: Platform) -> None:
        declared = tenant("noisy", user=0, devices=[DEVICE])
        policy: Policy = {"noisy": frozenset({"root", f"device:{DEVICE}"})}
        platform.converge(declared, policy=policy)
        read = f"import os; f = os.open('{DEVICE}', os.O_RDONLY); print(os.fstat(f).st_rdev == os.makedev(10, 183))"
        assert platform.python("noisy", read).out == "True\n"
        assert platform.run("noisy", "sh", "-c", "ls -l /dev | grep -c ^c").out == "7\n"  # six that all have, and it
        assert "c 10:183 rw" in platform.cgroup("noisy", "devices", "devices.list").read_text().splitlines()
        assert settled(platform, policy, declared)

    def test_a_rule_that_somebody_adds_is_drift(self, platform: Platform) -> None:
        declared = tenant("plain")
        platform.converge(declared)
        platform.cgroup("plain", "devices", "devices.allow").write_text("c 10:232 rw")
        assert platform.broken("plain") == {"devices": ("none", "c 10:232 rw")}
        report = platform.converge(declared)
        assert report.plans["plain"].action is Action.RECREATE
        assert platform.broken("plain") == {}

    def test_one_that_its_user_could_not_open_is_refused(self, platform: Platform) -> None:
        with pytest.raises(UnsupportedError, match=r"poor\.devices: '/dev/hwrng' .* its mode is 0600"):
            platform.converge(tenant("poor", devices=[DEVICE]), policy={"poor": frozenset({f"device:{DEVICE}"})})
        assert not platform.exists("poor")


class TestEngineSocket:
    def test_who_was_named_reaches_the_engine(self, platform: Platform) -> None:
        source = platform.engine.docker_host.removeprefix("unix://")
        volumes = [{"type": "bind", "source": source, "target": INSIDE}]
        declared = tenant("helper", volumes=volumes, disk_limit=None)
        with pytest.raises(InvalidValueError, match=r"helper\.volumes: .* who may ask the engine is root of the host"):
            platform.converge(declared)
        policy: Policy = {"helper": frozenset({"engine-socket"})}
        platform.converge(declared, policy=policy)
        assert platform.python("helper", ASK, INSIDE).out == "HTTP/1.0 200 OK\n"
        uid = platform.instance("helper").stored.uid
        (other,) = set(platform.run("helper", "id", "-G").out.split()) - {str(uid)}
        assert platform.run("helper", "stat", "-c", "%g", INSIDE).out.strip() == other
        assert "Read-only" in platform.run("helper", "chmod", "666", INSIDE).err
        assert settled(platform, policy, declared)

    def test_no_other_file_of_the_hosts_is_reached_by_that_word(self, platform: Platform) -> None:
        source = "/run/bailey-test-platform/exec/containerd/containerd.sock"
        volumes = [{"type": "bind", "source": source, "target": INSIDE}]
        with pytest.raises(BaileyError, match=r"curious\.volumes: .*containerd\.sock.* the engine's own socket"):
            platform.converge(
                tenant("curious", volumes=volumes, disk_limit=None), policy={"curious": frozenset({"engine-socket"})}
            )


@pytest.fixture(scope="module")
def volume_image(platform: Platform) -> Iterator[str]:
    """An image that declares a volume."""
    docker, name, image = platform.engine.docker, f"make-{uuid.uuid4().hex[:8]}", "bailey-test/volume:1"
    docker("create", "--name", name, "--network=none", BASE.image, "true")
    try:
        docker("commit", "--change", "VOLUME /cache", name, image)
    finally:
        docker("rm", "-f", name)
    yield image
    docker("rmi", "-f", image)


def test_a_volume_of_an_images_own_is_not_made_without_a_limit(platform: Platform, volume_image: str) -> None:
    with pytest.raises(BaileyError, match=r"hoard\.volumes: .* /cache among the volumes or tmpfs"):
        platform.converge(tenant("hoard", image=volume_image))
    assert not platform.exists("hoard")
    bounded = tenant("hoard", image=volume_image, tmpfs=["/tmp:size=4M", "/cache:size=4M"])
    platform.converge(bounded)
    assert settled(platform, {}, bounded)


def test_a_mount_point_behind_an_images_link_is_found(platform: Platform) -> None:
    declared = tenant("linked", volumes=["/var/run/data"], tmpfs=["/tmp:size=4M", "/bin/scratch:size=4M"])
    platform.converge(declared)
    points = {line.split()[4] for line in platform.run("linked", "cat", "/proc/self/mountinfo").out.splitlines()}
    assert {"/run/data", "/usr/bin/scratch"} <= points
    assert settled(platform, {}, declared)


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_every_runtime_is_read_back_alike(platform: Platform, runtime: str) -> None:
    declared = tenant(f"with-{runtime}", runtime=runtime)
    platform.converge(declared)
    checks = {check.field: check.enforced for check in platform.instance(declared["name"]).checks}
    assert checks["masked_paths"] == "covered"
    assert checks["namespaces"] == "ipc, mnt, net, pid, uts"
    assert settled(platform, {}, declared)
