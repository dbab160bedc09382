"""Sizes, rates, durations and processor shares as people write them.

A number without a unit is refused where a unit matters: 512 could be bytes or megabytes.
Sizes use binary multiples, as the Compose specification and the engines do: 1K is 1024 bytes. A network's rates use
decimal ones, as tc(8) and everybody who sells a line does: 1kbit is 1000 bits a second.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from .errors import InvalidValueError

# Written out as [0-9], for \d is every script's digits, and bounded, for Python refuses to convert thousands of them.
_NUMBER = r"[0-9]{1,40}(?:\.[0-9]{1,40})?"
_SIZE = re.compile(rf"(?P<number>{_NUMBER})[ ]*(?P<unit>[KMGT]?)(?P<suffix>I?B)?", re.ASCII | re.IGNORECASE)
_BIT_RATE = re.compile(rf"(?P<number>{_NUMBER})[ ]*(?P<unit>[kmg])bit", re.ASCII | re.IGNORECASE)
_COUNT = re.compile(r"[+-]?[0-9]{1,40}")
_CPUS = re.compile(rf"(?:{_NUMBER}|\.[0-9]{{1,40}})(?:[eE][+-]?[0-9]{{1,2}})?")
_MULTIPLES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_BIT_MULTIPLES = {"K": 1000, "M": 1_000_000, "G": 1_000_000_000}
# In bits a second: with less than a kilobyte nothing works that anybody would run, and more no network card sends.
RATE_MIN, RATE_MAX = 8000, 100_000_000_000
_RATE_BOUNDS = "from 8kbit to 100Gbit a second"
_SIZE_ALLOWED = "a size with a unit, such as 64M, 1.5GiB or 4096B"
_IOPS_ALLOWED = "a whole number of operations a second, at least 1"
_DURATION = re.compile(
    r"(?:(?P<h>[0-9]{1,9})h)?(?:(?P<m>[0-9]{1,9})m(?!s))?"
    r"(?:(?P<s>[0-9]{1,9}(?:\.[0-9]{1,3})?)s)?(?:(?P<ms>[0-9]{1,9})ms)?"
)
_DURATION_ALLOWED = "a duration such as 10s, 500ms or 1m30s"
NANO = 1_000_000_000
MAX_SIZE = (1 << 63) - 1


def parse_size(field: str, value: object, minimum: int = 1) -> int:
    """Read a size and return bytes; raise InvalidValueError unless it has a unit and is in range."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or not (match["unit"] or match["suffix"]):
        raise InvalidValueError(field, value, _SIZE_ALLOWED)
    if not match["unit"] and match["suffix"].lower() == "ib":
        raise InvalidValueError(field, value, _SIZE_ALLOWED)
    amount = Fraction(match["number"]) * _MULTIPLES[match["unit"].upper()]
    if amount.denominator != 1:
        raise InvalidValueError(field, value, "a whole number of bytes")
    if not minimum <= amount <= MAX_SIZE:
        raise InvalidValueError(field, value, f"at least {format_size(minimum)} and below 8 EiB")
    return int(amount)


def format_size(size: int) -> str:
    """Write bytes in the largest unit that is exact, so that parse_size gives them back."""
    for unit in "TGMK":
        if size and size % _MULTIPLES[unit] == 0:
            return f"{size // _MULTIPLES[unit]}{unit}"
    return f"{size}B"


def parse_rate(field: str, value: object) -> int:
    """Read what a network carries, such as 20Mbit, and return bits a second; the kernel counts whole bytes of them."""
    match = _BIT_RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        allowed = f"bits with a unit of kbit, Mbit or Gbit, such as 20Mbit, {_RATE_BOUNDS}"
        raise InvalidValueError(field, value, allowed)
    rate = Fraction(match["number"]) * _BIT_MULTIPLES[match["unit"].upper()]
    if not RATE_MIN <= rate <= RATE_MAX:
        raise InvalidValueError(field, value, _RATE_BOUNDS)
    if (rate / 8).denominator != 1:
        raise InvalidValueError(field, value, "a whole number of bytes a second: a multiple of 0.008kbit")
    return int(rate)


def format_rate(rate: int) -> str:
    """Write bits a second in the largest unit that is exact, so that parse_rate gives them back."""
    for unit in "GM":
        if rate and rate % _BIT_MULTIPLES[unit] == 0:
            return f"{rate // _BIT_MULTIPLES[unit]}{unit}bit"
    return f"{Decimal(rate) / 1000:f}kbit"


def parse_count(field: str, value: object, minimum: int = 1, maximum: int = MAX_SIZE) -> int:
    """Read a plain whole number within bounds. Digits in a string are accepted: Jinja makes them."""
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and _COUNT.fullmatch(value.strip()):
        number = int(value.strip())
    if number is None or not minimum <= number <= maximum:
        bound = f"from {minimum} to {maximum}" if maximum < MAX_SIZE else f"of at least {minimum}"
        raise InvalidValueError(field, value, f"a whole number {bound}")
    return number


def parse_iops(field: str, value: object) -> int:
    """Read a rate of I/O operations a second."""
    try:
        return parse_count(field, value)
    except InvalidValueError:
        raise InvalidValueError(field, value, _IOPS_ALLOWED) from None


def parse_cpus(field: str, value: object) -> int:
    """Read a number of processors, such as 0.5, and return billionths of one (the engines' nano CPUs)."""
    allowed = "a number of processors of at least 0.01, such as 0.5"
    text = str(value).strip() if isinstance(value, int | float | str) and not isinstance(value, bool) else ""
    if not _CPUS.fullmatch(text):
        raise InvalidValueError(field, value, allowed)
    amount = Fraction(text)
    if not Fraction("0.01") <= amount <= 4096:
        raise InvalidValueError(field, value, allowed)
    if (amount * 100_000).denominator != 1:
        raise InvalidValueError(field, value, "a number of processors in steps of 0.00001")
    return int(amount * NANO)


def format_cpus(nano_cpus: int) -> str:
    """Write billionths of a processor as a decimal, so that parse_cpus gives them back."""
    return f"{Decimal(nano_cpus) / NANO:f}"


def parse_duration(field: str, value: object) -> float:
    """Read a duration with a unit, as Compose writes it, and return seconds."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) and value.strip() else None
    if match is None:
        raise InvalidValueError(field, value, _DURATION_ALLOWED)
    hours, minutes, seconds, milliseconds = (float(match[part] or 0) for part in ("h", "m", "s", "ms"))
    # Rounded, for the same duration is written in several ways, and their sums in binary differ.
    return round(hours * 3600 + minutes * 60 + seconds + milliseconds / 1000, 3)


def format_duration(seconds: float) -> str:
    """Write seconds so that parse_duration gives them back, to the millisecond."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole}s" + (f"{milliseconds}ms" if milliseconds else "")


def parse_cpuset(field: str, value: object) -> frozenset[int]:
    """Read a list of processors in the kernel's form, such as 0-2,4."""
    allowed = "processor numbers such as 0, 0-2 or 0,3"
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    cpus: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part.strip())
        if match is None:
            raise InvalidValueError(field, value, allowed)
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InvalidValueError(field, value, allowed)
        cpus.update(range(first, last + 1))
    return frozenset(cpus)


def format_cpuset(cpus: frozenset[int]) -> str:
    """Write processors in the kernel's shortest form."""
    parts: list[str] = []
    ordered = sorted(cpus)
    while ordered:
        run = 1
        while run < len(ordered) and ordered[run] == ordered[0] + run:
            run += 1
        parts.append(str(ordered[0]) if run == 1 else f"{ordered[0]}-{ordered[run - 1]}")
        ordered = ordered[run:]
    return ",".join(parts)
