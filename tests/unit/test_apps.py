"""Apps become instances: their names, their ports, and what is refused on the way."""

from __future__ import annotations

import pytest
from bailey.apps import APP_FIELDS, expand_apps
from bailey.errors import InvalidValueError
from bailey.spec import SPEC_FIELDS, parse_spec

WEB = {"tenant": "ada", "name": "web", "image": "web:1"}


def test_instances_are_numbered_from_one_and_their_ports_count_up() -> None:
    port = {"published": 8001, "target": 8080, "host_ip": "127.0.0.2"}
    made = expand_apps([{**WEB, "instances": 3, "ports": [port]}])
    assert [item["name"] for item in made] == ["ada-web-1", "ada-web-2", "ada-web-3"]
    assert {item["app"] for item in made} == {"web"}
    assert [item["ports"] for item in made] == [[{**port, "published": 8001 + index}] for index in range(3)]


def test_one_instance_is_the_default_and_none_can_be_asked_for() -> None:
    assert len(expand_apps([WEB])) == 1
    assert expand_apps([{**WEB, "instances": 0}]) == []


def test_the_declaration_goes_on_to_every_instance() -> None:
    made = expand_apps([{**WEB, "instances": 2, "plan": "small", "state": "stopped"}])
    assert [(item["plan"], item["state"], item["image"]) for item in made] == [("small", "stopped", "web:1")] * 2


def test_an_app_has_every_field_of_a_container_but_those_that_follow_from_it() -> None:
    assert {*SPEC_FIELDS, "instances", "state"} - {"app"} == set(APP_FIELDS)


def test_a_rule_of_an_app_names_its_own_tenants_apps() -> None:
    rules = [{"action": "allow", "app": "api"}, {"action": "allow", "app": "bruno/site"}]
    made = expand_apps([{**WEB, "instances": 2, "network": {"egress": "1Mbit", "rules": rules}}])
    limits = {"mem_limit": "64M", "cpus": 0.1, "pids_limit": 9}
    for item in made:
        network = parse_spec({key: value for key, value in {**item, **limits}.items() if key != "state"}).network
        assert network.egress == 1_000_000
        assert [str(rule.app) for rule in network.rules] == ["ada/api", "bruno/site"]


def test_two_tenants_may_have_apps_of_one_name() -> None:
    made = expand_apps([WEB, {**WEB, "tenant": "bruno"}])
    assert [item["name"] for item in made] == ["ada-web-1", "bruno-web-1"]


@pytest.mark.parametrize(
    ("apps", "field"),
    [
        ("web", "tenants_apps"),
        ([{**WEB, "instances": -1}], "tenants_apps[0].instances"),
        ([{**WEB, "instances": 1.5}], "tenants_apps[0].instances"),
        ([{**WEB, "colour": "red"}], "tenants_apps[0].colour"),
        ([{"tenant": "ada"}], "tenants_apps[0].name"),
        ([{**WEB, "tenant": "Ada"}], "tenants_apps[0].tenant"),
        ([WEB, WEB], "tenants_apps[1].name"),
        ([{**WEB, "ports": ["8001:8080"]}], "tenants_apps[0].ports[0]"),
        ([{**WEB, "ports": [{"published": 0, "target": 1}]}], "tenants_apps[0].ports[0].published"),
    ],
)
def test_what_is_not_an_app_is_refused_by_its_place(apps: object, field: str) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        expand_apps(apps)
    assert refusal.value.details["field"] == field
