#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module bailey_storage: the file system for the tenants' volumes, with disk limits that were seen to hold."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bailey_storage
short_description: Provide the tenants' storage, with disk limits that hold
version_added: "0.1.0"
description:
  - Makes, mounts and grows one file system for the data that tenants write, so that each volume on it can
    have a limit that the kernel enforces.
  - A new file system is accepted only after a trial. An ordinary user writes past the limit of a volume and must
    be stopped there, while another volume can still be written. What fails its trial is removed again.
  - With O(backend=auto), XFS with project quotas is tried first, then btrfs with a subvolume for each volume.
    Where neither works, volumes are plain directories, and limits on them are refused later.
  - Nothing is formatted that holds a file system which is not Bailey's (known by the label C(bailey)),
    a partition table, or any other data.
options:
  state:
    description:
      - V(present) provides the storage and keeps it as declared.
      - V(absent) unmounts it and removes the loop file (or erases the block device), the loop device, the entry in
        C(/etc/fstab) and the directory.
    type: str
    choices: [present, absent]
    default: present
  backend:
    description: The file system. V(auto) takes what is there, else the first that passes its trial.
    type: str
    choices: [auto, xfs, btrfs, none]
    default: auto
  path:
    description: Directory at which the storage is mounted. It must be empty, or not there yet.
    type: path
    default: /var/lib/bailey/volumes
  source:
    description: Loop file to store it in, or a block device to use whole.
    type: path
    default: /var/lib/bailey/storage.img
  size:
    description:
      - Size of the loop file, with a unit, of at least 512M. A greater size than before grows the storage while
        it is in use; a smaller one is refused.
      - Not looked at where O(source) is a block device.
    type: str
    default: 10G
  preallocate:
    description:
      - Take all blocks of the loop file from the host's disk at once. Otherwise the file is sparse, and space
        that tenants free goes back to the host.
    type: bool
    default: false
  mount_options:
    description: Further mount options, beside those that the module sets itself.
    type: list
    elements: str
    default: []
  remove_data:
    description: With O(state=absent), remove the storage even if volumes are in it.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says what would change. Which file system passes its trial is not known before it is made.
    support: partial
  diff_mode:
    description: Shows what is changed.
    support: full
requirements:
  - btrfs-progs for btrfs, xfsprogs for XFS
author:
  - The Bailey authors
"""

EXAMPLES = r"""
- name: Provide 50 GiB for the tenants on the best file system that this host has
  bailey_storage:
    size: 50G

- name: Use a whole disk with btrfs
  bailey_storage:
    backend: btrfs
    source: /dev/disk/by-id/virtio-tenants

- name: Remove the storage and everything that tenants wrote
  bailey_storage:
    state: absent
    remove_data: true
"""

RETURN = r"""
backend:
  description: File system in use; null where that is not known yet (check mode) or the storage is absent.
  returned: success
  type: str
  sample: btrfs
device:
  description: Block device below the storage.
  returned: success
  type: str
  sample: /dev/loop0
capacity_bytes:
  description: Bytes that the limits of all volumes together may promise.
  returned: success
  type: int
  sample: 9361686528
path:
  description: Directory of the volumes.
  returned: success
  type: str
  sample: /var/lib/bailey/volumes
reasons:
  description: Why a file system was tried and not taken, by its name.
  returned: success
  type: dict
  sample: {"xfs": "mount failed"}
"""

from pathlib import Path
from typing import Any

from ..module_utils.bailey.host.storage import present
from ..module_utils.bailey.host.storage_absent import absent
from ..module_utils.bailey.host.storage_base import BACKENDS, Settings
from ..module_utils.bailey.units import parse_size
from ..module_utils.bailey_ansible import Outcome, run_module


def handle(params: dict[str, Any], check_mode: bool) -> Outcome:
    """Bring the declared state about and return it."""
    settings = Settings(
        backend=params["backend"],
        path=Path(params["path"]),
        source=Path(params["source"]),
        size=parse_size("size", params["size"]),
        preallocate=params["preallocate"],
        mount_options=tuple(params["mount_options"]),
    )
    if params["state"] == "present":
        storage = present(settings, check=check_mode)
    else:
        storage = absent(settings, remove_data=params["remove_data"], check=check_mode)
    values = {
        "backend": storage.backend,
        "device": storage.device,
        "capacity_bytes": storage.capacity,
        "path": str(settings.path),
        "reasons": storage.reasons,
    }
    return Outcome(storage.differences, values, storage.warnings)


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        handle,
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "backend": {"type": "str", "choices": list(BACKENDS), "default": "auto"},
            "path": {"type": "path", "default": "/var/lib/bailey/volumes"},
            "source": {"type": "path", "default": "/var/lib/bailey/storage.img"},
            "size": {"type": "str", "default": "10G"},
            "preallocate": {"type": "bool", "default": False},
            "mount_options": {"type": "list", "elements": "str", "default": []},
            "remove_data": {"type": "bool", "default": False},
        },
    )


if __name__ == "__main__":
    main()
