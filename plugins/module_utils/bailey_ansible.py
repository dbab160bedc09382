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
    """What a module did, or in check mode would do: `changed` and the diff come from `differences`.

    `changed` alone is for what acts and cannot know what differs afterwards.
    """

    differences: Differences = field(default_factory=Differences)
    values: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    changed: bool = False


def run_module(
    handler: Callable[[dict[str, Any], bool], Outcome], *, mask_from: int = 1, **module_arguments: Any
) -> None:
    """Run `handler(params, check_mode)` as an Ansible module that supports check mode.

    `module_arguments` go to AnsibleModule as they are (argument_spec, required_if, ...). Values of no_log arguments
    are masked wherever they stand in the result, where they are of `mask_from` characters at least.
    A BaileyError becomes the module's failure, with its details; any other exception is a defect
    and shows its traceback.
    """
    module = AnsibleModule(supports_check_mode=True, **module_arguments)
    hidden = _mask_long_values(module, mask_from) if mask_from > 1 else {}
    try:
        outcome = handler(module.params, module.check_mode)
    except BaileyError as error:
        module.fail_json(msg=str(error), **error.details, **hidden)
    for warning in outcome.warnings:
        module.warn(warning)
    changed = outcome.changed or bool(outcome.differences)
    result: dict[str, Any] = {"changed": changed, **outcome.values, **hidden}
    if outcome.differences:
        result["diff"] = outcome.differences.as_diff()
    module.exit_json(**result)


def _mask_long_values(module: AnsibleModule, mask_from: int) -> dict[str, Any]:
    """Spare short values from masking, and return the invocation that a result shows, without any of them.

    Where a no_log argument is "3", every 3 of a command's output would be masked, its exit code too.
    """
    module.no_log_values = {value for value in module.no_log_values if len(value) >= mask_from}
    shown = {
        name: "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" if value and module.argument_spec[name].get("no_log") else value
        for name, value in module.params.items()
    }
    return {"invocation": {"module_args": shown}}
