"""A client of the registry's HTTP interface (version 2): what is stored in it, and whether it is well.

It trusts one authority's file and nothing else, so that it proves what the engine relies on.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import BaileyError
from .settings import reference

TIMEOUT = 10.0  # seconds
_PAGE = 100  # names asked for at a time; a registry may give fewer
_MAX_ANSWER = 16 << 20  # bytes; a registry accepts manifests of 4 MiB at most
_NEXT = re.compile(r"<(?P<path>/v2/[^>\s]+)>;\s*rel=\"?next\"?")
_ACCEPTED = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)


class RegistryError(BaileyError):
    """The registry refused or failed a request; `status` is its HTTP status, if it gave one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True)
class Credentials:
    """An account of the registry."""

    username: str
    password: str

    def header(self) -> str:
        """Return the value of the Authorization header, as basic authentication has it."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True)
class Manifest:
    """An image: the digest that names it, and the sizes in bytes of the blobs that it is made of."""

    digest: str
    media_type: str
    blobs: dict[str, int]

    @property
    def size(self) -> int:
        """The bytes that it takes up as stored, compressed."""
        return sum(self.blobs.values())


class RegistryClient:
    """One connection to a registry; a context manager. `address` overrides where the name leads."""

    def __init__(
        self,
        name: str,
        port: int,
        ca_file: Path,
        credentials: Credentials | None = None,
        *,
        address: str | None = None,
    ) -> None:
        self.reference = reference(name, port)
        self._headers = {"Authorization": credentials.header()} if credentials else {}
        self._connection = _Connection(name, port, address, _trust(ca_file))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def ping(self) -> None:
        """Raise RegistryError unless the registry answers and accepts the credentials."""
        self._get("/v2/")

    def refuses_anonymous(self) -> bool:
        """Tell whether a request without credentials is turned away."""
        status, _headers, _body = self._exchange("GET", "/v2/", {})
        return status == http.client.UNAUTHORIZED

    @property
    def certificate_end(self) -> datetime | None:
        """When the certificate that the registry shows ends; None before the first request."""
        return self._connection.certificate_end

    def repositories(self) -> Iterator[str]:
        """Yield the names of all repositories."""
        yield from self._pages(f"/v2/_catalog?n={_PAGE}", "repositories")

    def tags(self, repository: str) -> list[str]:
        """Return the tags of a repository, sorted; one whose tags were all deleted has none."""
        try:
            return sorted(self._pages(f"/v2/{repository}/tags/list?n={_PAGE}", "tags"))
        except RegistryError as error:
            if error.status == http.client.NOT_FOUND:
                return []
            raise

    def digest(self, repository: str, tag: str) -> str | None:
        """Return the digest that a tag stands for, or None where there is no such tag."""
        path = f"/v2/{repository}/manifests/{tag}"
        status, answer, _body = self._exchange("HEAD", path, {**self._headers, "Accept": _ACCEPTED})
        if status == http.client.NOT_FOUND:
            return None
        if status != http.client.OK:
            raise self._failure(path, status, b"")
        return answer.get("docker-content-digest")

    def manifest(self, repository: str, tag_or_digest: str) -> Manifest | None:
        """Return an image, or None where there is none; of one for several platforms, all of them together."""
        path = f"/v2/{repository}/manifests/{tag_or_digest}"
        try:
            headers, body = self._get(path, _ACCEPTED)
        except RegistryError as error:
            if error.status == http.client.NOT_FOUND:
                return None
            raise
        document = self._parse(path, body)
        blobs: dict[str, int] = {}
        for child in document.get("manifests", []):
            platform = self.manifest(repository, str(child["digest"]))
            blobs |= platform.blobs if platform else {}
        parts = [*document.get("layers", []), *([document["config"]] if "config" in document else [])]
        blobs |= {str(part["digest"]): int(part["size"]) for part in parts}
        digest = headers.get("docker-content-digest", "")
        return Manifest(digest, headers.get("content-type", ""), blobs)

    def _pages(self, path: str, key: str) -> Iterator[str]:
        following: str | None = path
        while following:
            headers, body = self._get(following)
            yield from map(str, self._parse(following, body).get(key) or [])
            match = _NEXT.search(headers.get("link", ""))
            following = match["path"] if match else None

    def _get(self, path: str, accept: str = "application/json") -> tuple[dict[str, str], bytes]:
        status, headers, body = self._exchange("GET", path, {**self._headers, "Accept": accept})
        if status != http.client.OK:
            raise self._failure(path, status, body)
        return headers, body

    def _exchange(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        try:
            self._connection.request(method, path, headers=headers)
            response = self._connection.getresponse()
            body = response.read(_MAX_ANSWER)
        except ssl.SSLCertVerificationError as error:
            self._connection.close()
            message = f"{self.reference}: its certificate is not trusted: {error.verify_message}"
            raise RegistryError(message) from error
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise RegistryError(f"{self.reference}: does not answer: {error or type(error).__name__}") from error
        return response.status, {name.lower(): value for name, value in response.getheaders()}, body

    def _failure(self, path: str, status: int, body: bytes) -> RegistryError:
        if status == http.client.UNAUTHORIZED:
            return RegistryError(f"{self.reference}: the username or the password is wrong", status)
        text = body[:200].decode(errors="replace").strip()
        return RegistryError(f"{self.reference}: {path}: HTTP status {status} {text}".rstrip(), status)

    def _parse(self, path: str, body: bytes) -> dict[str, Any]:
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise RegistryError(f"{self.reference}: {path}: the answer is not what a registry gives")
        return document


class _Connection(http.client.HTTPSConnection):
    """HTTPS to an address other than where the name leads, with the certificate checked for the name."""

    def __init__(self, name: str, port: int, address: str | None, context: ssl.SSLContext) -> None:
        super().__init__(name, port, timeout=TIMEOUT, context=context)
        self._context = context
        self._address = address or name
        self.certificate_end: datetime | None = None

    def connect(self) -> None:
        """Connect, and check the certificate."""
        plain = socket.create_connection((self._address, self.port), TIMEOUT)
        try:
            secured = self._context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
        self.sock = secured
        self.certificate_end = _moment(str((secured.getpeercert() or {})["notAfter"]))


def authority_end(ca_file: Path) -> datetime:
    """Return when the authority's certificate ends."""
    return min(_moment(str(shown["notAfter"])) for shown in _trust(ca_file).get_ca_certs())


def _trust(ca_file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cafile=str(ca_file))
    except OSError as error:  # an SSLError too
        raise RegistryError(f"{ca_file}: cannot be read as an authority's certificate: {error}") from error
    if not context.get_ca_certs():
        raise RegistryError(f"{ca_file}: holds no authority's certificate")
    return context


def _moment(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)
