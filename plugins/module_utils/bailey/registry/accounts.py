"""The registry's one account: its password, and the htpasswd file that the registry checks it against."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from ..errors import BaileyError, CommandError, InvalidSecretError, InvalidValueError
from ..host.command import run
from ..host.files import read_text

# bcrypt reads no more than 72 bytes; a longer password would be cut without a word.
MIN_PASSWORD, MAX_PASSWORD = 12, 72
# The registry checks the hash on every request (50 ms at 10), so the cost is not higher.
BCRYPT_COST = "10"
_WRONG_PASSWORD, _NO_SUCH_USER = 3, 6
_USERNAME = re.compile(r"[a-z][a-z0-9_.-]{0,31}")


class MissingPasswordError(BaileyError):
    """Neither a password nor a way to come by one was given."""


def parse_username(value: object) -> str:
    """Read an account's name."""
    if not isinstance(value, str) or not _USERNAME.fullmatch(value):
        raise InvalidValueError("username", value, "1 to 32 of a-z, 0-9, dot, dash, underscore, a letter first")
    return value


def parse_password(field: str, value: str) -> str:
    """Check a password; it is never shown."""
    allowed = f"{MIN_PASSWORD} to {MAX_PASSWORD} printable ASCII characters"
    if not MIN_PASSWORD <= len(value) <= MAX_PASSWORD or not value.isascii() or not value.isprintable():
        raise InvalidSecretError(field, allowed)
    return value


def find_password(given: str | None, kept: Path, *, generate: bool) -> tuple[str, bool]:
    """Return the password, and whether it was made just now and has yet to be written to `kept`."""
    if given:
        return parse_password("password", given), False
    if not generate:
        raise MissingPasswordError("password: none is given, and generate_password is not true")
    present = read_text(kept)
    if present is not None:
        return parse_password(str(kept), present.strip()), False
    return secrets.token_urlsafe(24), True


def usernames(file: Path) -> list[str]:
    """Return the accounts of an htpasswd file."""
    return [line.partition(":")[0] for line in (read_text(file) or "").splitlines()]


def holds(file: Path, username: str, password: str) -> bool:
    """Tell whether an htpasswd file has exactly this account with this password, hashed by bcrypt."""
    lines = (read_text(file) or "").splitlines()
    if len(lines) != 1 or not lines[0].startswith(f"{username}:$2y${BCRYPT_COST}$"):
        return False
    try:
        run(["htpasswd", "-v", "-i", str(file), username], stdin=password)
    except CommandError as error:
        if error.returncode in (_WRONG_PASSWORD, _NO_SUCH_USER):
            return False
        raise
    return True


def entry(username: str, password: str) -> str:
    """Make an htpasswd line, the password hashed by bcrypt."""
    made = run(["htpasswd", "-n", "-i", "-B", "-C", BCRYPT_COST, username], stdin=password)
    return made.strip() + "\n"
