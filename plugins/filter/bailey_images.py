"""Filters of the role images: a build context as data, and builds in the order of their bases."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError


def bailey_context(directory: str) -> list[dict[str, str]]:
    """Read a directory of the controller as the files of a build context.

    Of a file's mode only whether it may be executed counts: the rest is the checkout's umask.
    """
    root = Path(directory)
    if not root.is_dir():
        raise AnsibleFilterError(f"bailey_context: {directory} is no directory of the controller")
    return [_file(root, path) for path in sorted(root.rglob("*")) if not path.is_dir() or path.is_symlink()]


def _file(root: Path, path: Path) -> dict[str, str]:
    if path.is_symlink() or not path.is_file():
        raise AnsibleFilterError(f"bailey_context: {path} is neither a file nor a directory")
    if path.name == ".dockerignore":
        raise AnsibleFilterError(f"bailey_context: {path} is not honoured here: keep only what belongs in {root}")
    return {
        "path": path.relative_to(root).as_posix(),
        "content": base64.b64encode(path.read_bytes()).decode(),
        "mode": "0755" if os.access(path, os.X_OK) else "0644",
    }


def bailey_build_order(builds: Sequence[Mapping[str, Any]], known: Sequence[str] = ()) -> list[Mapping[str, Any]]:
    """Return builds so that each follows its base.

    A base is the name of another build, one of `known` names, or a full reference (with / or :).
    """
    names = [*known, *(str(build["name"]) for build in builds)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AnsibleFilterError(f"images: more than one image is called {', '.join(twice)}")
    by_name = {str(build["name"]): build for build in builds}
    graph = {name: _depends_on(name, str(build.get("base", "")), names, by_name) for name, build in by_name.items()}
    try:
        return [by_name[name] for name in TopologicalSorter(graph).static_order()]
    except CycleError as error:
        raise AnsibleFilterError(f"images: bases go in a circle: {' → '.join(error.args[1])}") from error


def _depends_on(name: str, base: str, names: Sequence[str], by_name: Mapping[str, Any]) -> list[str]:
    if base in by_name:
        return [base]
    if base and base not in names and not set(base) & set("/:"):
        allowed = ", ".join(sorted({*names} - {name}))
        raise AnsibleFilterError(f"images: {name} has the base {base!r}; allowed: {allowed}, or a full reference")
    return []


class FilterModule:
    """The filters, as Ansible finds them."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"bailey_context": bailey_context, "bailey_build_order": bailey_build_order}
