"""The report: figures as Markdown, with the machine they were measured on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .figures import BAILEY, FLOOR, LOOP, PHASES, Results, Verdict, median, ratio

_COLUMNS = ("", "Bailey: play", "inside the module", "SDK floor", "loop", "loop / play", "play / floor", "runs")
_NOTES = """\
Seconds, medians where there are several runs; *runs* says how many, in the order Bailey, SDK floor, loop.
The competitors took turns on one engine, each with the host to itself. `./bailey bench` makes this file.

- *Bailey* is `playbooks/deploy.yml` as an operator runs it, the start of Ansible included; *inside the module* is
  the part of it that `bailey_containers` reports as `elapsed`. It reads every limit back from the kernel.
- *Loop* is one `community.docker.docker_container` task over the same containers, with what it is
  fastest with of two Pythons, pipelining or not (both are tried first).
- *SDK floor* is the Docker SDK for Python alone, eight requests at a time, without its import: for "nothing to
  do" one list and one inspect each, and no comparison.
- Alike for all: image, command, account, memory without swap, processors and shares, pids, ulimits, sizes of tmpfs,
  /dev/shm and log, read-only root, all capabilities dropped, no-new-privileges, an init, restarts, a writable mount
  at /data.
- Not alike: the volume of Bailey has a disk quota, is made by the first converge and goes with the removal; the
  others, which have no such thing, bind directories that were made before and stay. Bailey also sends its own
  seccomp profile, writes spec and account files, and starts each container through its gate: `wshd` is its PID 1
  in place of the engine's init, and waits until the agent has read back what the kernel holds of it. The agent is
  there, and looks at its instances, while the others have their turns, too.
- "One changed live" is the memory of one container of all, "one made again" its environment. The floor is told
  which; the plays find out."""


def render(machine: Mapping[str, str], results: Results, verdicts: Sequence[Verdict]) -> str:
    """Return the whole report."""
    described = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    tables = "\n\n".join(f"### {size} containers\n\n{_size_table(results, size)}" for size in results.sizes)
    overhead = f"A play of one task that does nothing: {number(median(results.overhead), 's')}"
    return (
        f"# Benchmarks\n\n{_NOTES}\n\n## The machine\n\n{described}\n\n## Speeds that are promised\n\n"
        f"{verdict_table(verdicts)}\n\n{overhead} ({len(results.overhead)} runs).\n\n## Figures\n\n{tables}\n"
    )


def _size_table(results: Results, size: int) -> str:
    rows = []
    for phase in PHASES:
        play, floor, loop = (results.seconds(size, phase, name) for name in (BAILEY, FLOOR, LOOP))
        rows.append(
            (
                phase,
                number(play),
                number(results.inside(size, phase)),
                number(floor),
                number(loop),
                number(ratio(loop, play), "x"),
                number(ratio(play, floor), "x"),
                ", ".join(str(results.runs(size, phase, name)) for name in (BAILEY, FLOOR, LOOP)),
            )
        )
    return table(_COLUMNS, rows)


def verdict_table(verdicts: Iterable[Verdict]) -> str:
    """Return what was promised, what was measured, and whether that holds."""
    words = {True: "yes", False: "**no**", None: "not measured"}
    rows = [
        (item.text, number(item.measured, item.unit), number(item.bound, item.unit), words[item.met])
        for item in verdicts
    ]
    return table(("promise", "measured", "bound", "met"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table: the first column of words, the others of figures."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def number(value: float | None, unit: str = "") -> str:
    """Write a figure with as many digits as it can bear; a dash where there is none."""
    if value is None:
        return "-"
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1
    return f"{value:.{digits}f} {unit}".strip()
