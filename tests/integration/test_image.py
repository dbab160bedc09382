"""Images on a real engine: made, made again only for a reason, pushed, pruned, and clean after every failure.

The core runs with the SDK of the tests' environment, the module with the distribution's (the oldest supported).
Needs root, docker-registry and htpasswd.
"""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from plugins.module_utils.bailey.errors import BaileyError, EngineError, EngineUnavailableError
from plugins.module_utils.bailey.images import manage
from plugins.module_utils.bailey.images.engine import LABEL
from plugins.module_utils.bailey.images.engine import Engine as ImageEngine
from plugins.module_utils.bailey.images.reference import parse_repository
from plugins.module_utils.bailey.images.source import (
    ArchiveSource,
    ImageConfig,
    MissingInputError,
    RootfsSource,
)
from tests.ground.engine import Engine
from tests.integration.fixtures.images import NAME, build, inspected, present, tags

pytest_plugins = ["tests.integration.fixtures.images"]

pytestmark = pytest.mark.usefixtures("left")


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
