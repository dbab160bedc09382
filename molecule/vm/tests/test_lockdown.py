"""What a kernel with AppArmor, an audit log and a boot loader adds to a tenant's walls, and attacks on all of them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
REBOOTED = (EPHEMERAL / "rebooted").exists()
PROFILES = {"ada-web-1": "bailey-tenant", "bruno-worker-1": "bailey-tenant", "clara-site-1": "bailey-static"}
MACHINE = Path("/var/lib/bailey-test-vm/molecule-vm")
IMAGE = "registry.bailey.internal:5000/bailey/base:current"

# Each is what root could do in a container with every capability and no filter: only the profile is left to stop it.
UNARMED = ("--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "--user", "0")
ONLY_THE_PROFILE_STOPS = {
    "mount": "mount -t tmpfs none /mnt",
    "remount": "mount -o remount,rw /proc/sys",
    "sysrq": "echo h >/proc/sysrq-trigger",
    "core-pattern": "echo '|/tmp/x' >/proc/sys/kernel/core_pattern",
    "raw-socket": "python3 -c 'import socket as s; s.socket(s.AF_INET, s.SOCK_RAW, 1)'",
    "packet-socket": "python3 -c 'import socket as s; s.socket(s.AF_PACKET, s.SOCK_RAW, 768)'",
}


def put(host: Host, text: str, path: str) -> None:
    """Write a file on the machine."""
    host.check_output(f"echo {base64.b64encode(text.encode()).decode()} | base64 --decode >{path}")


def confined(host: Host) -> list[dict[str, Any]]:
    """Return what aa-status says of every process that is under a profile of the tenants'."""
    status = json.loads(host.check_output("aa-status --json"))
    return [
        {"program": program, **process}
        for program, processes in status["processes"].items()
        for process in processes
        if process["profile"].startswith("bailey-")
    ]


def pids_of(host: Host, name: str) -> set[str]:
    return set(host.check_output(f"docker top {name} -o pid | tail -n +2").split())


def test_every_process_of_every_tenant_is_under_its_profile_in_enforce_mode(host: Host) -> None:
    found = {str(process["pid"]): process for process in confined(host)}
    for name, profile in PROFILES.items():
        pids = pids_of(host, name)
        assert pids
        for pid in pids:
            assert found[pid]["status"] == "enforce", found[pid]
            assert found[pid]["profile"].split("//&")[0] == profile, found[pid]


def test_what_wshd_starts_is_bound_by_a_second_profile(host: Host) -> None:
    for name, profile in PROFILES.items():
        first = host.check_output(f"docker inspect --format '{{{{.State.Pid}}}}' {name}")
        assert host.check_output(f"cat /proc/{first}/attr/apparmor/current") == f"{profile} (enforce)"
        inside = host.check_output(f"wsh {name} -- cat /proc/self/attr/apparmor/current")
        assert inside == f"{profile}//&{profile}-program (enforce)"


def test_a_tenant_can_neither_signal_nor_look_into_wshd(host: Host) -> None:
    for attack in ("kill -TERM 1", "cat /proc/1/environ", "cat /proc/1/maps", "ls -l /proc/1/exe"):
        assert host.run("wsh ada-web-1 -- sh -c %s", attack).failed, attack


@pytest.mark.parametrize("name", PROFILES)
def test_every_attack_from_inside_is_refused(host: Host, name: str) -> None:
    put(host, (PROJECT / "tests/ground/attacks.py").read_text(), "/tmp/attacks.py")
    results = json.loads(host.check_output(f"wsh {name} -- python3 - </tmp/attacks.py"))
    assert len(results) > 30
    assert [result for result in results if result["outcome"] != "refused"] == []


@pytest.mark.parametrize("profile", sorted(set(PROFILES.values())))
def test_the_profile_alone_stops_what_all_else_would_allow(host: Host, profile: str) -> None:
    """The same commands in a container without a profile succeed: it is the profile that is tested."""
    script = "; ".join(
        f"({command}) >/dev/null 2>&1 && echo {name} succeeded || echo {name} refused"
        for name, command in ONLY_THE_PROFILE_STOPS.items()
    )
    run = f"docker run --rm --network none {' '.join(UNARMED)} --security-opt systempaths=unconfined"
    command = f"{run} --security-opt apparmor={{}} {IMAGE} sh -c %s"
    before = host.check_output("cat /proc/sys/kernel/core_pattern")
    assert host.check_output(command.format(profile), script).splitlines() == [
        f"{name} refused" for name in ONLY_THE_PROFILE_STOPS
    ]
    open_door = host.check_output(command.format("unconfined"), script).splitlines()
    put(host, before, "/proc/sys/kernel/core_pattern")
    assert open_door == [f"{name} succeeded" for name in ONLY_THE_PROFILE_STOPS]


def test_a_static_tenant_executes_nothing_of_its_own(host: Host) -> None:
    copy = "cp /bin/true /tmp/true && chmod 755 /tmp/true && /tmp/true"
    assert host.run("wsh clara-site-1 -- sh -c %s", copy).exit_status == 126


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("kernel/dmesg_restrict", "1"),
        ("kernel/kptr_restrict", "2"),
        ("kernel/yama/ptrace_scope", "1"),
        ("kernel/unprivileged_bpf_disabled", "2"),
        ("kernel/kexec_load_disabled", "1"),
        ("fs/protected_symlinks", "1"),
        ("net/ipv4/ip_forward", "1"),
    ],
)
def test_the_kernel_is_hardened_and_the_platform_goes_on(host: Host, setting: str, value: str) -> None:
    assert host.check_output(f"cat /proc/sys/{setting}") == value


def test_boot_parameters_are_in_force_after_a_reboot(host: Host) -> None:
    words = host.check_output("cat /proc/cmdline").split()
    for parameter in ("init_on_free=1", "slab_nomerge", "page_alloc.shuffle=1", "debugfs=off"):
        assert (parameter in words) is REBOOTED, words


def test_ssh_lets_in_neither_root_nor_a_password(host: Host) -> None:
    put(host, (MACHINE / "key").resolve().with_suffix(".key.pub").read_text(), "/tmp/key.pub")
    host.check_output("install -D -m 600 /tmp/key.pub /root/.ssh/authorized_keys")
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "ConnectTimeout=30"]
    flags = [word for option in options for word in ("-o", option)]
    command = ["ssh", *flags, "-i", str(MACHINE / "key"), "-p", str(host.ansible.get_variables()["ansible_port"])]
    allowed = {}
    for user in ("root", "deploy"):
        done = subprocess.run([*command, f"{user}@127.0.0.1", "true"], capture_output=True, text=True, check=False)
        allowed[user] = done.returncode == 0, done.stderr
    host.check_output("rm -r /root/.ssh")
    assert allowed["deploy"][0], allowed
    assert not allowed["root"][0]
    # What the server offers is in its refusal: no password among it.
    assert "Permission denied (publickey)" in allowed["root"][1]


def test_roots_password_is_locked(host: Host) -> None:
    assert host.check_output("passwd --status root").split()[1] == "L"


def test_a_change_of_the_engines_files_is_in_the_audit_log(host: Host) -> None:
    host.check_output("touch /etc/docker/probe && rm /etc/docker/probe")
    found = host.check_output("ausearch --input-logs --key bailey-engine --start recent --format raw")
    assert "/etc/docker/probe" in found


def test_a_module_that_nobody_needs_is_not_loaded(host: Host) -> None:
    assert host.run("modprobe sctp").failed
    assert "sctp" not in host.check_output("cut -d' ' -f1 /proc/modules").split()
