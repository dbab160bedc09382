from __future__ import annotations

import io
import json
import os
import tarfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.bailey.errors import InvalidSecretError, InvalidValueError
from plugins.module_utils.bailey.images.context import Entry
from plugins.module_utils.bailey.images.source import (
    ArchiveSource,
    BuildSource,
    ImageConfig,
    MissingInputError,
    RootfsSource,
    fingerprint,
)

DOCKERFILE = Entry("Dockerfile", 0o644, b"FROM x\n")


@dataclass
class Known:
    """The images that there are."""

    ids: dict[str, str] = field(default_factory=dict)

    def image_id(self, reference: str) -> str | None:
        return self.ids.get(reference)


NONE = Known()


@given(st.dictionaries(st.text(), st.text()))
def test_a_fingerprint_does_not_depend_on_the_order(inputs: dict[str, str]) -> None:
    assert fingerprint(dict(inputs)) == fingerprint(dict(reversed(inputs.items())))


def test_every_option_of_a_build_counts_but_the_authorities() -> None:
    source = BuildSource([DOCKERFILE])
    known = Known({"base:1": "sha256:1", "base:2": "sha256:2"})
    variants = [
        source,
        replace(source, args={"A": "1"}),
        replace(source, args={"A": "2"}),
        replace(source, base="base:1"),
        replace(source, base="base:2"),
        replace(source, network="none"),
        replace(source, entries=[DOCKERFILE, Entry("x", 0o644, b"")]),
        replace(source, entries=[DOCKERFILE, Entry("x", 0o755, b"")]),
    ]
    assert len({fingerprint(variant.inputs(known)) for variant in variants}) == len(variants)
    trusting = replace(source, ca_bundle=Path("/etc/hostname"))
    assert trusting.inputs(known) == source.inputs(known)


def test_a_base_counts_by_its_id_and_must_be_there() -> None:
    source = BuildSource([DOCKERFILE], base="base:1")
    assert source.inputs(Known({"base:1": "sha256:1"})) != source.inputs(Known({"base:1": "sha256:2"}))
    with pytest.raises(MissingInputError, match=r"build\.base: the engine has no image base:1"):
        source.inputs(NONE)


def test_the_authorities_file_is_always_in_the_context(tmp_path: Path) -> None:
    assert [(entry.path, entry.read()) for entry in BuildSource([DOCKERFILE]).staged()][-1] == ("ca-bundle.crt", b"")
    bundle = tmp_path / "ca"
    bundle.write_text("ca")
    assert BuildSource([DOCKERFILE], ca_bundle=bundle).staged()[-1].read() == b"ca"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"dockerfile": "Other"}, r"build\.dockerfile"),
        ({"network": "a b"}, r"build\.network"),
        ({"args": {"a b": "1"}}, r"build\.args"),
        ({"args": {"BASE": "1"}}, r"build\.args"),
        ({"entries": [DOCKERFILE, Entry("ca-bundle.crt", 0o644, b"")]}, "build"),
        ({"entries": [Entry("Dockerfile", 0o755)]}, r"build\.dockerfile"),
    ],
)
def test_wrong_options_of_a_build_are_named(options: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidValueError, match=f"^{name}: "):
        BuildSource(**{"entries": [DOCKERFILE], **options})


@pytest.mark.parametrize(
    "args",
    [
        {"DB_PASSWORD": "hunter2"},
        {"npm_token": "hunter2"},
        {"ApiKey": "hunter2"},
        {"PIP_INDEX_URL": "https://me:hunter2@index.example/simple"},
    ],
)
def test_secrets_among_the_arguments_are_refused_and_not_shown(args: dict[str, str]) -> None:
    with pytest.raises(InvalidSecretError) as caught:
        BuildSource([DOCKERFILE], args=args)
    assert next(iter(args)) in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_instructions_of_an_import_are_quoted() -> None:
    config = ImageConfig(["a", 'b "c"'], ["/e"], {"B": "$x", "A": 'q"\\'}, "app", "/srv")
    assert config.changes() == [
        'ENV A="q\\"\\\\"',
        'ENV B="\\$x"',
        "USER app",
        "WORKDIR /srv",
        'ENTRYPOINT ["/e"]',
        'CMD ["a", "b \\"c\\""]',
    ]
    assert ImageConfig().changes() == []


@pytest.mark.parametrize(
    "options", [{"user": "a\nRUN x"}, {"workdir": "/a b"}, {"env": {"A B": "1"}}, {"env": {"A": "1\nRUN x"}}]
)
def test_an_import_takes_no_instruction_by_the_back_door(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError, match=r"^rootfs\."):
        ImageConfig(**options)


@pytest.mark.parametrize("change", ["content", "mode", "owner", "link", "more"])
def test_a_root_file_systems_directory_counts_with_its_owners(tmp_path: Path, change: str) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "l").symlink_to("a")
    source = RootfsSource(tmp_path)
    before = source.inputs(NONE)
    os.utime(tmp_path / "a", (1, 1))
    assert source.inputs(NONE) == before
    match change:
        case "content":
            (tmp_path / "a").write_text("b")
        case "mode":
            (tmp_path / "a").chmod(0o4755)
        case "owner":
            os.chown(tmp_path / "a", 12, 0)
        case "link":
            (tmp_path / "l").unlink()
            (tmp_path / "l").symlink_to("b")
        case "more":
            (tmp_path / "d").mkdir()
    assert source.inputs(NONE) != before


def test_a_root_file_system_is_a_directory_or_an_archive(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"rootfs\.path"):
        RootfsSource(tmp_path / "none").inputs(NONE)
    (tmp_path / "text").write_text("text")
    for path in (Path("/"), tmp_path / "text", Path("/dev/null")):
        with pytest.raises(InvalidValueError, match=r"^rootfs\.path"):
            RootfsSource(path).inputs(NONE)
    with tarfile.open(tmp_path / "x.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "text")
    assert RootfsSource(tmp_path / "x.tar.xz").inputs(NONE)["kind"] == "rootfs"


def saved(path: Path, manifest: object) -> ArchiveSource:
    content = json.dumps(manifest).encode()
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return ArchiveSource(path)


def test_a_saved_archive_names_its_tags(tmp_path: Path) -> None:
    assert saved(tmp_path / "a", [{"RepoTags": ["x:1", "y:2"]}]).saved_tags() == ["x:1", "y:2"]
    assert saved(tmp_path / "a", [{"RepoTags": None}]).saved_tags() == []


@pytest.mark.parametrize("manifest", [[], {}, [{}], [{"RepoTags": []}, {"RepoTags": []}], "x", None, 5])
def test_what_is_not_one_saved_image_is_refused(tmp_path: Path, manifest: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^archive: "):
        saved(tmp_path / "a", manifest).inputs(NONE)
    with pytest.raises(MissingInputError, match=r"^archive: "):
        ArchiveSource(tmp_path / "none").inputs(NONE)
