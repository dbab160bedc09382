"""What the note of a host says of its network, in a network namespace that the test makes."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.ground import snapshot

COMMANDS = """
set -e
mount -t sysfs none /sys
nft "add table inet bailey; add table bridge bailey; add table ip filter"
nft "add chain inet bailey forward { type filter hook forward priority -10; policy accept; }"
ip link add ifb-of-ours type ifb
ip link set ifb-of-ours alias "bailey ada-web-1"
ip link add ifb-of-others type ifb
ip link set ifb-of-others alias "of bailey"
/usr/bin/python3 "$1" take
"""


def take_in_a_namespace() -> dict[str, Any]:
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", COMMANDS, "sh", snapshot.__file__],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def test_tables_and_links_of_ours_are_told_from_others() -> None:
    note = take_in_a_namespace()
    assert note["tables"] == ["bridge bailey", "inet bailey", "ip filter"]
    assert "ifb-of-ours bailey ada-web-1" in note["links"]
    assert "ifb-of-others" in note["links"]
    assert "table inet bailey {" in note["rules"]
    found = list(snapshot.compare(note | {"tables": [], "links": []}, note))
    assert "tables: left behind: inet bailey" in found
    assert "links: left behind: ifb-of-ours bailey ada-web-1" in found
    assert "tables: left behind: ip filter" not in found
