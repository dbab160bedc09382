"""Tenants whose ids are nobody's of the host: all that is promised holds, and their data follows a change of ids.

Needs root, btrfs, dockerd with a kernel that has user namespaces, crun and musl-gcc.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from bailey.backends import docker_ids
from bailey.errors import HostError, InvalidValueError
from bailey.host import ownership
from bailey.host.idmap import IDENTITY, read_id_map
from bailey.host.ownership import MARK, marked
from bailey.host.proc import read_process
from bailey.planning import Action
from bailey.reconcile import ReconcileError

from tests.ground.rootfs import BASE
from tests.integration.fixtures.ids_platform import IdsPlatform
from tests.integration.fixtures.instances import actions, assert_settled, kept
from tests.integration.fixtures.platform import DATA, HOLDER, UIDS, Platform, tenant

pytest_plugins = ["tests.integration.fixtures.on_platform", "tests.integration.fixtures.ids_platform"]

UID = UIDS[0]
SECOND = "/srv/read-only"


def declared(**fields: Any) -> dict[str, Any]:
    """Declare a tenant that uses what depends on ids: volumes of both kinds, tmpfs, the network, a uid of its own."""
    volumes = [DATA, {"target": SECOND, "read_only": True}]
    return tenant("one", volumes=volumes, tmpfs=["/tmp:size=4M"], network_mode="bridge", user=UID, **fields)


def owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def both(number: int) -> tuple[int, int]:
    return number, number


def first_process(platform: Platform) -> int:
    pid = platform.agent.state("one").pid
    assert pid is not None
    return pid


@pytest.fixture
def platform(remapped: IdsPlatform) -> Platform:
    return remapped.platform


@pytest.fixture
def host_uid(remapped: IdsPlatform) -> int:
    """The host's number of the tenant's uid."""
    return remapped.remapped.to_host(UID)


class TestAnInstance:
    @pytest.mark.parametrize("runtime", ["", "crun"])
    def test_it_is_nobody_of_the_host_and_itself_inside(
        self, remapped: IdsPlatform, platform: Platform, host_uid: int, runtime: str
    ) -> None:
        one = declared(runtime=runtime or None)
        platform.converge(one)
        pid = first_process(platform)
        process = read_process(pid)
        assert process is not None
        assert process.uid == host_uid
        assert read_id_map(pid) == remapped.remapped
        answer = platform.run("one", "sh", "-c", "id -u; id -g; id -un; awk '{print $1, $2}' /proc/self/uid_map")
        assert answer.out.split() == [str(UID), str(UID), "app", "0", str(remapped.remapped.base)], answer
        instance = platform.instance("one").as_result()
        assert (instance["uid"], instance["host_uid"], instance["enforced"]) == (UID, host_uid, True)
        shown = {check.field: check.enforced for check in platform.instance("one").checks}
        assert shown["user"] == f"{UID} (host {host_uid})"
        assert_settled(platform, one)

    def test_its_files_are_its_own_on_both_sides(self, platform: Platform, host_uid: int) -> None:
        platform.converge(declared())
        assert platform.run("one", "sh", "-c", f"echo kept >{DATA}/file; mkdir {DATA}/more").code == 0
        for path in (platform.volume("one"), *platform.volume("one").iterdir(), platform.volume("one", SECOND)):
            assert owner(path) == both(host_uid), path
        assert owner(platform.volume("one").parent) == both(0)
        seen = platform.run("one", "sh", "-c", f"stat -c '%u %g' {DATA} {DATA}/file; touch {SECOND}/x")
        assert seen.out == f"{UID} {UID}\n" * 2
        assert "Read-only file system" in seen.err

    def test_root_inside_is_nobody_either(self, platform: Platform) -> None:
        """By the operator's own way past the gate, which has the user root but no capability."""
        platform.converge(declared())
        theirs = platform.volume("one", SECOND)
        (theirs / "hosts").write_text("the host's root alone")
        (theirs / "hosts").chmod(0o600)
        theirs.chmod(0o755)
        script = f"id -u; stat -c %u {SECOND}/hosts; cat {SECOND}/hosts"
        said = platform.engine.docker("exec", "-u", "0", "one", "sh", "-c", script, check=False)
        assert said == "0\n65534\n"

    def test_what_is_enforced_stops_it_here_too(self, platform: Platform) -> None:
        platform.converge(declared(pids_limit=16))
        full = platform.run("one", "sh", "-c", f"dd if=/dev/zero of={DATA}/file bs=64K 2>&1; stat -c %s {DATA}/file")
        assert int(full.out.split()[-1]) <= 32 << 20
        assert "quota exceeded" in full.out.lower() or "No space left" in full.out
        many = platform.python("one", "import os\nfor _ in range(99): os.fork() or os.execvp('sleep', ['sleep', '5'])")
        assert "BlockingIOError" in many.err
        report = platform.converge(declared(pids_limit=16, mem_limit="128M"))
        assert actions(report) == {"one": Action.UPDATE}
        assert platform.broken("one") == {}

    def test_it_starts_again_after_a_crash_and_outlives_the_engine(self, platform: Platform) -> None:
        platform.converge(declared())
        os.kill(first_process(platform), signal.SIGKILL)
        platform.agent.until(lambda: platform.agent.state("one").restarts == 1, "its restart")
        platform.agent.until(lambda: platform.agent.is_open("one"), "its gate")
        before, engine = first_process(platform), platform.engine.pid
        assert engine is not None
        os.kill(engine, signal.SIGKILL)
        platform.agent.until(lambda: not platform.agent.status()["engine_up"], "the agent's notice")
        platform.engine.start(HOLDER)
        platform.agent.until(lambda: platform.agent.status()["engine_up"], "the engine's return")
        assert first_process(platform) == before
        assert platform.run("one", "id", "-u").out == f"{UID}\n"

    def test_an_agent_that_is_started_again_knows_it(self, platform: Platform) -> None:
        platform.converge(declared())
        platform.agent.kill()
        platform.agent.start()
        assert platform.agent.is_open("one")
        assert platform.agent.state("one").reason == ""

    def test_a_uid_that_has_no_number_is_refused_before_anything_changes(
        self, remapped: IdsPlatform, platform: Platform
    ) -> None:
        with pytest.raises(InvalidValueError, match=r"one\.user: .* below 1048576"):
            platform.converge({**declared(), "user": remapped.remapped.size})
        assert platform.names() == set()


class TestTheGate:
    def impostor(self, platform: Platform, user: int, *options: str) -> str:
        """Run a container of the engine's own in front of a stopped instance's gate; return what is said of it."""
        platform.converge(declared())
        platform.engine.docker("stop", "one")
        platform.agent.until(lambda: platform.files.boot_socket("one").exists(), "its gate")
        platform.engine.docker(
            *("run", "--detach", "--name", "impostor", "--network=none", f"--user={user}:{user}", *options),
            f"--volume={platform.files.wsh_dir}:/.bailey:ro",
            f"--volume={platform.files.boot_directory('one')}:/.bailey/boot:ro",
            *("--entrypoint=/.bailey/wshd", BASE.image, "--", "sleep", "infinity"),
        )
        return platform.agent.state("one").reason

    def test_who_has_the_number_outside_alone_is_refused(self, platform: Platform, host_uid: int) -> None:
        self.impostor(platform, host_uid, "--userns=host")
        wanted = f"it runs as uid {host_uid}, not {UID} (host {host_uid})"
        platform.agent.until(lambda: wanted in platform.agent.state("one").reason, "its refusal")

    def test_who_has_the_number_inside_alone_does_not_reach_it(self, platform: Platform) -> None:
        reason = self.impostor(platform, UID, "--userns=host")
        with pytest.raises(AssertionError, match="not within 3 s"):
            platform.agent.until(lambda: platform.agent.state("one").reason != reason, "anything", 3)
        assert not platform.agent.is_open("one")


def leave_files(platform: Platform) -> None:
    """Have the tenant leave what a change of ids has to cope with."""
    script = (
        f"cd {DATA}; echo kept >file; mkdir -p a/b; echo x >a/b/c; ln -s /etc/passwd link; ln -s {SECOND} away;"
        " ln file a/same; mkfifo fifo"
    )
    assert platform.run("one", "sh", "-c", script).code == 0


def owners(platform: Platform) -> set[tuple[int, int]]:
    data = platform.volume("one")
    return {owner(path) for path in (data, platform.volume("one", SECOND), *data.rglob("*"))}


class TestData:
    def test_it_follows_when_remapping_is_switched_off_and_on(
        self, remapped: IdsPlatform, platform: Platform, host_uid: int
    ) -> None:
        platform.converge(declared())
        leave_files(platform)
        for on, uid, content in ((False, UID, "x\nmore\n"), (True, host_uid, "x\nmore\nmore\n")):
            remapped.switch(on=on)
            report = platform.converge(declared())
            assert actions(report) == {"one": Action.CREATE}
            assert owners(platform) == {both(uid)}
            assert kept(platform) == "kept\n"
            assert platform.run("one", "sh", "-c", f"cd {DATA}/a/b; echo more >>c && cat c").out == content
            assert_settled(platform, declared())
        assert owner(Path("/etc/passwd")) == both(0)

    def test_a_volume_that_is_full_follows_too(self, remapped: IdsPlatform, platform: Platform) -> None:
        platform.converge(declared())
        platform.run("one", "sh", "-c", f"for n in 1 2 3; do dd if=/dev/zero of={DATA}/$n bs=4K; done")
        remapped.switch(on=False)
        platform.converge(declared())
        assert owners(platform) == {both(UID)}
        assert platform.broken("one") == {}  # its limit is there again

    def test_a_change_that_is_cut_off_is_taken_up_again(
        self, remapped: IdsPlatform, platform: Platform, host_uid: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        platform.converge(declared())
        leave_files(platform)
        remapped.switch(on=False)
        real, left = os.chown, [3]

        def chown(*arguments: Any, **options: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(5, "cut off")
            real(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(ownership.os, "chown", chown)
            with pytest.raises(ReconcileError, match="could not all be given to the engine's ids"):
                platform.converge(declared())
        assert owners(platform) == {both(UID), both(host_uid)}
        volume = platform.volume("one").parent
        assert set(marked(volume)) == {IDENTITY, remapped.remapped}
        remapped.switch(on=True)  # it was not to be, after all
        platform.converge(declared())
        assert owners(platform) == {both(host_uid)}
        assert kept(platform) == "kept\n"

    def test_what_a_removed_instance_left_waits_for_it(
        self, remapped: IdsPlatform, platform: Platform, host_uid: int
    ) -> None:
        platform.converge(declared())
        leave_files(platform)
        platform.converge(purge=True)
        remapped.switch(on=False)
        platform.converge(tenant("two"))
        assert owners(platform) == {both(host_uid)}
        assert platform.open().quota.volumes()["one"].uid == UID
        platform.converge(declared(), tenant("two"))
        assert owners(platform) == {both(UID)}

    def test_without_remapping_a_volume_has_no_mark(self, remapped: IdsPlatform, platform: Platform) -> None:
        remapped.switch(on=False)
        platform.converge(declared())
        assert MARK not in os.listxattr(platform.volume("one").parent)
        assert owners(platform) == {both(UID)}


def test_an_engine_whose_range_is_not_known_makes_nothing(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files would get ids that are nobody's, or somebody else's."""
    monkeypatch.setattr(docker_ids, "read_ranges", lambda _path: [])
    with pytest.raises(HostError, match="the engine remaps ids"):
        platform.converge(declared())
    assert platform.names() == set()
