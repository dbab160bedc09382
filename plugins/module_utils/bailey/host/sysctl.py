"""Kernel settings that outlive a reboot: a drop-in of our own, and what other files say against it.

Sources: sysctl.d(5) of systemd, and sysctl.conf(5) of procps, which reads /etc/sysctl.conf after all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

from .files import read_text

_DIRECTORIES = ("etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d")
_LAST = "etc/sysctl.conf"
_HEADER = "# Managed by Bailey: changes are lost. Without these the tenants' packets are not forwarded.\n"


def render(settings: Mapping[str, str], header: str = _HEADER) -> str:
    """Return a drop-in's text, below a comment; settings go by their place below /proc/sys.

    A link comes late at boot, and udev then has its settings read again. Until then its name has to be a pattern,
    because `sysctl --system` fails where a setting that is named outright is not there, with a - before it too.
    """
    return header + "".join(f"{_pattern(key)} = {value}\n" for key, value in settings.items())


def _pattern(key: str) -> str:
    *front, link, name = key.split("/")
    return "/".join([*front, f"{link[:-1]}[{link[-1]}]", name]) if front[-1:] == ["conf"] else key


def contradictions(name: str, settings: Mapping[str, str], root: Path = Path("/")) -> list[str]:
    """Return what is read after a drop-in of this name and sets something else, each as "FILE: KEY = VALUE"."""
    return [
        f"/{path.relative_to(root)}: {key} = {value}"
        for path in _read_after(name, root)
        for key, value in _assignments(read_text(path) or "")
        if any(fnmatch(ours, key) and value != wanted for ours, wanted in settings.items())
    ]


def _read_after(name: str, root: Path) -> Iterator[Path]:
    found: dict[str, Path] = {}
    for directory in _DIRECTORIES:
        for path in (root / directory).glob("*.conf"):
            found.setdefault(path.name, path)  # the same name in an earlier directory hides it
    yield from (found[later] for later in sorted(found) if later > name)
    yield root / _LAST


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    """Yield each setting by its place below /proc/sys, with * in it where the file has one."""
    for line in text.splitlines():
        key, found, value = line.strip().removeprefix("-").partition("=")
        key = key.strip()
        if found and key and key[0] not in "#;":
            yield place_of(key), value.strip()


def place_of(key: str) -> str:
    """Return a key's place below /proc/sys: dots and slashes mean each other where a dot comes first."""
    dot, slash = key.find("."), key.find("/")
    dots_first = dot >= 0 and (slash < 0 or dot < slash)
    return key.translate({ord("."): "/", ord("/"): "."}) if dots_first else key
