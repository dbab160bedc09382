"""The gate of a real agent: nothing runs before it opens, whatever fails, dies or lies on the way.

Needs root, btrfs, dockerd and musl-gcc.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from bailey.agent.faults import GATE_POINTS, REFUSAL_POINTS
from bailey.agent.gate import KNOCK_SECONDS
from bailey.agent_client import GateError
from bailey.wsh.protocol import Boot, Go, encode

from tests.ground.rootfs import BASE
from tests.integration.fixtures.platform import DATA, Platform, tenant, wait_for

pytest_plugins = ["tests.integration.fixtures.on_platform"]

MARK = f"{DATA}/ran"
PROGRAM = ["sh", "-c", f"echo started; touch {MARK}; exec sleep infinity"]


def ran(platform: Platform, name: str = "one") -> bool:
    """Tell whether the tenant's program has run since the mark was taken away."""
    return (platform.volume(name) / "ran").exists()


def unmark(platform: Platform, name: str = "one") -> None:
    (platform.volume(name) / "ran").unlink(missing_ok=True)


def break_memory_limit(platform: Platform, name: str = "one", size: str = "48m") -> None:
    """Give a stopped container another limit than it was declared with, as a faulty runtime would."""
    platform.engine.docker("update", "--memory", size, "--memory-swap", size, name)


@pytest.fixture
def one(clean: Platform) -> Platform:
    """A platform with one tenant, whose program marks that it has run."""
    clean.converge(tenant("one", command=PROGRAM))
    assert clean.agent.is_open("one")
    wait_for(lambda: ran(clean), "the program")
    return clean


class TestALimitThatDoesNotHold:
    def test_the_program_never_runs(self, one: Platform) -> None:
        agent = one.agent
        agent.stop()
        agent.start("--restart-limit", "3")
        one.engine.docker("stop", "one")
        unmark(one)
        before = one.engine.docker("logs", "one").count("started")
        break_memory_limit(one)
        one.engine.docker("start", "one")
        agent.until(lambda: agent.state("one").status == "failed", "the end of all attempts")
        state = agent.state("one")
        assert "mem_limit is 48M, not 96M" in state.reason
        assert (state.opened_at, state.pid, state.gate_ms) == (None, None, None)
        assert not one.inspect("one")["State"]["Running"]
        assert not ran(one)
        assert one.engine.docker("logs", "one").count("started") == before
        assert not list(agent.files.crash_directory("one").glob("*"))  # it has not even begun

    def test_wshd_says_why_and_the_module_too(self, one: Platform) -> None:
        one.engine.docker("stop", "one")
        break_memory_limit(one)
        unmark(one)
        container = one.inspect("one")["Id"]
        with one.agent.client.hold("one") as held:
            held.expect()
            one.open().backend.start(container)
            with pytest.raises(GateError, match="mem_limit is 48M, not 96M"):
                held.await_gate(container, 10)
            wait_for(lambda: not one.inspect("one")["State"]["Running"], "its end")
            said = one.open().backend.log_tail(container, 1)
            assert said == [f"wshd: the gate stays closed: {one.agent.state('one').reason}"]
            time.sleep(0.5)
            assert not one.inspect("one")["State"]["Running"]  # for as long as it is held
        assert not ran(one)

    def test_declaring_it_again_repairs_it(self, one: Platform) -> None:
        one.engine.docker("stop", "one")
        break_memory_limit(one)
        one.engine.docker("start", "one")
        one.agent.until(lambda: one.agent.state("one").status == "refused", "the refusal")
        one.converge(tenant("one", command=PROGRAM))
        assert one.agent.is_open("one")
        assert one.broken("one") == {}

    def test_the_disk_limit_is_put_in_force_by_the_gate(self, one: Platform) -> None:
        one.engine.docker("stop", "one")
        one.open().quota.set_limit("one", 8 << 20)
        one.engine.docker("start", "one")
        one.agent.until(lambda: one.agent.is_open("one"), "the gate")
        volume = one.open().quota.volume("one")
        assert volume is not None
        assert volume.limit == 32 << 20

    def test_what_is_declared_stopped_is_not_let_in(self, clean: Platform) -> None:
        clean.converge(tenant("one", command=PROGRAM, state="stopped"))
        clean.engine.docker("start", "one")
        clean.agent.until(lambda: not clean.inspect("one")["State"]["Running"], "its end")
        assert not ran(clean)
        clean.agent.until(lambda: clean.agent.state("one").reason == "it is declared stopped", "the reason")

    def test_no_engine_is_asked_on_the_way(self, one: Platform) -> None:
        one.agent.kill()
        one.engine.docker("restart", "one")
        unmark(one)
        pid = one.engine.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            one.agent.start()
            one.agent.until(lambda: one.agent.is_open("one"), "the gate")
            wait_for(lambda: ran(one), "the program")
        finally:
            os.kill(pid, signal.SIGCONT)


class TestImpostors:
    def test_nothing_of_the_gate_is_left_inside(self, one: Platform) -> None:
        listed = one.run("one", "sh", "-c", "ls -A /.bailey/boot; ls /.bailey; find / -name '*.sock' 2>/dev/null")
        assert listed.out.split() == ["boot", "wsh-copy", "wshd"]
        assert not one.files.boot_socket("one").exists()
        assert one.files.control_socket("one").stat().st_mode & 0o777 == 0o600
        assert one.files.control_socket("one").parent.stat().st_mode & 0o777 == 0o700

    def test_another_process_of_the_container_gets_nothing(self, one: Platform) -> None:
        """Beside a wshd that still waits, it has the same uid, the same groups and the same socket."""
        agent = one.agent
        agent.kill()
        one.engine.docker("restart", "one")
        knock = (
            "import array, socket, time\n"
            "end = time.monotonic() + 20\n"
            "while True:\n"
            "    s = socket.socket(socket.AF_UNIX)\n"
            "    try:\n"
            "        s.connect('/.bailey/boot/gate'); break\n"
            "    except OSError:\n"
            "        assert time.monotonic() < end\n"
            f"s.sendall({encode(Boot())!r})\n"
            "data, control, _, _ = s.recvmsg(4096, socket.CMSG_SPACE(64))\n"
            "print(len(data), len(control))\n"
        )
        answers: list[str] = []
        impostor = threading.Thread(
            target=lambda: answers.append(one.engine.docker("exec", "one", "python3", "-c", knock))
        )
        impostor.start()
        wait_for(lambda: "python3" in one.engine.docker("top", "one"), "the impostor")
        agent.start()
        agent.until(lambda: agent.is_open("one"), "the gate")
        impostor.join()
        assert answers == ["0 0\n"]
        assert "of its container, not 1" in agent.tail()
        assert one.run("one", "true").code == 0

    def test_another_container_with_the_same_socket_is_ended(self, one: Platform) -> None:
        """Only the host's root can mount it there; what comes in so is held to the declaration all the same."""
        one.engine.docker("stop", "one")
        state = one.inspect("one")
        mounts = [*("--volume", f"{one.files.wsh_dir}:/.bailey:ro")]
        mounts += ["--volume", f"{one.files.boot_directory('one')}:/.bailey/boot:ro"]
        one.engine.docker(
            "run", "--detach", "--name", "other", "--network=none", f"--user={state['Config']['User']}", *mounts,
            "--entrypoint=/.bailey/wshd", BASE.image, "--", "sleep", "infinity",
        )  # fmt: skip
        one.agent.until(lambda: not one.inspect("other")["State"]["Running"], "its end")
        assert "the gate stays closed: the kernel does not hold" in one.open().backend.log_tail("other", 1)[0]
        assert not one.agent.is_open("one")

    @pytest.mark.parametrize("sent", [b"", b"\0" * 4, b"GET / HTTP/1.1\r\n\r\n", encode(Go()), encode(Boot()) * 3])
    def test_a_stranger_costs_its_own_connection_alone(self, one: Platform, sent: bytes) -> None:
        one.engine.docker("stop", "one")
        one.agent.until(lambda: one.files.boot_socket("one").exists(), "the boot socket")
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(KNOCK_SECONDS + 5)
            stranger.connect(str(one.files.boot_socket("one")))
            stranger.sendall(sent)
            one.engine.docker("start", "one")
            one.agent.until(lambda: one.agent.is_open("one"), "the gate", seconds=KNOCK_SECONDS - 1)
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(100) == b""

    def test_many_silent_strangers_do_not_keep_it_closed(self, one: Platform) -> None:
        one.engine.docker("stop", "one")
        one.agent.until(lambda: one.files.boot_socket("one").exists(), "the boot socket")
        strangers = [socket.socket(socket.AF_UNIX) for _ in range(200)]
        try:
            for stranger in strangers:
                stranger.setblocking(False)
                stranger.connect_ex(str(one.files.boot_socket("one")))
            one.engine.docker("start", "one")
            one.agent.until(lambda: one.agent.is_open("one"), "the gate", seconds=3 * KNOCK_SECONDS)
        finally:
            for stranger in strangers:
                stranger.close()

    def test_only_root_reaches_the_agent(self, one: Platform) -> None:
        path = one.files.run_dir / "agent.sock"
        assert path.stat().st_mode & 0o777 == 0o600
        for directory in ("ctl", "state", "exec"):
            assert (one.files.run_dir / directory).stat().st_mode & 0o777 == 0o700
        assert (one.files.run_dir / "state/one.json").stat().st_mode & 0o777 == 0o600
        assert one.files.exec_file("one").stat().st_mode & 0o777 == 0o600
        words = one.files.exec_file("one").read_text().split("\0")
        assert words == ["docker", "--host", one.engine.docker_host]


class TestKilled:
    @pytest.mark.parametrize("point", GATE_POINTS)
    def test_at_any_point_of_the_gate(self, one: Platform, point: str) -> None:
        agent = one.agent
        agent.kill()
        agent.start(fault=point)
        unmark(one)
        one.engine.docker("restart", "one")
        agent.await_fault()
        passed = GATE_POINTS.index(point) >= GATE_POINTS.index("opened")
        if GATE_POINTS.index(point) < GATE_POINTS.index("sent"):
            time.sleep(0.3)
            assert not ran(one)
        pid = one.inspect("one")["State"]["Pid"]
        agent.start()
        agent.until(lambda: agent.is_open("one"), "the gate")
        assert agent.state("one").pid == pid
        assert agent.state("one").container == one.inspect("one")["Id"]
        wait_for(lambda: ran(one), "the program")
        assert not one.files.boot_socket("one").exists()
        assert one.run("one", "true").code == 0
        if not passed:
            assert agent.state("one").restarts == 0
        assert one.broken("one") == {}

    @pytest.mark.parametrize("point", REFUSAL_POINTS)
    def test_at_any_point_of_a_refusal(self, one: Platform, point: str) -> None:
        agent = one.agent
        one.engine.docker("stop", "one")
        unmark(one)
        break_memory_limit(one)
        agent.kill()
        agent.start(fault=point)
        one.engine.docker("start", "one")
        agent.await_fault()
        agent.start("--restart-limit", "3")
        agent.until(lambda: agent.state("one").status == "failed", "the end of all attempts")
        assert "mem_limit is 48M" in agent.state("one").reason
        assert not ran(one)

    def test_while_nothing_happens_nobody_notices(self, one: Platform) -> None:
        done: list[object] = []
        session = threading.Thread(target=lambda: done.append(one.run("one", "sh", "-c", "sleep 2; echo whole").out))
        session.start()
        before = one.agent.state("one")
        one.agent.kill()
        one.agent.start()
        one.agent.stop()
        assert one.run("one", "true").code == 0
        one.agent.start()
        session.join()
        assert done == ["whole\n"]
        assert one.agent.state("one") == before

    def test_whether_or_not_its_socket_is_full(self, one: Platform) -> None:
        """A wshd that is frozen is past its gate as well; a connection is no proof of life, a listener is."""
        agent, before = one.agent, one.agent.state("one")
        one.engine.docker("pause", "one")
        waiting = []
        try:
            while True:
                client = socket.socket(socket.AF_UNIX)
                client.setblocking(False)
                if client.connect_ex(str(one.files.control_socket("one"))):
                    client.close()
                    break
                waiting.append(client)
            agent.kill()
            agent.start()
            assert agent.state("one") == before
        finally:
            one.engine.docker("unpause", "one")
            for client in waiting:
                client.close()
        assert not one.files.boot_socket("one").exists()

    def test_its_remains_are_no_hindrance(self, one: Platform) -> None:
        """A boot socket without an agent, half-made ones, and files that nobody can read."""
        agent = one.agent
        boot = one.files.boot_directory("one")
        one.engine.docker("stop", "one")
        agent.until((boot / "gate").is_socket, "the boot socket for the next start")
        agent.kill()
        (boot / ".gate").touch()
        Path(agent.files.run_dir, ".agent.sock").touch()
        Path(agent.files.run_dir, "state/one.json").write_text("{")
        agent.start()
        one.engine.docker("start", "one")
        agent.until(lambda: agent.is_open("one"), "the gate")
