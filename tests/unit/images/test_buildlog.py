from __future__ import annotations

import pytest

from plugins.module_utils.bailey.errors import EngineError
from plugins.module_utils.bailey.images.buildlog import BuildFailedError, BuildLog


def log(*events: dict[str, object]) -> BuildLog:
    made = BuildLog()
    for event in events:
        made.add(event)
    return made


def test_the_steps_images_and_the_result_are_found() -> None:
    made = log(
        {"stream": "Step 1/2 : FROM x\n"},
        {"stream": " ---> aaaaaaaaaaaa\n"},
        {"stream": " ---> Running in bbbbbbbbbbbb\n"},
        {"stream": "Removing intermediate container bbbbbbbbbbbb\n ---> cccccccccccc\n"},
        {"aux": {"ID": "sha256:cc"}},
        {"stream": "Successfully built cccccccccccc\n"},
    )
    assert made.image_ids == ["aaaaaaaaaaaa", "cccccccccccc"]
    assert made.result() == "sha256:cc"


def test_without_the_engines_id_its_words_are_taken() -> None:
    assert log({"stream": "Successfully built cccccccccccc\n"}).result() == "cccccccccccc"


def test_a_failure_shows_the_end_of_the_log_alone() -> None:
    lines = [{"stream": f"line {number}\n"} for number in range(100)]
    made = log(*lines, {"stream": "\x1b[91mred\x1b[0m\n"}, {"error": "exit 7", "errorDetail": {"code": 7}})
    with pytest.raises(BuildFailedError, match=r"^exit 7$") as caught:
        made.result()
    text = str(made.failure(caught.value))
    assert text.startswith("exit 7; the last lines of the build's log:\n")
    assert text.endswith("\nline 99\nred")
    assert "line 75\n" not in text


def test_an_end_without_an_image_is_a_failure() -> None:
    with pytest.raises(BuildFailedError, match="without an image"):
        log({"stream": "Step 1/1\n"}).result()
    assert str(log().failure(EngineError("why", 500))) == "why"
