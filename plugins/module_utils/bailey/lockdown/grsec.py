"""A kernel with grsecurity: its own settings, PaX flags of programs, and the lock that comes last.

No such kernel could be had where this was written: it was tried on trees of files alone. Sources: grsecurity's
documentation of its sysctls (kernel.grsecurity.*), and paxctl-ng(1) with its extended attribute user.pax.flags.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import InvalidValueError
from .kernel import Kernel
from .model import Finding, Row, Status, combine, dotted

HOME = "kernel/grsecurity"
LOCK = f"{HOME}/grsec_lock"
CHROOT = "grsecurity_chroot"  # the name under which the conflict of chroot_* is accepted
ATTRIBUTE = "user.pax.flags"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_FLAGS = re.compile(r"[PpEeMmRrSs]{1,5}")
# An engine makes a container's root in what grsecurity takes for a chroot.
_AGAINST_ENGINES = frozenset(
    f"chroot_{name}"
    for name in (
        "caps",
        "deny_chmod",
        "deny_chroot",
        "deny_mknod",
        "deny_mount",
        "deny_pivot",
        "findtask",
        "restrict_nice",
    )
)


def parse_policy(field: str, given: object, *, accepts_chroot: bool = False) -> dict[str, str]:
    """Read grsecurity's settings by name, each true, false or a number; return them by their place below /proc/sys.

    Raises InvalidValueError for what is none, for the lock (which has an option of its own), and for what stops an
    engine from making containers, unless that is accepted.
    """
    if not isinstance(given, Mapping):
        raise InvalidValueError(field, given, "a mapping")
    found: dict[str, str] = {}
    for name, value in given.items():
        where = f"{field}.{name}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidValueError(field, name, "as a key, a setting of kernel.grsecurity, such as dmesg")
        if name == "grsec_lock":
            raise InvalidValueError(where, value, "the option lock instead")
        if not isinstance(value, int) or value < 0:
            raise InvalidValueError(where, value, "true, false or a whole number")
        if value and name in _AGAINST_ENGINES and not accepts_chroot:
            raise InvalidValueError(where, value, f"false, unless {CHROOT} is in conflicts: it stops container engines")
        if value and name == "disable_modules":
            raise InvalidValueError(where, value, "false: the platform has the kernel load modules")
        found[f"{HOME}/{name}"] = str(int(value))
    return found


def parse_flags(field: str, given: object) -> dict[str, str]:
    """Read PaX flags by the path of a program, such as "m" or "Em"; capitals turn on, small letters off.

    Raises InvalidValueError for a path that is not absolute, and for a letter that is none or stands twice.
    """
    if not isinstance(given, Mapping):
        raise InvalidValueError(field, given, "a mapping")
    found: dict[str, str] = {}
    for path, flags in given.items():
        if not isinstance(path, str) or not path.startswith("/") or ".." in Path(path).parts or "\0" in path:
            raise InvalidValueError(field, path, "as a key, a program's absolute path")
        if not isinstance(flags, str) or not _FLAGS.fullmatch(flags) or len(set(flags.lower())) != len(flags):
            raise InvalidValueError(
                f"{field}.{path}", flags, "letters of PEMRS, capital for on and small for off, once"
            )
        found[path] = "".join(sorted(flags))
    return found


def check_programs(field: str, flags: Mapping[str, str], root: Path) -> None:
    """Raise InvalidValueError for a program that this host does not have."""
    for path in flags:
        if not (root / path.lstrip("/")).is_file():
            raise InvalidValueError(field, path, "the path of a program that is there")


def read_flags(path: Path) -> str | None:
    """Return a program's PaX flags, None where it has none."""
    try:
        return "".join(sorted(os.getxattr(path, ATTRIBUTE).decode(errors="replace")))
    except OSError:
        return None


def write_flags(path: Path, flags: str | None) -> None:
    """Set a program's PaX flags, or take them away. Raises OSError where its file system has no such attributes."""
    if flags is not None:
        os.setxattr(path, ATTRIBUTE, flags.encode())
    elif read_flags(path) is not None:
        os.removexattr(path, ATTRIBUTE)


def policy_rows(kernel: Kernel, policy: Mapping[str, str], assumed: Mapping[str, str]) -> list[Row]:
    """Return a row for each declared setting; `assumed` holds what is about to be set."""
    return [
        combine(f"grsecurity.{place.rpartition('/')[2]}", (), [_finding(kernel, place, wanted, assumed)])
        for place, wanted in policy.items()
    ]


def _finding(kernel: Kernel, place: str, wanted: str, assumed: Mapping[str, str]) -> Finding:
    found = assumed.get(place, kernel.read(place))
    name = dotted(place)
    if found == wanted:
        return Finding("sysctl", name, wanted, found, Status.ENFORCED)
    if found is None:
        return Finding("sysctl", name, wanted, None, Status.UNSUPPORTED, f"this kernel has no {name}")
    if is_locked(kernel):
        reason = f"{name} is {found}, and grsecurity's settings are locked until a reboot"
        return Finding("sysctl", name, wanted, found, Status.NEEDS_REBOOT, reason)
    return Finding("sysctl", name, wanted, found, Status.UNSUPPORTED, f"the kernel keeps {name} at {found}")


def flag_rows(kernel: Kernel, flags: Mapping[str, str], assumed: Mapping[str, str]) -> list[Row]:
    """Return a row for each program whose PaX flags are declared; `assumed` holds flags that are about to be set."""
    rows = []
    for path, wanted in flags.items():
        found = assumed.get(path, read_flags(kernel.root / path.lstrip("/")))
        if not kernel.is_grsecurity:
            status, reason = Status.UNSUPPORTED, "this kernel has no PaX, and gives such flags no meaning"
        elif found == wanted:
            status, reason = Status.ENFORCED, ""
        else:
            status, reason = Status.UNSUPPORTED, f"{path} keeps the flags {found or 'none'}"
        finding = Finding("pax", path, wanted, found, status, reason)
        rows.append(combine(f"pax_flags.{path}", (), [finding]))
    return rows


def is_locked(kernel: Kernel) -> bool:
    """Say whether grsecurity's settings can no longer be changed."""
    return kernel.read(LOCK) == "1"
