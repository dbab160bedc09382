"""Keeping all processes of a control group from running for a while.

Sources: the kernel's Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst and cgroup-v2.rst, cgroup.freeze.
"""

from __future__ import annotations

from pathlib import Path

from .cgroup import Group, GroupV2
from .files import read_text


def is_frozen(group: Group) -> bool:
    """Say whether somebody has asked for a group to be frozen."""
    return (read_text(_file(group)) or "").strip() in ("1", "FROZEN", "FREEZING")


def freeze(group: Group) -> None:
    """Have a group frozen. Raises OSError where it has gone.

    A process that is in the kernel finishes its system call first; nothing is waited for.
    """
    _file(group).write_text("1" if isinstance(group, GroupV2) else "FROZEN")


def thaw(group: Group) -> None:
    """Let a group run again. Raises OSError where it has gone."""
    _file(group).write_text("0" if isinstance(group, GroupV2) else "THAWED")


def _file(group: Group) -> Path:
    return group.paths["freezer"] / ("cgroup.freeze" if isinstance(group, GroupV2) else "freezer.state")
