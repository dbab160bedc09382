"""The kernel's paths that no instance sees or changes."""

from __future__ import annotations

from pathlib import Path

from bailey.confinement import CONTROL_GROUPS, READ_ONLY, masked_paths, present, read_only_paths

# moby's oci/defaults.go and daemon/pkg/oci/defaults.go, of all versions up to 28.
ENGINES_MASKED = {
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware"),
    "/sys/devices/virtual/powercap",
}
ENGINES_READ_ONLY = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
# What hosted programs do read: their processors and memory, and what the C library and runtimes ask at their start.
NEEDED = {
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/uptime", "/proc/mounts", "/proc/self"),
    *("/proc/sys", "/sys/fs/cgroup", "/sys/devices/system/cpu", "/sys/kernel/mm", "/sys/class/net"),
}


def test_the_lists_hold_the_engines_own() -> None:
    assert set(masked_paths()) > ENGINES_MASKED
    assert set(READ_ONLY) > ENGINES_READ_ONLY


def test_no_path_lies_below_another_and_none_covers_what_programs_need() -> None:
    paths = (*masked_paths(), *READ_ONLY)
    assert len(set(paths)) == len(paths)
    for path in paths:
        assert not any(other != path and f"{path}/".startswith(f"{other}/") for other in paths)
        assert path.startswith(("/proc/", "/sys/"))
    for path in NEEDED:
        assert not any(f"{path}/".startswith(f"{covered}/") for covered in masked_paths())


def test_each_processors_count_of_its_throttling_is_covered(tmp_path: Path) -> None:
    for number in (0, 11):
        (tmp_path / f"sys/devices/system/cpu/cpu{number}/thermal_throttle").mkdir(parents=True)
    (tmp_path / "sys/devices/system/cpu/cpufreq").mkdir()
    found = set(masked_paths(tmp_path)) - set(masked_paths(tmp_path / "nothing"))
    assert found == {f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in (0, 11)}


def test_control_groups_are_among_them_where_they_would_be_given_to_a_tenant() -> None:
    assert read_only_paths(2, remapped=True) == (*READ_ONLY, CONTROL_GROUPS)
    for version, remapped in ((2, False), (1, True), (1, False)):
        assert read_only_paths(version, remapped=remapped) == READ_ONLY


def test_only_what_a_kernel_has_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/keys").touch()
    assert present(masked_paths(tmp_path), tmp_path) == {"/proc/keys"}
    assert "/proc/sys" in present(READ_ONLY)
