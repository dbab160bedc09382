"""Puts the network of one container after another in force, as the agent does at a gate; run inside the yard's host.

Each line of the standard input is a container: its name, a process in it, and what is declared. Each is answered by a
line: the seconds that it took, read-back included.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from bailey.agent.network import HostNetwork
from bailey.enforcement import failing
from bailey.network_settings import parse_network_settings
from bailey.spec import parse_spec

_DECLARED = {"image": "none", "mem_limit": "64M", "cpus": 0.1, "pids_limit": 16}


def main(bridge: str) -> None:
    """Join each container that is told."""
    with tempfile.TemporaryDirectory(prefix="bailey-bench-") as run_dir:
        network = HostNetwork(parse_network_settings({"version": 1, "bridge": bridge}, "bench"), Path(run_dir))
        network.take_over([])
        for line in sys.stdin:
            told = json.loads(line)
            spec = parse_spec({**_DECLARED, **told["declared"]})
            begun = time.perf_counter()
            checks = network.join(spec, told["pid"], f"{told['pid']:064x}")
            seconds = time.perf_counter() - begun
            wrong = [str(check) for check in failing(checks)]
            print(json.dumps({"seconds": seconds, "wrong": wrong, "checks": len(checks)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
