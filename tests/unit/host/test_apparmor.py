"""AppArmor as the kernel shows it: labels, loaded profiles, their hashes, and what the parser makes of a text."""

from __future__ import annotations

import hashlib
import shutil
import struct
from pathlib import Path

import pytest
from bailey.errors import CommandError, HostError
from bailey.host.apparmor import AppArmor, Confinement, confinement, parse_label, processes_under
from bailey.host.apparmor_policy import CompiledProfile, split_profiles

from tests.unit.apparmor_kernel import Kernel, make_kernel

TEXT = """abi <abi/3.0>,
profile a flags=(complain) { /a r, profile child { /c r, } ^hat { /d r, } }
profile "a version\x04" { /e r, }
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return make_kernel(tmp_path)


@pytest.mark.parametrize(
    ("text", "profiles", "mode"),
    [
        ("unconfined\n", (), "unconfined"),
        ("unconfined\0", (), "unconfined"),
        ("docker-default (enforce)\n", ("docker-default",), "enforce"),
        ("a//&b (mixed)\n", ("a", "b"), "mixed"),
        ("a//child//&b//&:ns:c (complain)", ("a//child", "b", ":ns:c"), "complain"),
        ("a//&unconfined (enforce)\n", ("a", "unconfined"), "enforce"),
        ("a (b) (enforce)\n", ("a (b)",), "enforce"),
        ("busybox (unconfined)\n", ("busybox",), "unconfined"),
    ],
)
def test_a_label_is_read(text: str, profiles: tuple[str, ...], mode: str) -> None:
    assert parse_label(text) == Confinement(profiles, mode)


def test_a_processs_confinement_is_apparmors_own(kernel: Kernel) -> None:
    kernel.run(7, "a (enforce)")
    (kernel.proc / "7/attr/current").write_text("of another module\n")
    assert confinement(7, kernel.proc) == Confinement(("a",), "enforce")


def test_an_older_kernel_has_one_file_for_all_modules(kernel: Kernel) -> None:
    (kernel.proc / "7/attr").mkdir(parents=True)
    (kernel.proc / "7/attr/current").write_text("a (complain)\n")
    assert confinement(7, kernel.proc) == Confinement(("a",), "complain")


def test_what_has_ended_has_no_confinement(kernel: Kernel) -> None:
    kernel.run(7, None)
    assert confinement(7, kernel.proc) is None
    assert confinement(8, kernel.proc) is None


def test_processes_under_a_profile_are_found_in_stacks_and_children(kernel: Kernel) -> None:
    labels = [
        "a (enforce)",
        "unconfined",
        "b//&a (mixed)",
        "a//child (enforce)",
        "a-b (enforce)",
        None,
        "b//a (enforce)",
    ]
    for pid, label in enumerate(labels, 10):
        kernel.run(pid, label)
    (kernel.proc / "self").mkdir()
    assert processes_under("a", kernel.proc) == [10, 12, 13]


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda root: shutil.rmtree(root / "sys/module"), "no AppArmor"),
        (lambda root: (root / "sys/module/apparmor/parameters/enabled").write_text("N\n"), "turned off"),
        (lambda root: shutil.rmtree(root / "sys/kernel"), "securityfs is not mounted"),
    ],
)
def test_what_a_kernel_lacks_is_told(kernel: Kernel, break_it: object, reason: str) -> None:
    assert kernel.missing() is None
    assert callable(break_it)
    break_it(kernel.root)
    assert reason in (kernel.missing() or "")


def test_a_text_is_compiled_and_split_into_its_profiles(kernel: Kernel) -> None:
    found = {profile.name: profile.mode for profile in kernel.compile(TEXT)}
    names = ["a", "a version\x04", "a//child", "a//hat"]
    assert sorted(found) == names
    assert (found["a"], found["a//child"]) == ("complain", "enforce")
    forced = kernel.compile(TEXT, complain=True)
    assert {profile.mode for profile in forced} == {"complain"}
    assert kernel.loaded() == {}


def test_compiling_is_the_same_every_time_and_differs_where_a_rule_does(kernel: Kernel) -> None:
    first, again = kernel.compile(TEXT), kernel.compile(TEXT)
    assert first == again
    other = {profile.name: profile for profile in kernel.compile(TEXT.replace("/c r", "/c w"))}
    assert [profile.name for profile in first if other[profile.name] != profile] == ["a//child"]


def test_the_parts_of_a_binary_make_the_whole(kernel: Kernel, tmp_path: Path) -> None:
    output = tmp_path / "whole"
    kernel_text = "profile a { /a r, }\nprofile b { /b r, }\n"
    parts = kernel.compile(kernel_text)
    header = b"\x04\x08\x00version\x00\x02"
    whole = b"".join(header + struct.pack("<I", part.version) + part.body for part in parts)
    output.write_bytes(whole)
    assert split_profiles(whole) == parts
    # The hash is over the version and what follows the header, wherever the profile stands.
    expected = hashlib.sha256(struct.pack("<I", parts[1].version) + parts[1].body).hexdigest()
    assert split_profiles(whole)[1].digest("sha256") == expected
    assert len(parts[1].digest("sha1")) == 40


@pytest.mark.parametrize(
    "blob",
    [
        b"\x04\x08\x00version\x00",
        b"\x04\x08\x00version\x00\x02\x07\x00\x00\x00",
        b"\x04\x08\x00profile\x00\x07",
        b"\x63",
        b"\x06\xff\xff\xff\xff",
    ],
)
def test_an_unknown_form_is_an_error(blob: bytes) -> None:
    with pytest.raises(HostError, match="not known here"):
        split_profiles(blob)


def test_a_text_that_is_wrong_is_the_parsers_error(kernel: Kernel) -> None:
    with pytest.raises(CommandError, match="syntax error"):
        kernel.compile("profile a { nonsense }")
    assert kernel.compile("# nothing\n") == []


def test_a_missing_parser_is_told() -> None:
    with pytest.raises(HostError, match="no such program"):
        AppArmor(parser="/nonexistent/apparmor_parser").compile("profile a { }")


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_loaded_profiles_their_modes_and_hashes(tmp_path: Path, algorithm: str) -> None:
    kernel = make_kernel(tmp_path, algorithm)
    profiles = kernel.compile(TEXT)
    for profile in profiles:
        kernel.hold(profile)
    assert kernel.loaded() == {profile.name: profile.mode for profile in profiles}
    found = kernel.digests()
    assert {name: digest.value for name, digest in found.items()} == {
        profile.name: profile.digest(algorithm) for profile in profiles
    }
    assert {digest.algorithm for digest in found.values()} == {algorithm}


def test_a_kernel_that_hashes_nothing_has_no_hashes(tmp_path: Path) -> None:
    kernel = make_kernel(tmp_path, None)
    kernel.hold(CompiledProfile("a", "enforce", 7, b""))
    assert (kernel.loaded(), kernel.digests()) == ({"a": "enforce"}, {})


def test_a_kernel_without_apparmor_has_nothing(tmp_path: Path) -> None:
    host = AppArmor(tmp_path)
    assert (host.loaded(), host.digests()) == ({}, {})
    with pytest.raises(HostError, match="does not unload the profile a"):
        host.unload("a")


def test_the_parser_is_told_to_load_in_complain_mode_by_a_link(kernel: Kernel) -> None:
    """What the class asks the real parser for: the fixture's own load() relies on the link in the same way."""
    path = kernel.directory / "a"
    path.write_text("profile a { /a r, }\n")
    output = kernel.root / "out"
    plain = AppArmor(kernel.root, kernel.directory, kernel.parser)
    for complain in (False, True):
        if complain:
            (kernel.directory / "force-complain").mkdir()
            (kernel.directory / "force-complain/a").symlink_to("../a")
        stand_in = kernel.root / "stand-in"
        stand_in.write_text(
            f'#!/bin/sh\nexec {kernel.parser} --skip-kernel-load --skip-cache --ofile={output} "$3" "$4" "$5"\n'
        )
        stand_in.chmod(0o755)
        AppArmor(kernel.root, kernel.directory, str(stand_in)).load(path)
        expected = plain.compile(path.read_text(), complain=complain)
        assert split_profiles(output.read_bytes()) == expected
