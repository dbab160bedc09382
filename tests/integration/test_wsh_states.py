"""wsh and the state files: the list of instances, and why one cannot be entered.

Needs root and dockerd.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.integration.fixtures.wsh import Instance, RunDirectory, state

pytest_plugins = ("tests.integration.fixtures.wshd", "tests.integration.fixtures.wsh")


def test_ls(run_directory: RunDirectory) -> None:
    run_directory.write_state(state("web-2", opened_at=time.time() - 7250, restarts=3, health="healthy"))
    exit_ = {"code": 1, "signal": None, "oom": False, "at": time.time() - 3 * 86400}
    run_directory.write_state(state("api", status="exited", gate_ms=None, reason="\x1b[2Jgot ü", last_exit=exit_))
    run_directory.write_state(state("job", status="refused", gate_ms=None, opened_at=None, tenant="a-long-name"))
    (run_directory.path / "state/torn.json").write_text('{"version": 1, "name"')
    (run_directory.path / "state/.job.json.tmp").write_text("{}")
    done = run_directory.run("ls")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "NAME   TENANT       STATUS      GATE    HEALTH   RESTARTS  SINCE  REASON",
        "api    yard         exited      -       none     0         3d     ?[2Jgot ü",
        "job    a-long-name  refused     -       none     0         -",
        "torn   -            unreadable  -       -        0         -",
        "web-2  yard         open        12.3ms  healthy  3         2h",
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"status": "waiting"}, "its gate is closed (waiting)"),
        ({"status": "refused", "reason": "cpus: 1 is 2"}, "its gate is closed (refused): cpus: 1 is 2"),
        ({"status": "backoff", "reason": "exit 1"}, "it does not run (backoff): exit 1"),
        ({"status": "exited"}, "it does not run (exited)"),
        ({"status": "open"}, "its PID 1 does not answer; wsh --runtime closed"),
        ({"version": 2}, "its state file cannot be read"),
    ],
)
def test_an_instance_that_cannot_be_entered(
    run_directory: RunDirectory, fields: dict[str, object], message: str
) -> None:
    run_directory.write_state(state("closed", **fields))
    done = run_directory.run("closed", "--", "true")
    assert done.returncode == 125
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_instance_that_is_not_there(run_directory: RunDirectory, tmp_path: Path) -> None:
    assert "there is no such instance; there are: none" in run_directory.run("web", "--", "true").stderr
    run_directory.write_state(state("one"))
    run_directory.write_state(state("two"))
    for arguments in (("web", "--", "true"), ("--runtime", "web", "--", "true"), ("logs", "web")):
        done = run_directory.run(*arguments)
        assert (done.returncode, "there is no such instance; there are: one, two" in done.stderr) == (125, True)
    for name in ("../one", "One", "a" * 64, "-", "a_b"):
        done = run_directory.run("-T", name, "--", "true")
        assert (done.returncode, "no instance has such a name" in done.stderr) == (125, True), done
    nowhere = RunDirectory(tmp_path / "nowhere", run_directory.wsh).run("web", "--", "true")
    assert "the agent has none here" in nowhere.stderr


def test_only_root_may_enter(web: Instance) -> None:
    web.directory.path.parent.chmod(0o711)
    web.directory.wsh.parent.parent.chmod(0o755)
    done = web.run("true", user=65534, group=65534)
    assert (done.returncode, "only root may connect" in done.stderr) == (125, True)
