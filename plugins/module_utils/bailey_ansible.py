"""The one bridge from AnsibleModule to the core: arguments in, one result or one clear error out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .bailey.changes import Differences
from .bailey.errors import BaileyError

# What every module that works on a host's containers takes to find them.
HOST_ARGUMENTS: dict[str, Any] = {
    "storage_path": {"type": "path", "default": "/var/lib/bailey/volumes"},
    "state_dir": {"type": "path", "default": "/var/lib/bailey"},
    "run_dir": {"type": "path", "default": "/run/bailey"},
    "wsh_dir": {"type": "path", "default": "/usr/lib/bailey/wsh"},
    "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
    "timeout": {"type": "int", "default": 60},
}


@dataclass
class Outcome:
    """What a module did, or in check mode would do: `changed` and the diff come from `differences`."""

    differences: Differences = field(default_factory=Differences)
    values: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def run_module(handler: Callable[[dict[str, Any], bool], Outcome], **module_arguments: Any) -> None:
    """Run `handler(params, check_mode)` as an Ansible module that supports check mode.

    `module_arguments` go to AnsibleModule as they are (argument_spec, required_if, ...).
    A BaileyError becomes the module's failure, with its details; any other exception is a defect
    and shows its traceback.
    """
    module = AnsibleModule(supports_check_mode=True, **module_arguments)
    try:
        outcome = handler(module.params, module.check_mode)
    except BaileyError as error:
        module.fail_json(msg=str(error), **error.details)
    for warning in outcome.warnings:
        module.warn(warning)
    result: dict[str, Any] = {"changed": bool(outcome.differences), **outcome.values}
    if outcome.differences:
        result["diff"] = outcome.differences.as_diff()
    module.exit_json(**result)
