"""Namespaces: which ones a process has to itself, and making something inside of another's network.

A socket stays in the network that it was made in, setns(2), unshare(2). Nothing in a container's image is needed for
it, and nothing of the container runs.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .proc import PROC

Made = TypeVar("Made")

_NEWNET = 0x40000000  # CLONE_NEWNET
_LIBC = ctypes.CDLL(None, use_errno=True)
_KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")  # as in /proc/PID/ns, namespaces(7)


def own_namespaces(pid: int, proc: Path = PROC) -> frozenset[str]:
    """Return the kinds of namespace in which a process is apart from this one; none where it has ended.

    This one is the host's. Its first process may have capabilities that this one lacks, and then is not to be read.
    """
    pairs = zip(_KINDS, _namespaces(f"{proc}/{pid}/ns"), _namespaces(f"{proc}/self/ns"), strict=True)
    return frozenset(kind for kind, its, ours in pairs if its and ours and its != ours)


def _namespaces(directory: str) -> list[str]:
    """Return what each kind's link shows, nothing where there is none. By strings: it is read again and again."""
    shown = []
    for kind in _KINDS:
        try:
            shown.append(os.readlink(f"{directory}/{kind}"))  # noqa: PTH115 - a Path for each costs more than the call
        except OSError:
            shown.append("")
    return shown


def made_inside(pid: int, make: Callable[[], Made]) -> Made:
    """Return what `make` makes in the network that a process is in. Raises OSError where that process has gone."""

    def inside() -> Made:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_LIBC.setns(namespace, _NEWNET))
        finally:
            os.close(namespace)
        return make()

    return _in_thread(inside)


def made_apart(make: Callable[[], Made]) -> Made:
    """Return what `make` makes in a network of its own, where nothing is. It lasts as long as what is made there."""

    def apart() -> Made:
        _check(_LIBC.unshare(_NEWNET))
        return make()

    return _in_thread(apart)


def _check(outcome: int) -> None:
    if outcome != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _in_thread(work: Callable[[], Made]) -> Made:
    """Do it in a thread that ends with it: one that could not find its way back must never do anything else."""
    made: list[Made] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            made.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="namespace")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]
