"""Ansible inside real containers: the connection wsh, and bailey_wsh in one and in many."""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from bailey.wsh.client import Command, instance_client, run_all
from bailey.wsh.session import Completed

from tests.integration.fixtures.wsh_yard import NAMES, Ended, Yard
from tests.integration.fixtures.wshd import eventually

pytest_plugins = ["tests.integration.fixtures.wshd", "tests.integration.fixtures.wsh_yard"]

ONE, TWO = NAMES[:2]
BOTH = f"{ONE},{TWO}"


def on(ended: list[Ended], host: str) -> list[Ended]:
    return [item for item in ended if item.host == host]


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "by files"])
def test_modules_run_inside_as_the_instances_user(yard: Yard, tmp_path: Path, pipelining: bool) -> None:
    template = tmp_path / "template.j2"
    template.write_text("{{ inventory_hostname }} {{ 6 * 7 }}\n")
    place = f"/tmp/{'piped' if pipelining else 'files'}"
    script = "id -u; id -un; echo $HOME; pwd; grep NoNewPrivs /proc/self/status"
    tasks: list[dict[str, Any]] = [
        {"ansible.builtin.ping": {}},
        {"ansible.builtin.setup": {"gather_subset": ["!all", "!min", "user", "virtual"]}},
        {"ansible.builtin.command": {"argv": ["sh", "-c", script]}},
        {"ansible.builtin.raw": "echo raw | tr a-z A-Z; exit 4"},
        {"ansible.builtin.copy": {"dest": f"{place}.copied", "content": "text\n", "mode": "0640"}},
        {"ansible.builtin.template": {"src": str(template), "dest": f"{place}.made"}},
        {"ansible.builtin.fetch": {"src": f"{place}.made", "dest": f"{tmp_path}/fetched/"}},
        {"ansible.builtin.file": {"path": f"{place}.copied", "state": "absent"}},
    ]
    first = yard.play(BOTH, [*tasks[:-1], *tasks[4:7], *tasks[-1:] * 2], ansible_pipelining=pipelining)
    for name in (ONE, TWO):
        uid = yard.boxes[name].uid
        ping, facts, ids, raw, copied, made, fetched, copied2, made2, fetched2, gone, gone2 = on(first, name)
        assert ping.result["ping"] == "pong"
        assert facts.result["ansible_facts"]["ansible_user_id"] == "app"
        assert ids.result["stdout_lines"][:3] == [str(uid), "app", "/tmp"]
        assert ids.result["stdout_lines"][4].split() == ["NoNewPrivs:", "1"]
        assert (raw.ended, raw.result["rc"], raw.result["stdout"]) == ("failed", 4, "RAW\n")
        assert copied.result["mode"] == "0640"
        assert [item.changed for item in (copied, made, fetched, gone)] == [True] * 4
        assert [item.changed for item in (copied2, made2, fetched2, gone2)] == [False] * 4
        assert (tmp_path / f"fetched/{name}{place}.made").read_text() == f"{name} 42\n"
    assert yard.boxes[ONE].run("sh", "-c", "ls -A /tmp/.ansible/tmp 2>/dev/null").stdout == b""


def test_large_files_go_both_ways(yard: Yard, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(8_000_000))
    sum_ = hashlib.sha1(source.read_bytes()).hexdigest()
    ended = yard.play(
        ONE,
        [
            {"ansible.builtin.copy": {"src": str(source), "dest": "/tmp/large"}},
            {"ansible.builtin.fetch": {"src": "/tmp/large", "dest": f"{tmp_path}/back", "flat": True}},
            {"ansible.builtin.file": {"path": "/tmp/large", "state": "absent"}},
        ],
    )
    assert [item.ended for item in ended] == ["ok"] * 3
    assert ended[0].result["checksum"] == sum_
    assert hashlib.sha1((tmp_path / "back").read_bytes()).hexdigest() == sum_


def test_a_background_task_goes_on_without_its_connection(yard: Yard) -> None:
    task = {"ansible.builtin.command": "sleep 1.5", "async": 20, "poll": 1}
    (ended,) = [item for item in yard.play(ONE, [task]) if item.result.get("finished")]
    assert (ended.ended, ended.result["rc"]) == ("ok", 0)


def test_become_of_the_instances_own_user_needs_nothing(yard: Yard) -> None:
    tasks = [
        {"ansible.builtin.command": "id -un", "become": True, "become_user": "app", "become_method": method}
        for method in ("sudo", "su")
    ]
    assert [item.result["stdout"] for item in yard.play(ONE, tasks)] == ["app", "app"]


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "by files"])
def test_root_inside_is_the_runtimes_and_has_no_capability(yard: Yard, pipelining: bool) -> None:
    script = "id -u; grep -E 'CapEff|NoNewPrivs' /proc/self/status"
    tasks = [
        {"ansible.builtin.raw": "id -u; cat /etc/shadow", "become": True},
        {"ansible.builtin.command": {"argv": ["sh", "-c", script]}, "become": True},
        {"ansible.builtin.command": "id -u", "become": True, "become_user": "nobody"},
    ]
    raw, command, nobody = yard.play(ONE, tasks, ansible_pipelining=pipelining)
    assert raw.result["stdout_lines"][0] == "0"
    assert command.result["stdout"].split() == ["0", "CapEff:", "0000000000000000", "NoNewPrivs:", "1"]
    assert nobody.result["stdout"] == "65534"


# A connection that is not taken for this machine itself, so that all goes the way it goes to another one.
BY_MACHINE: dict[str, Any] = {"wsh_host": "machine", "wsh_host_connection": "ansible.legacy.local"}


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "by files"])
def test_a_container_of_another_machine_is_reached_by_wsh_there(yard: Yard, tmp_path: Path, pipelining: bool) -> None:
    yard.machines["machine"] = {}
    variables = {**BY_MACHINE, "ansible_pipelining": pipelining}
    (tmp_path / "source").write_bytes(os.urandom(1_000_000))
    copy: dict[str, Any] = {"ansible.builtin.copy": {"src": f"{tmp_path}/source", "dest": "/tmp/over"}}
    tasks: list[dict[str, Any]] = [
        {"ansible.builtin.command": {"argv": ["sh", "-c", 'id -un; echo "it\'s" >&2; exit 5']}},
        copy,
        copy,
        {"ansible.builtin.fetch": {"src": "/tmp/over", "dest": f"{tmp_path}/back", "flat": True}},
        {"ansible.builtin.file": {"path": "/tmp/over", "state": "absent"}},
    ]
    command, *rest = yard.play(ONE, tasks, **variables)
    assert (command.result["rc"], command.result["stdout"], command.result["stderr"]) == (5, "app", "it's")
    assert [(item.ended, item.changed) for item in rest] == [("ok", changed) for changed in (True, False, True, True)]
    assert (tmp_path / "back").read_bytes() == (tmp_path / "source").read_bytes()
    (closed,) = yard.play("closed", [{"ansible.builtin.ping": {}}], **variables)
    assert closed.ended == "unreachable"
    assert "cpus: 1 is 2" in closed.result["msg"]


def test_a_task_whose_time_is_up_leaves_nothing_behind(yard: Yard) -> None:
    (ended,) = yard.play(ONE, [{"ansible.builtin.command": "sleep 4321", "timeout": 2}])
    assert ended.ended == "failed"
    assert "Timed out after 2 second(s)" in ended.result["msg"]
    yard.await_no(ONE, "sleep 4321")


def test_on_another_machine_it_leaves_nothing_behind_either(yard: Yard) -> None:
    yard.machines["machine"] = {}
    (ended,) = yard.play(ONE, [{"ansible.builtin.command": "sleep 4321", "timeout": 2}], **BY_MACHINE)
    assert "Timed out after 2 second(s)" in ended.result["msg"]
    yard.await_no(ONE, "sleep 4321")


def test_a_closed_gate_is_told(yard: Yard) -> None:
    (ended,) = yard.play("closed", [{"ansible.builtin.ping": {}}])
    assert ended.ended == "unreachable"
    assert "closed: no session while the instance is refused: cpus: 1 is 2" in ended.result["msg"]


def test_a_task_may_be_delegated_into_a_container(yard: Yard) -> None:
    (ended,) = yard.play("localhost", [{"ansible.builtin.command": "id -un", "delegate_to": ONE}])
    assert ended.result["stdout"] == "app"


def wsh(yard: Yard, *tasks: dict[str, Any], options: tuple[str, ...] = ()) -> list[Ended]:
    """Run bailey_wsh with each of the arguments, in one play on this machine."""
    words = ("check_mode", "failed_when", "changed_when", "register")
    made = [
        {
            "bailey_wsh": {
                **{key: value for key, value in task.items() if key not in words},
                "run_dir": str(yard.run_dir),
            },
            **{key: value for key, value in task.items() if key in words},
        }
        for task in tasks
    ]
    return yard.play("localhost", made, *options)


def test_one_command_in_ten_containers(yard: Yard) -> None:
    ended = wsh(
        yard,
        {"tenant": "yard", "app": "web", "cmd": "sh -c 'echo out $(id -u); echo err >&2; cat'", "stdin": "given"},
        {"names": [TWO, ONE], "cmd": f"sh -c '[ $(id -u) = {yard.boxes[ONE].uid} ]'"},
        {"name": ONE, "argv": ["printenv", "WORD", "FROM_IMAGE"], "environment": {"WORD": 3}},
        {"all": True, "cmd": "true"},
        {"tenant": "nobody", "cmd": "true"},
    )
    every, some, single, all_, none = ended
    assert (every.ended, every.changed) == ("ok", True)
    results = every.result["instances"]
    assert [item["name"] for item in results] == sorted(NAMES)
    for item in results:
        assert item["stdout_lines"] == [f"out {yard.boxes[item['name']].uid}", "given"]
        assert (item["rc"], item["stderr"], item["signal"], item["oom"]) == (0, "err", None, False)
    assert every.result["elapsed"] < 5
    assert (some.ended, [item["rc"] for item in some.result["instances"]]) == ("failed", [1, 0])
    assert some.result["msg"] == f"1 of 2 instances failed: {TWO}: non-zero return code 1"
    assert (single.result["rc"], single.result["stdout_lines"]) == (0, ["3", "kept"])
    assert all_.ended == "failed"
    assert all_.result["failures"] == {"closed": "closed: no session while the instance is refused: cpus: 1 is 2"}
    assert (none.ended, none.changed, none.result["instances"]) == ("ok", False, [])
    assert "no instance" in none.result["warnings"][0]


def test_surroundings_reach_the_command(yard: Yard) -> None:
    script = "pwd; umask; ulimit -n; ulimit -c"
    (ended,) = wsh(
        yard,
        {
            "name": ONE,
            "argv": ["sh", "-c", script],
            "chdir": "/usr",
            "umask": "0077",
            "ulimits": {"nofile": 64, "core": 0},
        },
    )
    assert ended.result["stdout_lines"] == ["/usr", "0077", "64", "0"]


def test_limits_cannot_be_raised(yard: Yard) -> None:
    (ended,) = wsh(yard, {"name": ONE, "cmd": "true", "ulimits": {"nofile": 1_000_000}})
    assert ended.ended == "failed"
    assert ended.result["rc"] == 126


def test_conditions_are_looked_at_inside(yard: Yard) -> None:
    touch = {"name": ONE, "cmd": "touch /tmp/mark", "creates": "/tmp/mark"}
    remove = {"name": ONE, "cmd": "rm mark", "chdir": "/tmp", "removes": "mark"}
    link = {"name": ONE, "cmd": f"ln -s {yard.root} /tmp/out", "creates": "/tmp/out"}
    through = {"name": ONE, "cmd": "false", "removes": "/tmp/out/run"}
    unlink = {"name": ONE, "cmd": "rm /tmp/out"}
    ended = wsh(yard, touch, touch, {**touch, "check_mode": True}, {**remove, "check_mode": True}, remove, remove)
    assert [(item.ended, item.changed) for item in ended] == [
        ("ok", True),
        ("skipped", False),
        ("skipped", False),
        ("ok", True),
        ("ok", True),
        ("skipped", False),
    ]
    assert ended[1].result["msg"] == "skipped, since /tmp/mark exists"
    ended = wsh(yard, link, through, unlink, {"name": ONE, "cmd": "touch /tmp/never", "check_mode": True})
    assert [item.ended for item in ended] == ["ok", "skipped", "ok", "skipped"]
    assert yard.boxes[ONE].run("test", "-e", "/tmp/never").code == 1


def test_time_that_is_up_kills_all_that_was_started(yard: Yard) -> None:
    script = "sleep 7654 & set -m; sleep 7655 & echo begun; wait"  # one in a process group of its own
    begun = time.monotonic()
    (ended,) = wsh(yard, {"names": [ONE, TWO], "argv": ["sh", "-c", script], "timeout": 1})
    assert time.monotonic() - begun < 10
    assert ended.ended == "failed"
    for item in ended.result["instances"]:
        assert (item["rc"], item["timed_out"], item["stdout"]) == (137, True, "begun")
        assert item["msg"] == "not ended within 1 s, and killed"
        yard.await_no(item["name"], "sleep 765")


def test_killed_for_memory_is_told_apart(yard: Yard) -> None:
    eat = "b = []\nwhile True: b.append(bytearray(1 << 20))"
    (ended, after) = wsh(
        yard,
        {"name": ONE, "argv": ["python3", "-c", eat]},
        {"name": ONE, "argv": ["sh", "-c", "kill -KILL $$"]},
    )
    assert (ended.result["oom"], ended.result["signal"], ended.result["rc"]) == (True, 9, 137)
    assert "killed for memory" in ended.result["msg"]
    assert (after.result["oom"], after.result["signal"], after.result["rc"]) == (False, 9, 137)


def test_secrets_are_in_no_output(yard: Yard) -> None:
    secret = "s3cret-value"
    (ended,) = wsh(
        yard,
        {
            "name": ONE,
            "cmd": "sh -c 'echo $TOKEN; cat'",
            "environment": {"TOKEN": secret, "N": "0"},
            "stdin": f"{secret}2",
        },
        options=("-vvv",),
    )
    assert ended.result["rc"] == 0
    assert secret not in str(ended.result)
    assert re.search(r"\*{8}", ended.result["stdout"])


def test_a_wrong_argument_names_itself(yard: Yard) -> None:
    ended = wsh(
        yard,
        {"name": ONE, "cmd": "true", "umask": 23},
        {"cmd": "true"},
        {"name": ONE},
        {"name": ONE, "tenant": "yard", "cmd": "true"},
        {"name": "none", "cmd": "true"},
        {"name": ONE, "argv": ["/no/such/program"]},
    )
    assert [item.ended for item in ended] == ["failed"] * 6
    texts = ["umask: '23'", "one of the following is required", "argv, cmd", "mutually exclusive", "no such instance"]
    for item, text in zip(ended, [*texts, "No such file"], strict=True):
        assert text in item.result["msg"]
    assert ended[-1].result["rc"] == 127


def test_many_sessions_at_a_time(yard: Yard) -> None:
    """Five hundred sessions, fifty in each of ten containers, from one thread."""
    jobs = [
        (instance_client(yard.run_dir, name), Command(["sh", "-c", f"echo {number}; cat"], stdin=b"x" * 1000))
        for number in range(50)
        for name in NAMES
    ]
    outcomes = run_all(jobs, at_once=100)
    wrong = [outcome for outcome in outcomes if not isinstance(outcome, Completed) or outcome.code != 0]
    assert wrong == []
    outputs = {outcome.stdout for outcome in outcomes if isinstance(outcome, Completed)}
    assert outputs == {f"{number}\n".encode() + b"x" * 1000 for number in range(50)}
    clients = [instance_client(yard.run_dir, name) for name in NAMES]
    eventually(lambda: {client.ping().sessions for client in clients} == {0}, what="no session left")
