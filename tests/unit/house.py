"""The rules of the house that no linter knows, each a function that returns what breaks it."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "plugins/module_utils/bailey"

# The core from the bottom up: a module may import its own layer and those below it.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors"}),
    frozenset({"changes", "fields", "names", "units"}),
    frozenset(
        {
            "apps",
            "capabilities",
            "confinement",
            "exceptions",
            "healthcheck",
            "limits",
            "network",
            "network_settings",
            "ports",
            "rlimits",
            "seccomp",
            "spec",
        }
    ),
    frozenset({"host"}),
    frozenset({"lockdown"}),
    frozenset({"agent_files", "instance_state", "leases"}),
    frozenset({"agent_client", "backends", "wsh"}),
    frozenset({"admission", "enforcement", "firewall", "grants", "isolation", "planning", "store", "uids"}),
    frozenset({"carry", "hosts", "inventory", "reconcile", "table"}),
    frozenset({"access_log", "agent", "engine", "images", "registry", "scan"}),
)
# What the core may import beyond the standard library, and where.
LIBRARIES = {"docker": ("images",)}

MAX_LINES = 420
# Written so that this file does not match them.
MACHINE_NAMES = re.compile(
    r"deb\.debian\.org|security\.debian\.org|archive\.ubuntu\.com|pypi\.org|python[h]osted|registry\.npmjs"
    r"|registry-1\.docker|(?<![\w.])/[w]ork/|/opt/(?:pypi|wheels)"
)


def role_findings(role: Path) -> Iterator[str]:
    """A role's argument specification and its defaults name the same variables, and each default says why."""
    path = role / "defaults/main.yml"
    defaults = (yaml.safe_load(path.read_text()) if path.exists() else None) or {}
    specification = yaml.safe_load((role / "meta/argument_specs.yml").read_text())
    options = specification["argument_specs"]["main"].get("options", {})
    required = {name for name, option in options.items() if option.get("required")}
    for name in sorted(options.keys() - required - defaults.keys()):
        yield f"{role.name}: {name} is in argument_specs, but has no default and is not required"
    for name in sorted(defaults.keys() - options.keys()):
        yield f"{role.name}: {name} has a default, but is not in argument_specs"
    for name in sorted(required & defaults.keys()):
        yield f"{role.name}: {name} is required, and yet has a default"
    for name in sorted(defaults.keys() & options.keys()):
        declared = options[name].get("default", defaults[name])
        if "{{" not in str(defaults[name]) and declared != defaults[name]:
            yield f"{role.name}: {name} is {defaults[name]!r} in defaults and {declared!r} in argument_specs"
    if path.exists():
        yield from (f"{role.name}: {name} has no comment above it" for name in _bare_keys(path.read_text()))


def _bare_keys(text: str) -> Iterator[str]:
    """Yield the top-level keys that no comment explains; one comment may explain keys that follow without a gap."""
    explained = False
    for line in text.splitlines():
        if line.startswith("#"):
            explained = True
        elif not line.strip():
            explained = False
        elif not explained and (match := re.match(r"(\w+):", line)):
            yield match[1]


def import_module(path: Path) -> ModuleType:
    """Import an Ansible module as Ansible does: its `..module_utils` is plugins/module_utils."""
    package = f"house_{abs(hash(path.parent))}"
    for name, directory in (("", ""), (".modules", path.parent), (".module_utils", CORE.parent)):
        parent = sys.modules.setdefault(package + name, ModuleType(package + name))
        parent.__path__ = [str(directory)] if directory else []
    return importlib.import_module(f"{package}.modules.{path.stem}")


def argument_spec(module: ModuleType) -> dict[str, Any]:
    """Return what the module gives to run_module, which is replaced for the call."""
    given: list[dict[str, Any]] = []
    original = module.run_module
    module.run_module = lambda _handler, **arguments: given.append(arguments)  # type: ignore[attr-defined]
    try:
        module.main()
    finally:
        module.run_module = original  # type: ignore[attr-defined]
    return given[0]["argument_spec"]


def documented_options(module: ModuleType) -> dict[str, Any]:
    """Return the documented options, those of the fragments that it extends included."""
    documentation = yaml.safe_load(module.DOCUMENTATION)
    options: dict[str, Any] = {}
    fragments = documentation.get("extends_documentation_fragment", [])
    for name in [fragments] if isinstance(fragments, str) else fragments:
        path = ROOT / f"plugins/doc_fragments/{name.rpartition('.')[2]}.py"
        if path.exists():
            scope: dict[str, Any] = {}
            exec(compile(path.read_text(), str(path), "exec"), scope)
            options |= yaml.safe_load(scope["ModuleDocFragment"].DOCUMENTATION).get("options", {})
    return options | (documentation.get("options") or {})


def documentation_findings(module: ModuleType) -> list[str]:
    """A module's documentation and its arguments say the same, at every depth."""
    name = module.__name__.rpartition(".")[2]
    return list(_option_findings(name, documented_options(module), argument_spec(module)))


def _option_findings(path: str, documented: dict[str, Any], arguments: dict[str, Any]) -> Iterator[str]:
    for name in sorted(documented.keys() ^ arguments.keys()):
        where = "documented, but no argument" if name in documented else "an argument, but not documented"
        yield f"{path}.{name} is {where}"
    for name in sorted(documented.keys() & arguments.keys()):
        text, argument = documented[name], arguments[name]
        for key, absent in (("type", "str"), ("required", False), ("default", None), ("elements", None)):
            if text.get(key, absent) != argument.get(key, absent):
                yield f"{path}.{name}: {key} is documented as {text.get(key)!r} and is {argument.get(key)!r}"
        for key in ("choices", "aliases"):
            if sorted(map(str, text.get(key, []))) != sorted(map(str, argument.get(key, []))):
                yield f"{path}.{name}: {key} are documented as {text.get(key)!r} and are {argument.get(key)!r}"
        yield from _option_findings(f"{path}.{name}", text.get("suboptions") or {}, argument.get("options") or {})


def task_findings(path: Path, options: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Each task of a playbook or tasks file uses our modules with options that they document."""
    for mapping in _mappings(yaml.safe_load(path.read_text())):
        for module in options.keys() & mapping.keys():
            given = mapping[module] or {}
            if isinstance(given, dict):
                yield from _usage_findings(f"{path.name}: {module}", given, options[module])


def _usage_findings(where: str, given: dict[str, Any], options: dict[str, Any]) -> Iterator[str]:
    names = {alias: name for name, option in options.items() for alias in [name, *option.get("aliases", [])]}
    used = {names[name]: value for name, value in given.items() if name in names}
    yield from (f"{where} has no option {name}" for name in given if name not in names)
    for name, option in options.items():
        if option.get("required") and name not in used:
            yield f"{where} needs the option {name}"
        values = used.get(name)
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, dict) and option.get("suboptions"):
                yield from _usage_findings(f"{where}.{name}", value, option["suboptions"])


def _mappings(node: object) -> Iterator[dict[str, Any]]:
    """Yield every mapping in a document: tasks stand in plays, blocks, rescue and always."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _mappings(child)


def layer_findings(core: Path) -> Iterator[str]:
    """The core imports downwards only, never Ansible, and libraries only where they are allowed."""
    ranks = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
    for path in sorted(core.rglob("*.py")):
        relative = path.relative_to(core)
        room = relative.parts[0].removesuffix(".py")
        if relative.name == "__init__.py" and room in ("__init__", *ranks):
            continue
        if room not in ranks:
            yield f"{relative} belongs to no layer"
            continue
        for target, outside in _imports(path, core):
            if outside:
                if target not in sys.stdlib_module_names and room not in LIBRARIES.get(target, ()):
                    yield f"{relative} imports {target}"
            elif ranks.get(target, len(LAYERS)) > ranks[room]:
                yield f"{relative} imports {target}, which is above it"


def _imports(path: Path, core: Path) -> Iterator[tuple[str, bool]]:
    """Yield the first part of what a file imports, and whether it is outside of the core."""
    package = path.relative_to(core).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], True) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0], True
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            names = [node.module.partition(".")[0]] if node.module else [alias.name for alias in node.names]
            yield from ((base[0] if base else name, False) for name in names)


def size_findings(paths: list[Path]) -> Iterator[str]:
    """No file is longer than one sitting."""
    for path in paths:
        lines = len(path.read_text().splitlines())
        if lines > MAX_LINES:
            yield f"{path.name} has {lines} lines; at most {MAX_LINES}"


def machine_findings(paths: list[Path]) -> Iterator[str]:
    """No file names a registry's host or a path of one developer's machine: operators have their own."""
    for path in paths:
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if match := MACHINE_NAMES.search(line):
                yield f"{path.name}:{number}: {match[0]}"
