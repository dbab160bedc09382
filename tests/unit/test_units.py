"""Sizes, rates, durations and processor shares: what is read is what was written, and nonsense is refused."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from decimal import Decimal

import pytest
from bailey import units
from bailey.errors import InvalidValueError
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.integers(min_value=1, max_value=units.MAX_SIZE)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096B", 4096),
        ("64M", 64 << 20),
        ("64m", 64 << 20),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("64 MiB", 64 << 20),
        ("1.5G", 3 << 29),
        ("0.5K", 512),
        ("2T", 2 << 40),
        (" 1K ", 1024),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_size("memory", text) == size


@pytest.mark.parametrize(
    "value",
    [
        *("512", "", "M", "-1M", "1.M", ".5M", "1e3M", "0.3B", "0.0001K", "0B", "1P", "1 iB", "1MM", "64Mi", "٣M"),
        *("8388608T", "nan", "1,5G", "1M\n1M", 512, 512.0, True, None, ["1M"], {"size": "1M"}),
        *("1\N{KELVIN SIGN}", "64M\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}B", "9" * 5000 + "M", "1\n M"),
        "1.0000000000000000000000000000000000001K",  # not a whole number of bytes, however it is rounded
    ],
)
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^memory: .* is not valid; allowed: "):
        units.parse_size("memory", value)


def test_a_size_under_the_minimum_names_the_minimum() -> None:
    with pytest.raises(InvalidValueError, match="at least 6M"):
        units.parse_size("memory", "5M", minimum=6 << 20)
    assert units.parse_size("memory", "6M", minimum=6 << 20) == 6 << 20


@given(SIZES)
def test_a_written_size_reads_back(size: int) -> None:
    assert units.parse_size("size", units.format_size(size)) == size


@given(st.integers(min_value=1, max_value=999), st.sampled_from("KMGT"))
def test_a_round_size_is_written_as_people_write_it(number: int, unit: str) -> None:
    assert units.format_size(units.parse_size("size", f"{number}{unit}")) == f"{number}{unit}"


@pytest.mark.parametrize(("value", "count"), [(1, 1), ("7", 7), (" 7 ", 7), ("+7", 7)])
def test_counts(value: object, count: int) -> None:
    assert units.parse_count("pids", value) == count


@pytest.mark.parametrize("value", [0, -1, "0", 1.0, "1.5", "", "ten", True, None, [1], "٣", "1_0", "9" * 5000])
def test_what_is_no_count_is_refused(value: object) -> None:
    with pytest.raises(InvalidValueError, match="a whole number of at least 1"):
        units.parse_count("pids", value)


def test_a_count_over_its_bound_names_both_bounds() -> None:
    with pytest.raises(InvalidValueError, match="a whole number from 1 to 65535"):
        units.parse_count("port", 65536, maximum=65535)


def test_operations_a_second() -> None:
    assert units.parse_iops("read_iops", "100") == 100
    with pytest.raises(InvalidValueError, match=r"read_iops: 0 is not valid; allowed: .*operations a second"):
        units.parse_iops("read_iops", 0)


@pytest.mark.parametrize(
    ("value", "nano"),
    [("0.5", 500_000_000), (0.25, 250_000_000), (2, 2_000_000_000), ("0.01", 10_000_000), ("1e1", 10_000_000_000)],
)
def test_processors(value: object, nano: int) -> None:
    assert units.parse_cpus("cpus", value) == nano


@pytest.mark.parametrize(
    "value",
    [
        *(0, "0.001", -1, "nan", "inf", "half", "", True, None, [1], 5000, "0.123456", float("nan"), float("inf")),
        *("1_0", "٣", "1/2", "0.5 cpus", "sNaN", "9" * 5000, "1e9999999", 0.1 + 0.2),
        "0.50000000000000000000000000000000000001",
    ],
)
def test_what_is_no_share_of_a_processor_is_refused(value: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^cpus: "):
        units.parse_cpus("cpus", value)


@given(st.integers(min_value=1000, max_value=409_600_000))
def test_written_processors_read_back(steps: int) -> None:
    nano = steps * 10_000
    assert units.parse_cpus("cpus", units.format_cpus(nano)) == nano
    assert Decimal(units.format_cpus(nano)) == Decimal(nano) / units.NANO


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("500ms", 0.5),
        ("1m30s", 90),
        ("2h", 7200),
        ("1h1m1s1ms", 3661.001),
        ("1.5s", 1.5),
        ("1m5ms", 60.005),
        ("0.1s200ms", 0.3),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration("stop_grace_period", text) == seconds


@pytest.mark.parametrize(
    "value", ["", " ", "10", "s", "-1s", "1s1m", "1d", "1m 30s", 10, None, True, "٣s", "0.0001s", "9" * 400 + "h"]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(InvalidValueError, match="a duration such as"):
        units.parse_duration("stop_grace_period", value)


@given(st.integers(min_value=0, max_value=10**9))
def test_a_written_duration_reads_back(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert units.parse_duration("period", units.format_duration(seconds)) == seconds


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 59_999), st.integers(0, 9999))
def test_a_duration_is_the_same_however_it_is_written(hours: int, minutes: int, seconds: int, rest: int) -> None:
    read = units.parse_duration("period", f"{hours}h{minutes}m{seconds / 1000:.3f}s{rest}ms")
    assert units.parse_duration("period", units.format_duration(read)) == read
    assert round(read * 1000) == hours * 3_600_000 + minutes * 60_000 + seconds + rest


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("8kbit", 8000),
        ("20Mbit", 20_000_000),
        ("20mbit", 20_000_000),
        ("20MBIT", 20_000_000),
        (" 1.5 Gbit ", 1_500_000_000),
        ("100Gbit", 100_000_000_000),
        ("8.008kbit", 8008),
        ("0.1Mbit", 100_000),
    ],
)
def test_rates_of_a_network(text: str, rate: int) -> None:
    assert units.parse_rate("egress", text) == rate


@pytest.mark.parametrize(
    ("value", "message"),
    [
        *(
            (value, "a unit of kbit, Mbit or Gbit")
            for value in ("20", 20, "20M", "20MB", "20Mbps", "20bit", "Mbit", "")
        ),
        *((value, "a unit of kbit, Mbit or Gbit") for value in ("-1Mbit", "1e3kbit", "1Tbit", True, None, ["1Mbit"])),
        *((value, "a unit of kbit, Mbit or Gbit") for value in ("1Mibit", "٣Mbit", "1\N{KELVIN SIGN}bit", "20Mbit/s")),
        *((value, "from 8kbit to 100Gbit") for value in ("0kbit", "7.992kbit", "100.000000008Gbit", "9" * 30 + "Gbit")),
        *((value, "a whole number of bytes a second") for value in ("8.001kbit", "1.000001Mbit", "10.0000000001kbit")),
    ],
)
def test_what_is_no_rate_of_a_network_is_refused_with_its_bounds(value: object, message: str) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        units.parse_rate("egress", value)
    assert message in str(refusal.value.details["allowed"])


@given(st.integers(min_value=units.RATE_MIN // 8, max_value=units.RATE_MAX // 8))
def test_a_written_rate_reads_back(size: int) -> None:
    assert units.parse_rate("egress", units.format_rate(size * 8)) == size * 8


@pytest.mark.parametrize(
    ("rate", "text"), [(0, "0kbit"), (8008, "8.008kbit"), (20_000_000, "20Mbit"), (10**9, "1Gbit"), (10, "0.01kbit")]
)
def test_a_rate_is_written_as_people_write_it(rate: int, text: str) -> None:
    assert units.format_rate(rate) == text


TEXTS = (
    st.text()
    | st.text("0123456789.eE+-_/,: KMGTiBhms")
    | st.from_regex(r"\A[\d.]+\s*[a-zA-Z\u0130\u0131\u017f\u212a]*\Z")
)


@pytest.mark.parametrize(
    "parse",
    [
        units.parse_size,
        units.parse_rate,
        units.parse_count,
        units.parse_iops,
        units.parse_cpus,
        units.parse_duration,
    ],
)
@given(text=TEXTS)
def test_any_text_is_read_or_refused_clearly(parse: Callable[[str, object], float], text: str) -> None:
    with contextlib.suppress(InvalidValueError):
        assert math.isfinite(parse("field", text))
        assert text.strip().isascii()


@given(TEXTS)
def test_any_text_is_a_processor_list_or_refused_clearly(text: str) -> None:
    with contextlib.suppress(InvalidValueError):
        assert min(units.parse_cpuset("field", text)) >= 0


@pytest.mark.parametrize(
    ("value", "cpus"), [("0", {0}), (3, {3}), ("0-2,4", {0, 1, 2, 4}), ("1,1", {1}), (" 0 , 2 ", {0, 2})]
)
def test_processor_lists(value: object, cpus: set[int]) -> None:
    assert units.parse_cpuset("cpuset", value) == cpus


@pytest.mark.parametrize("value", ["", "a", "2-1", "0-", "-1", "0,,1", True, None, [0], -1, "0-999999"])
def test_what_is_no_processor_list_is_refused(value: object) -> None:
    with pytest.raises(InvalidValueError, match="processor numbers"):
        units.parse_cpuset("cpuset", value)


@given(st.frozensets(st.integers(min_value=0, max_value=300), min_size=1))
def test_a_written_processor_list_reads_back(cpus: frozenset[int]) -> None:
    assert units.parse_cpuset("cpuset", units.format_cpuset(cpus)) == cpus
