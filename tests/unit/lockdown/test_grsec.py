"""A kernel with grsecurity, as a tree of files: the policy, the flags of programs, and the lock that comes last."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bailey.errors import InvalidValueError, UnsupportedError
from bailey.lockdown.grsec import parse_flags, parse_policy, read_flags
from bailey.lockdown.hardening import Hardened, Places, harden, soften

from tests.unit.lockdown.trees import Stubborn, make_grsecurity, make_host, put, setting, tree

POLICY = {"dmesg": True, "harden_ptrace": 1}


def statuses(done: Hardened) -> dict[str, str]:
    return {row.feature: row.status.value for row in done.rows}


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return make_grsecurity(tmp_path / "host")


def test_the_declared_policy_holds_and_upstreams_settings_are_let_be(host: Path) -> None:
    done = harden({"grsecurity": POLICY}, check=False, root=host)
    assert setting(host, "kernel/grsecurity/dmesg") == "1"
    assert setting(host, "kernel/dmesg_restrict") == "0"
    assert statuses(done) == {
        "grsecurity.dmesg": "enforced",
        "grsecurity.harden_ptrace": "enforced",
        "module_autoload": "enforced",
    }
    assert "kernel/grsecurity/dmesg = 1\n" in Places(host).sysctls.read_text()
    assert not harden({"grsecurity": POLICY}, check=False, root=host).differences


def test_the_lock_comes_last_now_and_at_boot(host: Path) -> None:
    kernel = Stubborn(host)
    predicted = harden({"grsecurity": POLICY, "lock": True}, check=True, root=host)
    done = harden({"grsecurity": POLICY, "lock": True}, check=False, root=host, kernel=kernel)
    assert kernel.asked == [f"kernel/grsecurity/{name}" for name in ("dmesg", "harden_ptrace", "grsec_lock")]
    assert Places(host).sysctls.read_text().splitlines()[-1] == "kernel/grsecurity/grsec_lock = 1"
    assert statuses(done)["lock"] == "enforced"
    assert predicted.rows == done.rows
    assert not harden({"grsecurity": POLICY, "lock": True}, check=False, root=host).differences


def test_it_is_not_locked_where_a_setting_is_missing(host: Path) -> None:
    done = harden({"grsecurity": {**POLICY, "no_such": 1}, "lock": True}, check=False, root=host)
    assert setting(host, "kernel/grsecurity/grsec_lock") == "0"
    assert statuses(done)["lock"] == "unsupported"
    assert "grsec_lock" not in Places(host).sysctls.read_text()
    assert next(row for row in done.rows if row.feature == "lock").reason == (
        "not locked, for these do not hold: grsecurity.no_such"
    )


def test_it_is_not_locked_where_a_setting_is_refused(host: Path) -> None:
    kernel = Stubborn(host, refuses=("kernel/grsecurity/dmesg",))
    done = harden({"grsecurity": POLICY, "lock": True}, check=False, root=host, kernel=kernel)
    assert setting(host, "kernel/grsecurity/grsec_lock") == "0"
    assert statuses(done) | {"module_autoload": ""} == {
        "grsecurity.dmesg": "unsupported",
        "grsecurity.harden_ptrace": "enforced",
        "lock": "unsupported",
        "module_autoload": "",
    }
    assert not any("grsec_lock" in item.path for item in done.differences)


def test_what_a_lock_keeps_waits_for_a_reboot(tmp_path: Path) -> None:
    host = make_grsecurity(tmp_path / "host", grsec_lock="1", dmesg="1")
    kernel = Stubborn(host)
    done = harden({"grsecurity": POLICY, "lock": True}, check=False, root=host, kernel=kernel)
    assert kernel.asked == []
    assert statuses(done)["grsecurity.harden_ptrace"] == "needs-reboot"
    assert "kernel/grsecurity/harden_ptrace = 1\n" in Places(host).sysctls.read_text()
    assert not harden({"grsecurity": POLICY, "lock": True}, check=False, root=host).differences


def test_removal_puts_the_policy_back_unless_it_is_locked(host: Path) -> None:
    harden({"grsecurity": POLICY}, check=False, root=host)
    soften(check=False, root=host)
    assert setting(host, "kernel/grsecurity/dmesg") == "0"
    harden({"grsecurity": POLICY, "lock": True}, check=False, root=host)
    done = soften(check=False, root=host)
    assert setting(host, "kernel/grsecurity/dmesg") == "1"
    assert "kernel.grsecurity.dmesg stays 1 until a reboot" in done.warnings


def test_flags_of_programs_are_set_once_and_put_back(host: Path) -> None:
    program = put(host, "usr/bin/node", "")
    os.setxattr(program, "user.pax.flags", b"E")
    given = {"pax_flags": {"/usr/bin/node": "mE"}}
    assert "/usr/bin/node: PaX flags" in [item.path for item in harden(given, check=True, root=host).differences]
    assert read_flags(program) == "E"
    done = harden(given, check=False, root=host)
    assert read_flags(program) == "Em"
    assert statuses(done)["pax_flags./usr/bin/node"] == "enforced"
    assert not harden(given, check=False, root=host).differences
    soften(check=False, root=host)
    assert read_flags(program) == "E"


def test_flags_that_are_not_declared_any_more_go(host: Path) -> None:
    program = put(host, "usr/bin/node", "")
    harden({"pax_flags": {"/usr/bin/node": "m"}}, check=False, root=host)
    assert read_flags(program) == "m"
    assert harden({}, check=False, root=host).differences
    assert read_flags(program) is None
    assert not harden({}, check=False, root=host).differences


def test_the_lock_waits_for_the_flags(host: Path) -> None:
    put(host, "usr/bin/node", "")
    given = {"grsecurity": POLICY, "lock": True, "pax_flags": {"/usr/bin/node": "m"}}
    assert statuses(harden(given, check=False, root=host))["lock"] == "enforced"


def test_another_kernel_gives_flags_no_meaning_and_gets_none(tmp_path: Path) -> None:
    host = make_host(tmp_path / "host")
    program = put(host, "usr/bin/node", "")
    done = harden({"pax_flags": {"/usr/bin/node": "m"}, "grsecurity": POLICY, "lock": True}, check=False, root=host)
    assert read_flags(program) is None
    assert statuses(done)["pax_flags./usr/bin/node"] == "unsupported"
    assert statuses(done)["lock"] == "unsupported"
    assert not (host / "proc/sys/kernel/grsecurity").exists()


def test_a_program_that_is_not_there_is_refused_before_anything_changes(host: Path) -> None:
    before = tree(host)
    with pytest.raises(InvalidValueError, match="pax_flags: '/usr/bin/none' is not valid"):
        harden({"pax_flags": {"/usr/bin/none": "m"}, "grsecurity": POLICY}, check=False, root=host)
    assert tree(host) == before


def test_what_is_required_by_upstreams_name_is_refused_here(host: Path) -> None:
    with pytest.raises(UnsupportedError, match="reported by its own settings"):
        harden({"required": ["hidesym"]}, check=False, root=host)


def test_the_operators_own_settings_hold_here_too(host: Path) -> None:
    harden({"sysctls": {"kernel.kptr_restrict": 1}}, check=False, root=host)
    assert setting(host, "kernel/kptr_restrict") == "1"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], r"grsecurity: \[\] is not valid; allowed: a mapping"),
        ({"Dmesg": 1}, "a setting of kernel.grsecurity"),
        ({"../dmesg": 1}, "a setting of kernel.grsecurity"),
        ({"dmesg": "yes"}, r"grsecurity\.dmesg: 'yes' is not valid; allowed: true, false or a whole number"),
        ({"dmesg": -1}, "a whole number"),
        ({"grsec_lock": 1}, "the option lock instead"),
        ({"chroot_deny_mount": True}, "it stops container engines"),
        ({"disable_modules": 1}, "the platform has the kernel load modules"),
    ],
)
def test_a_wrong_policy_is_refused(given: object, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        parse_policy("grsecurity", given)


def test_a_policy_against_engines_can_be_accepted() -> None:
    assert parse_policy("x", {"chroot_deny_mount": True}, accepts_chroot=True) == {
        "kernel/grsecurity/chroot_deny_mount": "1"
    }
    assert parse_policy("x", {"chroot_deny_mount": False, "tpe_gid": 100}) == {
        "kernel/grsecurity/chroot_deny_mount": "0",
        "kernel/grsecurity/tpe_gid": "100",
    }


@pytest.mark.parametrize(
    "given", [[], {"usr/bin/node": "m"}, {"/usr/../node": "m"}, {"/a": ""}, {"/a": "x"}, {"/a": "mM"}, {"/a": 1}]
)
def test_wrong_flags_are_refused(given: object) -> None:
    with pytest.raises(InvalidValueError, match="pax_flags"):
        parse_flags("pax_flags", given)
