"""What the bench stands on: an engine, storage with quotas and directories of its own, all gone afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bailey.host.storage import present
from bailey.host.storage_absent import absent
from bailey.host.storage_base import Settings

from tests.ground.engine import Engine, GroundError
from tests.ground.rootfs import BASE

ROOT = Path("/var/lib/bailey-bench")
_STORAGE_SIZE = 4 << 30


@dataclass(frozen=True)
class Ground:
    """Where the competitors work."""

    engine: Engine
    image: str
    storage_kind: str

    @property
    def volumes(self) -> Path:
        """Bailey's storage."""
        return ROOT / "volumes"

    @property
    def state(self) -> Path:
        """Bailey's state directory."""
        return ROOT / "state"

    @property
    def directories(self) -> Path:
        """The directories that the other competitors bind."""
        return ROOT / "directories"

    @property
    def inventory(self) -> Path:
        """The inventory of the plays."""
        return ROOT / "inventory/hosts.yml"

    def running(self) -> int:
        """Count the running containers."""
        return len(self.engine.docker("ps", "--quiet").split())


@contextlib.contextmanager
def ground() -> Iterator[Ground]:
    """Make the ground, and take all of it away whatever happens. What a killed bench left goes first."""
    engine = Engine(
        bridge="bailey-bench0",
        network="10.182.0.0/16",
        address="10.182.0.1/17",
        pool="10.182.128.0/17",
        directory=ROOT / "engine",
        run=Path("/run/bailey-bench"),
    )
    storage = Settings("auto", ROOT / "volumes", ROOT / "storage.img", _STORAGE_SIZE, fstab=ROOT / "fstab")
    with _alone():
        _clear(engine, storage)
        try:
            ROOT.mkdir(mode=0o711)
            storage.fstab.touch()
            kind = present(storage).backend
            engine.start("bench")
            BASE.ensure(engine)
            made = Ground(engine, BASE.image, kind or "none")
            for directory in (made.state, made.directories, made.inventory.parent):
                directory.mkdir(mode=0o711)
            yield made
        finally:
            _clear(engine, storage)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Refuse a second bench: it would take the first one's ground away."""
    descriptor = os.open(Path(__file__).parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise GroundError("another bench runs from this checkout") from None
    finally:
        os.close(descriptor)


def _clear(engine: Engine, storage: Settings) -> None:
    """Remove containers and engine first: they hold the storage's mounts."""
    if not ROOT.exists():
        return
    engine.purge()
    if storage.fstab.exists():
        absent(storage, remove_data=True)
    shutil.rmtree(ROOT)
