"""The gate of an instance whose ids are others on the host: who may knock, and where."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from bailey.agent import peer as peer_module
from bailey.agent.gate import Gate
from bailey.agent.ledger import Ledger
from bailey.agent.peer import Peer, identified
from bailey.agent.proof import Prover
from bailey.agent.sweep import Sweep
from bailey.host.cgroup import Hierarchy
from bailey.host.idmap import IDENTITY, IdMap
from bailey.host.proc import Process

from tests.unit.agent.stage import ONE, Stage, on_stage
from tests.unit.samples import REMAPPED

UID = 200_000
HOST_UID = REMAPPED.base + UID


def declare(stage: Stage, ids: IdMap) -> str:
    """Declare an instance that was made with a mapping, and return its name."""
    record = stage.declare()
    assert record.declared is not None
    stage.store.write(replace(record.declared, ids=ids))
    stage.ledger.reload(record)
    return record.name


@pytest.mark.parametrize(
    ("ids", "uid", "mapping", "reason"),
    [
        (IDENTITY, UID, REMAPPED, f"it runs as uid {UID} of the host, not {UID}"),
        (IDENTITY, HOST_UID, REMAPPED, f"it runs as uid {UID} (host {HOST_UID}), not {UID}"),
        (IDENTITY, UID, None, f"it runs as uid {UID} of the host, not {UID}"),
        (IDENTITY, 0, IDENTITY, f"it runs as uid 0, not {UID}"),
        (REMAPPED, UID, IDENTITY, f"it runs as uid {UID}, not {UID} (host {HOST_UID})"),
        (REMAPPED, HOST_UID, IDENTITY, f"it runs as uid {HOST_UID}, not {UID} (host {HOST_UID})"),
        (REMAPPED, REMAPPED.base, REMAPPED, f"it runs as uid 0 (host {REMAPPED.base}), not {UID} (host {HOST_UID})"),
        (REMAPPED, HOST_UID, IdMap(HOST_UID, 9), f"it runs as uid 0 (host {HOST_UID}), not {UID} (host {HOST_UID})"),
    ],
)
def test_who_is_somebody_else_inside_or_outside_is_refused(
    tmp_path: Path, ids: IdMap, uid: int, mapping: IdMap | None, reason: str
) -> None:
    async def play(stage: Stage) -> None:
        name = declare(stage, ids)
        assert Prover(stage.host).prove(name, Peer(7, -1, uid, ONE, mapping)).reason == reason

    on_stage(tmp_path, play)


@pytest.mark.parametrize(
    ("ids", "mapping"),
    [(IDENTITY, IDENTITY), (REMAPPED, REMAPPED), (REMAPPED, IdMap(REMAPPED.base, 2 * REMAPPED.size))],
)
def test_who_is_the_declared_one_goes_on_to_be_proven(tmp_path: Path, ids: IdMap, mapping: IdMap) -> None:
    async def play(stage: Stage) -> None:
        name = declare(stage, ids)
        stage.host.hierarchy = Hierarchy(2, {"memory": tmp_path})
        proof = Prover(stage.host).prove(name, Peer(7, -1, ids.to_host(UID), ONE, mapping))
        assert proof.reason == f"what the kernel holds for container {ONE[:12]} cannot be read"

    on_stage(tmp_path, play)


@pytest.mark.parametrize("ids", [IDENTITY, REMAPPED])
def test_the_boot_socket_is_the_instances_own_on_the_host(tmp_path: Path, ids: IdMap) -> None:
    async def play(stage: Stage) -> None:
        record = stage.ledger.record(declare(stage, ids))
        gate = Gate(stage.ledger, Prover(stage.host), stage.workers)
        gate.arm(record)
        try:
            status = stage.files.boot_socket(record.name).stat()
            assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (
                ids.to_host(UID),
                ids.to_host(UID),
                0o600,
            )
            directory = stage.files.boot_directory(record.name).stat()
            assert stat.S_IMODE(directory.st_mode) & 0o005 == 0o005  # for whoever the container's root is
        finally:
            gate.close()

    on_stage(tmp_path, play)


def test_a_boot_socket_is_made_anew_for_other_ids(tmp_path: Path) -> None:
    async def play(stage: Stage) -> None:
        record = stage.ledger.record(declare(stage, IDENTITY))
        gate = Gate(stage.ledger, Prover(stage.host), stage.workers)
        gate.arm(record)
        declare(stage, REMAPPED)
        gate.arm(record)
        try:
            assert stage.files.boot_socket(record.name).stat().st_uid == HOST_UID
        finally:
            gate.close()

    on_stage(tmp_path, play)


def test_a_peer_brings_its_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = frozenset({HOST_UID})
    process = Process(*(os.getpid(), 1, HOST_UID, ids, ids, 1, 0, 0, 0), no_new_privs=True, seccomp=True, filters=1)
    monkeypatch.setattr(peer_module, "read_process", lambda _pid: process)
    monkeypatch.setattr(peer_module, "container_of", lambda _pid: ONE)
    monkeypatch.setattr(peer_module, "read_id_map", lambda _pid: REMAPPED)
    with identified(os.getpid()) as peer:
        assert (peer.uid, peer.ids) == (HOST_UID, REMAPPED)


def test_a_sweep_looks_at_an_instance_by_the_ids_that_it_was_made_with(tmp_path: Path) -> None:
    looked: list[object] = []

    class Looking(Prover):
        def look(self, *arguments: object) -> None:
            looked.append(arguments[-1])

    async def play(stage: Stage) -> None:
        record = stage.ledger.record(declare(stage, REMAPPED))
        stage.gate.open(record)
        ledger: Ledger = stage.ledger
        await Sweep(ledger, Looking(stage.host), stage.workers, tmp_path / "none").run()

    on_stage(tmp_path, play)
    assert looked == [REMAPPED]
