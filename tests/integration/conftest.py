"""Fixtures of the integration tests: a real engine, and an image to run in it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.ground.engine import Engine
from tests.ground.rootfs import BASE

# A shell has what it starts in the background ignore two of these signals, and nohup the third; so would every program
# that a test sends them to.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

_PLATFORMS = frozenset({"_platform", "_ids"})  # each holds the lock of fixtures/on_platform.py


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the platform, before `-m` chooses: that part and the rest can run side by side."""
    for item in items:
        if _PLATFORMS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.platform)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The tests' own engine; it stops with the session unless somebody else uses it too."""
    engine = Engine()
    holder = f"pytest-{os.getpid()}"
    engine.start(holder)
    try:
        yield engine
    finally:
        engine.stop(holder)


@pytest.fixture(scope="session")
def base_image(engine: Engine) -> str:
    """A small Debian with Python, ip and ps, to run programs in."""
    BASE.ensure(engine)
    return BASE.image
