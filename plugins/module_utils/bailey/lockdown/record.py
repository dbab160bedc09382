"""What this host's settings were before Bailey changed them, so that they can be put back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import HostError
from ..host.files import read_text, write_atomic

_VERSION = 1


@dataclass(frozen=True)
class Changed:
    """One value that was changed: what it was before (None: it was not there), and what it was set to."""

    before: str | None
    ours: str


@dataclass
class Record:
    """All that was changed, and what the kernel refused since it was booted."""

    sysctls: dict[str, Changed] = field(default_factory=dict)  # by their place below /proc/sys
    pax: dict[str, Changed] = field(default_factory=dict)  # by the program's path
    refused: dict[str, str] = field(default_factory=dict)  # place to value
    boot: str = ""  # of which boot `refused` tells
    directories: list[str] = field(default_factory=list)  # that were made

    def note(self, place: str, before: str | None, ours: str) -> None:
        """Note a change of a setting; the value from before the first one stays."""
        former = self.sysctls.get(place)
        self.sysctls[place] = Changed(before if former is None else former.before, ours)

    def refused_since(self, boot: str) -> dict[str, str]:
        """Return what the kernel refused since it was booted, by place."""
        return dict(self.refused) if boot and boot == self.boot else {}

    @property
    def is_empty(self) -> bool:
        """Say whether there is nothing to put back."""
        return not (self.sysctls or self.pax or self.directories)


def read_record(path: Path) -> Record:
    """Return the record, an empty one where there is none. Raises HostError where it cannot be read."""
    text = read_text(path)
    if text is None:
        return Record()
    try:
        raw: dict[str, Any] = json.loads(text)
        if raw["version"] != _VERSION:
            raise HostError(f"{path}: version {raw['version']} is not known to this Bailey")
        return Record(
            {place: Changed(**item) for place, item in raw["sysctls"].items()},
            {program: Changed(**item) for program, item in raw["pax"].items()},
            dict(raw["refused"]),
            str(raw["boot"]),
            list(raw["directories"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HostError(f"{path}: not readable as Bailey's record ({error}); repair or remove it") from error


def write_record(path: Path, record: Record) -> None:
    """Write the record, 0600, where it differs from what is there."""
    text = json.dumps({"version": _VERSION, **asdict(record)}, indent=2, sort_keys=True) + "\n"
    if read_text(path) != text:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomic(path, text.encode())
