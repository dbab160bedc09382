"""AppArmor as the kernel shows it, and apparmor_parser(8), which compiles profiles and loads them.

Sources: security/apparmor/apparmorfs.c for what stands below /sys/kernel/security/apparmor, label.c for the form of a
label, Documentation/admin-guide/LSM/apparmor.rst; lsm(7) for /proc/PID/attr.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import HostError
from .apparmor_policy import CompiledProfile, split_profiles
from .command import run
from .files import read_text
from .proc import PROC, read_of_process

UNCONFINED = "unconfined"
# Both bind: "kill" also ends the process that breaks a rule.
ENFORCING = frozenset(("enforce", "kill"))

_SECURITYFS = Path("sys/kernel/security/apparmor")
_ENABLED = Path("sys/module/apparmor/parameters/enabled")
# The kernel's hash of a profile: sha256 since Linux 6.8, sha1 before it.
_ALGORITHMS = ("sha256", "sha1")
_STACK = "//&"


@dataclass(frozen=True)
class Confinement:
    """The profiles that a process runs under, all of which bind it, and the mode that the kernel tells for them.

    The mode is "enforce", "complain", "kill" or "unconfined", and "mixed" where the profiles' modes differ. A process
    under no profile has none and is "unconfined".
    """

    profiles: tuple[str, ...]
    mode: str

    def is_under(self, name: str) -> bool:
        """Say whether a profile, or a child of it, is among those that bind the process."""
        return any(profile == name or profile.startswith(f"{name}//") for profile in self.profiles)


@dataclass(frozen=True)
class Digest:
    """A hash by the name of its algorithm."""

    algorithm: str
    value: str


def confinement(pid: int | str, proc: Path = PROC) -> Confinement | None:
    """Return what a process runs under, or None where it has ended, or its kernel has no AppArmor.

    attr/apparmor is there since Linux 5.8; before it attr/current was of the one security module that had it.
    """
    attributes = proc / str(pid) / "attr"
    text = read_of_process(attributes / "apparmor/current")
    if text is None:
        text = read_of_process(attributes / "current")
    return parse_label(text) if text else None


def parse_label(text: str) -> Confinement:
    """Read "NAME (mode)", "NAME//&NAME (mode)" or "unconfined", as attr/current holds it."""
    label = text.rstrip("\n\0")
    names, bracket, mode = label.rpartition(" (")
    if not bracket or not mode.endswith(")"):
        return Confinement(() if label == UNCONFINED else tuple(label.split(_STACK)), UNCONFINED)
    return Confinement(tuple(names.split(_STACK)), mode.removesuffix(")"))


def processes_under(name: str, proc: Path = PROC) -> list[int]:
    """Return the processes that a profile, or a child of it, binds; alone or together with others."""
    found: list[int] = []
    for entry in proc.iterdir():
        if entry.name.isdigit():
            held = confinement(entry.name, proc)
            if held is not None and held.is_under(name):
                found.append(int(entry.name))
    return sorted(found)


@dataclass(frozen=True)
class AppArmor:
    """A host's kernel, found below `root`, and its parser.

    `directory` is where profiles are loaded from at boot, without its sub-folders; includes are found there too.
    """

    root: Path = Path("/")
    directory: Path = Path("/etc/apparmor.d")
    parser: str = "apparmor_parser"

    @property
    def proc(self) -> Path:
        """Return where this host's processes are shown."""
        return self.root / "proc"

    def missing(self) -> str | None:
        """Return what this kernel lacks to hold profiles, or None where it has all."""
        enabled = read_text(self.root / _ENABLED)
        if enabled is None:
            return "its kernel has no AppArmor"
        if enabled.strip() != "Y":
            return "AppArmor is in its kernel and turned off: see lsm= and apparmor= of the kernel's command line"
        if not (self.root / _SECURITYFS / "profiles").exists():
            return "securityfs is not mounted on /sys/kernel/security"
        return None

    def loaded(self) -> dict[str, str]:
        """Return the mode of each profile that is loaded, by its full name; a child's is "PARENT//CHILD"."""
        modes: dict[str, str] = {}
        for line in (read_text(self.root / _SECURITYFS / "profiles") or "").splitlines():
            name, _, mode = line.rpartition(" (")
            modes[name] = mode.removesuffix(")")
        return modes

    def digests(self) -> dict[str, Digest]:
        """Return the kernel's hash of each loaded profile by its full name.

        One that was loaded while the kernel's parameter hash_policy was off has none. It is the hash that
        CompiledProfile.digest() works out, not raw_sha1 (raw_sha256), the one over the whole write a profile came in.
        """
        return dict(_digests(self.root / _SECURITYFS / "policy/profiles", ""))

    def compile(self, text: str, *, complain: bool = False) -> list[CompiledProfile]:
        """Return the profiles of a text as they would be loaded; nothing is.

        Raises CommandError where the parser does not take the text, HostError where there is no parser.
        """
        with tempfile.TemporaryDirectory(prefix="bailey-apparmor-") as scratch:
            output = Path(scratch) / "policy"
            mode = ["--Complain"] if complain else []
            options = ["--skip-kernel-load", "--skip-cache", *mode, f"--ofile={output}"]
            run([self.parser, *options, f"--base={self.directory}"], stdin=text)
            blob = output.read_bytes()
        return split_profiles(blob) if blob else []

    def load(self, path: Path) -> None:
        """Load the profiles of a file in place of those that have their names.

        force-complain/NAME in the profiles' directory, beside a file NAME, has the parser load it in complain mode, at
        boot too. A cache that is older than the file would be passed over, but not one of the same second.
        """
        run([self.parser, "--replace", "--write-cache", "--skip-read-cache", f"--base={self.directory}", str(path)])

    def unload(self, name: str) -> None:
        """Unload a profile and its children. Processes under it are unconfined from then on.

        Raises HostError where the kernel does not take it.
        """
        try:
            (self.root / _SECURITYFS / ".remove").write_text(name)
        except OSError as error:
            raise HostError(f"the kernel does not unload the profile {name}: {error.strerror}") from error


def _digests(directory: Path, parent: str) -> Iterator[tuple[str, Digest]]:
    """Yield the hashes below a directory of profiles; a directory's name is mangled and numbered, so it is not used."""
    for entry in sorted(directory.iterdir()) if directory.is_dir() else ():
        name = parent + (read_text(entry / "name") or "").removesuffix("\n")
        for algorithm in _ALGORITHMS:
            value = read_text(entry / algorithm)
            if value is not None:
                yield name, Digest(algorithm, value.strip())
                break
        yield from _digests(entry / "profiles", f"{name}//")
