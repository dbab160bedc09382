"""A host with a kernel of its own: control groups of version 2, AppArmor, project quotas, buffered disk I/O, a reboot.

The tests run twice, before a reboot and after it. What was declared has to hold both times.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from testinfra.host import Host

EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
PROFILES = {"ada-web-1": "bailey-tenant", "bruno-worker-1": "bailey-tenant", "clara-site-1": "bailey-static"}
MIB = 1 << 20

# Writes through the page cache and waits for the disk; prints bytes a second.
WRITE = """
import os, sys, time
path, size = sys.argv[1], int(sys.argv[2])
begun = time.monotonic()
with open(path, "wb", buffering=0) as file:
    for _ in range(size >> 20):
        file.write(b"x" * (1 << 20))
    os.fsync(file.fileno())
print(size / (time.monotonic() - begun))
os.unlink(path)
"""


def inside(host: Host, name: str, *words: str) -> str:
    """Run a command in an instance, as its own user."""
    return str(host.check_output(f"wsh {name} -- {' '.join(['%s'] * len(words))}", *words))


def test_the_kernel_is_one_that_a_container_cannot_have(host: Host) -> None:
    assert host.check_output("stat --file-system --format=%T /sys/fs/cgroup") == "cgroup2fs"
    assert host.check_output("cat /sys/module/apparmor/parameters/enabled") == "Y"
    assert host.check_output("ps -o comm= -p 1") == "systemd"


def playbook(path: str) -> str:
    """Run a playbook on the machine and return what it says."""
    done = subprocess.run(
        ["ansible-playbook", "--inventory", str(EPHEMERAL / "inventory"), path],
        cwd=PROJECT,
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "false", "ANSIBLE_NOCOLOR": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_every_tenant_is_behind_its_gate_and_every_limit_holds(host: Host) -> None:
    """The playbook fails where an instance does not run, or the kernel does not hold one of its limits.

    systemd, which has groups of its own to look after, writes what it knows of a container again when it reloads.
    """
    host.check_output("systemctl daemon-reload")
    told = playbook("playbooks/status.yml")
    assert all(name in told for name in PROFILES), told[-4000:]


def test_locking_down_again_changes_nothing() -> None:
    """Another host's second run is Molecule's default scenario; its kernel, loader and ssh are not its own."""
    told = playbook("molecule/vm/again.yml")
    assert re.search(r"bailey-vm +: ok=[1-9]\d+ +changed=0 ", told), told[-4000:]


def test_what_is_published_answers(host: Host) -> None:
    ask = "import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/', timeout=30)"
    for port in (8001, 8003):
        host.check_output("python3 -c %s", ask.format(port=port))


def test_writing_through_the_page_cache_is_held_to_its_rate(host: Host) -> None:
    """The host writes to the same file system without a limit, in the same test: the machine itself is not as slow."""
    host.run("echo %s >/tmp/write.py", WRITE)
    declared = 2 * MIB
    free = float(host.check_output(f"python3 /tmp/write.py /var/lib/bailey/volumes/probe {24 * MIB}"))
    held = float(inside(host, "ada-web-1", "python3", "-c", WRITE, "/data/probe", str(12 * MIB)))
    assert held <= 1.1 * declared
    assert free >= 3 * held


def test_a_volume_ends_at_its_project_quota(host: Host) -> None:
    assert host.check_output("findmnt --noheadings --output FSTYPE,SOURCE /var/lib/bailey/volumes").split() == [
        "xfs",
        "/dev/vdb",
    ]
    fill = "dd if=/dev/zero of=/data/fill bs=1M count=100 2>&1; stat --format=%s /data/fill; rm /data/fill"
    *message, size = inside(host, "bruno-worker-1", "sh", "-c", fill).splitlines()
    assert "No space left on device" in "".join(message) or "quota exceeded" in "".join(message)
    assert 60 * MIB <= int(size) <= 64 * MIB


def test_the_memory_limit_kills_inside_and_nowhere_else(host: Host) -> None:
    before = host.check_output("wsh ls")
    eat = "import sys; sys.stdout.write('begun'); sys.stdout.flush(); kept = bytearray(512 << 20)"
    done = host.run("wsh bruno-worker-1 -- python3 -c %s", eat)
    assert done.stdout == "begun"
    assert done.exit_status == 137
    assert [line.split()[:2] for line in host.check_output("wsh ls").splitlines()] == [
        line.split()[:2] for line in before.splitlines()
    ]
