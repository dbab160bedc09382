"""Profiles of the platform's own: loaded exactly when they differ, read back, put back, and taken away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from bailey.errors import BaileyError, EnforcementError, HostError, InvalidValueError, UnsupportedError
from bailey.host.apparmor import AppArmor
from bailey.lockdown.apparmor import Managed, manage

from tests.unit.apparmor_kernel import Kernel, make_kernel

TEXT = "abi <abi/3.0>,\nprofile bailey-x { /a r, profile child { /b r, } }\nprofile bailey-x-y { /c r, }\n"
NAMES = {"bailey-x", "bailey-x//child", "bailey-x-y"}


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return make_kernel(tmp_path)


def bring(kernel: Kernel, state: str = "enforced", text: str = TEXT, *, check: bool = False) -> Managed:
    return manage("bailey-x", state, text, check=check, host=kernel, cache=kernel.root / "cache")


def path(kernel: Kernel) -> Path:
    return kernel.directory / "bailey-x"


def test_it_is_installed_and_loaded_once(kernel: Kernel) -> None:
    done = bring(kernel)
    assert done.differences
    assert (done.loaded, done.mode, done.processes, done.warnings) == (True, "enforce", [], [])
    assert done.sha == kernel.digests()["bailey-x"].value
    assert path(kernel).read_text().endswith(TEXT)
    assert path(kernel).stat().st_mode & 0o777 == 0o644
    assert kernel.loaded() == dict.fromkeys(NAMES, "enforce")
    loads = list(kernel.loads)
    again = bring(kernel)
    assert (again.differences.items, again.sha, kernel.loads) == ([], done.sha, loads)


def test_check_mode_changes_nothing_and_tells_the_same(kernel: Kernel) -> None:
    done = bring(kernel, check=True)
    assert (done.loaded, path(kernel).exists(), kernel.loads) == (False, False, [])
    assert done.differences.items == bring(kernel).differences.items
    assert not bring(kernel, check=True).differences


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_the_kernel_lacks_is_loaded_again(kernel: Kernel, name: str) -> None:
    bring(kernel)
    kernel.drop(name)
    assert bring(kernel, check=True).differences
    assert bring(kernel).differences
    assert kernel.loaded().keys() == NAMES
    assert not bring(kernel).differences


def test_other_rules_under_the_same_name_are_replaced(kernel: Kernel) -> None:
    bring(kernel)
    for profile in kernel.compile(TEXT.replace("/c r", "/c rw")):
        kernel.hold(profile)
    done = bring(kernel)
    assert [item.path for item in done.differences] == ["kernel.bailey-x-y.sha1"]
    assert not bring(kernel).differences


def test_a_changed_include_is_a_change(kernel: Kernel) -> None:
    (kernel.directory / "local").mkdir()
    text = "profile bailey-x { include if exists <local/bailey-x> }\n"
    bring(kernel, text=text)
    (kernel.directory / "local/bailey-x").write_text("/z r,\n")
    assert bring(kernel, text=text).differences
    assert not bring(kernel, text=text).differences


def test_complaining_and_enforced_again(kernel: Kernel) -> None:
    bring(kernel)
    link = kernel.directory / "force-complain/bailey-x"
    done = bring(kernel, "complaining")
    assert (bool(done.differences), done.mode, link.resolve()) == (True, "complain", path(kernel))
    assert set(kernel.loaded().values()) == {"complain"}
    assert not bring(kernel, "complaining").differences
    done = bring(kernel)
    assert (bool(done.differences), done.mode, link.is_symlink()) == (True, "enforce", False)
    assert not bring(kernel).differences


def test_a_mode_that_somebody_changed_is_drift(kernel: Kernel) -> None:
    bring(kernel)
    for profile in kernel.compile(TEXT, complain=True):
        kernel.hold(profile)
    assert {item.path for item in bring(kernel).differences} >= {"kernel.bailey-x", "kernel.bailey-x-y"}
    assert set(kernel.loaded().values()) == {"enforce"}


def test_a_kernel_without_hashes_is_compared_by_mode_and_says_so(tmp_path: Path) -> None:
    kernel = make_kernel(tmp_path, None)
    first, again = bring(kernel), bring(kernel)
    assert (bool(first.differences), bool(again.differences), again.sha) == (True, False, None)
    for done in (first, again):
        assert len(done.warnings) == 1
        assert "no hash of bailey-x" in done.warnings[0]
    kernel.drop("bailey-x-y")
    assert bring(kernel).differences


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("profile bailey-x { nonsense }", "syntax error"),
        ("", "one of its profiles has to be bailey-x"),
        ("profile bailey-y { }", "one of its profiles has to be bailey-x"),
        ("profile bailey-x { }\nprofile bailey-xy { }", "begin with bailey-x-"),
        ("profile bailey-x { }\nprofile docker-default { }", "begin with bailey-x-"),
        ("profile bailey-x flags=(complain) { }", r"without flags=\(complain\)"),
        ("profile bailey-x { }\nprofile bailey-x-y flags=(unconfined) { }", "syntax error|without flags"),
    ],
)
def test_an_unfit_text_is_refused_before_anything_changes(kernel: Kernel, text: str, finding: str) -> None:
    for check in (True, False):
        with pytest.raises(InvalidValueError, match=finding):
            bring(kernel, text=text, check=check)
    assert (path(kernel).exists(), kernel.loads) == (False, [])


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a.dpkg-old", ".a", "a b", "-a", "a" * 101])
def test_a_name_that_is_no_plain_file_name_is_refused(kernel: Kernel, name: str) -> None:
    with pytest.raises(InvalidValueError, match="name"):
        manage(name, "enforced", TEXT, check=True, host=kernel)


def test_an_unknown_state_is_refused(kernel: Kernel) -> None:
    with pytest.raises(InvalidValueError, match="state: 'present'"):
        bring(kernel, "present")


def seed_text(kernel: Kernel) -> None:
    path(kernel).write_text(TEXT)


def seed_directory(kernel: Kernel) -> None:
    path(kernel).mkdir()


def seed_link(kernel: Kernel) -> None:
    path(kernel).symlink_to("/dev/null")


def seed_disabled(kernel: Kernel) -> None:
    (kernel.directory / "disable").mkdir()
    (kernel.directory / "disable/bailey-x").symlink_to("../bailey-x")


def seed_loaded(kernel: Kernel) -> None:
    for profile in kernel.compile("profile bailey-x-y { /other r, }"):
        kernel.hold(profile)


@pytest.mark.parametrize(
    ("seed", "finding"),
    [
        (seed_text, "is not Bailey's"),
        (seed_directory, "no ordinary file"),
        (seed_link, "no ordinary file"),
        (seed_disabled, "has the parser pass the profile over"),
        (seed_loaded, "a profile bailey-x-y is loaded that does not come from"),
    ],
)
def test_what_is_not_ours_is_left_alone(kernel: Kernel, seed: Callable[[Kernel], None], finding: str) -> None:
    seed(kernel)
    before = kernel.loaded()
    for check in (True, False):
        with pytest.raises(HostError, match=finding):
            bring(kernel, check=check)
    assert (kernel.loads, kernel.loaded()) == ([], before)


def test_a_lost_file_of_what_is_loaded_is_written_again(kernel: Kernel) -> None:
    bring(kernel)
    path(kernel).unlink()
    assert bring(kernel).differences
    assert path(kernel).exists()


def test_a_failed_load_puts_the_former_text_back(kernel: Kernel) -> None:
    bring(kernel)
    before, text = kernel.digests(), path(kernel).read_text()
    kernel.broken.append("bailey-x-z")
    changed = TEXT.replace("/a r", "/a rw") + "profile bailey-x-z { }\n"
    with pytest.raises(HostError, match="cannot load bailey-x-z"):
        bring(kernel, "complaining", changed)
    assert (path(kernel).read_text(), kernel.digests()) == (text, before)
    assert not (kernel.directory / "force-complain/bailey-x").is_symlink()


def test_a_failed_first_load_leaves_nothing(kernel: Kernel) -> None:
    kernel.broken.append("bailey-x-y")
    with pytest.raises(HostError, match=r"cannot load bailey-x-y$"):
        bring(kernel)
    assert (path(kernel).exists(), kernel.loaded()) == (False, {})


def test_what_could_not_be_put_back_is_told(kernel: Kernel) -> None:
    bring(kernel)
    kernel.broken.append("bailey-x")
    with pytest.raises(HostError, match="cannot load bailey-x; and it could not be put back: cannot load bailey-x"):
        bring(kernel, text=TEXT.replace("/a r", "/a rw"))


def test_a_kernel_that_does_not_hold_what_was_loaded_is_an_error(kernel: Kernel) -> None:
    kernel.stubborn.append("bailey-x-y")
    with pytest.raises(EnforcementError, match=r"kernel\.bailey-x-y is absent and not enforce"):
        bring(kernel)
    assert (path(kernel).exists(), kernel.loaded()) == (False, {})


def test_a_profile_that_the_text_no_longer_defines_is_unloaded(kernel: Kernel) -> None:
    bring(kernel)
    done = bring(kernel, text="profile bailey-x { /a r, }\n")
    assert {"kernel.bailey-x-y", "kernel.bailey-x//child"} <= {item.path for item in done.differences}
    assert kernel.loaded() == {"bailey-x": "enforce"}


def test_it_stays_while_a_process_runs_under_it(kernel: Kernel) -> None:
    bring(kernel)
    kernel.run(41, "bailey-x//&bailey-x-y (enforce)")
    with pytest.raises(HostError, match=r"bailey-x-y binds running processes, and the text .* no longer: 41"):
        bring(kernel, text="profile bailey-x { /a r, }\n")
    assert kernel.loaded().keys() == NAMES


def test_absent_unloads_and_removes(kernel: Kernel) -> None:
    cache = kernel.root / "cache/26b63962.0/bailey-x"
    cache.parent.mkdir(parents=True)
    cache.touch()
    bring(kernel, "complaining")
    would = bring(kernel, "absent", check=True)
    assert (bool(would.differences), would.loaded, path(kernel).exists()) == (True, True, True)
    done = bring(kernel, "absent")
    assert (done.differences.items, done.loaded, done.mode) == (would.differences.items, False, None)
    assert (kernel.loaded(), path(kernel).exists(), cache.exists()) == ({}, False, False)
    assert not (kernel.directory / "force-complain/bailey-x").is_symlink()
    assert not bring(kernel, "absent").differences


@pytest.mark.parametrize("label", ["bailey-x", "bailey-x//&bailey-x-y", "bailey-x//child", "bailey-x-y"])
def test_absent_is_refused_while_a_process_runs_under_it(kernel: Kernel, label: str) -> None:
    bring(kernel)
    kernel.run(7, f"{label} (enforce)")
    kernel.run(70, f"{label} (enforce)")
    for check in (True, False):
        with pytest.raises(HostError, match="7, 70") as raised:
            bring(kernel, "absent", check=check)
        assert raised.value.details == {"pids": [7, 70]}
    assert kernel.loaded().keys() == NAMES
    assert path(kernel).exists()


def test_a_profile_that_stays_loaded_keeps_its_file(kernel: Kernel) -> None:
    bring(kernel)
    kernel.stubborn.append("bailey-x")
    with pytest.raises(EnforcementError, match=r"still holds bailey-x$"):
        bring(kernel, "absent")
    assert path(kernel).exists()


def test_absent_leaves_another_ones_file(kernel: Kernel) -> None:
    seed_text(kernel)
    with pytest.raises(HostError, match="is not Bailey's"):
        bring(kernel, "absent")
    assert path(kernel).exists()


def test_processes_are_returned(kernel: Kernel) -> None:
    bring(kernel)
    kernel.run(7, "bailey-x (enforce)")
    kernel.run(8, "bailey-x//&bailey-x-y (enforce)")
    assert bring(kernel).processes == [7, 8]


def test_a_kernel_without_apparmor_is_refused_with_the_way_out(kernel: Kernel) -> None:
    (kernel.root / "sys/module/apparmor/parameters/enabled").unlink()
    for check in (True, False):
        with pytest.raises(UnsupportedError, match=r"its kernel has no AppArmor.*docker_lsm: none"):
            bring(kernel, check=check)
    assert not path(kernel).exists()


def test_absent_needs_no_apparmor(kernel: Kernel) -> None:
    bring(kernel)
    (kernel.root / "sys/module/apparmor/parameters/enabled").unlink()
    done = bring(kernel, "absent")
    assert (bool(done.differences), done.loaded, path(kernel).exists()) == (True, False, False)


def test_check_mode_passes_before_the_parser_is_installed(tmp_path: Path) -> None:
    kernel = make_kernel(tmp_path)
    host = AppArmor(tmp_path, tmp_path / "etc/absent", "/nonexistent/apparmor_parser")
    done = manage("bailey-x", "enforced", TEXT, check=True, host=host)
    assert done.differences
    assert "not parsed" in done.warnings[0]
    with pytest.raises(BaileyError, match="no such program"):
        manage("bailey-x", "enforced", TEXT, check=False, host=host)
    assert kernel.loads == []
