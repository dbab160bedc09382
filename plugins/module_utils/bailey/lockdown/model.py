"""What a feature of a hardened kernel is made of, and what a host is found to hold of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ..changes import Json


class Status(StrEnum):
    """What a report says of a feature, and of each of the means by which it is had."""

    ENFORCED = "enforced"
    NEEDS_REBOOT = "needs-reboot"
    UNSUPPORTED = "unsupported"
    CONFLICTS = "conflicts-with"


@dataclass(frozen=True)
class Sysctl:
    """A setting of the living kernel, by its place below /proc/sys."""

    place: str
    value: str
    stronger: tuple[str, ...] = ()  # values that are found and left, because they close more
    ceiling: str = ""  # the Kconfig symbol that holds the largest value that this architecture takes
    lasting: bool = False  # what is once set stays until a reboot
    live_only: bool = False  # not for the drop-in: set at boot, it would keep the host from coming up
    needs: str = ""  # the Kconfig symbol without which the kernel takes the value and does nothing more for it
    keeps_from_remapping: bool = False  # whether an engine that gives containers user namespaces can then make none

    @property
    def name(self) -> str:
        """Return the name in sysctl(8)'s own form."""
        return dotted(self.place)


@dataclass(frozen=True)
class Parameter:
    """A word of the kernel's command line."""

    text: str
    default: tuple[str, ...] = ()  # Kconfig symbols, each of the same effect; with ! before it, its absence
    needs: str = ""  # the Kconfig symbol without which the kernel does not know the word

    @property
    def key(self) -> str:
        """Return what stands before the equals sign."""
        return self.text.partition("=")[0]


@dataclass(frozen=True)
class Symbol:
    """Something that a kernel is built with or not: one of these Kconfig symbols; with ! before it, its absence."""

    names: tuple[str, ...]
    always_since: tuple[int, int] | None = None  # the version from which on every kernel has it


@dataclass(frozen=True)
class Fact:
    """Something that the running machine has or not.

    `kind` is "processor" (a flag of /proc/cpuinfo), "module" (a security module of /sys/kernel/security/lsm) or
    "weakness" (a file of /sys/devices/system/cpu/vulnerabilities, which must not say Vulnerable).
    """

    kind: str
    name: str


Means = Sysctl | Parameter | Symbol | Fact


@dataclass(frozen=True)
class Feature:
    """A feature of grsecurity or PaX, or one beside them, with its upstream equivalents.

    All means are needed, but for `one_of` them, where the first sysctl that the kernel has is enough. A feature without
    means has no equivalent; `instead` then tells what stands in its place. A feature with `conflicts` is only put in
    force where the operator accepts them.
    """

    name: str
    grsecurity: tuple[str, ...]
    what: str
    means: tuple[Means, ...] = ()
    one_of: bool = False
    conflicts: str = ""
    instead: str = ""
    denies_modules: bool = False

    @property
    def has_equivalent(self) -> bool:
        """Say whether an upstream kernel has anything for it."""
        return bool(self.means) or self.denies_modules

    def sysctls(self) -> list[Sysctl]:
        """Return its settings of the living kernel."""
        return [item for item in self.means if isinstance(item, Sysctl)]

    def parameters(self) -> list[Parameter]:
        """Return its words of the kernel's command line."""
        return [item for item in self.means if isinstance(item, Parameter)]


@dataclass(frozen=True)
class Finding:
    """What is found of one of a feature's means."""

    kind: str
    name: str
    wanted: str
    found: str | None
    status: Status
    reason: str = ""

    def as_json(self) -> dict[str, Json]:
        """Return the form of a module's result."""
        return {
            "kind": self.kind,
            "name": self.name,
            "wanted": self.wanted,
            "found": self.found,
            "status": self.status.value,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Row:
    """What a report says of one feature."""

    feature: str
    grsecurity: tuple[str, ...]
    status: Status
    reason: str = ""
    means: tuple[Finding, ...] = field(default=())

    def as_json(self) -> dict[str, Json]:
        """Return the form of a module's result."""
        return {
            "feature": self.feature,
            "grsecurity": list(self.grsecurity),
            "status": self.status.value,
            "reason": self.reason,
            "means": [finding.as_json() for finding in self.means],
        }


def combine(feature: str, grsecurity: tuple[str, ...], findings: Sequence[Finding]) -> Row:
    """Return a feature's row: enforced only where all of its means are; a reason names each one that is not."""
    rest = [finding for finding in findings if finding.status is not Status.ENFORCED]
    held = [finding.name for finding in findings if finding.status is Status.ENFORCED]
    reason = "; ".join(dict.fromkeys(finding.reason for finding in rest if finding.reason))
    if rest and held:
        reason = f"{reason} (in force: {', '.join(held)})"
    worst = (Status.CONFLICTS, Status.NEEDS_REBOOT, Status.UNSUPPORTED)
    found = {finding.status for finding in rest}
    status = next((status for status in worst if status in found), Status.ENFORCED)
    return Row(feature, grsecurity, status, reason, tuple(findings))


def table(rows: Sequence[Row]) -> str:
    """Return a report as aligned text, one feature a line."""
    cells = [(row.feature, row.status.value, row.reason) for row in rows]
    widths = [max((len(cell[column]) for cell in cells), default=0) for column in (0, 1)]
    return "\n".join(f"{name:<{widths[0]}}  {status:<{widths[1]}}  {reason}".rstrip() for name, status, reason in cells)


def dotted(place: str) -> str:
    """Return a place below /proc/sys in sysctl(8)'s form: its dots and slashes swapped."""
    return place.translate({ord("."): "/", ord("/"): "."})
