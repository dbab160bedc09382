"""Whether a file system's limits hold, found out by writing past one as an ordinary user."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import CommandError, EnforcementError
from .command import run
from .quota import Quota

_FULL, _NEIGHBOUR = "bailey-trial.full", "bailey-trial.neighbour"
_LIMIT = 8 << 20
_MEBIBYTE = 1 << 20
# Any account that owns nothing: the trial's directories are made for it. Not nobody (65534), whose
# uid some file systems let into their reserved blocks.
_UID = 64738
_REFUSED = ("Disk quota exceeded", "No space left on device")


def try_limits(quota: Quota) -> None:
    """Fill one volume past its limit beside another one; raise EnforcementError unless only it stops."""
    _remove_trial(quota)  # of a run that was killed
    try:
        for name in (_FULL, _NEIGHBOUR):
            quota.create(name, _LIMIT, _UID, _UID)
            home = quota.root / name / "data"
            home.mkdir(mode=0o700)
            os.chown(home, _UID, _UID)
        _expect_stop(quota, _FULL)
        _write(quota.root / _NEIGHBOUR / "data", _LIMIT // 2)
    finally:
        _remove_trial(quota)


def _remove_trial(quota: Quota) -> None:
    for name in quota.volumes().keys() & {_FULL, _NEIGHBOUR}:
        quota.remove(name)


def _expect_stop(quota: Quota, name: str) -> None:
    home = quota.root / name / "data"
    try:
        _write(home, 2 * _LIMIT)
    except CommandError as error:
        if not any(reason in error.stderr for reason in _REFUSED):
            raise
    else:
        raise EnforcementError(f"a writer went past its limit of {_LIMIT} bytes in {home}, and was not stopped")
    written = (home / "file").stat().st_size
    if not _LIMIT // 2 <= written <= _LIMIT:
        raise EnforcementError(f"a writer was stopped at {written} bytes, though its limit is {_LIMIT} bytes")


def _write(home: Path, size: int) -> None:
    """Write a file as an ordinary user, who need not be able to reach the directory by its path."""
    run(
        ["setpriv", "--reuid", str(_UID), "--regid", str(_UID), "--clear-groups",
         "dd", "if=/dev/zero", "of=file", "bs=64K", f"count={size // _MEBIBYTE * 16}", "conv=fsync"],
        cwd=str(home),
    )  # fmt: skip
