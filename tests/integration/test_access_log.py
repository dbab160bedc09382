"""The access log on real packets: a host of its own, whose rules log as the agent's do, with a real ulogd.

Needs root, nft, ulogd2 and ulogd2-json.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bailey.access_log.query import Query, read_log
from bailey.leases import LeaseWriter, journal

from tests.integration.fixtures.log_yard import (
    CLOSED,
    FALSE_MAC,
    FLOODED,
    OPEN,
    RULES,
    Service,
    connect,
    logged_by_the_kernel,
    send,
    send_frames,
    send_raw,
    until,
)
from tests.integration.fixtures.net_yard import CORE, NetYard, YardContainer


@pytest.fixture
def yard() -> Iterator[NetYard]:
    with NetYard() as made:
        made.host_run("nft", "-f", "-", input=RULES)
        yield made


@pytest.fixture
def one(yard: NetYard) -> YardContainer:
    return yard.add_container()


@pytest.fixture
def service(yard: NetYard, one: YardContainer, tmp_path: Path) -> Service:
    """The service, with one container that the journal knows."""
    made = Service(yard, tmp_path)
    made.leases.take(one.address, "a-web-1", "a", "web")
    made.start()
    return made


class TestConnections:
    def test_one_that_is_allowed(self, yard: NetYard, one: YardContainer, service: Service) -> None:
        before = time.time()
        with yard.call(socket.create_server, (yard.address, OPEN)):
            connect(one, yard.address, OPEN)
            (line,) = service.connections(1)
        assert 40000 - 8000 < line.pop("source_port") < 65536
        stamped = line.pop("time")
        assert line == {
            "tenant": "a",
            "app": "web",
            "instance": "a-web-1",
            "direction": "egress",
            "verdict": "allow",
            "reason": None,
            "protocol": "tcp",
            "source": one.address,
            "destination": yard.address,
            "destination_port": OPEN,
            "peer": None,
        }
        ends = (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) for at in (before, time.time() + 1))
        assert next(ends) <= stamped <= next(ends)

    def test_one_that_is_denied(self, yard: NetYard, one: YardContainer, service: Service) -> None:
        connect(one, yard.address, CLOSED)
        line = service.connections(1)[0]
        assert (line["verdict"], line["reason"], line["destination_port"]) == ("deny", "egress policy", CLOSED)

    def test_udp_icmp_and_what_has_no_name(self, yard: NetYard, one: YardContainer, service: Service) -> None:
        port = send(one, yard.address, 99)
        send_raw(one, 1, b"\x08\0\xf7\xfd\0\1\0\1", yard.address)
        send_raw(one, 47, b"\0\0\x08\0" + b"x" * 20, yard.address)
        udp, icmp, gre = service.connections(3)
        assert (udp["protocol"], udp["source_port"], udp["destination_port"]) == ("udp", port, 99)
        assert (icmp["protocol"], icmp["icmp_type"], icmp["source_port"]) == ("icmp", 8, None)
        assert (gre["protocol"], gre["destination_port"]) == ("gre", None)

    def test_both_ends_that_are_instances_have_a_line(
        self, yard: NetYard, one: YardContainer, service: Service
    ) -> None:
        service.leases.take(yard.address, "b-api-1", "b", "api")
        send(one, yard.address, 99)
        sent, received = service.connections(2)
        assert (sent["instance"], sent["direction"], sent["peer"]) == ("a-web-1", "egress", "b/api/b-api-1")
        assert (received["tenant"], received["direction"], received["peer"]) == ("b", "ingress", "a/web/a-web-1")

    def test_what_comes_in_is_ingress(self, yard: NetYard, one: YardContainer, service: Service) -> None:
        send(yard, one.address, 53)  # type: ignore[arg-type] # any namespace sends
        (line,) = service.connections(1)
        assert (line["instance"], line["direction"], line["source"]) == ("a-web-1", "ingress", yard.address)

    def test_what_a_packet_carries_breaks_no_line(self, yard: NetYard, one: YardContainer, service: Service) -> None:
        hostile = b'"}\n{"time": "x", "tenant": "victim"}\n\x00\xff'
        send(one, yard.address, 99, payload=hostile)
        send_raw(one, 1, hostile, yard.address)
        send(one, yard.address, 98)
        assert {line["tenant"] for line in service.connections(3)} == {"a"}
        assert len(service.entries()) == 3


class TestFrames:
    def test_a_spoofed_frame_is_told_and_is_nobodys_deed(self, one: YardContainer, service: Service) -> None:
        victim = "10.99.0.77"
        service.leases.take(victim, "v-web-1", "v", "web")
        header = bytes.fromhex("4500001d0000400040110000") + socket.inet_aton(victim) + socket.inet_aton("10.99.0.1")
        send_frames(one, b"\x08\x00" + header + bytes.fromhex("303900500009000078"))
        (line,) = service.connections(1)
        assert (line["verdict"], line["reason"], line["tenant"]) == ("deny", "bridge spoof", None)
        assert (line["source"], line["mac"], line["protocol"]) == (victim, FALSE_MAC, "udp")

    def test_arp_and_frames_of_any_kind(self, one: YardContainer, service: Service) -> None:
        arp = bytes.fromhex("0001080006040001") + b"\2" * 6 + b"\x0a\x63\0\1" + b"\0" * 6 + b"\x0a\x63\0\2"
        frames = [b"\x08\x06" + arp, b"\x08\x06x", b"\x08\x00E", b"\x08\x00" + b"E" * 60, b"\x12\x34" + b"x" * 50]
        frames += [b"\x86\xdd\x60" + b"z" * 60, b"\x81\x00\x00\x05\x08\x00" + b"E" * 60, b"\x00\x20" + b"x" * 50]
        send_frames(one, *frames)
        lines = service.connections(len(frames))
        assert len(lines) == len(frames)
        assert {line["mac"] for line in lines} == {FALSE_MAC}
        assert (lines[0]["protocol"], lines[0]["source"], lines[4]["protocol"]) == ("arp", None, "0x1234")
        assert service.dropped() == {}


class TestOwners:
    def test_an_address_that_another_instance_gets_is_told_by_time(
        self, yard: NetYard, one: YardContainer, service: Service
    ) -> None:
        send(one, yard.address, 99)
        service.connections(1)
        service.leases.give_up(one.address)
        time.sleep(0.1)
        send(one, yard.address, 98)
        service.connections(2)
        service.leases.take(one.address, "b-web-1", "b", "web")
        send(one, yard.address, 97)
        assert [line["instance"] for line in service.connections(3)] == ["a-web-1", None, "b-web-1"]

    def test_a_change_between_two_packets_of_one_batch(
        self, yard: NetYard, one: YardContainer, service: Service
    ) -> None:
        os.kill(service.ulogd, signal.SIGSTOP)
        send(one, yard.address, 99)
        time.sleep(0.1)
        service.leases.give_up(one.address)
        service.leases.take(one.address, "b-web-1", "b", "web")
        send(one, yard.address, 98)
        os.kill(service.ulogd, signal.SIGCONT)
        assert [line["instance"] for line in service.connections(2)] == ["a-web-1", "b-web-1"]

    def test_a_torn_journal(self, yard: NetYard, one: YardContainer, service: Service) -> None:
        with journal(service.run_dir).open("a") as file:
            file.write('{"address": "10.99.0.2", "na')
        send(one, yard.address, 99)
        assert service.connections(1)[0]["instance"] == "a-web-1"
        LeaseWriter(service.run_dir).take(one.address, "b-web-1", "b", "web")
        send(one, yard.address, 98)
        assert service.connections(2)[1]["instance"] == "b-web-1"

    def test_a_journal_that_is_compacted(self, yard: NetYard, one: YardContainer, service: Service) -> None:
        send(one, yard.address, 99)
        service.connections(1)
        service.leases.count_unlogged(one.address, 5)
        service.leases.compact()
        service.leases.count_unlogged(one.address, 6)
        until(lambda: service.dropped()["rate"] == 11, service.entries)
        send(one, yard.address, 98)
        assert service.connections(2)[1]["instance"] == "a-web-1"
        told = [entry for entry in service.entries() if "event" in entry]
        assert {(entry["tenant"], entry["instance"]) for entry in told} == {("a", "a-web-1")}


class TestBounds:
    FLOOD = 20_000

    def test_a_flood_is_bounded_by_rate_and_all_of_it_is_counted(
        self, yard: NetYard, one: YardContainer, service: Service
    ) -> None:
        assert service.end() == 0
        service.start("--rate=100")
        begun = time.monotonic()
        send(one, yard.address, FLOODED, self.FLOOD)
        sent = logged_by_the_kernel(yard)
        assert sent == self.FLOOD
        time.sleep(1)
        send(one, yard.address, FLOODED)  # what was lost last is seen with the next
        until(lambda: len(service.connections(1)) + service.dropped().total() == sent + 1, service.dropped)
        seconds = time.monotonic() - begun
        assert 100 <= len(service.connections(1)) <= 100 * (seconds + 2)
        told = [entry for entry in service.entries() if entry.get("reason") == "rate" and "event" in entry]
        assert len(told) <= seconds + 2

    def test_what_ulogd_cannot_take_is_counted_exactly(
        self, yard: NetYard, one: YardContainer, service: Service
    ) -> None:
        assert service.end() == 0
        service.start("--rate=100000")
        os.kill(service.ulogd, signal.SIGSTOP)
        send(one, yard.address, FLOODED, 3 * self.FLOOD)
        os.kill(service.ulogd, signal.SIGCONT)
        time.sleep(0.5)
        send(one, yard.address, FLOODED)
        sent = logged_by_the_kernel(yard)
        until(lambda: len(service.connections(1)) + service.dropped().total() == sent, service.dropped)
        assert service.dropped()["sequence"] > 0

    def test_files_are_bounded_and_rotated(self, yard: NetYard, one: YardContainer, service: Service) -> None:
        assert service.end() == 0
        service.start("--rate=100000", "--max-size=20K", "--files=3")
        for _ in range(20):
            send(one, yard.address, FLOODED, 50)
            time.sleep(0.05)
            sizes = [path.stat().st_size for path in service.log.parent.iterdir()]
            assert max(sizes) <= 20 << 10
            assert len(sizes) <= 3
        assert service.end() == 0
        assert {path.name for path in service.log.parent.iterdir()} == {
            *("access.json", "access.json.1", "access.json.2")
        }
        assert {path.stat().st_mode & 0o777 for path in service.log.parent.iterdir()} == {0o640}
        assert "1000 lines written, 0 dropped" in service.words.read_text()
        answer = read_log(service.log, Query({"tenant": "a"}))
        assert len(answer.entries) == len(service.entries()) > 20 * 2
        assert [row["connections"] for row in answer.summary()] == [len(answer.entries)]

    def test_a_full_disk(self, yard: NetYard, one: YardContainer, service: Service) -> None:
        assert service.end() == 0
        directory = service.log.parent
        yard.host_run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(directory))
        service.start("--rate=100000")

        def seen() -> list[dict[str, Any]]:
            return [json.loads(line) for line in yard.host_run("cat", str(service.log)).stdout.splitlines()]

        send(one, yard.address, FLOODED, 1000)
        time.sleep(1.5)
        assert service.process is not None
        assert service.process.poll() is None
        kept = len(seen())
        assert 100 < kept < 400
        yard.host_run("mount", "-o", "remount,size=2m", str(directory))
        send(one, yard.address, FLOODED, 10)
        until(lambda: any(entry.get("event") for entry in seen()), seen)
        assert service.end() == 0
        counts = [entry["count"] for entry in seen() if entry.get("reason") == "size"]
        assert len(seen()) - len(counts) + sum(counts) == 1010


class TestLife:
    def test_it_goes_on_after_a_restart(self, yard: NetYard, one: YardContainer, service: Service) -> None:
        send(one, yard.address, 99)
        service.leases.count_unlogged(one.address, 5)
        service.connections(1)
        assert service.end() == 0
        service.start()
        send(one, yard.address, 98)
        assert [line["destination_port"] for line in service.connections(2)] == [99, 98]
        assert service.end() == 0
        assert service.dropped() == {"rate": 5}
        assert "2 lines written, 5 dropped (5 rate)" in service.words.read_text()

    def test_what_came_last_is_written_before_it_ends(
        self, yard: NetYard, one: YardContainer, service: Service
    ) -> None:
        send(one, yard.address, 99, 10)
        assert service.end() == 0
        assert len(service.entries()) == 10

    def test_it_ends_with_a_ulogd_that_is_killed(self, service: Service) -> None:
        os.kill(service.ulogd, signal.SIGKILL)
        assert service.process is not None
        assert service.process.wait(15) == 1
        assert "ulogd ended with status -9" in service.words.read_text()

    def test_a_supervisor_may_end_both_at_once(self, service: Service) -> None:
        os.kill(service.ulogd, signal.SIGTERM)
        assert service.end() == 0

    def test_ulogd_does_not_outlive_it(self, yard: NetYard, one: YardContainer, service: Service) -> None:
        ulogd = service.ulogd
        service.end(signal.SIGKILL)
        until(lambda: not Path(f"/proc/{ulogd}/exe").exists(), lambda: f"{ulogd} lives")
        service.start()
        send(one, yard.address, 99)
        service.connections(1)

    def test_a_group_that_somebody_has_is_told_with_ulogds_words(self, service: Service, tmp_path: Path) -> None:
        (tmp_path / "second").mkdir()
        second = Service(service._yard, tmp_path / "second")
        second.start(ready=False)
        assert second.process is not None
        assert second.process.wait(15) == 1
        assert "ulogd ended with status" in second.words.read_text()
        assert "bind" in second.words.read_text()

    def test_its_configuration_is_for_root_alone(self, service: Service) -> None:
        assert (service.run_dir / "access-log/ulogd.conf").stat().st_mode & 0o777 == 0o600
        assert (service.run_dir / "access-log").stat().st_mode & 0o777 == 0o700


class TestPlaybook:
    @pytest.fixture
    def play(self, service: Service, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
        inventory = tmp_path / "hosts.yml"
        hosts = {"here": {"ansible_connection": "local", "access_log_directory": str(service.log.parent)}}
        inventory.write_text(json.dumps({"container_hosts": {"hosts": hosts}}))

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            program = Path(sys.executable).with_name("ansible-playbook")
            return subprocess.run(
                [str(program), "--inventory", str(inventory), "playbooks/access-log.yml", *arguments],
                cwd=CORE.parents[1],
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                capture_output=True,
                text=True,
                check=False,
            )

        return run

    def test_it_shows_who_talked_to_what(
        self,
        yard: NetYard,
        one: YardContainer,
        service: Service,
        play: Callable[..., subprocess.CompletedProcess[str]],
    ) -> None:
        connect(one, yard.address, CLOSED)
        send(one, yard.address, 99, 2)
        service.connections(3)
        done = play("-e", "tenant=a", "-e", "since=1h")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "deny (egress policy)" in done.stdout
        assert "a-web-1" in done.stdout
        assert "no connection was logged" in play("-e", "tenant=b").stdout

    def test_without_a_tenant_it_fails_and_says_so(self, play: Callable[..., subprocess.CompletedProcess[str]]) -> None:
        done = play("-e", "since=1h")
        assert done.returncode != 0
        assert "tenant is missing" in done.stdout
