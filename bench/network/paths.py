"""The packet's way: what two containers that may speak with each other get through, behind how many policies."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable, Mapping

from bailey.firewall.owner import Firewall
from bailey.firewall.policy import Endpoint
from bailey.host.links import set_isolated

from bench.errors import BenchError
from bench.samples import Results
from tests.integration.fixtures.fire_yard import FireYard, fire_yard
from tests.integration.fixtures.net_yard import YardContainer

from .figures import (
    ALONE,
    BAILEY,
    CONNECTIONS,
    LINEAR,
    LINEAR_FIRST,
    MANY,
    NOTHING,
    PATHS,
    PROGRAMS,
    PUT,
    PUT_FULL,
    STREAM,
)
from .policies import OPEN, TENANT, linear_rules, pretended
from .scale import Scale

_PORT = 9000
_ESTABLISHED = "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
# It takes a stream and says how many bytes a second came, or takes connections until one says the end.
_SERVER = """
import json, socket, sys, time
address, port, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
listening = socket.create_server((address, port), backlog=1024)
print("ready", flush=True)
if what == "stream":
    taken, room = 0, memoryview(bytearray(1 << 20))
    connection, _ = listening.accept()
    begun = time.perf_counter()
    while got := connection.recv_into(room):
        taken += got
    print(json.dumps(8 * taken / (time.perf_counter() - begun)))
else:
    while True:
        connection, _ = listening.accept()
        connection.close()
"""
_CLIENT = """
import json, socket, struct, sys, time
address, port, what, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
if what == "stream":
    data, connection = bytes(1 << 20), socket.create_connection((address, port), 5)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        connection.sendall(data)
else:
    count, begun = 0, time.perf_counter()
    while (taken := time.perf_counter() - begun) < seconds:
        with socket.create_connection((address, port), 5) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            count += 1
    print(json.dumps(count / taken))
"""


def measure_puts(scale: Scale, results: Results) -> None:
    """Add policies to as many as there are to be; the last of all are timed, and the first."""
    with fire_yard() as yard:
        yard.firewall.rebuild([])
        results.add(PUT, BAILEY, _timed_puts(yard, 0, scale.puts))
        results.add(PUT_FULL, BAILEY, _timed_puts(yard, scale.policies, scale.puts))
        for what, there in ((PUT, 0), (PUT_FULL, scale.policies)):
            _restore(yard, [rule for number in range(there) for rule in linear_rules(number, yard.address)])
            results.add(what, PROGRAMS, (_timed_rules(yard, there + number) for number in range(scale.peers)))


def _timed_puts(yard: FireYard, there: int, count: int) -> list[float]:
    yard.firewall.rebuild([pretended(number) for number in range(there)])
    return list(yard.call(_put_each, yard.firewall.real, [pretended(there + number) for number in range(count)]))


def measure_paths(scale: Scale, results: Results) -> None:
    """Send through each path in turns, in another order each time."""
    with fire_yard() as yard:
        one, two = yard.add_container(), yard.add_container()
        for container in (one, two):
            yard.call(set_isolated, container.port)
        here = [yard.endpoint(one, "one", OPEN, tenant=TENANT), yard.endpoint(two, "two", OPEN, tenant=TENANT)]
        paths = _paths(yard, here, scale.policies)
        for _ in range(scale.rounds):
            for path in random.sample(PATHS, len(PATHS)):
                paths[path]()
                results.add(STREAM, path, [_measure(one, two, "stream", scale.seconds)])
                results.add(CONNECTIONS, path, [_measure(one, two, "connections", scale.seconds)])


def _paths(yard: FireYard, here: list[Endpoint], policies: int) -> Mapping[str, Callable[[], None]]:
    """Return what puts each path in place."""
    one, two = (endpoint.address for endpoint in here)
    rules = [rule for number in range(policies) for rule in linear_rules(number, yard.address)]
    rules += [f"-A FORWARD -s {a} -d {b} -j ACCEPT" for a, b in ((one, two), (two, one))]
    rules.append(f"-A FORWARD -i {yard.bridge} -j DROP")

    def bailey(more: int) -> None:
        _restore(yard, [])
        yard.firewall.rebuild([*here, *(pretended(number) for number in range(more))])

    def iptables(given: list[str]) -> None:
        yard.firewall.remove()
        _restore(yard, given)

    return {
        NOTHING: lambda: iptables([]),
        ALONE: lambda: bailey(0),
        MANY: lambda: bailey(policies),
        LINEAR: lambda: iptables(rules),
        LINEAR_FIRST: lambda: iptables([_ESTABLISHED, *rules]),
    }


def _restore(yard: FireYard, rules: list[str]) -> None:
    yard.host_run("iptables-restore", input="\n".join(("*filter", *rules, "COMMIT\n")))


def _measure(one: YardContainer, two: YardContainer, what: str, seconds: float) -> float:
    """Send from one to the other, and return how much came through in a second."""
    server = two.start("python3", "-c", _SERVER, two.address, str(_PORT), what, stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        if server.stdout.readline() != "ready\n":
            raise BenchError("the server does not listen")
        said = one.run("python3", "-c", _CLIENT, two.address, str(_PORT), what, str(seconds)).stdout
        return float(json.loads(server.stdout.readline() if what == "stream" else said))
    finally:
        server.kill()
        server.wait()


def _put_each(firewall: Firewall, endpoints: list[Endpoint]) -> list[float]:
    """Put endpoints in force one after the other; return the seconds of each, read-back not included."""
    seconds = []
    for endpoint in endpoints:
        begun = time.perf_counter()
        firewall.put(endpoint)
        seconds.append(time.perf_counter() - begun)
    return seconds


def _timed_rules(yard: FireYard, number: int) -> float:
    """Add one policy's rules by iptables-restore; return the seconds, its start included."""
    given = "\n".join(("*filter", *linear_rules(number, yard.address), "COMMIT\n"))
    begun = time.perf_counter()
    yard.host_run("iptables-restore", "--noflush", input=given)
    return time.perf_counter() - begun
