"""A kernel with AppArmor as a tree of files: what apparmor_parser compiles for it appears in it, hashed as Linux does.

The parser is the real one, told to compile for a kernel of the features that its package lists for abi 3.0.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path

from bailey.errors import HostError
from bailey.host.apparmor import AppArmor
from bailey.host.apparmor_policy import CompiledProfile

FEATURES = Path("/etc/apparmor.d/abi/3.0")


@dataclass(frozen=True)
class Kernel(AppArmor):
    """The host below `root`; `loads` holds what was loaded, `broken` what loading or unloading fails of."""

    algorithm: str | None = "sha1"
    loads: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    stubborn: list[str] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def securityfs(self) -> Path:
        return self.root / "sys/kernel/security/apparmor"

    def hold(self, profile: CompiledProfile) -> None:
        """Take a profile up, in place of one of its name."""
        self.drop(profile.name)
        with (self.securityfs / "profiles").open("a") as stream:
            stream.write(f"{profile.name} ({profile.mode})\n")
        parent, _, name = profile.name.rpartition("//")
        above = self.directory_of(parent) / "profiles" if parent else self.securityfs / "policy/profiles"
        directory = above / f"{name.replace('/', '.')}.{next(self.numbers)}"
        directory.mkdir(parents=True)
        (directory / "name").write_text(f"{name}\n")
        (directory / "mode").write_text(f"{profile.mode}\n")
        if self.algorithm:
            hashed = hashlib.new(self.algorithm, struct.pack("<I", profile.version) + profile.body)
            (directory / self.algorithm).write_text(f"{hashed.hexdigest()}\n")

    def directory_of(self, name: str) -> Path:
        parent, _, own = name.rpartition("//")
        above = self.directory_of(parent) / "profiles" if parent else self.securityfs / "policy/profiles"
        return next(path.parent for path in above.glob("*/name") if path.read_text() == f"{own}\n")

    def drop(self, name: str) -> None:
        """Let go of a profile and its children."""
        file = self.securityfs / "profiles"
        lines = file.read_text().splitlines(keepends=True)
        gone = [line for line in lines if line.startswith((f"{name} (", f"{name}//"))]
        if gone:
            file.write_text("".join(line for line in lines if line not in gone))
            shutil.rmtree(self.directory_of(name))

    def load(self, path: Path) -> None:
        complain = (self.directory / "force-complain" / path.name).exists()
        for profile in self.compile(path.read_text(), complain=complain):
            if profile.name in self.broken:
                raise HostError(f"cannot load {profile.name}")
            if profile.name not in self.stubborn:
                self.hold(profile)
            self.loads.append(profile.name)

    def unload(self, name: str) -> None:
        super().unload(name)
        if name in self.broken:
            raise HostError(f"cannot unload {name}")
        if name not in self.stubborn:
            self.drop(name)

    def run(self, pid: int, label: str | None) -> None:
        """Have a process run under a label, as /proc/PID/attr tells it; None is a process that is ending."""
        directory = self.proc / str(pid) / "attr/apparmor"
        directory.mkdir(parents=True)
        if label is not None:
            (directory / "current").write_text(f"{label}\n")


def make_kernel(root: Path, algorithm: str | None = "sha1") -> Kernel:
    """Lay out a kernel without any profile, and a directory of profiles with the package's own includes."""
    for name in ("sys/module/apparmor/parameters", "sys/kernel/security/apparmor/policy/profiles", "proc"):
        (root / name).mkdir(parents=True)
    (root / "sys/module/apparmor/parameters/enabled").write_text("Y\n")
    (root / "sys/kernel/security/apparmor/profiles").touch()
    directory = root / "etc/apparmor.d"
    directory.mkdir(parents=True)
    for name in ("abi", "abstractions", "tunables"):
        (directory / name).symlink_to(Path("/etc/apparmor.d") / name)
    parser = root / "parser"
    parser.write_text(f'#!/bin/sh\nexec apparmor_parser --kernel-features={FEATURES} "$@"\n')
    parser.chmod(0o755)
    return Kernel(root, directory, str(parser), algorithm)
