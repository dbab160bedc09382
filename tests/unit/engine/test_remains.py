"""Teardown takes along what the engine left, and leaves what was not its."""

from __future__ import annotations

from pathlib import Path

from bailey.engine import remains
from bailey.engine.claim import Found, Places, Record

SAVED = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-USER - [0:0]
:DOCKERISH - [0:0]
-A INPUT -p tcp -m comment --comment "ssh, from docker's network" -m tcp --dport 22 -j ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i other0 ! -o other0 -j ACCEPT
-A DOCKER -d 172.29.0.3/32 ! -i other0 -o other0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A POSTROUTING -s 172.29.0.0/24 ! -o other0 -j MASQUERADE
-A DOCKER -d 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
-A DOCKER -d 127.0.0.1/32 -p tcp -m tcp --dport 9000 -j DNAT --to-destination 172.29.0.3:80
COMMIT
"""


def lines(*, alone: bool, saved: str = SAVED) -> list[str]:
    return [" ".join(command[1:]) for command in remains.deletions(saved, ["docker0"], alone=alone)]


def test_beside_another_engine_only_our_bridges_rules_go() -> None:
    assert lines(alone=False) == [
        "filter -D FORWARD -i docker0 ! -o docker0 -j ACCEPT",
        "filter -D DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DROP",
        "nat -D POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
        "nat -D POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE",
        "nat -D DOCKER -d 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
    ]


def test_a_sole_engine_takes_its_chains_along_after_their_rules() -> None:
    commands = lines(alone=True)
    chains = ["filter -X DOCKER", "filter -X DOCKER-ISOLATION-STAGE-1", "filter -X DOCKER-USER", "nat -X DOCKER"]
    assert commands[-4:] == chains
    assert "filter -D FORWARD -j DOCKER-USER" in commands
    assert "nat -D PREROUTING -m addrtype --dst-type LOCAL -j DOCKER" in commands


def test_rules_of_others_stay() -> None:
    commands = " / ".join(lines(alone=True))
    assert "--dport 22" not in commands
    assert "DOCKERISH" not in commands
    assert "other0 ! -o other0 -j ACCEPT" not in commands


def test_an_operators_own_rules_in_the_chain_for_them_outlive_the_engine() -> None:
    saved = SAVED.replace("-A DOCKER-USER -j RETURN", "-A DOCKER-USER -s 192.0.2.0/24 -j DROP")
    commands = lines(alone=True, saved=saved)
    assert not [command for command in commands if "DOCKER-USER" in command]
    assert "filter -X DOCKER" in commands


def test_an_ipv6_address_with_a_port_is_read() -> None:
    saved = """*nat
-A POSTROUTING -s fd00:1::/64 ! -o docker0 -j MASQUERADE
-A DOCKER -d ::1/128 -p tcp -m tcp --dport 80 -j DNAT --to-destination [fd00:1::2]:80
-A DOCKER -d ::1/128 -p tcp -m tcp --dport 81 -j DNAT --to-destination [fd00:2::2]:80
"""
    assert len(lines(alone=False, saved=saved)) == 2


def test_bridges_are_read_from_the_file_of_an_engine_that_does_not_run(tmp_path: Path) -> None:
    assert remains.bridges_of(tmp_path) == ["docker0"]
    path = tmp_path / "network/files/local-kv.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(b'\0\xff{"BridgeName":"br-0123456789ab","x":1}\0{"BridgeName":"docker0"}')
    assert remains.bridges_of(tmp_path) == ["br-0123456789ab", "docker0"]


def test_bridges_of_every_range_of_ids_are_found(tmp_path: Path) -> None:
    for root, name in ((tmp_path, "br-1"), (tmp_path / "1879048192.1879048192", "br-2"), (tmp_path / "a.b", "br-3")):
        path = root / "network/files/local-kv.db"
        path.parent.mkdir(parents=True)
        path.write_text(f'"BridgeName":"{name}"')
    assert remains.bridges_of(tmp_path) == ["br-1", "br-2", "docker0"]


def test_the_former_configuration_comes_back(tmp_path: Path) -> None:
    places = Places(config=tmp_path / "etc/daemon.json")
    record = Record(("x",), {}, Found(config='{"debug": true}'))
    assert remains.restore_config(places, record)
    assert places.config.read_text() == '{"debug": true}'
    assert not remains.restore_config(places, record)


def test_where_there_was_no_configuration_none_is_left(tmp_path: Path) -> None:
    places = Places(config=tmp_path / "daemon.json")
    places.config.write_text("{}")
    assert remains.restore_config(places, Record(("x",), {}, Found()))
    assert not places.config.exists()
    assert not remains.restore_config(places, Record(("x",), {}, Found()))
