"""Images pushed to a real registry, and the module as Ansible runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils.bailey.errors import EngineError
from plugins.module_utils.bailey.images import manage
from plugins.module_utils.bailey.images.engine import Credentials
from plugins.module_utils.bailey.images.engine import Engine as ImageEngine
from plugins.module_utils.bailey.images.reference import parse_repository
from tests.integration.fixtures.images import NAME, PASSWORD, Module, Registry, present

pytest_plugins = ["tests.integration.fixtures.images"]

pytestmark = pytest.mark.usefixtures("left")


def test_both_tags_are_pushed_once(
    images: ImageEngine, declared: manage.Desired, rootfs: Path, image_registry: Registry
) -> None:
    repository = parse_repository("name", image_registry.name)
    account = Credentials("tester", PASSWORD)
    declared = replace(declared, repository=repository, push=True, credentials=account)
    made = present(images, declared)
    tag = (made.inputs or "")[:12]
    assert sorted(made.pushed) == sorted([tag, "current"])
    digest = images.registry_digest(f"{image_registry.name}:current", account)
    assert digest == images.registry_digest(f"{image_registry.name}:{tag}", account) is not None
    assert not present(images, declared).differences

    (rootfs / "etc/motd").write_text("two\n")
    assert "current" in present(images, declared).pushed
    assert images.registry_digest(f"{image_registry.name}:current", account) != digest
    (rootfs / "etc/motd").write_text("one\n")
    assert present(images, declared).pushed == ["current"]
    assert images.registry_digest(f"{image_registry.name}:current", account) == digest
    assert not present(images, declared).differences


@pytest.mark.parametrize("credentials", [None, Credentials("tester", "not-the-password")])
def test_a_refused_login_is_one_message_before_anything_is_made(
    images: ImageEngine,
    declared: manage.Desired,
    image_registry: Registry,
    left: Callable[[], set[str]],
    credentials: Credentials | None,
) -> None:
    repository = parse_repository("name", image_registry.name)
    declared = replace(declared, repository=repository, push=True, credentials=credentials)
    with pytest.raises(EngineError, match="asking the registry for") as caught:
        present(images, declared)
    assert "not-the-password" not in str(caught.value)
    assert left() == set()


def test_a_registry_that_is_down_stops_a_run_and_warns_in_check_mode(
    images: ImageEngine, declared: manage.Desired, image_registry: Registry, left: Callable[[], set[str]]
) -> None:
    image_registry.stop()
    declared = replace(declared, repository=parse_repository("name", image_registry.name), push=True)
    with pytest.raises(EngineError, match="asking the registry for"):
        present(images, declared)
    report = present(images, declared, check_mode=True)
    assert sorted(report.pushed) == sorted([(report.inputs or "")[:12], "current"])
    assert report.warnings
    assert left() == set()


def test_the_module_from_nothing_to_nothing(
    image_module: Module, rootfs: Path, tmp_path: Path, image_registry: Registry, left: Callable[[], set[str]]
) -> None:
    declared = {
        "name": image_registry.name,
        "rootfs": {"path": str(rootfs), "cmd": ["/x"]},
        "push": True,
        "keep": 1,
        "registry_username": "tester",
        "registry_password": PASSWORD,
        "specs_directory": str(tmp_path / "none"),
    }
    previewed = image_module.run(declared, "--check", "--diff")
    assert previewed["changed"]
    assert previewed["built"]
    assert left() == set()

    made = image_module.run(declared)
    assert made["changed"]
    assert sorted(made["pushed"]) == sorted([made["inputs"][:12], "current"])
    again = image_module.run(declared)
    assert not again["changed"]

    (rootfs / "etc/motd").write_text("two\n")
    changed = image_module.run(declared)
    assert changed["removed"] == [made["inputs"][:12]]

    assert "mutually exclusive" in image_module.run({**declared, "archive": str(rootfs)})["msg"]

    absent = {"name": image_registry.name, "state": "absent", "specs_directory": str(tmp_path / "none")}
    assert image_module.run(absent, "--check")["changed"]
    assert image_module.run(absent)["removed"] == sorted([changed["inputs"][:12], "current"])
    assert not image_module.run(absent)["changed"]
    assert left() == set()


def test_the_module_builds_what_it_is_given_inline(image_module: Module, base_image: str) -> None:
    dockerfile = "QVJHIEJBU0UKRlJPTSAke0JBU0V9Cg=="  # ARG BASE, FROM ${BASE}
    build_options = {"files": [{"path": "Dockerfile", "content": dockerfile}], "base": base_image}
    assert image_module.run({"name": NAME, "build": build_options})["built"]
    assert not image_module.run({"name": NAME, "build": build_options})["changed"]

    secret = image_module.run({"name": NAME, "build": {**build_options, "args": {"API_TOKEN": "0815"}}})["msg"]
    assert secret.startswith("build.args.API_TOKEN: the value is not valid")
    assert "0815" not in secret


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "a:1", "rootfs": {"path": "/srv"}}, "name: 'a:1' is not valid; allowed: a repository without tag"),
        ({"name": "a", "tag": "0123456789ab", "rootfs": {"path": "/srv"}}, "tag: '0123456789ab' is not valid"),
        ({"name": "a"}, "state: 'present' is not valid; allowed: exactly one of rootfs, build and archive"),
        ({"name": "a", "keep": 0, "rootfs": {"path": "/srv"}}, "keep: 0 is not valid; allowed: a whole number"),
        ({"name": "a", "rootfs": {"path": "/nowhere"}}, "rootfs.path: there is no /nowhere on this host"),
        ({"name": "a", "rootfs": {"path": "/"}}, "rootfs.path: '/' is not valid"),
        ({"name": "a", "archive": "/etc/passwd"}, "archive: '/etc/passwd' is not valid; allowed: an archive"),
        ({"name": "a", "build": {"context": "/nowhere"}}, "build.context: '/nowhere' is not valid"),
        ({"name": "a", "state": "absent", "docker_host": "unix:///nowhere"}, "docker_host: the engine at unix:///now"),
    ],
)
def test_bad_input_is_one_message(
    image_module: Module, left: Callable[[], set[str]], arguments: dict[str, Any], message: str
) -> None:
    result = image_module.run(arguments)
    assert result["msg"].startswith(message)
    assert not result.get("changed")
    assert left() == set()
