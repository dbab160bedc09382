"""Programs of the host's: their output, their failure, their absence, their time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from bailey.errors import CommandError, HostError
from bailey.host.command import run


def test_the_output_is_returned() -> None:
    assert run(["printf", "%s-%s", "a b", "c"]) == "a b-c"


def test_arguments_are_not_read_by_a_shell() -> None:
    assert run(["echo", "$HOME; exit 1"]) == "$HOME; exit 1\n"


def test_standard_input_is_given_or_empty() -> None:
    assert run(["cat"], stdin="text") == "text"
    assert run(["cat"]) == ""


def test_directory_and_environment(tmp_path: Path) -> None:
    assert run(["pwd", "-P"], cwd=str(tmp_path)).strip() == str(tmp_path.resolve())
    assert run(["sh", "-c", 'echo "$LC_ALL $X $HOME"'], env={"X": "1"}).startswith("C.UTF-8 1 /")


def test_a_failure_names_program_status_and_reason() -> None:
    with pytest.raises(CommandError, match=r"^sh -c .*: exit status 3: the reason$") as caught:
        run(["sh", "-c", "echo the reason >&2; exit 3"])
    assert caught.value.returncode == 3
    assert caught.value.stderr == "the reason\n"


def test_a_failure_that_speaks_on_standard_output_is_heard() -> None:
    with pytest.raises(CommandError, match=r"exit status 1: no$"):
        run(["sh", "-c", "echo no; exit 1"])


def test_a_missing_program_is_named() -> None:
    with pytest.raises(HostError, match=r"^bailey-no-such-program: no such program on this host$"):
        run(["bailey-no-such-program"])


def test_a_program_that_does_not_end_is_ended() -> None:
    start = time.monotonic()
    with pytest.raises(HostError, match=r"^sleep 30: not finished after 0.2 s$"):
        run(["sleep", "30"], timeout=0.2)
    assert time.monotonic() - start < 5
