"""Connection plugin: Ansible inside a tenant's container, through the container's own first process.

On the machine that the container runs on, sessions go straight to its control socket; another machine is reached
by that machine's own connection, and `wsh` there does the same.
"""

from __future__ import annotations

import contextlib
import copy
import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import ansible.module_utils
from ansible import constants
from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.connection import ConnectionBase, ensure_connect
from ansible.plugins.loader import become_loader, connection_loader
from ansible.utils.display import Display

try:
    from ..module_utils.bailey.errors import BaileyError
    from ..module_utils.bailey.wsh.client import Completed, instance_client
    from ..module_utils.bailey.wsh.errors import CannotExecuteError
except ImportError:  # outside of a collection Ansible loads plugins as single files: join the core to what it knows
    ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))
    from ansible.module_utils.bailey.errors import BaileyError
    from ansible.module_utils.bailey.wsh.client import Completed, instance_client
    from ansible.module_utils.bailey.wsh.errors import CannotExecuteError

DOCUMENTATION = r"""
name: wsh
short_description: Run tasks in a tenant's container through wsh
version_added: "0.1.0"
author: Bailey's founders (@bailey)
description:
  - Runs modules and V(raw) in a container as the instance's ordinary user, behind all of its limits. It asks no
    engine, and the container needs no ssh server; it needs C(sh), C(cat) for files, and Python for modules.
  - A container of the controller itself is reached by its control socket, as root. One of another machine is reached
    over that machine's own connection, ssh as a rule, and C(wsh) there.
  - What a task has started dies with its connection.
  - Nothing inside can gain privileges, so that become does not depend on its method. C(become_user) of the
    instance's own user, V(app), changes nothing; any other user, root where none is named, is given by the
    container runtime's own exec (C(wsh -u USER)), without any capability. That is the operator's exception,
    slower, and goes on if its connection breaks. Files are always put and fetched as the instance's user.
  - Temporary files lie below the user's home, which is C(/tmp), a file system in memory that is counted in the
    instance's memory. With pipelining, which the platform's C(ansible.cfg) turns on, most modules need none; those
    of another user always go that way.
extends_documentation_fragment:
  - connection_pipelining
options:
  instance:
    description: The instance, by its name on its host. The name of the inventory's host where not given.
    type: str
    vars:
      - name: wsh_instance
  host:
    description:
      - The machine that it runs on, as the inventory names it; its variables tell how it is reached.
      - The controller itself where not given.
    type: str
    vars:
      - name: wsh_host
  host_connection:
    description:
      - Connection by which that machine is reached; the one that its own variables name where not given, else V(ssh).
      - V(local) says that it is the controller.
    type: str
    vars:
      - name: wsh_host_connection
  host_become:
    description:
      - Whether to become root on that machine, which C(wsh) needs. What its C(ansible_become) says where not given.
      - How is told by its own variables for become; a password may be asked for by C(--ask-become-pass).
    type: bool
    vars:
      - name: wsh_host_become
  run_dir:
    description: Directory of the agent's sockets on that machine.
    type: str
    default: /run/bailey
    vars:
      - name: wsh_run_dir
  executable:
    description: The program C(wsh) on that machine.
    type: str
    default: /usr/bin/wsh
    vars:
      - name: wsh_executable
"""

INSTANCE_USER = "app"  # the name that every instance's own user has inside
_OUTPUT_LIMIT = 1 << 30  # bytes; a task's whole output is held in memory by Ansible anyway
_RC_SELF = 125
_RC_NOT_FOUND = 127
_RC_SIGNAL = 128
_BECAME = re.compile(rb"\A\s*BECOME-SUCCESS-\w+\r?\n")

display = Display()

Outcome = tuple[int, bytes, bytes]


class Connection(ConnectionBase):
    """A container, as Ansible's executor sees it."""

    transport = "wsh"
    has_pipelining = True
    has_tty = False
    default_user = INSTANCE_USER

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._machine: Mapping[str, Any] = {}
        self._task_keys: dict[str, Any] = {}
        self._host: _Machine | None = None

    def _resolve_option_variables(self, variables: Mapping[str, Any], templar: Any) -> dict[str, Any]:
        """Look at the machine's own variables too: they tell how it is reached."""
        options: dict[str, Any] = super()._resolve_option_variables(variables, templar)
        name = options.get("wsh_host")
        hosts = variables.get("hostvars") or {}
        if name and name not in hosts:
            raise AnsibleError(f"wsh_host: {name!r} is not a host of the inventory")
        self._machine = hosts[name] if name else {}
        return options

    def set_options(
        self,
        task_keys: dict[str, Any] | None = None,
        var_options: dict[str, Any] | None = None,
        direct: dict[str, Any] | None = None,
    ) -> None:
        """Keep the task's own keys: the machine's connection takes some."""
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        self._task_keys = task_keys or {}

    def set_become_plugin(self, plugin: Any) -> None:
        """Leave commands as they are: nothing inside can become another user, so that no method has a say."""
        if plugin is not None:
            plugin.build_become_command = lambda command, _shell: command
            plugin.require_tty = False
        super().set_become_plugin(plugin)

    def is_pipelining_enabled(self, wrap_async: bool = False) -> bool:
        """Say whether modules go in by their input: for another user always, who may read no file of the instance's."""
        foreign = self._user() != INSTANCE_USER and not wrap_async
        return foreign or super().is_pipelining_enabled(wrap_async)

    def _user(self) -> str:
        """Return the user that become asks for."""
        if self.become is None:
            return INSTANCE_USER
        return self.become.get_option("become_user") or "root"

    def _connect(self) -> Connection:
        if not self._connected:
            self._play_context.remote_user = INSTANCE_USER
            self._instance = self.get_option("instance") or self._play_context.remote_addr
            self._host = self._open_machine()
            self._client = instance_client(Path(self.get_option("run_dir")), self._instance)
            self._connected = True
        return self

    def _open_machine(self) -> _Machine | None:
        """Return the way to another machine, or to root on this one; None where the socket can be reached from here."""
        kind = self.get_option("host_connection") or self._machine.get("ansible_connection")
        kind = (kind or "ssh") if self.get_option("host") else "local"
        become = self.get_option("host_become")
        if become is None:
            become = boolean(self._machine.get("ansible_become", False))
        if kind in ("local", "ansible.builtin.local") and (not become or os.geteuid() == 0):
            return None
        name = "ssh" if kind == "smart" else kind
        return _Machine(name, self.get_option("host"), self._machine, self._play_context, self._task_keys, become)

    @ensure_connect
    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Outcome:
        """Run a line of the shell inside, with `in_data` as its input."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        display.vvv(f"WSH EXEC {to_text(cmd)}", host=self._instance)
        argv = ["/bin/sh", "-c", to_text(cmd, errors="surrogateescape")]
        user = self._user() if sudoable else INSTANCE_USER
        if self._host is None and user == INSTANCE_USER:
            return self._run(argv, stdin=to_bytes(in_data or b""))
        return self._run_wsh(argv, to_bytes(in_data or b""), user)

    def _run(self, argv: Sequence[str], **options: Any) -> Outcome:
        try:
            done: Completed = self._client.run(argv, output_limit=_OUTPUT_LIMIT, **options)
        except CannotExecuteError as error:
            return _RC_NOT_FOUND, b"", f"wsh: {error}\n".encode()
        except BaileyError as error:
            raise AnsibleConnectionFailure(str(error)) from error
        if done.truncated:
            raise AnsibleError(f"{self._instance}: the output is larger than {_OUTPUT_LIMIT} bytes")
        told = b"wsh: killed because the instance's memory is used up\n" if done.oom else b""
        rc = done.code if done.code is not None else _RC_SIGNAL + (done.signal or 9)
        return rc, done.stdout, done.stderr + told

    def _run_wsh(self, argv: Sequence[str], in_data: bytes, user: str) -> Outcome:
        """Run it by the program wsh: on another machine, or as a user that only the runtime's own exec gives."""
        options = ["--no-tty", "--run-dir", self.get_option("run_dir")]
        options += ["--kill-on-disconnect"] if user == INSTANCE_USER else ["--user", user]
        command = [self.get_option("executable"), self._instance, *options, "--", *argv]
        try:
            rc, stdout, stderr = self._host.run(command, in_data) if self._host else _run_here(command, in_data)
        except OSError as error:
            raise AnsibleConnectionFailure(f"{command[0]}: {error.strerror}") from error
        if rc == _RC_SELF and stderr.lstrip().startswith(b"wsh: "):
            raise AnsibleConnectionFailure(to_text(stderr).strip())
        return rc, stdout, stderr

    @ensure_connect
    def put_file(self, in_path: str, out_path: str) -> None:
        """Write a file of the controller to a path inside."""
        super().put_file(in_path, out_path)
        display.vvv(f"WSH PUT {in_path} TO {out_path}", host=self._instance)
        argv = ["/bin/sh", "-c", 'exec cat >"$1"', "sh", to_text(out_path)]
        try:
            with Path(in_path).open("rb") as file:
                outcome = self._run(argv, stdin=file) if self._host is None else self._copy_in(argv, file)
        except FileNotFoundError:
            raise AnsibleFileNotFound(f"there is no file {in_path}") from None
        _check(outcome, f"{in_path} cannot be written to {out_path}")

    def _copy_in(self, argv: Sequence[str], file: BinaryIO) -> Outcome:
        return self._run_wsh(argv, file.read(), INSTANCE_USER)

    @ensure_connect
    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Read a path inside into a file of the controller."""
        super().fetch_file(in_path, out_path)
        display.vvv(f"WSH FETCH {in_path} TO {out_path}", host=self._instance)
        argv = ["/bin/sh", "-c", 'exec cat <"$1"', "sh", to_text(in_path)]
        target = Path(out_path)
        try:
            with target.open("wb") as file:
                if self._host is None:
                    outcome = self._run(argv, stdout=file.write)
                else:
                    outcome = self._run_wsh(argv, b"", INSTANCE_USER)
                    file.write(outcome[1])
            _check(outcome, f"{in_path} cannot be read")
        except BaseException:
            with contextlib.suppress(OSError):
                target.unlink()  # a part of a file is worse than none
            raise

    def reset(self) -> None:
        """Forget the connection; there is none between two commands."""
        self.close()

    def close(self) -> None:
        """Let the machine's connection go."""
        if self._host is not None:
            self._host.close()
        self._connected = False


class _Machine:
    """The machine that a container runs on, reached by the connection and the become method of its own variables."""

    def __init__(
        self,
        kind: str,
        name: str,
        variables: Mapping[str, Any],
        play_context: Any,
        task_keys: dict[str, Any],
        become: bool,
    ) -> None:
        context = copy.copy(play_context)
        context.remote_addr = variables.get("ansible_host", name)
        context.remote_user = variables.get("ansible_user", task_keys.get("remote_user"))
        self._connection = connection_loader.get(kind, context, new_stdin=None)
        if self._connection is None:
            raise AnsibleError(f"wsh_host_connection: there is no connection plugin {kind!r}")
        self._set_options(self._connection, "connection", variables, task_keys)
        if self._connection.has_option("use_tty"):  # a terminal mixes errors into the output, and changes its line ends
            self._connection.set_option("use_tty", value=False)
        self._become = self._open_become(variables, play_context, task_keys) if become else None
        self._connection.set_become_plugin(self._become)

    def _open_become(self, variables: Mapping[str, Any], play_context: Any, task_keys: dict[str, Any]) -> Any:
        method = variables.get("ansible_become_method", "sudo")
        plugin = become_loader.get(method)
        if plugin is None:
            raise AnsibleError(f"ansible_become_method: there is no become plugin {method!r}")
        keys = {key: value for key, value in task_keys.items() if not key.startswith("become")}
        if play_context.become_pass:
            keys["become_pass"] = play_context.become_pass
        self._set_options(plugin, "become", variables, keys)
        return plugin

    @staticmethod
    def _set_options(plugin: Any, kind: str, variables: Mapping[str, Any], keys: dict[str, Any]) -> None:
        names = constants.config.get_plugin_vars(kind, plugin._load_name)
        options = {name: variables[name] for name in names if name in variables}
        plugin.set_options(task_keys=keys, var_options=options)

    def run(self, argv: Sequence[str], in_data: bytes) -> Outcome:
        """Run a program there, as root where that was asked for."""
        line = shlex.join(argv)
        if self._become is not None:
            line = self._become.build_become_command(line, self._connection._shell)
        rc, stdout, stderr = self._connection.exec_command(line, in_data=in_data, sudoable=self._become is not None)
        return rc, _BECAME.sub(b"", stdout), stderr

    def close(self) -> None:
        """Close its connection."""
        self._connection.close()


def _run_here(argv: Sequence[str], in_data: bytes) -> Outcome:
    done = subprocess.run(argv, input=in_data, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


def _check(outcome: Outcome, what: str) -> None:
    rc, _, stderr = outcome
    if rc != 0:
        raise AnsibleError(f"{what}: {to_text(stderr).strip() or f'exit code {rc}'}")
