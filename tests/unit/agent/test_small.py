"""The agent's small parts: its command line, systemd, crash records, sockets, and the points of faults."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from bailey.agent import faults
from bailey.agent.crash import KEPT, Crash, write_crash
from bailey.agent.notify import notify, watchdog_interval
from bailey.agent.peer import StrangerError, identified
from bailey.agent.settings import Settings, parse_address, parse_command, parse_settings
from bailey.agent.sockets import UNKNOWN, bind_boot, bind_control, credentials, listener_of
from bailey.errors import InvalidValueError
from bailey.instance_state import LastExit

from tests.unit import house


class TestSettings:
    def test_defaults(self) -> None:
        assert parse_settings([]) == Settings()

    def test_all(self) -> None:
        given = parse_settings(
            [
                *("--state-dir", "/s", "--run-dir", "/r", "--wsh-dir", "/w", "--storage-path", "/v"),
                *("--docker-host", "unix:///d", "--metrics", "[::1]:9", "--engine-timeout", "7"),
                *("--restart-limit", "2", "--sweep", "0.5", "--engine-threads-max", "900"),
                *("--engine-restart-command", '["restart", "the engine"]', "--scan-config", "/etc/scan.json"),
            ]
        )
        places = (Path("/s"), Path("/r"), Path("/w"), Path("/v"))
        assert given == Settings(
            *(*places, "unix:///d", ("::1", 9), 7, 2, 0.5),
            engine_threads_max=900,
            engine_restart_command=("restart", "the engine"),
            scan_config=Path("/etc/scan.json"),
        )
        assert given.host()["storage_path"] == "/v"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", ()),
            ("[]", ()),
            ("sv restart '/a b'", ("sv", "restart", "/a b")),
            (' ["sv", "restart", "/a b"]', ("sv", "restart", "/a b")),
        ],
    )
    def test_a_command_is_words_or_a_list(self, text: str, words: tuple[str, ...]) -> None:
        assert parse_command("--engine-restart-command", text) == words

    @pytest.mark.parametrize("text", ["'", "[", '[""]', "[1]", '["a\\u0000"]', '["a", ["b"]]'])
    def test_what_is_no_command_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidValueError, match=r"--engine-restart-command: .* JSON list"):
            parse_command("--engine-restart-command", text)

    @pytest.mark.parametrize(
        "text", ["0.0.0.0:9464", "192.0.2.1:1", "localhost:9464", "127.0.0.1", ":9", "127.0.0.1:0", "127.0.0.1:x", ""]
    )
    def test_metrics_are_for_loopback_alone(self, text: str) -> None:
        with pytest.raises(InvalidValueError, match="--metrics"):
            parse_address(text)

    @pytest.mark.parametrize(
        "arguments",
        [
            *(("--sweep", "0"), ("--restart-limit", "0"), ("--engine-timeout", "x"), ("--sweep", "nan")),
            *(("--engine-threads-max", "-1"), ("--engine-threads-max", "10001"), ("--engine-restart-command", "[")),
        ],
    )
    def test_what_is_refused(self, arguments: tuple[str, str]) -> None:
        with pytest.raises(InvalidValueError, match=arguments[0]):
            parse_settings(arguments)


class TestNotify:
    @pytest.mark.parametrize("abstract", [False, True])
    def test_the_message_arrives(self, tmp_path: Path, abstract: bool) -> None:
        name = f"bailey-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind("\0" + name if abstract else name)
            assert notify("READY=1", {"NOTIFY_SOCKET": f"@{name}" if abstract else name})
            assert receiver.recv(100) == b"READY=1"

    @pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"])
    def test_nobody_there_is_no_error(self, address: str) -> None:
        assert not notify("READY=1", {"NOTIFY_SOCKET": address})

    @pytest.mark.parametrize(
        ("environment", "seconds"),
        [
            ({}, None),
            ({"WATCHDOG_USEC": "10000000"}, 5.0),
            ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, None),
            ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 5.0),
            ({"WATCHDOG_USEC": "0"}, None),
            ({"WATCHDOG_USEC": "soon"}, None),
        ],
    )
    def test_the_watchdog_is_told_twice_in_its_time(self, environment: dict[str, str], seconds: float | None) -> None:
        assert watchdog_interval(environment) == seconds


class TestCrashRecords:
    def crash(self, at: float, *lines: str) -> Crash:
        return Crash("one", "c0ffee", LastExit(None, 9, True, at), 1.5, lines)

    def test_content_and_mode(self, tmp_path: Path) -> None:
        path = write_crash(tmp_path / "crashes/one", self.crash(1.25, "last words", "x" * 10_000))
        content = json.loads(path.read_text())
        log = content.pop("log")
        assert content == {
            "version": 1, "name": "one", "container": "c0ffee", "code": None, "signal": 9, "oom": True, "at": 1.25,
            "uptime": 1.5,
        }  # fmt: skip
        assert log[0] == "last words"
        assert len(log[1]) == 4096
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700

    def test_the_newest_are_kept(self, tmp_path: Path) -> None:
        for at in range(KEPT + 5):
            write_crash(tmp_path / "one", self.crash(float(at)))
        kept = [json.loads(path.read_text())["at"] for path in sorted((tmp_path / "one").iterdir())]
        assert kept == [float(at) for at in range(5, KEPT + 5)]


class TestSockets:
    def deep(self, tmp_path: Path) -> Path:
        """A directory whose path is longer than a socket's name may be."""
        path = tmp_path / ("d" * 60) / ("e" * 60)
        path.mkdir(parents=True)
        return path

    def test_a_boot_socket_is_its_uids_alone_and_listens(self, tmp_path: Path) -> None:
        path = self.deep(tmp_path) / "gate"
        path.touch()  # of an agent that was killed
        with bind_boot(path, os.getuid()) as listener:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert [item.name for item in path.parent.iterdir()] == ["gate"]
            assert listener_of(path) == os.getpid()
            connection, _ = listener.accept()
            with connection:
                assert credentials(connection) == (os.getpid(), os.getuid(), os.getgid())
        assert listener_of(path) is None

    def test_a_control_socket_has_its_name_before_anybody_listens(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = self.deep(tmp_path) / "one.sock"
        with bind_control(path) as first:
            assert listener_of(path) is None
            first.listen(1)
            assert listener_of(path) == os.getpid()
        with bind_control(path) as second:
            assert listener_of(path) is None
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            second.listen(0)
            with socket.socket(socket.AF_UNIX) as client:
                monkeypatch.chdir(path.parent)
                client.connect("one.sock")
                found = {listener_of(path) for _ in range(5)}
            assert found <= {UNKNOWN, os.getpid()}
            assert UNKNOWN in found

    @pytest.mark.parametrize("name", ["none", "no/directory"])
    def test_nobody_listens_where_nothing_is(self, tmp_path: Path, name: str) -> None:
        assert listener_of(tmp_path / name) is None


class TestPeers:
    def test_who_is_no_pid_1_is_a_stranger(self) -> None:
        with pytest.raises(StrangerError, match="not 1"), identified(os.getpid()):
            pass

    def test_who_has_ended_is_a_stranger(self) -> None:
        child = subprocess.Popen(["true"])
        child.wait()
        with pytest.raises(StrangerError, match="has ended"), identified(child.pid):
            pass


class TestFaults:
    def die(self, armed: str, point: str) -> int:
        program = f"from bailey.agent.faults import fault; fault({point!r})"
        environment = {**os.environ, "PYTHONPATH": str(house.CORE.parent), "BAILEY_FAULT": armed}
        return subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode

    def test_one_point_kills(self) -> None:
        assert self.die("bound", "bound") == -signal.SIGKILL
        assert self.die("bound", "sent") == self.die("", "sent") == 0

    def test_every_point_is_one_of_the_gate(self) -> None:
        self.has_each("gate", (*faults.GATE_POINTS, *faults.REFUSAL_POINTS))

    def test_every_point_is_one_of_a_repair(self) -> None:
        self.has_each("guard", faults.REPAIR_POINTS)

    @staticmethod
    def has_each(module: str, points: Sequence[str]) -> None:
        text = (house.CORE / f"agent/{module}.py").read_text()
        for point in points:
            assert text.count(f'fault("{point}")') == 1
        assert text.count(" fault(") == len(points)
