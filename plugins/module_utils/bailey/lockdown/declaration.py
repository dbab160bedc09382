"""What an operator declares of a host's hardening, read once and held against what the platform needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch

from ..errors import InvalidValueError
from ..fields import Fields
from ..host.sysctl import place_of
from .features import FEATURES
from .grsec import CHROOT, parse_flags, parse_policy
from .grub import parse_parameters
from .model import Feature, Parameter, Sysctl
from .modules import DENIED, parse_modules

_PLACE = re.compile(r"[a-z0-9_-]+(?:/[A-Za-z0-9_@:-][A-Za-z0-9_.@:-]*)+")
_VALUE = re.compile(r"[A-Za-z0-9_.,:/ -]{1,200}")
# No acceptance helps: the platform does not work then.
_NEVER = frozenset({"forwarding"})
ACCEPTABLE = frozenset({name for name, feature in FEATURES.items() if feature.conflicts} - _NEVER | {CHROOT})
_KNOWN = (
    *("features", "sysctls", "boot_parameters", "modules_denied", "grsecurity", "pax_flags", "lock", "conflicts"),
    "required",
)
# What the platform needs of settings that somebody may want to set: which values it can live with.
_PLATFORM: tuple[tuple[str, str, str], ...] = (
    ("net/ipv4/ip_forward", "1", "1: without forwarding no tenant has a network"),
    ("net/ipv4/conf/*/forwarding", "1", "1: without forwarding no tenant has a network"),
    ("net/ipv4/conf/*/proxy_arp_pvlan", "1", "1: the bridge answers for its containers"),
    ("net/netfilter/nf_conntrack_timestamp", "1", "1: the agent tells connections apart by their beginning"),
    ("user/max_[!u]*_namespaces", "[1-9]*", "at least 1: a container is made of namespaces"),
    ("user/max_uts_namespaces", "[1-9]*", "at least 1: a container is made of namespaces"),
    ("kernel/modprobe", "", "nothing: the platform has the kernel load modules"),
    ("kernel/grsecurity/*", "", "the option grsecurity instead"),
)


@dataclass(frozen=True)
class Declaration:
    """A host's hardening as it is to be."""

    features: Mapping[str, bool] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)  # by their place below /proc/sys
    passes_parameters: bool = True
    parameters: tuple[Parameter, ...] = ()  # beside those of the features
    denied_modules: tuple[str, ...] = DENIED
    policy: Mapping[str, str] = field(default_factory=dict)  # grsecurity's own settings, by their place
    pax_flags: Mapping[str, str] = field(default_factory=dict)  # by the program's path
    locks: bool = False
    conflicts: frozenset[str] = frozenset()  # accepted
    required: frozenset[str] = frozenset()

    def wants(self, feature: Feature) -> bool:
        """Say whether a feature is to be put in force: all are that conflict with nothing, unless told otherwise."""
        return self.features.get(feature.name, not feature.conflicts or feature.name in self.conflicts)

    def value_of(self, item: Sysctl) -> str:
        """Return the value that a setting of a feature is to have."""
        return self.sysctls.get(item.place, item.value)

    def weakens(self, item: Sysctl) -> bool:
        """Say whether the operator's own value closes less than the feature's."""
        return self.value_of(item) not in (item.value, *item.stronger)


def parse_declaration(given: Mapping[str, object]) -> Declaration:
    """Read a declaration; raise InvalidValueError for the first value that is wrong or the platform cannot bear."""
    fields = Fields("", given, _KNOWN)
    conflicts = _names(fields, "conflicts", sorted(ACCEPTABLE))
    passes, parameters = _parameters(fields.get("boot_parameters", True))
    denied = fields.get("modules_denied")
    return Declaration(
        features=_features(fields.get("features", {}), conflicts),
        sysctls=_sysctls(fields.get("sysctls", {})),
        passes_parameters=passes,
        parameters=parameters,
        denied_modules=DENIED if denied is None else parse_modules("modules_denied", fields.items("modules_denied")),
        policy=parse_policy("grsecurity", fields.get("grsecurity", {}), accepts_chroot=CHROOT in conflicts),
        pax_flags=parse_flags("pax_flags", fields.get("pax_flags", {})),
        locks=fields.flag("lock", False),
        conflicts=conflicts,
        required=_names(fields, "required", sorted(FEATURES)),
    )


def _names(fields: Fields, key: str, known: list[str]) -> frozenset[str]:
    names = fields.words(key) or ()
    for number, name in enumerate(names):
        if name not in known:
            raise InvalidValueError(f"{key}[{number}]", name, f"one of {', '.join(known)}")
    return frozenset(names)


def _features(given: object, conflicts: frozenset[str]) -> dict[str, bool]:
    fields = Fields("features", given, FEATURES)
    found = {name: fields.flag(name, True) for name in FEATURES if name in fields}
    for name, on in found.items():
        feature = FEATURES[name]
        if on and not feature.has_equivalent:
            raise InvalidValueError(fields.path(name), on, f"false: it has no equivalent; {feature.instead}")
        if on and feature.conflicts and name not in conflicts:
            unless = "" if name in _NEVER else f", unless {name} is in conflicts"
            raise InvalidValueError(fields.path(name), on, f"false{unless}: it conflicts with {feature.conflicts}")
    return found


def _sysctls(given: object) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise InvalidValueError("sysctls", given, "a mapping")
    found: dict[str, str] = {}
    for key, value in given.items():
        where = f"sysctls.{key}"
        place = place_of(key) if isinstance(key, str) else ""
        if not _PLACE.fullmatch(place) or ".." in place.split("/"):
            raise InvalidValueError("sysctls", key, "as a key, a setting's name such as kernel.kptr_restrict")
        text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
        if not _VALUE.fullmatch(text):
            raise InvalidValueError(where, value, "a number or a word")
        found[place] = " ".join(text.split())
        _check_platform(where, place, value, found[place])
    return found


def _check_platform(where: str, place: str, value: object, text: str) -> None:
    for pattern, bearable, allowed in _PLATFORM:
        if fnmatch(place, pattern) and not fnmatch(text, bearable):
            raise InvalidValueError(where, value, allowed)
    for feature in FEATURES.values():
        for item in feature.sysctls() if feature.conflicts else ():
            if place == item.place and text == item.value:
                raise InvalidValueError(where, value, f"another value, or the feature {feature.name} instead")


def _parameters(given: object) -> tuple[bool, tuple[Parameter, ...]]:
    if isinstance(given, bool):
        return given, ()
    if not isinstance(given, list | tuple):
        raise InvalidValueError(
            "boot_parameters", given, "true, false, or a list of words to pass beside the features'"
        )
    parameters = parse_parameters("boot_parameters", given)
    for feature in FEATURES.values():
        for item in feature.parameters():
            for number, parameter in enumerate(parameters):
                if parameter.key == item.key:
                    where = f"boot_parameters[{number}]"
                    raise InvalidValueError(
                        where, parameter.text, f"the feature {feature.name}, true or false, instead"
                    )
    return True, parameters
