"""Certificates by the real openssl: what they hold, and when they are due."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bailey.errors import HostError, InvalidValueError
from bailey.host.command import run
from bailey.registry import authority, certificates
from bailey.registry.authority import Lifetimes
from bailey.registry.certificates import Signer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIFETIMES = Lifetimes.parse(365, 60, 3650)
NAMES = frozenset({"registry.bailey.internal", "10.0.0.5", "2001:db8::5"})


@pytest.fixture(scope="module")
def signer() -> Signer:
    return authority.make_authority(None, LIFETIMES, NOW)


@pytest.fixture(scope="module")
def server(signer: Signer) -> str:
    return authority.make_server(NAMES, signer, LIFETIMES, NOW)


def later(days: float) -> datetime:
    return NOW + timedelta(days=days)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ((0, 0, 10), "certificate_days"),
        ((10, 10, 100), "certificate_renew_before_days"),
        ((10, -1, 100), "certificate_renew_before_days"),
        ((10, 5, 19), "authority_days"),
        (("soon", 5, 100), "certificate_days"),
    ],
)
def test_lifetimes_that_contradict_each_other_are_refused(values: tuple[object, ...], field: str) -> None:
    with pytest.raises(InvalidValueError, match=f"^{field}: "):
        Lifetimes.parse(*values)


def test_a_certificate_is_read_back(server: str) -> None:
    found = certificates.read(server)
    assert found is not None
    assert found.names == NAMES
    assert found.not_after == later(365)
    assert found.public_key == certificates.public_key(server)


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_reads_as_none(text: str) -> None:
    assert certificates.read(text) is None


def test_a_strict_client_accepts_both(signer: Signer, server: str, tmp_path: Path) -> None:
    for name, text in (("ca.crt", signer.certificate), ("server.crt", certificates.first_certificate(server))):
        (tmp_path / name).write_text(text)
    argv = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-attime", str(int(later(1).timestamp()))]
    argv += ["-verify_hostname", "registry.bailey.internal", "-CAfile", str(tmp_path / "ca.crt")]
    assert "OK" in run([*argv, str(tmp_path / "server.crt")])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(str(tmp_path / "ca.crt"))
    assert len(context.get_ca_certs()) == 1


def test_the_authority_signs_servers_only(signer: Signer) -> None:
    shown = run(["openssl", "x509", "-noout", "-ext", "basicConstraints,keyUsage"], stdin=signer.certificate)
    assert "CA:TRUE, pathlen:0" in shown
    assert "Certificate Sign, CRL Sign" in shown


def test_an_authority_is_due_without_key_or_certificate(signer: Signer) -> None:
    assert authority.authority_due(None, None, LIFETIMES, NOW) is not None
    assert authority.authority_due(None, signer.certificate, LIFETIMES, NOW) is not None
    assert authority.authority_due(signer.key, None, LIFETIMES, NOW) is not None
    assert authority.authority_due(certificates.new_key(), signer.certificate, LIFETIMES, NOW) is not None
    assert authority.authority_due(signer.key, signer.certificate, LIFETIMES, NOW) is None


def test_a_key_that_cannot_be_read_is_never_replaced(signer: Signer) -> None:
    with pytest.raises(HostError, match="not a private key"):
        authority.authority_due("nonsense", signer.certificate, LIFETIMES, NOW)


def test_no_certificate_outlives_its_authority(signer: Signer) -> None:
    assert authority.authority_due(signer.key, signer.certificate, LIFETIMES, later(3284)) is None
    due = authority.authority_due(signer.key, signer.certificate, LIFETIMES, later(3286))
    assert due is not None
    assert due.reason.startswith("ends 2036-")


def test_old_and_new_authority_both_verify_both_certificates(signer: Signer, server: str) -> None:
    renewed = authority.make_authority(signer.key, LIFETIMES, later(3300))
    newer = authority.make_server(NAMES, renewed, LIFETIMES, later(3300))
    for text in (server, newer):
        for ca in (signer.certificate, renewed.certificate):
            assert certificates.is_signed_by(certificates.first_certificate(text), ca)


def test_a_server_certificate_is_kept_until_it_is_due(signer: Signer, server: str) -> None:
    def due(text: str | None, names: frozenset[str], days: float) -> str | None:
        found = authority.server_due(text, names, signer.certificate, LIFETIMES, later(days))
        return found.reason if found else None

    assert due(server, NAMES, 0) is None
    assert due(server, NAMES, 304.9) is None
    assert due(server, NAMES, 305.1) == "ends 2027-03-01"
    assert due(server, NAMES, 400) == "ends 2027-03-01"
    assert due(None, NAMES, 0) == "no certificate"
    assert due(certificates.first_certificate(server), NAMES, 0) == "certificate is not for the key"
    assert due(certificates.first_certificate(server) + certificates.new_key(), NAMES, 0) == (
        "certificate is not for the key"
    )
    assert due(server, NAMES | {"10.0.0.6"}, 0) == "names 10.0.0.5, 2001:db8::5, registry.bailey.internal"


def test_a_certificate_of_another_authority_is_replaced(server: str) -> None:
    other = authority.make_authority(None, LIFETIMES, NOW)
    due = authority.server_due(server, NAMES, other.certificate, LIFETIMES, NOW)
    assert due is not None
    assert due.reason == "not signed by the authority"
