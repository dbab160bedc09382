"""The spec files: private, whole, versioned, and forgotten last."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from bailey.errors import HostError
from bailey.store import SpecStore, StoredSpec

from tests.unit.samples import REMAPPED

STORED = StoredSpec("web", 2000, "started", {"name": "web", "image": "web:1"})


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    store = SpecStore(tmp_path)
    assert store.load() == {}
    store.write(STORED)
    assert store.load() == {"web": STORED}
    assert store.read("web") == STORED
    assert store.read("other") is None
    assert (tmp_path / "specs").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "specs/web.json").stat().st_mode & 0o777 == 0o600


def test_the_ids_of_a_remapped_instance_are_part_of_it(tmp_path: Path) -> None:
    store, remapped = SpecStore(tmp_path), replace(STORED, ids=REMAPPED)
    store.write(remapped)
    assert store.read("web") == remapped
    assert (STORED.host_uid, remapped.host_uid) == (2000, REMAPPED.base + 2000)
    store.write(STORED)
    assert "ids" not in json.loads((tmp_path / "specs/web.json").read_text())


def test_a_spec_is_replaced_as_a_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    store = SpecStore(tmp_path)
    store.write(STORED)
    store.write(StoredSpec("web", 2001, "stopped", {"name": "web"}))
    assert store.load()["web"].uid == 2001
    assert [path.name for path in (tmp_path / "specs").iterdir()] == ["web.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a spec file"),
        ("[]", "not a spec file"),
        ('{"version": 1}', "not a spec file"),
        ('{"version": 1, "uid": 9, "ids": "soon", "state": "started", "spec": {}}', "not a spec file"),
        ('{"version": 1, "uid": 9, "ids": "70000:9", "state": "started", "spec": {}}', "uid 9 is none of the 9"),
        ('{"version": 2, "uid": 1, "state": "started", "spec": {}}', "version 2 is not known"),
    ],
)
def test_a_file_that_is_no_spec_is_named(tmp_path: Path, text: str, message: str) -> None:
    store = SpecStore(tmp_path)
    store.write(STORED)
    (tmp_path / "specs/bad.json").write_text(text)
    with pytest.raises(HostError, match=message) as refusal:
        store.load()
    assert "bad.json" in str(refusal.value)


def test_deleting_forgets_everything_and_can_be_repeated(tmp_path: Path) -> None:
    store = SpecStore(tmp_path)
    store.write(STORED)
    store.write_accounts("web", 2000)
    for _ in range(2):
        store.delete("web")
        assert store.load() == {}
        assert not (tmp_path / "accounts/web").exists()


def test_accounts_name_the_uid_and_nobody_can_log_in(tmp_path: Path) -> None:
    paths = SpecStore(tmp_path).write_accounts("web", 2000)
    assert set(paths) == {"/etc/passwd", "/etc/group"}
    accounts = [line.split(":") for line in paths["/etc/passwd"].read_text().splitlines()]
    assert {row[0]: row[2] for row in accounts} == {"root": "0", "nobody": "65534", "app": "2000"}
    assert {row[1] for row in accounts} == {"*"}
    assert paths["/etc/passwd"].stat().st_mode & 0o777 == 0o644


def test_root_has_no_second_name(tmp_path: Path) -> None:
    paths = SpecStore(tmp_path).write_accounts("web", 0)
    for path in paths.values():
        assert [line.split(":")[0] for line in path.read_text().splitlines() if ":0:" in line] == ["root"]
        assert "app" not in path.read_text()


def test_the_file_is_json_with_a_version(tmp_path: Path) -> None:
    SpecStore(tmp_path).write(STORED)
    assert json.loads((tmp_path / "specs/web.json").read_text())["version"] == 1


def test_a_file_that_goes_while_all_are_read_is_left_out(tmp_path: Path) -> None:
    store = SpecStore(tmp_path)
    store.write(STORED)
    (store.specs / "gone.json").symlink_to("nowhere")
    assert store.load() == {"web": STORED}
