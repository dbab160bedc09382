"""The page that Prometheus reads."""

from __future__ import annotations

import re
from pathlib import Path

from bailey.agent.engine_threads import Care
from bailey.agent.guard import Repairs
from bailey.agent.ledger import Record
from bailey.agent.metrics import Overview, render
from bailey.agent.scan import Counts
from bailey.agent.sweep import Findings, Look, Process, read_program
from bailey.host.cgroup import Usage
from bailey.instance_state import EXITED, HEALTHY, OPEN, InstanceState

from tests.unit.samples import spec

# The grammar of the text format, version 0.0.4.
_LINE = re.compile(r'[a-z_]+(\{([a-z]+="(\\.|[^"\\\n])*"(,[a-z]+="(\\.|[^"\\\n])*")*)?\})? -?[0-9.e+-]+')


def page(
    *records: Record, findings: Findings | None = None, engine_up: bool = True, repairs: Repairs | None = None
) -> str:
    return render(Overview("1.2", engine_up, draining=False, repairs=repairs), records, findings or Findings())


def opened(name: str = "one") -> Record:
    state = InstanceState(name, "ada", "web", "c0ffee", OPEN, gate_ms=4.25, pid=1, restarts=3, health=HEALTHY)
    return Record(name, state)


def test_every_line_is_of_the_format_and_every_family_is_explained_once() -> None:
    findings = Findings({"one": Look(Usage(1, 2, 3, 4), 5, spec().limits)}, Process(7, 8), Process(9, 10))
    lines = page(opened(), Record("two", InstanceState("two", status=EXITED)), findings=findings).splitlines()
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
    for line in lines:
        if not line.startswith("#"):
            assert _LINE.fullmatch(line), line
            assert re.split(r"[{ ]", line)[0] in families


def test_what_an_instance_uses_and_may_use() -> None:
    declared = spec(mem_limit="64M", cpus=0.1, pids_limit=16, disk_limit="8M", volumes=["/data"])
    look = Look(Usage(1 << 20, 1_500_000_000, 3, 4), 4096, declared.limits)
    text = page(opened(), findings=Findings({"one": look}))
    for line in (
        'bailey_instance_info{name="one",tenant="ada",app="web"} 1',
        'bailey_instance_status{name="one",status="open"} 1',
        'bailey_instance_status{name="one",status="failed"} 0',
        'bailey_instance_health{name="one",health="healthy"} 1',
        'bailey_instance_gate_seconds{name="one"} 0.00425',
        'bailey_instance_restarts_total{name="one"} 3',
        'bailey_instance_memory_bytes{name="one"} 1048576',
        'bailey_instance_memory_limit_bytes{name="one"} 67108864',
        'bailey_instance_cpu_seconds_total{name="one"} 1.5',
        'bailey_instance_cpus_limit{name="one"} 0.1',
        'bailey_instance_pids{name="one"} 3',
        'bailey_instance_pids_limit{name="one"} 16',
        'bailey_instance_disk_bytes{name="one"} 4096',
        'bailey_instance_disk_limit_bytes{name="one"} 8388608',
        'bailey_instance_limits_hold{name="one"} 1',
    ):
        assert f"\n{line}\n" in text
    look.broken = "a limit"
    assert 'bailey_instance_limits_hold{name="one"} 0' in page(opened(), findings=Findings({"one": look}))


def test_who_does_not_run_uses_nothing() -> None:
    text = page(Record("one", InstanceState("one", status=EXITED)), findings=Findings({"one": Look()}))
    assert 'bailey_instance_status{name="one",status="exited"} 1' in text
    assert "bailey_instance_memory_bytes{" not in text
    assert "bailey_instance_gate_seconds{" not in text


def test_the_host() -> None:
    text = page(findings=Findings(engine=Process(resident=7, threads=8), agent=Process(resident=9)), engine_up=False)
    for line in (
        'bailey_agent_info{version="1.2"} 1',
        "bailey_agent_resident_bytes 9",
        "bailey_engine_up 0",
        "bailey_engine_threads 8",
        "bailey_engine_resident_bytes 7",
        "bailey_draining 0",
    ):
        assert f"\n{line}\n" in text
    assert "\nbailey_firewall_" not in text
    assert "bailey_engine_threads " not in page().replace("# TYPE bailey_engine_threads ", "").replace(
        "# HELP bailey_engine_threads ", ""
    )


def test_care_for_the_engines_threads() -> None:
    text = render(Overview("1.2", True, draining=False, repairs=None, care=Care(2000, True, 3)), [], Findings())
    for line in ("bailey_engine_threads_max 2000", "bailey_engine_threads_over 1", "bailey_engine_restarts_total 3"):
        assert f"\n{line}\n" in text


def test_repairs_of_the_firewall() -> None:
    text = page(repairs=Repairs(3, 0.25))
    assert "\nbailey_firewall_repairs_total 3\n" in text
    assert "\nbailey_firewall_repair_seconds 0.25\n" in text


def test_scans() -> None:
    assert "bailey_scan_" not in page()
    counts = Counts(seconds=1.5, at=1_700_000_000.0)
    counts.findings.update(["setuid-file"])
    overview = Overview("1.2", engine_up=True, draining=False, repairs=None, scan=counts)
    text = render(overview, [], Findings())
    for line in (
        'bailey_scan_findings{rule="setuid-file"} 1',
        'bailey_scan_findings{rule="yara-match"} 0',
        "bailey_scan_seconds 1.5",
        "bailey_scan_last_timestamp 1700000000",
    ):
        assert f"\n{line}\n" in text


def test_kills_for_memory_are_counted_over_all_runs() -> None:
    record = opened()
    for run, kills in (("a", 1), ("a", 3), ("b", 1), ("b", 1)):
        record.count_kills(run, kills)
    assert 'bailey_instance_oom_kills_total{name="one"} 4' in page(record)


def test_labels_are_escaped() -> None:
    state = InstanceState("one", 'a"b\\c\nd', status=OPEN)
    assert 'tenant="a\\"b\\\\c\\nd"' in page(Record("one", state))


def test_a_program_is_read_from_proc(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/status").write_text("Name:\tdockerd\nVmRSS:\t    2048 kB\nThreads:\t12\n")
    assert read_program("7", tmp_path) == Process(2 << 20, 12)
    assert read_program("8", tmp_path) is None


def test_a_program_that_has_ended_and_waits_to_be_reaped_is_none(tmp_path: Path) -> None:
    """It keeps its name and a thread: an engine under a first process that reaps nobody would be counted on."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tdockerd\nState:\tZ (zombie)\nThreads:\t1\n")
    assert read_program("7", tmp_path) is None
