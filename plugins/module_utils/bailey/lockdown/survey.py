"""What a host holds of each feature: the report, made from the kernel's own files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from . import modules
from .declaration import Declaration
from .features import FEATURES
from .grsec import LOCK, flag_rows, policy_rows
from .grub import Grub
from .kernel import Kernel
from .model import Fact, Feature, Finding, Means, Parameter, Row, Status, Symbol, Sysctl, combine, dotted

_UNKNOWN_BUILD = "neither /boot/config-{release} nor /proc/config.gz tells what this kernel is built with"
_SHARED = "this host is a container: {what} is for the host under it to set"


@dataclass(frozen=True)
class Survey:
    """A look at a host. `assumed` and `flags` hold values that are taken for set, as check mode needs it.

    `refused` holds what the kernel did not take since it was booted, `ours` what an earlier run has set.
    """

    kernel: Kernel
    grub: Grub
    declared: Declaration
    assumed: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    ours: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> list[Row]:
        """Return a row for each feature: of the upstream kernel's, or of grsecurity's where the kernel has it."""
        if self.kernel.is_grsecurity:
            rows = self._grsecurity()
        else:
            rows = [self._row(feature) for feature in FEATURES.values()]
        rows += self._operators_own()
        return rows + flag_rows(self.kernel, self.declared.pax_flags, self.flags)

    def _grsecurity(self) -> list[Row]:
        rows = policy_rows(self.kernel, self.declared.policy, self.assumed)
        rows.append(self._row(FEATURES["module_autoload"]))
        if self.declared.locks:
            found = self.assumed.get(LOCK, self.kernel.read(LOCK))
            broken = [row.feature for row in rows if row.feature.startswith("grsecurity.") and row.reason]
            if found == "1":
                finding = Finding("sysctl", dotted(LOCK), "1", found, Status.ENFORCED)
            else:
                reason = (
                    f"not locked, for these do not hold: {', '.join(broken)}" if broken else "the kernel has no lock"
                )
                finding = Finding("sysctl", dotted(LOCK), "1", found, Status.UNSUPPORTED, reason)
            rows.append(combine("lock", FEATURES["lock"].grsecurity, [finding]))
        return rows

    def _row(self, feature: Feature) -> Row:
        if not feature.has_equivalent:
            reason = f"no equivalent; {feature.instead}"
            return Row(feature.name, feature.grsecurity, Status.UNSUPPORTED, reason)
        findings = self._findings(feature)
        if self.declared.wants(feature):
            return combine(feature.name, feature.grsecurity, findings)
        by_operator = "switched off by the operator"
        reason = by_operator if feature.name in self.declared.features else feature.conflicts
        return Row(feature.name, feature.grsecurity, Status.CONFLICTS, reason, tuple(findings))

    def _findings(self, feature: Feature) -> list[Finding]:
        means: Iterable[Means] = feature.means
        if feature.one_of:
            means = self.first_of(feature)
            if not means:
                return [self._none_of(feature)]
        found = [self._finding(item) for item in means]
        if feature.denies_modules:
            found += modules.findings(self.kernel, self.declared.denied_modules)
        return found

    def first_of(self, feature: Feature) -> list[Means]:
        """Return the first of a feature's settings that this kernel has, and that leaves the engine what it needs."""
        there: list[Means] = [item for item in feature.sysctls() if self._has(item) and not self._is_barred(item)]
        return there[:1]

    def _has(self, item: Sysctl) -> bool:
        return self.kernel.read(item.place) is not None

    def _is_barred(self, item: Sysctl) -> bool:
        return item.keeps_from_remapping and self.kernel.remaps_ids

    def _none_of(self, feature: Feature) -> Finding:
        """Return what is found where none of a feature's settings can be made: the kernel has none, or the engine."""
        for item in feature.sysctls():
            if self._has(item):
                reason = f"{item.name} = {item.value} conflicts with docker_userns_remap: no container could be made"
                found = self.assumed.get(item.place, self.kernel.read(item.place))
                return Finding("sysctl", item.name, "", found, Status.CONFLICTS, reason)
        names = ", ".join(item.name for item in feature.sysctls())
        return Finding("sysctl", names, "", None, Status.UNSUPPORTED, f"this kernel has none of {names}")

    def used(self) -> list[Means]:
        """Return the means of all features that are to be in force; a kernel with grsecurity has its own instead."""
        if self.kernel.is_grsecurity:
            return []
        wanted = [feature for feature in FEATURES.values() if self.declared.wants(feature)]
        return [item for feature in wanted for item in (self.first_of(feature) if feature.one_of else feature.means)]

    def own_sysctls(self) -> dict[str, str]:
        """Return the operator's settings that are not the values of features in force."""
        used = {item.place for item in self.used() if isinstance(item, Sysctl)}
        return {place: value for place, value in self.declared.sysctls.items() if place not in used}

    def _finding(self, item: Means) -> Finding:
        if isinstance(item, Sysctl):
            return self._sysctl(item)
        if isinstance(item, Parameter):
            return self._parameter(item)
        return self._symbol(item) if isinstance(item, Symbol) else self._fact(item)

    def wanted(self, item: Sysctl) -> str:
        """Return the value that a setting is to have on this kernel: what is found there and closes more stays."""
        value = self.declared.value_of(item)
        if item.place in self.declared.sysctls:
            return value
        if item.ceiling and self.kernel.configuration is not None:
            value = self.kernel.configuration.get(item.ceiling, value)
        found = self.kernel.read(item.place)
        is_foreign = found in item.stronger and found != self.ours.get(item.place)
        return found if found is not None and is_foreign else value

    def _sysctl(self, item: Sysctl) -> Finding:
        found, wanted = self.assumed.get(item.place, self.kernel.read(item.place)), self.wanted(item)
        status, reason = Status.UNSUPPORTED, ""
        if found is None:
            reason = f"this kernel has no {item.name}"
        elif found != wanted:
            reason = self._why_not(item.place, found, wanted)
        elif item.place in self.declared.sysctls and self.declared.weakens(item):
            status, reason = Status.CONFLICTS, f"the operator sets {item.name} to {found} and not {item.value}"
        elif item.needs and self.kernel.is_built_with(item.needs) is not True:
            reason = f"{item.name} is {found}, which means no more than the value below it without CONFIG_{item.needs}"
        else:
            status = Status.ENFORCED
        return Finding("sysctl", item.name, wanted, found, status, reason)

    def _why_not(self, place: str, found: str, wanted: str) -> str:
        name = dotted(place)
        if not self.kernel.may_set(place):
            return f"{name} is {found}; " + _SHARED.format(what="it")
        if self.refused.get(place) == wanted:
            return f"the kernel keeps {name} at {found} and refuses {wanted}"
        return f"{name} is {found} and not {wanted}"

    def _parameter(self, item: Parameter) -> Finding:
        told = [word for word in self.kernel.words if word.partition("=")[0] == item.key][-1:]
        found = told[0] if told else None
        status, reason = Status.UNSUPPORTED, ""
        if not told and self.is_default(item):
            status, found = Status.ENFORCED, "built in"
        elif item.needs and self.kernel.is_built_with(item.needs) is False:
            reason = f"{item.text} means nothing to this kernel, which is built without CONFIG_{item.needs}"
        elif self.kernel.was_told(item.text):
            if item.needs and self.kernel.is_built_with(item.needs) is None:
                reason = f"{item.text} is passed, but " + _UNKNOWN_BUILD.format(release=self.kernel.release)
            else:
                status = Status.ENFORCED
        elif self.kernel.is_shared:
            reason = _SHARED.format(what=item.text)
        elif not self.declared.passes_parameters:
            status, reason = Status.CONFLICTS, f"the operator passes no boot parameters, such as {item.text}"
        else:
            status, reason = Status.NEEDS_REBOOT, self.grub.how(item.text)
        if found not in (None, "built in", item.text):
            reason += f" (now it is told {found})"
        return Finding("parameter", item.text, item.text, found, status, reason)

    def is_default(self, item: Parameter) -> bool:
        """Say whether a kernel is known to do by itself what a boot parameter asks for."""
        return any(self.kernel.is_built_with(symbol) is True for symbol in item.default)

    def _symbol(self, item: Symbol) -> Finding:
        name = " or ".join(_named(symbol) for symbol in item.names)
        answers = [self.kernel.is_built_with(symbol) for symbol in item.names]
        if item.always_since is not None and self.kernel.version >= item.always_since:
            return Finding("kconfig", name, "built in", "always", Status.ENFORCED)
        if True in answers:
            return Finding("kconfig", name, "built in", "built in", Status.ENFORCED)
        reason = _UNKNOWN_BUILD.format(release=self.kernel.release)
        if self.kernel.configuration is not None:
            reason = f"this kernel is not built with {name}"
        return Finding("kconfig", name, "built in", None, Status.UNSUPPORTED, reason)

    def _fact(self, item: Fact) -> Finding:
        if item.kind == "processor":
            holds, reason = item.name in self.kernel.flags, f"this processor has no {item.name}"
        elif item.kind == "module":
            holds, reason = item.name in self.kernel.security_modules, f"{item.name} is not in force in this kernel"
        else:
            told = self.kernel.weakness(item.name)
            holds = told is not None and not told.startswith("Vulnerable")
            reason = f"{item.name}: the kernel says {told or 'nothing of it'}"
        status = Status.ENFORCED if holds else Status.UNSUPPORTED
        return Finding(item.kind, item.name, "there", "there" if holds else None, status, "" if holds else reason)

    def _operators_own(self) -> list[Row]:
        settings = [self._own(place, value) for place, value in self.own_sysctls().items()]
        words = [self._parameter(item) for item in self.declared.parameters]
        rows = [combine("sysctls", (), settings)] if settings else []
        return rows + ([combine("boot_parameters", (), words)] if words else [])

    def _own(self, place: str, wanted: str) -> Finding:
        found, name = self.assumed.get(place, self.kernel.read(place)), dotted(place)
        if found == wanted:
            return Finding("sysctl", name, wanted, found, Status.ENFORCED)
        reason = f"this kernel has no {name}" if found is None else self._why_not(place, found, wanted)
        return Finding("sysctl", name, wanted, found, Status.UNSUPPORTED, reason)


def _named(symbol: str) -> str:
    return f"no CONFIG_{symbol[1:]}" if symbol.startswith("!") else f"CONFIG_{symbol}"
