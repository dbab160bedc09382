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

# With one of these a program leaves its container, or undoes a limit; no spec may ask for them.
_NEVER = frozenset(
    ("SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO", "SYS_PTRACE", "SYS_BOOT", "SYS_TIME", "SYS_RESOURCE", "DAC_READ_SEARCH",
     "MAC_ADMIN", "MAC_OVERRIDE", "BPF", "PERFMON", "NET_ADMIN", "MKNOD", "SYSLOG", "CHECKPOINT_RESTORE")
)  # fmt: skip


def parse_capabilities(field: str, values: Sequence[object]) -> tuple[str, ...]:
    """Read capability names, with or without CAP_, and return them sorted without it."""
    permitted = [name for name in NAMES if name not in _NEVER]
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
