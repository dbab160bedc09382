"""What is declared for a registry, parsed once and checked before anything changes."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidValueError
from ..units import parse_count

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PATH = re.compile(r"(?:/[\w.-]+){2,}/?", re.ASCII)
_CONFIGURATION = """\
# Written by Bailey; changes made here are lost.
version: 0.1
log:
  level: info
  accesslog:
    disabled: true
  fields:
    service: bailey-registry
# No blob descriptor cache: it would still tell of blobs after garbage collection has removed them.
storage:
  filesystem:
    rootdirectory: {storage}
  delete:
    enabled: true
http:
  addr: {listen}
  secret: {secret}
  tls:
    certificate: {certificate}
    key: {certificate}
    minimumtls: tls1.2
  headers:
    X-Content-Type-Options: [nosniff]
auth:
  htpasswd:
    realm: bailey-registry
    path: {htpasswd}
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
"""


def parse_name(value: object) -> str:
    """Read the registry's DNS name. It has a dot: the engine takes a first part without one for a folder."""
    allowed = "a lower-case DNS name of at least two parts, such as registry.example.internal"
    if not isinstance(value, str) or len(value) > 253:
        raise InvalidValueError("name", value, allowed)
    labels = value.split(".")
    if len(labels) < 2 or labels[-1].isdigit() or not all(map(_LABEL.fullmatch, labels)):
        raise InvalidValueError("name", value, allowed)
    return value


def parse_port(value: object) -> int:
    """Read a port that an ordinary account may listen on."""
    return parse_count("port", value, 1024, 65535)


def parse_address(value: object) -> str:
    """Read the address at which clients reach the registry.

    Engines do not verify the certificate of a name that leads to a loopback address.
    """
    allowed = "an IP address of the host that is not loopback (engines do not verify TLS there)"
    address = _ip(value)
    if address is None or any(
        (address.is_loopback, address.is_link_local, address.is_multicast, address.is_unspecified)
    ):
        raise InvalidValueError("address", value, allowed)
    return str(address)


def parse_listen_address(value: object) -> str:
    """Read the address on which the registry listens."""
    address = _ip(value)
    if address is None or address.is_link_local or address.is_multicast:
        raise InvalidValueError("listen_address", value, "an IP address of the host, or 0.0.0.0 or :: for all")
    return str(address)


def parse_directory(field: str, value: object) -> Path:
    """Read the absolute path of a directory of the registry's own."""
    allowed = "an absolute path at least two directories deep, of A-Z, a-z, 0-9, . _ - and /, without .."
    if not isinstance(value, str) or not _PATH.fullmatch(value) or ".." in Path(value).parts:
        raise InvalidValueError(field, value, allowed)
    return Path(value)


def reference(name: str, port: int) -> str:
    """Return NAME:PORT, as the engine's files and image references name the registry."""
    return f"{name}:{port}"


@dataclass(frozen=True)
class Locations:
    """Where a registry's files are."""

    config: Path
    authority: Path
    secrets: Path
    storage: Path

    @classmethod
    def parse(cls, config: object, authority: object, secrets: object, storage: object) -> Locations:
        """Read the four directories; they must differ, for each has its own owner and mode."""
        parsed = {
            "config_dir": parse_directory("config_dir", config),
            "authority_dir": parse_directory("authority_dir", authority),
            "secrets_dir": parse_directory("secrets_dir", secrets),
            "storage_dir": parse_directory("storage_dir", storage),
        }
        seen: set[Path] = set()
        for field, path in parsed.items():
            if path in seen:
                raise InvalidValueError(field, str(path), "a directory that nothing else of the registry uses")
            seen.add(path)
        return cls(*parsed.values())

    @property
    def configuration(self) -> Path:
        """The registry's configuration file."""
        return self.config / "config.yml"

    @property
    def htpasswd(self) -> Path:
        """The accounts that the registry accepts."""
        return self.config / "htpasswd"

    @property
    def certificate(self) -> Path:
        """The server's certificate and its key."""
        return self.config / "server.pem"

    @property
    def authority_certificate(self) -> Path:
        """The certificate that clients trust."""
        return self.authority / "ca.crt"

    @property
    def authority_key(self) -> Path:
        """The authority's private key."""
        return self.authority / "ca.key"

    @property
    def http_secret(self) -> Path:
        """The secret with which the registry signs the state of uploads."""
        return self.secrets / "registry_http_secret"

    @property
    def password(self) -> Path:
        """The account's password, where it was generated on the host."""
        return self.secrets / "registry_password"

    @property
    def files(self) -> list[Path]:
        """Every file, those first that nothing else depends on."""
        return [
            self.configuration,
            self.htpasswd,
            self.certificate,
            self.authority_certificate,
            self.authority_key,
            self.http_secret,
            self.password,
        ]

    @property
    def directories(self) -> list[Path]:
        """The four directories."""
        return [self.config, self.authority, self.secrets, self.storage]


@dataclass(frozen=True)
class Endpoint:
    """Under what name and address the registry is reached, and where it listens."""

    name: str
    address: str
    listen_address: str
    port: int

    @classmethod
    def parse(cls, name: object, address: object, listen_address: object, port: object) -> Endpoint:
        """Read the four; without `listen_address` the registry listens on `address` alone."""
        parsed = parse_address(address)
        listen = parsed if listen_address in (None, "") else parse_listen_address(listen_address)
        return cls(parse_name(name), parsed, listen, parse_port(port))

    @property
    def names(self) -> frozenset[str]:
        """What the server's certificate names."""
        return frozenset({self.name, self.address})


def configuration(endpoint: Endpoint, locations: Locations, secret: str) -> str:
    """Write the registry's configuration. JSON strings are YAML strings."""
    host = f"[{endpoint.listen_address}]" if ":" in endpoint.listen_address else endpoint.listen_address
    return _CONFIGURATION.format(
        storage=json.dumps(str(locations.storage)),
        listen=json.dumps(f"{host}:{endpoint.port}"),
        secret=json.dumps(secret),
        certificate=json.dumps(str(locations.certificate)),
        htpasswd=json.dumps(str(locations.htpasswd)),
    )


def _ip(value: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None
