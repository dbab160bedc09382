"""A kernel on the other side of netlink that answers as a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from bailey.host.netlink import Message, NetlinkError

Answer = Callable[[bytes], list[Message]]


class FakeNetlink:
    """Stands for Netlink: each kind of request has its answer, and one without is done in silence."""

    def __init__(self) -> None:
        self.answers: dict[int, Answer] = {}
        self.asked: list[tuple[int, bytes, int]] = []

    def __call__(self, *_: Any, **__: Any) -> FakeNetlink:
        return self

    def __enter__(self) -> FakeNetlink:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def request(self, kind: int, body: bytes, flags: int = 0) -> list[Message]:
        self.asked.append((kind, body, flags))
        answer = self.answers.get(kind)
        return [] if answer is None else answer(body)

    def dump(self, kind: int, body: bytes, flags: int = 0) -> list[Message]:
        return self.request(kind, body, flags)

    def changes(self, *reading: int) -> list[tuple[int, bytes, int]]:
        """Return what was asked, but for what only reads."""
        return [asked for asked in self.asked if asked[0] not in reading]


def missing(_body: bytes) -> list[Message]:
    raise NetlinkError(errno.ENOENT, "No such file or directory")
