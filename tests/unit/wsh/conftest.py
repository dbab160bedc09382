"""What the tests of the client share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where one instance's control socket is."""
    return tmp_path / "one.sock"
