"""The module as AnsibleModule runs it, with a stand-in for the agent."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from bailey.scan.findings import Finding

from tests.unit import house

MODULE = house.import_module(house.ROOT / "library/bailey_scan.py")
FOUND = Finding("setuid-file", "ada-web-1", "it runs as uid 0", action="report", taken="reported", evidence="/e")
SUMMARY = {"instances": ["ada-web-1"], "complete": True, "seconds": 1.0, "cpu_seconds": 0.2, "left_off": 0, "notes": []}

Run = Callable[..., dict[str, Any]]


class Agent:
    """Answers one request a connection, and remembers what it was asked."""

    def __init__(self, path: Path) -> None:
        self.asked: list[dict[str, Any]] = []
        self.findings = [FOUND]
        self.held = {"ada-web-1"}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                for line in stream:
                    stream.write(json.dumps({"ok": True, **self._answer(json.loads(line))}).encode() + b"\n")
                    stream.flush()

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        if request["op"] == "pardon":
            return {"pardoned": request["name"] in self.held}
        return {"findings": [item.as_json() for item in self.findings], "summary": SUMMARY}

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    made = Agent(tmp_path / "agent.sock")
    yield made
    made.close()


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_module(check_mode: bool = False, **arguments: object) -> dict[str, Any]:
        given = {**arguments, "run_dir": str(tmp_path), "_ansible_check_mode": check_mode}
        with patch_module_args(given), pytest.raises(SystemExit):
            MODULE.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run_module


def test_what_is_only_reported_changes_nothing(run: Run, agent: Agent) -> None:
    result = run(names=["ada-web-1"], rules={"setuid-file": "report"})
    assert result["changed"] is False
    assert result["findings"] == [FOUND.as_json()]
    assert result["table"].startswith("INSTANCE")
    asked = {"op": "scan", "names": ["ada-web-1"], "rules": {"setuid-file": "report"}, "act": True}
    assert agent.asked == [asked]


@pytest.mark.parametrize("taken", ["killed", "frozen", "stopped", "frozen: the engine could not stop it"])
def test_what_is_done_is_a_change(run: Run, agent: Agent, taken: str) -> None:
    agent.findings = [Finding("yara-match", "ada-web-1", "x", action="stop", taken=taken, evidence="/e")]
    assert run()["changed"] is True


def test_a_check_says_what_would_be_done(run: Run, agent: Agent) -> None:
    agent.findings = [Finding("yara-match", "ada-web-1", "x", action="stop", taken="nothing: only looked")]
    assert run(check_mode=True, pardon=["ada-web-1"])["changed"] is True
    assert [item["act"] for item in agent.asked] == [False]


def test_a_pardon(run: Run, agent: Agent) -> None:
    agent.findings = []
    result = run(pardon=["ada-web-1", "bob-web-1"])
    assert (result["changed"], result["pardoned"]) == (True, ["ada-web-1"])
    assert [item["op"] for item in agent.asked] == ["pardon", "pardon", "scan"]


def test_a_check_on_a_fresh_host_passes(run: Run) -> None:
    result = run(check_mode=True)
    assert (result["changed"], result["findings"]) == (False, [])
    assert "there is no agent on this host yet" in result["table"]


def test_without_an_agent_there_is_no_scan(run: Run) -> None:
    result = run()
    assert result["failed"] is True
    assert "the agent does not answer" in result["msg"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"names": ["A"]}, "names[0]: 'A' is not valid"),
        ({"pardon": ["A"]}, "pardon[0]: 'A' is not valid"),
        ({"rules": {"yara": "stop"}}, "rules.yara: 'yara' is not valid"),
        ({"rules": {"connection-scan": "kill"}}, "rules.connection-scan.action: 'kill' is not valid"),
        ({"timeout": 0}, "timeout: 0 is not valid"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_asked(
    run: Run, agent: Agent, arguments: dict[str, object], words: str
) -> None:
    result = run(**arguments)
    assert result["failed"] is True
    assert words in result["msg"]
    assert agent.asked == []
