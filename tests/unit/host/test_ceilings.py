"""What a host may hand on is what its kernel and its privileges allow."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from bailey.host.ceilings import read_ceilings
from bailey.rlimits import KINDS, UNLIMITED

LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units     
Max open files            1024                 {nofile}             files     
Max core file size        0                    unlimited            bytes     
"""  # noqa: W291 - as the kernel writes it


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for pid, nofile in ((str(os.getpid()), "4096 "), ("1", "32768")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "limits").write_text(LIMITS.format(nofile=nofile.ljust(8)))
    (tmp_path / "sys/fs").mkdir(parents=True)
    (tmp_path / "sys/fs/nr_open").write_text("1048576\n")
    return tmp_path


def give_capabilities(proc: Path, effective: str) -> None:
    text = Path("/proc/self/status").read_text()
    kept = [line for line in text.splitlines() if not line.startswith("CapEff:")]
    (proc / str(os.getpid()) / "status").write_text("\n".join([*kept, f"CapEff:\t{effective}"]))


def test_who_may_raise_limits_is_bound_by_the_kernel_alone(proc: Path) -> None:
    give_capabilities(proc, "000001ffffffffff")
    assert read_ceilings(systemd=False, proc=proc) == {**dict.fromkeys(KINDS, UNLIMITED), "nofile": 1048576}


@pytest.mark.parametrize(("systemd", "nofile"), [(False, 4096), (True, 32768)])
def test_who_may_not_is_bound_by_whoever_starts_services(proc: Path, systemd: bool, nofile: int) -> None:
    give_capabilities(proc, "000001fffeffffff")
    found = read_ceilings(systemd=systemd, proc=proc)
    assert found["nofile"] == nofile
    assert found["core"] == UNLIMITED


def test_on_this_host_the_ceiling_can_be_had_and_no_more() -> None:
    ceiling = read_ceilings(systemd=False)["nofile"]
    code = "import resource,sys; n=int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_NOFILE,(n,n))"
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] <= ceiling
    for value, succeeds in ((ceiling, True), (ceiling + 1, False)):
        done = subprocess.run([sys.executable, "-c", code, str(value)], capture_output=True, check=False)
        assert (done.returncode == 0) is succeeds
