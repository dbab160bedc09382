"""What the kernel tells of a process: recorded texts, this very process, and names that a tenant chose to break it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from bailey.host import proc
from bailey.host.mounts import read_mounts
from bailey.rlimits import KINDS, UNLIMITED, Rlimit

from tests.unit import kernel

RECORDED = kernel.RECORDED / "proc"


def test_the_recorded_status() -> None:
    assert proc.read_process(kernel.INIT, RECORDED) == proc.Process(
        pid=859,
        parent=834,
        uid=200_000,
        uids=frozenset({200_000}),
        gids=frozenset({200_000}),
        namespace_pid=1,
        capabilities_bounding=0x400,
        capabilities_effective=0,
        capabilities_held=0,
        no_new_privs=True,
        seccomp=True,
        filters=1,
    )


def test_the_recorded_limits() -> None:
    limits = proc.read_rlimits(kernel.INIT, RECORDED)
    assert limits.keys() == KINDS.keys()
    assert limits["nofile"] == Rlimit(512, 1024)
    assert limits["core"] == Rlimit(0, 0)
    assert limits["stack"] == Rlimit(8 << 20, UNLIMITED)
    assert limits["rttime"] == Rlimit(UNLIMITED, UNLIMITED)


def test_the_recorded_mounts() -> None:
    mounts = {str(mount.point): mount for mount in read_mounts(kernel.INIT, RECORDED)}
    assert mounts["/"].read_only
    assert not mounts["/tmp"].read_only
    assert mounts["/run/my app"].tmpfs_size == 1 << 20
    assert mounts["/proc/acpi"].tmpfs_size is None
    assert {"nosuid", "nodev", "noexec"} <= mounts["/tmp"].options


def test_this_process() -> None:
    process = proc.read_process("self")
    assert process is not None
    assert (process.pid, process.uid) == (os.getpid(), os.geteuid())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert proc.read_rlimits(os.getpid())["nofile"] == Rlimit(soft, hard)
    assert any(mount.point == Path("/") for mount in read_mounts())


def test_a_process_that_has_ended_is_none() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert proc.read_process(child.pid) is None
    assert proc.read_rlimits(child.pid) == {}
    assert read_mounts(child.pid) == []
    assert proc.find_init([child.pid]) is None


def test_a_process_that_has_ended_and_is_not_reaped_yet() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert read_mounts(child.pid) == []
    finally:
        child.wait()


def test_a_status_without_what_is_asked_for_is_none(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/status").write_text("Name:\tkthread\nPid:\t7\nUid:\t0\t0\t0\t0\n")
    assert proc.read_process(7, tmp_path) is None


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"a\x0cCapBnd:\t0", b"a\x85Uid:\t0\t0", b"a\nUid:\t0\t0", b"\x1c\x1d", b""]
)
def test_a_name_that_a_program_gives_itself_neither_breaks_nor_forges_the_reading(name: bytes) -> None:
    # PR_SET_NAME is 15; the kernel cuts a name at 15 bytes.
    program = "import ctypes, sys; ctypes.CDLL(None).prctl(15, bytes.fromhex(sys.argv[1])); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, name.hex()], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        this, other = proc.read_process("self"), proc.read_process(child.pid)
        child.communicate(b"\n")
    assert this is not None
    assert other is not None
    assert other.pid == child.pid
    assert (other.uid, other.capabilities_bounding) == (this.uid, this.capabilities_bounding)


def test_a_mount_point_with_what_is_no_line_end_to_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/mountinfo").write_bytes(b"1 2 0:3 / /a\x0cb\xffc rw,relatime - tmpfs tmpfs rw,size=4k\n")
    (mount,) = read_mounts(7, tmp_path)
    assert os.fsencode(mount.point) == b"/a\x0cb\xffc"


def test_the_init_is_the_first_process_of_its_own_namespace(tmp_path: Path) -> None:
    status = (RECORDED / "859/status").read_text()
    for pid, numbers in {3: "3\t9", 859: "859\t1", 860: "860\t1"}.items():
        (tmp_path / str(pid)).mkdir()
        text = status.replace("Pid:\t859", f"Pid:\t{pid}").replace("NSpid:\t859\t1", f"NSpid:\t{numbers}")
        (tmp_path / str(pid) / "status").write_text(text)
    found = proc.find_init([860, 859, 3, 2], tmp_path)
    assert found is not None
    assert found.pid == 859
    assert proc.find_init([3], tmp_path) is None


def test_meminfo_is_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:       24684084 kB\nHugePages_Total:       3\n")
    assert proc.read_meminfo(tmp_path) == {"MemTotal": 24684084 * 1024, "HugePages_Total": 3}
    assert proc.read_meminfo()["MemTotal"] > 1 << 20
