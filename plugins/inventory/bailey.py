"""Inventory plugin: the containers that the inventory's machines are declared to run, as hosts of Ansible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleError, AnsibleParserError
from ansible.inventory.helpers import get_group_vars
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.utils.vars import combine_vars
from ansible.vars.plugins import get_vars_from_inventory_sources

try:
    from ..module_utils.bailey.apps import expand_apps
    from ..module_utils.bailey.errors import BaileyError
    from ..module_utils.bailey.fields import Fields
    from ..module_utils.bailey.names import parse_name
except ImportError:  # outside of a collection Ansible loads plugins as single files: join the core to what it knows
    ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))
    from ansible.module_utils.bailey.apps import expand_apps
    from ansible.module_utils.bailey.errors import BaileyError
    from ansible.module_utils.bailey.fields import Fields
    from ansible.module_utils.bailey.names import parse_name

DOCUMENTATION = r"""
name: bailey
short_description: Containers of the inventory's machines as hosts
version_added: "0.1.0"
author: Bailey's founders (@bailey)
description:
  - Adds a host for each container that the machines of a group are declared to run, worked out from their variables
    C(tenants_apps) and C(tenants_containers). Nobody is asked, and no login is needed; what is declared to be
    stopped or absent is left out.
  - A container is named as its instance; where several machines have an instance of that name, each is named
    C(INSTANCE.MACHINE). It stands in the groups C(tenant_TENANT), C(app_APP) and C(plan_PLAN), with underscores for
    hyphens, and in O(instances_group).
  - Each is reached by the connection V(wsh), and has the variables C(wsh_instance), C(wsh_host), C(bailey_tenant),
    C(bailey_app) and C(bailey_plan).
  - Sources in a directory are read in the order of their names, and this one must come after those that name the
    machines. Its name ends in C(bailey.yml), such as C(instances.bailey.yml).
  - Variables come from the inventory and the C(group_vars) and C(host_vars) beside it, not from those beside a
    playbook.
  - Where the inventory says C(ansible_become) for all of its hosts, that is meant for the machines; containers have
    V(false) in its place.
options:
  plugin:
    description: Tells that the file is for this plugin.
    type: str
    required: true
    choices: [bailey, bailey.platform.bailey]
  group:
    description: The group of the machines that run containers.
    type: str
    default: container_hosts
  instances_group:
    description: The group of all containers.
    type: str
    default: bailey_instances
  python:
    description: Python inside, which modules run in.
    type: str
    default: /usr/bin/python3
"""

EXAMPLES = r"""
# inventories/example/instances.bailey.yml
plugin: bailey

# Then, for example:
#   ansible-inventory --graph
#   ansible tenant_ada -m ansible.builtin.command -a 'df /data'
"""

_APPS = "tenants_apps"
_CONTAINERS = "tenants_containers"


@dataclass(frozen=True)
class _Instance:
    """One container as declared."""

    name: str
    tenant: str
    app: str
    plan: str
    machine: str
    run_dir: str

    def groups(self) -> Iterator[str]:
        """Return the groups that it stands in."""
        yield f"tenant_{self.tenant}"
        yield f"app_{self.app}"
        if self.plan:
            yield f"plan_{self.plan}"


class InventoryModule(BaseInventoryPlugin):
    """Reads a source that says `plugin: bailey`."""

    NAME = "bailey"

    def verify_file(self, path: str) -> bool:
        """Say whether a source is this plugin's, by its name."""
        return super().verify_file(path) and path.endswith(("bailey.yml", "bailey.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add the containers of every machine that the inventory has so far."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        group = inventory.groups.get(self.get_option("group"))
        if group is None:
            raise AnsibleParserError(
                f"{path}: there is no group {self.get_option('group')!r} yet; allowed: the name of a group of a source "
                "that is read before this one, by the order of their names"
            )
        instances = [instance for host in group.get_hosts() for instance in self._instances_of(host)]
        times = Counter(instance.name for instance in instances)
        taken = set(inventory.hosts)
        inventory.add_group(self.get_option("instances_group"))
        for instance in instances:
            plain = times[instance.name] == 1 and instance.name not in taken
            self._add(instance, instance.name if plain else f"{instance.name}.{instance.machine}")

    def _add(self, instance: _Instance, name: str) -> None:
        parent = self.get_option("instances_group")
        self.inventory.add_host(name, group=parent)
        for group in instance.groups():
            self.inventory.add_host(name, group=self.inventory.add_group(self._sanitize_group_name(group)))
        variables = {
            "ansible_connection": self._connection(),
            "ansible_python_interpreter": self.get_option("python"),
            "wsh_instance": instance.name,
            "wsh_host": instance.machine,
            "wsh_run_dir": instance.run_dir,
            "bailey_tenant": instance.tenant,
            "bailey_app": instance.app,
            "bailey_plan": instance.plan,
        }
        if "ansible_become" in self._variables_of(self.inventory.hosts[name]):
            variables["ansible_become"] = False
        for key, value in variables.items():
            self.inventory.set_variable(name, key, value)

    @staticmethod
    def _connection() -> str:
        """Return the connection plugin's name, with that of the collection where this one comes from one."""
        parts = __name__.split(".")
        return ".".join([*parts[1:3], "wsh"]) if parts[0] == "ansible_collections" else "wsh"

    def _variables_of(self, host: Any) -> dict[str, Any]:
        """Return a host's variables as they will be when all sources are read: only then is it joined to all."""
        sources = self.inventory.processed_sources
        groups = [self.inventory.groups["all"], *(group for group in host.get_groups() if group.name != "all")]
        variables = get_group_vars(groups)
        for found in (
            get_vars_from_inventory_sources(self.loader, sources, groups, "all"),
            host.get_vars(),
            get_vars_from_inventory_sources(self.loader, sources, [host], "all"),
        ):
            variables = combine_vars(variables, found)
        return dict(variables)

    def _instances_of(self, host: Any) -> Iterator[_Instance]:
        variables = self._variables_of(host)
        self.templar.available_variables = variables
        try:
            for declared in self._declared(variables):
                yield _read(declared, host.name, str(self._value(variables, "tenants_run_dir", "/run/bailey")))
        except BaileyError as error:
            raise AnsibleParserError(f"{host.name}: {error}") from error
        except AnsibleError as error:
            raise AnsibleParserError(f"{host.name}: its tenants cannot be read: {error}") from error

    def _declared(self, variables: Mapping[str, Any]) -> list[object]:
        containers = Fields("", {_CONTAINERS: self._value(variables, _CONTAINERS, [])}, (_CONTAINERS,))
        declared = [*expand_apps(self._value(variables, _APPS, [])), *containers.items(_CONTAINERS)]
        return [item for item in declared if not isinstance(item, Mapping) or item.get("state", "started") == "started"]

    def _value(self, variables: Mapping[str, Any], name: str, default: object) -> Any:
        return self.templar.template(variables[name]) if name in variables else default


def _read(declared: object, machine: str, run_dir: str) -> _Instance:
    """Read what matters here; whether all else is right is the preflight's to say."""
    if not isinstance(declared, Mapping):
        raise BaileyError(f"{_CONTAINERS}: {declared!r} is not valid; allowed: a mapping")
    name = parse_name("name", declared.get("name"))
    tenant = parse_name(f"{name}.tenant", declared.get("tenant"))
    app = parse_name(f"{name}.app", declared.get("app") or name)
    plan = declared.get("plan")
    return _Instance(name, tenant, app, str(plan or ""), machine, run_dir)
