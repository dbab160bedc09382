"""The registry on its own host: what differs from what is declared, bringing it there, removing it."""

from __future__ import annotations

import grp
import pwd
import re
import secrets
import shutil
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from ..changes import Differences
from ..errors import HostError
from ..host.files import read_text
from . import accounts, authority, listeners, managed, settings
from .authority import Due, Lifetimes
from .certificates import Signer
from .managed import Access, Change, Directory, File
from .settings import Endpoint, Locations

PACKAGE_CONFIGURATION = "/etc/docker/registry/config.yml"
_SECRET_LINE = re.compile(r"^(\s+secret:) .*$", re.MULTILINE)
_HTTP_SECRET = re.compile(r"[\w-]{32,}")


@dataclass(frozen=True)
class Declared:
    """A registry as it is declared."""

    endpoint: Endpoint
    locations: Locations
    lifetimes: Lifetimes
    account: str
    username: str
    password: str | None
    generate_password: bool


@dataclass(frozen=True)
class Report:
    """What was changed, or would be, and whether it is of what the registry reads only when it starts."""

    differences: Differences
    restart_needed: bool


def present(declared: Declared, now: datetime, *, check_mode: bool) -> Report:
    """Bring the registry's files to what is declared."""
    refuse_conflicts(declared)
    plan = _Plan(declared, now, check_mode=check_mode)
    differences = Differences()
    for directory in plan.directories:
        directory.compare(differences)
    for file in plan.files:
        file.compare(differences)
    if differences and not check_mode:
        managed.apply(plan.directories, plan.files)
    return Report(differences, plan.restart)


def absent(locations: Locations, *, remove_data: bool, check_mode: bool) -> Differences:
    """Remove the registry's files, and with `remove_data` what was stored in it."""
    running = listeners.registries(str(locations.configuration))
    if running and not check_mode:
        raise HostError(f"{running[0].describe()} still serves {locations.configuration}; stop it first")
    doomed = [path for path in locations.files if path.exists()]
    if remove_data and locations.storage.exists():
        _refuse_foreign_data(locations.storage)
        doomed.append(locations.storage)
    for directory in locations.directories:
        if directory.is_dir() and directory not in doomed and set(directory.iterdir()) <= set(doomed):
            doomed.append(directory)
    differences = Differences()
    for path in doomed:
        differences.add(str(path), "present", None)
        if not check_mode:
            _remove(path)
    return differences


def refuse_conflicts(declared: Declared) -> None:
    """Refuse a port that another program holds, and a host on which the package's own registry runs."""
    for process in listeners.registries(PACKAGE_CONFIGURATION):
        raise HostError(
            f"{process.describe()} serves {PACKAGE_CONFIGURATION}: this host already is another registry; "
            "stop and disable it (service docker-registry), or choose another host"
        )
    port = declared.endpoint.port
    if not listeners.is_listening(port):
        return
    ours = listeners.registries(str(declared.locations.configuration))
    others = [process for process in listeners.listeners(port) if process not in ours]
    if others or not ours:
        owner = others[0].describe() if others else "a process that cannot be seen from here"
        raise HostError(f"port: {port} is in use by {owner}; choose a free port, or stop that program")


class _Plan:
    """The directories and files of one registry, each with the change that is due."""

    def __init__(self, declared: Declared, now: datetime, *, check_mode: bool) -> None:
        self._declared = declared
        self._now = now
        self.restart = False
        where = declared.locations
        self._authority_key = read_text(where.authority_key)
        self._authority = read_text(where.authority_certificate)
        uid, gid = _find_account(declared.account, required=not check_mode)
        group_reads = Access(0o640, 0, gid)
        self.directories = [
            Directory(where.authority, Access(0o755)),
            Directory(where.secrets, Access(0o700)),
            Directory(where.config, Access(0o750, 0, gid)),
            Directory(where.storage, Access(0o750, uid, gid)),
        ]
        self.files = [
            *self._authority_files(),
            File(where.certificate, group_reads, self._server_change()),
            *self._password_files(group_reads),
            *self._configuration_files(group_reads),
        ]

    @cached_property
    def _authority_due(self) -> Due | None:
        return authority.authority_due(self._authority_key, self._authority, self._declared.lifetimes, self._now)

    @cached_property
    def _signer(self) -> Signer:
        """The authority as it will be. Made once: three files depend on it."""
        if self._authority_due or self._authority is None or self._authority_key is None:
            return authority.make_authority(self._authority_key, self._declared.lifetimes, self._now)
        return Signer(self._authority, self._authority_key)

    def _authority_files(self) -> list[File]:
        where, due = self._declared.locations, self._authority_due
        key = Change(None, "new key", lambda: self._signer.key) if self._authority_key is None else None
        certificate = None
        if due is not None:
            after = f"holds for {due.days} days"
            certificate = Change(due.reason, after, lambda: self._signer.certificate)
        return [
            File(where.authority_key, Access(0o600), key),
            File(where.authority_certificate, Access(0o644), certificate),
        ]

    def _server_change(self) -> Change | None:
        names, lifetimes = self._declared.endpoint.names, self._declared.lifetimes
        if self._authority_due or self._authority is None:
            due: Due | None = Due("authority is new", lifetimes.certificate_days)
        else:
            present = read_text(self._declared.locations.certificate)
            due = authority.server_due(present, names, self._authority, lifetimes, self._now)
        if due is None:
            return None
        self.restart = True
        after = f"holds for {due.days} days, names {', '.join(sorted(names))}"
        return Change(due.reason, after, lambda: authority.make_server(names, self._signer, lifetimes, self._now))

    def _password_files(self, access: Access) -> list[File]:
        declared, where = self._declared, self._declared.locations
        password, generated = accounts.find_password(
            declared.password, where.password, generate=declared.generate_password
        )
        files = []
        if not declared.password:
            change = Change(None, "new password", lambda: password + "\n") if generated else None
            files.append(File(where.password, Access(0o600), change))
        before = f"accounts: {', '.join(accounts.usernames(where.htpasswd)) or 'none'}"
        htpasswd = Change(
            before,
            f"accounts: {declared.username} (new password hash)",
            lambda: accounts.entry(declared.username, password),
        )
        due = not accounts.holds(where.htpasswd, declared.username, password)
        return [*files, File(where.htpasswd, access, htpasswd if due else None)]

    def _configuration_files(self, access: Access) -> list[File]:
        where = self._declared.locations
        kept = (read_text(where.http_secret) or "").strip()
        new = not _HTTP_SECRET.fullmatch(kept)
        secret = secrets.token_urlsafe(32) if new else kept
        text = settings.configuration(self._declared.endpoint, where, secret)
        before = read_text(where.configuration)
        secret_change = Change(None, "new secret", lambda: secret + "\n") if new else None
        change = None
        if before != text:
            self.restart = True
            shown = _mask(text)
            same = _mask(before or "") == shown
            change = Change(_mask(before or ""), "another secret" if same else shown, lambda: text)
        return [
            File(where.http_secret, Access(0o600), secret_change),
            File(where.configuration, access, change),
        ]


def _find_account(name: str, *, required: bool) -> tuple[int | None, int | None]:
    """Return the ids of an account and of the group of the same name; None where it is still to be made."""
    try:
        return pwd.getpwnam(name).pw_uid, grp.getgrnam(name).gr_gid
    except KeyError:
        if required:
            raise HostError(f"account: {name} is not an account with a group of its name on this host") from None
        return None, None


def _refuse_foreign_data(storage: Path) -> None:
    foreign = sorted(entry.name for entry in storage.iterdir() if entry.name != "docker")
    if foreign:
        raise HostError(f"storage_dir: {storage} also holds {', '.join(foreign)}, not a registry's; not removed")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _mask(text: str) -> str:
    """Hide the secret in a configuration."""
    return _SECRET_LINE.sub(r"\1 (hidden)", text)
