"""The report of the second part: figures as Markdown, each beside its peers'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bench.figures import Verdict, ratio
from bench.report import number, table, verdict_table
from bench.samples import Results, added, scaled

from .figures import (
    COMMAND,
    EXEC_LOOP,
    FLEET,
    FLEET_INSIDE,
    GATE,
    GATE_TIME,
    GATE_TIME_8,
    LOCAL,
    MODULE,
    PARALLEL,
    PEERS,
    PIPE,
    PLAIN,
    RATE,
    START,
    STARTS,
    STARTS_8,
    STREAM,
    STREAM_TO_NULL,
    TASKS,
    WAYS,
    WSH,
    WSH_CONNECTION,
)

_MIB = 1 / (1 << 20)
_INTRODUCTION = """\
Commands in containers by `wsh`, and by what a user would pick instead: one engine, one run, in turns, each with the
host to itself. `./bailey bench control` makes this file."""
_COMMANDS = """\
`true` in one container, each time a new process of the client. All ways lead into the same container, which Bailey
made (512 MB, 512 pids, no processor limit that binds). ssh: a new connection each time, to an sshd inside that runs as
the container's ordinary user, with a key, without a shared connection. The harness is in every figure; what it costs,
the last line tells, which includes the start of a program as such.

Not alike: a session of `wsh` and of ssh is born inside the container by one of its processes; what `docker exec` and
`runc exec` start is put into it from outside. `runc exec` is what `docker exec` does in the end, without the engine."""
_STREAMS = """\
Zeros, through `cat` in the container and back: `head -c N /dev/zero | WAY cat | cat >/dev/null`, and in the second
column without the reader at the end. The line `cat` is the same pipeline without a container; each other one has at
least one process more in it, and two more pipes."""
_STARTS = """\
The same container three times: behind its gate; without, with its program as PID 1; and with the engine's own init.
Limits, mounts (but for wshd's), network and image are the same. *Through the gate* is all that the core does, from
asking the agent to hold the instance until the agent says that every limit was read back and wshd listens; *plain* ends
when the engine says that it has started, and nothing was read back. *The agent's word* is from wshd's knock to its word
to go, as `./bailey status` shows it."""
_TASKS = """\
Plays of twenty `command` tasks in one container, the start of Ansible included. `local` runs the same on the host, with
a Python of the same version and with what is installed there. With pipelining for all that know it (nsenter does not).
Not alike: nsenter runs as the host's root in the container's namespaces, outside of its limits and filters; the others
as the container's user."""
_FLEET = """\
One command in all containers by one task, as whole plays, the start of Ansible included. The loop is run once, with
what it was fastest with of two Pythons, pipelining or not."""


def render(machine: Mapping[str, str], results: Results, verdicts: Sequence[Verdict]) -> str:
    """Return the whole report."""
    described = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    return "\n\n".join(
        (
            "# Benchmarks: commands in containers",
            _INTRODUCTION,
            f"## The machine\n\n{described}",
            f"## Speeds that are promised\n\n{verdict_table(verdicts)}",
            f"## One command\n\n{_COMMANDS}\n\n### One at a time\n\n{_commands(results)}",
            f"### Eight clients at the same time\n\n{_parallel(results)}",
            f"## A stream\n\n{_STREAMS}\n\n{_streams(results)}",
            f"## The gate\n\n{_STARTS}\n\n{_starts(results)}\n\n{_gate(results)}",
            f"## Ansible in a container\n\n{_TASKS}\n\n{_tasks(results)}",
            f"## One command in many containers\n\n{_FLEET}\n\n{_fleet(results)}\n",
        )
    )


def _milliseconds(results: Results, what: str, way: str) -> Iterator[str]:
    """Write median and 99th percentile."""
    yield number(scaled(results.median(what, way), 1000))
    yield number(scaled(results.quantile(what, way, 0.99), 1000))


def _commands(results: Results) -> str:
    base = results.median(COMMAND, WSH)
    return table(
        ("", "p50, ms", "p99, ms", "x wsh", "runs"),
        [
            (
                way,
                *_milliseconds(results, COMMAND, way),
                number(ratio(results.median(COMMAND, way), base)),
                str(results.count(COMMAND, way)),
            )
            for way in WAYS
        ],
    )


def _parallel(results: Results) -> str:
    return table(
        ("", "a second", "p50, ms", "p99, ms", "runs"),
        [
            (
                way,
                number(results.median(RATE, way)),
                *_milliseconds(results, PARALLEL, way),
                str(results.count(PARALLEL, way)),
            )
            for way in WAYS
        ],
    )


def _streams(results: Results) -> str:
    base = results.median(STREAM, PIPE)
    return table(
        ("", "MiB/s", "of cat", "without the reader, MiB/s", "runs"),
        [
            (
                way,
                number(scaled(results.median(STREAM, way), _MIB)),
                number(ratio(results.median(STREAM, way), base), "x"),
                number(scaled(results.median(STREAM_TO_NULL, way), _MIB)),
                str(results.count(STREAM, way)),
            )
            for way in (PIPE, *WAYS)
            if results.count(STREAM, way)
        ],
    )


def _starts(results: Results) -> str:
    return table(
        ("start", "p50, ms", "p99, ms", "runs", "8 at a time: p50, ms", "p99, ms", "runs"),
        [
            (
                way,
                *_milliseconds(results, START, way),
                str(results.count(START, way)),
                *_milliseconds(results, STARTS_8, way),
                str(results.count(STARTS_8, way)),
            )
            for way in STARTS
        ],
    )


def _gate(results: Results) -> str:
    rows = [("the agent's word", *_milliseconds(results, GATE_TIME, GATE), *_milliseconds(results, GATE_TIME_8, GATE))]
    more = [added(results.median(what, GATE), results.median(what, PLAIN)) for what in (START, STARTS_8)]
    one, eight = (number(scaled(value, 1000)) for value in more)
    rows.append(("added to a plain start (difference of the p50)", one, "-", eight, "-"))
    return table(("gate", "p50, ms", "p99, ms", "8 at a time: p50, ms", "p99, ms"), rows)


def _tasks(results: Results) -> str:
    base = results.median(TASKS, LOCAL)
    return table(
        ("connection", "seconds", "x local", "runs"),
        [
            (
                way,
                number(results.median(TASKS, way)),
                number(ratio(results.median(TASKS, way), base)),
                str(results.count(TASKS, way)),
            )
            for way in (LOCAL, WSH_CONNECTION, *PEERS)
        ],
    )


def _fleet(results: Results) -> str:
    return table(
        ("", "seconds", "inside the module", "runs"),
        [
            (
                way,
                number(results.median(FLEET, way)),
                number(results.median(FLEET_INSIDE, way)),
                str(results.count(FLEET, way)),
            )
            for way in (MODULE, EXEC_LOOP)
        ],
    )
