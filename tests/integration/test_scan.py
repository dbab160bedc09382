"""Hostile processes in real containers: harmless stand-ins for each rule, found by the agent's scan and acted on.

What is scanned is a tenant's container under every limit; what is harmless must not be found in any of the images that
tenants are built from. Needs root, btrfs, dockerd, musl-gcc and yara.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bailey.access_log.packet import format_time
from bailey.instance_state import EXITED, OPEN
from bailey.planning import Action
from bailey.scan.rules import NAMES
from bailey.scan.yara import OWN_RULES, compile_rules, sources

from tests.ground.engine import Engine
from tests.integration.fixtures.instances import actions
from tests.integration.fixtures.platform import DATA, Platform, Task, tenant, wait_for

pytest_plugins = ["tests.integration.fixtures.on_platform"]

# In parts: whole, this file would be what scanners look for.
EICAR = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-" + "ANTIVIRUS-TEST-FILE!$H+H*"
POOL = 3333
QUIET = dict.fromkeys(NAMES, "ignore")

DELETED = f"cp /bin/sleep {DATA}/gone && {DATA}/gone 600 & sleep 1; rm {DATA}/gone; wait"
MEMFD = """
import os
copy = os.memfd_create("stand-in", 0)
with open("/bin/sleep", "rb") as program:
    os.write(copy, program.read())
if os.fork() == 0:
    os.execv(f"/proc/self/fd/{copy}", ["stand-in", "600"])
os.wait()
"""
MINER = f"""
import socket, threading
server = socket.create_server(("127.0.0.1", {POOL}))
connection = socket.create_connection(("127.0.0.1", {POOL}))
while True:
    pass
"""
DAEMON = "(sleep 601 &) ; exec sleep 600"
SETUID = f"cp /bin/sleep {DATA}/become && chmod 4755 {DATA}/become && exec sleep 600"
# An ordinary program of each runtime that the base image has.
ORDINARY: Mapping[str, list[str]] = {
    "shell": ["sh", "-c", "while :; do sleep 1; done"],
    "python": ["python3", "-c", "import ssl, json, time, sqlite3, ctypes; time.sleep(600)"],
    "busy": ["python3", "-c", "while True: pass"],
}


class Scans:
    """The agent of a platform, told what to scan for, and what its scans find."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.config = platform.root / "scan.json"
        self.log = platform.root / "access.json"
        self.log.touch()
        self.write()
        platform.agent.stop()
        self.start()

    def write(self, rules: Mapping[str, Any] | None = None, **settings: Any) -> None:
        """Write the settings; without any, only a test's own rules find anything, and no timer comes in between."""
        content = {
            "interval": 3600,
            "cpu_share": 1.0,
            "rules_dir": str(self.platform.root / "yara"),
            "access_log": str(self.log),
            "rules": {**QUIET, **(rules or {})},
            **settings,
        }
        self.config.write_text(json.dumps(content))

    def start(self) -> None:
        self.platform.agent.start("--scan-config", str(self.config))

    def scan(self, *names: str, act: bool = True, **rules: Any) -> list[dict[str, Any]]:
        """Scan now with these rules alone, their names with low lines."""
        chosen = {name.replace("_", "-"): rule for name, rule in rules.items()}
        answer = self.platform.agent.client.scan(names, {**QUIET, **chosen}, 120, act=act)
        assert answer["summary"]["complete"], answer
        return list(answer["findings"])

    def state(self, name: str = "one") -> tuple[str, str]:
        state = self.platform.agent.state(name)
        return state.status, state.reason


@pytest.fixture
def scans(clean: Platform) -> Iterator[Scans]:
    made = Scans(clean)
    yield made
    if clean.agent.process is not None:
        clean.agent.stop()
    clean.agent.start()


def run(scans: Scans, *command: str, **declared: Any) -> None:
    scans.platform.converge(tenant("one", command=list(command), **declared))


def until_found(scans: Scans, count: int = 1, **rules: Any) -> list[dict[str, Any]]:
    """Scan until a stand-in that has just started is there."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = scans.scan(**rules)
        return len(found) >= count

    wait_for(is_there, f"findings of {', '.join(rules)}", 30)
    return found


class TestRules:
    def test_a_script_with_the_test_file(self, scans: Scans) -> None:
        run(scans, "sh", f"{DATA}/script", restart="no", state="stopped")
        script = scans.platform.volume("one") / "script"
        script.write_text(f": '{EICAR}'\nwhile :; do sleep 1; done\n")
        run(scans, "sh", f"{DATA}/script", restart="no")
        (finding,) = until_found(scans, yara_match="report")
        assert (finding["rule"], finding["path"]) == ("yara-match", f"{DATA}/script")
        assert "eicar_test_file" in finding["detail"]

    def test_a_deleted_executable(self, scans: Scans) -> None:
        run(scans, "sh", "-c", DELETED)
        (finding,) = until_found(scans, deleted_executable="report")
        assert finding["path"] == f"{DATA}/gone"

    def test_an_executable_that_never_had_a_name(self, scans: Scans) -> None:
        run(scans, "python3", "-c", MEMFD)
        (finding,) = until_found(scans, memfd_executable="report")
        assert finding["path"] == "/memfd:stand-in"

    def test_a_miner(self, scans: Scans) -> None:
        run(scans, "python3", "-c", MINER, cpus=0.2)
        (finding,) = until_found(scans, miner_behaviour={"action": "report", "window": 2, "cpu": 0.7})
        assert f"port {POOL}" in finding["detail"]
        assert finding["pid"] is not None

    def test_a_scan_of_others(self, scans: Scans) -> None:
        run(scans, "sleep", "600")
        entry = {
            "tenant": "test", "app": "one", "instance": "one", "direction": "egress", "verdict": "deny",
            "reason": "policy", "protocol": "tcp", "source": "10.184.128.2", "source_port": 1, "peer": None,
            "destination": "10.0.0.1",
        }  # fmt: skip
        lines = [{"time": format_time(time.time()), **entry, "destination_port": port} for port in range(1, 200)]
        scans.log.write_text("".join(json.dumps(line) + "\n" for line in lines))
        (finding,) = scans.scan(connection_scan="report")
        assert (finding["instance"], finding["pid"]) == ("one", None)

    def test_a_file_that_changes_who_runs_it(self, scans: Scans) -> None:
        run(scans, "sh", "-c", SETUID)
        (finding,) = until_found(scans, setuid_file="report")
        assert finding["path"] == f"{DATA}/become"

    def test_a_web_shell_in_a_volume(self, scans: Scans) -> None:
        run(scans, "sleep", "600")
        page = scans.platform.volume("one") / "www/page.php"
        page.parent.mkdir()
        page.write_text("<?php @ev" + "al($_PO" + "ST['x']); ?>")
        (finding,) = scans.scan(yara_file="report")
        assert finding["path"] == f"{DATA}/www/page.php"

    def test_who_leaves_its_tree(self, scans: Scans) -> None:
        run(scans, "sh", "-c", DAEMON)
        (finding,) = until_found(scans, foreign_process="report")
        content = json.loads(Path(finding["evidence"]).read_text())
        assert content["process"]["command_line"] == ["sleep", "601"]

    def test_a_session_of_wsh_is_none(self, scans: Scans) -> None:
        run(scans, "sleep", "600")
        with ThreadPoolExecutor(1) as pool:
            session = pool.submit(scans.platform.run, "one", "sh", "-c", "echo begun; sleep 5")
            pid = str(scans.platform.agent.state("one").pid)
            children = Path(f"/proc/{pid}/task/{pid}/children")
            wait_for(lambda: len(children.read_text().split()) == 2, "the session")
            assert scans.scan(foreign_process="report", deleted_executable="report") == []
            assert session.result(20).code == 0


class TestOrdinaryPrograms:
    def test_nothing_is_found_of_them(self, scans: Scans) -> None:
        """With all rules at once, twice, of every runtime, and after the platform's own program was replaced."""
        declared = [tenant(name, command=list(command)) for name, command in ORDINARY.items()]
        scans.platform.converge(*declared)
        every = dict.fromkeys((name.replace("-", "_") for name in NAMES), "report")
        assert scans.scan(**every) == []
        wshd = scans.platform.files.wsh_dir / "wshd"
        fresh = wshd.with_name("wshd.new")
        fresh.write_bytes(wshd.read_bytes())
        fresh.chmod(stat.S_IMODE(wshd.stat().st_mode))
        fresh.rename(wshd)
        assert scans.scan(**every) == []

    def test_nothing_in_the_images(self, engine: Engine, base_image: str, tmp_path: Path) -> None:
        """YARA over every file of every image that the tests' engine has: those that tenants are built from."""
        ruleset = compile_rules(sources(OWN_RULES, Path("/nowhere")), tmp_path)
        assert base_image
        references = engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        for reference in references:
            if "<none>" in reference:
                continue
            container = engine.docker("create", reference, "true").strip()
            tree = tmp_path / "tree"
            tree.mkdir()
            try:
                with subprocess.Popen(
                    ["docker", "--host", engine.docker_host, "export", container], stdout=subprocess.PIPE
                ) as export:
                    subprocess.run(["tar", "x", "-C", tree, "--exclude=dev/*"], stdin=export.stdout, check=True)
                done = subprocess.run(
                    ["yara", "-C", "-w", "-r", "-N", "-f", "-p", "2", ruleset.path, tree],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.stdout == "", reference
            finally:
                engine.docker("rm", "--force", container)
                subprocess.run(["rm", "-rf", tree], check=True)


class TestActions:
    def test_kill_ends_the_process_and_not_the_instance(self, scans: Scans) -> None:
        run(scans, "sh", "-c", f"{DELETED}; exec sleep 600")
        (finding,) = until_found(scans, deleted_executable="kill")
        assert finding["taken"] == "killed"
        assert scans.state()[0] == OPEN
        wait_for(lambda: scans.scan(deleted_executable="report") == [], "its end")
        assert scans.platform.agent.state("one").restarts == 0

    def test_evidence_is_kept_of_who_was_killed(self, scans: Scans) -> None:
        run(scans, "sh", "-c", f"{DELETED}; exec sleep 600")
        (finding,) = until_found(scans, deleted_executable="kill")
        path = Path(finding["evidence"])
        assert path.parent == scans.platform.files.findings_directory
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) == (0o600, 0)
        content = json.loads(path.read_text())
        assert content["process"]["command_line"] == [f"{DATA}/gone", "600"]
        assert content["process"]["uid"] == scans.platform.instance("one").stored.uid
        assert [parent["name"] for parent in content["process"]["parents"]][-1] == "wshd"
        assert content["sha256"]
        assert content["taken"] == "killed"

    def test_freeze(self, scans: Scans) -> None:
        run(scans, "sh", "-c", SETUID)
        (finding,) = until_found(scans, setuid_file="freeze")
        assert finding["taken"] == "frozen"
        status, reason = scans.state()
        assert status == OPEN
        assert reason.startswith("frozen by scan rule setuid-file: ")
        assert frozen(scans)
        scans.platform.agent.kill()
        scans.start()
        scans.platform.agent.until(lambda: frozen(scans), "it stands still")
        assert scans.platform.agent.client.pardon("one")
        assert not frozen(scans)
        assert scans.state() == (OPEN, "")
        assert scans.platform.run("one", "true").code == 0

    @pytest.mark.parametrize("way", ["remove", "recreate", "engine"])
    def test_who_is_frozen_can_be_ended(self, scans: Scans, way: str) -> None:
        run(scans, "sh", "-c", SETUID)
        until_found(scans, setuid_file="freeze")
        begun = time.monotonic()
        if way == "remove":
            scans.platform.converge(tenant("one", state="absent"))
            assert not scans.platform.exists("one")
        elif way == "recreate":
            run(scans, "sleep", "600")
            assert scans.state() == (OPEN, "")
            assert not frozen(scans)
        else:
            scans.platform.engine.docker("stop", "--time", "2", "one")
            wait_for(lambda: scans.state()[0] == EXITED, "its end")
        assert time.monotonic() - begun < 20

    def test_stop_lasts_until_it_is_deployed_again(self, scans: Scans) -> None:
        run(scans, "sh", "-c", SETUID, restart="always")
        (finding,) = until_found(scans, setuid_file="stop")
        assert finding["taken"] == "stopped"
        wait_for(lambda: scans.state()[0] == EXITED, "its end")
        assert scans.state()[1].startswith("stopped by scan rule setuid-file: ")
        scans.platform.agent.kill()
        (scans.platform.files.run_dir / "boot_id").unlink()  # as after a reboot
        scans.start()
        wait_for(lambda: scans.state()[0] == EXITED, "the word of another agent")
        time.sleep(2)
        assert not scans.platform.inspect("one")["State"]["Running"]
        report = scans.platform.converge(tenant("one", command=["sh", "-c", SETUID], restart="always"))
        assert actions(report) == {"one": Action.START}
        assert scans.state() == (OPEN, "")

    def test_who_was_stopped_is_not_let_in_by_hand(self, scans: Scans) -> None:
        run(scans, "sh", "-c", SETUID)
        until_found(scans, setuid_file="stop")
        wait_for(lambda: not scans.platform.inspect("one")["State"]["Running"], "its end")
        scans.platform.engine.docker("start", "one")
        wait_for(lambda: not scans.platform.inspect("one")["State"]["Running"], "the refusal")
        assert not scans.platform.agent.is_open("one")
        assert "stopped by scan rule" in scans.state()[1]

    def test_to_look_does_nothing(self, scans: Scans) -> None:
        run(scans, "sh", "-c", f"{DELETED}; exec sleep 600")
        until_found(scans, deleted_executable="report")
        findings = scans.platform.files.findings_directory
        before = sorted(path.read_bytes() for path in findings.iterdir())
        (finding,) = scans.scan(act=False, deleted_executable="kill")
        assert (finding["taken"], finding["evidence"]) == ("nothing: only looked", "")
        assert sorted(path.read_bytes() for path in findings.iterdir()) == before
        assert len(scans.scan(deleted_executable="report")) == 1


NEWS = "scan rule setuid-file"  # in the agent's log


def frozen(scans: Scans) -> bool:
    hierarchy = scans.platform.open().hierarchy
    name = "cgroup.freeze" if hierarchy.version == 2 else "freezer.state"
    return scans.platform.cgroup("one", "freezer", name).read_text().strip() in ("1", "FROZEN", "FREEZING")


class TestTimer:
    def test_it_scans_counts_and_acts(self, scans: Scans) -> None:
        scans.platform.agent.stop()
        told = scans.platform.agent.log.read_text().count(NEWS)
        scans.write({"setuid-file": "report"}, interval=10)
        scans.start()
        run(scans, "sh", "-c", SETUID)
        gauge = 'bailey_scan_findings{rule="setuid-file"}'
        scans.platform.agent.until(lambda: scans.platform.agent.metrics().get(gauge) == 1, "the timer's scan", 40)
        metrics = scans.platform.agent.metrics()
        assert metrics["bailey_scan_seconds"] > 0
        assert abs(metrics["bailey_scan_last_timestamp"] - time.time()) < 60
        assert scans.platform.agent.log.read_text().count(NEWS) == told + 1
        first = metrics["bailey_scan_last_timestamp"]
        scans.platform.agent.until(
            lambda: scans.platform.agent.metrics()["bailey_scan_last_timestamp"] > first, "the next scan", 40
        )
        assert scans.platform.agent.log.read_text().count(NEWS) == told + 1  # it is no news any more

    def test_the_agent_stays_idle_while_it_scans(self, scans: Scans) -> None:
        run(scans, "sleep", "600")
        used, begun = scans.platform.agent.cpu_seconds(), time.monotonic()
        for _ in range(5):
            scans.scan(yara_match="report", setuid_file="report")
            time.sleep(2)
        assert (scans.platform.agent.cpu_seconds() - used) / (time.monotonic() - begun) < 0.02

    def test_an_agent_that_ends_takes_its_scan_along(self, scans: Scans) -> None:
        run(scans, "python3", "-c", MINER, cpus=0.2)
        scans.platform.agent.stop()
        scans.write({"miner-behaviour": {"action": "report", "window": 60}}, interval=100, timeout=90)
        scans.start()
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(scans.platform.files.run_dir / "agent.sock"))
        client.sendall(json.dumps({"op": "scan", "names": [], "rules": {}, "act": True}).encode() + b"\n")
        try:
            wait_for(lambda: scanners(scans), "the scan")
            scans.platform.agent.stop()
            wait_for(lambda: not scanners(scans), "its end")
        finally:
            client.close()


def scanners(scans: Scans) -> list[int]:
    """Return the scans of this platform's agent that run."""
    mark = f"--run-dir={scans.platform.files.run_dir}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if b"bailey.scan" in words and mark in words:
            found.append(int(entry.name))
    return found


class TestModule:
    def test_check_then_act(self, scans: Scans) -> None:
        run(scans, "sh", "-c", SETUID)
        until_found(scans, setuid_file="report")
        rules = {**QUIET, "setuid-file": "stop"}
        arguments = {"run_dir": str(scans.platform.files.run_dir), "rules": rules}
        _, results = scans.platform.play(
            [
                Task("look", arguments, check_mode=True, module="bailey_scan"),
                Task("act", arguments, module="bailey_scan"),
                Task("act again", arguments, module="bailey_scan"),
                Task("wrong", {**arguments, "rules": {"setuid-file": "kill"}}, module="bailey_scan"),
            ]
        )
        look, act, again, wrong = results
        assert [result.failed for result in results] == [False, False, False, True]
        assert [result.values["changed"] for result in (look, act, again)] == [True, True, False]
        assert look.values["findings"][0]["taken"] == "nothing: only looked"
        assert act.values["findings"][0]["taken"] == "stopped"
        assert again.values["findings"] == []
        assert f"{DATA}/become" in act.values["table"]
        assert "rules.setuid-file.action: 'kill' is not valid" in wrong.values["msg"]
        assert os.path.exists(act.values["findings"][0]["evidence"])  # noqa: PTH110 - a path of a result
