"""wshd, wsh and wsh-copy built from this checkout, laid out as the agent's role installs them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "src/wsh"


@dataclass(frozen=True)
class Programs:
    """Where they are: `mounted` is what every container sees as /.bailey, `wsh` is the client."""

    mounted: Path
    wsh: Path


def build(directory: Path) -> Programs:
    """Build into a directory, which goes with whoever made it. What is up to date there stays as it is."""
    out = directory / "build"
    done = subprocess.run(["make", "-C", SOURCES, f"OUT={out}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"src/wsh cannot be built:\n{done.stdout}{done.stderr}"
    mounted = directory / "mounted"
    (mounted / "boot").mkdir(parents=True, exist_ok=True)
    for name in ("wshd", "wsh-copy"):
        shutil.copy2(out / name, mounted / name)
    for path in (directory, mounted, mounted / "boot"):
        path.chmod(0o755)
    return Programs(mounted, out / "wsh")
