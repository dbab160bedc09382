"""wsh cp: trees into containers and out of them, and containers that answer with something else.

Needs root and dockerd.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.fixtures.wsh import Instance
from tests.integration.fixtures.wshd import eventually

pytest_plugins = ("tests.integration.fixtures.wshd", "tests.integration.fixtures.wsh")

MIB = 1 << 20
_NUMBERS = itertools.count()


@pytest.fixture
def inside(web: Instance) -> Iterator[str]:
    """A directory inside, of one test's own."""
    path = f"/tmp/copy-{next(_NUMBERS)}"
    web.shell(f"mkdir {path}")
    yield path
    web.shell(f"chmod -R u+rwx {path}; rm -rf {path}")


def copy(web: Instance, source: str | Path, target: str | Path, code: int = 0) -> str:
    """Copy, and return what was said."""
    done = web.directory.run("cp", source, target)
    assert (done.returncode, done.stdout) == (code, ""), done
    return str(done.stderr)


def seen(web: Instance, path: str) -> str:
    """List a tree inside: type, mode, owner, seconds, link's target, name."""
    return web.shell(f"cd {path} && find . -mindepth 1 -printf '%y %m %U %T@ [%l] %p\\n' | sort -k6")


def make_tree(root: Path) -> None:
    (root / "sub/empty").mkdir(parents=True)
    (root / "sub/data").write_bytes(os.urandom(200_000))
    (root / "with space\nand line").write_text("odd")
    (root / "-rf").write_text("like an option")
    (root / "ü").touch()
    (root / "sub/link").symlink_to("/etc/shadow")
    (root / "program").write_text("#!/bin/sh\n")
    (root / "program").chmod(0o4755)
    (root / "sub").chmod(0o750)
    for number, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        os.utime(path, ns=(0, 1_500_000_000_000_000_123 + number * 1_000_000_000), follow_symlinks=False)
    os.utime(root, ns=(0, 1_400_000_000_000_000_999))


def facts(root: Path) -> dict[str, tuple[int, int, str]]:
    """Return mode, time and content of everything in a tree; what is set-id counts as what may pass."""
    found = {}
    for path in [root, *sorted(root.rglob("*"))]:
        status = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes().hex() if path.is_file() else ""
        mode = stat.S_IFMT(status.st_mode) | (status.st_mode & 0o1777)
        found[str(path.relative_to(root))] = (mode, status.st_mtime_ns, content)
    return found


def test_a_tree_there_and_back(web: Instance, inside: str, tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    assert copy(web, tmp_path / "tree", f"web:{inside}") == ""
    listed = seen(web, f"{inside}/tree").splitlines()
    uid = web.box.uid
    assert len(listed) == 9  # one name has two lines
    assert all(f" {uid} " in line for line in listed if line.startswith(("d", "f", "l")))
    assert any(line.startswith(f"l 777 {uid} ") and "[/etc/shadow]" in line for line in listed)
    assert any(line.startswith(f"f 755 {uid} ") and line.endswith("./program") for line in listed)
    assert copy(web, f"web:{inside}/tree", tmp_path / "back") == ""
    assert facts(tmp_path / "back") == facts(tmp_path / "tree")
    assert (tmp_path / "back/program").stat().st_uid == uid


def test_destinations_are_those_of_cp(web: Instance, inside: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("new")
    copy(web, source / "file", f"web:{inside}")
    copy(web, source / "file", f"web:{inside}/named")
    copy(web, source, f"web:{inside}/tree")  # not there: it gets that name
    copy(web, source, f"web:{inside}/tree")  # there: into it
    copy(web, f"{source}/.", f"web:{inside}/tree/source")  # the content alone
    copy(web, source, f"web:{inside}/slash/")
    expected = ["file", "named", "slash", "slash/file", "tree", "tree/file", "tree/source", "tree/source/file"]
    assert web.shell(f"cd {inside} && find . -mindepth 1 -printf '%P\\n' | sort").split() == expected
    for target in ("out", "out", "out/"):
        (tmp_path / "out").mkdir(exist_ok=True)
        copy(web, f"web:{inside}/tree/source", tmp_path / target)
    copy(web, f"web:{inside}/tree/.", tmp_path / "out")
    copy(web, f"web:{inside}/named", tmp_path / "out/source/file")
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*"))
    assert found == ["file", "source", "source/file"]


def test_paths_may_be_relative_to_where_each_side_is(web: Instance, tmp_path: Path) -> None:
    web.shell("cd /tmp && echo here >relative")
    done = web.directory.run("cp", "-r", "web:tmp/relative", ".", cwd=tmp_path)
    assert done.returncode == 0, done
    assert (tmp_path / "relative").read_text() == "here\n"
    (tmp_path / "web:colon").write_text("odd")
    assert copy(web, tmp_path / "web:colon", "web:/tmp/relative") == ""
    assert web.shell("cat /tmp/relative; rm /tmp/relative") == "odd"


def test_links_are_copied_and_never_followed(web: Instance, inside: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    copy(web, tmp_path / "link", f"web:{inside}/link")
    assert web.shell(f"readlink {inside}/link") == f"{tmp_path}/secret\n"
    web.shell(f"ln -s /etc/passwd {inside}/out")
    copy(web, f"web:{inside}/out", tmp_path / "out")
    assert (tmp_path / "out").readlink() == Path("/etc/passwd")
    # Where a link stands at the destination, the copy takes its place.
    web.shell(f"echo text >{inside}/text")
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "taken").symlink_to(tmp_path / "kept")
    copy(web, f"web:{inside}/text", tmp_path / "taken")
    assert ((tmp_path / "kept").read_text(), (tmp_path / "taken").is_symlink()) == ("kept", False)


def test_a_large_file_both_ways(web: Instance, inside: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(MIB) * 50)
    start = time.monotonic()
    copy(web, tmp_path / "large", f"web:{inside}")
    copy(web, f"web:{inside}/large", tmp_path / "back")
    assert time.monotonic() - start < 10
    subprocess.run(["cmp", tmp_path / "large", tmp_path / "back"], check=True)


def test_what_is_no_file_is_left_out_with_a_warning(web: Instance, inside: str, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    os.mkfifo(tmp_path / "tree/pipe")
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind(str(tmp_path / "tree/socket"))
    (tmp_path / "tree/file").touch()
    said = copy(web, tmp_path / "tree", f"web:{inside}", code=1)
    assert sorted(line.partition(": is ")[0] for line in said.splitlines()) == [
        f"wsh cp: {tmp_path}/tree/pipe",
        f"wsh cp: {tmp_path}/tree/socket",
    ]
    assert web.shell(f"ls {inside}/tree") == "file\n"
    said = copy(web, "web:/dev/null", tmp_path / "null", code=1)
    assert said == "wsh cp: /dev/null: is neither file, directory nor symbolic link, and is left out\n"
    web.shell(f"mkfifo {inside}/tree/pipe")
    assert f"{inside}/tree/pipe: is neither" in copy(web, f"web:{inside}/tree", tmp_path / "out", code=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


def test_what_cannot_be_read_is_named_and_the_rest_is_copied(web: Instance, inside: str, tmp_path: Path) -> None:
    web.shell(f"cd {inside} && mkdir tree && touch tree/a tree/c && echo x >tree/b && chmod 0 tree/b")
    assert copy(web, f"web:{inside}/tree", tmp_path / "out", code=1) == (
        f"wsh cp: {inside}/tree/b: cannot be read: Permission denied\n"
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "c"]
    said = copy(web, "web:/no/such", tmp_path / "none", code=1)
    assert said == "wsh cp: /no/such: cannot be read: No such file or directory\n"
    assert not (tmp_path / "none").exists()
    assert "missing: cannot be read: No such file" in copy(web, tmp_path / "missing", f"web:{inside}", code=1)


def test_what_cannot_be_written_is_named(web: Instance, inside: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert copy(web, tmp_path / "file", "web:/usr/bin", code=1) == (
        "wsh cp: /usr/bin/file: cannot be made here: Read-only file system\n"
    )
    assert "no/where: cannot be copied to: No such file" in copy(web, tmp_path / "file", "web:/no/where", code=1)
    assert "no/where: cannot be copied to: No such file" in copy(web, "web:/etc/passwd", "/no/where", code=1)
    web.shell(f"mkdir {inside}/file")
    said = copy(web, tmp_path / "file", f"web:{inside}", code=1)
    assert said == f"wsh cp: {inside}/file: cannot be put in place: Is a directory\n"
    assert web.shell(f"ls -A {inside}") == "file\n"  # nothing unfinished is left


def test_a_disk_that_is_full(web: Instance, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(200 * MIB))
    said = copy(web, tmp_path / "large", "web:/dev/shm", code=1)  # 64 MiB, the engine's default
    assert said == "wsh cp: /dev/shm/large: cannot be written: No space left on device\n"
    assert web.shell("ls -A /dev/shm") == ""


def test_a_bad_command_line(web: Instance, tmp_path: Path) -> None:
    for arguments in (("a", "b"), ("web:/a", "web:/b"), ("web:", "b"), ("a", "web:"), ("", "web:/x")):
        done = web.directory.run("cp", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (125, 1), done
    assert "no such instance" in copy(web, "none:/a", tmp_path, code=125)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_copy_leaves_nothing_unfinished(
    web: Instance, inside: str, tmp_path: Path, number: signal.Signals
) -> None:
    web.shell(f"mkfifo {inside}/slow; head -c 1000000 /dev/zero >{inside}/file")
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").touch()
    os.truncate(source / "file", 40 << 30)  # it takes long, and no space
    wsh = web.directory.start("cp", source, f"web:{inside}/copy", stderr=subprocess.DEVNULL, start_new_session=True)
    eventually(lambda: ".wsh-copy." in web.shell(f"ls -A {inside}/copy 2>/dev/null"), what="the unfinished file")
    os.killpg(wsh.pid, number)  # as a terminal and timeout(1) do
    assert wsh.wait(10) in (128 + number, 1)
    eventually(lambda: web.shell(f"ls -A {inside}/copy") == "", 5, what="the clean-up inside")
    out = tmp_path / "out"
    web.shell(f"truncate -s 40G {inside}/file")
    wsh = web.directory.start("cp", f"web:{inside}/file", out, stderr=subprocess.DEVNULL, start_new_session=True)
    eventually(lambda: [path.name for path in tmp_path.iterdir() if path.name.startswith(".wsh-copy.")])
    os.killpg(wsh.pid, number)
    assert wsh.wait(10) != 0
    eventually(lambda: [path.name for path in tmp_path.iterdir()] == ["source"], 5)


def test_the_side_inside_has_the_instances_rights_only(web: Instance, tmp_path: Path) -> None:
    assert "cannot be read: Permission denied" in copy(web, "web:/etc/shadow", tmp_path, code=1)
    (tmp_path / "file").write_text("x")
    assert "cannot be made here: Read-only" in copy(web, tmp_path / "file", "web:/.bailey", code=1)


# What a hostile container's wsh-copy may answer with: see src/wsh/copy/stream.h.
HOSTILE = """
import os, struct, sys
def entry(kind, name=b"", mode=0o755, target=b"", uid=0):
    head = struct.pack("<cBHIIIqII", kind, 0, len(name), mode, uid, 0, 0, 0, len(target))
    sys.stdout.buffer.write(head + name + target)
def file(name, text=b"evil", mode=0o6755):
    entry(b"F", name, mode)
    sys.stdout.buffer.write(struct.pack("<I", len(text)) + text + bytes(4))
sys.stdout.buffer.write(b"BLYCOPY1")
"""
TREE = "entry(b'D'); {}; entry(b'U'); entry(b'E')"


@pytest.fixture
def stand_in(web: Instance, tmp_path: Path) -> Iterator[Instance]:
    """The instance with another wsh-copy: the programs' directory is the host's, so that it can be changed."""
    program = web.box.programs / "wsh-copy"
    kept = tmp_path / "wsh-copy"
    shutil.copy2(program, kept)
    yield web
    shutil.copy2(kept, program)


def answer(web: Instance, script: str) -> None:
    program = web.box.programs / "wsh-copy"
    program.unlink()
    program.write_text(f"#!/usr/bin/python3\n{HOSTILE}\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    "script",
    [
        TREE.format("file(b'../planted')"),
        TREE.format("file(b'/tmp/planted')"),
        TREE.format("file(b'..')"),
        TREE.format("entry(b'D', b'..'); file(b'planted'); entry(b'U')"),
        TREE.format("entry(b'L', b'way', target=b'..'); entry(b'D', b'way'); file(b'planted'); entry(b'U')"),
        TREE.format("entry(b'L', b'way', target=b'../victim'); entry(b'F', b'way/x')"),
        "entry(b'F', b'../planted')",
        "entry(b'D', b'planted'); entry(b'U'); entry(b'E')",
        "entry(b'L', target=b'..'); file(b'planted')",
        TREE.format("file(b'whole')").replace("entry(b'E')", "pass"),
        TREE.format("entry(b'U'); file(b'planted')"),
        TREE.format("entry(b'C', b'device', 0o20666)"),
        "sys.stdout.buffer.write(os.urandom(100000))",
        "sys.exit(0)",
    ],
)
def test_a_hostile_answer_makes_nothing_elsewhere(stand_in: Instance, tmp_path: Path, script: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "victim").write_text("kept")
    answer(stand_in, script)
    said = copy(stand_in, "web:/data", place / "copy", code=1)
    assert said.startswith("wsh")
    assert {path.name for path in place.iterdir()} <= {"victim", "copy"}
    assert (place / "victim").read_text() == "kept"
    assert not [path for path in place.rglob("*") if path.name == "planted" or path.name.startswith(".wsh-copy.")]


def test_a_hostile_answer_gets_no_set_id_and_no_control_of_the_terminal(stand_in: Instance, tmp_path: Path) -> None:
    answer(stand_in, TREE.format("file(b'program'); sys.stderr.write('\\x1b[2Jtext\\n')"))
    assert copy(stand_in, "web:/data", tmp_path / "copy") == "?[2Jtext\n"
    assert (tmp_path / "copy/program").stat().st_mode & 0o7777 == 0o755
    answer(stand_in, TREE.format("file(b'whole'); sys.stdout.buffer.flush(); os.kill(os.getpid(), 9)"))
    copy(stand_in, "web:/data", tmp_path / "cut", code=137)
    assert (tmp_path / "cut/whole").read_bytes() == b"evil"
