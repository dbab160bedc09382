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
from .certificates import Certificate, Signer

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
class Authority:
    """The authority as it is to be; `reason` says why its certificate is new, None where it is not."""

    signer: Signer
    certificate: Certificate
    reason: str | None


@dataclass(frozen=True)
class ServerCertificate:
    """The server's certificate and key in one PEM text, so that they are replaced in one step."""

    pem: str
    certificate: Certificate
    reason: str | None


def plan_authority(key: str | None, text: str | None, lifetimes: Lifetimes, now: datetime) -> Authority:
    """Keep the authority that is there, or make it, or renew its certificate for the same key.

    It is renewed while it still has a whole server certificate's life before it, so that no
    certificate outlives its authority.
    """
    new = key is None
    if key is None:
        key = certificates.new_key()
    public = certificates.public_key(key)
    if public is None:
        raise HostError(
            "the authority's key is not a private key; restore it, or move it away to begin a new authority, "
            "which every host must then be given"
        )
    present = None if text is None else certificates.read(text)
    reason = "new key" if new else _authority_reason(present, public, lifetimes, now)
    if reason is None and text is not None and present is not None:
        return Authority(Signer(text, key), present, None)
    issued = certificates.issue_authority(AUTHORITY_NAME, key, now, lifetimes.authority_days)
    return Authority(Signer(issued, key), _read_issued(issued), reason)


def plan_server(
    text: str | None, names: frozenset[str], authority: Authority, lifetimes: Lifetimes, now: datetime
) -> ServerCertificate:
    """Keep the server's certificate, or make a new one with a new key where it is due."""
    certificate = certificates.first_certificate(text or "")
    present = certificates.read(certificate) if certificate else None
    reason = _server_reason(text, present, names, lifetimes, now)
    if reason is None and not certificates.is_signed_by(certificate, authority.signer.certificate):
        reason = "not signed by the authority"
    if reason is None and text is not None and present is not None:
        return ServerCertificate(text, present, None)
    key = certificates.new_key()
    issued = certificates.issue_server(
        SERVER_NAME, names, key, authority.signer, now, lifetimes.certificate_days
    )
    return ServerCertificate(issued + key, _read_issued(issued), reason)


def _authority_reason(
    present: Certificate | None, public: str, lifetimes: Lifetimes, now: datetime
) -> str | None:
    if present is None:
        return "no certificate"
    if present.public_key != public:
        return "certificate is not for the key"
    if present.days_left(now) < lifetimes.certificate_days:
        return f"ends {present.not_after:%Y-%m-%d}"
    return None


def _server_reason(
    text: str | None, present: Certificate | None, names: frozenset[str], lifetimes: Lifetimes, now: datetime
) -> str | None:
    if text is None or present is None:
        return "no certificate"
    if certificates.public_key(text) != present.public_key:
        return "certificate is not for the key"
    if present.names != names:
        return f"names {', '.join(sorted(present.names))}"
    if present.days_left(now) < lifetimes.renew_before_days:
        return f"ends {present.not_after:%Y-%m-%d}"
    return None


def _read_issued(text: str) -> Certificate:
    certificate = certificates.read(text)
    if certificate is None:
        raise HostError("openssl made a certificate that it cannot read back")
    return certificate
