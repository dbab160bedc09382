"""The inventory plugin as Ansible uses it: containers become hosts, and the machines' own groups stay as they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
SOURCE = {"plugin": "bailey"}
APP = {"tenant": "ada", "name": "my-web", "image": "x", "plan": "small"}


def listed(directory: Path, files: Mapping[str, object]) -> tuple[dict[str, Any], str]:
    """Write an inventory and return what Ansible makes of it, and its warnings."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(directory), "--list"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout, object_hook=_plain), " ".join(done.stderr.split())


def _plain(value: dict[str, Any]) -> Any:
    """Ansible marks strings that it did not read from a file itself: they are never taken for templates."""
    return value.get("__ansible_unsafe", value)


def machines(*names: str, **variables: object) -> dict[str, object]:
    return {"container_hosts": {"hosts": {name: {} for name in names}}, "all": {"vars": variables}}


def hosts_of(inventory: Mapping[str, Any], group: str) -> list[str]:
    return sorted(inventory.get(group, {}).get("hosts", []))


def test_containers_are_hosts_in_their_groups(tmp_path: Path) -> None:
    apps = [{**APP, "instances": 2}, {"tenant": "bob", "name": "job", "image": "x", "plan": "{{ roomy }}"}]
    containers = [{"name": "one", "tenant": "bob", "image": "x"}]
    inventory, warnings = listed(
        tmp_path,
        {
            "hosts.yml": machines("host-1"),
            "group_vars/all.yml": {"tenants_apps": apps, "roomy": "large"},
            "host_vars/host-1.yml": {"tenants_containers": containers, "tenants_run_dir": "/run/elsewhere"},
            "instances.bailey.yml": SOURCE,
        },
    )
    assert warnings == ""
    assert hosts_of(inventory, "bailey_instances") == ["ada-my-web-1", "ada-my-web-2", "bob-job-1", "one"]
    assert hosts_of(inventory, "tenant_ada") == ["ada-my-web-1", "ada-my-web-2"]
    assert hosts_of(inventory, "tenant_bob") == ["bob-job-1", "one"]
    assert hosts_of(inventory, "app_my_web") == ["ada-my-web-1", "ada-my-web-2"]
    assert hosts_of(inventory, "app_one") == ["one"]
    assert hosts_of(inventory, "plan_small") == ["ada-my-web-1", "ada-my-web-2"]
    assert hosts_of(inventory, "plan_large") == ["bob-job-1"]
    assert hosts_of(inventory, "container_hosts") == ["host-1"]
    variables = inventory["_meta"]["hostvars"]["ada-my-web-2"]
    assert variables["ansible_connection"] == "wsh"
    assert variables["ansible_python_interpreter"] == "/usr/bin/python3"
    assert (variables["wsh_instance"], variables["wsh_host"]) == ("ada-my-web-2", "host-1")
    assert variables["wsh_run_dir"] == "/run/elsewhere"
    assert (variables["bailey_tenant"], variables["bailey_app"], variables["bailey_plan"]) == ("ada", "my-web", "small")
    assert "ansible_become" not in variables


def test_what_does_not_run_is_left_out(tmp_path: Path) -> None:
    apps = [{**APP, "instances": 0}, {**APP, "name": "old", "state": "absent"}]
    containers = [
        {"name": "idle", "tenant": "bob", "state": "stopped"},
        {"name": "gone", "state": "absent"},
        {"name": "here", "tenant": "bob", "state": "started"},
    ]
    variables = {"tenants_apps": apps, "tenants_containers": containers}
    inventory, _ = listed(tmp_path, {"a.yml": machines("host-1", **variables), "z.bailey.yml": SOURCE})
    assert hosts_of(inventory, "bailey_instances") == ["here"]


def test_a_name_on_two_machines_has_the_machines_with_it(tmp_path: Path) -> None:
    files = {
        "hosts.yml": machines("host-1", "host-2", "lone", tenants_apps=[APP]),
        "host_vars/host-2.yml": {
            "tenants_containers": [{"name": "lone", "tenant": "bob"}, {"name": "b", "tenant": "bob"}]
        },
        "host_vars/lone.yml": {"tenants_apps": []},
        "instances.bailey.yml": SOURCE,
    }
    inventory, _ = listed(tmp_path, files)
    names = ["ada-my-web-1.host-1", "ada-my-web-1.host-2", "b", "lone.host-2"]
    assert hosts_of(inventory, "bailey_instances") == names
    variables = inventory["_meta"]["hostvars"]["ada-my-web-1.host-2"]
    assert (variables["wsh_instance"], variables["wsh_host"]) == ("ada-my-web-1", "host-2")


def test_what_all_hosts_are_told_about_root_is_for_machines(tmp_path: Path) -> None:
    hosts = machines("host-1", tenants_apps=[APP], ansible_become=True, ansible_connection="local")
    inventory, _ = listed(tmp_path, {"hosts.yml": hosts, "instances.bailey.yml": SOURCE})
    variables = inventory["_meta"]["hostvars"]
    assert variables["ada-my-web-1"]["ansible_become"] is False
    assert variables["ada-my-web-1"]["ansible_connection"] == "wsh"
    assert variables["host-1"]["ansible_become"] is True


def test_the_groups_and_the_python_may_be_others(tmp_path: Path) -> None:
    source = {**SOURCE, "group": "yard", "instances_group": "tenants", "python": "/usr/local/bin/python3"}
    hosts = {"yard": {"hosts": {"host-1": {"tenants_apps": [APP]}}}}
    inventory, _ = listed(tmp_path, {"hosts.yml": hosts, "instances.bailey.yml": source})
    assert hosts_of(inventory, "tenants") == ["ada-my-web-1"]
    python = inventory["_meta"]["hostvars"]["ada-my-web-1"]["ansible_python_interpreter"]
    assert python == "/usr/local/bin/python3"


@pytest.mark.parametrize(
    ("source", "variables", "text"),
    [
        ("a.bailey.yml", {}, "there is no group 'container_hosts' yet"),
        ("z.bailey.yml", {"tenants_apps": [{**APP, "color": 1}]}, "host-1: tenants_apps[0].color"),
        ("z.bailey.yml", {"tenants_apps": "web"}, "host-1: tenants_apps: 'web' is not valid"),
        ("z.bailey.yml", {"tenants_containers": ["web"]}, "tenants_containers: 'web' is not valid"),
        ("z.bailey.yml", {"tenants_containers": {"a": 1}}, "tenants_containers"),
        ("z.bailey.yml", {"tenants_containers": [{"name": "Web"}]}, "name: 'Web' is not valid"),
        ("z.bailey.yml", {"tenants_containers": [{"name": "web"}]}, "web.tenant: None is not valid"),
        ("z.bailey.yml", {"tenants_apps": "{{ nothing }}"}, "'nothing' is undefined"),
    ],
)
def test_what_cannot_be_read_is_told_and_adds_nothing(
    tmp_path: Path, source: str, variables: dict[str, object], text: str
) -> None:
    inventory, warnings = listed(tmp_path, {"hosts.yml": machines("host-1", **variables), source: SOURCE})
    assert text in warnings
    assert hosts_of(inventory, "bailey_instances") == []
    assert hosts_of(inventory, "container_hosts") == ["host-1"]


def test_the_inventories_that_are_shipped_list_their_containers() -> None:
    for name, instance in (("local", "clara-site-1"), ("example", "ada-web-2.host-2")):
        inventory, warnings = listed(ROOT / "inventories" / name, {})
        assert instance in hosts_of(inventory, "bailey_instances")
        assert warnings == ""
        assert not {*hosts_of(inventory, "container_hosts")} & {*hosts_of(inventory, "bailey_instances")}
