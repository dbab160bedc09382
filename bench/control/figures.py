"""The figures of the second part: samples by what was done and in which way, and whether the promises hold."""

from __future__ import annotations

from bench.figures import Verdict, ratio
from bench.samples import Results, added, scaled

# Ways to run a command in a container, and the cost of the harness, which is in the figure of each.
WSH, DOCKER, RUNC, SSH, HARNESS = "wsh", "docker exec", "runc exec", "ssh", "nothing: /bin/true on the host"
WAYS = (WSH, DOCKER, RUNC, SSH, HARNESS)
# Ways to start a container.
GATE, PLAIN, INIT = "through the gate", "plain, the program as PID 1", "plain, docker-init as PID 1"
STARTS = (GATE, PLAIN, INIT)
# Connections of Ansible.
LOCAL, WSH_CONNECTION = "local", "wsh"
PEERS = ("community.docker.docker", "community.docker.docker_api", "community.docker.nsenter")
# One command in many containers, by one task.
MODULE, EXEC_LOOP = "bailey_wsh", "docker_container_exec loop"
# Streams of bytes.
PIPE = "cat"

# What was done. Samples are seconds, but for the rates, which are runs and bytes a second.
COMMAND, PARALLEL, RATE = "one command", "one command of eight clients", "commands a second of eight clients"
STREAM, STREAM_TO_NULL = "bytes a second to a reader", "bytes a second to /dev/null"
START, STARTS_8, GATE_TIME, GATE_TIME_8 = "start", "start, eight at a time", "gate", "gate, eight at a time"
TASKS, FLEET, FLEET_INSIDE = "twenty tasks", "a command in all", "a command in all, inside the module"


def judge(results: Results) -> list[Verdict]:
    """Hold the figures against the speeds that the project promises."""
    return [*_judge_commands(results), *_judge_starts(results), *_judge_ansible(results)]


def _judge_commands(results: Results) -> list[Verdict]:
    one = results.median(COMMAND, WSH)
    return [
        Verdict("`wsh NAME -- true`: p50 at most 2 ms", scaled(one, 1000), 2.0, "ms"),
        Verdict(
            "the same: at least 40 x faster than `docker exec`",
            ratio(results.median(COMMAND, DOCKER), one),
            40.0,
            "x",
            at_least=True,
        ),
        Verdict(
            "8 clients, each command a new `wsh`: at least 1,500 a second",
            results.median(RATE, WSH),
            1500.0,
            "/s",
            at_least=True,
        ),
        Verdict("the same: p99 under 30 ms", scaled(results.quantile(PARALLEL, WSH, 0.99), 1000), 30.0, "ms"),
        Verdict(
            "bulk: at least 0.6 x the bytes a second of a plain pipe",
            ratio(results.median(STREAM, WSH), results.median(STREAM, PIPE)),
            0.6,
            "x",
            at_least=True,
        ),
    ]


def _judge_starts(results: Results) -> list[Verdict]:
    gate = added(results.median(START, GATE), results.median(START, PLAIN))
    return [Verdict("the gate, one container at a time: adds at most 25 ms", scaled(gate, 1000), 25.0, "ms")]


def _judge_ansible(results: Results) -> list[Verdict]:
    peers = [seconds for peer in PEERS if (seconds := results.median(TASKS, peer)) is not None]
    tasks = results.median(TASKS, WSH_CONNECTION)
    return [
        Verdict(
            "20 tasks over the wsh connection: at most 1.05 x those over `local`",
            tasks,
            scaled(results.median(TASKS, LOCAL), 1.05),
            "s",
        ),
        Verdict(
            "the same: less than over the fastest of docker, docker_api and nsenter",
            tasks,
            min(peers) if len(peers) == len(PEERS) else None,
            "s",
        ),
        Verdict(
            "a command in 100 containers by `bailey_wsh`: at least 20 x faster than the loop",
            ratio(results.median(FLEET, EXEC_LOOP), results.median(FLEET, MODULE)),
            20.0,
            "x",
            at_least=True,
        ),
    ]
