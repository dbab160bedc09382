"""A host's network as the agent holds it, where the kernel or the disk says no."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from bailey.agent.network import HostNetwork, Standing
from bailey.leases import LeaseWriter

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


def test_an_address_whose_giving_up_fails_is_cleared_before_the_next_gate(
    ready: HostNetwork, host: StandInHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.end(joined(ready, host))

    with monkeypatch.context() as patch:
        patch.setattr(LeaseWriter, "give_up", full)
        with pytest.raises(OSError, match="No space"):
            ready.leave("one")
    host.told()
    ready.join(TWO, host.run(attachment()), CONTAINER)
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
