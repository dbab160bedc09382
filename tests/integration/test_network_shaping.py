"""Bandwidth as traffic has it: real TCP between namespaces of the tests' own. Needs root and the real kernel."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bailey.errors import HostError
from bailey.host.links import Attachment, find_attachment
from bailey.host.tc import PREFIX, Shape, leftovers, read_shape, release, shape

from tests.integration.fixtures.net_yard import Namespace, NetYard, YardContainer, net_yard
from tests.integration.fixtures.platform import wait_for

pytestmark = pytest.mark.alone

MBIT = 1_000_000
PORT = 5000
TRIES = 3
# What a full packet is on the wire (with Ethernet's header), and the part of it that TCP carries for its user.
WIRE, CARRIED = 1514, 1448


@dataclass
class Shaped:
    """A container with a shape that a test changes."""

    yard: NetYard
    container: YardContainer

    @property
    def attachment(self) -> Attachment:
        found = self.yard.call(find_attachment, self.container.pid)
        assert found is not None
        return found

    @property
    def device(self) -> str:
        return PREFIX + self.container.port

    def shape(self, ingress: int | None, egress: int | None) -> None:
        self.yard.call(shape, self.attachment, "ada-web-1", Shape(ingress, egress))

    def read(self) -> Shape:
        return self.yard.call(read_shape, self.attachment)

    def tc(self, *words: str) -> None:
        self.yard.host_run("tc", *words)

    def queues(self) -> list[dict[str, Any]]:
        """Return the queues that somebody made on the host."""
        listed = json.loads(self.yard.host_run("tc", "-j", "qdisc").stdout)
        return [queue for queue in listed if queue["kind"] != "noqueue"]

    def devices(self) -> list[str]:
        listed = json.loads(self.yard.host_run("ip", "-j", "link", "show", "type", "ifb").stdout)
        return [found["ifname"] for found in listed if found]


@pytest.fixture
def yard() -> Iterator[NetYard]:
    with NetYard() as made:
        yield made


@pytest.fixture
def one(yard: NetYard) -> Shaped:
    return Shaped(yard, yard.add_container())


class Flow:
    """One TCP connection that sends as fast as it can."""

    def __init__(self, server: Namespace, address: str, client: Namespace, *, upwards: bool) -> None:
        with server.call(socket.create_server, (address, 0)) as listening:
            opened = client.call(socket.create_connection, listening.getsockname(), 10)
            taken, _ = listening.accept()
        self._ends = (opened, taken) if upwards else (taken, opened)
        for end in self._ends:
            end.settimeout(1)
        self.received = 0
        self._ending = False
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        data = bytes(1 << 17)
        while not self._ending:
            with contextlib.suppress(TimeoutError):
                self._ends[0].send(data)

    def _receive(self) -> None:
        room = bytearray(1 << 18)
        while not self._ending:
            with contextlib.suppress(TimeoutError):
                self.received += self._ends[1].recv_into(room)

    def close(self) -> None:
        self._ending = True
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()


@contextlib.contextmanager
def flowing(shaped: Shaped, *, outwards: bool) -> Iterator[Flow]:
    """Traffic between a container and its host, in one direction."""
    flow = Flow(shaped.yard, shaped.yard.address, shaped.container, upwards=outwards)
    try:
        yield flow
    finally:
        flow.close()


def rates(flows: Sequence[Flow], seconds: float, settle: float = 2) -> list[float]:
    """Return what each flow takes of the wire, in bits a second, once the burst and TCP's start have passed."""
    time.sleep(settle)
    before, start = [flow.received for flow in flows], time.monotonic()
    time.sleep(seconds)
    after, end = [flow.received for flow in flows], time.monotonic()
    return [(last - first) * 8 * WIRE / CARRIED / (end - start) for first, last in zip(before, after, strict=True)]


def _arrives(sender: NetYard | YardContainer, receiver: NetYard | YardContainer, size: int) -> bool:
    """Send a datagram of so many bytes, in one packet."""
    with receiver.call(_udp) as listening, sender.call(_udp) as sending:
        listening.settimeout(5)
        listening.bind((receiver.address, 0))
        sending.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
        sending.sendto(bytes(size), listening.getsockname())
        return len(listening.recv(size + 1)) == size


def _udp() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


class TestThroughput:
    @pytest.mark.parametrize(
        ("containers", "rate", "directions", "seconds"),
        [
            # So slow a link is half full of the other direction's acknowledgements: each container has one direction.
            pytest.param(10, MBIT, 1, 15, id="1 Mbit, ten at once"),
            pytest.param(10, 20 * MBIT, 2, 8, id="20 Mbit both ways, ten at once"),
            pytest.param(1, 1000 * MBIT, 2, 5, id="1 Gbit both ways"),
        ],
    )
    def test_it_is_what_is_declared(self, containers: int, rate: int, directions: int, seconds: float) -> None:
        with net_yard(containers) as yard, contextlib.ExitStack() as stack:
            flows = []
            for number, container in enumerate(yard.containers):
                shaped = Shaped(yard, container)
                shaped.shape(rate, rate)
                ways = [True, False] if directions == 2 else [number % 2 == 0]
                flows += [stack.enter_context(flowing(shaped, outwards=way)) for way in ways]
            shares = [[round(found / rate, 3) for found in rates(flows, seconds)]]
            while min(shares[-1]) < 0.9 and len(shares) < TRIES:  # whoever sends may have had no processor
                shares.append([round(found / rate, 3) for found in rates(flows, seconds)])
        assert max(map(max, shares)) <= 1.1, shares
        assert min(shares[-1]) >= 0.9, shares

    def test_each_direction_has_its_own_rate(self, one: Shaped) -> None:
        one.shape(10 * MBIT, 40 * MBIT)
        with flowing(one, outwards=False) as inward, flowing(one, outwards=True) as outward:
            into, out = rates([inward, outward], 4)
        assert 9 * MBIT <= into <= 11 * MBIT
        assert 36 * MBIT <= out <= 44 * MBIT

    def test_no_packet_is_larger_than_its_bucket(self, one: Shaped) -> None:
        one.shape(8_000, 8_000)
        for sender, receiver in ((one.container, one.yard), (one.yard, one.container)):
            assert _arrives(sender, receiver, 1472)


class TestWhileTrafficFlows:
    @pytest.mark.parametrize("outwards", [True, False], ids=["egress", "ingress"])
    def test_a_limit_comes_and_goes(self, one: Shaped, outwards: bool) -> None:
        with flowing(one, outwards=outwards) as flow:
            assert rates([flow], 0.5, 0.5)[0] > 200 * MBIT
            one.shape(20 * MBIT, 20 * MBIT)
            assert 18 * MBIT <= rates([flow], 3)[0] <= 22 * MBIT
            one.shape(None, None)
            assert rates([flow], 1, 1)[0] > 200 * MBIT

    @pytest.mark.parametrize("outwards", [True, False], ids=["egress", "ingress"])
    def test_no_change_of_rate_lets_more_through(self, one: Shaped, outwards: bool) -> None:
        """In no span of time does more pass than the highest rate of it, and one burst a change."""
        low, high = 20 * MBIT, 40 * MBIT
        one.shape(high, high)
        burst = max(queue["options"]["burst"] for queue in one.queues() if queue["kind"] == "tbf")
        device = one.device if outwards else one.container.port
        changes: list[float] = []
        with flowing(one, outwards=outwards):
            samples = _Samples(one.yard, device)
            for rate in [low, high] * 20:
                one.shape(rate, rate)
                changes.append(time.monotonic())
                time.sleep(0.05)
            points = samples.stop()
        assert points[-1].count - points[0].count > low / 8 * (points[-1].after - points[0].before) * 0.5
        too_much = []
        for first, last in itertools.combinations(points[::3], 2):
            bursts = 1 + sum(first.before - 0.05 <= change <= last.after + 0.05 for change in changes)
            if last.count - first.count > high / 8 * (last.after - first.before) + bursts * burst:
                too_much.append((first, last))
        assert too_much == []

    def test_a_steady_rate_is_kept_from_its_first_moment(self, one: Shaped) -> None:
        with flowing(one, outwards=True):
            time.sleep(0.5)
            samples = _Samples(one.yard, one.device)
            one.shape(None, 20 * MBIT)
            time.sleep(1)
            points = [point for point in samples.stop() if point.count]
        (burst,) = [queue["options"]["burst"] for queue in one.queues() if queue["kind"] == "tbf"]
        for first, last in itertools.combinations(points[::3], 2):
            assert last.count - first.count <= 20 * MBIT / 8 * (last.after - first.before) + burst


@dataclass(frozen=True)
class _Point:
    """A device's count of bytes, and between which times it was read."""

    before: float
    count: int
    after: float


class _Samples:
    """Reads how much a device has sent, every few milliseconds."""

    def __init__(self, yard: NetYard, device: str) -> None:
        self._device = device
        self._points: list[_Point] = []
        self._ending = False
        self._thread = threading.Thread(target=yard.call, args=(self._read,), daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._ending:
            before = time.monotonic()
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
            after = time.monotonic()
            counts = [line.split(":")[1].split()[8] for line in lines if line.strip().startswith(f"{self._device}:")]
            self._points.append(_Point(before, int(counts[0]) if counts else 0, after))
            time.sleep(0.003)

    def stop(self) -> list[_Point]:
        self._ending = True
        self._thread.join()
        return self._points


class TestReadBack:
    @pytest.mark.parametrize(
        "wanted",
        [
            Shape(8_000, 8),
            Shape(MBIT, None),
            Shape(None, 1_001_000),
            Shape(123_456 * 8, 50_000 * MBIT),
            Shape(None, None),
        ],
        ids=str,
    )
    def test_what_is_declared_holds_to_the_bit(self, one: Shaped, wanted: Shape) -> None:
        one.shape(wanted.ingress, wanted.egress)
        assert one.read() == wanted

    def test_the_second_time_nothing_is_touched(self, one: Shaped) -> None:
        one.shape(MBIT, 2 * MBIT)
        with _events(one.yard) as told:
            one.read()  # the kernel tells everybody what somebody has asked for
            reading = told()
            one.shape(MBIT, 2 * MBIT)
            assert told() == reading
            one.shape(MBIT, 3 * MBIT)
            assert "rate 3Mbit" in told()

    def test_others_on_the_host_do_not_count(self, one: Shaped) -> None:
        other = Shaped(one.yard, one.yard.add_container())
        other.shape(MBIT, MBIT)
        one.shape(2 * MBIT, None)
        assert one.read() == Shape(2 * MBIT, None)
        assert other.read() == Shape(MBIT, MBIT)

    @pytest.mark.parametrize(
        "breaks",
        [
            "tc qdisc del dev PORT ingress",
            "tc filter del dev PORT parent ffff:",
            "tc qdisc del dev DEVICE root",
            "tc qdisc replace dev DEVICE root handle 1: pfifo",
            "ip link set DEVICE down",
            "ip link del DEVICE",
            "tc filter add dev PORT parent ffff: prio 1 handle 800::1 protocol all u32 match u32 0 0 flowid 1:1",
            "tc filter add dev PORT parent ffff: prio 9 protocol ip u32 match u32 0 0 flowid 1:1",
        ],
    )
    def test_what_breaks_the_way_out_shows_and_is_repaired(self, one: Shaped, breaks: str) -> None:
        one.shape(MBIT, MBIT)
        one.yard.host_run(*breaks.replace("PORT", one.container.port).replace("DEVICE", one.device).split())
        assert one.read() == Shape(MBIT, None)
        one.shape(MBIT, MBIT)
        assert one.read() == Shape(MBIT, MBIT)
        assert _arrives(one.container, one.yard, 1)

    def test_what_breaks_the_way_in_shows_and_is_repaired(self, one: Shaped) -> None:
        one.shape(MBIT, MBIT)
        one.tc("qdisc", "replace", "dev", one.container.port, "root", "handle", "ba11:", "tbf", *TBF)
        assert one.read() == Shape(5 * MBIT, MBIT)
        one.shape(MBIT, MBIT)
        one.tc("qdisc", "del", "dev", one.container.port, "root")
        assert one.read() == Shape(None, MBIT)
        one.shape(MBIT, MBIT)
        assert one.read() == Shape(MBIT, MBIT)

    def test_a_port_that_has_gone_is_told(self, one: Shaped) -> None:
        attachment = one.attachment
        one.container.unplug()
        with pytest.raises(HostError, match=f"port {attachment.port}: .*No such device"):
            one.yard.call(read_shape, attachment)


TBF = ("rate", "5mbit", "burst", "10k", "limit", "100k")


@contextlib.contextmanager
def _events(yard: NetYard) -> Iterator[Callable[[], str]]:
    """Follow what the kernel tells of traffic control; the call returns what has come since the last."""
    process = yard.start("tc", "monitor", stdout=subprocess.PIPE)
    assert process.stdout is not None
    stream, marks = process.stdout, itertools.count()
    yard.host_run("ip", "link", "add", "marks", "type", "ifb")

    def told() -> str:
        mark = f"limit {1000 + next(marks)}p"
        yard.host_run(
            "tc", "qdisc", "replace", "dev", "marks", "root", "handle", "1:", "pfifo", *mark.rstrip("p").split()
        )
        heard = list(itertools.takewhile(lambda line: mark not in line, stream))
        return "".join(line for line in heard if "dev marks" not in line)

    # The column of groups tells that it listens; nobody else does there.
    listeners = Path(f"/proc/{process.pid}/net/netlink")
    wait_for(lambda: any(int(row.split()[3], 16) for row in listeners.read_text().splitlines()[1:]), "the monitor")
    yield told


class TestNothingIsLeft:
    def test_after_unlimited(self, one: Shaped) -> None:
        one.shape(MBIT, MBIT)
        assert one.devices() == [one.device]
        alias = one.yard.host_run("ip", "-d", "link", "show", one.device).stdout
        assert "alias bailey ada-web-1" in alias
        one.shape(None, None)
        assert (one.devices(), one.queues()) == ([], [])

    def test_after_release(self, one: Shaped) -> None:
        one.shape(MBIT, MBIT)
        for _ in range(2):
            one.yard.call(release, one.container.port)
            assert (one.devices(), one.queues()) == ([], [])

    def test_after_a_port_that_went_first(self, one: Shaped) -> None:
        one.shape(MBIT, MBIT)
        port = one.container.port
        one.yard.remove_container(one.container)
        assert one.devices() == [PREFIX + port]
        assert one.yard.call(leftovers, set()) == [port]
        assert one.yard.call(leftovers, {port}) == []
        one.yard.call(release, port)
        assert (one.devices(), one.queues()) == ([], [])

    def test_after_a_restart_under_another_name(self, one: Shaped) -> None:
        one.shape(MBIT, MBIT)
        former = one.container.port
        one.container.unplug()
        one.container.plug()
        one.shape(MBIT, MBIT)
        assert one.read() == Shape(MBIT, MBIT)
        assert one.yard.call(leftovers, {one.container.port}) == [former]
        one.yard.call(release, former)
        assert one.devices() == [one.device]
        assert one.read() == Shape(MBIT, MBIT)

    def test_other_peoples_devices_stay(self, one: Shaped) -> None:
        one.yard.host_run("ip", "link", "add", "ifb9", "alias", "bailey", "type", "ifb")
        assert one.yard.call(leftovers, set()) == []
        one.yard.host_run("ip", "link", "add", one.device, "type", "ifb")
        with pytest.raises(HostError, match="not Bailey's"):
            one.shape(None, MBIT)
        one.yard.call(release, one.container.port)
        assert sorted(one.devices()) == sorted([one.device, "ifb9"])
