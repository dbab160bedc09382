"""What takes isolation away is refused with its reason, and what a host may allow needs its policy's word."""

from __future__ import annotations

import contextlib

import pytest
from bailey.errors import InvalidValueError
from bailey.exceptions import SocketMount, check_policy, parse_policy
from bailey.rlimits import Rlimit
from bailey.spec import parse_spec
from hypothesis import given

from tests.unit import samples

SOCKET = {"type": "bind", "source": "/var/run/docker.sock", "target": "/run/engine.sock"}


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("privileged", True, "false: it takes away the filter"),
        ("privileged", "yes", "true or false"),
        ("pid", "host", "private: the instance's first process has to be number 1"),
        ("pid", "container:web", "private: the instance's first process"),
        ("ipc", "host", "private: /dev/shm would be the host's"),
        ("ipc", "shareable", "private: /dev/shm"),
        ("uts", "host", "private: the host's name"),
        ("userns_mode", "host", "private: the user namespace is the engine's"),
        ("network_mode", "host", "one of bridge, none: the host's network is on neither of the firewall's bridges"),
        ("network_mode", "container:web", "one of bridge, none"),
        ("security_opt", ["seccomp=unconfined"], "which always holds: the filter holds the disk limit"),
        ("security_opt", ["seccomp:unconfined"], "the filter holds the disk limit"),
        ("security_opt", ["no-new-privileges:false"], "a set-user-ID program of the image would be root"),
        ("security_opt", ["apparmor=unconfined"], "apparmor_profile names another profile"),
        ("security_opt", ["label=disable"], "the label is the platform's"),
        ("security_opt", ["systempaths=unconfined"], "the paths that are covered are the same for all"),
        ("security_opt", ["whatever"], "all others are the platform's to choose"),
        ("security_opt", [1], "all others"),
        ("security_opt", "no-new-privileges", "a list"),
    ],
)
def test_what_no_host_can_allow_is_refused_with_its_reason(field: str, value: object, reason: str) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        parse_spec(samples.declaration(**{field: value}))
    assert str(refusal.value.details["field"]).startswith(f"ada-web-1.{field}")
    assert reason in str(refusal.value.details["allowed"])


def test_what_already_is_so_may_be_said_and_changes_nothing() -> None:
    said: dict[str, object] = {
        "privileged": False,
        "security_opt": ["no-new-privileges:true", "no-new-privileges", "no-new-privileges=true"],
        **dict.fromkeys(("pid", "ipc", "uts", "userns_mode"), "private"),
    }
    assert parse_spec(samples.declaration(**said)) == parse_spec(samples.declaration())


@pytest.mark.parametrize("root", [0, "0", "root"])
def test_root_needs_its_exception_and_is_held_where_the_kernel_does_not_hold_it(root: object) -> None:
    spec = parse_spec(samples.declaration(user=root))
    assert spec.uid == 0
    assert spec.exceptions == {"root": ("user", 0)}
    # What the kernel counts by user is the host's own root's, too.
    assert spec.limits.rlimits == {"sigpending": Rlimit(1024, 1024), "msgqueue": Rlimit(65536, 65536)}
    own = parse_spec(samples.declaration(user=root, ulimits={"sigpending": 7, "core": 0}))
    assert own.limits.rlimits["sigpending"] == Rlimit(7, 7)
    assert own.limits.rlimits.keys() == {"sigpending", "msgqueue", "core"}


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"cap_add": ["CHOWN"]}, "cap_add"),
        ({"read_only": False, "storage_opt": {"size": "1G"}}, "read_only"),
        ({"ulimits": {"nproc": 9}}, "ulimits.nproc"),
        ({"plan": "small"}, "ulimits.nproc"),
    ],
)
def test_root_has_nothing_that_would_not_hold(fields: dict[str, object], place: str) -> None:
    plans = {"small": {"ulimits": {"nproc": 9}}}
    parse_spec(samples.declaration(**fields), plans)
    with pytest.raises(InvalidValueError, match=rf"ada-web-1\.{place}: .* with user: 0"):
        parse_spec(samples.declaration(user=0, **fields), plans)
    parse_spec(samples.declaration(user=0, plan="small", ulimits={"nproc": "unlimited"}), plans)


@pytest.mark.parametrize(
    "device",
    [
        *("/dev/sda", "/dev/mem", "/dev/fuse", "/dev/net/tun", "/dev/kmsg", "/dev/loop0", "/dev/kvm:/dev/other"),
        *("/dev/kvm:/dev/kvm:rwm", "/dev/kvm:/dev/kvm:m", "/dev/../dev/kvm", "/dev/dri/card0", "kvm", "", 7, None),
        *("/dev/kvm\n", "/dev/ttyUSB", {"source": "/dev/kvm"}),
    ],
)
def test_a_device_outside_the_few_that_give_nothing_away_is_refused(device: object) -> None:
    with pytest.raises(InvalidValueError, match=r"ada-web-1\.devices\[0\]: .* one of /dev/kvm, /dev/hwrng"):
        parse_spec(samples.declaration(devices=[device]))


def test_devices_are_written_in_one_form() -> None:
    spec = parse_spec(samples.declaration(devices=["/dev/video0:/dev/video0:rw", "/dev/kvm", "/dev/kvm:/dev/kvm"]))
    assert spec.devices == ("/dev/kvm", "/dev/video0")
    assert spec.exceptions == {
        "device:/dev/kvm": ("devices", "/dev/kvm"),
        "device:/dev/video0": ("devices", "/dev/video0"),
    }


def test_the_engines_socket_is_the_one_file_of_the_host() -> None:
    spec = parse_spec(samples.declaration(volumes=["/data", SOCKET], disk_limit="1G"))
    assert spec.socket == SocketMount("/var/run/docker.sock", "/run/engine.sock")
    assert [volume.target for volume in spec.volumes] == ["/data"]
    assert spec.exceptions == {"engine-socket": ("volumes", "/var/run/docker.sock")}
    assert parse_spec(spec.canonical()) == spec


@pytest.mark.parametrize(
    ("volumes", "place"),
    [
        ([{**SOCKET, "source": None}], "volumes[0].source"),
        ([{**SOCKET, "source": "docker.sock"}], "volumes[0].source"),
        ([{**SOCKET, "source": "/a,b"}], "volumes[0].source"),
        ([{**SOCKET, "target": "/proc/x"}], "volumes[0].target"),
        ([{**SOCKET, "target": None}], "volumes[0].target"),
        ([{**SOCKET, "read_only": False}], "volumes[0].read_only"),
        ([{**SOCKET, "type": "volume"}], "volumes[0].type"),
        ([{**SOCKET, "bind": {"propagation": "shared"}}], "volumes[0].bind"),
        ([SOCKET, {**SOCKET, "target": "/other"}], "volumes[1]"),
        ([SOCKET, "/run"], "volumes"),
    ],
)
def test_a_bind_that_is_not_the_sockets_is_refused_by_its_place(volumes: list[object], place: str) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        parse_spec(samples.declaration(volumes=volumes, disk_limit="1G"))
    assert refusal.value.details["field"] == f"ada-web-1.{place}"


def test_a_declaration_cannot_allow_itself_anything() -> None:
    with pytest.raises(InvalidValueError, match=r"ada-web-1\.exceptions: \['root'\] .* ask for: \[\]"):
        parse_spec(samples.declaration(exceptions=["root"]))
    with pytest.raises(InvalidValueError, match=r"ask for: \['root'\]"):
        parse_spec(samples.declaration(user=0, exceptions=["root", "engine-socket"]))
    assert parse_spec(samples.declaration(user=0, exceptions=["root"])).canonical()["exceptions"] == ["root"]
    assert "exceptions" not in samples.spec().canonical()


def test_a_policy_counts_for_an_instance_and_for_an_app() -> None:
    policy = parse_policy("policy", {"web-1": ["root"], "ada/web": ["engine-socket"], "ada/other": ["device:/dev/kvm"]})
    for word in ("root", "engine-socket"):
        check_policy("web-1", "ada/web", {word: ("user", 0)}, policy)
    for word in ("device:/dev/kvm", "root"):
        with pytest.raises(InvalidValueError, match=rf"web-2\.devices: .* names {word} for web-2 or ada/web"):
            check_policy("web-2", "ada/web", {word: ("devices", "/dev/kvm")}, policy)
    check_policy("web-2", "ada/web", {}, {})


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ([], "policy: .* a mapping"),
        ({"Web": ["root"]}, r"policy\.Web: .* DNS label"),
        ({"ada/": ["root"]}, r"policy\.ada/: .* DNS label"),
        ({"a/b/c": ["root"]}, r"policy\.a/b/c"),
        ({1: ["root"]}, r"policy\.1"),
        ({"web": "root"}, r"policy\.web: 'root' is not valid; allowed: a list"),
        ({"web": ["Root"]}, r"policy\.web\[0\]: 'Root' is not valid; allowed: one of root, engine-socket, device:PATH"),
        ({"web": [7]}, r"policy\.web\[0\]"),
        ({"web": ["root", "device:/dev/sda"]}, r"policy\.web\[1\]: .* /dev/kvm"),
        ({"web": ["privileged"]}, "privileged is allowed to nobody: it takes away the filter"),
        ({"web": ["pid: host"]}, "pid is allowed to nobody: the instance's first process"),
        ({"web": ["network_mode=host"]}, "network_mode is allowed to nobody"),
        ({"web": ["seccomp=unconfined"]}, "seccomp is allowed to nobody: the filter holds the disk limit"),
    ],
)
def test_a_policy_is_read_loudly(policy: object, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        parse_policy("policy", policy)


@given(samples.JUNK)
def test_a_policy_of_junk_is_read_or_refused(junk: object) -> None:
    for value in (junk, {"web": junk}, {"web": [junk]}):
        with contextlib.suppress(InvalidValueError):
            parse_policy("policy", value)
