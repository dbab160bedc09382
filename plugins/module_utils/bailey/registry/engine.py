"""What a host's container engine needs to use the registry: trust in its authority, and a login.

Both are the engine's own files: certs.d/NAME:PORT/ca.crt and the client's config.json. The second
is shared with whoever else logs in from this account; their entries stay as they are.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..changes import Differences
from ..errors import HostError, InvalidValueError
from ..host.files import read_text
from . import certificates, managed
from .client import Credentials
from .managed import Access, Change, Directory, File

CERTS_D = Path("/etc/docker/certs.d")
CONFIG = Path("/root/.docker/config.json")


@dataclass(frozen=True)
class EngineFiles:
    """The files of one registry (NAME:PORT) on an engine's host."""

    reference: str
    certs_d: Path
    config: Path

    @property
    def trust(self) -> Path:
        """The file of the authorities that the engine accepts for this registry."""
        return self.certs_d / self.reference / "ca.crt"

    def credentials(self) -> Credentials | None:
        """Return the login kept for this registry, None where there is none."""
        document = _read_config(self.config)
        encoded = _auths(document, self.config).get(self.reference, {}).get("auth", "")
        try:
            username, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise HostError(f"{self.config}: the entry of {self.reference} cannot be read") from None
        return Credentials(username, password) if password else None


def present(files: EngineFiles, ca: str, credentials: Credentials, *, check_mode: bool) -> Differences:
    """Give the engine trust and login; whatever else the files hold stays."""
    if not certificates.first_certificate(ca):
        raise InvalidValueError("ca", ca[:40], "a certificate in PEM form")
    directories = [
        Directory(files.certs_d, Access(0o755), shared=True),
        Directory(files.trust.parent, Access(0o755)),
        Directory(files.config.parent, Access(0o700), shared=True),
    ]
    changes = [
        File(files.trust, Access(0o644), _trust_change(files, ca)),
        File(files.config.resolve(), Access(0o600), _login_change(files, credentials)),
    ]
    differences = Differences()
    for directory in directories:
        directory.compare(differences)
    for file in changes:
        file.compare(differences)
    if differences and not check_mode:
        managed.apply(directories, changes)
    return differences


def absent(files: EngineFiles, *, check_mode: bool) -> Differences:
    """Take trust and login away, and the files and directories that nothing else is left in."""
    differences = Differences()
    document = _read_config(files.config)
    logged_in = files.reference in _auths(document, files.config)
    if logged_in:
        differences.add(f"{files.config} {files.reference}", "login", None)
    if files.trust.exists():
        differences.add(str(files.trust), "present", None)
    if check_mode:
        return differences
    if logged_in:
        _remove_login(files, document)
    if files.trust.exists():
        files.trust.unlink()
    for directory in (files.trust.parent, files.certs_d, files.config.parent):
        if differences and directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
    return differences


def _trust_change(files: EngineFiles, ca: str) -> Change | None:
    present_ca = read_text(files.trust)
    if present_ca == ca:
        return None
    return Change(present_ca, ca, lambda: ca)


def _login_change(files: EngineFiles, credentials: Credentials) -> Change | None:
    document = _read_config(files.config)
    helper = document.get("credsStore") or document.get("credHelpers", {}).get(files.reference)
    if helper:
        raise HostError(
            f"{files.config}: the engine keeps its logins in the helper {helper}, so one written here would "
            "not be used; log in by hand, or choose another docker_config"
        )
    if files.credentials() == credentials:
        return None
    auths = _auths(document, files.config)
    before = "login" if files.reference in auths else None
    encoded = credentials.header().removeprefix("Basic ")
    merged = {**document, "auths": {**auths, files.reference: {"auth": encoded}}}
    return Change(before, f"login as {credentials.username}", lambda: _dump(merged))


def _remove_login(files: EngineFiles, document: dict[str, Any]) -> None:
    auths = {name: entry for name, entry in document["auths"].items() if name != files.reference}
    rest = {key: value for key, value in document.items() if key != "auths"} | ({"auths": auths} if auths else {})
    if rest:
        File(files.config.resolve(), Access(0o600), None).write(_dump(rest))
    else:
        files.config.unlink()


def _read_config(path: Path) -> dict[str, Any]:
    text = read_text(path)
    if text is None or not text.strip():
        return {}
    try:
        document = json.loads(text)
    except ValueError as error:
        raise HostError(f"{path}: is not JSON ({error}); correct or remove it") from None
    if not isinstance(document, dict):
        raise HostError(f"{path}: is not a JSON object; correct or remove it")
    return document


def _auths(document: dict[str, Any], path: Path) -> dict[str, Any]:
    auths = document.get("auths") or {}
    if not isinstance(auths, dict) or not all(isinstance(entry, dict) for entry in auths.values()):
        raise HostError(f"{path}: auths is not an object of objects; correct or remove it")
    return auths


def _dump(document: dict[str, Any]) -> str:
    return json.dumps(document, indent="\t") + "\n"
