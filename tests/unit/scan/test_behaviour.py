"""Rules on what instances do: their processors beside a pool, whom they reach out to, and from which tree they are."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bailey.access_log.packet import format_time
from bailey.scan.behaviour import Load, connections, read_reach, saturation, to_pools
from bailey.scan.findings import KILLED
from bailey.scan.processes import Process
from bailey.scan.tree import foreign

from tests.unit.scan.stage import NAME, ProcessGroup, Stage, listener

BUSY = """
    import socket, sys
    connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    print("ready", flush=True)
    while True:
        pass
"""
IDLE = BUSY.replace("while True:\n        pass", "connection.recv(1)")
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def entry(**changes: Any) -> str:
    line = {
        "time": format_time(time.time()), "tenant": "ada", "app": "web", "instance": NAME, "direction": "egress",
        "verdict": "deny", "reason": "policy", "protocol": "tcp", "source": "172.17.0.2", "source_port": 40000,
        "destination": "203.0.113.1", "destination_port": 443, "peer": None, **changes,
    }  # fmt: skip
    return json.dumps(line) + "\n"


class TestMiner:
    def test_full_processors_and_a_pools_port(self, stage: Stage) -> None:
        with listener() as pool:
            port = pool.getsockname()[1]
            process = stage.python(BUSY, port)
            stage.only(miner_behaviour={"action": "kill", "ports": [port], "window": 1, "cpu": 0.6})
            stage.scan()
        (finding,) = stage.found
        assert (finding.rule, finding.pid, finding.taken) == ("miner-behaviour", process.pid, KILLED)
        assert f"port {port}" in finding.detail
        assert process.wait(5) < 0

    def test_either_alone_is_none(self, stage: Stage) -> None:
        with listener() as pool, listener() as other:
            port = pool.getsockname()[1]
            stage.only(miner_behaviour={"action": "report", "ports": [port], "window": 1, "cpu": 0.6})
            idle = stage.python(IDLE, port)
            stage.scan()
            assert stage.found == []
            idle.kill()
            idle.wait(5)
            stage.python(BUSY, other.getsockname()[1])
            summary = stage.scan()
        assert stage.found == []
        assert summary.seconds < 1  # nobody to wait for

    def test_the_access_log_knows_pools_too(self, stage: Stage) -> None:
        stage.settings.access_log.write_text(entry(verdict="allow", destination_port=3333))
        process = stage.python("print('ready', flush=True)\nwhile True: pass")
        stage.only(miner_behaviour={"action": "report", "window": 1, "cpu": 0.6})
        stage.scan()
        assert [(item.pid, "port 3333" in item.detail) for item in stage.found] == [(process.pid, True)]

    def test_the_kernels_lists(self, tmp_path: Path) -> None:
        (tmp_path / "7/net").mkdir(parents=True)
        line = "   0: 0100007F:8AE2 0100007F:{port} {state} 00000000:00000000 00:00000000 00000000     0 0 4711 1 0\n"
        lines = [line.format(port="0D05", state=state) for state in ("01", "02", "06", "0A")]
        (tmp_path / "7/net/tcp").write_text(HEAD + "".join(lines) + "short\n")
        wide = "   0: {zero}:8AE2 {zero}:115C 01 00000000:00000000 00:00000000 00000000     0 0 4712 1 0\n"
        (tmp_path / "7/net/tcp6").write_text(HEAD + wide.format(zero="0" * 32))
        found = list(connections(7, tmp_path))
        assert [(item.port, item.inode) for item in found] == [(3333, 4711), (3333, 4711), (4444, 4712)]
        assert [item.inode for item in to_pools(found, frozenset({4444}))] == [4712]
        assert list(connections(8, tmp_path)) == []

    def test_saturation(self) -> None:
        none, half = Load(0, 0), Load(5_000_000_000, 0)
        assert saturation(none, half, 10.0, 1_000_000_000) == 0.5
        assert saturation(none, half, 10.0, 500_000_000) == 1.0
        assert saturation(none, half, 0.0, 1) == 0.0

    def test_who_waits_for_a_processor_would_use_it(self) -> None:
        assert saturation(Load(0, 0), Load(3_000_000_000, 7_000_000_000), 10.0, 1_000_000_000) == 1.0
        many_threads = Load(500_000_000, 90_000_000_000)
        assert saturation(Load(0, 0), many_threads, 10.0, 1_000_000_000) == 0.05


class TestConnectionScan:
    def scan(self, stage: Stage, *lines: str) -> None:
        stage.settings.access_log.write_text("".join(lines))
        stage.only(connection_scan={"action": "stop", "destinations": 20, "window": 60})
        stage.scan()

    def test_many_addresses_that_are_denied(self, stage: Stage) -> None:
        self.scan(stage, *(entry(destination=f"10.0.0.{number}") for number in range(20)))
        (finding,) = stage.found
        assert (finding.rule, finding.instance, finding.action) == ("connection-scan", NAME, "stop")
        assert "denied 20 addresses and ports within 60 s" in finding.detail

    def test_many_ports_of_one(self, stage: Stage) -> None:
        self.scan(stage, *(entry(destination_port=number) for number in range(1, 21)))
        assert len(stage.found) == 1

    def test_what_is_no_scan(self, stage: Stage) -> None:
        again = [entry(source_port=number) for number in range(1, 100)]
        allowed = [entry(destination_port=number, verdict="allow") for number in range(1, 100)]
        others = [entry(destination_port=number, instance="bob-web-1") for number in range(1, 100)]
        incoming = [entry(destination_port=number, direction="ingress") for number in range(1, 100)]
        old = [entry(destination_port=number, time=format_time(time.time() - 120)) for number in range(1, 100)]
        self.scan(stage, *again, *allowed, *others, *incoming, *old)
        assert stage.found == []

    def test_without_a_log_it_is_said(self, stage: Stage) -> None:
        stage.only(connection_scan="report")
        assert "there is no access log" in stage.scan().notes[0]

    def test_whose_log_line_names_nobody(self, tmp_path: Path) -> None:
        log = tmp_path / "access.json"
        log.write_text(entry(instance=None))
        assert read_reach(log, time.time() - 60) == {}


class TestTree:
    def process(self, pid: int, parent: int, session: int, started: int) -> Process:
        return Process(pid, parent, session, started, 0, "S", "x")

    def tree(self) -> dict[int, Process]:
        processes = [
            self.process(10, 1, 10, 1),  # wshd
            self.process(11, 10, 11, 2),  # the program
            self.process(12, 11, 11, 3),  # its child
            self.process(13, 10, 12, 4),  # one that lost its parent
            self.process(14, 13, 12, 5),  # and its child
            self.process(15, 10, 15, 6),  # one that leads a session of its own, perhaps of wsh
        ]
        return {process.pid: process for process in processes}

    def test_who_lost_its_parent_is_nobodys(self) -> None:
        assert [process.pid for process in foreign(self.tree(), 10, sessions=1)] == [13]

    def test_without_a_session_nobody_may_lead_one(self) -> None:
        assert [process.pid for process in foreign(self.tree(), 10, sessions=0)] == [13, 15]

    def test_an_ordinary_instance(self) -> None:
        processes = {pid: process for pid, process in self.tree().items() if pid < 13}
        assert foreign(processes, 10, sessions=0) == []
        assert foreign({10: processes[10]}, 10, sessions=0) == []

    def test_a_scan_asks_wshd_and_takes_none_for_foreign_where_it_says_nothing(self, stage: Stage) -> None:
        stage.only(foreign_process="report")
        stage.start("/bin/sleep", "600", start_new_session=True)
        stage.scan()
        assert stage.found == []

    def test_a_real_daemon(self, stage: Stage) -> None:
        """The stage's processes are children of the test, as those of an instance are of wshd."""
        first = stage.start("/bin/sleep", "600", start_new_session=True)
        second = stage.start("/bin/sleep", "601", start_new_session=False)
        group = ProcessGroup()
        group.members = [first, second]
        stage.target = replace(stage.target, init=_parent(second.pid), group=group)
        stage.only(foreign_process="report")
        stage.scan()
        assert [(item.pid, item.path) for item in stage.found] == [(second.pid, "/usr/bin/sleep")]


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
