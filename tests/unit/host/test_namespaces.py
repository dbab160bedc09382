"""Work in another namespace is done by a thread of its own, and what becomes of it comes back."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from pathlib import Path

import pytest
from bailey.host import namespaces


class Libc:
    """A C library whose setns has an outcome that a test chose."""

    def __init__(self, outcome: int) -> None:
        self._outcome = outcome
        self.entered: list[str] = []

    def setns(self, descriptor: int, kind: int) -> int:
        assert kind == 0x40000000
        self.entered.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        if self._outcome:
            ctypes.set_errno(self._outcome)
        return -1 if self._outcome else 0

    def unshare(self, kind: int) -> int:
        assert kind == 0x40000000
        self.entered.append("a new one")
        if self._outcome:
            ctypes.set_errno(self._outcome)
        return -1 if self._outcome else 0


def libc(monkeypatch: pytest.MonkeyPatch, outcome: int = 0) -> Libc:
    made = Libc(outcome)
    monkeypatch.setattr(namespaces, "_LIBC", made)
    return made


def test_what_a_process_has_to_itself(tmp_path: Path) -> None:
    for pid, numbers in {"self": {"net": 1, "pid": 2, "uts": 3}, "7": {"net": 1, "pid": 9, "ipc": 4}}.items():
        (tmp_path / pid / "ns").mkdir(parents=True)
        for kind, number in numbers.items():
            (tmp_path / pid / "ns" / kind).symlink_to(f"{kind}:[{number}]")
    # Of uts and ipc only one side can be read: that proves nothing.
    assert namespaces.own_namespaces(7, tmp_path) == {"pid"}
    assert namespaces.own_namespaces(8, tmp_path) == frozenset()
    assert namespaces.own_namespaces(os.getpid()) == frozenset()


def test_what_is_made_comes_from_another_thread_that_has_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = libc(monkeypatch)
    thread = namespaces.made_inside(os.getpid(), threading.current_thread)
    assert thread is not threading.current_thread()
    assert not thread.is_alive()
    assert fake.entered == [str(Path("/proc/self/ns/net").readlink())]


def test_an_error_of_the_work_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    libc(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        namespaces.made_inside(os.getpid(), lambda: 1 // 0)


def test_nothing_is_done_where_the_namespace_cannot_be_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    libc(monkeypatch, errno.EPERM)
    done: list[int] = []
    with pytest.raises(OSError, match=os.strerror(errno.EPERM)):
        namespaces.made_inside(os.getpid(), lambda: done.append(1))
    assert done == []


def test_a_process_that_has_gone_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        namespaces.made_inside(2**22 + 1, threading.current_thread)


def test_a_namespace_of_its_own_is_made_in_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = libc(monkeypatch)
    assert namespaces.made_apart(threading.current_thread) is not threading.current_thread()
    assert fake.entered == ["a new one"]


def test_nothing_is_done_where_none_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    libc(monkeypatch, errno.EPERM)
    done: list[int] = []
    with pytest.raises(OSError, match=os.strerror(errno.EPERM)):
        namespaces.made_apart(lambda: done.append(1))
    assert done == []
