"""What is left of a host's network once it is taken away, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bailey.agent import removal
from bailey.agent.guard import note_of
from bailey.agent.removal import remove_network
from bailey.agent.settings import Settings
from bailey.leases import LeaseWriter, journal


@dataclass
class StandInHost:
    """The kernel's side: what there is of it, and in `done` what is taken away."""

    tables: set[str] = field(default_factory=set)
    ports: list[str] = field(default_factory=list)
    bridges: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)

    def remove_tables(self, table: str) -> bool:
        self.done.append(f"tables {table}")
        return table in self.tables

    def leftovers(self, present: set[str]) -> list[str]:
        return [port for port in self.ports if port not in present]

    def release(self, port: str) -> None:
        self.done.append(f"port {port}")

    def withdraw_settings(self, bridge: str) -> bool:
        self.done.append(f"settings {bridge}")
        return bridge in self.bridges


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> StandInHost:
    made = StandInHost()
    for name in ("remove_tables", "leftovers", "release", "withdraw_settings"):
        monkeypatch.setattr(removal, name, getattr(made, name))
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "network.json"
    path.write_text(json.dumps({"table": "ours", "bridge": "br0"}))
    return Settings(run_dir=tmp_path, network_config=path)


def test_all_of_it_goes(host: StandInHost, settings: Settings) -> None:
    LeaseWriter(settings.run_dir).take("172.17.0.2", "one", "ada", "web")
    note_of(settings.run_dir).touch()
    host.tables, host.bridges, host.ports = {"ours"}, {"br0"}, ["veth1", "veth2"]
    assert remove_network(settings)
    assert host.done == ["tables ours", "port veth1", "port veth2", "settings br0"]
    assert not journal(settings.run_dir).exists()
    assert not note_of(settings.run_dir).exists()


def test_where_there_is_nothing_that_is_said_and_no_error(host: StandInHost, settings: Settings) -> None:
    assert not remove_network(settings)
    assert host.done == ["tables ours", "settings br0"]


@pytest.mark.parametrize("part", ["tables", "port", "settings", "journal", "note"])
def test_any_part_that_was_there_counts(host: StandInHost, settings: Settings, part: str) -> None:
    host.tables = {"ours"} if part == "tables" else set()
    host.bridges = {"br0"} if part == "settings" else set()
    host.ports = ["veth1"] if part == "port" else []
    for name, path in (("journal", journal(settings.run_dir)), ("note", note_of(settings.run_dir))):
        if part == name:
            path.touch()
    assert remove_network(settings)
    assert host.done[-1] == "settings br0"


@pytest.mark.parametrize("path", [None, Path("/nowhere/network.json")])
def test_a_host_that_was_given_no_network_is_left_alone(host: StandInHost, tmp_path: Path, path: Path | None) -> None:
    host.tables = {"ours", "bailey"}
    assert not remove_network(Settings(run_dir=tmp_path, network_config=path))
    assert host.done == []
