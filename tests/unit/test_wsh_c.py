"""wshd's C: its unit tests pass, and the fuzzer finds nothing - but finds a defect that is put in on purpose."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.house import ROOT

SOURCES = ROOT / "src/wsh"
INPUTS = 50_000

# File, what stands there, what is put in its place. Each is of another kind.
DEFECTS = {
    "a length is not checked": ("wire.c", " || field->length > cursor->left - WIRE_FIELD", ""),
    "a string is not ended": ("wire.c", "    text[field->length] = 0;\n", ""),
    "the budget is not given back": (
        "wire.c",
        "        reader->budget->left += reader->frame.length;\n",
        "        {}\n",
    ),
    "a reaped program is killed": (
        "wshd/session.c",
        "    session->kill_on_disconnect = false; /* its pid means nothing any more */\n    if",
        "    if",
    ),
    "a descriptor stays open": (
        "wshd/session.c",
        "    loop_close(session->all->loop, &session->report);\n    /*",
        "    /*",
    ),
    "a session is used after its end": (
        "wshd/session.c",
        '        refuse(session, ERROR_MALFORMED, "SIGNAL has the wrong form");\n        return;\n',
        '        refuse(session, ERROR_MALFORMED, "SIGNAL has the wrong form");\n',
    ),
}


def make(sources: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = ["make", "-s", "-C", str(sources), f"OUT={out}", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)


def test_unit_tests(tmp_path: Path) -> None:
    done = make(SOURCES, tmp_path, "check")
    assert done.returncode == 0, done.stderr
    for name in ("test_wire", "test_program", "test_memory"):
        assert name in done.stdout


def test_the_fuzzer_finds_nothing(tmp_path: Path) -> None:
    done = make(SOURCES, tmp_path, "fuzz", f"COUNT={INPUTS}")
    assert done.returncode == 0, done.stderr
    assert f"{INPUTS} inputs" in done.stdout


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_fuzzer_finds_a_defect(defect: str, tmp_path: Path) -> None:
    name, before, after = DEFECTS[defect]
    sources = tmp_path / "sources"
    shutil.copytree(SOURCES, sources)
    text = (sources / name).read_text()
    assert text.count(before) == 1, "the defect has no place any more"
    (sources / name).write_text(text.replace(before, after))
    done = make(sources, tmp_path / "out", "fuzz", f"COUNT={INPUTS}")
    assert done.returncode != 0
    assert "fuzz: input " in done.stderr, done.stderr
