"""Every resource limit of the kernel, in Compose's forms."""

from __future__ import annotations

import contextlib
import re
import resource

import pytest
from bailey.errors import InvalidValueError
from bailey.rlimits import KINDS, UNLIMITED, Rlimit, parse_rlimits
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import samples


def test_every_resource_of_this_kernel_is_there() -> None:
    # Python's resource knows OFILE as an older name of NOFILE, and leaves LOCKS and RTTIME out on Linux.
    known = {name.removeprefix("RLIMIT_").lower() for name in dir(resource) if name.startswith("RLIMIT_")}
    assert known - {"ofile"} <= set(KINDS)


@pytest.mark.parametrize(
    ("declared", "limit"),
    [
        ({"nofile": 1024}, Rlimit(1024, 1024)),
        ({"nofile": "1024"}, Rlimit(1024, 1024)),
        ({"nofile": 0}, Rlimit(0, 0)),
        ({"nofile": -1}, Rlimit(UNLIMITED, UNLIMITED)),
        ({"nofile": "-1"}, Rlimit(UNLIMITED, UNLIMITED)),
        ({"nofile": "unlimited"}, Rlimit(UNLIMITED, UNLIMITED)),
        ({"nofile": {"soft": 10, "hard": 20}}, Rlimit(10, 20)),
        ({"nofile": {"hard": 20}}, Rlimit(20, 20)),
        ({"nofile": {"soft": 10, "hard": "unlimited"}}, Rlimit(10, UNLIMITED)),
        ({"memlock": "64K"}, Rlimit(64 << 10, 64 << 10)),
        ({"memlock": "65536"}, Rlimit(64 << 10, 64 << 10)),
        ({"memlock": 65536}, Rlimit(64 << 10, 64 << 10)),
        ({"fsize": {"soft": "1M", "hard": "1G"}}, Rlimit(1 << 20, 1 << 30)),
    ],
)
def test_limits(declared: dict[str, object], limit: Rlimit) -> None:
    assert list(parse_rlimits("ulimits", declared).values()) == [limit]


@pytest.mark.parametrize(
    ("declared", "field"),
    [
        ({"nofile": -2}, "ulimits.nofile"),
        ({"nofile": 1.5}, "ulimits.nofile"),
        ({"nofile": True}, "ulimits.nofile"),
        ({"nofile": "1K"}, "ulimits.nofile"),
        ({"nofile": ""}, "ulimits.nofile"),
        ({"nofile": [1]}, "ulimits.nofile"),
        ({"nofile": "9" * 5000}, "ulimits.nofile"),
        ({"nofile": 1 << 64}, "ulimits.nofile"),
        ({"memlock": "64Q"}, "ulimits.memlock"),
        ({"nofile": {"soft": 10}}, "ulimits.nofile.hard"),
        ({"nofile": {"soft": 21, "hard": 20}}, "ulimits.nofile.soft"),
        ({"nofile": {"soft": -1, "hard": 20}}, "ulimits.nofile.soft"),
        ({"nofile": {"hard": 20, "max": 1}}, "ulimits.nofile.max"),
        ({"files": 20}, "ulimits.files"),
        ([1], "ulimits"),
    ],
)
def test_what_is_no_limit_is_refused_by_its_path(declared: object, field: str) -> None:
    with pytest.raises(InvalidValueError, match=rf"^{re.escape(field)}: "):
        parse_rlimits("ulimits", declared)


@given(declared=samples.rlimit_declarations())
def test_what_is_read_is_in_bounds_and_reads_back(declared: dict[str, object]) -> None:
    limits = parse_rlimits("ulimits", declared)
    assert limits.keys() == declared.keys()
    assert parse_rlimits("u", {name: {"soft": item.soft, "hard": item.hard} for name, item in limits.items()}) == limits
    assert all(item.hard == UNLIMITED or UNLIMITED < item.soft <= item.hard for item in limits.values())


@given(st.sampled_from(sorted(KINDS)), samples.JUNK)
def test_junk_is_a_limit_or_refused_clearly(name: str, junk: object) -> None:
    with contextlib.suppress(InvalidValueError):
        parse_rlimits("ulimits", {name: junk})


@pytest.mark.parametrize(
    ("limit", "bound", "within"),
    [
        (Rlimit(1, 10), Rlimit(10, 10), True),
        (Rlimit(10, 11), Rlimit(10, 10), False),
        (Rlimit(1, UNLIMITED), Rlimit(10, 10), False),
        (Rlimit(1, UNLIMITED), Rlimit(10, UNLIMITED), True),
        (Rlimit(1, 10), Rlimit(0, UNLIMITED), True),
        (Rlimit(0, 0), Rlimit(0, 0), True),
    ],
)
def test_a_stricter_limit_is_within_a_bound(limit: Rlimit, bound: Rlimit, within: bool) -> None:
    assert limit.within(bound) is within


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (Rlimit(1, 2), "1:2"),
        (Rlimit(2, 2), "2"),
        (Rlimit(0, UNLIMITED), "0:unlimited"),
        (Rlimit(UNLIMITED, UNLIMITED), "unlimited"),
    ],
)
def test_a_limit_as_text(limit: Rlimit, text: str) -> None:
    assert str(limit) == text
