"""Services under a real runsvdir of the test's own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bailey.errors import HostError, InvalidValueError
from bailey.host.processes import argv_of
from bailey.host.runit import Layout, Service, Supervised, Supervisor, check_service, run_script, wait_for
from bailey.host.supervision import Reached, Wanted, reconcile, remove

PROGRAM = ("/bin/sh", "-c", "echo up; exec sleep 1000")


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    layout = Layout(tmp_path / "etc/service", tmp_path / "run/runsvdir.pid", tmp_path / "log")
    yield layout
    for directory in list(layout.services.glob("*")):
        remove(directory.name.strip("."), timeout=10, check=False, layout=layout)
    Supervisor(layout).end()


def bring(layout: Layout, service: Service, state: str = "started", **options: object) -> Reached:
    wanted = Wanted(state, timeout=10, restart_on=options.pop("restart_on", ()))  # type: ignore[arg-type]
    return reconcile(service, wanted, check=bool(options.pop("check", False)), layout=layout)


def pid_of(layout: Layout, name: str = "trial") -> int:
    status = Supervised(name, layout, 10).status()
    return status.pid if status else 0


def test_a_service_is_started_once_and_removed_without_a_trace(layout: Layout, tmp_path: Path) -> None:
    service = Service("trial", PROGRAM)
    assert bring(layout, service, check=True).differences
    assert not layout.services.exists()
    assert bring(layout, service).differences
    pid = pid_of(layout)
    assert pid > 0
    assert not bring(layout, service).differences
    assert pid_of(layout) == pid
    assert (layout.logs / "trial/current").read_text().endswith("up\n")
    supervisor = Supervisor(layout).pid()
    assert remove("trial", timeout=10, check=True, layout=layout).differences
    assert pid_of(layout) == pid
    assert remove("trial", timeout=10, check=False, layout=layout).differences
    assert not remove("trial", timeout=10, check=False, layout=layout).differences
    assert list(tmp_path.iterdir()) == []
    for gone in (pid, supervisor):
        assert gone is not None
        wait_for(lambda gone=gone: argv_of(gone) == [], 5, "it still runs")  # a zombie child of ours is gone too


def test_a_killed_program_comes_back(layout: Layout) -> None:
    bring(layout, Service("trial", PROGRAM))
    pid = pid_of(layout)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pid_of(layout) not in (0, pid), 5, "not back")


def test_only_a_changed_script_or_a_newer_file_restarts(layout: Layout, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("1")
    service = Service("trial", PROGRAM)
    bring(layout, service, restart_on=(str(config),))
    pid = pid_of(layout)
    assert not bring(layout, service, restart_on=(str(config),)).differences
    config.write_text("2")
    assert bring(layout, service, restart_on=(str(config),)).differences
    second = pid_of(layout)
    assert second != pid
    assert not bring(layout, service, restart_on=(str(config),)).differences
    assert bring(layout, Service("trial", PROGRAM, environment={"A": "b"})).differences
    assert pid_of(layout) != second
    config.unlink()


def test_a_changed_log_bound_restarts_nothing(layout: Layout) -> None:
    bring(layout, Service("trial", PROGRAM))
    pid = pid_of(layout)
    assert bring(layout, Service("trial", PROGRAM, log_files=7)).differences
    assert pid_of(layout) == pid
    assert (layout.logs / "trial/config").read_text().endswith("n7\n")


def test_stopped_stays_stopped_and_starts_again(layout: Layout) -> None:
    service = Service("trial", PROGRAM)
    bring(layout, service)
    assert bring(layout, service, "stopped").differences
    assert not bring(layout, service, "stopped").differences
    assert pid_of(layout) == 0
    assert bring(layout, service).differences
    assert pid_of(layout) > 0
    pid = pid_of(layout)
    assert bring(layout, service, "restarted").differences
    assert pid_of(layout) != pid


def test_a_program_that_dies_is_no_success_and_its_words_are_shown(layout: Layout) -> None:
    with pytest.raises(HostError, match=r"(?s)trial: .*no such luck"):
        reconcile(
            Service("trial", ("/bin/sh", "-c", "echo no such luck; exit 1")),
            Wanted("started", timeout=4),
            check=False,
            layout=layout,
        )


def test_a_lost_pid_file_does_not_make_a_second_supervisor(layout: Layout) -> None:
    bring(layout, Service("trial", PROGRAM))
    first = Supervisor(layout).pid()
    layout.pid_file.unlink()
    Supervisor(layout).ensure()
    assert Supervisor(layout).pid() == first
    assert layout.pid_file.read_text() == f"{first}\n"


def test_a_pid_file_that_names_something_else_is_not_believed(layout: Layout) -> None:
    layout.pid_file.parent.mkdir(parents=True)
    layout.pid_file.write_text(f"{os.getpid()}\n")
    assert Supervisor(layout).pid() is None


def test_a_killed_supervisor_leaves_the_service_and_is_replaced(layout: Layout) -> None:
    service = Service("trial", PROGRAM)
    bring(layout, service)
    pid, supervisor = pid_of(layout), Supervisor(layout).pid()
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: Supervisor(layout).pid() is None, 5, "still there")
    assert pid_of(layout) == pid
    bring(layout, service, "restarted")
    assert pid_of(layout) not in (0, pid)
    assert Supervisor(layout).pid() not in (None, supervisor)


def test_a_stale_pid_file_does_not_keep_a_service_down(layout: Layout, tmp_path: Path) -> None:
    stale = tmp_path / "program.pid"
    stale.write_text(f"{os.getpid()}\n")
    refuses = f"[ -e {stale} ] && exit 1; echo $$ > {stale}; exec sleep 1000"
    bring(layout, Service("trial", ("/bin/sh", "-c", refuses), pid_file=str(stale)))
    assert stale.read_text() == f"{pid_of(layout)}\n"
    stale.unlink()


def test_words_reach_the_program_as_they_are(layout: Layout) -> None:
    words = ("a b", "$HOME", "it's", '"q"', "50%", "*")
    service = Service("trial", ("/bin/sh", "-c", 'printf "<%s>" "$@" "$A"; echo; exec sleep 1000', "x", *words))
    bring(layout, Service(service.name, service.command, environment={"A": "x 'y' $Z"}))
    log = layout.logs / "trial/current"
    wait_for(lambda: log.read_text().endswith("\n"), 5, "nothing written")
    assert log.read_text().partition(" ")[2] == "".join(f"<{word}>" for word in (*words, "x 'y' $Z")) + "\n"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "Upper"}, "name: 'Upper'"),
        ({"name": "../x"}, "name"),
        ({"command": ()}, "command"),
        ({"command": ("sleep", "1")}, "command: .* absolute path"),
        ({"environment": {"A B": "x"}}, "environment: 'A B'"),
        ({"user": "no body"}, "user"),
        ({"limit_nofile": 20001}, "limit_nofile: 20001 .* at most 20000"),
        ({"limit_nofile": 0}, "limit_nofile"),
        ({"log_files": 1}, "log_files"),
    ],
)
def test_a_wrong_declaration_is_refused(fields: dict[str, object], message: str) -> None:
    service = Service(**{"name": "trial", "command": PROGRAM, **fields})  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match=message):
        check_service(service, 20000)


def test_an_unknown_account_or_program_changes_nothing(layout: Layout) -> None:
    for service in (Service("trial", PROGRAM, user="nobody-here"), Service("trial", ("/no/such/program",))):
        with pytest.raises(HostError, match="trial: "):
            bring(layout, service)
        assert not layout.services.exists()


def test_an_account_of_its_own_has_its_group() -> None:
    assert "chpst -u nobody:daemon /bin/sh" in run_script(Service("trial", PROGRAM, user="nobody", group="daemon"))
    assert "chpst" not in run_script(Service("trial", PROGRAM))


def test_waiting_ends() -> None:
    start = time.monotonic()
    with pytest.raises(HostError, match="never"):
        wait_for(lambda: False, 0.2, "never")
    assert time.monotonic() - start < 2
