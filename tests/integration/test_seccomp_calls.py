"""The system call filter, call by call: each that is refused is refused inside, each that is allowed is let through.

EPERM alone proves nothing: the kernel says it, too, to who has no capability. So each call is made twice. A container
of the same engine has the tenants' own profile, but for one word: what is not listed ends with SIGSYS. There the
filter's answer is told apart from every other. In a tenant's instance the same calls must then be refused with EPERM,
and no other. Needs root, btrfs and dockerd.
"""

from __future__ import annotations

import errno
import json
import platform as machine
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from bailey import seccomp

from tests.ground import call_by_call, syscalls
from tests.ground.rootfs import BASE
from tests.integration.fixtures.platform import UIDS, Platform, tenant

pytest_plugins = ("tests.integration.fixtures.on_platform",)

PROGRAM = Path(call_by_call.__file__).read_text()
MARK = "signal 31"  # SIGSYS: nothing but a filter sends it
NUMBERS = syscalls.native()
PROFILE = seccomp.profile()
BAD = (-1,) * 6  # no descriptor, no address, no flags: what is let through fails, or does nothing
UID = UIDS.stop - 1
Outcome = int | str

# Every name in the profile, whether it is allowed with any arguments or with some.
ALLOWED = {name for rule in PROFILE["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
CONDITIONAL = {name for rule in PROFILE["syscalls"] if rule["args"] for name in rule["names"]}
# Linux 6.15 and later ask no filter about these two: they are the kernel's own way out of a probe that it has put into
# a program, and to anybody else they are an illegal instruction and an error.
UNFILTERED = {"uretprobe": "signal 4", "uprobe": errno.ENXIO}
REFUSED = sorted(NUMBERS.keys() - ALLOWED - UNFILTERED.keys(), key=NUMBERS.__getitem__)
LET_THROUGH = sorted((NUMBERS.keys() & ALLOWED) - CONDITIONAL, key=NUMBERS.__getitem__)
# Calls that end who makes them, and one that is told to wait: that they do so shows that they were let through.
ENDING = {"exit": "ended", "exit_group": "ended", "rt_sigreturn": "signal 11", "pause": "signal 14"}
# runc answers "not there" to what is newer than everything that a profile names, so that programs fall back.
NEWEST = max(NUMBERS[name] for name in NUMBERS if name in ALLOWED | {"clone3"})

NEW_NAMESPACES = {
    "NEWNS": 0x00020000,
    "NEWCGROUP": 0x02000000,
    "NEWUTS": 0x04000000,
    "NEWIPC": 0x08000000,
    "NEWUSER": 0x10000000,
    "NEWPID": 0x20000000,
    "NEWNET": 0x40000000,
}
CHILD = 17  # SIGCHLD: a plain fork
IOCTLS = {
    "FICLONE": (0x40049409, True),
    "FICLONERANGE": (0x4020940D, True),
    "FIDEDUPERANGE": (0xC0189436, True),
    "FS_IOC_GETFLAGS": (0x80086601, True),
    "FS_IOC_FIEMAP": (0xC020660B, True),
    "FS_IOC_FSGETXATTR": (0x801C581F, True),
    "FS_IOC_SETFLAGS": (0x40086602, False),
    "FS_IOC_FSSETXATTR": (0x401C5820, False),
    "BTRFS_IOC_SUBVOL_CREATE": (0x5000940E, False),
    "BTRFS_IOC_SUBVOL_CREATE, in 64 bits": (0x1_5000940E, False),
    "BTRFS_IOC_SNAP_CREATE_V2": (0x50009417, False),
    "TIOCSTI": (0x5412, False),
    "TIOCSTI, in 64 bits": (0x1_0000_5412, False),
    "TIOCLINUX": (0x541C, False),
    "TIOCGWINSZ": (0x5413, True),
    "TCGETS": (0x5401, True),
    "TIOCGPTN": (0x80045430, True),
    "FIONBIO": (0x5421, True),
}
# (call, arguments, whether it is let through)
Case = tuple[str, Sequence[int], bool]
CASES: dict[str, Case] = {
    "clone as fork": ("clone", (CHILD,), True),
    "clone as a thread, but incomplete": ("clone", (0x00010000,), True),
    **{f"clone {name}": ("clone", (flag | CHILD,), False) for name, flag in NEW_NAMESPACES.items()},
    **{f"clone {name} beside others": ("clone", (flag | 0x00000F00,), False) for name, flag in NEW_NAMESPACES.items()},
    **{f"socket of family {number}": ("socket", (number, 3, 0), number in (1, 2, 10, 16)) for number in range(50)},
    **{
        f"personality {persona:#x}": ("personality", (persona,), passes)
        for persona, passes in {
            **dict.fromkeys((0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF), True),
            # ADDR_NO_RANDOMIZE, MMAP_PAGE_ZERO, READ_IMPLIES_EXEC, ADDR_COMPAT_LAYOUT, and an allowed one with a bit
            **dict.fromkeys((0x0040000, 0x0100000, 0x0400000, 0x0200000, 0x0440008), False),
        }.items()
    },
    **{f"ioctl {name}": ("ioctl", (-1, request, 0), passes) for name, (request, passes) in IOCTLS.items()},
    **{
        f"ioctl of family {family:#x}": ("ioctl", (-1, family << 8 | 0x77, 0), family not in (0x94, 0x58, 0x66))
        for family in range(256)
    },
    "prlimit64 of its own, to set": ("prlimit64", (0, 7, -1, 0), True),
    "prlimit64 of another's, to read": ("prlimit64", (1, 7, 0, -1), True),
    "prlimit64 of another's, to set": ("prlimit64", (1, 7, -1, 0), False),
    "prlimit64 of another's, in 64 bits": ("prlimit64", (1 | 1 << 32, 7, -1, 0), False),
}


def of_names(names: Sequence[str]) -> list[list[int]]:
    return [[NUMBERS[name], *BAD] for name in names]


def of_cases() -> list[list[int]]:
    return [[NUMBERS[call], *arguments] for call, arguments, _ in CASES.values()]


def marked_profile() -> dict[str, Any]:
    return {**PROFILE, "defaultAction": "SCMP_ACT_TRAP"}


@pytest.fixture(scope="module", params=["runc", "crun"])
def marked(request: pytest.FixtureRequest, platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make calls in a container whose filter answers with the mark; it is a tenant's in all else that counts."""
    file = tmp_path_factory.mktemp("profile") / "marked.json"
    file.write_text(json.dumps(marked_profile()))
    locked = ("--cap-drop=ALL", "--security-opt=no-new-privileges", f"--security-opt=seccomp={file}", "--read-only")

    def make(calls: list[list[int]]) -> list[Outcome]:
        words = ("run", "--rm", f"--runtime={request.param}", "--network=none", f"--user={UID}:{UID}", *locked)
        out = platform.engine.docker(*words, BASE.image, "python3", "-c", PROGRAM, json.dumps(calls), timeout=300)
        made: list[Outcome] = json.loads(out)
        return made

    make.runtime = request.param  # type: ignore[attr-defined] # a function's own mark
    return make


@pytest.fixture(scope="module", params=["runc", "crun"])
def tenants(request: pytest.FixtureRequest, platform: Platform) -> Any:
    """Make calls in a session of a real instance."""
    name = f"caller-{request.param}"
    platform.converge(tenant(name, runtime=request.param))

    def make(calls: list[list[int]]) -> list[Outcome]:
        made: list[Outcome] = platform.python(name, PROGRAM, json.dumps(calls), timeout=300).json()
        return made

    return make


def test_every_call_of_this_machine_is_in_one_of_the_lists() -> None:
    listed = [*REFUSED, *LET_THROUGH, *(CONDITIONAL & NUMBERS.keys()), *(UNFILTERED.keys() & NUMBERS.keys())]
    assert sorted(listed) == sorted(NUMBERS)
    assert len(REFUSED) > 90
    assert len(LET_THROUGH) > 200
    assert {call for call, _, _ in CASES.values()} == CONDITIONAL


def test_each_call_that_is_not_listed_is_stopped_by_the_filter(marked: Any) -> None:
    outcomes = dict(zip(REFUSED, marked(of_names(REFUSED)), strict=True))
    assert outcomes.pop("clone3") == errno.ENOSYS
    wrong = {name: got for name, got in outcomes.items() if got != MARK and not _is_newer(name, got)}
    assert wrong == {}


def test_each_call_that_is_listed_is_let_through(marked: Any) -> None:
    outcomes = dict(zip(LET_THROUGH, marked(of_names(LET_THROUGH)), strict=True))
    assert {name: got for name, got in outcomes.items() if got == MARK} == {}
    odd = {name: got for name, got in outcomes.items() if isinstance(got, str)}
    assert {name: got for name, got in odd.items() if ENDING.get(name) != got} == {}


def test_what_no_filter_is_asked_about_is_of_no_use_to_a_program(tenants: Any) -> None:
    names = [name for name in UNFILTERED if name in NUMBERS]
    outcomes = dict(zip(names, tenants(of_names(names)), strict=True))
    before = (errno.ENOSYS, errno.EPERM)  # a kernel that does not have them yet
    assert {name: got for name, got in outcomes.items() if got not in (UNFILTERED[name], *before)} == {}


def test_each_condition_is_judged_by_the_filter(marked: Any) -> None:
    outcomes = dict(zip(CASES, marked(of_cases()), strict=True))
    wrong = {name: outcomes[name] for name, (_, _, passes) in CASES.items() if (outcomes[name] != MARK) != passes}
    assert wrong == {}


def test_an_instance_refuses_each_call_that_is_not_listed(tenants: Any) -> None:
    outcomes = dict(zip(REFUSED, tenants(of_names(REFUSED)), strict=True))
    assert outcomes.pop("clone3") == errno.ENOSYS
    assert {name: got for name, got in outcomes.items() if got != errno.EPERM and not _is_newer(name, got)} == {}


def test_an_instance_refuses_what_the_conditions_do_and_nothing_else(marked: Any, tenants: Any) -> None:
    names = [name for name in LET_THROUGH if name not in ENDING]
    calls = of_names(names) + of_cases()
    elsewhere, inside = marked(calls), tenants(calls)
    expected = [errno.EPERM if got == MARK else got for got in elsewhere]
    labels = [*names, *CASES]
    differing = {
        label: (there, here)
        for label, there, here in zip(labels, expected, inside, strict=True)
        if (there == errno.EPERM) != (here == errno.EPERM)
    }
    assert differing == {}


def test_no_foreign_table_of_calls_goes_round_the_filter(tenants: Any) -> None:
    if machine.machine() != "x86_64":
        assert "SCMP_ARCH_AARCH64" in json.dumps(PROFILE["archMap"])
        return
    # getpid of i386, and getpid and mount by the x32 table: the filter knows neither, and neither is answered.
    getpid32, getpid_x32, mount_x32 = tenants([[-20], [0x40000000 | 39], [0x40000000 | 165, *BAD[:5]]])
    assert getpid32 in ("signal 31", errno.EPERM, errno.ENOSYS)
    assert getpid_x32 in ("signal 31", errno.EPERM, errno.ENOSYS)
    assert mount_x32 in ("signal 31", errno.EPERM, errno.ENOSYS)


def _is_newer(name: str, outcome: Outcome) -> bool:
    return outcome == errno.ENOSYS and NUMBERS[name] > NEWEST
