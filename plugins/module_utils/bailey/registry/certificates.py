"""Keys and certificates, made and read with the distribution's openssl.

`openssl ca` is used and not `openssl x509`, because it alone takes exact dates in every supported
version. Keys pass through pipes and private temporary directories only.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..errors import CommandError
from ..host.command import run

# A client whose clock is a little late must not find a new certificate "not yet valid".
CLOCK_TOLERANCE = timedelta(hours=1)

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)
_CONFIGURATION = """\
[ca]
default_ca = bailey
[bailey]
database = {directory}/index
new_certs_dir = {directory}
rand_serial = yes
unique_subject = no
default_md = sha256
policy = policy
[policy]
commonName = supplied
[req]
prompt = no
distinguished_name = subject
[subject]
commonName = {common_name}
[extensions]
{extensions}
"""
_AUTHORITY_EXTENSIONS = """\
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash"""
_SERVER_EXTENSIONS = """\
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}"""


@dataclass(frozen=True)
class Certificate:
    """What is read from a certificate: its last moment, whom it names, and its public key (PEM)."""

    not_after: datetime
    names: frozenset[str]
    public_key: str

    def days_left(self, now: datetime) -> float:
        """Return the days for which the certificate still holds; negative once it has ended."""
        return (self.not_after - now) / timedelta(days=1)


@dataclass(frozen=True)
class Period:
    """From when until when a certificate holds."""

    start: datetime
    end: datetime

    @classmethod
    def days_from(cls, now: datetime, days: int) -> Period:
        """Return the period of so many days that begins now, or a little earlier."""
        return cls(now - CLOCK_TOLERANCE, now + timedelta(days=days))


@dataclass(frozen=True)
class Signer:
    """A certificate authority's certificate and private key, both PEM."""

    certificate: str
    key: str


def new_key() -> str:
    """Make a private key on the P-256 curve."""
    return run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])


def public_key(key: str) -> str | None:
    """Return the public half of a private key, or None where it cannot be read as a key."""
    try:
        return run(["openssl", "pkey", "-pubout"], stdin=key)
    except CommandError:
        return None


def read(text: str) -> Certificate | None:
    """Read a PEM certificate; None where it is not one."""
    if not first_certificate(text):
        return None
    argv = ["openssl", "x509", "-noout", "-enddate", "-ext", "subjectAltName", "-pubkey"]
    try:
        shown = run(argv, stdin=text)
    except CommandError:
        return None
    end = re.search(r"^notAfter=(.+)$", shown, re.MULTILINE)
    key = re.search(r"-----BEGIN PUBLIC KEY-----.+-----END PUBLIC KEY-----\n", shown, re.DOTALL)
    if end is None or key is None:
        return None
    not_after = datetime.fromtimestamp(ssl.cert_time_to_seconds(end[1]), UTC)
    names = re.findall(r"(?:DNS|IP Address):([^,\s]+)", shown)
    return Certificate(not_after, frozenset(_canonical(name) for name in names), key[0])


def first_certificate(text: str) -> str:
    """Return the first certificate of a PEM text that may hold other things too; empty where none is."""
    match = _PEM.search(text)
    return match[0] if match else ""


def issue_authority(common_name: str, key: str, period: Period) -> str:
    """Make the certificate of an authority for `key`, signed by itself."""
    return _issue(common_name, _AUTHORITY_EXTENSIONS, key, None, period)


def issue_server(common_name: str, names: Iterable[str], key: str, signer: Signer, period: Period) -> str:
    """Make a TLS server's certificate for `key` that names DNS names and IP addresses."""
    listed = ",".join(f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in sorted(names))
    return _issue(common_name, _SERVER_EXTENSIONS.format(names=listed), key, signer, period)


def is_signed_by(certificate: str, authority: str) -> bool:
    """Tell whether `authority` signed `certificate`, whatever the dates of both."""
    with tempfile.TemporaryDirectory(prefix="bailey-") as directory:
        ca = Path(directory, "ca.crt")
        ca.write_text(authority)
        try:
            run(["openssl", "verify", "-no_check_time", "-x509_strict", "-CAfile", str(ca)], stdin=certificate)
        except CommandError:
            return False
    return True


def _issue(common_name: str, extensions: str, key: str, signer: Signer | None, period: Period) -> str:
    """Sign a request for `key`, with that same key where no `signer` is given."""
    with tempfile.TemporaryDirectory(prefix="bailey-") as name:
        directory = Path(name)
        configuration = directory / "openssl.cnf"
        configuration.write_text(
            _CONFIGURATION.format(directory=directory, common_name=common_name, extensions=extensions)
        )
        (directory / "index").touch()
        _write_private(directory / "key", key)
        request = directory / "request"
        config = ["-config", str(configuration)]
        run(["openssl", "req", "-new", *config, "-key", str(directory / "key"), "-out", str(request)])
        argv = ["openssl", "ca", "-batch", "-notext", *config, "-in", str(request), "-extensions", "extensions"]
        argv += ["-startdate", _date(period.start), "-enddate", _date(period.end)]
        if signer is None:
            argv += ["-selfsign", "-keyfile", str(directory / "key")]
        else:
            (directory / "ca.crt").write_text(signer.certificate)
            _write_private(directory / "ca.key", signer.key)
            argv += ["-cert", str(directory / "ca.crt"), "-keyfile", str(directory / "ca.key")]
        return first_certificate(run(argv))


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _date(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _canonical(name: str) -> str:
    """Write an address as Python does: openssl prints IPv6 in full."""
    return str(ipaddress.ip_address(name)) if _is_address(name) else name
