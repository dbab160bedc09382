"""A host's network as the agent holds it, where the kernel or the disk says no."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
from pathlib import Path

import pytest
from bailey.agent.network import HostNetwork, Joined, Standing, endpoint_of
from bailey.leases import LeaseWriter, journal

from tests.unit.agent.host_stand_in import CONTAINER, GROUND, ONE, TWO, StandInHost, attachment, joined

pytest_plugins = ["tests.unit.agent.host_stand_in"]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_without_the_tables_the_rest_is_tidied_all_the_same(ready: HostNetwork, host: StandInHost) -> None:
    host.end(joined(ready, host))
    host.told()
    host.stands, host.refuses = False, {"drop one"}
    host.left = ["veth8"]
    assert list(ready.tidy()) == ["what was left of port veth8 is removed"]
    assert host.told() == ["drop one", "forget 172.17.0.2", "release veth2", "drop one", "release veth8"]
    host.stands, host.refuses = True, set()
    list(ready.tidy())
    assert "one" not in host.in_force


def test_whom_nobody_could_make_tables_for_gets_them_by_the_next_repair(
    network: HostNetwork, host: StandInHost
) -> None:
    host.ground = None
    network.take_over([Standing(ONE, host.run(attachment()), CONTAINER)])
    assert not network.in_force
    host.ground = GROUND
    network.rebuild(17.0)
    assert network.in_force
    assert "rebuild one" in host.told()


@pytest.mark.parametrize("writing", ["give_up", "count_unlogged"])
def test_a_journal_that_cannot_be_written_keeps_nobody_from_leaving(
    ready: HostNetwork, host: StandInHost, monkeypatch: pytest.MonkeyPatch, writing: str
) -> None:
    host.end(joined(ready, host))
    host.unlogged = {"172.17.0.2": 3}
    monkeypatch.setattr(LeaseWriter, writing, full)
    ready.leave("one")
    assert host.told() == ["drop one", "forget 172.17.0.2", "release veth2"]
    assert ready.containers == {}


def test_an_address_that_could_not_be_given_up_is_cleared_before_the_next_gate(
    ready: HostNetwork, host: StandInHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined(ready, host)
    pid = host.run(attachment())
    with monkeypatch.context() as patch:
        patch.setattr(LeaseWriter, "give_up", full)
        with pytest.raises(OSError, match="No space"):
            ready.join(TWO, pid, CONTAINER)
    host.told()
    ready.join(TWO, pid, CONTAINER)
    assert "forget 172.17.0.2" in host.told()


def test_a_join_that_cannot_be_written_down_leaves_no_descriptor(
    ready: HostNetwork, host: StandInHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LeaseWriter, "take", full)
    pid = host.run(attachment())
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(OSError, match="No space"):
        ready.join(ONE, pid, CONTAINER)
    assert len(sorted(Path("/proc/self/fd").iterdir())) == len(before)


def test_where_nobody_is_nothing_is_missing(network: HostNetwork, host: StandInHost) -> None:
    host.ground = None
    network.take_over([])
    assert network.in_force


def test_a_bridge_gets_its_settings_only_once_its_tables_stand(network: HostNetwork, host: StandInHost) -> None:
    host.refuses, host.broken = {"rebuild"}, ["ipv4/ip_forward"]
    network.take_over([])
    assert host.broken == ["ipv4/ip_forward"]
    host.refuses = set()
    network.take_over([])
    assert host.broken == []


@pytest.mark.parametrize("by", ["a refused change", "another bridge"])
def test_however_tables_are_made_again_what_is_not_logged_is_counted_anew(
    ready: HostNetwork, host: StandInHost, tmp_path: Path, by: str
) -> None:
    joined(ready, host)
    host.unlogged = {"172.17.0.2": 5}
    list(ready.tidy())
    if by == "another bridge":
        host.ground = (*GROUND[:2], "02:42:00:00:00:99")
    else:
        host.refuses = {"put two"}
    ready.join(TWO, host.run(attachment(3)), CONTAINER)
    host.unlogged = {"172.17.0.2": 7}
    list(ready.tidy())
    lines = map(json.loads, journal(tmp_path).read_text().splitlines())
    assert [line["unlogged"] for line in lines if "unlogged" in line] == [5, 7]


def test_an_end_is_seen_though_the_agent_has_very_many_descriptors(
    host: StandInHost, request: pytest.FixtureRequest
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)))
    pid = host.run()
    low = os.pidfd_open(pid)
    high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 2000)
    for descriptor in (low, high):
        request.addfinalizer(lambda opened=descriptor: os.close(opened))
    run = Joined(endpoint_of(ONE, attachment()), attachment(), CONTAINER, high)
    assert not run.ended
    host.end(pid)
    assert run.ended
