"""What one scan remembers for the next: verdicts on contents, and how far it has come. STATE/scan/memory.json."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ..host.files import read_text, write_atomic
from .yara import Match

_VERSION = 1
_FILES_MAX, _VERDICTS_MAX, _SWEEPS_MAX = 20_000, 10_000, 1000
Kept = TypeVar("Kept")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass
class Memory:
    """`files` maps a file's identity to its digest, `verdicts` a digest to the rules that match.

    `sweeps` has for each container the directories that are still to be looked at, and `last` is the instance that
    was looked at last.
    """

    files: dict[str, str] = field(default_factory=dict)
    verdicts: dict[str, list[Match]] = field(default_factory=dict)
    sweeps: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    last: str = ""

    def known(self, identity: str | None, ruleset: str) -> tuple[str, list[Match]] | None:
        """Return the digest and the matches of a file that has been scanned by these rules before."""
        sha256 = self.files.get(identity or "")
        matches = self.verdict(sha256, ruleset) if sha256 is not None else None
        if sha256 is None or matches is None:
            return None
        self.files[identity or ""] = self.files.pop(identity or "")  # the last one to go
        return sha256, matches

    def verdict(self, sha256: str, ruleset: str) -> list[Match] | None:
        """Return what these rules have said of some content."""
        key = f"{ruleset[:16]}:{sha256}"
        found = self.verdicts.get(key)
        if found is not None:
            self.verdicts[key] = self.verdicts.pop(key)
        return found

    def learn(self, sha256: str, ruleset: str, matches: list[Match]) -> None:
        """Keep what these rules say of some content."""
        self.verdicts[f"{ruleset[:16]}:{sha256}"] = matches

    def forget_others(self, containers: set[str]) -> None:
        """Keep how far the walks of these containers have come, and no others'."""
        self.sweeps = {container: rest for container, rest in self.sweeps.items() if container in containers}


def read_memory(path: Path, boot_id: Path = _BOOT_ID) -> Memory:
    """Read it; nothing of a former boot counts, for devices have other numbers then, and nothing that is not ours."""
    try:
        content = json.loads(read_text(path) or "{}")
        if content["version"] != _VERSION or content["boot"] != read_text(boot_id):
            return Memory()
        return Memory(
            {str(key): str(value) for key, value in content["files"].items()},
            {str(key): [_match(item) for item in found] for key, found in content["verdicts"].items()},
            {str(key): [(str(place), int(skip)) for place, skip in rest] for key, rest in content["sweeps"].items()},
            str(content["last"]),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Memory()


def write_memory(path: Path, memory: Memory, boot_id: Path = _BOOT_ID) -> None:
    """Write it, within its bounds: what was asked for least lately goes first."""
    content = {
        "version": _VERSION,
        "boot": read_text(boot_id),
        "files": _newest(memory.files, _FILES_MAX),
        "verdicts": {
            key: [[item.namespace, item.rule, item.modest] for item in found]
            for key, found in _newest(memory.verdicts, _VERDICTS_MAX).items()
        },
        "sweeps": _newest(memory.sweeps, _SWEEPS_MAX),
        "last": memory.last,
    }
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, json.dumps(content).encode() + b"\n")


def _match(item: list[object]) -> Match:
    if len(item) != 3:
        raise ValueError("no match")
    return Match(str(item[0]), str(item[1]), item[2] is True)


def _newest(kept: dict[str, Kept], count: int) -> dict[str, Kept]:
    return dict(list(kept.items())[-count:])
