"""What can go wrong between a client and wshd, each kind with what an operator can do about it."""

from __future__ import annotations

import os

from ..errors import HostError


class WshError(HostError):
    """A session could not be had, or broke off."""


class NoSuchInstanceError(WshError):
    """There is no instance of that name on this host."""


class GateClosedError(WshError):
    """The instance is there and does not run behind its limits; `reason` says why."""

    def __init__(self, name: str, status: str, reason: str) -> None:
        self.status = status
        self.reason = reason
        told = f": {reason}" if reason else ""
        super().__init__(f"{name}: no session while the instance is {status}{told}", name=name, status=status)


class UnreachableError(WshError):
    """Nothing answers on the control socket, or it broke off before the session's end.

    `missing` says that there is no such socket.
    """

    def __init__(self, message: str, *, missing: bool = False) -> None:
        self.missing = missing
        super().__init__(message)


class ProtocolError(WshError):
    """What came over a socket is not the protocol."""


class SessionError(WshError):
    """wshd refused or gave up the session; `code` is one of protocol.ErrorCode."""

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message, code=code)


class CannotExecuteError(SessionError):
    """The program could not be started; `errno` says why."""

    def __init__(self, message: str, code: int, errno: int) -> None:
        self.errno = errno
        super().__init__(f"{message}: {os.strerror(errno)}" if os.strerror(errno) not in message else message, code)
        self.details["errno"] = errno
