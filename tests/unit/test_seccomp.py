"""The system call filter, as the kernel would judge by it: rules joined by "or", a rule's conditions by "and"."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from bailey import seccomp
from bailey.host.quota_btrfs import BtrfsQuota
from bailey.host.quota_xfs import XfsQuota
from hypothesis import example, given
from hypothesis import strategies as st

from tests.ground import syscalls
from tests.unit import house

PROFILE = seccomp.profile()
ALLOW = "SCMP_ACT_ALLOW"
EPERM, ENOSYS = 1, 38

# What the kernel offers an ordinary user that changes the host, another process or a limit, or whose code is young.
DANGEROUS = (
    *(
        "mount",
        "umount",
        "umount2",
        "move_mount",
        "open_tree",
        "fsopen",
        "fsmount",
        "fsconfig",
        "fspick",
        "mount_setattr",
    ),
    *("pivot_root", "chroot", "unshare", "setns", "bpf", "perf_event_open", "ptrace", "process_vm_readv"),
    *(
        "process_vm_writev",
        "process_madvise",
        "pidfd_getfd",
        "kcmp",
        "keyctl",
        "add_key",
        "request_key",
        "io_uring_setup",
    ),
    *("io_uring_enter", "io_uring_register", "userfaultfd", "fanotify_init", "fanotify_mark", "open_by_handle_at"),
    *("name_to_handle_at", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot"),
    *("swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "settimeofday", "clock_settime", "clock_adjtime"),
    *("stime", "iopl", "ioperm", "modify_ldt", "syslog", "sethostname", "setdomainname", "vhangup", "lookup_dcookie"),
    *("nfsservctl", "uselib", "ustat", "sysfs", "_sysctl", "get_mempolicy", "set_mempolicy", "mbind", "move_pages"),
    *("migrate_pages", "set_mempolicy_home_node", "memfd_secret", "vm86", "vm86old", "clone3", "create_module"),
    *("query_module", "get_kernel_syms", "file_setattr", "file_getattr", "listmount", "statmount"),
)
NEEDED = ("read", "write", "openat", "execve", "mmap", "futex", "exit_group", "epoll_wait", "accept4", "fork", "wait4")


def verdict(call: str, *arguments: int) -> tuple[str, int]:
    """Judge a call as libseccomp's filter does; the arguments are unsigned and 64 bits wide."""
    padded = [*arguments, *[0] * 6]
    for rule in PROFILE["syscalls"]:
        if call in rule["names"] and all(_holds(condition, padded) for condition in rule["args"]):
            return rule["action"], rule.get("errnoRet", EPERM)
    return PROFILE["defaultAction"], PROFILE["defaultErrnoRet"]


def _holds(condition: dict[str, Any], arguments: list[int]) -> bool:
    argument = arguments[condition["index"]] & 0xFFFF_FFFF_FFFF_FFFF
    if condition["op"] == "SCMP_CMP_EQ":
        return bool(argument == condition["value"])
    assert condition["op"] == "SCMP_CMP_MASKED_EQ"
    return bool(argument & condition["value"] == condition["valueTwo"])


def allowed(call: str, *arguments: int) -> bool:
    return verdict(call, *arguments)[0] == ALLOW


@pytest.mark.parametrize("call", DANGEROUS)
def test_a_dangerous_call_is_refused_whatever_its_arguments(call: str) -> None:
    naming = [rule for rule in PROFILE["syscalls"] if call in rule["names"] and rule["action"] == ALLOW]
    assert naming == []
    assert not allowed(call)


@pytest.mark.parametrize("call", NEEDED)
def test_what_every_program_needs_is_allowed(call: str) -> None:
    assert allowed(call)


def test_what_is_not_listed_fails_as_forbidden_and_does_not_kill() -> None:
    assert verdict("no_such_call") == ("SCMP_ACT_ERRNO", EPERM)


def test_no_rule_allows_by_mistake_what_another_one_narrows() -> None:
    unconditional = {name for rule in PROFILE["syscalls"] if not rule["args"] for name in rule["names"]}
    conditional = {name for rule in PROFILE["syscalls"] if rule["args"] for name in rule["names"]}
    assert conditional == {"clone", "personality", "prlimit64", "socket", "ioctl"}
    assert not unconditional & conditional


def test_a_rule_compares_each_argument_once_as_the_runtimes_demand() -> None:
    for rule in PROFILE["syscalls"]:
        indices = [condition["index"] for condition in rule["args"]]
        assert len(indices) == len(set(indices))


def _documented() -> dict[str, str]:
    """Return the calls that docs/seccomp.md says are taken away, with its reasons."""
    text = (house.ROOT / "docs/seccomp.md").read_text()
    section = text.partition("## What it takes away")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE))


def test_it_is_the_engines_default_without_what_the_documentation_names() -> None:
    recorded = (Path(__file__).with_name("recorded") / "engine-default-calls.txt").read_text()
    default = {line for line in recorded.splitlines() if not line.startswith("#")}
    ours = {name for rule in PROFILE["syscalls"] if rule["action"] == ALLOW for name in rule["names"]}
    assert len(default) > 300
    assert ours < default
    native = {name for table in syscalls.TABLES.values() for name in table}
    assert default & native - ours == _documented().keys()
    assert all(_documented().values())


def test_the_profile_names_calls_that_there_are() -> None:
    native = {name for table in syscalls.TABLES.values() for name in table}
    assert {name for rule in PROFILE["syscalls"] for name in rule["names"]} <= native


def test_no_call_is_listed_twice() -> None:
    plain = [name for rule in PROFILE["syscalls"] if not rule["args"] for name in rule["names"]]
    assert len(plain) == len(set(plain))


def test_the_profile_is_json_for_two_architectures_and_no_foreign_call_table() -> None:
    assert json.loads(json.dumps(PROFILE)) == PROFILE
    assert [item["architecture"] for item in PROFILE["archMap"]] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]
    assert all(item["subArchitectures"] == [] for item in PROFILE["archMap"])


@pytest.mark.parametrize("escapes", [BtrfsQuota.escapes, XfsQuota.escapes], ids=["btrfs", "xfs"])
def test_every_request_that_leaves_a_disk_limit_is_refused(escapes: dict[str, int]) -> None:
    assert escapes
    for name, request in escapes.items():
        assert not allowed("ioctl", 3, request), name
        # The kernel looks at the lower 32 bits only; a filter that compared all 64 could be passed by.
        assert not allowed("ioctl", 3, request | 1 << 32), name


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        *(("FICLONE", 0x40049409), ("FICLONERANGE", 0x4020940D), ("FIDEDUPERANGE", 0xC0189436)),
        *(("FS_IOC_GETFLAGS", 0x80086601), ("FS_IOC_FIEMAP", 0xC020660B), ("FS_IOC_FSGETXATTR", 0x801C581F)),
        *(("TCGETS", 0x5401), ("TIOCGWINSZ", 0x5413), ("FIONREAD", 0x541B), ("FIONBIO", 0x5421), ("FIOCLEX", 0x5451)),
        *(("SIOCGIFCONF", 0x8912), ("TUNSETIFF", 0x400454CA)),
    ],
)
def test_requests_that_programs_live_by_are_allowed(name: str, request_: int) -> None:
    assert allowed("ioctl", 3, request_), name


@given(st.sampled_from((0x94, 0x58, 0x66)), st.integers(0, 255), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF))
def test_in_a_refused_family_only_the_named_requests_pass(family: int, number: int, upper: int, beyond: int) -> None:
    request = beyond << 32 | upper << 16 | family << 8 | number
    assert allowed("ioctl", 3, request) == (request in seccomp._ALLOWED_IOCTLS)


@given(
    st.integers(0, 255).filter(lambda byte: byte not in (0x94, 0x58, 0x66, 0x54)),
    st.integers(0, 255),
    st.integers(0, 1 << 16),
)
def test_in_every_other_family_all_requests_pass(family: int, number: int, upper: int) -> None:
    assert allowed("ioctl", 3, upper << 16 | family << 8 | number)


@given(st.integers(0, 255), st.integers(0, 1 << 16), st.integers(0, 1 << 31))
@example(0x12, 0, 0)
@example(0x1C, 0, 1)
@example(0x13, 0, 0)
def test_of_a_terminals_requests_only_typing_into_it_is_refused(number: int, upper: int, beyond: int) -> None:
    request = beyond << 32 | upper << 16 | 0x5400 | number
    assert allowed("ioctl", 3, request) == (number not in (0x12, 0x1C))


def test_roots_filter_is_the_same_without_what_is_counted_by_user() -> None:
    plain, roots = (
        {name for rule in made["syscalls"] for name in rule["names"]}
        for made in (PROFILE, seccomp.profile(is_root=True))
    )
    assert plain - roots == {"inotify_init", "inotify_init1"}
    assert roots < plain


def _matching(byte: int, pairs: list[tuple[int, int]]) -> int:
    return sum(byte & mask == value for mask, value in pairs)


@pytest.mark.parametrize("refused", [(), (0,), (255,), (0x94, 0x58, 0x66), tuple(range(0, 256, 2)), tuple(range(256))])
def test_a_cover_holds_each_byte_but_the_refused_ones_once(refused: tuple[int, ...]) -> None:
    pairs = list(seccomp.cover_bytes_except(refused))
    assert [_matching(byte, pairs) for byte in range(256)] == [int(byte not in refused) for byte in range(256)]


@given(st.sets(st.integers(0, 255)))
def test_a_cover_of_any_bytes(refused: set[int]) -> None:
    pairs = list(seccomp.cover_bytes_except(refused))
    assert all(_matching(byte, pairs) == (byte not in refused) for byte in range(256))


NAMESPACES = {
    "NEWNS": 0x00020000,
    "NEWCGROUP": 0x02000000,
    "NEWUTS": 0x04000000,
    "NEWIPC": 0x08000000,
    "NEWUSER": 0x10000000,
    "NEWPID": 0x20000000,
    "NEWNET": 0x40000000,
}


@pytest.mark.parametrize("flag", NAMESPACES.values(), ids=NAMESPACES)
def test_clone_makes_no_namespace(flag: int) -> None:
    thread = 0x003D0F00  # what the C library asks for when it makes a thread
    assert allowed("clone", thread)
    assert allowed("clone", 0x01200011)  # and what it asks for when it forks
    assert not allowed("clone", thread | flag)
    assert not allowed("clone", flag)


def test_clone3_is_said_not_to_be_there_so_that_the_c_library_falls_back() -> None:
    assert verdict("clone3") == ("SCMP_ACT_ERRNO", ENOSYS)


@pytest.mark.parametrize(
    ("family", "passes"),
    [
        *((1, True), (2, True), (10, True), (16, True)),
        *((17, False), (38, False), (40, False), (44, False), (31, False), (21, False), (0, False)),
    ],
)
def test_sockets_are_for_the_network_and_the_host_itself_alone(family: int, passes: bool) -> None:
    assert allowed("socket", family) is passes


@pytest.mark.parametrize(
    ("pid", "new_limit", "passes"),
    [
        *((0, 0, True), (0, 0x7FFF0000, True), (1, 0, True), (77, 0, True)),
        *((1, 0x7FFF0000, False), (77, 0x7FFF0000, False), (1, 1 << 32, False), (1 | 1 << 32, 0x7FFF0000, False)),
    ],
)
def test_a_program_sets_limits_of_its_own_alone(pid: int, new_limit: int, passes: bool) -> None:
    assert allowed("prlimit64", pid, 7, new_limit) is passes


@pytest.mark.parametrize(
    ("persona", "passes"),
    [
        (0, True),
        (8, True),
        (0x20000, True),
        (0x20008, True),
        (0xFFFFFFFF, True),
        (0x0040000, False),
        (0x0400000, False),
    ],
)
def test_no_personality_weakens_a_process(persona: int, passes: bool) -> None:
    assert allowed("personality", persona) is passes
