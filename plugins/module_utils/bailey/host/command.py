"""Running the host's own programs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from ..errors import CommandError, HostError


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    timeout: float = 60.0,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a program and return what it printed.

    `timeout` is in seconds. `env` is added to the environment. Raises CommandError for an exit
    status other than 0, and HostError where the program is missing or does not end in time.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
            check=False,
        )
    except FileNotFoundError as error:
        raise HostError(f"{argv[0]}: no such program on this host") from error
    except subprocess.TimeoutExpired as error:
        raise HostError(f"{' '.join(argv)}: not finished after {timeout:g} s") from error
    if done.returncode != 0:
        raise CommandError(argv, done.returncode, done.stderr or done.stdout)
    return done.stdout
