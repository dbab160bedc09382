"""The house's rules hold, and each check of them fails on a defect that is put in on purpose."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit import house

ROOT = house.ROOT
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
MODULES = sorted((ROOT / "library").glob("bailey_*.py"))
TRACKED = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    if (ROOT / name).is_file() and not (ROOT / name).is_symlink()
]


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_a_roles_arguments_equal_its_explained_defaults(role: Path) -> None:
    assert list(house.role_findings(role)) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_modules_documentation_equals_its_arguments(path: Path) -> None:
    assert house.documentation_findings(house.import_module(path)) == []


def test_tasks_use_documented_options_only() -> None:
    options = {path.stem: house.documented_options(house.import_module(path)) for path in MODULES}
    tasks = [path for path in TRACKED if path.suffix == ".yml" and path.name != "argument_specs.yml"]
    assert [finding for path in tasks for finding in house.task_findings(path, options)] == []


def test_the_core_imports_downwards_only() -> None:
    assert list(house.layer_findings(house.CORE)) == []


def test_no_file_is_too_long() -> None:
    rooms = ("library/", "plugins/", "roles/", "src/")
    assert list(house.size_findings([p for p in TRACKED if str(p.relative_to(ROOT)).startswith(rooms)])) == []


def test_no_file_names_one_machine() -> None:
    assert list(house.machine_findings(TRACKED)) == []


def make_role(directory: Path, defaults: str, options: str) -> Path:
    role = directory / "seeded"
    for name, text in (
        ("defaults/main.yml", defaults),
        ("meta/argument_specs.yml", f"argument_specs: {{main: {{options: {{{options}}}}}}}"),
    ):
        (role / name).parent.mkdir(parents=True)
        (role / name).write_text(text)
    return role


@pytest.mark.parametrize(
    ("defaults", "options", "finding"),
    [
        ("# Why.\na: 1\n", "", "a has a default, but is not in argument_specs"),
        ("# Why.\na: 1\n", "a: {}, b: {}", "b is in argument_specs, but has no default and is not required"),
        ("# Why.\na: 1\n", "a: {required: true}", "a is required, and yet has a default"),
        ("# Why.\na: 1\n", "a: {default: 2}", "a is 1 in defaults and 2 in argument_specs"),
        ("# Why.\na: 1\n\nb: 2\n", "a: {}, b: {}", "b has no comment above it"),
    ],
)
def test_a_roles_defect_is_found(tmp_path: Path, defaults: str, options: str, finding: str) -> None:
    assert list(house.role_findings(make_role(tmp_path, defaults, options))) == [f"seeded: {finding}"]


def test_a_sound_role_has_no_finding(tmp_path: Path) -> None:
    role = make_role(tmp_path, "# Why both.\na: 1\nb: '{{ a }}'\n", "a: {}, b: {default: 1}, c: {required: true}")
    assert list(house.role_findings(role)) == []


SEEDED_MODULE = '''
DOCUMENTATION = """
module: seeded
options:
  name: {{type: str, required: true}}
  parts:
    type: list
    elements: dict
    suboptions:
      size: {documented}
"""
from ..module_utils.bailey_ansible import run_module


def main():
    run_module(None, argument_spec={{
        "name": {{"required": True}},
        "parts": {{"type": "list", "elements": "dict", "options": {{"size": {argument}}}}},
    }})
'''


@pytest.mark.parametrize(
    ("documented", "argument", "finding"),
    [
        ("{type: str}", '{"type": "int"}', "size: type is documented as 'str' and is 'int'"),
        ("{type: int, default: 1}", '{"type": "int"}', "size: default is documented as 1 and is None"),
        ("{choices: [a]}", '{"choices": ["a", "b"]}', "size: choices are documented as ['a'] and are ['a', 'b']"),
        ("{}\n      depth: {}", "{}", "depth is documented, but no argument"),
    ],
)
def test_a_modules_defect_is_found(tmp_path: Path, documented: str, argument: str, finding: str) -> None:
    path = tmp_path / "seeded.py"
    path.write_text(SEEDED_MODULE.format(documented=documented, argument=argument))
    assert house.documentation_findings(house.import_module(path)) == [f"seeded.parts.{finding}"]


@pytest.mark.parametrize(
    ("task", "finding"),
    [
        ("{name: a, colour: red}", "has no option colour"),
        ("{}", "needs the option name"),
        ("{name: a, parts: [{length: 1}]}", ".parts has no option length"),
        ("{title: a, parts: [{size: 1}]}", None),
    ],
)
def test_a_tasks_defect_is_found(tmp_path: Path, task: str, finding: str | None) -> None:
    path = tmp_path / "main.yml"
    path.write_text(f"- block:\n    - name: Use it\n      seeded: {task}\n")
    options = {"name": {"required": True, "aliases": ["title"]}, "parts": {"suboptions": {"size": {}}}}
    findings = list(house.task_findings(path, {"seeded": options}))
    assert [item.removeprefix("main.yml: seeded").strip() for item in findings] == ([finding] if finding else [])


@pytest.mark.parametrize(
    ("name", "text", "finding"),
    [
        ("units.py", "from .spec import Spec\n", "imports spec, which is above it"),
        ("host/files.py", "from ..registry.client import x\n", "imports registry, which is above it"),
        ("units.py", "def f():\n    import ansible.module_utils\n", "imports ansible"),
        ("units.py", "import docker\n", "imports docker"),
        ("seeded.py", "", "belongs to no layer"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, name: str, text: str, finding: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert list(house.layer_findings(tmp_path)) == [f"{name} {finding}"]


def test_allowed_imports_are_not_findings(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/engine.py").write_text("import docker, json\nfrom . import context\nfrom ..units import x\n")
    assert list(house.layer_findings(tmp_path)) == []


def test_a_long_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "long.py"
    path.write_text("\n" * (house.MAX_LINES + 1))
    assert len(list(house.size_findings([path]))) == 1


@pytest.mark.parametrize("parts", [("deb.debian", ".org"), ("pypi", ".org"), (" /wor", "k/x"), ("/opt", "/wheels")])
def test_a_machines_name_is_found(tmp_path: Path, parts: tuple[str, str]) -> None:
    path = tmp_path / "x.yml"
    path.write_text("url: " + "".join(parts))
    assert len(list(house.machine_findings([path]))) == 1


# For each check of `./bailey lint`: a file that it must refuse.
LINT_DEFECTS = {
    "ruff": ("plugins/module_utils/bailey/seeded.py", '"""Seeded."""\n\nimport os\n'),
    "format": ("plugins/module_utils/bailey/seeded.py", '"""Seeded."""\n\nX = {  "a":1}\n'),
    "mypy": ("plugins/module_utils/bailey/seeded.py", '"""Seeded."""\n\nX: int = "text"\n'),
    "yamllint": ("playbooks/seeded.yml", "a: 1\na: 2\n"),
    "ansible": ("playbooks/seeded.yml", "- hosts: all\n  tasks:\n    - shell: seeded\n"),
    "shellcheck": ("seeded", "#!/bin/sh\nrm $1\n"),
    "docs": ("library/bailey_seeded.py", 'DOCUMENTATION = "module: [seeded"\n'),
    "syntax": ("playbooks/seeded.yml", "- hosts: all\n  seeded: true\n"),
}


@pytest.mark.parametrize("check", LINT_DEFECTS)
def test_a_lint_check_fails_on_a_defect(tmp_path: Path, check: str) -> None:
    for path in TRACKED:
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    name, text = LINT_DEFECTS[check]
    (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["./bailey", "lint", check],
        cwd=tmp_path,
        env={**os.environ, "BAILEY_VENV": sys.prefix},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"lint: failed: {check}" in done.stderr
    assert "seeded" in done.stdout + done.stderr.replace("bailey: lint", "")


@pytest.mark.parametrize(
    ("report", "status"),
    [
        ('<testsuite name="pytest" errors="0" failures="0" skipped="0" tests="7" />', 0),
        ('<testsuite name="pytest" errors="0" failures="0" skipped="0" tests="0" />', 2),
        ('<testsuite name="pytest" errors="0" failures="0" skipped="7" tests="7" />', 2),
        (None, 2),
    ],
)
def test_molecule_fails_where_no_test_ran(tmp_path: Path, report: str | None, status: int) -> None:
    if report is not None:
        (tmp_path / "verify.xml").write_text(report)
    done = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", ".config/molecule/playbooks/verified.yml"],
        cwd=ROOT,
        env={
            **os.environ,
            "MOLECULE_EPHEMERAL_DIRECTORY": str(tmp_path),
            "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
