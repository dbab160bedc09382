"""The scan's small parts: its budget, what it remembers, its evidence's bounds, its order, its command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bailey.errors import HostError, InvalidValueError
from bailey.host.cgroup import Hierarchy
from bailey.host.idmap import IDENTITY, IdMap
from bailey.instance_state import OPEN, WAITING, InstanceState, write_state
from bailey.scan import evidence, memory
from bailey.scan.budget import Budget
from bailey.scan.evidence import Evidence
from bailey.scan.findings import Finding, parse_finding
from bailey.scan.memory import Memory, read_memory, write_memory
from bailey.scan.processes import read_process
from bailey.scan.report import TOLD_OF_ONE, Found, Reporter
from bailey.scan.rules import Settings
from bailey.scan.scanner import Places, find_targets, rotate
from bailey.scan.yara import Match
from bailey.store import SpecStore, StoredSpec

from tests.unit import house
from tests.unit.samples import spec
from tests.unit.scan.stage import CONTAINER, NAME, Stage


class Clock:
    """Time that passes by sleeping and by working."""

    def __init__(self) -> None:
        self.now = self.used = 0.0

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.used += seconds

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def budget(self, share: float, seconds: float) -> Budget:
        return Budget(share, seconds, clock=lambda: self.now, sleep=self.sleep, used=lambda: self.used)


class TestBudget:
    def test_work_is_a_share_of_time(self) -> None:
        clock = Clock()
        budget = clock.budget(0.2, 1000)
        for _ in range(10):
            clock.work(3)
            assert budget.pace()
        assert clock.now == pytest.approx(150)

    def test_it_ends(self) -> None:
        clock = Clock()
        budget = clock.budget(0.2, 10)
        clock.work(5)
        assert not budget.pace()
        assert (clock.now, budget.left) == (10, 0)
        budget.wait(50)
        assert clock.now == 10

    def test_it_waits_for_a_window(self) -> None:
        clock = Clock()
        budget = clock.budget(0.2, 100)
        budget.wait(12)
        assert clock.now == 12
        budget.wait(5)
        assert clock.now == 12

    def test_a_real_one_counts_children(self) -> None:
        budget = Budget(1.0, 60)
        subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
        assert budget.spent >= 0.25


class TestMemory:
    def test_it_comes_back(self, tmp_path: Path) -> None:
        kept = Memory({"a": "s"}, {}, {CONTAINER: [("0:d", 3)]}, NAME)
        kept.learn("s", "r" * 64, [Match("n", "r", True)])
        write_memory(tmp_path / "scan/memory.json", kept)
        found = read_memory(tmp_path / "scan/memory.json")
        assert found == kept
        assert found.known("a", "r" * 64) == ("s", [Match("n", "r", True)])
        assert found.known("a", "q" * 64) is None
        assert found.known(None, "r" * 64) is None
        found.forget_others(set())
        assert found.sweeps == {}

    def test_nothing_of_a_former_boot(self, tmp_path: Path) -> None:
        boot = tmp_path / "boot"
        boot.write_text("one")
        write_memory(tmp_path / "memory.json", Memory(last="x"), boot)
        assert read_memory(tmp_path / "memory.json", boot).last == "x"
        boot.write_text("two")
        assert read_memory(tmp_path / "memory.json", boot) == Memory()

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', "[" * 100_000])
    def test_what_is_none_of_ours(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "memory.json").write_text(text)
        assert read_memory(tmp_path / "memory.json") == Memory()

    def test_what_was_asked_for_least_lately_goes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "_FILES_MAX", 2)
        kept = Memory({"a": "1", "b": "2", "c": "3"})
        for sha256 in "123":
            kept.learn(sha256, "r", [])
        assert kept.known("a", "r") is not None
        write_memory(tmp_path / "memory.json", kept)
        assert list(read_memory(tmp_path / "memory.json").files) == ["c", "a"]


class TestEvidence:
    def test_each_instance_has_room_of_its_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(evidence, "KEPT_OF_ONE", 3)
        monkeypatch.setattr(evidence, "KEPT", 4)
        kept = Evidence(tmp_path / "findings")
        kept.keep(Finding("setuid-file", "ada-web", "quiet"), "only", {})
        for number in range(6):
            kept.keep(Finding("setuid-file", NAME, "loud"), str(number), {})
            time.sleep(0.01)
        names = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "findings").iterdir())
        assert names == ["ada-web", NAME, NAME, NAME]

    @pytest.mark.parametrize(
        ("ids", "inside"),
        [(IDENTITY, os.getuid()), (IdMap(os.getuid(), 9), 0), (IdMap(1 << 30, 9), None), (None, None)],
    )
    def test_a_process_is_told_by_its_uid_on_both_sides(
        self, monkeypatch: pytest.MonkeyPatch, ids: IdMap | None, inside: int | None
    ) -> None:
        monkeypatch.setattr(evidence, "read_id_map", lambda _pid, _proc: ids)
        process = read_process(os.getpid())
        assert process is not None
        told = evidence.describe(process)
        assert (told["uid"], told["host_uid"]) == (inside, os.getuid())

    def test_where_nothing_can_be_kept_it_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "findings").touch()
        with pytest.raises(HostError, match="cannot be kept"):
            Evidence(tmp_path / "findings").keep(Finding("setuid-file", NAME, "x"), "x", {})


class TestReporter:
    def test_what_one_scan_tells_of_an_instance_is_bounded(self, stage: Stage) -> None:
        told: list[Finding] = []
        reporter = Reporter(stage.settings.rules, None, told.append)
        for number in range(TOLD_OF_ONE + 5):
            reporter.found(stage.target, Found("setuid-file", "x", str(number)))
        reporter.found(stage.target, Found("setuid-file", "x", "0"))
        assert (len(told), reporter.left_off) == (TOLD_OF_ONE, 5)

    def test_a_rule_that_kills_never_kills_pid_1(self, stage: Stage) -> None:
        stage.only(yara_match="kill")
        told: list[Finding] = []
        reporter = Reporter(stage.settings.rules, Evidence(stage.root / "findings"), told.append)
        init = read_process(stage.target.init)
        reporter.found(stage.target, Found("yara-match", "x", "x", process=init))
        reporter.found(stage.target, Found("yara-match", "y", "y"))
        assert [item.taken for item in told] == ["nothing: no process is known"] * 2

    def test_a_finding_survives_the_way_to_the_agent(self) -> None:
        finding = Finding("setuid-file", NAME, "x", pid=7, new=False)
        assert parse_finding(json.loads(json.dumps(finding.as_json()))) == finding

    @pytest.mark.parametrize("content", [None, [], {}, {**Finding("r", "i", "d").as_json(), "pid": "7"}])
    def test_what_is_no_finding(self, content: object) -> None:
        with pytest.raises(HostError):
            parse_finding(content)


class TestTargets:
    @pytest.fixture
    def host(self, tmp_path: Path) -> tuple[Places, Hierarchy]:
        places = Places(tmp_path / "state", tmp_path / "run")
        for name, status in (("one", OPEN), ("two", WAITING), ("gone", OPEN)):
            declared = spec(name)
            SpecStore(places.state_dir).write(StoredSpec(name, declared.uid, "started", declared.canonical()))
            container = (name[0] * 64)[:64]
            write_state(places.run_dir, InstanceState(name, "ada", "web", container, status, pid=7))
        (tmp_path / "cgroup/docker" / ("o" * 64)).mkdir(parents=True)
        return places, Hierarchy(2, {"memory": tmp_path / "cgroup"})

    def test_who_is_behind_its_open_gate(self, host: tuple[Places, Hierarchy]) -> None:
        targets, notes = find_targets(*host)
        assert [(item.name, item.tenant, item.init, item.container) for item in targets] == [
            ("one", "ada", 7, "o" * 64)
        ]
        assert notes == []
        assert find_targets(*host, ["two"]) == ([], [])
        with pytest.raises(InvalidValueError, match="names: 'other' is not valid"):
            find_targets(*host, ["one", "other"])

    def test_one_that_cannot_be_read_does_not_keep_the_others_from_it(self, host: tuple[Places, Hierarchy]) -> None:
        (host[0].state_dir / "specs/two.json").write_text("{")
        targets, notes = find_targets(*host)
        assert [item.name for item in targets] == ["one"]
        assert notes[0].startswith("two was not looked at: ")

    def test_the_next_scan_begins_behind_the_last(self, stage: Stage) -> None:
        targets = [replace(stage.target, name=name) for name in "cab"]
        assert [item.name for item in rotate(targets, "a")] == ["b", "c", "a"]
        assert [item.name for item in rotate(targets, "")] == ["a", "b", "c"]
        assert [item.name for item in rotate(targets, "z")] == ["a", "b", "c"]

    def test_time_is_shared(self, stage: Stage) -> None:
        """A scan without time looks at nobody twice before it has begun with everybody."""
        stage.start("/bin/sleep", "600")
        targets = [replace(stage.target, name=name) for name in "abc"]
        summary = stage.scan(targets=targets, timeout=0.0)
        assert not summary.complete
        first = read_memory(stage.places.work / "memory.json").last
        stage.scan(targets=targets, timeout=0.0)
        assert read_memory(stage.places.work / "memory.json").last != first


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bailey.scan", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(house.CORE.parent)},
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


class TestCommandLine:
    def config(self, tmp_path: Path, **content: Any) -> Path:
        path = tmp_path / "scan.json"
        path.write_text(json.dumps({"rules_dir": str(tmp_path / "yara"), **content}))
        return path

    def test_a_scan_of_nobody(self, tmp_path: Path) -> None:
        places = (f"--state-dir={tmp_path}", f"--run-dir={tmp_path}")
        done = run(f"--config={self.config(tmp_path)}", *places)
        assert (done.returncode, done.stderr) == (0, "")
        (line,) = done.stdout.splitlines()
        assert json.loads(line)["summary"]["instances"] == []

    def test_one_at_a_time(self, tmp_path: Path) -> None:
        places = (f"--state-dir={tmp_path}", f"--run-dir={tmp_path}")
        with subprocess.Popen(["flock", tmp_path / "scan.lock", "cat"], stdin=subprocess.PIPE) as holder:
            deadline = time.monotonic() + 10
            done = run(f"--config={self.config(tmp_path)}", *places)
            while done.returncode == 0 and time.monotonic() < deadline:
                done = run(f"--config={self.config(tmp_path)}", *places)
            holder.communicate()
        assert "another scan runs" in done.stderr

    def test_settings_and_rules_are_checked(self, tmp_path: Path) -> None:
        config = self.config(tmp_path)
        assert run(f"--check={config}").returncode == 0
        (tmp_path / "yara").mkdir()
        (tmp_path / "yara/mine.yar").write_text("rule one { condition: nothing_of_it }")
        done = run(f"--check={config}")
        assert done.returncode == 1
        assert "mine.yar(1)" in done.stderr
        done = run(f"--check={self.config(tmp_path, interval=1)}")
        assert "interval: 1 is not valid" in done.stderr
        assert run(f"--check={tmp_path}/none").returncode == 1

    @pytest.mark.parametrize("rules", ["{", "[]", '{"yara": 1}'])
    def test_rules_that_are_none(self, tmp_path: Path, rules: str) -> None:
        done = run(f"--config={self.config(tmp_path)}", f"--rules={rules}", f"--run-dir={tmp_path}")
        assert done.returncode == 1
        assert "is not valid" in done.stderr


def test_the_defaults_end_before_the_next_scan_begins() -> None:
    assert Settings().timeout < Settings().interval
