"""Scans as the agent has them made, and what becomes of whom they find."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bailey.agent.custody import Custody
from bailey.agent.ledger import Record
from bailey.agent.peer import Peer
from bailey.agent.proof import Prover
from bailey.agent.scan import Order, Outcome, Scans
from bailey.agent.settings import Settings
from bailey.backends.base import Happening
from bailey.errors import EngineError, HostError, InvalidValueError
from bailey.host.cgroup import Hierarchy
from bailey.instance_state import BACKOFF, EXITED, OPEN
from bailey.scan.findings import Finding

from tests.unit.agent.stage import ONE, TWO, Stage, on_stage

NAME = "ada-web-1"
SUMMARY = json.dumps({"summary": {"seconds": 1.5, "notes": []}})
REASON = "stopped by scan rule setuid-file: it runs as uid 0"


def finding(action: str, **changes: Any) -> dict[str, Any]:
    taken = "left to the agent" if action in ("freeze", "stop") else "reported"
    found = Finding("setuid-file", NAME, "it runs as uid 0", container=ONE, action=action, taken=taken)
    return {"finding": replace(found, **changes).as_json()}


class Frozen:
    """A control group of a container, and what its freezer was told."""

    def __init__(self, stage: Stage, container: str = ONE) -> None:
        root = stage.root / "cgroup"
        self.file = root / "docker" / container / "cgroup.freeze"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("0")
        stage.custody._hierarchy = Hierarchy(2, {"memory": root, "freezer": root})

    @property
    def is_frozen(self) -> bool:
        return self.file.read_text() == "1"


def scans(stage: Stage, *said: object, status: int = 0, error: str = "", pause: float = 0, program: str = "") -> Scans:
    """Return scans whose process says what a test has it say."""
    config = stage.root / "scan.json"
    config.write_text("{}")
    settings = Settings(stage.root, stage.run_dir, scan_config=config)
    made = Scans(settings, stage.ledger, stage.supervisor, stage.workers)
    lines = [item if isinstance(item, str) else json.dumps(item) for item in said]
    program = program or (
        f"import sys, time\nfor line in {lines!r}: print(line, flush=True)\n"
        f"time.sleep({pause})\nsys.stderr.write({error!r})\nraise SystemExit({status})"
    )
    made._words = lambda _order: [sys.executable, "-c", program]  # type: ignore[method-assign]
    return made


def opened(stage: Stage, **changes: Any) -> tuple[Record, Frozen]:
    record = stage.declare(**changes)
    frozen = Frozen(stage)
    stage.start(record)
    return record, frozen


def play(tmp_path: Path, coroutine: Callable[[Stage], Any]) -> None:
    on_stage(tmp_path, coroutine)


class TestScans:
    def test_a_real_one_of_a_host_without_instances(self, tmp_path: Path) -> None:
        async def run(stage: Stage) -> None:
            made = scans(stage)
            del made._words  # type: ignore[method-assign]
            outcome = await made.scan(Order())
            assert (outcome.findings, outcome.summary["instances"]) == ([], [])
            assert made.counts is not None
            assert made.counts.at > 0
            with pytest.raises(HostError, match=r"names: 'nobody' is not valid"):
                await made.scan(Order(["nobody"]))

        play(tmp_path, run)

    def test_what_is_reported(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        async def run(stage: Stage) -> None:
            record, frozen = opened(stage)
            made = scans(stage, finding("report", path="/data/x"), finding("report", new=False), SUMMARY)
            outcome = await made.scan(Order())
            assert [item.taken for item in outcome.findings] == ["reported", "reported"]
            assert made.counts is not None
            assert made.counts.findings["setuid-file"] == 2
            assert (record.state.status, frozen.is_frozen) == (OPEN, False)
            assert caplog.text.count("scan rule setuid-file") == 1

        play(tmp_path, run)

    def test_one_of_some_instances_is_no_measure_of_the_host(self, tmp_path: Path) -> None:
        async def run(stage: Stage) -> None:
            made = scans(stage, SUMMARY)
            for order in (Order([NAME]), Order(act=False), Order(rules={"setuid-file": "ignore"})):
                await made.scan(order)
            assert made.counts is None

        play(tmp_path, run)

    @pytest.mark.parametrize(
        ("said", "options", "words"),
        [
            ((), {"status": 1, "error": "another scan runs"}, "status 1: another scan runs"),
            ((), {}, "it said nothing"),
            (("no json",), {}, "is no finding"),
            (({"finding": {"rule": 1}},), {}, "is no finding"),
            ((), {"error": "", "program": "print('x' * (1 << 21))"}, "is no finding"),
        ],
    )
    def test_what_goes_wrong_is_said(
        self, tmp_path: Path, said: tuple[object, ...], options: dict[str, Any], words: str
    ) -> None:
        async def run(stage: Stage) -> None:
            with pytest.raises(HostError, match=words):
                await scans(stage, *said, **options).scan(Order())

        play(tmp_path, run)

    def test_a_scan_that_nobody_waits_for_ends(self, tmp_path: Path) -> None:
        async def run(stage: Stage) -> None:
            made = scans(stage, finding("report"), pause=600)
            started: list[Any] = []
            original = asyncio.create_subprocess_exec

            async def start(*words: Any, **options: Any) -> Any:
                started.append(await original(*words, **options))
                return started[0]

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(asyncio, "create_subprocess_exec", start)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(made.scan(Order()), 0.5)
            assert await asyncio.wait_for(started[0].wait(), 5) < 0

        play(tmp_path, run)

    def test_rules_that_are_not_valid_are_refused(self, tmp_path: Path) -> None:
        async def run(stage: Stage) -> None:
            with pytest.raises(InvalidValueError, match=r"rules\.setuid-file\.action: 'kill' is not valid"):
                await scans(stage).scan(Order(rules={"setuid-file": "kill"}))

        play(tmp_path, run)

    def test_without_settings_nothing_is_scanned(self, tmp_path: Path) -> None:
        async def run(stage: Stage) -> None:
            made = Scans(Settings(), stage.ledger, stage.supervisor, stage.workers)
            with pytest.raises(HostError, match="no --scan-config"):
                await made.scan(Order())

        play(tmp_path, run)

    def test_the_timer(self, tmp_path: Path) -> None:
        async def run(stage: Stage) -> None:
            made = scans(stage, SUMMARY)
            made._interval = lambda: 0.05  # type: ignore[method-assign]
            task = asyncio.ensure_future(made.follow())
            await stage.until(lambda: made.counts is not None)
            first = made.counts
            await stage.until(lambda: made.counts is not first)
            task.cancel()

        play(tmp_path, run)


class TestFreezing:
    def test_it_stands_still_and_says_why(self, tmp_path: Path) -> None:
        async def run(stage: Stage) -> None:
            record, frozen = opened(stage)
            outcome = await scans(stage, finding("freeze"), SUMMARY).scan(Order())
            assert outcome.findings[0].taken == "frozen"
            assert frozen.is_frozen
            assert record.state.status == OPEN
            assert record.state.reason == "frozen by scan rule setuid-file: it runs as uid 0"
            stage.supervisor.restart(record, "it is unhealthy")  # what stands still answers nobody
            await stage.calm()
            assert stage.engine.stopped == []

        play(tmp_path, run)

    def test_an_agent_that_starts_again_goes_on_with_it(self, tmp_path: Path) -> None:
        async def run(stage: Stage) -> None:
            record, frozen = opened(stage)
            stage.supervisor.freeze(record, ONE, "because")
            frozen.file.write_text("0")  # as the guard does that finds a repair unfinished
            record.frozen = ""
            other = Custody(stage.custody._hierarchy, stage.files)
            other.remember(record)
            other.tend(record)
            assert (record.frozen, frozen.is_frozen) == ("because", True)

        play(tmp_path, run)

    def test_who_changes_it_finds_it_running(self, tmp_path: Path) -> None:
        async def run(stage: Stage) -> None:
            record, frozen = opened(stage)
            stage.supervisor.freeze(record, ONE, "because")
            await stage.supervisor.hold(record)
            assert not frozen.is_frozen
            stage.custody.tend(record)
            assert not frozen.is_frozen
            stage.supervisor.release(record)
            assert frozen.is_frozen

        play(tmp_path, run)

    @pytest.mark.parametrize("way", ["expect", "pardon", "signal", "death", "forget"])
    def test_what_ends_it(self, tmp_path: Path, way: str) -> None:
        async def run(stage: Stage) -> None:
            record, frozen = opened(stage)
            stage.supervisor.freeze(record, ONE, "because")
            ends: dict[str, Callable[[], object]] = {
                "expect": lambda: stage.supervisor.expect(record),
                "pardon": lambda: stage.supervisor.pardon(record),
                "signal": lambda: stage.happen(Happening.SIGNALLED, record, signal=15),
                "death": lambda: stage.die(record),
                "forget": lambda: stage.supervisor.forget(record),
            }
            ends[way]()
            assert (record.frozen, frozen.is_frozen) == ("", False)
            assert not stage.files.frozen_file(NAME).exists()

        play(tmp_path, run)

    def test_it_is_let_run_to_be_stopped_with_the_host(self, tmp_path: Path) -> None:
        async def run(stage: Stage) -> None:
            record, frozen = opened(stage)
            stage.supervisor.freeze(record, ONE, "because")
            await stage.supervisor.drain(stage.root / "draining")
            await stage.until(lambda: stage.engine.stopped)
            assert not frozen.is_frozen

        play(tmp_path, run)

    @pytest.mark.parametrize("action", ["freeze", "stop"])
    def test_another_container_than_was_looked_at_is_left_alone(self, tmp_path: Path, action: str) -> None:
        async def run(stage: Stage) -> None:
            record, frozen = opened(stage)
            outcome = await scans(stage, finding(action, container=TWO), SUMMARY).scan(Order())
            assert outcome.findings[0].taken.startswith("nothing: ")
            assert (frozen.is_frozen, stage.engine.stopped, record.state.status) == (False, [], OPEN)

        play(tmp_path, run)


class TestStopping:
    async def stop(self, stage: Stage) -> Record:
        record, _ = opened(stage)
        outcome = await scans(stage, finding("stop"), finding("stop"), SUMMARY).scan(Order())
        assert [item.taken for item in outcome.findings] == ["stopped", "stopped"]
        assert stage.engine.stopped == [ONE]
        stage.happen(Happening.SIGNALLED, record, signal=9, at=stage.engine.acted_at)
        stage.die(record, 137, at=stage.engine.acted_at + 1)
        await stage.calm()
        return record

    def test_it_is_not_started_again(self, tmp_path: Path) -> None:
        async def run(stage: Stage) -> None:
            record = await self.stop(stage)
            assert (record.state.status, record.state.reason) == (EXITED, REASON)
            stage.supervisor.consider(record)
            await stage.calm()
            assert stage.engine.started == []
            assert not stage.files.crash_directory(NAME).exists()

        play(tmp_path, run)

    @pytest.mark.parametrize("first_start", [False, True])
    def test_nor_by_another_agent_nor_after_a_reboot(self, tmp_path: Path, first_start: bool) -> None:
        async def run(stage: Stage) -> None:
            record = await self.stop(stage)
            record.condemned, record.settled = "", False
            stage.supervisor.remember(record, first_start=first_start)
            stage.supervisor.consider(record)
            await stage.calm()
            assert stage.engine.started == []
            assert (record.state.status, record.state.reason) == (EXITED, REASON)

        play(tmp_path, run)

    def test_its_gate_stays_closed_to_who_starts_it_by_hand(self, tmp_path: Path) -> None:
        async def run(stage: Stage) -> None:
            record = await self.stop(stage)
            assert record.declared is not None
            peer = Peer(7, -1, record.declared.uid, ONE)
            prover = Prover(stage.host)
            assert prover._obstacle(NAME, record.declared, peer) == REASON
            stage.supervisor.expect(record)
            assert prover._obstacle(NAME, record.declared, peer) == ""

        play(tmp_path, run)

    def test_to_deploy_it_again_starts_it(self, tmp_path: Path) -> None:
        async def run(stage: Stage) -> None:
            record = await self.stop(stage)
            await stage.supervisor.hold(record)
            stage.supervisor.expect(record)
            stage.supervisor.release(record)
            await stage.until(lambda: stage.engine.started == [ONE])

        play(tmp_path, run)

    def test_so_does_a_pardon(self, tmp_path: Path) -> None:
        async def run(stage: Stage) -> None:
            record = await self.stop(stage)
            assert stage.supervisor.pardon(record)
            await stage.until(lambda: stage.engine.started == [ONE])
            assert not stage.supervisor.pardon(record)

        play(tmp_path, run)

    def test_where_the_engine_cannot_it_stands_still(self, tmp_path: Path) -> None:
        async def run(stage: Stage) -> None:
            record, frozen = opened(stage)
            stage.engine.failing = EngineError("it hangs")
            outcome = await scans(stage, finding("stop"), SUMMARY).scan(Order())
            assert outcome.findings[0].taken == "frozen: the engine could not stop it"
            assert frozen.is_frozen
            assert record.condemned

        play(tmp_path, run)

    def test_what_is_being_changed_is_left_alone(self, tmp_path: Path) -> None:
        async def run(stage: Stage) -> None:
            record, _ = opened(stage)
            await stage.supervisor.hold(record)
            outcome: Outcome = await scans(stage, finding("stop"), SUMMARY).scan(Order())
            assert outcome.findings[0].taken.startswith("nothing: ")
            assert (stage.engine.stopped, record.condemned) == ([], "")
            assert record.state.status not in (BACKOFF, EXITED)

        play(tmp_path, run)


def test_what_was_done_is_noted_in_the_evidence(tmp_path: Path) -> None:
    async def run(stage: Stage) -> None:
        opened(stage)
        path = stage.root / "findings/x.json"
        path.parent.mkdir()
        path.write_text(json.dumps({"taken": "left to the agent"}))
        await scans(stage, finding("freeze", evidence=str(path)), SUMMARY).scan(Order())
        await stage.until(lambda: json.loads(path.read_text())["taken"] == "frozen")
        assert path.stat().st_mode & 0o777 == 0o600

    play(tmp_path, run)
