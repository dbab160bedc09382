"""The life of a container: made once, changed where it can be, made again where not, gone without a trace.

Needs root, btrfs and dockerd.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from bailey.errors import InvalidValueError
from bailey.planning import Action
from bailey.reconcile import ReconcileError

from tests.ground.rootfs import BASE
from tests.integration.fixtures.instances import SECRET, actions, assert_settled, kept, paths, without_fingerprints
from tests.integration.fixtures.platform import DATA, Platform, Task, tenant, wait_for

pytest_plugins = ("tests.integration.fixtures.on_platform", "tests.integration.fixtures.instances")


OLD = ".bailey-old"


class TestThroughAnsible:
    """The module as Ansible runs it: changed exactly when something changed, and check mode says it before."""

    def test_each_step_changes_once(self, clean: Platform) -> None:
        declared = tenant("one", command=["sleep", "600"], environment={"TOKEN": SECRET})
        larger = {**declared, "mem_limit": "128M"}
        steps = (
            ("created", declared),
            ("updated", larger),
            ("recreated", {**larger, "hostname": "other"}),
            ("stopped", {**larger, "hostname": "other", "state": "stopped"}),
            ("started", {**larger, "hostname": "other"}),
            ("removed", {"name": "one", "state": "absent"}),
        )
        tasks = [
            Task(f"{expected} {run}", clean.arguments(what), check_mode=run == "foreseen")
            for expected, what in steps
            for run in ("foreseen", "done", "again")
        ]
        output, results = clean.play(tasks)
        assert SECRET not in output
        assert not any(result.failed for result in results), output
        for number, (expected, _) in enumerate(steps):
            foreseen, done, again = (result.values for result in results[3 * number : 3 * number + 3])
            assert (done["changed"], done["containers"][0]["action"]) == (True, expected)
            assert foreseen["containers"][0]["action"] == expected
            assert without_fingerprints(foreseen["diff"]) == without_fingerprints(done["diff"])
            assert (foreseen["changed"], again["changed"]) == (True, False)
            assert (again["containers"][0]["action"], "diff" in again) == ("none", False)

    def test_the_info_module_shows_limits_and_no_secret(self, clean: Platform) -> None:
        clean.converge(tenant("one", environment={"TOKEN": SECRET}, ulimits={"nofile": 512}))
        code, result = clean.module("bailey_containers_info", clean.settings)
        (instance,) = result["instances"]
        assert (code, result["changed"]) == (0, False)
        assert (instance["state"], instance["enforced"], instance["uid"]) == ("running", True, 210000)
        held = {check["field"]: (check["declared"], check["enforced"]) for check in instance["checks"]}
        assert held["mem_limit"] == ("96M", "96M")
        assert held["ulimits.nofile"] == ("512", "512")
        assert "one" in result["table"]
        assert SECRET not in json.dumps(result)

    def test_a_failure_is_ansibles_failure(self, clean: Platform) -> None:
        declared = [tenant("good"), tenant("bad", command=["/no/such/program"])]
        code, result = clean.module("bailey_containers", clean.arguments(*declared))
        assert code != 0
        assert list(result["failures"]) == ["bad"]
        assert "/no/such/program" in result["msg"]
        assert result["changed"] is True  # the good one was made
        assert clean.names() == {"good"}


class TestLiving:
    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"mem_limit": "128M"}, "mem_limit"),
            ({"mem_limit": "64M"}, "mem_limit"),
            ({"cpus": 0.5}, "cpus"),
            ({"cpu_shares": 512}, "cpu_shares"),
            ({"pids_limit": 32}, "pids_limit"),
            ({"disk_limit": "16M"}, "disk_limit"),
        ],
        ids=["more memory", "less memory", "cpus", "cpu_shares", "pids", "disk"],
    )
    def test_a_limit_changes_on_the_living_container(
        self, clean: Platform, one: dict[str, Any], change: dict[str, Any], field: str
    ) -> None:
        before = clean.inspect("one")
        report = clean.converge({**one, **change})
        assert actions(report) == {"one": Action.UPDATE}
        assert f"one.{field}" in paths(report)
        after = clean.inspect("one")
        assert (after["Id"], after["State"]["Pid"]) == (before["Id"], before["State"]["Pid"])
        held = {check.field: check.enforced for check in clean.instance("one").checks}
        assert held[field] == str(change[field])
        assert_settled(clean, {**one, **change})

    def test_memory_that_is_in_use_cannot_be_taken(self, clean: Platform, one: dict[str, Any]) -> None:
        clean.run(
            "one", "sh", "-c", "python3 -c 'b = bytearray(60 << 20); import time; time.sleep(60)' >/dev/null 2>&1 &"
        )
        wait_for(lambda: clean.instance("one").as_result()["usage"]["memory_bytes"] > 60 << 20, "memory in use")
        with pytest.raises(ReconcileError, match="one: "):
            clean.converge({**one, "mem_limit": "33M"})
        assert clean.broken("one") == {}
        assert json.loads((clean.specs / "one.json").read_text())["spec"]["mem_limit"] == "96M"
        assert_settled(clean, one)

    def test_a_stopped_container_keeps_everything_and_starts_again(self, clean: Platform, one: dict[str, Any]) -> None:
        container = clean.inspect("one")["Id"]
        assert actions(clean.converge({**one, "state": "stopped"})) == {"one": Action.STOP}
        assert clean.inspect("one")["State"]["Running"] is False
        assert_settled(clean, {**one, "state": "stopped"})
        assert actions(clean.converge({**one, "mem_limit": "128M"})) == {"one": Action.START}
        assert clean.inspect("one")["Id"] == container
        assert kept(clean) == "kept\n"
        assert clean.broken("one") == {}

    def test_one_that_was_killed_is_started_again(self, clean: Platform, one: dict[str, Any]) -> None:
        container = clean.inspect("one")["Id"]
        clean.engine.docker("kill", "one")
        report = clean.converge(one)
        assert actions(report) == {"one": Action.START}
        assert paths(report) == {"one.state"}
        assert clean.inspect("one")["Id"] == container
        assert_settled(clean, one)


class TestMadeAgain:
    @pytest.mark.parametrize(
        "change",
        [
            {"command": ["sleep", "600"]},
            {"environment": {"TOKEN": "another"}},
            {"ulimits": {"nofile": 512}},
            {"tmpfs": ["/tmp:size=8M"]},
            {"shm_size": "8M"},
            {"volumes": [DATA, "/more"]},
            {"cap_add": ["CHOWN"]},
            {"logging": {"options": {"max-size": "1M"}}},
            {"blkio_config": {"device_write_bps": "8M"}, "io_scope": "direct"},
            {"working_dir": "/tmp"},
            {"cpuset": "0"},
        ],
        ids="-".join,
    )
    def test_a_fixed_field_takes_a_new_container_and_keeps_the_data(
        self, clean: Platform, one: dict[str, Any], change: dict[str, Any]
    ) -> None:
        container, uid = clean.inspect("one")["Id"], clean.instance("one").stored.uid
        report = clean.converge({**one, **change})
        assert actions(report) == {"one": Action.RECREATE}
        assert f"one.{next(iter(change))}" in paths(report)
        assert clean.inspect("one")["Id"] != container
        assert clean.names() == {"one"}
        assert clean.instance("one").stored.uid == uid
        assert kept(clean) == "kept\n"
        assert_settled(clean, {**one, **change})

    def test_a_field_that_is_taken_back_takes_a_new_container(self, clean: Platform) -> None:
        clean.converge(tenant("one", cpuset="0", mem_reservation="32M"))
        report = clean.converge(tenant("one"))
        assert actions(report) == {"one": Action.RECREATE}
        assert_settled(clean, tenant("one"))

    def test_an_image_that_its_reference_means_no_more_is_replaced(self, clean: Platform) -> None:
        docker, moving = clean.engine.docker, "bailey-test/moving:1"
        docker("tag", BASE.image, moving)
        declared = tenant("one", image=moving)
        clean.converge(declared)
        assert_settled(clean, declared)
        old = clean.inspect("one")["Image"]
        docker("create", "--name", "maker", BASE.image, "true")
        docker("commit", "--change", "LABEL version=2", "maker", moving)
        docker("rm", "maker")
        report = clean.converge(declared)
        assert actions(report) == {"one": Action.RECREATE}
        assert "one.image" in paths(report)
        assert clean.inspect("one")["Image"] != old
        assert_settled(clean, declared)
        clean.clear()
        docker("rmi", moving)

    def test_one_that_fails_leaves_the_former_running(self, clean: Platform, one: dict[str, Any]) -> None:
        container, spec = clean.inspect("one")["Id"], (clean.specs / "one.json").read_text()
        holdings = clean.holdings()
        with pytest.raises(ReconcileError, match=r"one: .*/no/such/program"):
            clean.converge({**one, "command": ["/no/such/program"]})
        assert clean.holdings() == holdings
        found = clean.inspect("one")
        assert (found["Id"], found["State"]["Running"]) == (container, True)
        assert (clean.specs / "one.json").read_text() == spec
        assert kept(clean) == "kept\n"
        assert_settled(clean, one)


class TestCutOff:
    """A recreate that ended half-way, as the module's process killed leaves it."""

    def test_the_former_was_set_aside(self, clean: Platform, one: dict[str, Any]) -> None:
        clean.engine.docker("stop", "--time", "1", "one")
        clean.engine.docker("rename", "one", f"one{OLD}")
        report = clean.converge(one)
        assert "one.predecessor" in paths(report)
        assert clean.names() == {"one"}
        assert kept(clean) == "kept\n"
        assert_settled(clean, one)

    def test_a_new_one_was_made_and_not_started(self, clean: Platform, one: dict[str, Any]) -> None:
        clean.engine.docker("stop", "--time", "1", "one")
        clean.engine.docker("rename", "one", f"one{OLD}")
        labels = ("--label", "bailey.name=one", "--label", "bailey.hash=unproven")
        clean.engine.docker("create", "--name", "one", *labels, BASE.image, "true")
        clean.converge(one)
        assert clean.names() == {"one"}
        assert clean.inspect("one")["Config"]["Labels"]["bailey.hash"] != "unproven"
        assert kept(clean) == "kept\n"
        assert_settled(clean, one)

    def test_the_new_one_runs_and_the_former_was_not_removed(self, clean: Platform, one: dict[str, Any]) -> None:
        labels = ("--label", "bailey.name=one", "--label", "bailey.hash=former")
        clean.engine.docker("create", "--name", f"one{OLD}", *labels, BASE.image, "true")
        container = clean.inspect("one")["Id"]
        clean.converge(one)
        assert clean.names() == {"one"}
        assert clean.inspect("one")["Id"] == container
        assert_settled(clean, one)

    @pytest.mark.usefixtures("one")
    def test_removal_takes_both(self, clean: Platform) -> None:
        clean.engine.docker("rename", "one", f"one{OLD}")
        clean.converge({"name": "one", "state": "absent"}, remove_volumes=True)
        assert set(map(tuple, clean.holdings().values())) == {()}

    def test_a_first_making_was_cut_off_after_its_spec_file(self, clean: Platform, one: dict[str, Any]) -> None:
        clean.engine.docker("rm", "-f", "one")
        assert actions(clean.converge(one)) == {"one": Action.CREATE}
        assert kept(clean) == "kept\n"
        assert_settled(clean, one)


class TestGone:
    def test_data_stays_and_is_found_again(self, clean: Platform, one: dict[str, Any]) -> None:
        uid = clean.instance("one").stored.uid
        report = clean.converge({"name": "one", "state": "absent"})
        assert report.kept_volumes == [str(clean.root / "volumes/one")]
        assert (clean.holdings()["volumes"], clean.names(), clean.holdings()["specs"]) == (["one"], set(), [])
        # Its uid is nobody else's while its data is there.
        clean.converge(tenant("other"))
        assert clean.instance("other").stored.uid != uid
        clean.converge(one)
        assert clean.instance("one").stored.uid == uid
        assert kept(clean) == "kept\n"

    @pytest.mark.usefixtures("one")
    def test_with_remove_volumes_nothing_stays(self, clean: Platform) -> None:
        report = clean.converge({"name": "one", "state": "absent"}, remove_volumes=True)
        assert report.kept_volumes == []
        assert set(map(tuple, clean.holdings().values())) == {()}
        assert actions(clean.converge({"name": "one", "state": "absent"}, remove_volumes=True)) == {"one": Action.NONE}

    @pytest.mark.usefixtures("one")
    def test_kept_data_goes_when_its_removal_is_asked_for_later(self, clean: Platform) -> None:
        clean.converge({"name": "one", "state": "absent"})
        report = clean.converge({"name": "one", "state": "absent"}, remove_volumes=True)
        assert (paths(report), actions(report)) == ({"one.data"}, {"one": Action.REMOVE})
        assert clean.volumes() == set()

    def test_purge_removes_what_is_not_declared_and_ours_alone(self, clean: Platform, one: dict[str, Any]) -> None:
        clean.converge(tenant("two"))
        clean.engine.docker("create", "--name", "foreign", BASE.image, "true")
        assert actions(clean.converge(one)) == {"one": Action.NONE}
        assert clean.names() == {"one", "two", "foreign"}
        report = clean.converge(one, purge=True)
        assert actions(report) == {"one": Action.NONE, "two": Action.REMOVE}
        assert clean.names() == {"one", "foreign"}


class TestForeign:
    def test_a_name_that_is_somebody_elses_is_refused(self, clean: Platform) -> None:
        clean.engine.docker("run", "--detach", "--name", "taken", "--network=none", BASE.image, "sleep", "600")
        before = clean.inspect("taken")
        with pytest.raises(InvalidValueError, match=r"taken\.name: 'taken' is not valid; .* Bailey did not make"):
            clean.converge(tenant("taken"), tenant("fine"))
        after = clean.inspect("taken")
        assert (after["Id"], after["State"], after["HostConfig"]) == (
            before["Id"],
            before["State"],
            before["HostConfig"],
        )
        assert {kind: names for kind, names in clean.holdings().items() if names} == {"containers": ["taken"]}

    def test_absent_does_not_touch_somebody_elses(self, clean: Platform) -> None:
        clean.engine.docker("create", "--name", "taken", BASE.image, "true")
        assert actions(clean.converge({"name": "taken", "state": "absent"})) == {"taken": Action.NONE}
        assert clean.names() == {"taken"}


class TestHalfMade:
    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"command": ["/no/such/program"]}, "/no/such/program"),
            ({"command": ["no-such-program"], "restart": "no"}, "no-such-program"),
            ({"entrypoint": ["/etc/passwd"]}, "/etc/passwd"),
            ({"working_dir": "/etc/passwd"}, "/etc/passwd"),
        ],
        ids=["no program", "not in the path", "not a program", "no directory"],
    )
    def test_nothing_is_left_of_it(self, clean: Platform, fields: dict[str, Any], reason: str) -> None:
        with pytest.raises(ReconcileError) as caught:
            clean.converge(tenant("one", **fields))
        assert "one: " in str(caught.value)
        assert reason in str(caught.value)
        assert set(map(tuple, clean.holdings().values())) == {()}

    def test_the_others_go_on(self, clean: Platform) -> None:
        with pytest.raises(ReconcileError, match="1 of 3 instances failed: two: "):
            clean.converge(tenant("one"), tenant("two", command=["/no/such/program"]), tenant("three"))
        assert clean.names() == {"one", "three"}
        assert clean.holdings()["specs"] == ["one.json", "three.json"]

    def test_a_port_that_is_taken_fails_and_leaves_nothing(self, clean: Platform) -> None:
        port = {"published": 18099, "target": 80}
        foreign = ("--publish", "127.0.0.1:18099:80", BASE.image, "sleep", "600")
        clean.engine.docker("run", "--detach", "--name", "foreign", *foreign)
        with pytest.raises(ReconcileError, match="18099"):
            clean.converge(tenant("one", network_mode="bridge", ports=[port]))
        assert clean.names() == {"foreign"}
        assert clean.holdings()["specs"] == clean.holdings()["volumes"] == []
