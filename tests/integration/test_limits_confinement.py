"""What a tenant's program is: an ordinary user without rights, in a container that gives it none.

Needs root, btrfs and dockerd.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from tests.ground.rootfs import BASE
from tests.integration.fixtures.platform import DATA, UIDS, Platform, tenant

pytest_plugins = ("tests.integration.fixtures.on_platform",)

# /proc/self/status of a program, as a mapping
STATUS = """
import json
print(json.dumps(dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)))
"""
CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
NONE = "0" * 16
# Each line: what is tried, and a call that the kernel would grant to an ordinary user, or to root, without a filter.
SYSTEM_CALLS = {
    "user namespace": (272, (0x10000000,)),  # unshare(CLONE_NEWUSER)
    "io_uring": (425, (8, 0)),
    "userfaultfd": (323, (1,)),
    "keyrings": (250, (0, -3, 1)),  # keyctl(KEYCTL_GET_KEYRING_ID)
    "performance counters": (298, (0, 0, -1, -1, 0)),
    "BPF": (321, (0, 0, 0)),
    "mount": (165, (0, 0, 0, 0, 0)),
    "other processes' memory": (101, (0, 0, 0, 0)),  # ptrace(PTRACE_TRACEME)
    "packet sockets": (41, (17, 3, 0)),
    "the kernel's crypto": (41, (38, 5, 0)),  # socket(AF_ALG)
    "32-bit personality": (135, (0x0400000,)),  # personality(READ_IMPLIES_EXEC)
}
CALL = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
number, *arguments = json.loads(sys.argv[1])
result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(value) for value in arguments))
print(result if result >= 0 else -ctypes.get_errno())
"""
EPERM = 1


@pytest.fixture(scope="module")
def setuid_image(platform: Platform) -> Iterator[str]:
    """The base image with a program that would make anybody root."""
    docker, name, image = platform.engine.docker, f"make-{uuid.uuid4().hex[:8]}", "bailey-test/setuid:1"
    docker("run", "--name", name, "--network=none", BASE.image, "install", "-m4755", "/usr/bin/id", "/usr/bin/rootid")
    try:
        docker("commit", name, image)
    finally:
        docker("rm", "-f", name)
    yield image
    docker("rmi", "-f", image)


@pytest.fixture(scope="module")
def confined(platform: Platform, setuid_image: str) -> str:
    platform.converge(tenant("confined", image=setuid_image))
    return "confined"


class TestProgram:
    def test_it_has_a_uid_of_its_own(self, platform: Platform, confined: str) -> None:
        status = platform.python(confined, STATUS).json()
        uid = platform.instance(confined).stored.uid
        assert uid in UIDS
        assert status["Uid"].split() == [str(uid)] * 4
        assert status["Gid"].split() == [str(uid)] * 4
        assert status["Groups"].split() in ([], [str(uid)])

    def test_its_name_resolves(self, platform: Platform, confined: str) -> None:
        assert platform.run(confined, "id", "-un").out == "app\n"
        assert platform.run(confined, "id", "-gn").out == "app\n"
        home = platform.python(confined, "import os; home = os.path.expanduser('~app'); open(home + '/x', 'w')")
        assert home.code == 0, home

    def test_it_has_no_capability_in_any_set(self, platform: Platform, confined: str) -> None:
        status = platform.python(confined, STATUS).json()
        assert {name: status[name] for name in CAPABILITY_SETS} == dict.fromkeys(CAPABILITY_SETS, NONE)

    def test_it_cannot_gain_privileges_and_is_filtered(self, platform: Platform, confined: str) -> None:
        status = platform.python(confined, STATUS).json()
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")

    def test_a_setuid_program_gains_nothing(self, platform: Platform, confined: str, setuid_image: str) -> None:
        assert platform.run(confined, "rootid", "-u").out.strip() == str(platform.instance(confined).stored.uid)
        # The same program, run by the same engine with its defaults, shows that this test can fail.
        defaults = ("run", "--rm", "--network=none", "--user=1234", setuid_image, "rootid", "-u")
        assert platform.engine.docker(*defaults).strip() == "0"

    def test_a_setuid_file_in_a_volume_gains_nothing(self, platform: Platform, confined: str) -> None:
        assert platform.run(confined, "cp", "/usr/bin/id", f"{DATA}/rootid").code == 0
        copy = platform.volume(confined) / "rootid"
        copy.chmod(0o4755)
        platform.engine.docker("exec", "--user=0", confined, "true")
        assert platform.run(confined, f"{DATA}/rootid", "-u").out.strip() != "0"

    def test_a_tmpfs_runs_no_program(self, platform: Platform, confined: str) -> None:
        answer = platform.run(confined, "sh", "-c", "cp /bin/true /tmp/program && /tmp/program")
        assert answer.code == 126
        assert "Permission denied" in answer.err

    @pytest.mark.parametrize("name", SYSTEM_CALLS)
    def test_the_filter_refuses(self, platform: Platform, confined: str, name: str) -> None:
        number, arguments = SYSTEM_CALLS[name]
        assert platform.python(confined, CALL, json.dumps([number, *arguments])).out.strip() == str(-EPERM)

    def test_it_is_not_the_first_process(self, platform: Platform, confined: str) -> None:
        # PID 1 reaps what others leave: the platform's own, not the tenant's program.
        assert platform.run(confined, "cat", "/proc/1/comm").out.strip() == "wshd"

    def test_the_host_is_out_of_sight(self, platform: Platform, confined: str) -> None:
        assert set(platform.run(confined, "ls", "/sys/class/net").out.split()) == {"lo"}
        for path in (
            "/proc/kcore",
            "/proc/keys",
            "/proc/sysrq-trigger",
            "/sys/firmware/acpi",
            "/dev/loop0",
            "/dev/mem",
        ):
            answer = platform.run(confined, "sh", "-c", f"head -c1 {path} | wc -c")
            assert answer.out.strip() == "0", path


class TestCapabilities:
    def test_one_that_is_declared_is_in_the_bounding_set_alone(self, platform: Platform) -> None:
        platform.converge(tenant("capable", cap_add=["NET_BIND_SERVICE", "CAP_CHOWN"]))
        status = platform.python("capable", STATUS).json()
        assert status["CapBnd"] == f"{1 << 10 | 1 << 0:016x}"
        assert {status[name] for name in CAPABILITY_SETS if name != "CapBnd"} == {NONE}
        assert platform.broken("capable") == {}


class TestInstances:
    def test_two_have_different_uids_and_cannot_reach_each_other(self, platform: Platform) -> None:
        platform.converge(tenant("one"), tenant("two"))
        uids = {platform.run(name, "id", "-u").out for name in ("one", "two")}
        assert len(uids) == 2
        shown = [platform.run(name, "ps", "-eo", "pid", "--no-headers").out.split() for name in ("one", "two")]
        assert all(len(pids) < 10 for pids in shown)


class TestEngine:
    def test_inspect_shows_the_confinement(self, platform: Platform) -> None:
        platform.converge(tenant("seen", environment={"TOKEN": "s3cret-value"}))
        found, uid = platform.inspect("seen"), platform.instance("seen").stored.uid
        host = found["HostConfig"]
        assert found["Config"]["User"] == f"{uid}:{uid}"
        assert host["ReadonlyRootfs"] is True
        assert host["Privileged"] is False
        assert (host["CapDrop"], host["CapAdd"] or []) == (["ALL"], [])
        assert "no-new-privileges" in host["SecurityOpt"]
        assert "seccomp=unconfined" not in host["SecurityOpt"]
        assert host["Init"] is False
        assert found["Config"]["Entrypoint"] == ["/.bailey/wshd"]
        assert host["RestartPolicy"]["Name"] == "no"
        assert (host["IpcMode"], host["PidMode"], host["UsernsMode"]) == ("private", "", "")
        assert host["Devices"] in ([], None)
        mounts = {mount["Destination"]: (mount["Source"], mount["RW"]) for mount in found["Mounts"]}
        assert mounts.pop(DATA) == (str(platform.volume("seen")), True)
        assert mounts.pop("/.bailey") == (str(platform.files.wsh_dir), False)
        assert mounts.pop("/.bailey/boot") == (str(platform.files.boot_directory("seen")), False)
        assert mounts == {
            f"/etc/{name}": (str(platform.accounts / "seen" / name), False) for name in ("passwd", "group")
        }

    def test_labels_hold_the_name_and_a_hash_alone(self, platform: Platform) -> None:
        platform.converge(tenant("labelled", environment={"TOKEN": "s3cret-value"}))
        labels = platform.inspect("labelled")["Config"]["Labels"]
        assert {key for key in labels if key.startswith("bailey.") and key != "bailey.test.inputs"} == {
            "bailey.name",
            "bailey.hash",
        }
        assert labels["bailey.name"] == "labelled"
        assert len(labels["bailey.hash"]) == 64
        assert "s3cret-value" not in json.dumps(labels)

    def test_the_read_back_shows_every_limit_held(self, platform: Platform, confined: str) -> None:
        assert platform.broken(confined) == {}
