"""The client against a server that speaks what a registry may speak, by real TLS."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from bailey.registry import authority, certificates, survey
from bailey.registry.client import (
    Credentials,
    Manifest,
    RegistryClient,
    RegistryError,
    authority_end,
)

NAME = "registry.example"
LIFETIMES = authority.Lifetimes(10, 1, 20)
LOGIN = Credentials("bailey", "the-password")


@dataclass
class Answers:
    """What the server answers to a path: status, headers, body."""

    paths: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    port: int = 0
    ca: Path = Path()

    def give(self, path: str, document: object, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.paths[path] = (status, named, json.dumps(document).encode())

    def client(self, credentials: Credentials | None = LOGIN, ca: Path | None = None) -> RegistryClient:
        return RegistryClient(NAME, self.port, ca or self.ca, credentials, address="127.0.0.1")


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    made = Answers(ca=tmp_path / "ca.crt")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = made.paths.get(self.path, (404, {}, b"{}"))
            if self.headers.get("Authorization") != LOGIN.header():
                status, headers, body = 401, {}, b"{}"
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 (the base class's way of naming)

        def log_message(self, *_arguments: object) -> None:
            pass

    signer = authority.make_authority(None, LIFETIMES, datetime.now(UTC))
    made.ca.write_text(signer.certificate)
    pem = tmp_path / "server.pem"
    pem.write_text(authority.make_server(frozenset({NAME}), signer, LIFETIMES, datetime.now(UTC)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    made.port = server.server_port
    made.give("/v2/", {})
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_pages_are_followed_to_the_end(answers: Answers) -> None:
    answers.give("/v2/_catalog?n=100", {"repositories": ["a", "b"]}, Link='</v2/_catalog?last=b&n=100>; rel="next"')
    answers.give("/v2/_catalog?last=b&n=100", {"repositories": ["c/d"]})
    with answers.client() as client:
        assert list(client.repositories()) == ["a", "b", "c/d"]


def test_a_repository_without_tags_has_none(answers: Answers) -> None:
    answers.give("/v2/a/tags/list?n=100", {"name": "a", "tags": None})
    with answers.client() as client:
        assert client.tags("a") == []
        assert client.tags("unknown") == []


def test_an_image_for_several_platforms_counts_them_all(answers: Answers) -> None:
    answers.give("/v2/a/manifests/1", {"manifests": [{"digest": "sha256:x"}, {"digest": "sha256:y"}]})
    for digest, layer in (("sha256:x", "sha256:lx"), ("sha256:y", "sha256:ly")):
        config = {"digest": "sha256:c", "size": 10}
        layers = [{"digest": layer, "size": 100}, {"digest": "sha256:shared", "size": 1000}]
        answers.give(f"/v2/a/manifests/{digest}", {"config": config, "layers": layers})
    with answers.client() as client:
        image = client.manifest("a", "1")
    assert image is not None
    assert image.size == 10 + 100 + 100 + 1000


def test_a_shared_blob_counts_once() -> None:
    first = survey.Repository("a", {"1": Manifest("sha256:1", "", {"x": 5, "y": 7})})
    second = survey.Repository("b", {"1": Manifest("sha256:2", "", {"x": 5, "z": 1})})
    assert first.size == 12
    assert survey.distinct_size([first, second]) == 13


def test_a_tag_that_vanishes_while_reading_is_left_out(answers: Answers) -> None:
    answers.give("/v2/_catalog?n=100", {"repositories": ["a"]})
    answers.give("/v2/a/tags/list?n=100", {"tags": ["gone"]})
    with answers.client() as client:
        assert list(survey.contents(client)) == [survey.Repository("a")]


def test_a_digest_is_read_from_the_header(answers: Answers) -> None:
    answers.give("/v2/a/manifests/1", {}, Docker_Content_Digest="sha256:d")
    with answers.client() as client:
        assert client.digest("a", "1") == "sha256:d"
        assert client.digest("a", "2") is None


@pytest.mark.parametrize(("body", "status"), [([], 200), ("text", 200), ({}, 500)])
def test_an_answer_that_is_none_is_an_error(answers: Answers, body: object, status: int) -> None:
    answers.give("/v2/_catalog?n=100", body, status)
    with answers.client() as client, pytest.raises(RegistryError, match=f"^{NAME}:{answers.port}: /v2/_catalog"):
        list(client.repositories())


def test_health_names_what_is_wrong(answers: Answers) -> None:
    with answers.client() as client:
        health = survey.check(client, answers.ca)
    assert health.error is None
    assert health.authority_end == authority_end(answers.ca)
    with answers.client(Credentials("bailey", "wrong-password")) as client:
        assert "password is wrong" in str(survey.check(client, answers.ca).error)
    other = answers.ca.with_name("other.crt")
    other.write_text(authority.make_authority(None, LIFETIMES, datetime.now(UTC)).certificate)
    with answers.client(ca=other) as client:
        health = survey.check(client, other)
    assert not health.reachable
    assert "certificate is not trusted" in str(health.error)


def test_waiting_ends_with_the_reason(answers: Answers) -> None:
    with answers.client(Credentials("bailey", "wrong-password")) as client, pytest.raises(RegistryError) as raised:
        survey.await_health(client, answers.ca, 0.3)
    assert "password is wrong (after 0.3 s)" in str(raised.value)


def test_an_expired_certificate_is_refused(answers: Answers, tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=30)
    expired = tmp_path / "expired.crt"
    expired.write_text(
        certificates.issue_authority("x", certificates.new_key(), certificates.Period.days_from(past, 1))
    )
    assert authority_end(expired) < datetime.now(UTC)
    with answers.client(ca=expired) as client, pytest.raises(RegistryError, match="not trusted"):
        client.ping()


@pytest.mark.parametrize("text", ["", "nonsense"])
def test_a_ca_file_without_an_authority_is_refused(answers: Answers, tmp_path: Path, text: str) -> None:
    empty = tmp_path / "empty.crt"
    empty.write_text(text)
    with pytest.raises(RegistryError, match=r"empty\.crt"):
        answers.client(ca=empty)
    with pytest.raises(RegistryError, match=r"missing\.crt"):
        answers.client(ca=tmp_path / "missing.crt")
