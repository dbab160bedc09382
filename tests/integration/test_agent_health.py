"""Health by command, TCP and HTTP, asked of real containers without a network of their own.

Needs root, btrfs, dockerd and musl-gcc.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.integration.fixtures.agent import AgentProcess
from tests.integration.fixtures.platform import DATA, Platform, tenant, wait_for

pytest_plugins = ["tests.integration.fixtures.on_platform"]

FAST = {"interval": "500ms", "timeout": "1s", "retries": 2}
# Answers /good with 204 and all else with 500, for as long as there is no file that says otherwise.
SERVER = f"""
import http.server, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if os.path.exists("{DATA}/slow"):
            time.sleep(30)
        self.send_response(204 if self.path == "/good" and not os.path.exists("{DATA}/bad") else 500)
        self.end_headers()
    def log_message(self, *arguments):
        pass
if os.path.exists("{DATA}/closed"):
    time.sleep(600)
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"""
WAYS: dict[str, Mapping[str, Any]] = {
    "command": {"test": ["CMD", "sh", "-c", f"! test -e {DATA}/bad"]},
    "shell": {"test": f"! test -e {DATA}/bad"},
    "http": {"http": {"port": 8080, "path": "/good"}},
}


def server(name: str = "one", **check: Any) -> dict[str, Any]:
    return tenant(name, command=["python3", "-c", SERVER], healthcheck={**FAST, **check})


def await_health(agent: AgentProcess, health: str, name: str = "one") -> None:
    agent.until(lambda: agent.state(name).health == health, f"{name} is {health}")


@pytest.mark.parametrize("way", WAYS)
class TestEveryWay:
    def test_of_what_is_well_and_then_is_not(self, clean: Platform, way: str) -> None:
        clean.converge(server(action="report", **WAYS[way]))
        assert clean.agent.state("one").health == "starting"
        await_health(clean.agent, "healthy")
        before = clean.agent.state("one")
        (clean.volume("one") / "bad").touch()
        await_health(clean.agent, "unhealthy")
        assert clean.agent.state("one").restarts == 0
        (clean.volume("one") / "bad").unlink()
        await_health(clean.agent, "healthy")
        assert clean.agent.state("one") == before

    def test_what_is_unwell_is_restarted(self, clean: Platform, way: str) -> None:
        clean.converge(server(**WAYS[way]))
        await_health(clean.agent, "healthy")
        (clean.volume("one") / "bad").touch()
        clean.agent.until(lambda: clean.agent.state("one").restarts >= 1, "the restart")
        (clean.volume("one") / "bad").unlink()
        await_health(clean.agent, "healthy")
        assert "it is unhealthy: " in clean.agent.tail()
        assert clean.agent.is_open("one")


class TestTcp:
    def test_a_port_that_takes_connections(self, clean: Platform) -> None:
        clean.converge(server(tcp=8080, action="report"), server("two", tcp=8081, action="report"))
        await_health(clean.agent, "healthy")
        await_health(clean.agent, "unhealthy", "two")
        assert "port 8081: Connection refused" in clean.agent.tail()

    def test_it_is_the_containers_own_port(self, clean: Platform) -> None:
        """The agent's metrics listen on the host's loopback, at a port that is free inside."""
        clean.converge(server(tcp=clean.agent.port, action="report"))
        await_health(clean.agent, "unhealthy")


class TestTime:
    @pytest.mark.parametrize("way", [{"test": "sleep 60"}, {"http": {"port": 8080, "path": "/good"}}])
    def test_what_does_not_answer_in_time_is_unwell(self, clean: Platform, way: dict[str, Any]) -> None:
        clean.converge(server(**{"action": "report", "retries": 1, **way}))
        (clean.volume("one") / "slow").touch()
        await_health(clean.agent, "unhealthy")
        wait_for(lambda: "sleep" not in clean.engine.docker("top", "one", "-o", "pid,comm"), "the command's end")

    def test_failures_do_not_count_while_it_starts(self, clean: Platform) -> None:
        clean.converge(server(action="report", start_period="4s", http={"port": 8080, "path": "/bad"}))
        opened = clean.agent.state("one").opened_at or 0
        await_health(clean.agent, "unhealthy")
        assert time.time() - opened >= 4

    def test_one_success_ends_the_start(self, clean: Platform) -> None:
        clean.converge(server(action="report", start_period="60s", **WAYS["shell"]))
        await_health(clean.agent, "healthy")
        (clean.volume("one") / "bad").touch()
        await_health(clean.agent, "unhealthy")

    def test_an_agent_that_starts_again_asks_again(self, clean: Platform) -> None:
        clean.converge(server(**WAYS["http"]))
        await_health(clean.agent, "healthy")
        clean.agent.kill()
        clean.agent.start()
        await_health(clean.agent, "healthy")
        assert clean.agent.state("one").restarts == 0


class TestInTheMiddle:
    @pytest.mark.parametrize("ended", [False, True])
    def test_an_agent_that_dies_while_it_restarts_one_goes_on_with_that(self, clean: Platform, ended: bool) -> None:
        deaf = ["sh", "-c", "trap 'echo asked' TERM; while :; do sleep .1; done"]
        clean.converge(tenant("one", command=deaf, healthcheck={**FAST, "tcp": 8080}, stop_grace_period="3s"))
        pid = clean.agent.state("one").pid
        clean.agent.until(lambda: clean.agent.state("one").status == "backoff", "the restart")
        wait_for(lambda: "asked" in clean.engine.docker("logs", "one"), "the engine's request")
        clean.agent.kill()
        if ended:
            wait_for(lambda: not clean.inspect("one")["State"]["Running"], "its end")
        clean.agent.start()
        clean.agent.until(lambda: clean.agent.state("one").pid not in (None, pid), "another process")
        clean.agent.until(lambda: clean.agent.is_open("one"), "the gate")


class TestDeclaring:
    def test_a_check_changes_on_the_living_container(self, clean: Platform) -> None:
        clean.converge(server(action="report", tcp=8081))
        await_health(clean.agent, "unhealthy")
        before = clean.agent.state("one")
        report = clean.converge(server(action="report", tcp=8080))
        assert {item.path for item in report.differences} == {"one.healthcheck"}
        await_health(clean.agent, "healthy")
        assert clean.agent.state("one").pid == before.pid
        assert not clean.converge(server(action="report", tcp=8080)).differences
        clean.converge(tenant("one", command=["python3", "-c", SERVER]))
        await_health(clean.agent, "none")
        assert clean.agent.state("one").pid == before.pid

    def test_the_engine_has_none(self, clean: Platform) -> None:
        clean.converge(server(tcp=8080))
        assert clean.inspect("one")["Config"]["Healthcheck"] == {"Test": ["NONE"]}
