"""The desired specs on a host: /var/lib/bailey/specs/NAME.json, the one source of truth.

A label of a container cannot change once it exists, and its environment may hold secrets: so the whole
declaration is kept in a file that only root reads, replaced by rename before anything else changes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .changes import Json
from .errors import HostError
from .exceptions import ROOT_UID
from .host.files import read_text, sync_directory, write_atomic
from .host.idmap import IDENTITY, IdMap, id_map_of

VERSION = 1
_ACCOUNT_FILES = {
    "passwd": ("root:*:0:0:root:/root:/usr/sbin/nologin\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"),
    "group": "root:*:0:\nnogroup:*:65534:\n",
}
_OWN_LINES = {"passwd": "app:*:{uid}:{uid}:app:{home}:/bin/sh\n", "group": "app:*:{uid}:\n"}
_HOME = "/tmp"  # noqa: S108 - inside the container, where it is the one place that every instance may write


@dataclass(frozen=True)
class StoredSpec:
    """What was last declared for an instance, with the uid that it was given, and whose ids those of its container are.

    The engine cannot change `ids` while there is a container, so that nobody has to ask it for them.
    """

    name: str
    uid: int
    state: str
    canonical: Mapping[str, Json]
    ids: IdMap = IDENTITY

    @property
    def host_uid(self) -> int:
        """The host's number of its uid."""
        return self.ids.to_host(self.uid)


class SpecStore:
    """The spec files and the account files of one host's instances."""

    def __init__(self, state_dir: Path) -> None:
        self.specs = state_dir / "specs"
        self.accounts = state_dir / "accounts"

    def load(self) -> dict[str, StoredSpec]:
        """Read every spec file. One that another process removes meanwhile is as good as gone before."""
        names = sorted(path.stem for path in self.specs.glob("*.json")) if self.specs.is_dir() else []
        return {name: stored for name in names if (stored := self.read(name)) is not None}

    def read(self, name: str) -> StoredSpec | None:
        """Read one spec file; None where there is none."""
        try:
            return self._read(self.specs / f"{name}.json")
        except FileNotFoundError:
            return None

    def _read(self, path: Path) -> StoredSpec:
        try:
            content = json.loads(path.read_text())
            if content["version"] != VERSION:
                raise HostError(f"{path}: version {content['version']!r} is not known; allowed: {VERSION}")
            return _stored(path.stem, content)
        except (ValueError, KeyError, TypeError) as error:
            raise HostError(f"{path}: not a spec file ({error}); restore it, or remove it and run again") from error

    def write(self, stored: StoredSpec) -> None:
        """Put a spec in place, whole, before the container is touched."""
        self.specs.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = {
            "version": VERSION,
            "uid": stored.uid,
            "state": stored.state,
            "spec": dict(stored.canonical),
            **({"ids": stored.ids.as_text()} if stored.ids.remapped else {}),
        }
        text = json.dumps(content, indent=1, sort_keys=True) + "\n"
        write_atomic(self.specs / f"{stored.name}.json", text.encode(), mode=0o600)

    def delete(self, name: str) -> None:
        """Forget an instance. The last step of its removal: while the file is there, it can be removed again."""
        shutil.rmtree(self.accounts / name, ignore_errors=True)
        self.forget(name)

    def forget(self, name: str) -> None:
        """Take the spec file alone away: the account files stay, for a container has them mounted."""
        path = self.specs / f"{name}.json"
        if path.exists():
            path.unlink()
            sync_directory(self.specs)

    def write_accounts(self, name: str, uid: int) -> dict[str, Path]:
        """Write the passwd and group files by which an instance's uid has a name inside its container."""
        directory = self.accounts / name
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        paths: dict[str, Path] = {}
        for kind, common in _ACCOUNT_FILES.items():
            path = directory / kind
            own = _OWN_LINES[kind].format(uid=uid, home=_HOME) if uid != ROOT_UID else ""
            text = common + own
            if read_text(path) != text:
                write_atomic(path, text.encode(), mode=0o644)
            paths[f"/etc/{kind}"] = path
        return paths


def _stored(name: str, content: Mapping[str, Any]) -> StoredSpec:
    """Read a spec file's content. Raises ValueError, KeyError or TypeError where it is none."""
    uid, ids = int(content["uid"]), id_map_of(content)
    if not 0 <= uid < ids.size:
        raise ValueError(f"uid {uid} is none of the {ids.size} of its container")
    return StoredSpec(name, uid, content["state"], content["spec"], ids)
