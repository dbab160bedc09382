"""The internal certificate authority and the registry's certificate: what is due, and why.

The authority is renewed with the same key and name. So its old and its new certificate both verify
every server certificate, and a host that still trusts the old one goes on working until that ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..errors import HostError, InvalidValueError
from ..units import parse_count
from . import certificates
from .certificates import Certificate, Period, Signer

AUTHORITY_NAME = "Bailey internal authority"
SERVER_NAME = "Bailey registry"
MAX_DAYS = 36500


@dataclass(frozen=True)
class Lifetimes:
    """Days for which certificates hold, and the days before its end at which the server's is renewed."""

    certificate_days: int
    renew_before_days: int
    authority_days: int

    @classmethod
    def parse(cls, certificate_days: object, renew_before_days: object, authority_days: object) -> Lifetimes:
        """Read and compare the three; a certificate must outlive its renewal, and its authority both."""
        certificate = parse_count("certificate_days", certificate_days, 1, MAX_DAYS)
        before = parse_count("certificate_renew_before_days", renew_before_days, 0, MAX_DAYS)
        authority = parse_count("authority_days", authority_days, 1, MAX_DAYS)
        if before >= certificate:
            allowed = f"fewer days than certificate_days ({certificate})"
            raise InvalidValueError("certificate_renew_before_days", before, allowed)
        if authority < 2 * certificate:
            allowed = f"at least twice certificate_days ({certificate})"
            raise InvalidValueError("authority_days", authority, allowed)
        return cls(certificate, before, authority)


@dataclass(frozen=True)
class Due:
    """A certificate that has to be made: why, and for how many days it will hold."""

    reason: str
    days: int


def authority_due(key: str | None, text: str | None, lifetimes: Lifetimes, now: datetime) -> Due | None:
    """Tell why the authority needs a new certificate, None where it does not.

    It is renewed while it still has a whole server certificate's life before it, so that no
    certificate outlives its authority. A key that cannot be read is refused: it may be restored.
    """
    if key is None:
        return Due("no key", lifetimes.authority_days)
    public = certificates.public_key(key)
    if public is None:
        raise HostError(
            "the authority's key is not a private key; restore it, or move it away to begin a new authority, "
            "which every host must then be given"
        )
    reason = _authority_reason(certificates.read(text or ""), public, lifetimes, now)
    return None if reason is None else Due(reason, lifetimes.authority_days)


def make_authority(key: str | None, lifetimes: Lifetimes, now: datetime) -> Signer:
    """Make the authority's certificate for its key, or for a new one where there is none."""
    key = key or certificates.new_key()
    period = Period.days_from(now, lifetimes.authority_days)
    return Signer(certificates.issue_authority(AUTHORITY_NAME, key, period), key)


def server_due(
    text: str | None, names: frozenset[str], authority: str, lifetimes: Lifetimes, now: datetime
) -> Due | None:
    """Tell why the server needs a new certificate, None where it does not. `text` is it and its key."""
    certificate = certificates.first_certificate(text or "")
    reason = _server_reason(text or "", certificates.read(certificate), names, lifetimes, now)
    if reason is None and not certificates.is_signed_by(certificate, authority):
        reason = "not signed by the authority"
    return None if reason is None else Due(reason, lifetimes.certificate_days)


def make_server(names: frozenset[str], signer: Signer, lifetimes: Lifetimes, now: datetime) -> str:
    """Make a certificate and a new key in one text, so that both are replaced in one step."""
    key = certificates.new_key()
    period = Period.days_from(now, lifetimes.certificate_days)
    return certificates.issue_server(SERVER_NAME, names, key, signer, period) + key


def _authority_reason(present: Certificate | None, public: str, lifetimes: Lifetimes, now: datetime) -> str | None:
    if present is None:
        return "no certificate"
    if present.public_key != public:
        return "certificate is not for the key"
    if present.days_left(now) < lifetimes.certificate_days:
        return f"ends {present.not_after:%Y-%m-%d}"
    return None


def _server_reason(
    text: str, present: Certificate | None, names: frozenset[str], lifetimes: Lifetimes, now: datetime
) -> str | None:
    if present is None:
        return "no certificate"
    if certificates.public_key(text) != present.public_key:
        return "certificate is not for the key"
    if present.names != names:
        return f"names {', '.join(sorted(present.names))}"
    if present.days_left(now) < lifetimes.renew_before_days:
        return f"ends {present.not_after:%Y-%m-%d}"
    return None
