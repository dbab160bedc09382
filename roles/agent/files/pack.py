"""Pack what the agent's host needs of this checkout into one archive, and print its digest and its path.

The same sources make the same archive, byte for byte, so that its digest names a release. Whoever asked for the
archive removes it.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PARTS = {
    "bailey": ("plugins/module_utils/bailey", ("*.py", "*.yar")),
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
    """Write the archive, and say what it is and where."""
    archive = pack()
    with tempfile.NamedTemporaryFile(prefix="bailey-", suffix=".tar", delete=False) as file:
        file.write(archive)
    sys.stdout.write(f"{hashlib.sha256(archive).hexdigest()}\n{file.name}\n")


if __name__ == "__main__":
    main()
