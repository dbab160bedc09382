"""The agent as the only restarter: crashes, back-off, an operator's hand, dying engines and reboots.

Needs root, btrfs, dockerd and musl-gcc.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import stat
import threading
import time
from typing import Any

import pytest
from bailey.agent.crash import KEPT
from bailey.agent_client import GateError
from bailey.instance_state import InstanceState

from tests.integration.fixtures.platform import DATA, HOLDER, Platform, tenant, wait_for

pytest_plugins = ["tests.integration.fixtures.on_platform"]


def crashing(name: str = "one", code: int = 3, after: float = 0.0, **fields: Any) -> dict[str, Any]:
    """Declare a tenant that writes down when it starts, prints a line and ends."""
    program = f"date +%s.%N >>{DATA}/starts; echo last words; sleep {after}; exit {code}"
    return tenant(name, command=["sh", "-c", program], **fields)


def starts(platform: Platform, name: str = "one") -> list[float]:
    """Return when the tenant's program has started."""
    return [float(line) for line in (platform.volume(name) / "starts").read_text().split()]


def crashes(platform: Platform, name: str = "one") -> list[dict[str, Any]]:
    """Return the crash records, the oldest first."""
    return [json.loads(path.read_text()) for path in sorted(platform.files.crash_directory(name).glob("*.json"))]


def await_status(platform: Platform, status: str, name: str = "one") -> InstanceState:
    platform.agent.until(lambda: platform.agent.state(name).status == status, f"{name} is {status}")
    return platform.agent.state(name)


def running(platform: Platform, name: str = "one") -> bool:
    return bool(platform.inspect(name)["State"]["Running"])


@pytest.fixture
def one(clean: Platform) -> Platform:
    """A platform with one tenant that sleeps."""
    clean.converge(tenant("one"))
    return clean


class TestCrashes:
    def test_they_are_followed_by_restarts_further_and_further_apart_and_then_by_none(self, clean: Platform) -> None:
        clean.agent.stop()
        clean.agent.start("--restart-limit", "5")
        clean.converge(crashing())
        state = await_status(clean, "failed")
        assert "it ended with exit code 3; it ended 5 times in a row" in state.reason
        assert (state.restarts, state.last_exit and state.last_exit.code) == (4, 3)
        times = starts(clean)
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert len(times) == 5
        for pause, expected in zip(pauses, (0.1, 0.2, 0.4, 0.8), strict=True):
            assert expected <= pause < expected + 1.5, pauses
        time.sleep(1.5)
        assert len(starts(clean)) == 5
        assert not running(clean)

    def test_they_are_recorded_for_root_alone(self, clean: Platform) -> None:
        clean.converge(crashing(restart="no"))
        await_status(clean, "exited")
        wait_for(lambda: crashes(clean), "the record")
        (crash,) = crashes(clean)
        assert (crash["code"], crash["signal"], crash["oom"], crash["log"]) == (3, None, False, ["last words"])
        assert 0 <= crash["uptime"] < 10
        assert abs(crash["at"] - time.time()) < 20
        directory = clean.files.crash_directory("one")
        (path,) = directory.iterdir()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    def test_of_the_records_the_newest_stay(self, clean: Platform) -> None:
        directory = clean.files.crash_directory("one")
        directory.mkdir(parents=True)
        for number in range(KEPT + 3):
            (directory / f"{number:020d}.json").write_text("{}")
        clean.converge(crashing(restart="no"))
        await_status(clean, "exited")
        wait_for(lambda: len(list(directory.glob("*.json"))) == KEPT, "the record")
        assert min(path.name for path in directory.iterdir()) == f"{4:020d}.json"

    def test_a_kill_for_memory_is_told_from_any_other(self, clean: Platform) -> None:
        greedy = "import time; time.sleep(0.5); held = bytearray(300 << 20); time.sleep(60)"
        clean.converge(tenant("one", command=["python3", "-c", greedy], restart="no"))
        state = await_status(clean, "exited")
        assert state.last_exit is not None
        assert (state.last_exit.code, state.last_exit.signal, state.last_exit.oom) == (None, 9, True)
        assert state.reason == "it was killed for memory"
        wait_for(lambda: crashes(clean), "the record")
        assert [crash["oom"] for crash in crashes(clean)] == [True]
        assert clean.agent.metrics()['bailey_instance_oom_kills_total{name="one"}'] >= 1
        clean.converge(tenant("two", restart="no"))
        pid = clean.agent.state("two").pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        last = await_status(clean, "exited", "two").last_exit
        assert last is not None
        assert (last.signal, last.oom) == (9, False)

    def test_the_back_off_begins_anew_after_a_time_without(self, clean: Platform) -> None:
        clean.agent.stop()
        clean.agent.start("--restart-limit", "2")
        clean.converge(crashing(after=10.3))
        clean.agent.until(lambda: clean.agent.state("one").restarts == 2, "two restarts", seconds=40)
        assert clean.agent.state("one").status != "failed"


class TestPolicies:
    def test_no_restarts_nothing(self, clean: Platform) -> None:
        clean.converge(crashing(restart="no"))
        assert await_status(clean, "exited").reason == "it ended with exit code 3"
        time.sleep(0.5)
        assert len(starts(clean)) == 1
        clean.agent.kill()
        (clean.files.run_dir / "boot_id").unlink()  # nor does a reboot
        clean.agent.start()
        time.sleep(1)
        assert len(starts(clean)) == 1

    def test_on_failure_leaves_success_alone(self, clean: Platform) -> None:
        clean.converge(crashing(code=0, restart="on-failure"))
        await_status(clean, "exited")
        time.sleep(0.5)
        assert len(starts(clean)) == 1
        assert crashes(clean) == []

    def test_on_failure_stops_after_its_times(self, clean: Platform) -> None:
        clean.converge(crashing(restart="on-failure:2"))
        assert await_status(clean, "failed").restarts == 2
        assert len(starts(clean)) == 3

    def test_always_restarts_success_too(self, clean: Platform) -> None:
        clean.converge(crashing(code=0, after=0.2, restart="always"))
        wait_for(lambda: len(starts(clean)) >= 3, "restarts")
        assert crashes(clean) == []


class TestByHand:
    @pytest.mark.parametrize("verb", ["stop", "kill"])
    def test_what_is_stopped_stays_stopped(self, one: Platform, verb: str) -> None:
        one.engine.docker(verb, "one")
        assert await_status(one, "exited").reason == "it was stopped by hand"
        one.agent.stop()
        one.agent.start()
        time.sleep(1)
        assert not running(one)
        assert one.agent.state("one").reason == "it was stopped by hand"
        assert crashes(one) == []

    def test_also_while_no_agent_runs(self, one: Platform) -> None:
        one.agent.kill()
        one.engine.docker("stop", "one")
        one.agent.start()
        assert await_status(one, "exited").reason == "it was stopped by hand"
        time.sleep(0.5)
        assert not running(one)

    def test_another_signal_is_no_stop(self, clean: Platform) -> None:
        clean.converge(tenant("one", command=["sh", "-c", "trap 'exit 1' HUP; sleep infinity & wait"]))
        clean.engine.docker("kill", "--signal", "HUP", "one")
        clean.agent.until(lambda: clean.agent.state("one").restarts == 1, "the restart")
        await_status(clean, "open")

    def test_a_start_makes_it_the_agents_again(self, one: Platform) -> None:
        one.engine.docker("stop", "one")
        await_status(one, "exited")
        one.engine.docker("start", "one")
        pid = await_status(one, "open").pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        one.agent.until(lambda: one.agent.state("one").restarts == 1, "the restart")
        await_status(one, "open")

    def test_a_restart_goes_through_the_gate(self, one: Platform) -> None:
        before = one.agent.state("one")
        one.engine.docker("restart", "one")
        one.agent.until(lambda: one.agent.state("one").pid not in (None, before.pid), "the gate")
        after = one.agent.state("one")
        assert (after.status, after.restarts) == ("open", 0)
        assert after.gate_ms is not None
        time.sleep(0.5)
        assert one.agent.state("one") == after

    def test_a_reboot_starts_it(self, one: Platform) -> None:
        one.engine.docker("stop", "one")
        await_status(one, "exited")
        one.agent.stop()
        (one.files.run_dir / "boot_id").write_text("another\n")
        one.agent.start()
        assert await_status(one, "open").restarts == 0

    def test_what_is_removed_is_not_missed_for_long(self, one: Platform) -> None:
        one.engine.docker("rm", "--force", "one")
        gone = "its container has gone"  # the engine tells of the kill first, then of the removal
        one.agent.until(lambda: gone in one.agent.state("one").reason, "the removal is known")
        assert one.agent.state("one").status == "exited"
        one.converge(tenant("one"))
        assert one.agent.is_open("one")


class TestHolding:
    def test_who_holds_an_instance_has_it_alone(self, one: Platform) -> None:
        pid = one.agent.state("one").pid
        assert pid is not None
        with one.agent.client.hold("one"):
            os.kill(pid, signal.SIGKILL)
            await_status(one, "exited")
            time.sleep(0.7)
            assert not running(one)
        await_status(one, "open")

    def test_who_dies_holds_nothing(self, one: Platform) -> None:
        held = one.agent.client.hold("one")
        held.__enter__()
        one.engine.docker("stop", "one")
        await_status(one, "exited")
        del held
        await_status(one, "open")

    def test_a_program_that_ends_at_once_has_had_its_gate(self, clean: Platform) -> None:
        clean.converge(crashing(code=0, restart="no"))
        container = clean.inspect("one")["Id"]
        await_status(clean, "exited")
        with clean.agent.client.hold("one") as held:
            assert held.await_gate(container, 1).gate_ms is not None
            held.expect()
            with pytest.raises(GateError, match=r"did not open within 0\.2 s"):
                held.await_gate(container, 0.2)

    def test_a_container_that_is_set_aside_is_never_started(self, one: Platform) -> None:
        one.engine.docker("stop", "one")
        one.engine.docker("rename", "one", "one.bailey-old")
        one.agent.until(lambda: "its container has gone" in one.agent.state("one").reason, "its absence")
        one.agent.stop()
        (one.files.run_dir / "boot_id").unlink()
        one.agent.start()
        time.sleep(1)
        assert not running(one, "one.bailey-old")

    def test_what_was_declared_otherwise_since_is_not_started(self, one: Platform) -> None:
        one.agent.kill()
        one.engine.docker("stop", "one")
        path = one.specs / "one.json"
        stored = json.loads(path.read_text())
        stored["spec"]["hostname"] = "another"
        path.write_text(json.dumps(stored))
        (one.files.run_dir / "boot_id").unlink()
        one.agent.start()
        one.agent.until(lambda: "of an older declaration" in one.agent.state("one").reason, "the agent's refusal")
        assert one.agent.state("one").status == "exited"
        assert not running(one)


class TestTheEngine:
    def test_its_death_disturbs_nobody(self, one: Platform) -> None:
        done: list[str] = []
        session = threading.Thread(target=lambda: done.append(one.run("one", "sh", "-c", "sleep 3; echo whole").out))
        session.start()
        before = one.agent.state("one")
        kill_engine(one)
        one.agent.until(lambda: not one.agent.status()["engine_up"], "the agent's notice")
        assert one.run("one", "true").code == 0
        one.engine.start(HOLDER)
        one.agent.until(lambda: one.agent.status()["engine_up"], "the engine's return")
        session.join()
        assert done == ["whole\n"]
        assert one.agent.state("one") == before

    def test_what_crashed_meanwhile_is_restarted_when_it_is_back(self, one: Platform) -> None:
        pid = one.agent.state("one").pid
        assert pid is not None
        kill_engine(one)
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)
        one.engine.start(HOLDER)
        one.agent.until(lambda: one.agent.state("one").restarts == 1, "the restart")
        await_status(one, "open")

    def test_an_agent_starts_without_it(self, one: Platform) -> None:
        one.agent.kill()
        before = one.agent.state("one")
        kill_engine(one)
        one.agent.start()
        assert one.agent.state("one") == before
        assert one.run("one", "true").code == 0
        assert one.agent.metrics()["bailey_engine_up"] == 0
        one.engine.start(HOLDER)
        one.agent.until(lambda: one.agent.status()["engine_up"], "the engine")
        assert one.agent.state("one") == before

    def test_one_that_hangs_is_given_up_and_found_again(self, one: Platform) -> None:
        one.agent.stop()
        one.agent.start("--engine-timeout", "2", "--sweep", "0.5")
        one.agent.until(lambda: one.agent.status()["engine_up"], "the engine")
        pid = one.engine.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            one.agent.until(lambda: not one.agent.status()["engine_up"], "the agent's notice")
        finally:
            os.kill(pid, signal.SIGCONT)
        one.agent.until(lambda: one.agent.status()["engine_up"], "the engine")
        assert one.agent.is_open("one")

    def test_a_reboot_brings_everybody_through_the_gate(self, clean: Platform) -> None:
        declared = [tenant(f"t{number}") for number in range(8)]
        clean.converge(*declared)
        clean.agent.kill()
        names = [item["name"] for item in declared]
        clean.engine.docker("kill", *names)
        (clean.files.run_dir / "boot_id").unlink()
        clean.agent.start()
        for name in names:
            state = await_status(clean, "open", name)
            assert state.gate_ms is not None


def kill_engine(platform: Platform) -> None:
    """Kill the engine as nothing else would end it, and wait until it has gone."""
    pid = platform.engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: platform.engine.pid is None, "its end")
