"""What is taken of ulogd's lines."""

from __future__ import annotations

import json

import pytest
from bailey.access_log.lines import dropped_line, views_of
from bailey.access_log.packet import Packet, format_time, parse_report
from bailey.leases import Lease
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.access_log.samples import ARP, AT, FRAME, ICMP, TCP, TIME, told

ONE = Lease(1.0, "172.17.0.2", "a-web-1", "a", "web")
TWO = Lease(1.0, "172.17.0.3", "b-api-1", "b", "api")
OWNERS = {lease.address: lease for lease in (ONE, TWO)}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def packet(line: bytes) -> Packet:
    found = parse_report(line, AT).packet
    assert found is not None
    return found


def lines(line: bytes, *leases: Lease) -> list[dict[str, object]]:
    owners = {lease.address: lease for lease in leases}
    return [json.loads(view.line()) for view in views_of(packet(line), lambda address, _: owners.get(address))]


class TestPacket:
    def test_all_that_is_told_of_a_connection(self) -> None:
        found = packet(told(TCP))
        assert (found.time, found.at, found.verdict, found.reason) == (TIME, AT, "allow", None)
        assert (found.protocol, found.source, found.source_port) == ("tcp", "172.17.0.2", 44020)
        assert (found.destination, found.destination_port, found.details) == ("172.17.0.3", 88, {})

    def test_a_denial_has_its_reason(self) -> None:
        found = packet(told(TCP, oob__prefix="bailey deny egress policy"))
        assert (found.verdict, found.reason) == ("deny", "egress policy")

    def test_icmp_has_a_type_and_no_ports(self) -> None:
        found = packet(told(ICMP))
        assert (found.protocol, found.source_port, found.destination_port) == ("icmp", None, None)
        assert found.details == {"icmp_type": 8, "icmp_code": 0}

    @pytest.mark.parametrize(
        ("changes", "protocol"),
        [
            ({"ip__protocol": 17}, "udp"),
            ({"ip__protocol": 58}, "icmpv6"),
            ({"ip__protocol": 253}, "253"),
            ({"ip__protocol": None, "oob__protocol": 0x0806}, "arp"),
            ({"ip__protocol": None, "oob__protocol": 0x1234}, "0x1234"),
            ({"ip__protocol": None, "oob__protocol": None}, None),
        ],
    )
    def test_protocols_have_names_where_they_are_known(self, changes: dict[str, object], protocol: str | None) -> None:
        assert packet(told(TCP, **changes)).protocol == protocol

    def test_without_a_time_of_its_own_it_is_when_it_was_read(self) -> None:
        found = packet(told(TCP, oob__time__sec=None))
        assert (found.time[:19], found.at) == (TIME[:19], pytest.approx(AT, abs=1e-5))

    def test_the_addresses_in_an_arp_packet_are_not_believed(self) -> None:
        found = packet(told(ARP))
        assert (found.source, found.destination) == (None, None)
        assert found.details == {"mac": "ca:da:d0:bf:9d:0c"}

    @pytest.mark.parametrize("prefix", ["", "bailey", "docker deny", "bailey maybe", "bailey deny a\nb", 7])
    def test_what_others_log_is_not_ours(self, prefix: object) -> None:
        report = parse_report(told(TCP, oob__prefix=prefix, oob__seq__local=5), AT)
        assert (report.packet, report.sequence) == (None, 5)

    @pytest.mark.parametrize("line", [b"", b"{", b"[]", b"7", b"\xff\xfe", b'{"a": 1} trailing'])
    def test_what_is_no_line_of_ulogds_is_refused(self, line: bytes) -> None:
        with pytest.raises(ValueError, match=r"."):
            parse_report(line, AT)

    @given(st.dictionaries(st.sampled_from(sorted(set(TCP) - {"oob.prefix", "oob.time.sec"})), JSON))
    def test_whatever_it_carries_makes_one_line_of_the_same_fields(self, changes: dict[str, object]) -> None:
        values = {**TCP, "oob.time.sec": 1795643938, **changes}
        usec = values["oob.time.usec"]
        if isinstance(usec, int) and not 0 <= usec < 1_000_000:
            del values["oob.time.usec"]
        found = packet(json.dumps(values).encode())
        for view in views_of(found, lambda address, _: OWNERS.get(address)):
            line = view.line()
            assert line.count(b"\n") == 1
            assert line.isascii()
            assert list(json.loads(line))[:5] == ["time", "tenant", "app", "instance", "direction"]

    def test_times_sort_as_text(self) -> None:
        assert format_time(AT) == TIME
        assert format_time(0.9999999) == "1970-01-01T00:00:01.000000Z"


class TestViews:
    def test_both_ends_have_a_line_of_their_own(self) -> None:
        sent, received = lines(told(TCP), ONE, TWO)
        assert (sent["tenant"], sent["app"], sent["instance"]) == ("a", "web", "a-web-1")
        assert (sent["direction"], sent["peer"]) == ("egress", "b/api/b-api-1")
        assert (received["instance"], received["direction"], received["peer"]) == (
            "b-api-1",
            "ingress",
            "a/web/a-web-1",
        )
        assert sent["source"] == received["source"] == "172.17.0.2"

    def test_with_the_world_outside_there_is_one_line(self) -> None:
        assert [(line["instance"], line["peer"]) for line in lines(told(TCP), ONE)] == [("a-web-1", None)]
        assert [(line["instance"], line["direction"]) for line in lines(told(TCP), TWO)] == [("b-api-1", "ingress")]

    def test_a_packet_of_nobody_known_is_not_lost(self) -> None:
        (line,) = lines(told(TCP, oob__prefix="bailey deny ingress policy"))
        assert (line["tenant"], line["instance"], line["direction"]) == (None, None, "ingress")
        (line,) = lines(told(TCP))
        assert line["direction"] is None

    def test_a_false_source_is_nobodys_deed(self) -> None:
        (line,) = lines(told(FRAME), ONE, TWO)
        assert (line["instance"], line["direction"], line["reason"]) == (None, "egress", "bridge spoof")
        assert (line["source"], line["mac"]) == ("172.17.0.2", "ca:da:d0:bf:9d:0c")

    def test_an_unknown_source_is_nobodys_deed_and_its_target_learns_of_it(self) -> None:
        (line,) = lines(told(TCP, oob__prefix="bailey deny egress unknown"), ONE, TWO)
        assert (line["instance"], line["direction"], line["peer"]) == ("b-api-1", "ingress", None)

    def test_the_owner_is_asked_for_the_packets_own_time(self) -> None:
        asked: list[float] = []
        views_of(packet(told(TCP)), lambda _, at: asked.append(at))
        assert asked == [AT, AT]

    def test_what_was_dropped_is_a_line_too(self) -> None:
        assert json.loads(dropped_line(TIME, "rate", 7, ONE)) == {
            "time": TIME,
            "tenant": "a",
            "app": "web",
            "instance": "a-web-1",
            "event": "dropped",
            "reason": "rate",
            "count": 7,
        }
        assert json.loads(dropped_line(TIME, "size", 7, None))["tenant"] is None
