"""The two commands on this very machine: ./bailey up makes it the platform, ./bailey down makes it what it was.

Where the platform is up already it is somebody's: it is then tested as it stands and left up, and its teardown is
not tried here (Molecule tries it on fresh hosts of both kinds in any case).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bailey.agent_client import AgentClient
from bailey.errors import HostError

from tests.ground import snapshot

pytestmark = pytest.mark.alone

REPOSITORY = Path(__file__).parents[2]
ALREADY_UP = Path("/etc/bailey").exists()
TENANTS = {"ada-datasette-1": 8001, "bruno-timezones-1": 8002, "clara-site-1": 8003}
ROW = re.compile(
    r"^\s*(?:\S+  +\S+  +\w+  +[\d.]+ ms  +\S+  +)?"
    r"(?P<limit>[a-z_]+(?:[.\[]\S+)?)  +(?P<declared>\S.*?)  +(?P<enforced>\S.*)$"
)


@dataclass(frozen=True)
class Run:
    """A command that has ended."""

    status: int
    output: str

    @property
    def changed(self) -> list[int]:
        """What each play's recap counts as changed."""
        return [int(count) for count in re.findall(r"ok=\d+ +changed=(\d+)", self.output)]


def bailey(*arguments: str) -> Run:
    """Run ./bailey as a person would."""
    done = subprocess.run(
        ["./bailey", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Run(done.returncode, done.stdout + done.stderr)


def check_mode() -> Run:
    """Run the platform's playbook by itself in check mode."""
    done = subprocess.run(
        ["ansible-playbook", "site.yml", "--check", "--diff"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    return Run(done.returncode, done.stdout + done.stderr)


@dataclass(frozen=True)
class Story:
    """The first two chapters: check mode before anything was there, then up."""

    before: snapshot.Snapshot
    check: Run
    up: Run


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """The machine, made the platform; what was made here is taken away again."""
    before = snapshot.take()
    check = check_mode()
    try:
        yield Story(before, check, bailey("up"))
    finally:
        if not ALREADY_UP:
            bailey("down")


def inspect(name: str) -> dict:
    """Return the engine's own account of a tenant's container."""
    done = subprocess.run(
        ["docker", "inspect", name], capture_output=True, text=True, check=True, env=platform_engine()
    )
    return json.loads(done.stdout)[0]


def platform_engine() -> dict[str, str]:
    """Return the environment in which docker speaks to the platform's engine, not to the tests'."""
    return {key: value for key, value in os.environ.items() if key != "DOCKER_HOST"}


def fetch(port: int, path: str) -> str:
    """Fetch a page from a tenant; a program that has only just started gets some seconds."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def test_check_mode_passes_on_a_fresh_host(story):
    assert story.check.status == 0, story.check.output[-4000:]


def test_up_succeeds_and_ends_with_the_table(story):
    assert story.up.status == 0, story.up.output[-4000:]
    table = story.up.output.rpartition("TENANT  INSTANCE")[2]
    assert table, "there is no table"
    for name, port in TENANTS.items():
        assert re.search(rf"{name} +running +[\d.]+ ms +127\.0\.0\.1:{port} ", table), table


@pytest.mark.usefixtures("story")
def test_every_limit_of_the_table_is_enforced_as_declared():
    table = bailey("status").output.partition("TENANT  INSTANCE")[2].partition("\n\n")[0]
    limits = [match for line in table.splitlines() if (match := ROW.match(line))]
    assert len(limits) >= 17 * len(TENANTS), table
    for match in limits:
        assert match["declared"] == match["enforced"], match[0]


@pytest.mark.usefixtures("story")
def test_up_again_changes_nothing():
    again = bailey("up")
    assert again.status == 0, again.output[-4000:]
    assert len(again.changed) >= 2
    assert set(again.changed) == {0}, again.output[-8000:]


@pytest.mark.usefixtures("story")
def test_check_mode_passes_on_a_provisioned_host_and_finds_nothing():
    check = check_mode()
    assert check.status == 0, check.output[-4000:]
    assert check.changed == [0], check.output[-8000:]


@pytest.mark.usefixtures("story")
def test_each_tenant_answers_with_its_real_content():
    countries = json.loads(fetch(8001, "/codes/countries.json?_size=max&_shape=array"))
    assert {"AD", "ZW"} <= {row["code"] for row in countries}
    zones = json.loads(fetch(8002, "/zones"))
    assert "Europe/Andorra" in {zone["name"] for zone in zones}
    assert "<title>Bailey</title>" in fetch(8003, "/")


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize("name", TENANTS)
def test_the_engine_shows_a_tenant_locked_down(name):
    found = inspect(name)
    uid = int(found["Config"]["User"].partition(":")[0])
    assert 200_000 <= uid <= 265_535
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert "no-new-privileges" in host["SecurityOpt"]
    assert host["Privileged"] is False
    assert (found["Config"]["Entrypoint"], host["RestartPolicy"]["Name"]) == (["/.bailey/wshd"], "no")
    # Not the owner of the directory: PID 1 is not dumpable, so what is its own belongs to root.
    status = Path(f"/proc/{found['State']['Pid']}/status").read_text()
    assert re.search(r"^Uid:\t(\d+)\t\1\t\1\t\1$", status, re.MULTILINE)
    assert f"\nUid:\t{uid}\t" in status


def wsh(*arguments: str) -> Run:
    """Run the client as an operator would."""
    done = subprocess.run(
        ["wsh", *arguments], capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL
    )
    return Run(done.returncode, done.stdout + done.stderr)


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize("name", TENANTS)
def test_wsh_reaches_a_tenant_from_the_shell(name):
    assert wsh(name, "--", "cat", "/etc/hostname") == Run(0, f"{name}\n")
    assert wsh(name, "--", "sh", "-c", "exit 7").status == 7
    assert re.search(rf"^{name} +\w+ +open +[\d.]+ms ", wsh("ls").output, re.MULTILINE)


def agent_pid() -> int | None:
    """Return the agent's process, None while it does not answer."""
    try:
        return AgentClient(Path("/run/bailey")).ask("status")["agent"]["pid"]
    except HostError:
        return None


@pytest.mark.usefixtures("story")
def test_tenants_and_sessions_outlive_the_agent():
    before = {name: inspect(name)["State"]["Pid"] for name in TENANTS}
    agent = agent_pid()
    assert agent is not None
    with subprocess.Popen(
        ["wsh", "clara-site-1", "--", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as open_session:
        os.kill(agent, signal.SIGKILL)
        assert wsh("clara-site-1", "--", "true").status == 0
        deadline = time.monotonic() + 30
        while agent_pid() in (None, agent):
            assert time.monotonic() < deadline, "the agent did not come back"
            time.sleep(0.2)
        assert open_session.communicate(b"still here\n", timeout=30)[0] == b"still here\n"
    assert {name: inspect(name)["State"]["Pid"] for name in TENANTS} == before


@pytest.mark.usefixtures("story")
def test_a_restart_by_the_engines_own_client_passes_the_gate():
    first = inspect("clara-site-1")["State"]["Pid"]
    subprocess.run(["docker", "restart", "clara-site-1"], capture_output=True, check=True, env=platform_engine())
    assert "<title>Bailey</title>" in fetch(8003, "/")
    assert inspect("clara-site-1")["State"]["Pid"] != first
    assert bailey("status").status == 0


@pytest.mark.usefixtures("story")
def test_tenants_outlive_their_engine():
    before = {name: inspect(name)["State"]["Pid"] for name in TENANTS}
    engine = int(Path("/run/docker.pid").read_text())
    os.kill(engine, signal.SIGKILL)
    assert "<title>Bailey</title>" in fetch(8003, "/")
    deadline = time.monotonic() + 60
    while subprocess.run(["docker", "info"], capture_output=True, check=False, env=platform_engine()).returncode != 0:
        assert time.monotonic() < deadline, "the engine did not come back"
        time.sleep(0.5)
    assert int(Path("/run/docker.pid").read_text()) != engine
    assert {name: inspect(name)["State"]["Pid"] for name in TENANTS} == before
    assert bailey("status").status == 0


if not ALREADY_UP:

    def test_down_leaves_nothing(story):
        down = bailey("down")
        assert down.status == 0, down.output[-4000:]
        assert list(snapshot.compare(story.before, snapshot.take())) == []

    @pytest.mark.usefixtures("story")
    def test_down_again_finds_nothing_to_do():
        again = bailey("down")
        assert again.status == 0, again.output[-4000:]
        assert set(again.changed) == {0}, again.output[-8000:]
