"""The role's profiles, compiled by the real parser: what they allow is found by running the automata it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.plugins.test.core import version_compare
from bailey.capabilities import NAMES, parse_capabilities, to_mask
from bailey.errors import InvalidValueError
from bailey.lockdown.apparmor import manage
from bailey.names import BOOT_DIRECTORY, CONTAINER_DIRECTORY, WSHD

from tests.unit import house
from tests.unit.apparmor_kernel import make_kernel
from tests.unit.apparmor_rules import Execution, Rules

ROLE = house.ROOT / "roles/apparmor"
DEFAULTS: dict[str, Any] = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
VARIABLES: dict[str, Any] = yaml.safe_load((ROLE / "vars/main.yml").read_text())
PROFILES = ("bailey-tenant", "bailey-static")
MOUNT = 7

# fs/proc/base.c of Linux 6.18
# fmt: off
SHOWN = {
    "cgroup", "cmdline", "comm", "limits", "mountinfo", "mounts", "oom_score", "sched", "schedstat", "stat", "statm",
    "status", "wchan",
}
PROCESS_FILES = SHOWN | {
    "arch_status", "attr", "autogroup", "auxv", "clear_refs", "coredump_filter", "cpuset", "cwd", "environ", "exe",
    "fd", "fdinfo", "gid_map", "io", "ksm_merging_pages", "ksm_stat", "latency", "loginuid", "map_files", "maps", "mem",
    "mountstats", "net", "ns", "numa_maps", "oom_adj", "oom_score_adj", "pagemap", "patch_state", "personality",
    "projid_map", "root", "seccomp_cache", "sessionid", "setgroups", "smaps", "smaps_rollup", "stack", "syscall",
    "task", "timens_offsets", "timers", "timerslack_ns", "uid_map",
}
# fmt: on


def render(name: str, **changes: object) -> str:
    """Render a template with the role's own values, as Ansible does."""
    loader = jinja2.FileSystemLoader(ROLE / "templates")
    environment = jinja2.Environment(  # no markup
        loader=loader, trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    environment.tests["version"] = version_compare
    return environment.get_template(f"{name}.j2").render({**DEFAULTS, **VARIABLES, "__apparmor_abi": "3.0", **changes})


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rules]:
    """Return the rules of all profiles, and of those where wshd is not apart under "NAME alone"."""
    kernel = make_kernel(tmp_path_factory.mktemp("kernel"))
    rules: dict[str, Rules] = {}
    for name in PROFILES:
        rules |= {profile.name: Rules(profile) for profile in kernel.compile(render(name))}
        alone = kernel.compile(render(name, apparmor_separate_wshd=False))
        assert [profile.name for profile in alone] == [name]
        rules[f"{name} alone"] = Rules(alone[0])
    return rules


@pytest.fixture(params=PROFILES)
def wshd(request: pytest.FixtureRequest, compiled: dict[str, Rules]) -> Rules:
    """Return what wshd runs under."""
    return compiled[request.param]


@pytest.fixture(params=PROFILES)
def program(request: pytest.FixtureRequest, compiled: dict[str, Rules]) -> Rules:
    """Return what a tenant's programs run under in addition."""
    return compiled[f"{request.param}-program"]


@pytest.fixture(params=[*PROFILES, *(f"{name}-program" for name in PROFILES), *(f"{name} alone" for name in PROFILES)])
def each(request: pytest.FixtureRequest, compiled: dict[str, Rules]) -> Rules:
    return compiled[request.param]


def permitted(name: str) -> bool:
    try:
        parse_capabilities("cap_add", [name])
    except InvalidValueError:
        return False
    return True


def test_the_roles_values_are_the_cores() -> None:
    assert [VARIABLES["__apparmor_directory"] + end for end in ("", "/wshd", "/boot")] == [
        CONTAINER_DIRECTORY,
        WSHD,
        BOOT_DIRECTORY,
    ]
    assert VARIABLES["__apparmor_capabilities"] == [name.lower() for name in NAMES if permitted(name)]


@pytest.mark.parametrize("separate", [True, False])
@pytest.mark.parametrize("name", PROFILES)
def test_the_module_loads_each_text(tmp_path: Path, name: str, separate: bool) -> None:
    kernel = make_kernel(tmp_path)
    text = render(name, apparmor_separate_wshd=separate)
    done = manage(name, "enforced", text, check=False, host=kernel)
    assert (done.mode, len(kernel.loaded())) == ("enforce", 1 + separate)
    assert not manage(name, "enforced", text, check=False, host=kernel).differences


def test_newer_rules_are_there_for_a_parser_that_knows_them() -> None:
    for name in PROFILES:
        older, newer = render(name), render(name, __apparmor_abi="4.0")
        for rule in ("deny userns,", "deny io_uring,", "mqueue,", "abi <abi/4.0>"):
            assert (rule in older, rule in newer) == (False, True)


def test_only_capabilities_that_a_declaration_may_add(each: Rules) -> None:
    assert each.capabilities == to_mask(name for name in NAMES if permitted(name))


def test_nothing_is_mounted(each: Rules) -> None:
    assert each.mediates(MOUNT)
    assert not each.allows_any(MOUNT)


@pytest.mark.parametrize(
    "path",
    [
        *("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/12/attr/current", "/proc/12/mem"),
        *("/proc/12/uid_map", "/proc/12/clear_refs", "/proc/12/task/13/attr/exec", "/proc/irq/1/smp_affinity"),
        *("/sys/fs/cgroup/memory.max", "/sys/kernel/mm/ksm/run", "/sys/class/net/eth0/mtu", "/sys/x", "/proc/x"),
        *("/dev/mem", "/dev/kmsg", WSHD, f"{CONTAINER_DIRECTORY}/", f"{BOOT_DIRECTORY}/"),
    ],
)
def test_what_is_the_kernels_or_the_platforms_is_not_written(each: Rules, path: str) -> None:
    assert "w" not in each.file(path)
    assert "x" not in each.file(path)
    assert path.endswith("/") or not each.link(path, "/data/file")


@pytest.mark.parametrize(
    "path",
    [
        *("/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/sysrq-trigger", "/proc/kallsyms", "/proc/scsi/scsi"),
        *("/sys/firmware/efi/vars", "/sys/kernel/security/apparmor/profiles", "/sys/kernel/debug/x", "/dev/mem"),
        *("/sys/devices/virtual/powercap/intel-rapl/energy_uj", "/sys/fs/bpf/x", "/sys/kernel/notes"),
    ],
)
def test_what_tells_of_the_host_is_not_read(each: Rules, path: str) -> None:
    assert not each.file(path)


@pytest.mark.parametrize(
    ("path", "letters"),
    [
        ("/proc/12/status", "rk"),
        ("/proc/12/comm", "rwk"),
        ("/proc/12/oom_score_adj", "rwk"),
        ("/proc/12/task/13/comm", "rwk"),
        ("/proc/meminfo", "rk"),
        ("/proc/sys/vm/overcommit_memory", "rk"),
        ("/sys/devices/system/cpu/online", "rk"),
        ("/sys/fs/cgroup/memory.max", "rk"),
        ("/", "r"),
        ("/etc/passwd", "rwk"),
        ("/data/file", "rwk"),
        ("/tmp/file", "rwk"),
        ("/dev/null", "rwk"),
        ("/dev/pts/0", "rwk"),
        *((path, "rwk") for path in ("/p", "/pro/c", "/process/a", "/srv/www/a", "/system/a", "/s/y/s", "/proc.d/a")),
    ],
)
def test_what_programs_need_is_there(each: Rules, path: str, letters: str) -> None:
    assert each.file(path).replace("m", "").replace("x", "") == letters


def test_wshd_reaches_its_gate_and_itself(wshd: Rules) -> None:
    assert wshd.file(f"{BOOT_DIRECTORY}/gate").replace("m", "") == "rwk"
    assert {"r", "m"} <= set(wshd.file(WSHD))
    assert {"r", "w"} <= set(wshd.file("/proc/1/oom_score_adj"))


@pytest.mark.parametrize("path", [WSHD, f"{BOOT_DIRECTORY}/gate", f"{CONTAINER_DIRECTORY}/wsh"])
def test_programs_reach_nothing_of_the_platforms(program: Rules, path: str) -> None:
    assert not program.file(path)


def test_programs_see_of_process_1_what_ps_shows(program: Rules) -> None:
    shown = {name for name in PROCESS_FILES if program.file(f"/proc/1/{name}")}
    assert shown == SHOWN
    assert all(program.file(f"/proc/1/{name}") == "r" for name in shown)
    assert not any(program.file(f"/proc/1/{name}") for name in ("fd/3", "attr/current", "root/etc", "task/1/mem"))
    assert all("r" in program.file(f"/proc/{pid}/environ") for pid in (2, 10, 11, 100, 20_000))


def test_only_ordinary_sockets(each: Rules) -> None:
    for kind in ("stream", "dgram", "raw"):
        assert not each.network("packet", kind)
    for family in ("inet", "inet6"):
        assert each.network(family, "stream")
        assert not each.network(family, "raw")
    assert each.network("unix", "stream")


def test_only_tenants_have_udp_and_netlink(compiled: dict[str, Rules]) -> None:
    for name, rules in compiled.items():
        is_tenant = name.startswith("bailey-tenant")
        assert (rules.network("inet", "dgram"), rules.network("netlink", "raw")) == (is_tenant, is_tenant), name


STACK = "bailey-tenant//&bailey-tenant-program"
STATIC = "bailey-static//&bailey-static-program"


@pytest.mark.parametrize("end", ["", "//&crun", "//&runc", "//&unconfined", "//&crun//&unconfined"])
def test_wshd_signals_what_it_starts_and_not_the_other_way(compiled: dict[str, Rules], end: str) -> None:
    above, below = compiled["bailey-tenant"], compiled["bailey-tenant-program"]
    init, stack = f"bailey-tenant{end}", f"{STACK}{end}"
    for signal in ("kill", "stop", "term"):
        assert "send" in above.signal(stack, signal)
        assert "receive" in above.signal(init, signal) & below.signal(init, signal)
        assert "send" not in below.signal(init, signal)
        assert above.signal(stack, signal) & below.signal(stack, signal) == {"send", "receive"}
    assert "send" in above.signal(init, "exists") & below.signal(init, "exists")


def test_the_host_signals_and_is_not_signalled(each: Rules) -> None:
    for peer in ("unconfined", "runc", "crun"):
        assert each.signal(peer, "kill") == {"receive"}
    for peer in ("docker-default", "bailey-other", "bailey-tenant-", "dockerd"):
        assert not each.signal(peer, "kill")


def test_one_kind_of_tenant_does_not_reach_the_other(compiled: dict[str, Rules]) -> None:
    for rules in (compiled["bailey-tenant"], compiled["bailey-tenant-program"]):
        assert not rules.signal(STATIC, "kill") | rules.signal("bailey-static", "kill") | rules.ptrace(STATIC)


def test_nobody_traces_and_programs_read_each_other_only(compiled: dict[str, Rules]) -> None:
    above, below = compiled["bailey-tenant"], compiled["bailey-tenant-program"]
    assert above.ptrace(STACK) == below.ptrace(STACK) == {"read", "readby"}
    assert (above.ptrace("bailey-tenant"), below.ptrace("bailey-tenant")) == ({"read", "readby"}, {"readby"})
    for rules in compiled.values():
        assert rules.ptrace("unconfined") == {"readby", "tracedby"}
        assert not rules.ptrace("docker-default")


def test_what_wshd_executes_is_stacked_and_keeps_its_environment(compiled: dict[str, Rules]) -> None:
    paths = {
        "bailey-tenant": ("/usr/bin/sh", "/data/program", "/tmp/x", "/run.sh"),
        "bailey-static": ("/usr/sbin/httpd",),
    }
    for name, programs in paths.items():
        for path in programs:
            stacked = Execution(f"{name}//&{name}-program", keeps_environment=True)
            assert compiled[name].execution(path) == stacked
            inherited = [compiled[f"{name}-program"].execution(path), compiled[f"{name} alone"].execution(path)]
            assert [found and found.target for found in inherited] == [None, None]
            assert None not in inherited


@pytest.mark.parametrize("path", [WSHD, f"{BOOT_DIRECTORY}/gate", "/proc/12/exe", "/sys/x"])
def test_what_is_the_platforms_is_not_executed(each: Rules, path: str) -> None:
    assert each.execution(path) is None


@pytest.mark.parametrize(
    ("path", "is_program"),
    [
        *((path, True) for path in ("/bin/sh", "/usr/bin/httpd", "/lib/ld.so", "/lib64/a", "/usr/local/bin/caddy")),
        *((path, False) for path in ("/data/x", "/tmp/x", "/usr/share/x", "/var/lib/x", "/memfd:x", "/srv/bin/x")),
    ],
)
def test_static_tenants_execute_the_images_programs_only(
    compiled: dict[str, Rules], path: str, is_program: bool
) -> None:
    for name in ("bailey-static", "bailey-static-program", "bailey-static alone"):
        rules = compiled[name]
        assert (rules.execution(path) is not None, "m" in rules.file(path)) == (is_program, is_program)
        assert ("w" in rules.file(path)) is not is_program
