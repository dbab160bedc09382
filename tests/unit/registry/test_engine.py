"""An engine's files: trust and login come and go, and what is others' stays."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bailey.errors import HostError, InvalidValueError
from bailey.registry import authority, engine
from bailey.registry.client import Credentials
from bailey.registry.engine import EngineFiles

REFERENCE = "registry.example:5000"
LOGIN = Credentials("bailey", "a:password-with-colon")
OTHERS = {"auths": {"other.example": {"auth": "b3RoZXI6b3RoZXI="}}, "proxies": {"default": {"noProxy": "x"}}}


@pytest.fixture(scope="module")
def ca() -> str:
    return authority.make_authority(None, authority.Lifetimes(1, 0, 2), datetime.now(UTC)).certificate


@pytest.fixture
def files(tmp_path: Path) -> EngineFiles:
    return EngineFiles(REFERENCE, tmp_path / "certs.d", tmp_path / "docker" / "config.json")


def document(files: EngineFiles) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(files.config.read_text())
    return loaded


def test_given_twice_changes_once(files: EngineFiles, ca: str, tmp_path: Path) -> None:
    assert engine.present(files, ca, LOGIN, check_mode=True)
    assert not list(tmp_path.iterdir())
    assert engine.present(files, ca, LOGIN, check_mode=False)
    assert not engine.present(files, ca, LOGIN, check_mode=False)
    assert files.trust.read_text() == ca
    assert files.config.stat().st_mode & 0o777 == 0o600
    assert files.config.parent.stat().st_mode & 0o777 == 0o700
    assert files.credentials() == LOGIN


def test_others_entries_stay(files: EngineFiles, ca: str) -> None:
    files.config.parent.mkdir(mode=0o755)
    files.config.write_text(json.dumps(OTHERS))
    engine.present(files, ca, LOGIN, check_mode=False)
    encoded = base64.b64encode(b"bailey:a:password-with-colon").decode()
    assert document(files) == {**OTHERS, "auths": {**OTHERS["auths"], REFERENCE: {"auth": encoded}}}
    assert files.config.parent.stat().st_mode & 0o777 == 0o755  # it is not ours
    assert engine.absent(files, check_mode=False)
    assert document(files) == OTHERS
    assert not engine.absent(files, check_mode=False)


def test_absent_leaves_nothing_of_ours(files: EngineFiles, ca: str, tmp_path: Path) -> None:
    engine.present(files, ca, LOGIN, check_mode=False)
    assert engine.absent(files, check_mode=True)
    assert files.trust.exists()
    assert engine.absent(files, check_mode=False)
    assert not list(tmp_path.iterdir())
    assert not engine.absent(files, check_mode=False)


def test_absent_leaves_another_registrys_trust(files: EngineFiles, ca: str) -> None:
    other = files.certs_d / "other.example"
    other.mkdir(parents=True)
    engine.present(files, ca, LOGIN, check_mode=False)
    engine.absent(files, check_mode=False)
    assert list(files.certs_d.iterdir()) == [other]


def test_a_link_is_followed(files: EngineFiles, ca: str, tmp_path: Path) -> None:
    real = tmp_path / "real.json"
    real.write_text("{}")
    files.config.parent.mkdir()
    files.config.symlink_to(real)
    engine.present(files, ca, LOGIN, check_mode=False)
    assert files.config.is_symlink()
    assert REFERENCE in json.loads(real.read_text())["auths"]


def test_differences_hold_no_password(files: EngineFiles, ca: str) -> None:
    shown = json.dumps(engine.present(files, ca, LOGIN, check_mode=False).as_diff())
    assert LOGIN.password not in shown
    assert LOGIN.header().split()[1] not in shown


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": [1]}', '{"auths": {"a": "b"}}'])
def test_a_file_that_is_not_understood_is_left_alone(files: EngineFiles, ca: str, text: str) -> None:
    files.config.parent.mkdir()
    files.config.write_text(text)
    with pytest.raises(HostError, match=r"config\.json"):
        engine.present(files, ca, LOGIN, check_mode=False)
    assert files.config.read_text() == text
    assert not files.trust.exists()


@pytest.mark.parametrize("config", [{"credsStore": "pass"}, {"credHelpers": {REFERENCE: "pass"}}])
def test_a_credentials_helper_is_refused(files: EngineFiles, ca: str, config: dict[str, Any]) -> None:
    files.config.parent.mkdir()
    files.config.write_text(json.dumps(config))
    with pytest.raises(HostError, match="helper pass"):
        engine.present(files, ca, LOGIN, check_mode=False)


def test_a_ca_that_is_none_is_refused(files: EngineFiles) -> None:
    with pytest.raises(InvalidValueError, match=r"^ca: "):
        engine.present(files, "nonsense", LOGIN, check_mode=False)
