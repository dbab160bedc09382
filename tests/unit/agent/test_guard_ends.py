"""The watch over the firewall as it begins and ends: what an agent before it left, and what it leaves itself."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from bailey.agent import guard as module
from bailey.agent.guard import Guard, note_of
from bailey.errors import HostError
from bailey.host.cgroup import Hierarchy

from tests.unit.agent.guard_stage import ONE, RETRY, SECONDS, TWO, Stage, outcome

pytest_plugins = ["tests.unit.agent.guard_stage"]


class TestBeginning:
    def note(self, stage: Stage, **content: Any) -> None:
        note_of(stage.root).write_text(json.dumps({"version": 1, "containers": [ONE], **content}))

    def test_whom_an_agent_before_it_froze_goes_on(self, unstarted: Guard, stage: Stage) -> None:
        stage.file(ONE).write_text("1")
        stage.add("two", TWO, "1")
        self.note(stage, containers=[ONE, "0" * 64])
        assert unstarted.interrupted
        assert stage.frozen() == ["one", "two"]
        unstarted.start()
        assert stage.frozen() == ["two"]
        assert not unstarted.interrupted
        assert stage.noted() is None

    @pytest.mark.parametrize(
        "text",
        [
            *("", "{", "[]", "1", "[" * 100_000),
            *('{"version": 2, "containers": ["x"]}', '{"version": 1}', '{"version": 1, "containers": "abc"}'),
        ],
    )
    def test_a_note_that_says_nothing_is_no_interruption(self, unstarted: Guard, stage: Stage, text: str) -> None:
        note_of(stage.root).write_text(text)
        assert not unstarted.interrupted

    def test_without_a_firewall_they_stand_still_until_there_is_one(
        self, unstarted: Guard, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_RETRY_SECONDS", RETRY)
        stage.file(ONE).write_text("1")
        self.note(stage)
        stage.in_force, stage.errors = False, [HostError("no bridge")] * 2
        unstarted.start()
        assert [outcome(stage) for _ in range(3)] == ["no bridge", "no bridge", ""]
        assert stage.done[-1] == "thaw one, noted"
        assert stage.frozen() == []

    def test_that_there_is_none_is_said_before_the_first_attempt(self, unstarted: Guard, stage: Stage) -> None:
        stage.in_force = False
        unstarted.start()
        assert unstarted.repairs.failed == "there is no bridge to make it for"

    def test_without_a_freezer_it_says_so(self, stage: Stage) -> None:
        network: Any = stage
        with pytest.raises(HostError, match="freezer is not mounted"):
            Guard(network, Hierarchy(1, {"memory": stage.root}), stage.root, lambda: None)

    def test_without_a_note_nobody_was_interrupted(self, unstarted: Guard, stage: Stage) -> None:
        stage.file(ONE).write_text("1")
        assert not unstarted.interrupted
        unstarted.start()
        assert stage.frozen() == ["one"]

    def test_what_changes_before_it_begins_is_noticed(self, unstarted: Guard, stage: Stage) -> None:
        stage.events.change()
        unstarted.start()
        assert outcome(stage) == ""
        assert stage.frozen() == []


class TestEnd:
    def test_one_that_never_began_can_be_closed(self, unstarted: Guard, stage: Stage) -> None:
        unstarted.close()
        assert stage.events.closed

    def test_closing_ends_the_thread_first(self, guard: Guard, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_RETRY_SECONDS", SECONDS)  # so long it is waited for
        assert guard._thread.is_alive()
        guard.close()
        assert not guard._thread.is_alive()
        assert stage.events.closed
        assert stage.done == []

    def test_closing_leaves_those_frozen_whose_firewall_is_not_as_it_should_be(
        self, guard: Guard, stage: Stage
    ) -> None:
        stage.errors = [HostError("refused")] * 1000
        stage.events.change()
        outcome(stage)
        guard.close()
        assert stage.frozen() == ["one"]
        assert stage.noted() == [ONE]

    @pytest.mark.parametrize("begun", [True, False])
    def test_closing_leaves_no_descriptor(self, unstarted: Guard, stage: Stage, begun: bool) -> None:
        if begun:
            unstarted.start()
        pipe = (unstarted._woken, unstarted._wake)
        unstarted.close()
        for descriptor in pipe:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)
        assert stage.events.closed
