"""The documentation of how a module finds a host's containers; the arguments are HOST_ARGUMENTS."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of every module that works on a host's containers."""

    DOCUMENTATION = r"""
options:
  storage_path:
    description: Where the tenants' storage is mounted (see M(bailey_storage)).
    type: path
    default: /var/lib/bailey/volumes
  state_dir:
    description: Directory of the spec files and what else must survive a reboot.
    type: path
    default: /var/lib/bailey
  run_dir:
    description: Directory of the agent's sockets and of what it says of each instance.
    type: path
    default: /run/bailey
  wsh_dir:
    description: Directory of the programs that every container has mounted as C(/.bailey).
    type: path
    default: /usr/lib/bailey/wsh
  docker_host:
    description: The engine's socket.
    type: str
    default: unix:///var/run/docker.sock
  timeout:
    description: Seconds after which a request that the engine does not answer is given up.
    type: int
    default: 60
"""
