"""What goes wrong behind the module: drift, files that are lost, many at once, an engine killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
from typing import Any

import pytest
from bailey.errors import BaileyError
from bailey.inventory import read_instances
from bailey.planning import Action

from tests.integration.fixtures.instances import SECRET, actions, assert_settled, kept, paths
from tests.integration.fixtures.platform import HOLDER, Platform, tenant, wait_for

pytest_plugins = ("tests.integration.fixtures.on_platform", "tests.integration.fixtures.instances")


class TestDrift:
    """A limit that somebody changed behind Bailey's back is a difference, and is put right."""

    @pytest.mark.parametrize(
        ("controller", "file", "value", "field"),
        [
            ("memory", "memory.memsw.limit_in_bytes", 512 << 20, "memswap_limit"),
            ("cpu", "cpu.cfs_quota_us", -1, "cpus"),
            ("cpu", "cpu.shares", 2, "cpu_shares"),
            ("pids", "pids.max", "max", "pids_limit"),
        ],
    )
    def test_in_the_control_group(
        self, clean: Platform, one: dict[str, Any], controller: str, file: str, value: object, field: str
    ) -> None:
        container = clean.inspect("one")["Id"]
        clean.cgroup("one", controller, file).write_text(str(value))
        self.assert_found_and_repaired(clean, one, {f"one.{field}"}, Action.UPDATE)
        assert clean.inspect("one")["Id"] == container

    def test_by_docker_update(self, clean: Platform, one: dict[str, Any]) -> None:
        changes = ("--memory", "256m", "--memory-swap", "512m", "--cpus", "2", "--pids-limit", "-1")
        clean.engine.docker("update", *changes, "one")
        fields = {f"one.{field}" for field in ("mem_limit", "memswap_limit", "cpus", "pids_limit")}
        self.assert_found_and_repaired(clean, one, fields, Action.UPDATE)

    def test_in_the_quota(self, clean: Platform, one: dict[str, Any]) -> None:
        clean.open().quota.set_limit("one", 256 << 20)
        self.assert_found_and_repaired(clean, one, {"one.disk_limit"}, Action.UPDATE)

    def test_in_the_block_device_rates(self, clean: Platform) -> None:
        declared = tenant("one", blkio_config={"device_write_bps": "8M"}, io_scope="direct")
        clean.converge(declared)
        file = clean.cgroup("one", "blkio", "blkio.throttle.write_bps_device")
        file.write_text(f"{file.read_text().split()[0]} 0")
        (device,) = clean.open().io_devices
        self.assert_found_and_repaired(
            clean, declared, {f"one.blkio_config.device_write_bps[{device}]"}, Action.RECREATE
        )

    def test_in_a_tmpfs(self, clean: Platform, one: dict[str, Any]) -> None:
        pid = str(clean.inspect("one")["State"]["Pid"])
        options = "remount,size=64M,nosuid,nodev,noexec"
        clean_remount = ("nsenter", "--target", pid, "--mount", "mount", "-o", options, "/tmp")
        assert os.spawnvp(os.P_WAIT, clean_remount[0], clean_remount) == 0
        self.assert_found_and_repaired(clean, one, {"one.tmpfs[/tmp]"}, Action.RECREATE)

    @pytest.mark.parametrize(
        ("command", "field"),
        [
            (("umount", "/sys/firmware"), "masked_paths"),
            (("umount", "/proc/sys"), "read_only_paths"),
            (("mount", "-t", "tmpfs", "none", "/mnt"), "mounts"),
            (("mount", "-o", "remount,bind,rw", "/sys"), "mounts"),
            (("mount", "-o", "remount,bind,rw", "/.bailey"), "mounts"),
        ],
    )
    def test_in_the_lock_down(self, clean: Platform, one: dict[str, Any], command: tuple[str, ...], field: str) -> None:
        inside = ("nsenter", "--target", str(clean.inspect("one")["State"]["Pid"]), "--mount", *command)
        assert os.spawnvp(os.P_WAIT, inside[0], inside) == 0
        self.assert_found_and_repaired(clean, one, {f"one.{field}"}, Action.RECREATE)

    def test_in_a_resource_limit(self, clean: Platform) -> None:
        declared = tenant("one", ulimits={"nofile": {"soft": 256, "hard": 512}})
        clean.converge(declared)
        clean.engine.docker("rm", "-f", "one")
        assert actions(clean.converge(declared)) == {"one": Action.CREATE}
        assert_settled(clean, declared)

    @staticmethod
    def assert_found_and_repaired(
        platform: Platform, declared: dict[str, Any], fields: set[str], action: Action
    ) -> None:
        foreseen = platform.converge(declared, check_mode=True)
        assert paths(foreseen) == fields
        assert set(platform.broken("one")) == {field.removeprefix("one.") for field in fields}
        report = platform.converge(declared)
        assert (paths(report), actions(report)) == (fields, {"one": action})
        assert_settled(platform, declared)


class TestFiles:
    @pytest.mark.usefixtures("one")
    def test_only_root_reads_the_spec(self, clean: Platform) -> None:
        path = clean.specs / "one.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(clean.specs.stat().st_mode) == 0o700
        assert json.loads(path.read_text())["spec"]["environment"] == {"TOKEN": SECRET}

    def test_a_diff_shows_that_the_environment_changed_and_not_what_it_is(
        self, clean: Platform, one: dict[str, Any]
    ) -> None:
        report = clean.converge({**one, "environment": {"TOKEN": "another-secret"}}, check_mode=True)
        (difference,) = [item for item in report.differences if item.path == "one.environment"]
        shown = json.dumps([difference.before, difference.after])
        assert difference.before != difference.after
        assert SECRET not in shown
        assert "another-secret" not in shown

    def test_check_mode_changes_nothing(self, clean: Platform, one: dict[str, Any]) -> None:
        clean.engine.docker("kill", "one")
        holdings, spec = clean.holdings(), (clean.specs / "one.json").read_bytes()
        before = clean.inspect("one")
        report = clean.converge({**one, "mem_limit": "128M"}, tenant("two"), check_mode=True, purge=True)
        assert actions(report) == {"one": Action.START, "two": Action.CREATE}
        assert (clean.holdings(), (clean.specs / "one.json").read_bytes()) == (holdings, spec)
        assert clean.inspect("one") == before


class TestMany:
    def test_twenty_at_once_twice(self, clean: Platform) -> None:
        declared = [tenant(f"many-{number}", command=["sleep", "600"], cpus=0.1) for number in range(20)]
        assert set(actions(clean.converge(*declared)).values()) == {Action.CREATE}
        assert len({instance.stored.uid for instance in read_instances(clean.open())}) == 20
        assert_settled(clean, *declared)
        larger = [{**item, "mem_limit": "128M"} for item in declared]
        assert set(actions(clean.converge(*larger)).values()) == {Action.UPDATE}
        assert_settled(clean, *larger)
        report = clean.converge(purge=True, remove_volumes=True)
        assert set(actions(report).values()) == {Action.REMOVE}
        assert set(map(tuple, clean.holdings().values())) == {()}


class TestEngine:
    def test_its_death_ends_no_container_and_needs_no_repair(self, clean: Platform, one: dict[str, Any]) -> None:
        before = clean.inspect("one")
        pid = clean.engine.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # it is this process's child unless a former run started it
            os.waitpid(pid, 0)
        wait_for(lambda: clean.engine.pid is None, "the engine's end")
        assert kept(clean) == "kept\n"
        with pytest.raises(BaileyError, match="does not answer"):
            clean.converge(one)
        clean.engine.start(HOLDER)
        after = clean.inspect("one")
        assert (after["Id"], after["State"]["Pid"], after["State"]["StartedAt"]) == (
            before["Id"],
            before["State"]["Pid"],
            before["State"]["StartedAt"],
        )
        assert_settled(clean, one)
        assert actions(clean.converge({**one, "mem_limit": "128M"})) == {"one": Action.UPDATE}
        assert clean.broken("one") == {}
