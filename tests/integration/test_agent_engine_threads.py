"""An engine with too many threads is restarted by the agent, once, and tenants go on.

Needs root, btrfs, dockerd and musl-gcc.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from tests.integration.fixtures.platform import REPOSITORY, Platform, tenant

pytest_plugins = ["tests.integration.fixtures.on_platform"]

SWEEP = 0.5  # seconds
FEW = 2  # threads; every dockerd has more
PROGRAM = "tests.integration.fixtures.engine_restart"


def options(record: Path, maximum: int = FEW) -> tuple[str, ...]:
    """Return what the agent is started with: a maximum, and a command that writes down each restart."""
    program = f"cd {REPOSITORY} && PYTHONPATH=plugins/module_utils exec {sys.executable} -m {PROGRAM} {record}"
    command = json.dumps(["sh", "-c", program])
    return f"--sweep={SWEEP}", f"--engine-threads-max={maximum}", f"--engine-restart-command={command}"


def restart_agent(platform: Platform, *given: str) -> None:
    platform.agent.stop()
    platform.agent.start(*given)


def restarts(record: Path) -> list[tuple[int, int]]:
    """Return the engine's process before and after each restart."""
    lines = record.read_text().splitlines() if record.exists() else []
    return [(int(before), int(after)) for before, after in map(str.split, lines)]


def metric(platform: Platform, name: str) -> float | None:
    return platform.agent.metrics().get(name)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "restarts"


def test_it_is_restarted_once_and_the_tenant_goes_on(clean: Platform, record: Path) -> None:
    clean.converge(tenant("one"))
    engine, program = clean.engine.pid, clean.agent.state("one").pid
    restart_agent(clean, *options(record))
    clean.agent.until(lambda: metric(clean, "bailey_engine_restarts_total") == 1, "the engine's restart", 60)
    assert restarts(record) == [(engine, clean.engine.pid)]
    assert clean.engine.pid != engine

    # It still has more threads than it may, and the hour is not over.
    clean.agent.until(lambda: metric(clean, "bailey_engine_threads_over") == 1, "that it is told", 60)
    time.sleep(10 * SWEEP)
    assert len(restarts(record)) == 1
    assert metric(clean, "bailey_engine_restarts_total") == 1
    assert metric(clean, "bailey_engine_threads_max") == FEW
    assert (metric(clean, "bailey_engine_threads") or 0) > FEW
    assert clean.agent.tail().count("is not restarted: it was restarted within the hour") == 1

    assert clean.agent.state("one").pid == program
    assert clean.run("one", "echo", "here").out == "here\n"
    clean.agent.until(lambda: metric(clean, "bailey_engine_up") == 1, "the agent's connection to the new engine")
    assert clean.broken("one") == {}


def test_an_agent_that_is_started_again_waits_for_the_hour_too(clean: Platform, record: Path) -> None:
    restart_agent(clean, *options(record))
    clean.agent.until(lambda: len(restarts(record)) == 1, "the engine's restart", 60)
    clean.agent.until(lambda: metric(clean, "bailey_engine_restarts_total") == 1, "its count")
    restart_agent(clean, *options(record))
    clean.agent.until(lambda: metric(clean, "bailey_engine_threads_over") == 1, "that it is told", 60)
    assert len(restarts(record)) == 1


@pytest.mark.parametrize("maximum", [0, 5000])
def test_an_engine_that_has_no_more_than_it_may_is_left_alone(clean: Platform, record: Path, maximum: int) -> None:
    restart_agent(clean, *options(record, maximum))
    clean.agent.until(lambda: metric(clean, "bailey_engine_threads"), "a sweep")
    time.sleep(6 * SWEEP)
    assert restarts(record) == []
    assert metric(clean, "bailey_engine_threads_over") == 0


def test_without_a_command_it_is_only_told(clean: Platform) -> None:
    engine = clean.engine.pid
    restart_agent(clean, f"--sweep={SWEEP}", f"--engine-threads-max={FEW}")
    clean.agent.until(lambda: metric(clean, "bailey_engine_threads_over") == 1, "that it is told")
    assert "no command is known that does it (--engine-restart-command)" in clean.agent.tail()
    assert clean.engine.pid == engine
