"""Capabilities: those by which a program leaves its container cannot be asked for."""

from __future__ import annotations

import contextlib

import pytest
from bailey import capabilities
from bailey.errors import InvalidValueError
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([], ()),
        (["NET_BIND_SERVICE"], ("NET_BIND_SERVICE",)),
        (["CAP_NET_BIND_SERVICE", "net_bind_service", "cap_chown"], ("CHOWN", "NET_BIND_SERVICE")),
    ],
)
def test_names(values: list[object], names: tuple[str, ...]) -> None:
    assert capabilities.parse_capabilities("cap_add", values) == names


@pytest.mark.parametrize(
    "value",
    [
        *("SYS_ADMIN", "CAP_SYS_ADMIN", "sys_module", "SYS_PTRACE", "NET_ADMIN", "DAC_READ_SEARCH", "BPF", "MKNOD"),
        *(
            "SYS_RESOURCE",
            "SYS_RAWIO",
            "SYS_BOOT",
            "SYS_TIME",
            "MAC_ADMIN",
            "SYSLOG",
            "PERFMON",
            "ALL",
            "",
            "CAP_",
            "X",
        ),
        *(1, None, ["KILL"], "cap_cap_kill", "\N{LATIN SMALL LETTER LONG S}ETUID"),
    ],
)
def test_what_frees_a_program_or_is_no_name_is_refused(value: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^cap_add\[1\]: .* allowed: one of CHOWN, ") as caught:
        capabilities.parse_capabilities("cap_add", ["KILL", value])
    assert "SYS_ADMIN" not in str(caught.value.details["allowed"])


def test_what_may_be_asked_for_is_a_list_and_not_what_another_list_leaves() -> None:
    permitted = set()
    for name in capabilities.NAMES:
        with contextlib.suppress(InvalidValueError):
            permitted.update(capabilities.parse_capabilities("cap_add", [name]))
    assert permitted == {
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "IPC_OWNER", "KILL", "LEASE"),
        *("NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    }


@given(st.sets(st.sampled_from(capabilities.NAMES)))
def test_a_mask_holds_exactly_its_names(names: set[str]) -> None:
    assert set(capabilities.from_mask(capabilities.to_mask(names))) == names


def test_masks_that_a_kernel_showed() -> None:
    assert capabilities.from_mask(0x400) == ["NET_BIND_SERVICE"]
    assert capabilities.from_mask(0) == []
    assert capabilities.from_mask(0x000001FFFEFFFFFF) == [name for name in capabilities.NAMES if name != "SYS_RESOURCE"]


def test_a_capability_newer_than_the_table_is_shown_by_its_number() -> None:
    assert capabilities.from_mask(1 << 60) == ["60"]


@pytest.mark.parametrize(
    ("name", "bit"),
    [
        ("CHOWN", 0),
        ("SETPCAP", 8),
        ("SYS_MODULE", 16),
        ("SYS_RESOURCE", 24),
        ("SETFCAP", 31),
        ("CHECKPOINT_RESTORE", 40),
    ],
)
def test_bits_are_those_of_linux_capability_h(name: str, bit: int) -> None:
    assert capabilities.to_mask([name]) == 1 << bit
