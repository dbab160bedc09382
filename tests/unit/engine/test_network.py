"""The network's settings: the role's defaults are the agent's, and the module passes every one of them on."""

from __future__ import annotations

from typing import Any

import yaml
from bailey.network_settings import parse_network_settings

from tests.unit import house

DEFAULTS: dict[str, Any] = yaml.safe_load((house.ROOT / "roles/network/defaults/main.yml").read_text())
FILE = {name.removeprefix("network_"): value for name, value in DEFAULTS.items() if name != "network_packages"}


def test_the_roles_defaults_are_what_the_agent_takes_where_nothing_is_said() -> None:
    assert parse_network_settings(FILE, "network") == parse_network_settings({}, "network")


def test_the_access_log_listens_where_the_firewall_logs_to() -> None:
    defaults = yaml.safe_load((house.ROOT / "roles/access_log/defaults/main.yml").read_text())
    assert defaults["access_log_group"] == FILE["log_group"]


def test_the_module_takes_every_setting_of_the_role() -> None:
    module = house.import_module(house.ROOT / "library/bailey_network.py")
    assert set(house.argument_spec(module)) == {"state", *FILE}
