"""The range of ids that containers get with docker_userns_remap: nobody else's, and never another one under them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from bailey.changes import Differences
from bailey.engine import setup, userns
from bailey.engine.claim import Found, Places, Record, read_record
from bailey.engine.config import REMAP, REMAP_ACCOUNT, EngineSettings
from bailey.engine.setup import configure, unconfigure
from bailey.errors import HostError, UnsupportedError
from bailey.host.idmap import IdMap
from bailey.host.subids import SIZE

from tests.unit import house

FIRST = 0x70000000
LINE = f"{REMAP_ACCOUNT}:{FIRST}:{SIZE}\n"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    etc = tmp_path / "etc"
    etc.mkdir()
    for name in ("passwd", "group"):
        (etc / name).write_text(f"root:x:0:0\nada:x:1000:1000\n{REMAP_ACCOUNT}:x:998:998\n")
    for name in ("subuid", "subgid"):
        (etc / name).write_text("ada:100000:65536\n")
    return Places(
        config=etc / "docker/daemon.json",
        record=etc / "bailey/docker.json",
        pid_file=tmp_path / "docker.pid",
        socket=tmp_path / "docker.sock",
        exec_root=tmp_path / "run",
        key=etc / "docker/key.json",
        containerd=(),
        **{name: etc / name for name in ("subuid", "subgid", "passwd", "group")},
    )


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def add_container(root: Path, name: str = "web") -> None:
    directory = root / "containers" / name
    directory.mkdir(parents=True)
    (directory / "config.v2.json").write_text(json.dumps({"Name": f"/{name}", "State": {"Running": False}}))


def texts(places: Places) -> list[str]:
    return [path.read_text() for path in (places.subuid, places.subgid)]


class TestArranging:
    def test_a_fresh_host_gets_a_line_in_both_files(self, places: Places, data_root: Path) -> None:
        arranged = userns.arrange(places, data_root)
        assert arranged.ids == IdMap(FIRST, SIZE)
        assert [(item.before, item.after) for item in arranged.differences] == [(None, LINE.strip())] * 2
        assert texts(places) == ["ada:100000:65536\n"] * 2  # only said so far
        arranged.write()
        assert texts(places) == [f"ada:100000:65536\n{LINE}"] * 2
        assert not userns.arrange(places, data_root).differences

    def test_files_that_are_not_there_are_made(self, places: Places, data_root: Path) -> None:
        places.subuid.unlink()
        userns.arrange(places, data_root).write()
        assert places.subuid.read_text() == LINE

    @pytest.mark.parametrize("name", ["subuid", "subgid"])
    def test_a_range_that_somebody_has_is_not_taken(self, places: Places, data_root: Path, name: str) -> None:
        path = getattr(places, name)
        path.write_text(f"{path.read_text()}eve:{FIRST + 5}:10\n")
        assert userns.arrange(places, data_root).ids == IdMap(FIRST + SIZE, SIZE)

    @pytest.mark.parametrize("name", ["passwd", "group"])
    def test_nor_is_one_in_which_an_account_lies(self, places: Places, data_root: Path, name: str) -> None:
        path = getattr(places, name)
        path.write_text(f"{path.read_text()}eve:x:{FIRST + 5}:{FIRST + 5}\n")
        assert userns.arrange(places, data_root).ids == IdMap(FIRST + SIZE, SIZE)

    @pytest.mark.parametrize(
        "lines",
        [
            f"{REMAP_ACCOUNT}:{FIRST + SIZE}:65536\n",  # no room for the tenants' ids
            f"{REMAP_ACCOUNT}:100000:{SIZE}\n",  # somebody else's too
            f"{REMAP_ACCOUNT}:300000:{SIZE}\n",  # the host's own numbers for ids inside
            f"{REMAP_ACCOUNT}:{(1 << 32) - SIZE - 1}:{SIZE}\n",  # negative to some
            LINE * 2,
        ],
    )
    def test_a_range_that_does_not_fit_is_replaced(self, places: Places, data_root: Path, lines: str) -> None:
        for path in (places.subuid, places.subgid):
            path.write_text(f"ada:100000:65536\n{lines}")
        userns.arrange(places, data_root).write()
        assert texts(places) == [f"ada:100000:65536\n{LINE}"] * 2

    def test_a_range_that_fits_stays_also_where_another_would_be_chosen(self, places: Places, data_root: Path) -> None:
        line = f"{REMAP_ACCOUNT}:{FIRST + 9 * SIZE}:{2 * SIZE}\n"
        for path in (places.subuid, places.subgid):
            path.write_text(line)
        arranged = userns.arrange(places, data_root)
        assert (arranged.ids, arranged.texts) == (IdMap(FIRST + 9 * SIZE, 2 * SIZE), {})

    def test_a_range_that_was_lost_is_found_again_by_what_the_engine_has(self, places: Places, data_root: Path) -> None:
        base = FIRST + 3 * SIZE
        add_container(data_root / f"{base}.{base}")
        assert userns.arrange(places, data_root).ids == IdMap(base, SIZE)

    def test_containers_never_get_other_ids(self, places: Places, data_root: Path) -> None:
        base = FIRST + 3 * SIZE
        add_container(data_root / f"{base}.{base}")
        places.subuid.write_text(f"eve:{base}:10\n")
        with pytest.raises(HostError, match=rf"holds containers \(web\) whose ids are those from {base} on"):
            userns.arrange(places, data_root)

    def test_a_line_that_the_engine_would_refuse_is_an_error(self, places: Places, data_root: Path) -> None:
        places.subgid.write_text("ada\n")
        with pytest.raises(HostError, match="subgid: this line is no range"):
            userns.arrange(places, data_root)


class TestKernel:
    @pytest.fixture
    def proc(self, tmp_path: Path) -> Path:
        proc = tmp_path / "proc"
        for path, text in (
            ("sys/user/max_user_namespaces", "96365\n"),
            ("self/uid_map", "         0          0 4294967295\n"),
            ("self/gid_map", "         0          0 4294967295\n"),
        ):
            (proc / path).parent.mkdir(parents=True, exist_ok=True)
            (proc / path).write_text(text)
        return proc

    def check(self, proc: Path, data_root: Path = Path("/var/lib/docker")) -> None:
        userns.check_kernel(IdMap(FIRST, SIZE), data_root, proc)

    def test_a_host_that_can(self, proc: Path) -> None:
        self.check(proc)

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda proc: (proc / "sys/user/max_user_namespaces").unlink(), "the kernel has no user namespaces"),
            (lambda proc: (proc / "sys/user/max_user_namespaces").write_text("0\n"), "max_user_namespaces is 0"),
            (lambda proc: (proc / "self/uid_map").write_text("0 100000 65536\n"), "whose own uid_map has not all ids"),
            (lambda proc: (proc / "self/gid_map").write_text("0 0 1879048193\n"), "whose own gid_map has not all ids"),
        ],
    )
    def test_a_host_that_cannot_says_why(self, proc: Path, spoil: Callable[[Path], object], reason: str) -> None:
        spoil(proc)
        with pytest.raises(UnsupportedError, match=f"docker_userns_remap: True cannot be enforced .*{reason}"):
            self.check(proc)

    def test_containers_root_has_to_reach_the_data(self, proc: Path, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        with pytest.raises(UnsupportedError, match=f"chmod o.x {closed}"):
            self.check(proc, closed / "docker")
        closed.chmod(0o711)
        tmp_path.chmod(0o711)
        for parent in tmp_path.parents:
            if not parent.stat().st_mode & 0o001:  # pytest's own are closed
                with pytest.raises(UnsupportedError, match=f"chmod o.x {parent}$"):
                    self.check(proc, closed / "docker")
                return
        self.check(proc, closed / "docker")


@pytest.mark.parametrize("name", ["passwd", "group"])
def test_an_account_that_is_missing_is_named(places: Places, name: str) -> None:
    userns.check_account(places)
    getattr(places, name).write_text("root:x:0:0\n")
    with pytest.raises(HostError, match=f"{name}: there is no {REMAP_ACCOUNT}"):
        userns.check_account(places)


class TestConfiguring:
    @pytest.fixture(autouse=True)
    def _no_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What depends on this machine is left out: its kernel and its engines are not what is looked at here."""
        monkeypatch.setattr(setup, "check_host", lambda _options: None)
        monkeypatch.setattr(setup, "check_by_engine", lambda _text: None)
        monkeypatch.setattr(setup, "find_engine", lambda _places, _data_root: None)
        monkeypatch.setattr(setup, "read_kernel_settings", dict)
        monkeypatch.setattr(setup, "remove_remains", lambda _places, _record: Differences())
        monkeypatch.setattr(userns, "check_kernel", lambda _ids, _data_root: None)

    def apply(self, places: Places, data_root: Path, *, on: bool = True, check: bool = False) -> setup.Applied:
        settings = EngineSettings(data_root=str(data_root), userns_remap=on)
        return configure(settings, adopt=False, check=check, places=places)

    def test_it_is_switched_on_once(self, places: Places, data_root: Path) -> None:
        before = texts(places)
        said = self.apply(places, data_root, check=True)
        assert texts(places) == before
        assert not places.config.exists()
        done = self.apply(places, data_root)
        assert said.differences == done.differences
        assert json.loads(places.config.read_text())[REMAP] == REMAP_ACCOUNT
        assert texts(places) == [f"ada:100000:65536\n{LINE}"] * 2
        assert not self.apply(places, data_root).differences

    def test_a_check_needs_no_account_and_the_deed_does(self, places: Places, data_root: Path) -> None:
        places.passwd.write_text("root:x:0:0\n")
        assert self.apply(places, data_root, check=True).differences
        with pytest.raises(HostError, match="there is no bailey-remap"):
            self.apply(places, data_root)
        assert not places.config.exists()
        assert not places.record.exists()

    def test_images_are_said_to_be_kept_apart_where_there_may_be_some(self, places: Places, data_root: Path) -> None:
        assert self.apply(places, data_root, on=False).warnings == []
        (warning,) = self.apply(places, data_root).warnings
        assert "built or pulled again" in warning
        assert self.apply(places, data_root).warnings == []

    def test_switched_off_the_range_stays_reserved(self, places: Places, data_root: Path) -> None:
        self.apply(places, data_root)
        self.apply(places, data_root, on=False)
        assert REMAP not in json.loads(places.config.read_text())
        assert texts(places) == [f"ada:100000:65536\n{LINE}"] * 2

    def test_a_range_that_is_put_back_has_the_engine_restarted(self, places: Places, data_root: Path) -> None:
        self.apply(places, data_root)
        before = places.config.stat().st_ino
        places.subuid.write_text("ada:100000:65536\n")
        assert [item.path for item in self.apply(places, data_root).differences] == [f"{places.subuid}: bailey-remap"]
        assert places.config.stat().st_ino != before

    @pytest.mark.parametrize("on", [True, False])
    def test_it_is_refused_while_containers_exist(self, places: Places, data_root: Path, on: bool) -> None:
        self.apply(places, data_root, on=not on)
        add_container(data_root if on else data_root / f"{FIRST}.{FIRST}")
        text = places.config.read_text()
        with pytest.raises(
            HostError, match=rf"docker_userns_remap: it cannot change from {not on} to {on} while containers exist"
        ):
            self.apply(places, data_root, on=on)
        assert places.config.read_text() == text

    def test_what_another_bailey_had_under_the_engines_own_name_is_shown_as_it_was(
        self, places: Places, data_root: Path
    ) -> None:
        self.apply(places, data_root)
        text = places.record.read_text().replace(f'"{REMAP}": "{REMAP_ACCOUNT}"', f'"{REMAP}": "default"')
        places.record.write_text(text)
        add_container(data_root / "5.5")
        with pytest.raises(HostError, match="cannot change from 'default' to True while"):
            self.apply(places, data_root)

    def test_the_removal_gives_the_range_back(self, places: Places, data_root: Path) -> None:
        self.apply(places, data_root)
        assert any(
            REMAP_ACCOUNT in item.path for item in unconfigure(force=False, check=False, places=places).differences
        )
        assert texts(places) == ["ada:100000:65536\n"] * 2

    @pytest.mark.parametrize("existed", [True, False])
    def test_a_file_that_was_not_there_goes(self, places: Places, data_root: Path, existed: bool) -> None:
        for path in (places.subuid, places.subgid):
            path.write_text("") if existed else path.unlink()
        self.apply(places, data_root)
        unconfigure(force=False, check=False, places=places)
        assert [places.subuid.exists(), places.subgid.exists()] == [existed] * 2

    def test_an_engine_that_stays_does_not_lose_containers(self, places: Places, data_root: Path) -> None:
        self.apply(places, data_root)
        record = read_record(places)
        assert record is not None
        setup.write_record(places, Record(record.sha256, record.options, Found(running=True)))
        add_container(data_root / f"{FIRST}.{FIRST}")
        with pytest.raises(HostError, match="with remapped ids, which this engine had not before: web"):
            unconfigure(force=True, check=False, places=places)
        assert read_record(places) is not None


def test_what_is_ours_below_the_data_root_is_known_by_the_range(places: Places, data_root: Path) -> None:
    assert userns.own_root(places, data_root) is None
    userns.arrange(places, data_root).write()
    assert userns.own_root(places, data_root) == data_root / f"{FIRST}.{FIRST}"


def test_the_role_makes_the_account_that_the_core_knows() -> None:
    variables = yaml.safe_load((house.ROOT / "roles/docker/vars/main.yml").read_text())
    assert variables["__docker_remap_account"] == REMAP_ACCOUNT
