"""Rules on what processes are: each finds a harmless stand-in, and none finds an ordinary program."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from bailey.scan.findings import KILLED, LEFT, NOTHING, REPORTED
from bailey.scan.processes import clean, command_line, open_files, read_process, read_processes

from tests.unit.scan.stage import EICAR, NAME, Stage

MEMFD = """
    import os, sys
    copy = os.memfd_create("stand-in", 0)
    with open(sys.argv[1], "rb") as program:
        os.write(copy, program.read())
    print("ready", flush=True)
    os.execv(f"/proc/self/fd/{copy}", ["stand-in", "600"])
"""
ANONYMOUS = """
    import mmap, sys, time
    prot = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    region = mmap.mmap(-1, 8192, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=prot)
    region[100 : 100 + len(sys.argv[1])] = sys.argv[1].encode()
    print("ready", flush=True)
    time.sleep(600)
"""
MAPPED = """
    import mmap, os, sys, time
    file = os.open(sys.argv[1], os.O_RDONLY)
    region = mmap.mmap(file, 0, prot=mmap.PROT_READ | mmap.PROT_EXEC, flags=mmap.MAP_PRIVATE)
    os.close(file)
    print("ready", flush=True)
    time.sleep(600)
"""
MINER = b"\0stratum+tcp://\0mining.subscribe\0mining.submit\0"


class TestOrdinaryPrograms:
    def test_nothing_is_found_of_them(self, stage: Stage) -> None:
        stage.start("/bin/sleep", "600")
        stage.python("print('ready', flush=True); import time; time.sleep(600)")
        summary = stage.scan()
        assert stage.found == []
        assert summary.complete
        assert summary.instances == [NAME]
        assert summary.contents > 1

    def test_what_is_unchanged_is_read_once(self, stage: Stage) -> None:
        stage.only(yara_match="report")
        stage.start("/bin/sleep", "600")
        assert stage.scan().contents > 0
        assert stage.scan().contents == 0


class TestYara:
    def test_an_executable(self, stage: Stage) -> None:
        miner = stage.copy("sleep", "miner", MINER)
        process = stage.start(miner, "600")
        stage.scan()
        (finding,) = stage.found
        assert (finding.rule, finding.pid, finding.path) == ("yara-match", process.pid, str(miner))
        assert finding.detail == "bailey_miners:stratum_client matches its executable"
        assert finding.taken == REPORTED
        assert len(finding.sha256) == 64
        stage.scan()  # from what is remembered
        assert [item.sha256 for item in stage.found] == [finding.sha256]

    def test_a_script(self, stage: Stage) -> None:
        script = stage.root / "script"
        script.write_bytes(b"#!/bin/sh\n: '" + EICAR.replace(b"'", b"") + b"'\nread x < fifo\n")
        subprocess.run(["mkfifo", stage.root / "fifo"], check=True)
        process = stage.start("/bin/sh", "script", cwd=stage.root)
        stage.scan()
        (finding,) = stage.found
        assert (finding.pid, finding.path) == (process.pid, str(script))
        assert finding.detail == "bailey_eicar:eicar_test_file matches a file that it was started with"

    def test_a_deleted_executable_is_read_all_the_same(self, stage: Stage) -> None:
        miner = stage.copy("sleep", "miner", MINER)
        stage.start(miner, "600")
        miner.unlink()
        stage.scan()
        assert stage.rules() == {"yara-match", "deleted-executable"}

    def test_memory_that_may_be_executed(self, stage: Stage) -> None:
        process = stage.python(ANONYMOUS, EICAR.decode())
        (stage.root / "operators").mkdir()
        rule = 'rule marked { strings: $a = "EICAR-STANDARD" condition: $a }'
        (stage.root / "operators/own rules.yar").write_text(rule)
        stage.scan()
        found = [item for item in stage.found if item.pid == process.pid]
        assert {item.detail for item in found} == {
            "own_rules:marked matches memory that it may execute",
            "bailey_eicar:eicar_test_file matches memory that it may execute",
        }

    def test_a_file_that_is_mapped(self, stage: Stage) -> None:
        library = stage.root / "library.so"
        library.write_bytes(EICAR)
        stage.only(yara_match="report")
        # On the command line it would be found as a script.
        process = stage.python(MAPPED.replace("sys.argv[1]", repr(str(library))))
        stage.scan()
        (finding,) = stage.found
        assert (finding.pid, finding.path) == (process.pid, str(library))

    def test_a_modest_rule_is_only_reported(self, stage: Stage) -> None:
        packed = stage.copy("sleep", "packed", b"\0UPX!\0This file is packed with the UPX executable packer\0")
        process = stage.start(packed, "600")
        stage.only(yara_match="kill")
        stage.scan()
        assert [(item.action, item.taken) for item in stage.found] == [("report", REPORTED)]
        assert process.poll() is None

    def test_operators_rules_that_do_not_compile_leave_ours(self, stage: Stage) -> None:
        (stage.root / "operators").mkdir()
        (stage.root / "operators/broken.yar").write_text("rule broken { condition: nothing_of_it }")
        stage.start(stage.copy("sleep", "miner", MINER), "600")
        summary = stage.scan()
        assert stage.rules() == {"yara-match"}
        assert "broken.yar(1)" in summary.notes[0]

    def test_what_is_too_large_is_said(self, stage: Stage) -> None:
        stage.start(stage.copy("sleep", "large", bytes(1 << 20)), "600")
        summary = stage.scan(file_max=1 << 20)
        assert any("large is larger than 1 MiB" in note for note in summary.notes)


class TestExecutables:
    def test_a_deleted_one(self, stage: Stage) -> None:
        program = stage.copy("sleep", "gone")
        process = stage.start(program, "600")
        program.unlink()
        stage.scan()
        (finding,) = stage.found
        assert (finding.rule, finding.pid, finding.path) == ("deleted-executable", process.pid, str(program))

    def test_one_that_never_had_a_name(self, stage: Stage) -> None:
        process = stage.python(MEMFD, "/bin/sleep")
        stage.scan()
        (finding,) = stage.found
        assert (finding.rule, finding.pid, finding.path) == ("memfd-executable", process.pid, "/memfd:stand-in")

    def test_the_platforms_own_program_may_be_replaced(self, stage: Stage) -> None:
        """An upgrade takes the file away that PID 1 runs, and a session before it executes."""
        wshd = Path(f"/proc/{stage.target.init}/exe").readlink()
        stage.start(wshd, "601")
        wshd.unlink()
        stage.scan()
        assert stage.found == []

    def test_a_rule_that_does_not_concern_the_instance(self, stage: Stage) -> None:
        program = stage.copy("sleep", "gone")
        stage.start(program, "600")
        program.unlink()
        stage.only(deleted_executable={"action": "kill", "except": [NAME]})
        stage.scan()
        assert stage.found == []


class TestActions:
    def start_gone(self, stage: Stage) -> subprocess.Popen[bytes]:
        program = stage.copy("sleep", "gone")
        process = stage.start(program, "600")
        program.unlink()
        return process

    def test_kill(self, stage: Stage) -> None:
        process = self.start_gone(stage)
        stage.only(deleted_executable="kill")
        stage.scan()
        assert process.wait(5) == -signal.SIGKILL
        assert [item.taken for item in stage.found] == [KILLED]

    @pytest.mark.parametrize("action", ["freeze", "stop"])
    def test_what_is_the_agents_is_left_to_it(self, stage: Stage, action: str) -> None:
        process = self.start_gone(stage)
        stage.only(deleted_executable=action)
        stage.scan()
        assert [(item.action, item.taken) for item in stage.found] == [(action, LEFT)]
        assert process.poll() is None

    def test_to_look_only_does_and_leaves_nothing(self, stage: Stage) -> None:
        process = self.start_gone(stage)
        stage.only(deleted_executable="kill")
        stage.scan(act=False)
        assert [(item.taken, item.evidence) for item in stage.found] == [(NOTHING, "")]
        assert process.poll() is None
        assert not stage.places.findings.exists()
        assert not (stage.places.work / "memory.json").exists()

    def test_evidence(self, stage: Stage) -> None:
        process = self.start_gone(stage)
        stage.only(deleted_executable="kill")
        stage.scan()
        (finding,) = stage.found
        path = Path(finding.evidence)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        content = json.loads(path.read_text())
        assert (content["rule"], content["instance"], content["taken"]) == ("deleted-executable", NAME, KILLED)
        assert content["sha256"] == finding.sha256
        assert content["count"] == 1
        kept = content["process"]
        assert (kept["pid"], kept["uid"], kept["host_uid"]) == (process.pid, os.getuid(), os.getuid())
        assert kept["command_line"] == [str(stage.root / "gone"), "600"]
        assert abs(kept["started"] - path.stat().st_mtime) < 60
        assert kept["parents"][0]["name"].startswith("pytest")
        assert "0 -> /dev/null" in kept["open_files"]

    def test_the_same_again_is_the_same_finding(self, stage: Stage) -> None:
        self.start_gone(stage)
        stage.only(deleted_executable="report")
        stage.scan()
        first = stage.found[0]
        self.start_gone(stage)
        stage.scan()
        assert {item.evidence for item in stage.found} == {first.evidence}
        assert (first.new, stage.found[0].new) == (True, False)
        assert json.loads(Path(first.evidence).read_text())["count"] == 3


class TestHostileText:
    def test_it_is_cleaned_and_cut(self) -> None:
        assert clean("a\x1b[2J\nb\u202e\udcff") == "a?[2J?b??"
        assert clean("x" * 600) == "x" * 512 + "…"

    def test_a_name_with_brackets(self, tmp_path: Path) -> None:
        (tmp_path / "7").mkdir()
        line = b"7 (a) R 1 (\n\xff)) S 1 7 7 0 -1 0 0 0 0 0 3 4 0 0 20 0 1 0 4711 0 0\n"
        (tmp_path / "7/stat").write_bytes(line)
        process = read_process(7, tmp_path)
        assert process is not None
        assert (process.name, process.parent, process.started, process.ticks) == ("a) R 1 (??)", 1, 4711, 7)
        assert process.leads_session

    @pytest.mark.parametrize("content", [b"", b"7", b"7 (a", b"7 (a) S 1"])
    def test_what_is_no_process(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "7").mkdir()
        (tmp_path / "7/stat").write_bytes(content)
        assert read_process(7, tmp_path) is None
        assert read_processes([7, 8], tmp_path) == {}

    def test_a_command_line(self, tmp_path: Path) -> None:
        (tmp_path / "7").mkdir()
        (tmp_path / "7/cmdline").write_bytes(b"a\x07b\0" + b"x" * 9000)
        first, second = command_line(7, tmp_path)
        assert (first, len(second)) == ("a?b", 513)

    def test_open_files_are_bounded(self) -> None:
        program = "import os, time; [os.open('/', 0) for _ in range(40)]; print('ready', flush=True); time.sleep(60)"
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            assert len(open_files(process.pid, 10)) == 11
            process.kill()
