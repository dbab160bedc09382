"""Pack what the agent's host needs of this checkout into one archive, and print the archive's digest.

The same sources make the same archive, byte for byte, so that its digest names a release.

usage: pack.py ARCHIVE
"""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PARTS = {
    "bailey": ("plugins/module_utils/bailey", ("*.py",)),
    "wsh": ("src/wsh", ("*.c", "*.h", "*.mk", "Makefile")),
}


def pack() -> bytes:
    """Return the archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for prefix, (directory, patterns) in PARTS.items():
            base = ROOT / directory
            for path in sorted({path for pattern in patterns for path in base.rglob(pattern)}):
                member = tarfile.TarInfo(f"{prefix}/{path.relative_to(base)}")
                content = path.read_bytes()
                member.size, member.mode = len(content), 0o644
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def main() -> None:
    """Write the archive and print its digest."""
    archive = pack()
    Path(sys.argv[1]).write_bytes(archive)
    sys.stdout.write(f"{hashlib.sha256(archive).hexdigest()}\n")


if __name__ == "__main__":
    main()
