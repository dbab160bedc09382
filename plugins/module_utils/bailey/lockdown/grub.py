"""The kernel's command line at the next boot, by a drop-in of GRUB's where GRUB is what boots this host.

Source: Debian's grub2-common, whose grub-mkconfig reads /etc/default/grub and then /etc/default/grub.d/*.cfg as shell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import BaileyError, HostError, InvalidValueError
from ..host.command import run
from ..host.files import read_text, write_atomic
from .model import Parameter

_HEADER = "# Managed by Bailey: changes are lost. update-grub carries these to the next boot.\n"
# Nothing that a shell or the boot loader reads as more than itself.
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}(?:=[A-Za-z0-9_.,:/@+-]{1,200})?")


class Grub:
    """The boot loader of a host whose files are below `root`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.program = root / "usr/sbin/update-grub"
        self.menu = root / "boot/grub"
        self.drop_in = root / "etc/default/grub.d/zz-bailey.cfg"

    @property
    def is_there(self) -> bool:
        """Say whether this host is booted by GRUB, as far as its files tell."""
        return self.program.exists() and self.menu.is_dir()

    def text(self, words: Iterable[str]) -> str | None:
        """Return what the drop-in is to hold: None, no file, where nothing is to be passed or there is no GRUB."""
        line = " ".join(words)
        if not line or not self.is_there:
            return None
        return f'{_HEADER}GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {line}"\n'

    def write(self, text: str | None) -> None:
        """Bring the drop-in to a text, or to not being there, and have GRUB's menu made anew.

        Raises HostError where that fails; the former drop-in is then back in place.
        """
        former = read_text(self.drop_in)
        if former == text:
            return
        self._put(text)
        if not self.is_there:
            return
        try:
            run([str(self.program)], timeout=300.0)
        except BaileyError as error:
            self._put(former)
            raise HostError(f"{self.program}: {error}; {self.drop_in} is as it was") from error

    def _put(self, text: str | None) -> None:
        if text is None:
            self.drop_in.unlink(missing_ok=True)
            return
        self.drop_in.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomic(self.drop_in, text.encode(), mode=0o644)

    def how(self, word: str) -> str:
        """Return what has to happen for a word to reach the kernel."""
        if self.is_there:
            return f"{word} is passed to the kernel from the next boot on"
        return f"this host has no GRUB: have its boot loader pass {word}"


def parse_parameters(field: str, names: Iterable[object]) -> tuple[Parameter, ...]:
    """Read words for the kernel's command line; raise InvalidValueError for what is none, or given twice."""
    found: dict[str, Parameter] = {}
    for number, item in enumerate(names):
        if not isinstance(item, str) or not _WORD.fullmatch(item):
            raise InvalidValueError(f"{field}[{number}]", item, "a word such as slab_nomerge or init_on_free=1")
        parameter = Parameter(item)
        if parameter.key in found:
            raise InvalidValueError(f"{field}[{number}]", item, f"one value of {parameter.key}")
        found[parameter.key] = parameter
    return tuple(found.values())
