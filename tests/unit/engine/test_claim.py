"""Nothing of another owner's engine is ever changed without being asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bailey.engine import claim
from bailey.engine.claim import Found, Places, Record, RunningEngine
from bailey.engine.config import EngineSettings, Options, compose, render
from bailey.errors import HostError

UNITS = ("/usr/sbin/dockerd", "-H", "fd://", "--containerd=/run/containerd/containerd.sock")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(
        config=tmp_path / "daemon.json",
        record=tmp_path / "etc/docker.json",
        pid_file=tmp_path / "docker.pid",
        socket=tmp_path / "docker.sock",
    )


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return compose(EngineSettings(data_root=str(tmp_path / "data")), {})


def add_container(data_root: Path, name: str, *, running: bool) -> None:
    directory = data_root / "containers" / name
    directory.mkdir(parents=True)
    (directory / "config.v2.json").write_text(json.dumps({"Name": f"/{name}", "State": {"Running": running}}))


def engine_with(*argv: str, supervised: bool = True, data_root: str = "/nowhere") -> RunningEngine:
    return RunningEngine(4711, argv, supervised, Path(data_root))


def record_of(options: Options) -> Record:
    return claim.next_record(None, Found(), options, None)


def test_a_fresh_host_is_free(places: Places, options: Options) -> None:
    claim.check_claim(places, None, None, options, adopt=False)


@pytest.mark.parametrize("text", ["", "{}\n"])
def test_an_empty_configuration_belongs_to_nobody(places: Places, options: Options, text: str) -> None:
    places.config.write_text(text)
    claim.check_claim(places, None, None, options, adopt=False)


def test_another_owners_file_is_refused_unless_adopted(places: Places, options: Options) -> None:
    places.config.write_text('{"debug": true}')
    with pytest.raises(HostError, match=r"another owner's: .*docker_adopt: true"):
        claim.check_claim(places, None, None, options, adopt=False)
    claim.check_claim(places, None, None, options, adopt=True)
    assert places.config.read_text() == '{"debug": true}'


def test_a_file_changed_by_hand_is_refused(places: Places, options: Options) -> None:
    record = record_of(options)
    places.config.write_text(render(options))
    claim.check_claim(places, record, None, {**options, "mtu": 1400}, adopt=False)
    places.config.write_text(render(options) + " ")
    with pytest.raises(HostError, match="changed by hand since Bailey wrote it"):
        claim.check_claim(places, record, None, options, adopt=False)


def test_containers_of_an_engine_without_a_record_are_refused(places: Places, options: Options) -> None:
    add_container(Path(str(options["data-root"])), "theirs", running=False)
    with pytest.raises(HostError, match="does not manage: theirs"):
        claim.check_claim(places, None, None, options, adopt=False)
    claim.check_claim(places, record_of(options), None, options, adopt=False)


def test_containers_in_the_running_engines_own_data_root_count(
    places: Places, options: Options, tmp_path: Path
) -> None:
    add_container(tmp_path / "elsewhere", "theirs", running=True)
    engine = engine_with(*UNITS, data_root=str(tmp_path / "elsewhere"))
    with pytest.raises(HostError, match="elsewhere holds containers"):
        claim.check_claim(places, None, engine, options, adopt=False)


def test_the_distributions_own_flags_are_no_owners(places: Places, options: Options) -> None:
    claim.check_claim(places, None, engine_with(*UNITS), options, adopt=False)


def test_another_owners_flags_are_refused_unless_adopted(places: Places, options: Options) -> None:
    engine = engine_with(*UNITS, "--mtu", "1400")
    with pytest.raises(HostError, match="another owner's flags: --mtu=1400"):
        claim.check_claim(places, None, engine, options, adopt=False)
    claim.check_claim(places, None, engine, options, adopt=True)


def test_a_flag_that_the_file_is_to_hold_is_refused_even_when_adopted(places: Places, options: Options) -> None:
    engine = engine_with(*UNITS, "-l", "debug")
    with pytest.raises(HostError, match=r"--log-level=debug.*option given twice"):
        claim.check_claim(places, None, engine, options, adopt=True)


def test_an_engine_that_nobody_supervises_is_refused_with_what_to_do(places: Places, options: Options) -> None:
    engine = engine_with("dockerd", supervised=False)
    with pytest.raises(HostError, match="kill -TERM 4711"):
        claim.check_claim(places, record_of(options), engine, options, adopt=True)


@pytest.mark.parametrize(
    ("key", "value", "running", "refused"),
    [
        ("data-root", "/srv/other", False, True),
        ("storage-driver", "vfs", False, True),
        ("userns-remap", "bailey-remap", False, True),
        ("bip", "172.30.0.1/24", True, True),
        ("bip", "172.30.0.1/24", False, False),
        ("log-level", "warn", True, False),
    ],
)
def test_what_containers_would_not_survive_is_refused(
    options: Options, key: str, value: str, running: bool, refused: bool
) -> None:
    add_container(Path(str(options["data-root"])), "tenant", running=running)
    changed: Options = {**options, key: value}
    if refused:
        shown = "True" if key == "userns-remap" else f"'{value}'"
        with pytest.raises(HostError, match=rf"cannot change .* to {shown} while containers .*\(tenant\)"):
            claim.check_changes(record_of(options), changed)
    else:
        claim.check_changes(record_of(options), changed)


def test_a_half_written_container_counts_as_running(tmp_path: Path) -> None:
    directory = tmp_path / "containers/0123456789abcdef"
    directory.mkdir(parents=True)
    (directory / "config.v2.json").write_text("{")
    assert claim.read_containers(tmp_path) == [claim.Container("0123456789ab", running=True)]


def test_a_record_comes_back_as_it_was_written(places: Places, options: Options) -> None:
    found = Found(("/run/docker",), '{"debug": true}', True, False, {"iptables": "ACCEPT"})
    record = claim.next_record(None, found, options, None)
    claim.write_record(places, record)
    assert claim.read_record(places) == record
    assert places.record.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{}", '{"version": 99}', "[]"])
def test_an_unreadable_record_is_an_error_and_not_a_fresh_host(places: Places, text: str) -> None:
    places.record.parent.mkdir()
    places.record.write_text(text)
    with pytest.raises(HostError, match=r"docker\.json"):
        claim.read_record(places)


def test_a_record_covers_the_new_file_and_the_one_that_is_still_there(options: Options) -> None:
    first = record_of(options)
    changed: Options = {**options, "mtu": 1400}
    second = claim.next_record(first, Found(running=True), changed, render(options))
    assert second.covers(render(changed))
    assert second.covers(render(options))
    assert second.found == first.found
    # The engine did not start, and the former file was put back; a second try must still know it.
    third = claim.next_record(second, Found(), changed, render(options))
    assert third.covers(render(options))


@pytest.mark.parametrize(
    ("argv", "flags"),
    [
        (["dockerd", "-H", "fd://", "--debug"], ["--host=fd://", "--debug"]),
        (["dockerd", "--mtu", "1400", "-D", "-s", "vfs"], ["--mtu=1400", "--debug", "--storage-driver=vfs"]),
        (["dockerd", "--iptables=false", "--bridge=none"], ["--iptables=false", "--bridge=none"]),
        (["dockerd", "--live-restore", "--bip", "10.0.0.1/8"], ["--live-restore", "--bip=10.0.0.1/8"]),
    ],
)
def test_flags_take_one_form(argv: list[str], flags: list[str]) -> None:
    assert claim.flags_of(argv) == flags


def test_an_engine_with_all_its_places_elsewhere_is_not_this_hosts(places: Places, tmp_path: Path) -> None:
    file = tmp_path / "second.json"
    second = {"hosts": ["unix:///run/second.sock"], "data-root": "/srv/second", "pidfile": "/run/second.pid"}
    file.write_text(json.dumps(second))
    data_root = Path("/var/lib/docker")
    assert not claim.uses_places(["dockerd", "--config-file", str(file)], places, data_root)
    for key, value in (("hosts", [f"unix://{places.socket}"]), ("data-root", str(data_root))):
        file.write_text(json.dumps({**second, key: value}))
        assert claim.uses_places(["dockerd", "--config-file", str(file)], places, data_root)
    assert claim.uses_places(["dockerd"], places, Path("/srv/elsewhere"))
