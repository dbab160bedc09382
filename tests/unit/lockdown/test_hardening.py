"""Hardening a host: what is set now and at the next boot, what is put back, and what is left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bailey.errors import EnforcementError, HostError, InvalidValueError, UnsupportedError
from bailey.lockdown.hardening import Hardened, Places, harden, soften
from bailey.lockdown.model import Row

from tests.unit.lockdown.trees import (
    Stubborn,
    add_grub,
    make_container,
    make_host,
    put,
    setting,
    tree,
)


def row(done: Hardened, name: str) -> Row:
    return next(row for row in done.rows if row.feature == name)


def paths(done: Hardened) -> list[str]:
    return [item.path for item in done.differences]


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return make_host(tmp_path / "host")


def test_settings_hold_now_and_after_a_reboot(host: Path) -> None:
    done = harden({}, check=False, root=host)
    drop_in = Places(host).sysctls.read_text()
    for place, value in (("kernel/kptr_restrict", "2"), ("kernel/sysrq", "0"), ("fs/protected_regular", "2")):
        assert setting(host, place) == value
        assert f"{place} = {value}\n" in drop_in
    assert row(done, "hidesym").status == "enforced"
    assert Places(host).sysctls.name < "zz-bailey-network.conf"


def test_check_mode_says_the_same_and_changes_nothing(host: Path) -> None:
    add_grub(host)
    before = tree(host)
    predicted = harden({}, check=True, root=host)
    assert tree(host) == before
    done = harden({}, check=False, root=host)
    assert paths(predicted) == paths(done)
    assert predicted.rows == done.rows
    assert predicted.differences.as_diff() == done.differences.as_diff()


def test_a_second_run_changes_nothing(host: Path) -> None:
    log = add_grub(host)
    assert harden({}, check=False, root=host).differences
    before = tree(host)
    again = harden({}, check=False, root=host)
    assert paths(again) == []
    assert tree(host) == before
    assert log.read_text() == "made\n"


def test_removal_leaves_the_host_as_it_was(host: Path) -> None:
    add_grub(host)
    before = tree(host)
    harden({"features": {"kexec": False}, "sysctls": {"vm.swappiness": 10}}, check=False, root=host)
    assert setting(host, "vm/swappiness") == "10"
    assert soften(check=True, root=host).differences
    done = soften(check=False, root=host)
    assert done.warnings == []
    after = tree(host)
    assert after.pop("grub.log") == "made\nmade\n"
    assert after == before
    assert not (host / "etc/modprobe.d").exists()
    assert paths(soften(check=False, root=host)) == []


def test_removal_on_a_host_that_was_never_hardened_changes_nothing(host: Path) -> None:
    assert paths(soften(check=False, root=host)) == []


def test_what_somebody_else_has_set_since_is_left_alone(host: Path) -> None:
    harden({}, check=False, root=host)
    put(host, "proc/sys/kernel/kptr_restrict", "1\n")
    soften(check=False, root=host)
    assert setting(host, "kernel/kptr_restrict") == "1"
    assert setting(host, "kernel/dmesg_restrict") == "0"


def test_drift_is_repaired_and_the_first_value_is_put_back(host: Path) -> None:
    harden({}, check=False, root=host)
    put(host, "proc/sys/kernel/kptr_restrict", "1\n")
    assert paths(harden({}, check=False, root=host)) == ["kernel.kptr_restrict"]
    soften(check=False, root=host)
    assert setting(host, "kernel/kptr_restrict") == "0"


def test_a_feature_that_is_switched_off_is_put_back_and_said_to_be_off(host: Path) -> None:
    harden({}, check=False, root=host)
    done = harden({"features": {"sysrq": False}}, check=False, root=host)
    assert setting(host, "kernel/sysrq") == "438"
    assert "kernel/sysrq" not in Places(host).sysctls.read_text()
    assert (row(done, "sysrq").status, row(done, "sysrq").reason) == (
        "conflicts-with",
        "switched off by the operator",
    )
    assert paths(harden({"features": {"sysrq": False}}, check=False, root=host)) == []


def test_what_lasts_until_a_reboot_is_told_at_removal(host: Path) -> None:
    harden({}, check=False, root=host)
    done = soften(check=False, root=host)
    assert done.warnings == ["kernel.kexec_load_disabled stays 1 until a reboot"]
    assert setting(host, "kernel/kexec_load_disabled") == "1"


@pytest.mark.parametrize(
    ("place", "value"),
    [("kernel/unprivileged_bpf_disabled", "1"), ("kernel/yama/ptrace_scope", "3"), ("kernel/perf_event_paranoid", "4")],
)
def test_a_stronger_value_is_left_and_kept_at_the_next_boot(host: Path, place: str, value: str) -> None:
    put(host, f"proc/sys/{place}", f"{value}\n")
    done = harden({}, check=False, root=host)
    assert setting(host, place) == value
    assert f"{place} = {value}\n" in Places(host).sysctls.read_text()
    assert {row(done, name).status.value for name in ("bpf", "ptrace", "perf")} == {"enforced"}


def test_a_setting_that_the_kernel_does_not_have_is_unsupported_and_not_made(host: Path) -> None:
    done = harden({}, check=False, root=host)
    assert row(done, "io_uring").status == "unsupported"
    assert row(done, "io_uring").reason == "this kernel has no kernel.io_uring_disabled"
    assert not (host / "proc/sys/kernel/io_uring_disabled").exists()
    assert "io_uring" not in Places(host).sysctls.read_text()


def test_a_value_that_the_kernel_refuses_is_told_and_not_tried_again_before_a_reboot(host: Path) -> None:
    kernel = Stubborn(host, refuses=("kernel/kptr_restrict",))
    done = harden({}, check=False, root=host, kernel=kernel)
    assert done.warnings == ["the kernel does not take kernel.kptr_restrict = 2; it keeps 0"]
    assert row(done, "hidesym").status == "unsupported"
    assert "kernel.kptr_restrict" not in paths(done)
    assert "kptr_restrict" not in Places(host).sysctls.read_text()
    assert paths(harden({}, check=True, root=host)) == []
    again = Stubborn(host, refuses=("kernel/kptr_restrict",))
    assert paths(harden({}, check=False, root=host, kernel=again)) == []
    assert again.asked == []
    put(host, "proc/sys/kernel/random/boot_id", "second\n")
    assert paths(harden({}, check=False, root=host)) == ["kernel.kptr_restrict", str(Places(host).sysctls)]
    assert setting(host, "kernel/kptr_restrict") == "2"


def test_a_value_that_the_kernel_clamps_is_put_back_and_told(host: Path) -> None:
    kernel = Stubborn(host, clamps={"vm/mmap_rnd_bits": "30"})
    done = harden({}, check=False, root=host, kernel=kernel)
    assert setting(host, "vm/mmap_rnd_bits") == "28"
    assert "the kernel keeps vm.mmap_rnd_bits at 28 and refuses 32" in row(done, "mmap_randomization").reason


def test_a_required_feature_that_the_host_cannot_have_is_refused_before_anything_changes(host: Path) -> None:
    before = tree(host)
    for name, reason in (("io_uring", "no kernel.io_uring_disabled"), ("tpe", "no equivalent")):
        with pytest.raises(UnsupportedError, match=reason):
            harden({"required": [name]}, check=False, root=host)
    assert tree(host) == before


def test_a_required_feature_that_the_kernel_refuses_puts_everything_back(host: Path) -> None:
    before = tree(host)
    kernel = Stubborn(host, refuses=("kernel/sysrq",))
    with pytest.raises(EnforcementError, match=r"required: sysrq is not in force: .*refuses 0"):
        harden({"required": ["sysrq"], "features": {"kexec": False}}, check=False, root=host, kernel=kernel)
    after = tree(host)
    after.pop("var/lib/bailey/hardening.json", None)
    assert after == before


def test_a_required_feature_may_wait_for_a_reboot(host: Path) -> None:
    done = harden({"required": ["memory_sanitize", "hidesym"]}, check=False, root=host)
    assert row(done, "memory_sanitize").status == "needs-reboot"


def test_an_operators_own_settings_are_set_reported_and_put_back(host: Path) -> None:
    given = {"sysctls": {"vm.swappiness": 10, "kernel.yama.ptrace_scope": 2, "vm/no_such": 1}}
    done = harden(given, check=False, root=host)
    assert setting(host, "vm/swappiness") == "10"
    assert setting(host, "kernel/yama/ptrace_scope") == "2"
    assert row(done, "ptrace").status == "enforced"
    assert row(done, "sysctls").reason == "this kernel has no vm.no_such (in force: vm.swappiness)"
    harden({}, check=False, root=host)
    assert setting(host, "vm/swappiness") == "60"
    assert setting(host, "kernel/yama/ptrace_scope") == "1"


def test_a_directory_is_no_setting(host: Path) -> None:
    done = harden({"sysctls": {"net.ipv4.conf": 1}}, check=False, root=host)
    assert row(done, "sysctls").reason == "this kernel has no net.ipv4.conf"


def test_a_weaker_value_of_the_operators_is_a_conflict_and_not_called_enforced(host: Path) -> None:
    done = harden({"sysctls": {"kernel.kptr_restrict": 1}}, check=False, root=host)
    assert setting(host, "kernel/kptr_restrict") == "1"
    assert row(done, "hidesym").status == "conflicts-with"
    assert row(done, "hidesym").reason == "the operator sets kernel.kptr_restrict to 1 and not 2"


def test_an_operators_value_for_a_feature_that_is_off_is_set_all_the_same(host: Path) -> None:
    harden({"features": {"sysrq": False}, "sysctls": {"kernel.sysrq": 176}}, check=False, root=host)
    assert setting(host, "kernel/sysrq") == "176"


def test_conflicts_are_told_and_nothing_is_set_for_them(host: Path) -> None:
    done = harden({}, check=False, root=host)
    assert row(done, "user_namespaces").status == "conflicts-with"
    assert "rootless engines" in row(done, "user_namespaces").reason
    assert row(done, "forwarding").status == "conflicts-with"
    assert setting(host, "kernel/unprivileged_userns_clone") == "1"
    assert setting(host, "net/ipv4/ip_forward") == "1"
    assert "ip_forward" not in Places(host).sysctls.read_text()


def test_an_accepted_conflict_is_put_in_force_by_the_first_setting_there_is(host: Path) -> None:
    done = harden({"conflicts": ["user_namespaces"]}, check=False, root=host)
    assert setting(host, "kernel/unprivileged_userns_clone") == "0"
    assert setting(host, "user/max_user_namespaces") == "1000"
    assert row(done, "user_namespaces").status == "enforced"


@pytest.fixture
def upstream(host: Path) -> Path:
    """A kernel without the distributions' patches, under an engine that remaps ids."""
    (host / "proc/sys/kernel/unprivileged_userns_clone").unlink()
    put(host, "etc/docker/daemon.json", '{"userns-remap": "bailey-remap"}')
    return host


ACCEPTED = {"conflicts": ["user_namespaces"]}


def test_an_engine_that_remaps_ids_keeps_its_user_namespaces_whatever_is_accepted(upstream: Path) -> None:
    done = harden(ACCEPTED, check=False, root=upstream)
    assert setting(upstream, "user/max_user_namespaces") == "1000"
    assert "max_user_namespaces" not in Places(upstream).sysctls.read_text()
    found = row(done, "user_namespaces")
    assert (found.status, found.means[0].found) == ("conflicts-with", "1000")
    assert found.reason.startswith("user.max_user_namespaces = 0 conflicts with docker_userns_remap")
    with pytest.raises(UnsupportedError, match=r"required: 'user_namespaces' .* conflicts with docker_userns_remap"):
        harden({**ACCEPTED, "required": ["user_namespaces"]}, check=True, root=upstream)


def test_ordinary_users_lose_theirs_under_such_an_engine_too(host: Path) -> None:
    put(host, "etc/docker/daemon.json", '{"userns-remap": "bailey-remap"}')
    done = harden(ACCEPTED, check=False, root=host)
    assert setting(host, "kernel/unprivileged_userns_clone") == "0"
    assert row(done, "user_namespaces").status == "enforced"


@pytest.mark.parametrize("text", ["{}", '{"userns-remap": ""}', "[]", None])
def test_user_namespaces_are_shut_where_the_engine_makes_none(upstream: Path, text: str | None) -> None:
    path = upstream / "etc/docker/daemon.json"
    path.unlink() if text is None else path.write_text(text)
    done = harden(ACCEPTED, check=False, root=upstream)
    assert setting(upstream, "user/max_user_namespaces") == "0"
    assert row(done, "user_namespaces").status == "enforced"


@pytest.mark.parametrize("text", ['{"userns-remap": "default"}', '{"userns-remap": "default",}'])
def test_they_are_opened_again_once_the_engine_needs_them(upstream: Path, text: str) -> None:
    """Of a file that cannot be read the words count."""
    path = upstream / "etc/docker/daemon.json"
    path.unlink()
    harden(ACCEPTED, check=False, root=upstream)
    path.write_text(text)
    assert paths(harden(ACCEPTED, check=True, root=upstream))[0] == "user.max_user_namespaces"
    harden(ACCEPTED, check=False, root=upstream)
    assert setting(upstream, "user/max_user_namespaces") == "1000"


def test_the_end_of_module_loading_comes_last_and_not_at_boot(host: Path) -> None:
    kernel = Stubborn(host)
    harden({"conflicts": ["module_loading"]}, check=False, root=host, kernel=kernel)
    assert kernel.asked[-1] == "kernel/modules_disabled"
    assert "modules_disabled" not in Places(host).sysctls.read_text()


def test_a_later_file_that_says_otherwise_is_warned_of(host: Path) -> None:
    put(host, "etc/sysctl.d/zzz.conf", "kernel.kptr_restrict = 0\nkernel.dmesg_restrict = 1\n")
    assert harden({}, check=True, root=host).warnings == [
        "/etc/sysctl.d/zzz.conf: kernel/kptr_restrict = 0 undoes the hardening at the next boot"
    ]


def test_in_a_container_only_its_own_network_is_set(tmp_path: Path) -> None:
    host = make_container(tmp_path / "host")
    done = harden({}, check=False, root=host)
    assert setting(host, "kernel/kptr_restrict") == "0"
    assert setting(host, "net/ipv4/conf/all/rp_filter") == "2"
    assert "this host is a container" in row(done, "hidesym").reason
    assert {row(done, name).status.value for name in ("hidesym", "memory_sanitize", "module_autoload")} == {
        "unsupported"
    }
    assert [path for path in paths(done) if "net" not in path] == [str(Places(host).sysctls)]
    assert not Places(host).modules.exists()


def test_the_record_is_of_a_version_and_another_one_is_refused(host: Path) -> None:
    harden({}, check=False, root=host)
    path = Places(host).record
    record = json.loads(path.read_text())
    assert record["sysctls"]["kernel/kptr_restrict"] == {"before": "0", "ours": "2"}
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(json.dumps({**record, "version": 9}))
    with pytest.raises(HostError, match="version 9 is not known"):
        harden({}, check=False, root=host)
    path.write_text("no JSON")
    with pytest.raises(HostError, match="repair or remove it"):
        soften(check=False, root=host)


def test_a_wrong_value_changes_nothing(host: Path) -> None:
    before = tree(host)
    with pytest.raises(InvalidValueError):
        harden({"sysctls": {"net.ipv4.ip_forward": 0}}, check=False, root=host)
    assert tree(host) == before
