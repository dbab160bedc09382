"""wsh and the first process of a container whose ids are others on the host.

The kernel's namespaces alone are asked for; no engine is needed. Needs root and musl-gcc.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bailey.agent.sockets import bind_boot, credentials, listener_of
from bailey.host.idmap import IdMap, read_id_map
from bailey.host.proc import read_process
from bailey.host.subids import SIZE
from bailey.wsh.client import Client
from bailey.wsh.inside import paths_that_exist
from bailey.wsh.protocol import Boot, Go, Open, encode

from tests.ground.programs import Programs
from tests.integration.fixtures import ids_init
from tests.integration.fixtures.wsh import RunDirectory, state
from tests.integration.fixtures.wshd import Raw

pytest_plugins = ("tests.integration.fixtures.wshd", "tests.integration.fixtures.wsh")

IDS = IdMap(0x70000000 + 200 * SIZE, SIZE)
UID = 200_007
NAME = "web"


@dataclass
class Remapped:
    """One instance `web`, past its gate."""

    run: RunDirectory
    pid: int  # of wshd, on the host

    def wsh(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self.run.run(*arguments)

    def inside(self, script: str) -> str:
        done = self.wsh(NAME, "--", "sh", "-c", script)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


def only_child(pid: int) -> int:
    """Return a process's child, once it has one."""
    path, deadline = Path(f"/proc/{pid}/task/{pid}/children"), time.monotonic() + 10
    while not (children := path.read_text().split()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(children[0])


@pytest.fixture(scope="module")
def web(programs: Programs) -> Iterator[Remapped]:
    """wshd as the first process of a user namespace, let through the gate that the agent makes for it."""
    base = Path(tempfile.mkdtemp(prefix="bailey-ids-"))
    base.chmod(0o711)  # the container's root is nobody here
    root, boot = base / "root", base / "boot"
    root.mkdir()
    boot.mkdir()
    run = RunDirectory.make(base / "run", programs.wsh)
    control = run.path / f"ctl/{NAME}.sock"
    ready, go = os.pipe(), os.pipe()
    words = [root, programs.mounted, boot, UID, ready[1], go[0], "sleep", "infinity"]
    with bind_boot(boot / "gate", IDS.to_host(UID)) as gate:
        gate.setblocking(True)
        gate.settimeout(20)
        launcher = subprocess.Popen(
            [sys.executable, ids_init.__file__, *map(str, words)], pass_fds=(ready[1], go[0]), start_new_session=True
        )
        try:
            os.read(ready[0], 1)
            for kind in ("uid_map", "gid_map"):
                Path(f"/proc/{launcher.pid}/{kind}").write_text(f"0 {IDS.base} {IDS.size}\n")
            os.write(go[1], b"!")
            connection, _ = gate.accept()
            with Raw(connection) as raw, socket.socket(socket.AF_UNIX) as listener:
                assert raw.frame() == Boot()
                assert credentials(raw.socket).uid == IDS.to_host(UID)
                listener.bind(str(control))
                socket.send_fds(raw.socket, [encode(Go())], [listener.fileno()])
                assert raw.frame() == Open()
            pid = only_child(launcher.pid)
            run.write_state(state(NAME, pid=pid))
            yield Remapped(run, pid)
        finally:
            os.killpg(launcher.pid, signal.SIGKILL)
            launcher.wait()
            for descriptor in (*ready, *go):
                os.close(descriptor)
            shutil.rmtree(base)


def test_the_kernel_tells_whom_it_runs_as_on_both_sides(web: Remapped) -> None:
    process = read_process(web.pid)
    assert process is not None
    assert (process.uid, process.namespace_pid) == (IDS.to_host(UID), 1)
    assert read_id_map(web.pid) == IDS
    assert listener_of(web.run.path / f"ctl/{NAME}.sock") == web.pid
    assert (
        web.inside("id -u; id -g; awk '{print $1, $2, $3}' /proc/self/uid_map")
        == f"{UID}\n{UID}\n0 {IDS.base} {SIZE}\n"
    )


def test_its_own_user_is_named_as_inside_and_needs_no_detour(web: Remapped) -> None:
    for user in (f"{UID}", f"{UID}:{UID}"):
        done = web.wsh("-u", user, NAME, "--", "id", "-u")
        assert (done.stdout, done.stderr) == (f"{UID}\n", "")
    for user in (f"{IDS.to_host(UID)}", f"{UID}:0", "0"):
        done = web.wsh("-u", user, NAME, "--", "id", "-u")
        assert f"{user} is not its own user" in done.stderr


def test_what_is_copied_out_is_the_same_users_outside(web: Remapped, tmp_path: Path) -> None:
    web.inside("mkdir -p /tmp/tree/sub && echo text >/tmp/tree/sub/file && ln -s file /tmp/tree/sub/link")
    done = web.wsh("cp", f"{NAME}:/tmp/tree", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("tree", "tree/sub", "tree/sub/file", "tree/sub/link"):
        status = (tmp_path / name).lstat()
        assert (status.st_uid, status.st_gid) == (IDS.to_host(UID), IDS.to_host(UID)), name
    assert (tmp_path / "tree/sub/file").read_text() == "text\n"


def test_what_the_host_owns_inside_comes_out_as_nobodys(web: Remapped, tmp_path: Path) -> None:
    """An id that has no number inside is shown there as the overflow uid, and so it is named."""
    done = web.wsh("cp", f"{NAME}:/etc/hostname", tmp_path / "hostname")
    assert done.returncode == 0
    assert (tmp_path / "hostname").stat().st_uid == IDS.to_host(65_534)


def test_what_is_copied_in_is_its_own(web: Remapped, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    done = web.wsh("cp", tmp_path / "file", f"{NAME}:/tmp/copied")
    assert (done.returncode, done.stderr) == (0, "")
    assert web.inside("stat -c '%u %g' /tmp/copied") == f"{UID} {UID}\n"


def test_the_clients_in_python_need_no_number(web: Remapped) -> None:
    client = Client(web.run.path / f"ctl/{NAME}.sock")
    assert client.run(["id", "-u"], timeout=10).stdout == f"{UID}\n".encode()
    assert paths_that_exist(client, ["/usr/bin/id", "/nowhere"]) == {"/usr/bin/id"}
