"""Volumes on a real file system whose files are given to other ids: full ones, and while the change is killed.

No engine is asked; BAILEY_TEST_STORAGE names the kind of file system.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from plugins.module_utils.bailey.host.idmap import IDENTITY, IdMap
from plugins.module_utils.bailey.host.ownership import bring, marked
from plugins.module_utils.bailey.host.quota import Quota
from plugins.module_utils.bailey.host.subids import SIZE
from tests.integration.fixtures.storage import MIB, UID, as_tenant, make, sh

pytest_plugins = ["tests.integration.fixtures.storage"]

ROOT = Path(__file__).parents[2]
IDS = IdMap(0x70000000, SIZE)
MANY = 20_000


def owners(directory: Path) -> set[int]:
    """Return whose a directory is, and everything in it."""
    return {path.lstat().st_uid for path in (directory, *directory.rglob("*"))}


def write_as(uid: int, file: Path, size: int) -> subprocess.CompletedProcess[str]:
    """Write a file from within its directory: nobody else can come there."""
    words = ("dd", "if=/dev/zero", f"of={file.name}", "bs=64K", f"count={size >> 16}", "conv=fsync")
    account = ("--reuid", str(uid), "--regid", str(uid), "--clear-groups")
    return sh("setpriv", *account, *words, check=False, cwd=file.parent)


def test_a_volume_that_is_full_is_given_away_and_limited_again(quota: Quota) -> None:
    data = make(quota, "app")
    script = "import os\nfor n in range(10**6):\n with open(str(n), 'wb') as f: f.write(b'x' * 3000)"
    assert "OSError" in as_tenant("/usr/bin/python3", "-c", script, cwd=data).stderr
    quota.set_limit("app", None)
    assert bring(quota.root / "app", IDS)
    quota.set_limit("app", 16 * MIB)
    assert owners(data) == {IDS.to_host(UID)}
    assert (quota.root / "app").stat().st_uid == 0
    more = write_as(IDS.to_host(UID), data / "more", 4 * MIB)
    assert "quota exceeded" in more.stderr or "No space left" in more.stderr
    assert quota.volumes()["app"].uid == UID
    quota.remove("app")
    assert quota.volumes() == {}


def test_who_had_it_before_reaches_it_no_more(quota: Quota) -> None:
    data = make(quota, "app")
    bring(quota.root / "app", IDS)
    assert as_tenant("touch", "file", cwd=quota.root).returncode != 0
    assert write_as(UID, data / "file", MIB).returncode != 0
    assert write_as(IDS.to_host(UID), data / "file", MIB).returncode == 0


def test_a_change_that_is_killed_is_taken_up_again(quota: Quota) -> None:
    """Killed at other moments, over and over, also on its way back, until one comes to its end."""
    data = make(quota, "app", 256 * MIB)
    script = f"import os\nfor n in range({MANY}): os.close(os.open(str(n), os.O_CREAT))"
    assert as_tenant("/usr/bin/python3", "-c", script, cwd=data).returncode == 0
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from plugins.module_utils.bailey.host.idmap import IDENTITY, IdMap\n"
        "from plugins.module_utils.bailey.host.ownership import bring\n"
        f"bring(Path(sys.argv[1]), IdMap({IDS.base}, {IDS.size}) if sys.argv[2] == 'on' else IDENTITY)\n"
    )
    seen: set[int] = set()
    for turn in range(12):
        words = [sys.executable, "-c", program, str(quota.root / "app"), "off" if turn % 3 == 2 else "on"]
        with subprocess.Popen(words, cwd=ROOT) as process:
            time.sleep(0.1 + 0.04 * turn)
            process.send_signal(signal.SIGKILL)
        seen.add(len(owners(data)))
        assert set(marked(quota.root / "app")) <= {IDENTITY, IDS}
    assert seen >= {1, 2}, "no change was killed in its middle"
    bring(quota.root / "app", IDS)
    assert owners(data) == {IDS.to_host(UID)}
    bring(quota.root / "app", IDENTITY)
    assert owners(data) == {UID}
    assert marked(quota.root / "app") == [IDENTITY]
    assert sum(1 for _ in data.iterdir()) == MANY
