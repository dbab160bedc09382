"""What is read out of the engine's answers, and what is sent along to a registry."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from bailey.backends import docker
from bailey.errors import HostError


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("web", ("web", "latest")),
        ("web:1", ("web", "1")),
        ("registry.example:5000/a/web", ("registry.example:5000/a/web", "latest")),
        ("registry.example:5000/a/web:1", ("registry.example:5000/a/web", "1")),
        ("registry.example:5000/web@sha256:ab", ("registry.example:5000/web", "sha256:ab")),
        ("registry.example:5000/web:1@sha256:ab", ("registry.example:5000/web", "sha256:ab")),
    ],
)
def test_references_are_split(reference: str, parts: tuple[str, str]) -> None:
    assert docker._split_reference(reference) == parts


def backend(path: Path) -> docker.DockerBackend:
    return docker.DockerBackend("unix:///absent", client_config=path)


def test_its_socket_is_a_path() -> None:
    assert docker.DockerBackend("unix:///run/engine.sock").socket == Path("/run/engine.sock")


def test_a_login_is_sent_to_its_own_registry_alone(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {"r.example:5000": {"auth": base64.b64encode(b"me:pass:word").decode()}}}))
    header = backend(path)._registry_header("r.example:5000/web")["X-Registry-Auth"]
    account = json.loads(base64.urlsafe_b64decode(header))
    assert account == {"username": "me", "password": "pass:word", "serveraddress": "r.example:5000"}
    assert backend(path)._registry_header("other.example/web") == {}
    assert backend(tmp_path / "absent")._registry_header("r.example:5000/web") == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"r": {"auth": "s3cret-not-base64!"}}}'])
def test_a_broken_client_configuration_is_named_and_not_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(HostError, match=r"config\.json") as refusal:
        backend(path)._registry_header("r/web")
    assert "s3cret" not in str(refusal.value)


def test_the_log_stream_is_read_frame_by_frame() -> None:
    frames = b"".join(bytes([1, 0, 0, 0]) + len(part).to_bytes(4, "big") + part for part in (b"one\n", b"two\n"))
    assert docker._log_text(frames) == "one\ntwo"
    assert docker._log_text(frames[:6]) == ""


def test_a_listed_container_is_read() -> None:
    item = {
        "Id": "abc",
        "Names": ["/web"],
        "Labels": {"bailey.name": "web", "bailey.hash": "h"},
        "Image": "web:1",
        "State": "running",
        "Status": "Up",
        "Ports": [{"IP": "127.0.0.1", "PublicPort": 8001, "PrivatePort": 80, "Type": "tcp"}, {"PrivatePort": 9}],
    }
    made = docker._container(item)
    assert (made.name, made.declared_name, made.declared_hash, made.running) == ("web", "web", "h", True)
    assert made.ports == ("127.0.0.1:8001/tcp",)
    foreign = docker._container({**item, "Labels": None, "Ports": None, "State": "exited"})
    assert (foreign.declared_name, foreign.running, foreign.ports) == (None, False, ())
