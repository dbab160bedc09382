"""Every error that Bailey raises on purpose.

All derive from BaileyError, whose text is fit to be shown to an operator as it is: what is wrong,
where, and what would be right. Anything else that escapes is a defect.
"""

from __future__ import annotations

from collections.abc import Sequence


class BaileyError(Exception):
    """Something that an operator can understand and act on.

    `details` holds the machine-readable parts of the message, for a module's result.
    """

    def __init__(self, message: str, **details: object) -> None:
        self.details = details
        super().__init__(message)


class InvalidValueError(BaileyError):
    """A value that was given is not acceptable; nothing has been changed."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        message = f"{field}: {value!r} is not valid; allowed: {allowed}"
        super().__init__(message, field=field, value=repr(value), allowed=allowed)


class InvalidSecretError(BaileyError):
    """A secret that was given is not acceptable; its value is never shown."""

    def __init__(self, field: str, allowed: str) -> None:
        super().__init__(f"{field}: the value is not valid; allowed: {allowed}", field=field, allowed=allowed)


class UnsupportedError(BaileyError):
    """A limit or feature that this host or engine cannot enforce; it is refused, never dropped."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        message = f"{field}: {value!r} cannot be enforced on this host: {reason}"
        super().__init__(message, field=field, value=repr(value), reason=reason)


class AdmissionError(BaileyError):
    """What the instances declare together does not fit the host."""


class EngineError(BaileyError):
    """The container engine refused or failed a request; `status` is its HTTP status, if it gave one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


class EngineUnavailableError(EngineError):
    """The container engine does not answer."""


class CommandError(BaileyError):
    """A program of the host's failed."""

    def __init__(self, argv: Sequence[str], returncode: int, stderr: str) -> None:
        self.returncode = returncode
        self.stderr = stderr
        message = f"{' '.join(argv)}: exit status {returncode}: {stderr.strip()}"
        super().__init__(message, argv=list(argv), rc=returncode, stderr=stderr)


class HostError(BaileyError):
    """The host is not in a state in which the work can be done."""


class EnforcementError(BaileyError):
    """The kernel does not hold what was declared, though everything was applied."""
