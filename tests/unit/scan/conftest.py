"""What the tests of the scan share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bailey.scan import look

pytest.register_assert_rewrite("tests.unit.scan.stage")

from tests.unit.scan.stage import Stage  # noqa: E402 - after the registration above


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the rules are compiled once for all tests."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def stage(tmp_path: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    # Its processes have this machine for their root: no test walks there.
    monkeypatch.setattr(look, "open_places", lambda _pid, _proc: [])
    staged = Stage(tmp_path)
    work = staged.places.work
    work.mkdir(parents=True)
    for path in compiled.iterdir():
        shutil.copy2(path, work)
    try:
        yield staged
    finally:
        staged.close()
        for path in work.glob("*.yarc"):
            shutil.copy2(path, compiled)
