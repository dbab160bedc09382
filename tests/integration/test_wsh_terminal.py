"""wsh on a terminal: what a person sees, and how the terminal is left.

Needs root and dockerd.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.integration.fixtures.wsh import Instance, Terminal
from tests.integration.fixtures.wshd import eventually

pytest_plugins = ("tests.integration.fixtures.wshd", "tests.integration.fixtures.wsh")

PROMPT = "$ "


def shell(instance: Instance, *options: str) -> Terminal:
    """Return a shell at its prompt."""
    terminal = instance.terminal(*options)
    terminal.await_text(PROMPT)
    terminal.await_raw()
    return terminal


def process_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_shell_with_its_prompt(terminals: Instance) -> None:
    terminal = shell(terminals)
    terminal.forget()
    terminal.type("tty; echo $TERM; echo $((6 * 7))\r")
    terminal.await_text("42")
    seen = terminal.seen.decode()
    assert "/dev/pts/" in seen
    assert "vt220" in seen
    terminal.type("exit 3\r")
    assert terminal.wait() == 3
    assert terminal.settings == terminal.before


def test_the_size_is_there_before_the_first_program(terminals: Instance) -> None:
    terminal = terminals.terminal("-t", "--", "stty", "size", rows=33, columns=111)
    assert terminal.wait() == 0
    assert terminal.seen == b"33 111\r\n"


def test_a_new_size_arrives(terminals: Instance) -> None:
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"
    terminal = terminals.terminal("-t", "--", "sh", "-c", script)
    terminal.await_text("ready")
    for rows, columns in ((50, 90), (20, 200)):
        terminal.resize(rows, columns)
        terminal.await_text(f"{rows} {columns}")


def test_keys_reach_the_command(terminals: Instance) -> None:
    terminal = shell(terminals)
    terminal.type("sleep 1000\r")
    eventually(lambda: "sleep 1000" in terminals.box.processes(), what="the command")
    terminal.type("\x03")
    eventually(lambda: "sleep 1000" not in terminals.box.processes(), what="Ctrl-C")
    terminal.type("echo $?\r")
    terminal.await_text("130")
    terminal.type("sleep 1001\r")
    eventually(lambda: "sleep 1001" in terminals.box.processes(), what="the command")
    terminal.type("\x1a")  # Ctrl-Z is the shell's inside, not ours
    terminal.await_text("Stopped")
    assert process_state(terminal.process.pid) == "S"
    terminal.type("fg\r")
    time.sleep(0.2)
    terminal.type("\x03")
    eventually(lambda: "sleep 1001" not in terminals.box.processes(), what="Ctrl-C")
    terminal.type("exit 0\r")
    assert terminal.wait() == 0
    assert terminal.settings == terminal.before


def test_the_key_for_the_end_ends_the_shell(terminals: Instance) -> None:
    terminal = shell(terminals)
    terminal.type("\x04")
    assert terminal.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGSEGV])
def test_a_signal_leaves_the_terminal_as_it_was(terminals: Instance, number: signal.Signals) -> None:
    terminal = shell(terminals)
    terminal.type("sleep 2000\r")
    eventually(lambda: "sleep 2000" in terminals.box.processes(), what="the command")
    terminal.process.send_signal(number)
    assert terminal.wait() == -number
    assert terminal.settings == terminal.before
    eventually(lambda: "sleep 2000" not in terminals.box.processes(), what="the end inside")  # its terminal hung up


def test_the_end_of_the_instances_connection_leaves_the_terminal_as_it_was(terminals: Instance) -> None:
    terminal = terminals.terminal("-t", "--", "sh", "-c", "echo ready; kill -9 $$")
    assert terminal.wait() == 137
    assert terminal.settings == terminal.before
    missing = terminals.terminal("-t", "--", "/no/such")
    assert missing.wait() == 127
    assert missing.settings == missing.before
    assert re.search(rb"No such file or directory\r\n$", missing.seen)  # said after it was put back


# A job of a shell: the kernel does not stop what is a session's leader. The shell stays, whatever becomes of it.
LEADER = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
os.waitpid(job, 0)
"""


def test_being_stopped_and_continued(terminals: Instance) -> None:
    terminal = Terminal.open([sys.executable, "-c", LEADER, *terminals.directory.argv("web")])
    terminals.terminals.append(terminal)
    terminal.await_text(PROMPT)
    terminal.await_raw()
    leader = terminal.process.pid
    pid = int(Path(f"/proc/{leader}/task/{leader}/children").read_text())
    os.kill(pid, signal.SIGTSTP)
    eventually(lambda: process_state(pid) == "T", what="the stop")
    assert terminal.settings == terminal.before
    termios.tcsetwinsize(terminal.slave, (11, 22))
    os.kill(pid, signal.SIGCONT)
    terminal.await_raw()
    terminal.forget()
    terminal.type("stty size\r")
    terminal.await_text("11 22")


def test_fast_ends_lose_no_byte(terminals: Instance) -> None:
    expected = b"".join(b"line %d\r\n" % number for number in range(1, 501))
    for _ in range(100):
        terminal = terminals.terminal("-t", "--", "sh", "-c", "seq -f 'line %g' 500")
        assert terminal.wait() == 0
        assert terminal.seen == expected
        terminals.terminals.remove(terminal)
        terminal.close()


def test_no_terminal_where_none_is_wanted(terminals: Instance) -> None:
    assert terminals.terminal("--", "tty").wait() == 1  # a command gets one only by -t
    terminal = terminals.terminal("-T")
    terminal.type("tty; exit 9\n")
    assert terminal.wait() == 9
    assert b"not a tty" in terminal.seen
    assert terminal.settings == terminal.before


def test_a_terminal_inside_where_stdin_is_none(terminals: Instance) -> None:
    done = terminals.run("sh", "-c", "stty size; cat; echo over", options=("-t",), input="line\npart")
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout.replace("\r", "")
    assert "24 80\n" in text
    assert text.count("line\n") == 2  # the echo, and cat's
    assert text.endswith("partover\n")


def test_bulk_through_a_terminal(terminals: Instance) -> None:
    done = terminals.run("sh", "-c", "stty -opost; seq 200000", options=("-t",))
    assert done.stdout == "".join(f"{number}\n" for number in range(1, 200_001))


def test_a_reader_that_goes(terminals: Instance) -> None:
    with terminals.start("yes", options=("-t",), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as wsh:
        assert wsh.stdout is not None
        assert wsh.stdout.read(3) == b"y\r\n"
        wsh.stdout.close()
        assert wsh.wait(10) == 128 + signal.SIGHUP


def test_a_terminal_through_the_runtime(terminals: Instance) -> None:
    terminal = terminals.terminal("--runtime", "-t", "--", "sh", "-c", "tty; exit 4")
    assert terminal.wait() == 4
    assert b"/dev/pts/" in terminal.seen
