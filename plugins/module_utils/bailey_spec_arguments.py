"""The argument spec of a container's declaration; its documentation is doc_fragments/bailey_spec.py.

Types are as wide as the core's own reading allows: the core's messages name field, value and what is allowed.
"""

from __future__ import annotations

from typing import Any

from .bailey.spec import STARTED, STATES

_RAW = (
    "user", "mem_limit", "memswap_limit", "mem_reservation", "cpus", "cpu_shares", "cpuset", "pids_limit", "disk_limit",
    "shm_size", "pid", "ipc", "uts", "userns_mode",
)  # fmt: skip
_TEXTS = ("tenant", "app", "apparmor_profile", "plan", "image", "working_dir", "hostname", "runtime", "stop_signal")
_MAPPINGS = ("environment", "blkio_config", "logging", "ulimits", "storage_opt", "healthcheck", "network")
_STRING_LISTS = ("command", "entrypoint", "cap_add", "tmpfs", "devices", "exceptions", "security_opt")
_RAW_LISTS = ("ports", "volumes")

CONTAINER_OPTIONS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": list(STATES), "default": STARTED},
    "pull_policy": {"type": "str", "choices": ["missing", "always", "never"], "default": "missing"},
    "read_only": {"type": "bool", "default": True},
    "privileged": {"type": "bool", "default": False},
    "network_mode": {"type": "str", "default": "bridge"},
    "restart": {"type": "str", "default": "unless-stopped"},
    "stop_grace_period": {"type": "str", "default": "10s"},
    "io_scope": {"type": "str", "choices": ["all", "direct"]},
    **{name: {"type": "raw"} for name in _RAW},
    **{name: {"type": "str"} for name in _TEXTS},
    **{name: {"type": "dict"} for name in _MAPPINGS},
    **{name: {"type": "list", "elements": "str"} for name in _STRING_LISTS},
    **{name: {"type": "list", "elements": "raw"} for name in _RAW_LISTS},
}
