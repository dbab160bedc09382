"""What a build reads: files with modes, from a directory of the host or given inline.

The archive that is sent and the digest are both made from the same list, in one order, without
owners and times: what does not change the result does not change the digest either.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib
import io
import stat
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from ..errors import BaileyError, InvalidValueError

_IGNORE_FILE = ".dockerignore"
_MODES = "an octal mode such as '0644', without setuid, setgid and sticky bits"


@dataclass(frozen=True)
class Entry:
    """One file, directory (no content, no target) or symbolic link of a context."""

    path: str
    mode: int
    content: bytes | Path | None = None
    target: str | None = None

    def read(self) -> bytes:
        """Return the file's content."""
        if isinstance(self.content, Path):
            return self.content.read_bytes()
        return self.content or b""

    def digest(self) -> str:
        """Return a digest of the path, the kind, the mode and the content."""
        kind = "link" if self.target is not None else "directory" if self.content is None else "file"
        content = self.target.encode() if self.target is not None else self.read()
        header = f"{kind}\0{self.mode:o}\0{self.path}\0".encode()
        return hashlib.sha256(header + hashlib.sha256(content).digest()).hexdigest()


def read_directory(field: str, root: Path) -> list[Entry]:
    """List a context directory, less what its .dockerignore names."""
    if not root.is_dir():
        raise InvalidValueError(field, str(root), "a directory of the host that holds the build's files")
    try:
        return [_entry(field, root, path) for path in _included(root)]
    except OSError as error:
        raise BaileyError(f"{field}: {root} cannot be read: {error}") from error


def _included(root: Path) -> list[Path]:
    ignore = root / _IGNORE_FILE
    if not ignore.is_file():
        return sorted(root.rglob("*"))
    lines = (line.strip() for line in ignore.read_text().splitlines())
    patterns = [line for line in lines if line and not line.startswith("#")]
    exclude_paths = importlib.import_module("docker.utils").exclude_paths
    return sorted(root / name for name in exclude_paths(str(root), patterns) if name)


def _entry(field: str, root: Path, path: Path) -> Entry:
    status = path.lstat()
    name = path.relative_to(root).as_posix()
    if stat.S_ISLNK(status.st_mode):
        return Entry(name, 0o777, target=str(path.readlink()))
    if stat.S_ISDIR(status.st_mode):
        return Entry(name, stat.S_IMODE(status.st_mode))
    if stat.S_ISREG(status.st_mode):
        return Entry(name, stat.S_IMODE(status.st_mode), path)
    raise InvalidValueError(field, str(path), "regular files, directories and symbolic links only")


def read_inline(field: str, files: Iterable[Mapping[str, object]]) -> list[Entry]:
    """Read files given as mappings of `path`, `content` (base64) and `mode`."""
    entries: dict[str, Entry] = {}
    for number, file in enumerate(files):
        entry = _inline_entry(f"{field}[{number}]", file)
        if entry.path in entries:
            raise InvalidValueError(f"{field}[{number}].path", entry.path, "each path once")
        entries[entry.path] = entry
    return [entries[path] for path in sorted(entries)]


def _inline_entry(field: str, file: Mapping[str, object]) -> Entry:
    text = str(file["path"])
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or not path.parts or path.as_posix() != text:
        raise InvalidValueError(f"{field}.path", text, "a relative path without '..', such as site/index.html")
    try:
        content = base64.b64decode(str(file["content"]), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValueError(f"{field}.content", "…", "base64") from error
    return Entry(text, _parse_mode(f"{field}.mode", file["mode"]), content)


def _parse_mode(field: str, value: object) -> int:
    try:
        mode = int(str(value), 8)
    except ValueError as error:
        raise InvalidValueError(field, value, _MODES) from error
    if not 0 <= mode <= 0o777:
        raise InvalidValueError(field, value, _MODES)
    return mode


def digest(entries: Sequence[Entry]) -> str:
    """Return one digest of a whole context."""
    lines = sorted(entry.digest() for entry in entries)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write_tar(entries: Sequence[Entry], stream: IO[bytes], mtime: int) -> None:
    """Write a context as the archive that an engine's build reads; every entry gets the one time.

    The time is that of the build: a web server that makes its ETag of time and size would otherwise
    serve a changed file of the same size as unchanged.
    """
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            member = tarfile.TarInfo(entry.path)
            member.mode, member.mtime = entry.mode, mtime
            if entry.target is not None:
                member.type, member.linkname = tarfile.SYMTYPE, entry.target
                archive.addfile(member)
            elif entry.content is None:
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            else:
                content = entry.read()
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
