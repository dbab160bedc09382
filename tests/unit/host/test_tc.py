"""What the kernel is asked for to limit a port, in which order, and what is made of its answers."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

import pytest
from bailey.errors import HostError, UnsupportedError
from bailey.host import tc
from bailey.host.links import Attachment
from bailey.host.netlink import (
    CREATE,
    EXCLUSIVE,
    REPLACE,
    Message,
    NetlinkError,
    attribute,
    parse_attributes,
    text,
    u32,
)
from bailey.host.tc import Shape
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.host.fake_netlink import FakeNetlink

NEW_LINK, DELETE_LINK, GET_LINK = 16, 17, 18
NEW_QDISC, DELETE_QDISC, GET_QDISC, NEW_FILTER, GET_FILTER = 36, 37, 38, 44, 46
READING = (GET_LINK, GET_QDISC, GET_FILTER)
LINK, TC = struct.Struct("=BxHiII"), struct.Struct("=B3xiIII")
ROOT, ENTRANCE = 0xFFFFFFFF, 0xFFFFFFF1
PORT = Attachment("172.17.0.2", "02:42:ac:11:00:02", "veth1a2b3c4", 7, "docker0", 1500)
DEVICE, DEVICE_INDEX = "b-veth1a2b3c4", 9
GROUP = 0xBA11E1
MBIT = 1_000_000


class Kernel(FakeNetlink):
    """Keeps links, queues and filters by what it is asked, as far as the module's questions go."""

    def __init__(self) -> None:
        super().__init__()
        self.links: dict[str, Message] = {PORT.port: link(PORT.port_index, PORT.port, "veth")}
        self.queues: dict[tuple[int, int], bytes] = {}
        self.filters: list[Message] = []

    def request(self, kind: int, body: bytes, flags: int = 0) -> list[Message]:
        self.asked.append((kind, body, flags))
        header = LINK if kind in (NEW_LINK, DELETE_LINK, GET_LINK) else TC
        fields = header.unpack_from(body)
        return getattr(self, f"_{kind}")(fields, body, parse_attributes(body[header.size :])) or []

    def _16(self, fields: Any, _body: bytes, asked: dict[int, bytes]) -> None:
        if not fields[2]:
            self.links[text(asked[3])] = link(DEVICE_INDEX, text(asked[3]), "ifb")
        else:
            (name,) = [name for name, found in self.links.items() if LINK.unpack_from(found.body)[2] == fields[2]]
            self.links[name] = link(fields[2], name, "ifb", alias=text(asked[20]))

    def _17(self, fields: Any, _body: bytes, _asked: dict[int, bytes]) -> None:
        self.links = {name: item for name, item in self.links.items() if LINK.unpack_from(item.body)[2] != fields[2]}
        self.queues.pop((fields[2], ROOT), None)

    def _18(self, _fields: Any, _body: bytes, asked: dict[int, bytes]) -> list[Message]:
        if 3 not in asked:
            return list(self.links.values())
        if text(asked[3]) not in self.links:
            raise NetlinkError(errno.ENODEV, "No such device")
        return [self.links[text(asked[3])]]

    def _36(self, fields: Any, body: bytes, _asked: dict[int, bytes]) -> None:
        self.queues[fields[1], fields[3]] = body

    def _37(self, fields: Any, _body: bytes, _asked: dict[int, bytes]) -> None:
        del self.queues[fields[1], fields[3]]
        if fields[3] == ENTRANCE:
            self.filters.clear()

    def _38(self, fields: Any, _body: bytes, _asked: dict[int, bytes]) -> list[Message]:
        found = self.queues.get((fields[1], fields[3]))
        if found is None:
            raise NetlinkError(errno.ENOENT, "Cannot find specified qdisc on specified device")
        return [Message(NEW_QDISC, 0, found)]

    def _44(self, fields: Any, body: bytes, _asked: dict[int, bytes]) -> None:
        self.filters[:] = [Message(NEW_FILTER, 0, TC.pack(*fields[:2], 0x80000800, *fields[3:]) + body[TC.size :])]

    def _46(self, *_: Any) -> list[Message]:
        header = TC.pack(socket.AF_UNSPEC, PORT.port_index, 0x80000000, 0xFFFF0000, 0x10300)
        table = Message(NEW_FILTER, 0, header + attribute(1, "u32") + attribute(2, {4: u32(1)}))
        return [table, *self.filters] if self.filters else []

    def done(self) -> list[int]:
        """Return the kinds of what was changed, and forget them."""
        kinds = [kind for kind, _, _ in self.changes(*READING)]
        self.asked.clear()
        return kinds


def link(index: int, name: str, kind: str, *, group: int = GROUP, alias: str = "", up: bool = True) -> Message:
    body = LINK.pack(socket.AF_UNSPEC, 1, index, int(up), 0) + attribute(3, name) + attribute(4, u32(1500))
    return Message(NEW_LINK, 0, body + attribute(27, u32(group)) + attribute(20, alias) + attribute(18, {1: kind}))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    fake = Kernel()
    monkeypatch.setattr(tc, "Netlink", fake)
    return fake


def bucket_of(body: bytes) -> tuple[int, int, int]:
    """Return rate, queue and burst as they are asked for."""
    options = parse_attributes(parse_attributes(body[TC.size :])[2])
    layer, rate, limit = (struct.unpack_from("=BBHhHI12sIII", options[1])[item] for item in (1, 5, 7))
    assert layer == 1
    (rate64,) = struct.unpack("=Q", options[4]) if 4 in options else (rate,)
    return rate64, limit, struct.unpack("=I", options[6])[0]


class TestBuckets:
    def test_a_rate_in_is_a_bucket_at_the_ports_root(self, kernel: Kernel) -> None:
        tc.shape(PORT, "ada-web-1", Shape(20 * MBIT, None))
        ((kind, body, flags),) = kernel.changes(*READING)
        assert (kind, flags) == (NEW_QDISC, CREATE | REPLACE)
        assert TC.unpack_from(body) == (socket.AF_UNSPEC, 7, 0xBA110000, ROOT, 0)
        assert text(parse_attributes(body[TC.size :])[1]) == "tbf"
        assert bucket_of(body)[0] == 20 * MBIT // 8
        assert tc.read_shape(PORT) == Shape(20 * MBIT, None)

    @given(rate=st.integers(125, 50_000_000_000 // 8).map(lambda rate: rate * 8), mtu=st.integers(576, 9000))
    def test_what_is_declared_is_read_back_and_every_packet_fits(self, rate: int, mtu: int) -> None:
        fake = Kernel()
        port = Attachment(**{**vars(PORT), "mtu": mtu})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tc, "Netlink", fake)
            tc.shape(port, "one", Shape(rate, rate))
            assert tc.read_shape(port) == Shape(rate, rate)
        for key in ((7, ROOT), (DEVICE_INDEX, ROOT)):
            held, limit, burst = bucket_of(fake.queues[key])
            assert held * 8 == rate
            assert burst >= mtu + 14
            assert limit >= burst + mtu + 14

    def test_another_rate_changes_the_same_bucket(self, kernel: Kernel) -> None:
        tc.shape(PORT, "one", Shape(MBIT, None))
        tc.shape(PORT, "one", Shape(2 * MBIT, None))
        first, second = kernel.changes(*READING)
        assert (first[0], first[2], first[1][:20]) == (second[0], second[2], second[1][:20])

    def test_over_34_gbit_the_long_field_counts(self, kernel: Kernel) -> None:
        tc.shape(PORT, "one", Shape(40_000 * MBIT, None))
        options = parse_attributes(parse_attributes(kernel.queues[7, ROOT][TC.size :])[2])
        assert struct.unpack_from("=8xI", options[1]) == (0xFFFFFFFF,)
        assert tc.read_shape(PORT).ingress == 40_000 * MBIT

    @pytest.mark.parametrize("rate", [0, 7, 1001])
    def test_what_the_kernel_cannot_hold_is_refused_before_anything_changes(self, kernel: Kernel, rate: int) -> None:
        with pytest.raises(UnsupportedError, match=rf"network\.egress: {rate} .*whole bytes"):
            tc.shape(PORT, "one", Shape(MBIT, rate))
        assert kernel.asked == []


class TestTheWayOut:
    def test_the_limit_stands_before_anything_is_led_to_it(self, kernel: Kernel) -> None:
        tc.shape(PORT, "one", Shape(None, MBIT))
        changes = kernel.changes(*READING)
        assert [kind for kind, _, _ in changes] == [NEW_LINK, NEW_LINK, NEW_QDISC, NEW_QDISC, NEW_FILTER]
        made, named = (parse_attributes(changes[item][1][LINK.size :]) for item in (0, 1))
        assert LINK.unpack_from(changes[0][1])[3:] == (1, 1)  # up
        assert (text(made[3]), made[27], changes[0][2]) == (DEVICE, u32(GROUP), CREATE | EXCLUSIVE)
        assert text(named[20]) == "bailey one"
        assert bucket_of(changes[2][1])[0] == MBIT // 8

    def test_everything_is_redirected(self, kernel: Kernel) -> None:
        tc.shape(PORT, "one", Shape(None, MBIT))
        _, body, flags = kernel.changes(*READING)[-1]
        assert flags == CREATE | EXCLUSIVE
        assert TC.unpack_from(body)[2:] == (0, 0xFFFF0000, 1 << 16 | socket.htons(3))
        options = parse_attributes(parse_attributes(body[TC.size :])[2])
        assert options[5] == bytes([1, 0, 1]) + bytes(29)  # terminal, one key, no bit of it counts
        action = parse_attributes(parse_attributes(options[7])[1])
        mirred = struct.unpack("=IIiiiiI", parse_attributes(action[2])[2])
        assert (text(action[1]), mirred) == ("mirred", (0, 0, 4, 0, 0, 1, DEVICE_INDEX))

    def test_without_a_limit_the_redirect_goes_first(self, kernel: Kernel) -> None:
        tc.shape(PORT, "one", Shape(None, MBIT))
        kernel.done()
        tc.shape(PORT, "one", Shape(None, None))
        assert kernel.done() == [DELETE_QDISC, DELETE_LINK]
        assert kernel.queues == {}

    def test_the_second_time_nothing_changes(self, kernel: Kernel) -> None:
        for wanted in (Shape(2 * MBIT, MBIT), Shape(None, MBIT), Shape(MBIT, None), Shape(None, None)):
            tc.shape(PORT, "one", wanted)
            kernel.done()
            tc.shape(PORT, "one", wanted)
            assert kernel.done() == []
            assert tc.read_shape(PORT) == wanted

    def test_a_device_that_was_taken_away_is_made_again_behind_the_same_filter(self, kernel: Kernel) -> None:
        tc.shape(PORT, "one", Shape(None, MBIT))
        del kernel.links[DEVICE], kernel.queues[DEVICE_INDEX, ROOT]
        _retarget(kernel, 0)
        kernel.done()
        assert tc.read_shape(PORT).egress is None
        tc.shape(PORT, "one", Shape(None, MBIT))
        assert kernel.changes(*READING)[-1][2] == REPLACE
        assert kernel.done() == [NEW_LINK, NEW_LINK, NEW_QDISC, NEW_FILTER]
        assert tc.read_shape(PORT).egress == MBIT

    def test_a_foreign_filter_makes_way(self, kernel: Kernel) -> None:
        tc.shape(PORT, "one", Shape(None, MBIT))
        header = TC.pack(socket.AF_UNSPEC, 7, 1, 0xFFFF0000, 1 << 16 | socket.htons(3))
        foreign = Message(NEW_FILTER, 0, header + attribute(1, "bpf") + attribute(2, {1: u32(1)}))
        kernel.filters.insert(0, foreign)
        assert tc.read_shape(PORT).egress is None
        tc.shape(PORT, "one", Shape(None, MBIT))
        assert tc.read_shape(PORT).egress == MBIT

    @pytest.mark.parametrize("broken", ["device", "down", "queue", "filter", "elsewhere", "not all"])
    def test_a_missing_part_is_no_limit(self, kernel: Kernel, broken: str) -> None:
        tc.shape(PORT, "one", Shape(None, MBIT))
        if broken == "device":
            del kernel.links[DEVICE]
        elif broken == "down":
            kernel.links[DEVICE] = link(DEVICE_INDEX, DEVICE, "ifb", up=False)
        elif broken == "queue":
            del kernel.queues[DEVICE_INDEX, ROOT]
        elif broken == "filter":
            kernel.filters.clear()
        elif broken == "elsewhere":
            _retarget(kernel, 55)
        else:
            _change(kernel, 1 << 16 | socket.htons(0x0800))
        assert tc.read_shape(PORT) == Shape(None, None)


def _retarget(kernel: Kernel, target: int) -> None:
    body = kernel.filters[0].body
    old = struct.pack("=iI", 1, DEVICE_INDEX)
    assert body.count(old) == 1
    kernel.filters[0] = Message(NEW_FILTER, 0, body.replace(old, struct.pack("=iI", 1, target)))


def _change(kernel: Kernel, info: int) -> None:
    body = kernel.filters[0].body
    kernel.filters[0] = Message(NEW_FILTER, 0, TC.pack(*TC.unpack_from(body)[:4], info) + body[TC.size :])


class TestNames:
    def test_a_long_name_of_a_port_is_refused(self, kernel: Kernel) -> None:
        port = Attachment(**{**vars(PORT), "port": "veth-of-14-let"})
        with pytest.raises(HostError, match="more than 13 characters"):
            tc.shape(port, "one", Shape(None, MBIT))
        assert kernel.done() == []

    def test_somebody_elses_device_of_that_name_is_left_alone(self, kernel: Kernel) -> None:
        kernel.links[DEVICE] = link(DEVICE_INDEX, DEVICE, "ifb", group=0)
        with pytest.raises(HostError, match=f"{DEVICE} already, which is not Bailey's"):
            tc.shape(PORT, "one", Shape(None, MBIT))
        tc.release(PORT.port)
        assert kernel.done() == []

    def test_leftovers_are_ports_that_nobody_has(self, kernel: Kernel) -> None:
        for index, name in enumerate(("b-veth1", "b-veth2", "ifb0"), 20):
            kernel.links[name] = link(index, name, "ifb", group=GROUP if name != "ifb0" else 0)
        assert tc.leftovers({"veth1"}) == ["veth2"]
        assert tc.leftovers(set()) == ["veth1", "veth2"]
        tc.release("veth2")
        assert tc.leftovers(set()) == ["veth1"]

    def test_release_takes_all_and_works_where_nothing_is(self, kernel: Kernel) -> None:
        tc.shape(PORT, "one", Shape(MBIT, MBIT))
        kernel.done()
        tc.release(PORT.port)
        assert kernel.done() == [DELETE_QDISC, DELETE_QDISC, DELETE_LINK]
        tc.release(PORT.port)
        assert kernel.done() == []

    def test_release_takes_the_device_though_the_port_goes_meanwhile(
        self, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tc.shape(PORT, "one", Shape(MBIT, MBIT))

        def goes(*_: Any) -> None:
            kernel.links.pop(PORT.port, None)
            raise NetlinkError(errno.ENODEV, "No such device")

        monkeypatch.setattr(kernel, f"_{DELETE_QDISC}", goes)
        tc.release(PORT.port)
        assert kernel.links == {}

    def test_a_port_that_has_gone_is_told(self, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
        def gone(*_: Any) -> list[Message]:
            raise NetlinkError(errno.ENODEV, "No such device")

        monkeypatch.setattr(kernel, f"_{GET_QDISC}", gone)
        with pytest.raises(HostError, match=r"veth1a2b3c4: its bandwidth cannot be read or limited: .*No such device"):
            tc.read_shape(PORT)
