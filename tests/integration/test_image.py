"""Images on a real engine: made, made again only for a reason, pushed, pruned, and clean after every failure.

The core runs with the SDK of the tests' environment, the module with the distribution's (the oldest supported).
Needs root, docker-registry and htpasswd.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils.bailey.errors import BaileyError, EngineError, EngineUnavailableError
from plugins.module_utils.bailey.images import context, manage
from plugins.module_utils.bailey.images.engine import LABEL, Credentials
from plugins.module_utils.bailey.images.engine import Engine as ImageEngine
from plugins.module_utils.bailey.images.reference import parse_repository
from plugins.module_utils.bailey.images.source import (
    ArchiveSource,
    BuildSource,
    ImageConfig,
    MissingInputError,
    RootfsSource,
)
from tests.ground.engine import Engine

ROOT = Path(__file__).parents[2]
NAME = "bailey-image-test"
PASSWORD = "only-for-this-test"


@pytest.fixture
def images(engine: Engine) -> Iterator[ImageEngine]:
    with closing(ImageEngine(engine.docker_host, timeout=120)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def left(engine: Engine, base_image: str) -> Iterator[Callable[[], set[str]]]:
    """Tell which images the engine has that it did not have before; at the end remove what the test named."""

    def listed() -> set[str]:
        return set(engine.docker("images", "--all", "--quiet", "--no-trunc").split())

    assert base_image
    before = listed()
    yield lambda: listed() - before
    tags = engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    ours = [tag for tag in tags if f"{NAME}" in tag]
    containers = engine.docker("ps", "--all", "--quiet", "--filter", f"name={NAME}").split()
    if containers:
        engine.docker("rm", "--force", *containers)
    if ours:
        engine.docker("rmi", "--force", *ours)
    assert listed() <= before


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    root = tmp_path / "rootfs"
    (root / "etc").mkdir(parents=True)
    (root / "etc/motd").write_text("one\n")
    (root / "etc/link").symlink_to("motd")
    return root


@pytest.fixture
def declared(tmp_path: Path, rootfs: Path) -> manage.Desired:
    specs = tmp_path / "specs"
    specs.mkdir()
    return manage.Desired(parse_repository("name", NAME), "current", RootfsSource(rootfs), specs=specs)


def build(dockerfile: str, base: str, **files: str) -> BuildSource:
    entries = [context.Entry(path, 0o644, text.encode()) for path, text in files.items()]
    return BuildSource([context.Entry("Dockerfile", 0o644, dockerfile.encode()), *entries], base=base)


def present(images: ImageEngine, desired: manage.Desired, check_mode: bool = False) -> manage.Report:
    return manage.present(images, desired, check_mode=check_mode)


def tags(engine: Engine, name: str = NAME) -> set[str]:
    return set(engine.docker("images", "--format", "{{.Tag}}", name).split())


def inspected(engine: Engine, reference: str) -> dict[str, Any]:
    return dict(json.loads(engine.docker("image", "inspect", reference))[0])


def test_a_root_file_system_becomes_an_image_once(
    images: ImageEngine, engine: Engine, declared: manage.Desired, rootfs: Path
) -> None:
    config = ImageConfig(cmd=["/bin/x", "a b"], env={"A": 'q"$HOME\\'}, user="app", workdir="/etc")
    declared = replace(declared, source=RootfsSource(rootfs, config))

    previewed = present(images, declared, check_mode=True)
    assert previewed.differences
    assert tags(engine) == set()

    made = present(images, declared)
    assert made.built
    assert made.inputs == previewed.inputs
    assert tags(engine) == {"current", (made.inputs or "")[:12]}
    details = inspected(engine, f"{NAME}:current")["Config"]
    assert details["Labels"] == {LABEL: made.inputs}
    assert (details["User"], details["WorkingDir"], details["Cmd"]) == ("app", "/etc", ["/bin/x", "a b"])
    assert 'A=q"$HOME\\' in details["Env"]

    again = present(images, declared)
    assert not again.differences
    assert not again.built
    assert again.image_id == made.image_id


def test_an_archive_of_a_root_file_system_and_its_directory_hold_the_same(
    images: ImageEngine, engine: Engine, declared: manage.Desired, rootfs: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "rootfs.tar", "w") as archive:
        archive.add(rootfs, arcname=".")
    present(images, replace(declared, source=RootfsSource(tmp_path / "rootfs.tar")))
    container = engine.docker("create", "--name", NAME, f"{NAME}:current", "/none").strip()
    try:
        engine.docker("cp", f"{container}:/etc/motd", str(tmp_path / "motd"))
    finally:
        engine.docker("rm", container)
    assert (tmp_path / "motd").read_text() == "one\n"


def test_a_changed_file_makes_a_new_image_and_going_back_only_moves_the_tag(
    images: ImageEngine, engine: Engine, declared: manage.Desired, rootfs: Path
) -> None:
    first = present(images, declared)
    (rootfs / "etc/motd").write_text("two\n")
    second = present(images, declared)
    assert second.built
    assert {(first.inputs or "")[:12], (second.inputs or "")[:12], "current"} == tags(engine)

    (rootfs / "etc/motd").write_text("one\n")
    back = present(images, declared)
    assert back.differences
    assert not back.built
    assert inspected(engine, f"{NAME}:current")["Id"] == first.image_id


def test_a_build_depends_on_its_files_its_arguments_and_its_base(
    images: ImageEngine, declared: manage.Desired, rootfs: Path
) -> None:
    base = replace(declared, repository=parse_repository("name", f"{NAME}-base"))
    present(images, base)
    dockerfile = "ARG BASE\nFROM ${BASE}\nARG WORD\nCOPY greeting /greeting\n"
    source = build(dockerfile, f"{NAME}-base:current", greeting="hello")
    declared = replace(declared, source=source)
    seen = {present(images, declared).inputs}
    assert not present(images, declared).differences

    (rootfs / "etc/motd").write_text("two\n")
    assert present(images, base).built
    on_new_base = present(images, declared)
    assert on_new_base.built
    seen.add(on_new_base.inputs)

    for changed in (
        replace(source, args={"WORD": "a"}),
        build(dockerfile, f"{NAME}-base:current", greeting="bye"),
        build(dockerfile + "LABEL a=b\n", f"{NAME}-base:current", greeting="hello"),
    ):
        report = present(images, replace(declared, source=changed))
        assert report.built
        seen.add(report.inputs)
    assert len(seen) == 5


def test_earlier_stages_and_the_authorities_do_not_remain(
    images: ImageEngine,
    engine: Engine,
    base_image: str,
    declared: manage.Desired,
    tmp_path: Path,
    left: Callable[[], set[str]],
) -> None:
    bundle = tmp_path / "ca.crt"
    bundle.write_text("an authority of this test's own")
    dockerfile = (
        "ARG BASE\nFROM ${BASE} AS build\nCOPY ca-bundle.crt /ca\nRUN sha256sum < /ca > /sum\n"
        "FROM ${BASE}\nCOPY --from=build /sum /sum\n"
    )
    source = replace(build(dockerfile, base_image), ca_bundle=bundle)
    first = present(images, replace(declared, source=source))
    dangling = engine.docker("images", "--quiet", "--no-trunc", "--filter", "dangling=true").split()
    assert not left() & set(dangling)
    assert engine.docker("run", "--rm", "--network", "none", f"{NAME}:current", "ls", "/sum").strip() == "/sum"
    assert engine.docker("run", "--rm", "--network", "none", f"{NAME}:current", "find", "/ca", check=False) == ""
    saved = tmp_path / "saved.tar"
    engine.docker("save", "--output", str(saved), f"{NAME}:current")
    assert bundle.read_bytes() not in saved.read_bytes()

    bundle.write_text("another")
    assert not present(images, replace(declared, source=source)).differences
    assert first.built


@pytest.mark.parametrize(
    ("dockerfile", "said"),
    [
        ("ARG BASE\nFROM ${BASE}\nRUN echo made\nRUN echo the cause is here; exit 7\n", "the cause is here"),
        ("ARG BASE\nFROM ${BASE} AS one\nRUN echo made\nFROM ${BASE}\nCOPY missing /x\n", "missing"),
        ("FROM bailey.invalid/none:1\n", "bailey.invalid"),
        ("NONSENSE\n", "nonsense"),
    ],
)
def test_a_failed_build_says_why_and_leaves_nothing(
    images: ImageEngine,
    engine: Engine,
    base_image: str,
    declared: manage.Desired,
    left: Callable[[], set[str]],
    dockerfile: str,
    said: str,
) -> None:
    containers = engine.docker("ps", "--all", "--quiet")
    with pytest.raises(EngineError, match=f"(?is){said}"):
        present(images, replace(declared, source=build(dockerfile, base_image)))
    assert left() == set()
    assert engine.docker("ps", "--all", "--quiet") == containers


def test_a_failed_build_leaves_the_former_image_in_place(
    images: ImageEngine, engine: Engine, base_image: str, declared: manage.Desired
) -> None:
    first = present(images, declared)
    before = tags(engine)
    with pytest.raises(EngineError):
        present(images, replace(declared, source=build("ARG BASE\nFROM ${BASE}\nRUN exit 1\n", base_image)))
    assert tags(engine) == before
    assert inspected(engine, f"{NAME}:current")["Id"] == first.image_id


def test_a_silent_build_is_given_up_after_the_timeout(
    engine: Engine, base_image: str, declared: manage.Desired, left: Callable[[], set[str]]
) -> None:
    source = build("ARG BASE\nFROM ${BASE}\nRUN sleep 600\n", base_image)
    began = time.monotonic()
    with closing(ImageEngine(engine.docker_host, timeout=2)) as images, pytest.raises(EngineError, match="building"):
        present(images, replace(declared, source=source))
    assert time.monotonic() - began < 30

    def running() -> str:
        return engine.docker("ps", "--quiet", "--filter", f"ancestor={base_image}")

    deadline = time.monotonic() + 20
    while (left() or running()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert running() == ""
    assert left() == set()


def test_a_saved_archive_is_loaded_under_our_name_alone(
    images: ImageEngine, engine: Engine, declared: manage.Desired, rootfs: Path, tmp_path: Path
) -> None:
    other = f"{NAME}-other"
    source = replace(declared, repository=parse_repository("name", other))
    present(images, source)
    saved = tmp_path / "saved.tar"
    engine.docker("save", "--output", str(saved), f"{other}:current")
    manage.absent(images, source.repository, declared.specs, check_mode=False)

    declared = replace(declared, source=ArchiveSource(saved))
    made = present(images, declared)
    assert tags(engine) == {"current", (made.inputs or "")[:12]}
    assert tags(engine, other) == set()
    assert not present(images, declared).differences

    (rootfs / "etc/motd").write_text("two\n")
    kept = present(images, source).image_id
    present(images, replace(declared, repository=parse_repository("name", f"{NAME}-third")))
    assert inspected(engine, f"{other}:current")["Id"] == kept


def test_the_newest_stay_and_those_in_use(
    images: ImageEngine, engine: Engine, base_image: str, declared: manage.Desired
) -> None:
    made = []
    for number in range(5):
        source = build(f"ARG BASE\nFROM ${{BASE}}\nLABEL n={number}\n", base_image)
        declared = replace(declared, source=source)
        made.append((present(images, declared).inputs or "")[:12])
        if number == 0:
            engine.docker("create", "--name", f"{NAME}-stopped", f"{NAME}:{made[0]}", "true")
    (declared.specs / "app.json").write_text(json.dumps({"spec": {"image": f"{NAME}:{made[1]}"}}))
    declared = replace(declared, keep=2)

    previewed = present(images, declared, check_mode=True)
    assert previewed.removed == [made[2]]
    assert set(made) < tags(engine)

    assert present(images, declared).removed == [made[2]]
    assert tags(engine) == {"current", made[0], made[1], made[3], made[4]}
    assert not present(images, declared).differences

    engine.docker("rm", f"{NAME}-stopped")
    (declared.specs / "app.json").write_text("{")
    with pytest.raises(BaileyError, match=r"app\.json: cannot be read"):
        present(images, declared)
    (declared.specs / "app.json").unlink()
    assert sorted(present(images, declared).removed) == sorted(made[:2])


def test_absent_is_refused_while_somebody_needs_the_image(
    images: ImageEngine, engine: Engine, declared: manage.Desired
) -> None:
    present(images, declared)
    engine.docker("create", "--name", f"{NAME}-user", f"{NAME}:current", "/none")
    (declared.specs / "shop.json").write_text(json.dumps({"image": f"{NAME}:current"}))
    before = tags(engine)
    with pytest.raises(BaileyError, match=f"needed by container {NAME}-user, spec shop$"):
        manage.absent(images, declared.repository, declared.specs, check_mode=False)
    assert tags(engine) == before

    engine.docker("rm", f"{NAME}-user")
    (declared.specs / "shop.json").unlink()
    assert manage.absent(images, declared.repository, declared.specs, check_mode=True).differences
    assert tags(engine) == before
    assert manage.absent(images, declared.repository, declared.specs, check_mode=False).removed == sorted(before)
    assert tags(engine) == set()
    assert not manage.absent(images, declared.repository, declared.specs, check_mode=False).differences


def test_an_unknown_base_is_one_message_and_in_check_mode_a_warning(
    images: ImageEngine, declared: manage.Desired, left: Callable[[], set[str]]
) -> None:
    declared = replace(declared, source=build("ARG BASE\nFROM ${BASE}\n", "no-such-base:1"))
    with pytest.raises(MissingInputError, match=r"build\.base: the engine has no image no-such-base:1"):
        present(images, declared)
    report = present(images, declared, check_mode=True)
    assert report.differences
    assert "no-such-base:1" in report.warnings[0]
    assert left() == set()


def test_an_engine_that_is_down_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"docker_host: the engine at unix://.*none\.sock does not answer"):
        ImageEngine(f"unix://{tmp_path}/none.sock", timeout=5)


class Registry:
    """A registry with one account on loopback, where engines accept plain HTTP."""

    def __init__(self, root: Path) -> None:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        account = subprocess.run(
            ["htpasswd", "-nbB", "tester", PASSWORD], check=True, capture_output=True, text=True
        ).stdout
        (root / "htpasswd").write_text(account)
        (root / "config.yml").write_text(
            f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}/data}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '127.0.0.1:{self.port}', secret: any}}\n"
            f"auth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n"
        )
        self.requests: list[str] = []
        self.process = subprocess.Popen(
            ["docker-registry", "serve", str(root / "config.yml")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        pytest.fail("the registry does not listen:\n" + "".join(self.requests))

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.requests.extend(self.process.stdout)

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}/{NAME}"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    root = tmp_path / "registry"
    root.mkdir()
    made = Registry(root)
    try:
        yield made
    finally:
        made.stop()


def test_both_tags_are_pushed_once(
    images: ImageEngine, declared: manage.Desired, rootfs: Path, registry: Registry
) -> None:
    repository = parse_repository("name", registry.name)
    account = Credentials("tester", PASSWORD)
    declared = replace(declared, repository=repository, push=True, credentials=account)
    made = present(images, declared)
    tag = (made.inputs or "")[:12]
    assert sorted(made.pushed) == sorted([tag, "current"])
    digest = images.registry_digest(f"{registry.name}:current", account)
    assert digest == images.registry_digest(f"{registry.name}:{tag}", account) is not None
    assert not present(images, declared).differences

    (rootfs / "etc/motd").write_text("two\n")
    assert "current" in present(images, declared).pushed
    assert images.registry_digest(f"{registry.name}:current", account) != digest
    (rootfs / "etc/motd").write_text("one\n")
    assert present(images, declared).pushed == ["current"]
    assert images.registry_digest(f"{registry.name}:current", account) == digest
    assert not present(images, declared).differences


@pytest.mark.parametrize("credentials", [None, Credentials("tester", "not-the-password")])
def test_a_refused_login_is_one_message_before_anything_is_made(
    images: ImageEngine,
    declared: manage.Desired,
    registry: Registry,
    left: Callable[[], set[str]],
    credentials: Credentials | None,
) -> None:
    repository = parse_repository("name", registry.name)
    declared = replace(declared, repository=repository, push=True, credentials=credentials)
    with pytest.raises(EngineError, match="asking the registry for") as caught:
        present(images, declared)
    assert "not-the-password" not in str(caught.value)
    assert left() == set()


def test_a_registry_that_is_down_stops_a_run_and_warns_in_check_mode(
    images: ImageEngine, declared: manage.Desired, registry: Registry, left: Callable[[], set[str]]
) -> None:
    registry.stop()
    declared = replace(declared, repository=parse_repository("name", registry.name), push=True)
    with pytest.raises(EngineError, match="asking the registry for"):
        present(images, declared)
    report = present(images, declared, check_mode=True)
    assert sorted(report.pushed) == sorted([(report.inputs or "")[:12], "current"])
    assert report.warnings
    assert left() == set()


@dataclass(frozen=True)
class Module:
    """The module as Ansible runs it, with the host's Python and its SDK."""

    engine: Engine
    results: Path

    def run(self, arguments: dict[str, Any], *options: str) -> dict[str, Any]:
        """Return the result, which no secret of ours may be in at any verbosity."""
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible")),
                "localhost",
                *("--connection", "local", "--inventory", "localhost,", "--module-name", "bailey_image", "-vvv"),
                *("--args", json.dumps({"docker_host": self.engine.docker_host, **arguments})),
                *("--tree", str(self.results)),
                *options,
            ],
            cwd=ROOT,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            capture_output=True,
            check=False,
        )
        text = (self.results / "localhost").read_text()
        assert PASSWORD not in text
        result: dict[str, Any] = json.loads(text)
        assert (done.returncode != 0) == ("msg" in result)
        return result


@pytest.fixture
def module(engine: Engine, tmp_path: Path) -> Module:
    return Module(engine, tmp_path / "results")


def test_the_module_from_nothing_to_nothing(
    module: Module, rootfs: Path, tmp_path: Path, registry: Registry, left: Callable[[], set[str]]
) -> None:
    declared = {
        "name": registry.name,
        "rootfs": {"path": str(rootfs), "cmd": ["/x"]},
        "push": True,
        "keep": 1,
        "registry_username": "tester",
        "registry_password": PASSWORD,
        "specs_directory": str(tmp_path / "none"),
    }
    previewed = module.run(declared, "--check", "--diff")
    assert previewed["changed"]
    assert previewed["built"]
    assert left() == set()

    made = module.run(declared)
    assert made["changed"]
    assert sorted(made["pushed"]) == sorted([made["inputs"][:12], "current"])
    again = module.run(declared)
    assert not again["changed"]

    (rootfs / "etc/motd").write_text("two\n")
    changed = module.run(declared)
    assert changed["removed"] == [made["inputs"][:12]]

    assert "mutually exclusive" in module.run({**declared, "archive": str(rootfs)})["msg"]

    absent = {"name": registry.name, "state": "absent", "specs_directory": str(tmp_path / "none")}
    assert module.run(absent, "--check")["changed"]
    assert module.run(absent)["removed"] == sorted([changed["inputs"][:12], "current"])
    assert not module.run(absent)["changed"]
    assert left() == set()


def test_the_module_builds_what_it_is_given_inline(module: Module, base_image: str) -> None:
    dockerfile = "QVJHIEJBU0UKRlJPTSAke0JBU0V9Cg=="  # ARG BASE, FROM ${BASE}
    build_options = {"files": [{"path": "Dockerfile", "content": dockerfile}], "base": base_image}
    assert module.run({"name": NAME, "build": build_options})["built"]
    assert not module.run({"name": NAME, "build": build_options})["changed"]

    secret = module.run({"name": NAME, "build": {**build_options, "args": {"API_TOKEN": "0815"}}})["msg"]
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
    module: Module, left: Callable[[], set[str]], arguments: dict[str, Any], message: str
) -> None:
    result = module.run(arguments)
    assert result["msg"].startswith(message)
    assert not result.get("changed")
    assert left() == set()
