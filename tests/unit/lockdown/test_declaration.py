"""What may be declared: unknown names, values that are none, and what the platform cannot bear are refused."""

from __future__ import annotations

import pytest
from bailey.errors import InvalidValueError
from bailey.lockdown.declaration import ACCEPTABLE, parse_declaration
from bailey.lockdown.features import FEATURES, document
from bailey.lockdown.model import Feature

from tests.unit import house


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"colour": 1}, "colour: 'colour' is not valid; allowed: as a key"),
        ({"features": {"no_such": True}}, r"features\.no_such"),
        ({"features": {"dmesg": "yes"}}, r"features\.dmesg: 'yes' is not valid; allowed: true or false"),
        ({"features": {"tpe": True}}, r"features\.tpe: True is not valid; allowed: false: it has no equivalent"),
        (
            {"features": {"user_namespaces": True}},
            r"features\.user_namespaces: True .*false, unless user_namespaces is in conflicts: it conflicts with user",
        ),
        ({"features": {"forwarding": True}}, r"features\.forwarding: True is not valid; allowed: false: it conflicts"),
        (
            {"conflicts": ["forwarding"]},
            r"conflicts\[0\]: 'forwarding' is not valid; allowed: one of grsecurity_chroot",
        ),
        ({"conflicts": ["dmesg"]}, r"conflicts\[0\]"),
        ({"required": ["no_such"]}, r"required\[0\]: 'no_such' is not valid; allowed: one of aslr"),
        ({"sysctls": []}, "sysctls: .* allowed: a mapping"),
        ({"sysctls": {"kernel": 1}}, "a setting's name"),
        ({"sysctls": {"kernel/../../etc/passwd": 1}}, "a setting's name"),
        ({"sysctls": {"/kernel/sysrq": 1}}, "a setting's name"),
        (
            {"sysctls": {"kernel.sysrq": True}},
            r"sysctls\.kernel\.sysrq: True is not valid; allowed: a number or a word",
        ),
        ({"sysctls": {"kernel.sysrq": "1\n2"}}, "a number or a word"),
        ({"sysctls": {"net.ipv4.ip_forward": 0}}, "without forwarding no tenant has a network"),
        ({"sysctls": {"net.ipv4.conf.all.forwarding": "0"}}, "without forwarding no tenant has a network"),
        ({"sysctls": {"net/ipv4/conf/docker0/proxy_arp_pvlan": 0}}, "the bridge answers"),
        ({"sysctls": {"user.max_net_namespaces": 0}}, "a container is made of namespaces"),
        ({"sysctls": {"user.max_user_namespaces": 0}}, "the feature user_namespaces instead"),
        ({"sysctls": {"kernel.modprobe": "/bin/false"}}, "has the kernel load modules"),
        ({"sysctls": {"kernel.modules_disabled": 1}}, "the feature module_loading instead"),
        ({"sysctls": {"kernel.panic_on_oops": 1}}, "the feature kern_lockout instead"),
        ({"sysctls": {"kernel.grsecurity.dmesg": 1}}, "the option grsecurity instead"),
        ({"boot_parameters": "quiet"}, "true, false, or a list of words"),
        ({"boot_parameters": ["init_on_free=0"]}, "the feature memory_sanitize, true or false, instead"),
        ({"modules_denied": "sctp"}, "modules_denied: 'sctp' is not valid; allowed: a list"),
        ({"lock": "yes"}, "lock: 'yes' is not valid; allowed: true or false"),
    ],
)
def test_a_wrong_declaration_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        parse_declaration(given)


def test_what_the_platform_can_bear_is_taken() -> None:
    given = {"net.ipv4.ip_forward": 1, "user.max_user_namespaces": 5000, "net/ipv4/conf/eth0.1/rp_filter": "1"}
    declared = parse_declaration({"sysctls": given, "conflicts": ["kern_lockout"]})
    assert declared.sysctls == {
        "net/ipv4/ip_forward": "1",
        "user/max_user_namespaces": "5000",
        "net/ipv4/conf/eth0.1/rp_filter": "1",
    }
    assert declared.wants(FEATURES["kern_lockout"])


def test_all_is_on_but_what_conflicts() -> None:
    declared = parse_declaration({})
    off = {name for name, feature in FEATURES.items() if not declared.wants(feature)}
    assert off == {name for name, feature in FEATURES.items() if feature.conflicts}
    assert {"user_namespaces", "module_loading"} <= ACCEPTABLE <= off | {"grsecurity_chroot"}


@pytest.mark.parametrize("feature", FEATURES.values(), ids=lambda feature: feature.name)
def test_a_feature_has_an_equivalent_or_says_what_stands_in_for_it(feature: Feature) -> None:
    assert feature.has_equivalent or feature.instead
    assert feature.name == feature.name.lower()


def test_no_setting_is_two_features() -> None:
    places = [item.place for feature in FEATURES.values() for item in feature.sysctls()]
    keys = [item.key for feature in FEATURES.values() for item in feature.parameters()]
    options = [name for feature in FEATURES.values() for name in feature.grsecurity]
    for names in (places, keys, options):
        assert len(names) == len(set(names))


def test_the_guide_shows_the_table_as_it_is() -> None:
    assert document() in (house.ROOT / "docs/hardening.md").read_text()
