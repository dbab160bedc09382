"""The engine's HTTP interface, asked of a real server on a Unix socket that can misbehave."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bailey.backends.engine_api import EngineApi
from bailey.errors import EngineError, EngineUnavailableError, InvalidValueError

VERSION = {"ApiVersion": "1.41", "Version": "20.10.24"}
Answer = tuple[int, Any] | Callable[["Handler"], None]


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers by path, and remembers what it was asked on which connection."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {"/version": (200, VERSION)}
        self.requests: list[tuple[str, str, bytes, dict[str, str]]] = []
        self.connections = 0
        super().__init__(str(path), Handler)

    @property
    def asked(self) -> list[str]:
        """The requests but for that of the version."""
        return [f"{method} {path}" for method, path, _, _ in self.requests if path != "/version"]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, body, dict(self.headers)))
        answer = self.server.answers.get(self.path.partition("?")[0], (404, {"message": "no such thing"}))
        if callable(answer):
            answer(self)
        else:
            self.send(*answer)

    def send(self, status: int, value: Any) -> None:
        payload = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the standard library names them so

    def log_message(self, *_arguments: object) -> None:
        """Keep the tests' output clean."""

    def log_error(self, *_arguments: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "engine.sock") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def api(server: Server) -> EngineApi:
    return EngineApi(f"unix://{server.path}", timeout=5)


@pytest.mark.parametrize(
    ("offered", "used"),
    [("1.41", "/v1.41"), ("1.44", "/v1.44"), ("1.52", "/v1.44"), ("2.0", "/v1.44"), ("1.9", "/v1.9")],
)
def test_the_older_of_both_interface_versions_is_spoken(
    server: Server, api: EngineApi, offered: str, used: str
) -> None:
    server.answers |= {"/version": (200, {"ApiVersion": offered}), f"{used}/info": (200, {"ok": True})}
    assert api.get("/info") == {"ok": True}
    assert api.get("/info") == {"ok": True}
    assert [path for _, path, _, _ in server.requests] == ["/version", f"{used}/info", f"{used}/info"]


@pytest.mark.parametrize(
    "answer", [{}, {"ApiVersion": None}, {"ApiVersion": "new"}, {"ApiVersion": "1"}, [], b"<html>", b"", b"\xff"]
)
def test_who_is_no_engine_is_told_so(server: Server, api: EngineApi, answer: object) -> None:
    server.answers["/version"] = (200, answer)
    with pytest.raises(EngineError, match=r"docker_host: what answers at unix://.* is no container engine"):
        api.get("/info")


def test_a_version_that_is_refused_is_an_error(server: Server, api: EngineApi) -> None:
    server.answers["/version"] = (500, {"message": "starting up"})
    with pytest.raises(EngineError, match="GET /version: starting up"):
        api.get("/info")


def test_requests_share_one_connection_and_threads_share_none(server: Server, api: EngineApi) -> None:
    server.answers["/v1.41/info"] = (200, {})
    for _ in range(3):
        api.get("/info")
    assert server.connections == 1
    thread = threading.Thread(target=api.get, args=("/info",))
    thread.start()
    thread.join()
    assert server.connections == 2


def test_what_is_sent(server: Server, api: EngineApi) -> None:
    server.answers |= {"/v1.41/containers/json": (200, []), "/v1.41/containers/create": (201, {"Id": "1"})}
    server.answers |= {"/v1.41/containers/a%20b": (204, b"")}
    api.get("/containers/json", {"all": True, "limit": 3, "filters": {"label": ["a=b c"]}})
    assert api.post("/containers/create", {"Image": "web"}, {"name": "web"}, headers={"X-Registry-Auth": "x"}) == {
        "Id": "1"
    }
    api.delete("/containers/a b", {"force": True})
    listing, creation, removal = server.requests[1:]
    query = "all=true&limit=3&filters=%7B%22label%22%3A+%5B%22a%3Db+c%22%5D%7D"
    assert listing[:3] == ("GET", f"/v1.41/containers/json?{query}", b"")
    assert creation[:2] == ("POST", "/v1.41/containers/create?name=web")
    assert json.loads(creation[2]) == {"Image": "web"}
    assert (creation[3]["Content-Type"], creation[3]["X-Registry-Auth"]) == ("application/json", "x")
    assert removal[:2] == ("DELETE", "/v1.41/containers/a%20b?force=true")


def test_what_is_not_there_may_be_none(server: Server, api: EngineApi) -> None:
    assert api.get("/images/web/json", missing_ok=True) is None
    api.delete("/containers/web", missing_ok=True)
    for act in (api.get, api.post, api.delete):
        with pytest.raises(EngineError, match="/containers/web: no such thing") as caught:
            act("/containers/web")
        assert caught.value.status == 404
    assert server.connections == 1


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"message": " no space left \n"}, "POST /x: no space left"),
        ({"error": 1}, 'POST /x: {"error": 1}'),
        ({"message": None}, "POST /x: None"),
        ([], r"POST /x: \[\]"),
        (b"<html>\xff", "POST /x: <html>"),
        (b"", "POST /x: no reason given"),
    ],
)
def test_a_refusal_is_told_in_the_engines_words(server: Server, api: EngineApi, payload: object, message: str) -> None:
    server.answers["/v1.41/x"] = (507, payload)
    with pytest.raises(EngineError, match=f"^{message}") as caught:
        api.post("/x")
    assert caught.value.status == 507
    assert not isinstance(caught.value, EngineUnavailableError)


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"", None),
        (b" \r\n", None),
        (b"null", None),
        (b'{"a": 1}\n', {"a": 1}),
        (b'{"status": "Pulling"}\r\n{"error": "denied"}\r\n\r\n', [{"status": "Pulling"}, {"error": "denied"}]),
    ],
)
def test_an_answer_is_one_value_or_a_stream_of_them(
    server: Server, api: EngineApi, payload: bytes, value: object
) -> None:
    server.answers["/v1.41/images/create"] = (200, payload)
    assert api.post("/images/create") == value


def test_an_answer_that_is_not_json_is_an_error(server: Server, api: EngineApi) -> None:
    server.answers["/v1.41/info"] = (301, b"<a href='/'>moved</a>")
    with pytest.raises(EngineError, match="GET /info: the engine's answer is not JSON"):
        api.get("/info")


def test_text_is_returned_as_it_is(server: Server, api: EngineApi) -> None:
    server.answers["/v1.41/containers/web/logs"] = (200, b"\x01\0\0\0\0\0\0\x02ok")
    assert api.text("/containers/web/logs", {"stdout": True}) == b"\x01\0\0\0\0\0\0\x02ok"
    with pytest.raises(EngineError, match="GET /containers/gone/logs: no such thing"):
        api.text("/containers/gone/logs", {})


def drop(handler: Handler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True
    handler.connection.close()


def test_a_connection_that_the_engine_closed_is_renewed_once(server: Server, api: EngineApi) -> None:
    def once(handler: Handler) -> None:
        server.answers["/v1.41/info"] = (200, {"ok": True})
        drop(handler)

    server.answers["/v1.41/info"] = once
    assert api.get("/info") == {"ok": True}
    assert server.asked == ["GET /v1.41/info"] * 2
    assert server.connections == 2


def test_an_engine_that_closes_every_connection_is_not_there(server: Server, api: EngineApi) -> None:
    server.answers["/v1.41/info"] = drop
    with pytest.raises(
        EngineUnavailableError, match=r"docker_host: .* does not answer .*is the service 'docker' running"
    ):
        api.get("/info")
    assert server.asked == ["GET /v1.41/info"] * 2


def half(handler: Handler) -> None:
    """Promise more than is sent, as an engine does that is killed while it answers."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b'{"Id":')
    handler.wfile.flush()
    drop(handler)


def garbage(handler: Handler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    handler.wfile.flush()
    drop(handler)


@pytest.mark.parametrize("answer", [half, garbage])
def test_half_an_answer_is_no_answer_and_is_not_asked_for_again(
    server: Server, api: EngineApi, answer: Callable[[Handler], None]
) -> None:
    server.answers |= {"/v1.41/containers/create": answer, "/v1.41/info": (200, {"ok": True})}
    with pytest.raises(EngineUnavailableError, match="does not answer"):
        api.post("/containers/create", {})
    assert server.asked == ["POST /v1.41/containers/create"]
    assert api.get("/info") == {"ok": True}


def test_an_engine_that_is_too_slow_is_given_up_and_the_next_request_is_not_mixed_up(server: Server) -> None:
    def slow(handler: Handler) -> None:
        time.sleep(0.3)
        handler.send(200, {"late": True})

    server.answers |= {"/v1.41/slow": slow, "/v1.41/info": (200, {"ok": True})}
    api = EngineApi(f"unix://{server.path}", timeout=0.1)
    api.get("/info")
    with pytest.raises(EngineUnavailableError, match=r"POST /v1\.41/slow: no answer after 0\.1 s"):
        api.post("/slow")
    assert api.get("/info") == {"ok": True}
    assert api.post("/slow", timeout=2) == {"late": True}


def test_an_engine_that_is_down(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"unix:///.*absent\.sock does not answer .*No such file"):
        EngineApi(f"unix://{tmp_path}/absent.sock").get("/info")
    Server(tmp_path / "dead.sock").server_close()
    with pytest.raises(EngineUnavailableError, match="Connection refused"):
        EngineApi(f"unix://{tmp_path}/dead.sock").get("/info")


@pytest.mark.parametrize("value", ["", "tcp://127.0.0.1:2375", "unix://", "unix://run/docker.sock", "/run/docker.sock"])
def test_only_a_unix_socket_is_an_engine(value: str) -> None:
    with pytest.raises(InvalidValueError, match=r"^docker_host: "):
        EngineApi(value)
