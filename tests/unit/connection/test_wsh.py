"""The connection plugin as Ansible loads it, with a stand-in for wshd that runs real programs on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.playbook.play_context import PlayContext
from ansible.plugins.loader import become_loader, connection_loader, init_plugin_loader
from bailey.instance_state import InstanceState, write_state
from bailey.wsh.protocol import Ended, Exited, Started

from tests.unit.wsh.standin import Peer, serving

ROOT = Path(__file__).parents[3]
Open = Callable[..., Any]

# What stands in for the program wsh: it shows how it was called, or fails as wsh does.
PROGRAM = """#!/bin/sh
[ "$1" != broken ] || { echo "wsh: broken: the gate is closed" >&2; exit 125; }
echo "$*"
cat
"""


@pytest.fixture(scope="module", autouse=True)
def _loader() -> None:
    init_plugin_loader()
    connection_loader.add_directory(str(ROOT / "plugins/connection"))


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "ctl").mkdir()
    with serving(tmp_path / "ctl/one.sock"):
        yield tmp_path


@pytest.fixture
def open_connection(run_dir: Path) -> Open:
    """Open a connection with the variables of a host, and those of the machine that it runs on."""
    program = run_dir / "wsh"
    program.write_text(PROGRAM)
    program.chmod(0o755)

    def opened(name: str = "one", machine: Mapping[str, Any] | None = None, **variables: Any) -> Any:
        context = PlayContext()
        context.remote_addr = name
        connection = connection_loader.get("wsh", context, new_stdin=None)
        known = {
            "wsh_run_dir": str(run_dir),
            "wsh_executable": str(program),
            "ansible_pipelining": False,
            "hostvars": {"machine": machine or {}},
            **({"wsh_host": "machine"} if machine is not None else {}),
            **variables,
        }
        templar = SimpleNamespace(template=lambda value: value)
        connection.set_options(var_options=connection._resolve_option_variables(known, templar))
        return connection

    return opened


def test_a_command_gives_bytes_and_its_code(open_connection: Open) -> None:
    connection = open_connection()
    assert connection.exec_command("printf 'a\\377'; echo b >&2; exit 7") == (7, b"a\xff", b"b\n")
    assert connection.exec_command("kill -TERM $$")[0] == 143
    assert connection.default_user == "app"
    assert connection._play_context.remote_user == "app"


def test_a_module_goes_in_by_its_input(open_connection: Open) -> None:
    payload = os.urandom(3_000_000)
    assert open_connection().exec_command("cat", in_data=payload) == (0, payload, b"")
    assert open_connection().exec_command("cat") == (0, b"", b"")


def test_the_instance_may_have_another_name_than_the_host(open_connection: Open) -> None:
    assert open_connection("elsewhere", wsh_instance="one").exec_command("echo x")[1] == b"x\n"


def test_files_go_in_and_come_out_unchanged(open_connection: Open, tmp_path: Path) -> None:
    content = os.urandom(1_000_000)
    source, inside, back = tmp_path / "source", tmp_path / "it's inside", tmp_path / "back"
    source.write_bytes(content)
    connection = open_connection()
    connection.put_file(str(source), str(inside))
    connection.fetch_file(str(inside), str(back))
    assert inside.read_bytes() == back.read_bytes() == content


def test_a_file_that_cannot_be_moved_is_an_error(open_connection: Open, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_text("x")
    connection = open_connection()
    with pytest.raises(AnsibleFileNotFound, match="no file"):
        connection.put_file(str(tmp_path / "none"), "/tmp/x")
    with pytest.raises(AnsibleError, match=r"cannot be written to /none/x: .*"):
        connection.put_file(str(source), "/none/x")
    with pytest.raises(AnsibleError, match=r"/none cannot be read: .*"):
        connection.fetch_file("/none", str(back))
    assert not back.exists()


def test_a_closed_gate_makes_the_host_unreachable(open_connection: Open, run_dir: Path) -> None:
    write_state(run_dir, InstanceState("two", status="refused", reason="cpus does not hold"))
    with pytest.raises(AnsibleConnectionFailure, match="two: no session while the instance is refused: cpus"):
        open_connection("two").exec_command("true")
    with pytest.raises(AnsibleConnectionFailure, match="there is no such instance"):
        open_connection("three").exec_command("true")


def test_killed_for_memory_is_told(open_connection: Open, run_dir: Path) -> None:
    def kill(peer: Peer) -> None:
        peer.receive()
        ends = [end for _ in range(3) for end in os.pipe()]
        peer.send(Started(1), [ends[1], ends[2], ends[4]])
        for end in ends:
            os.close(end)
        peer.send(Exited(Ended.MEMORY, 9))

    with serving(run_dir / "ctl/greedy.sock", kill):
        rc, _, stderr = open_connection("greedy").exec_command("true")
    assert (rc, stderr) == (137, b"wsh: killed because the instance's memory is used up\n")


def become(user: str | None) -> Any:
    plugin = become_loader.get("sudo")
    plugin.set_options(var_options={} if user is None else {"ansible_become_user": user})
    return plugin


def test_becoming_the_instances_own_user_changes_nothing(open_connection: Open) -> None:
    connection = open_connection()
    connection.set_become_plugin(become("app"))
    assert connection.become.build_become_command("id", connection._shell) == "id"
    assert connection.exec_command("echo same")[1] == b"same\n"
    assert not connection.is_pipelining_enabled()


@pytest.mark.parametrize(("user", "named"), [(None, "root"), ("root", "root"), ("1234", "1234")])
def test_another_user_comes_from_the_runtime(
    open_connection: Open, run_dir: Path, user: str | None, named: str
) -> None:
    connection = open_connection()
    connection.set_become_plugin(become(user))
    rc, stdout, _ = connection.exec_command("id", in_data=b"input")
    options = f"--no-tty --run-dir {run_dir} --user {named}"
    assert (rc, stdout) == (0, f"one {options} -- /bin/sh -c id\ninput".encode())
    assert connection.exec_command("echo own", sudoable=False)[1] == b"own\n"
    assert connection.is_pipelining_enabled()  # though it is turned off: no file of the instance's user can be read
    assert not connection.is_pipelining_enabled(wrap_async=True)


def test_a_task_without_become_needs_no_plugin(open_connection: Open) -> None:
    connection = open_connection()
    connection.set_become_plugin(None)
    assert connection.exec_command("echo own")[1] == b"own\n"


# A machine's connection of any kind is taken; local is one that needs no second machine.
FORCED = {"ansible_connection": "ansible.legacy.local"}


def test_another_machine_is_reached_by_its_own_connection(open_connection: Open, run_dir: Path, tmp_path: Path) -> None:
    connection = open_connection(machine=FORCED)
    rc, stdout, _ = connection.exec_command("echo 'a  b'", in_data=b"input")
    options = f"--no-tty --run-dir {run_dir} --kill-on-disconnect"
    assert (rc, stdout) == (0, f"one {options} -- /bin/sh -c echo 'a  b'\ninput".encode())
    (tmp_path / "source").write_text("content")
    connection.put_file(str(tmp_path / "source"), "/data/x")
    connection.fetch_file("/data/x", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == f'one {options} -- /bin/sh -c exec cat <"$1" sh /data/x\n'


def test_what_wsh_itself_cannot_do_makes_the_host_unreachable(open_connection: Open) -> None:
    with pytest.raises(AnsibleConnectionFailure, match="wsh: broken: the gate is closed"):
        open_connection("broken", machine=FORCED).exec_command("true")


@pytest.mark.parametrize("kind", ["local", "ansible.builtin.local"])
def test_a_machine_that_is_the_controller_needs_no_way_to_it(open_connection: Open, kind: str) -> None:
    assert open_connection(machine={"ansible_connection": kind}).exec_command("echo x")[1] == b"x\n"
    assert open_connection(machine={}, wsh_host_connection=kind).exec_command("echo x")[1] == b"x\n"
    assert open_connection(machine={"ansible_connection": kind, "ansible_become": "true"}).exec_command("echo x")


def test_root_on_the_machine_is_got_by_its_own_method(open_connection: Open, tmp_path: Path) -> None:
    """A stand-in for sudo shows that it was called with the machine's variables, and that its marker is taken out."""
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\necho "called: $*" >&2\nwhile [ "$1" != /bin/sh ]; do shift; done\nexec "$@"\n')
    sudo.chmod(0o755)
    machine = {**FORCED, "ansible_become": True, "ansible_become_exe": str(sudo), "ansible_become_user": "boss"}
    rc, stdout, stderr = open_connection(machine=machine).exec_command("id")
    assert rc == 0
    assert stdout.startswith(b"one --no-tty")
    assert b"-u boss" in stderr
    rc, _, stderr = open_connection(machine=machine, wsh_host_become=False).exec_command("id")
    assert (rc, stderr) == (0, b"")


def test_a_machine_that_is_not_known_is_named(open_connection: Open) -> None:
    with pytest.raises(AnsibleError, match="wsh_host: 'nowhere' is not a host of the inventory"):
        open_connection(wsh_host="nowhere")
    with pytest.raises(AnsibleError, match="no connection plugin 'pigeon'"):
        open_connection(machine={"ansible_connection": "pigeon"}).exec_command("true")


def test_ssh_is_what_reaches_a_machine_that_says_nothing(
    open_connection: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "bin/ssh"
    ssh.parent.mkdir()
    ssh.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    machine: dict[str, Any] = {
        "inventory_hostname": "machine",
        "ansible_host": "198.51.100.9",
        "ansible_user": "deploy",
    }
    machine |= {"ansible_port": 2222, "ansible_ssh_executable": str(ssh), "ansible_control_path_dir": str(tmp_path)}
    rc, stdout, _ = open_connection(machine=machine).exec_command("echo 'a  b'")
    words = stdout.decode().splitlines()
    assert rc == 0
    assert words[-2] == "198.51.100.9"
    assert words[-1].endswith("""-- /bin/sh -c 'echo '"'"'a  b'"'"''""")
    assert "-tt" not in words
    assert {"Port=2222", 'User="deploy"'} <= set(words)
