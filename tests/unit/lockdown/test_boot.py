"""What is decided at boot or before: the command line, GRUB, the build, the processor, denied modules."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest
from bailey.errors import HostError, InvalidValueError
from bailey.lockdown.grub import Grub, parse_parameters
from bailey.lockdown.hardening import Hardened, Places, harden, soften
from bailey.lockdown.model import Row
from bailey.lockdown.modules import DENIED, DENIED_BY_GROUP, parse_modules

from tests.unit.lockdown.trees import BUILD, RELEASE, add_grub, make_host, put, tree


def row(done: Hardened, name: str) -> Row:
    return next(row for row in done.rows if row.feature == name)


def look(root: Path, cmdline: str = "quiet", build: str | None = BUILD) -> Hardened:
    return harden({}, check=True, root=make_host(root / "host", cmdline=cmdline, build=build))


def test_grub_passes_what_the_kernel_does_not_do_by_itself(tmp_path: Path) -> None:
    host = make_host(tmp_path / "host")
    log = add_grub(host)
    done = harden({"boot_parameters": ["quiet", "mitigations=auto,nosmt"]}, check=False, root=host)
    drop_in = Grub(host).drop_in
    # As grub-mkconfig reads it.
    words = subprocess.run(
        ["sh", "-euc", f'GRUB_CMDLINE_LINUX=old; . {drop_in}; echo "$GRUB_CMDLINE_LINUX"'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    expected = ["old", "init_on_free=1", "slab_nomerge", "page_alloc.shuffle=1", "vsyscall=none", "debugfs=off"]
    assert words == [*expected, "quiet", "mitigations=auto,nosmt"]
    assert log.read_text() == "made\n"
    assert row(done, "memory_sanitize").status == "needs-reboot"
    assert "init_on_free=1 is passed to the kernel from the next boot on" in row(done, "memory_sanitize").reason
    assert "mitigations=auto,nosmt" in row(done, "boot_parameters").reason
    assert "(in force: quiet)" in row(done, "boot_parameters").reason


def test_without_grub_the_boot_loader_is_told_by_the_report(tmp_path: Path) -> None:
    done = look(tmp_path)
    assert row(done, "memory_sanitize").status == "needs-reboot"
    assert row(done, "memory_sanitize").reason == (
        "this host has no GRUB: have its boot loader pass init_on_free=1 (in force: init_on_alloc=1)"
    )


def test_after_the_reboot_it_is_enforced(tmp_path: Path) -> None:
    done = look(tmp_path, "quiet init_on_free=1 slab_nomerge page_alloc.shuffle=1")
    assert row(done, "memory_sanitize").status == "enforced"
    assert row(done, "heap_layout").status == "enforced"


@pytest.mark.parametrize("cmdline", ["init_on_free=1 init_on_free=0", "init_on_free=0"])
def test_a_later_word_against_it_counts(tmp_path: Path, cmdline: str) -> None:
    done = look(tmp_path, cmdline)
    assert row(done, "memory_sanitize").status == "needs-reboot"
    assert "now it is told init_on_free=0" in row(done, "memory_sanitize").reason


def test_a_default_that_the_command_line_undoes_is_not_enforced(tmp_path: Path) -> None:
    done = look(tmp_path, "init_on_free=1 init_on_alloc=0")
    assert row(done, "memory_sanitize").status == "needs-reboot"


def test_a_word_that_the_kernel_does_not_know_is_unsupported_and_not_passed(tmp_path: Path) -> None:
    host = make_host(tmp_path / "host")
    add_grub(host)
    done = harden({}, check=False, root=host)
    assert row(done, "kstack").status == "unsupported"
    assert "without CONFIG_RANDOMIZE_KSTACK_OFFSET" in row(done, "kstack").reason
    assert "randomize_kstack" not in Grub(host).drop_in.read_text()


def test_without_the_kernels_configuration_nothing_is_taken_for_proven(tmp_path: Path) -> None:
    done = look(tmp_path, "randomize_kstack_offset=on", None)
    assert row(done, "kstack").status == "unsupported"
    assert f"neither /boot/config-{RELEASE} nor /proc/config.gz" in row(done, "usercopy").reason
    assert row(done, "refcount").status == "enforced"


def test_the_configuration_may_be_the_running_kernels_own(tmp_path: Path) -> None:
    host = make_host(tmp_path / "host", build=None)
    (host / "proc/config.gz").write_bytes(gzip.compress(BUILD.encode()))
    assert row(harden({}, check=True, root=host), "usercopy").status == "enforced"


def test_what_a_kernel_is_built_with_and_its_processor_has(tmp_path: Path) -> None:
    done = look(tmp_path)
    for name, status in (
        *(("kmem", "enforced"), ("usercopy", "enforced"), ("noexec", "enforced"), ("rbac", "enforced")),
        *(("rap", "unsupported"), ("kernexec", "unsupported"), ("tpe", "unsupported")),
    ):
        assert (name, row(done, name).status.value) == (name, status)
    assert row(done, "rap").reason.startswith("this kernel is not built with CONFIG_CFI_CLANG or CONFIG_CFI")
    assert row(done, "uderef").reason.startswith("this kernel is not built with")


def test_a_weakness_and_a_missing_flag_are_told(tmp_path: Path) -> None:
    host = make_host(tmp_path / "host")
    put(host, "sys/devices/system/cpu/vulnerabilities/meltdown", "Vulnerable\n")
    put(host, "proc/cpuinfo", "flags : fpu\n")
    put(host, "sys/kernel/security/lsm", "capability")
    done = harden({}, check=True, root=host)
    assert "meltdown: the kernel says Vulnerable" in row(done, "uderef").reason
    assert "this processor has no smap" in row(done, "uderef").reason
    assert row(done, "noexec").status == "unsupported"
    assert row(done, "rbac").reason == "apparmor is not in force in this kernel"


def test_boot_parameters_can_be_left_to_the_operator(tmp_path: Path) -> None:
    host = make_host(tmp_path / "host")
    log = add_grub(host)
    done = harden({"boot_parameters": False}, check=False, root=host)
    assert not log.exists()
    assert not Grub(host).drop_in.exists()
    assert row(done, "memory_sanitize").status == "conflicts-with"


def test_where_grub_fails_its_drop_in_is_as_it_was(tmp_path: Path) -> None:
    host = make_host(tmp_path / "host")
    add_grub(host, status=3)
    with pytest.raises(HostError, match=r"exit status 3.*is as it was"):
        harden({}, check=False, root=host)
    assert not Grub(host).drop_in.exists()
    put(host, "usr/sbin/update-grub", "#!/bin/sh\n")
    assert [item.path for item in harden({}, check=False, root=host).differences] == [str(Grub(host).drop_in)]


def test_removal_makes_the_menu_anew(tmp_path: Path) -> None:
    host = make_host(tmp_path / "host")
    log = add_grub(host)
    harden({}, check=False, root=host)
    soften(check=False, root=host)
    assert not Grub(host).drop_in.exists()
    assert log.read_text() == "made\nmade\n"


@pytest.mark.parametrize("given", ['a="b"', "a b", "$(id)", "a;b", "", 1, "init_on_free=`id`"])
def test_a_word_that_a_shell_would_read_is_refused(given: object) -> None:
    with pytest.raises(InvalidValueError, match=r"boot_parameters\[0\]"):
        parse_parameters("boot_parameters", [given])


def test_one_word_has_one_value() -> None:
    with pytest.raises(InvalidValueError, match=r"boot_parameters\[1\]: 'a=2' is not valid; allowed: one value of a"):
        parse_parameters("boot_parameters", ["a=1", "a=2"])


def test_denied_modules_are_denied_by_name_and_alias(tmp_path: Path) -> None:
    host = make_host(tmp_path / "host")
    done = harden({}, check=False, root=host)
    lines = Places(host).modules.read_text().splitlines()
    assert "install dccp /bin/false" in lines
    assert len([line for line in lines if line.startswith("install ")]) == len(DENIED)
    assert row(done, "module_autoload").status == "enforced"


def test_a_module_that_is_loaded_waits_for_a_reboot_and_one_that_is_built_in_is_told(tmp_path: Path) -> None:
    host = make_host(tmp_path / "host")
    put(host, "proc/modules", "sctp 1 0 - Live 0x0\n")
    put(host, f"lib/modules/{RELEASE}/modules.builtin", "kernel/net/can/can-raw.ko\n")
    done = harden({"modules_denied": ["sctp", "can-raw", "rds"]}, check=True, root=host)
    found = row(done, "module_autoload")
    assert found.status == "needs-reboot"
    assert found.reason == (
        "sctp is loaded already, and stays until a reboot; can_raw is built into this kernel (in force: 1 modules)"
    )


def test_a_kernel_without_modules_needs_no_list(tmp_path: Path) -> None:
    host = make_host(tmp_path / "host")
    (host / "proc/modules").unlink()
    done = harden({}, check=False, root=host)
    assert row(done, "module_autoload").status == "enforced"
    assert not Places(host).modules.exists()


def test_an_empty_list_and_the_switched_off_feature_deny_nothing(tmp_path: Path) -> None:
    host = make_host(tmp_path / "host")
    harden({}, check=False, root=host)
    harden({"features": {"module_autoload": False}}, check=False, root=host)
    assert not Places(host).modules.exists()
    harden({"modules_denied": []}, check=False, root=host)
    assert not Places(host).modules.exists()
    soften(check=False, root=host)
    assert "etc/modprobe.d/zz-bailey.conf" not in tree(host)


@pytest.mark.parametrize("name", ["overlay", "br-netfilter", "veth", "ifb", "xfs", "btrfs", "loop", "nf_tables", "llc"])
def test_a_module_that_the_platform_needs_cannot_be_denied(name: str) -> None:
    with pytest.raises(InvalidValueError, match="a module that the platform does without"):
        parse_modules("modules_denied", [name])


@pytest.mark.parametrize("name", ["a b", "", "a\ninstall b", 1])
def test_what_is_no_modules_name_is_refused(name: object) -> None:
    with pytest.raises(InvalidValueError, match=r"modules_denied\[0\]"):
        parse_modules("modules_denied", [name])


def test_the_list_itself_is_in_the_kernels_form_and_denies_nothing_that_is_needed() -> None:
    assert parse_modules("x", DENIED) == DENIED
    assert len(set(DENIED)) == sum(len(names) for names in DENIED_BY_GROUP.values())
