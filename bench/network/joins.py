"""One container's network at the gate: real pairs of devices on a real bridge, up to a thousand of them."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from bailey.host.bridge import apply_settings

from bench.errors import BenchError
from bench.plays import CHECKOUT, SYSTEM_PYTHON
from bench.samples import Results
from tests.integration.fixtures.net_yard import NetYard, YardContainer

from .figures import BAILEY, JOIN, JOIN_FULL, PROGRAMS
from .policies import DECLARED, TENANT, linear_rules
from .scale import Scale

_FILES = 16384  # each container costs some descriptors
_NETWORK = "10.99.0.0/16"


def measure_joins(scale: Scale, results: Results) -> None:
    """Join as many containers as there are policies; the first and the last of them are timed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, most), most))
    with NetYard(_NETWORK) as yard:
        joiner = _Joiner(yard)
        seconds = [joiner.join(number, yard.add_container()) for number in range(scale.policies)]
        joiner.close()
    results.add(JOIN, BAILEY, seconds[: scale.joins])
    results.add(JOIN_FULL, BAILEY, seconds[-scale.joins :])


def measure_programs(scale: Scale, results: Results) -> None:
    """Do the same by the distribution's programs, with few rules there, and with all."""
    with NetYard(_NETWORK) as yard:
        yard.call(apply_settings, yard.bridge)
        for what, there in ((JOIN, 0), (JOIN_FULL, scale.policies)):
            rules = [rule for number in range(there) for rule in linear_rules(number, yard.address)]
            yard.host_run("iptables-restore", input="\n".join(("*filter", *rules, "COMMIT\n")))
            results.add(what, PROGRAMS, (_by_programs(yard, yard.add_container()) for _ in range(scale.peers)))


class _Joiner:
    """The program that joins, inside the yard's host."""

    def __init__(self, yard: NetYard) -> None:
        path = {**os.environ, "PYTHONPATH": f"{CHECKOUT / 'plugins/module_utils'}:{CHECKOUT}"}
        argv = (SYSTEM_PYTHON, "-m", "bench.network.apply", yard.bridge)
        self._process = yard.start(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=path)

    def join(self, number: int, container: YardContainer) -> float:
        """Have a container joined; return the seconds that it took."""
        app = f"p{number:04}"
        declared = {"name": f"{TENANT}-{app}-1", "tenant": TENANT, "app": app, "user": 300_000, "network": DECLARED}
        told, answers = _pipe(self._process.stdin), _pipe(self._process.stdout)
        told.write(json.dumps({"pid": container.pid, "declared": declared}) + "\n")
        told.flush()
        line = answers.readline()
        if not line:
            raise BenchError("the program that joins has ended")
        answer = json.loads(line)
        if answer["wrong"] or not answer["checks"]:
            raise BenchError(f"{declared['name']}: {answer}")
        return float(answer["seconds"])

    def close(self) -> None:
        """End it with its input."""
        self._process.communicate(timeout=60)
        if self._process.returncode != 0:
            raise BenchError(f"the program that joins has failed with {self._process.returncode}")


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _by_programs(yard: NetYard, container: YardContainer) -> float:
    """Limit and fence one container by programs; return the seconds. Nothing is found out, nothing read back."""
    port, device = container.port, f"i-{container.port}"[:15]
    rules = [rule.replace("10.99.128.1", container.address) for rule in linear_rules(0, yard.address)]
    script = f"""
        tc qdisc replace dev {port} root tbf rate 50mbit burst 64kb latency 50ms
        ip link add {device} type ifb
        ip link set {device} up
        tc qdisc replace dev {device} root tbf rate 25mbit burst 64kb latency 50ms
        tc qdisc add dev {port} ingress
        tc filter add dev {port} parent ffff: u32 match u32 0 0 action mirred egress redirect dev {device}
        bridge link set dev {port} isolated on
        iptables-restore --noflush
    """
    given = "\n".join(("*filter", *rules, "COMMIT\n"))
    argv = ["nsenter", f"--target={yard.pid}", "--net", "--mount", "--", "sh", "-e", "-c", script]
    begun = time.perf_counter()
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        raise BenchError(f"{Path(sys.argv[0]).name}: {done.stderr.strip()}")
    return seconds
