"""Linux capabilities by name and bit, capabilities(7)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .errors import InvalidValueError

# In the order of their bits, include/uapi/linux/capability.h.
NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
SYS_RESOURCE = NAMES.index("SYS_RESOURCE")

# All that a spec may ask for: what changes files and processes of the instance's own, and nothing that others share
# with it. With the rest a program leaves its container, undoes a limit, hears the network, or comes before others.
_PERMITTED = frozenset(
    ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE",
     "IPC_OWNER", "SYS_CHROOT", "LEASE", "AUDIT_WRITE", "SETFCAP")
)  # fmt: skip


def parse_capabilities(field: str, values: Sequence[object]) -> tuple[str, ...]:
    """Read capability names, with or without CAP_, and return them sorted without it."""
    permitted = [name for name in NAMES if name in _PERMITTED]
    names: set[str] = set()
    for number, value in enumerate(values):
        name = value.upper().removeprefix("CAP_") if isinstance(value, str) and value.isascii() else ""
        if name not in permitted:
            raise InvalidValueError(f"{field}[{number}]", value, f"one of {', '.join(permitted)}")
        names.add(name)
    return tuple(sorted(names))


def to_mask(names: Iterable[str]) -> int:
    """Return names as the bit mask that /proc/PID/status shows."""
    return sum(1 << NAMES.index(name) for name in names)


def from_mask(mask: int) -> list[str]:
    """Return the names in a bit mask; a bit newer than this table is shown by its number."""
    bits = [bit for bit in range(mask.bit_length()) if mask >> bit & 1]
    return [NAMES[bit] if bit < len(NAMES) else str(bit) for bit in bits]
