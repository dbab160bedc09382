"""What a kernel tells of itself: settings, command line, configuration, modules, processor; and what needs it.

Sources: the kernel's Documentation/admin-guide/sysctl, Documentation/admin-guide/kernel-parameters.txt,
Documentation/ABI/testing/sysfs-devices-system-cpu, proc(5), and include/linux/proc_ns.h for the first pid namespace.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from functools import cached_property
from pathlib import Path

from ..errors import HostError
from ..host.files import read_text

_FIRST_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO
_REMAP = "userns-remap"
_SYMBOL = re.compile(r"^CONFIG_(\w+)=(.*)$", re.MULTILINE)


class Kernel:
    """The kernel as a host's own files show it, all of them below `root`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.settings = root / "proc/sys"

    @cached_property
    def release(self) -> str:
        """Return the running release, such as 6.1.0-40-amd64. Raises HostError where the kernel does not tell."""
        text = self.read("kernel/osrelease")
        if not text:
            raise HostError(f"{self.settings / 'kernel/osrelease'}: this kernel does not tell its release")
        return text

    @cached_property
    def version(self) -> tuple[int, int]:
        """Return the release's first two numbers."""
        match = re.match(r"(\d+)\.(\d+)", self.release)
        return (int(match[1]), int(match[2])) if match else (0, 0)

    @cached_property
    def boot(self) -> str:
        """Return what tells one boot from another, empty where the kernel does not tell."""
        return self.read("kernel/random/boot_id") or ""

    @cached_property
    def is_shared(self) -> bool:
        """Say whether the host is itself a container, whose kernel is another host's."""
        try:
            return str((self.root / "proc/self/ns/pid").readlink()) != _FIRST_PID_NAMESPACE
        except OSError:
            return False

    @cached_property
    def remaps_ids(self) -> bool:
        """Say whether the host's engine gives containers user namespaces (dockerd's userns-remap in daemon.json).

        A file that cannot be read counts by its words: what it says may come into force once it is repaired.
        """
        text = read_text(self.root / "etc/docker/daemon.json") or "{}"
        try:
            content = json.loads(text)
        except ValueError:
            return _REMAP in text
        return isinstance(content, dict) and bool(content.get(_REMAP))

    @cached_property
    def is_grsecurity(self) -> bool:
        """Say whether the kernel is one with grsecurity's own settings."""
        return (self.settings / "kernel/grsecurity").is_dir()

    def read(self, place: str) -> str | None:
        """Return a setting with its white space as one blank each, None where the kernel has none of that name.

        What can only be written is read as an empty value; a directory is no setting.
        """
        try:
            text = read_text(self.settings / place)
        except PermissionError:
            return ""
        except IsADirectoryError:
            return None
        return None if text is None else " ".join(text.split())

    def write(self, place: str, value: str) -> None:
        """Set a setting. Raises OSError where the kernel refuses."""
        # Without making the file: a kernel that has no such setting must not look as if it had.
        descriptor = os.open(self.settings / place, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(descriptor, f"{value}\n".encode())
        finally:
            os.close(descriptor)

    def may_set(self, place: str) -> bool:
        """Say whether a setting is this host's to make: in a container only its own network's are."""
        return not self.is_shared or place.startswith(("net/ipv4/", "net/ipv6/"))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Return the command line that the kernel was booted with, word by word."""
        return tuple((read_text(self.root / "proc/cmdline") or "").split())

    def was_told(self, parameter: str) -> bool:
        """Say whether a word is on the command line, and no later one of the same name undoes it."""
        key = parameter.partition("=")[0]
        given = [word for word in self.words if word.partition("=")[0] == key]
        return bool(given) and given[-1] == parameter

    @cached_property
    def configuration(self) -> dict[str, str] | None:
        """Return the Kconfig symbols with their values, None where neither the disk nor the kernel tells them."""
        text = read_text(self.root / f"boot/config-{self.release}")
        if text is None:
            try:
                text = gzip.decompress((self.root / "proc/config.gz").read_bytes()).decode()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return {match[1]: match[2].strip('"') for match in _SYMBOL.finditer(text)}

    def is_built_with(self, symbol: str) -> bool | None:
        """Say whether the kernel has a Kconfig symbol (with ! before it: has not), None where nothing tells."""
        if self.configuration is None:
            return None
        value = self.configuration.get(symbol.removeprefix("!"), "n")
        return (value != "n") is not symbol.startswith("!")

    @cached_property
    def flags(self) -> frozenset[str]:
        """Return the first processor's flags."""
        match = re.search(r"^(?:flags|Features)\s*:(.*)$", read_text(self.root / "proc/cpuinfo") or "", re.MULTILINE)
        return frozenset(match[1].split()) if match else frozenset()

    @cached_property
    def security_modules(self) -> frozenset[str]:
        """Return the security modules in force."""
        text = read_text(self.root / "sys/kernel/security/lsm") or ""
        return frozenset(text.strip().split(",")) - {""}

    def weakness(self, name: str) -> str | None:
        """Return what the kernel says of one of its processor's weaknesses."""
        text = read_text(self.root / "sys/devices/system/cpu/vulnerabilities" / name)
        return None if text is None else text.strip()

    @cached_property
    def has_modules(self) -> bool:
        """Say whether this kernel can load modules at all."""
        return (self.root / "proc/modules").exists()

    def loaded_modules(self) -> frozenset[str]:
        """Return the names of the modules that are loaded."""
        lines = (read_text(self.root / "proc/modules") or "").splitlines()
        return frozenset(line.split()[0] for line in lines if line.strip())

    @cached_property
    def built_in_modules(self) -> frozenset[str]:
        """Return the names of what could be a module and is part of the kernel."""
        text = read_text(self.root / f"lib/modules/{self.release}/modules.builtin") or ""
        return frozenset(Path(line).stem.replace("-", "_") for line in text.split())
