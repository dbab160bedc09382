"""The Docker Engine's HTTP interface on its Unix socket, for what is JSON both ways.

Plain http.client is enough for those and costs no import of the SDK, which takes a quarter of a second
and is needed only where streams and registries' credentials are handled (see images/).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from ..errors import EngineError, EngineUnavailableError, InvalidValueError

# The newest interface version whose fields this core was written against; an older engine's own is used.
_NEWEST_KNOWN = (1, 44)
_DOCKER_HOST_ALLOWED = "unix:// and the absolute path of the engine's socket"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class JsonStream:
    """An answer that goes on for as long as both sides want."""

    def __init__(self, connection: _UnixConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response

    def __iter__(self) -> Iterator[Any]:
        """Yield each value; ends with the connection. Raises EngineUnavailableError where it breaks off inside one."""
        try:
            while line := self._response.readline():
                if line.strip():
                    yield json.loads(line)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise EngineUnavailableError(f"the engine broke off inside an answer: {error}") from error
        finally:
            self._connection.close()

    def close(self) -> None:
        """End it, from any thread: whoever waits for the next value gets the end."""
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class EngineApi:
    """Requests to one engine, each thread over a connection of its own. `timeout` is in seconds."""

    def __init__(self, docker_host: str, timeout: float = 60.0) -> None:
        scheme, _, path = docker_host.partition("://")
        if scheme != "unix" or not path.startswith("/"):
            raise InvalidValueError("docker_host", docker_host, _DOCKER_HOST_ALLOWED)
        self.docker_host = docker_host
        self.timeout = timeout
        self._path = path
        self._local = threading.local()
        self._prefix: str | None = None

    def get(self, path: str, query: Mapping[str, object] | None = None, *, missing_ok: bool = False) -> Any:
        """Read; with missing_ok an answer of 404 is None."""
        return self._request("GET", path, query, missing_ok=missing_ok)

    def post(
        self,
        path: str,
        body: object = None,
        query: Mapping[str, object] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Act. `timeout`, in seconds, may exceed the usual one where the engine is asked to wait."""
        return self._request("POST", path, query, body, headers=headers, timeout=timeout)

    def delete(self, path: str, query: Mapping[str, object] | None = None, *, missing_ok: bool = False) -> None:
        """Remove; with missing_ok what is not there is no error."""
        self._request("DELETE", path, query, missing_ok=missing_ok)

    def text(self, path: str, query: Mapping[str, object]) -> bytes:
        """Read an answer that is not JSON."""
        status, payload = self._exchange("GET", self._target(path, query), None, {}, self.timeout)
        if status >= 400:
            raise _failure("GET", path, status, payload)
        return payload

    def stream(self, path: str, query: Mapping[str, object]) -> JsonStream:
        """Read an answer that goes on: JSON values, one a line. It is open, or an error was raised, on return."""
        target = self._target(path, query)
        connection = _UnixConnection(self._path, self.timeout)
        try:
            connection.request("GET", target)
            response = connection.getresponse()
            refusal = response.read() if response.status >= 400 else None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise EngineUnavailableError(self._unavailable(error)) from error
        if refusal is not None:
            connection.close()
            raise _failure("GET", path, response.status, refusal)
        connection.sock.settimeout(None)
        return JsonStream(connection, response)

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: object = None,
        *,
        missing_ok: bool = False,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        payload = None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        status, answer = self._exchange(method, self._target(path, query), payload, sent, timeout or self.timeout)
        if status == 404 and missing_ok:
            return None
        if status >= 400:
            raise _failure(method, path, status, answer)
        try:
            return _decode(answer)
        except ValueError as error:
            raise EngineError(f"{method} {path}: the engine's answer is not JSON", status) from error

    def _target(self, path: str, query: Mapping[str, object] | None) -> str:
        if self._prefix is None:
            self._prefix = self._negotiate()
        values = {
            key: json.dumps(value) if isinstance(value, dict | bool) else value for key, value in (query or {}).items()
        }
        return self._prefix + quote(path) + (f"?{urlencode(values)}" if values else "")

    def _negotiate(self) -> str:
        status, answer = self._exchange("GET", "/version", None, {}, self.timeout)
        if status >= 400:
            raise _failure("GET", "/version", status, answer)
        try:
            major, minor = (int(part) for part in json.loads(answer)["ApiVersion"].split("."))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EngineError(f"docker_host: what answers at {self.docker_host} is no container engine") from error
        return "/v{}.{}".format(*min((major, minor), _NEWEST_KNOWN))

    def _exchange(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> tuple[int, bytes]:
        """Send one request and read the whole answer; a connection that the engine closed is renewed once."""
        for fresh in (False, True):
            connection = self._connection(fresh, timeout)
            try:
                connection.request(method, target, body, dict(headers))
                response = connection.getresponse()
                return response.status, response.read()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
                if fresh:
                    raise EngineUnavailableError(self._unavailable(error)) from error
            except TimeoutError as error:
                self._connection(True, timeout)
                raise EngineUnavailableError(f"{method} {target}: no answer after {timeout:g} s") from error
            except (OSError, http.client.HTTPException) as error:
                self._connection(True, timeout)  # half an answer may be left on the old one
                raise EngineUnavailableError(self._unavailable(error)) from error
        raise AssertionError("unreachable: the second pass returns or raises")

    def _connection(self, fresh: bool, timeout: float) -> _UnixConnection:
        connection: _UnixConnection | None = getattr(self._local, "connection", None)
        if connection is None or fresh:
            if connection is not None:
                connection.close()
            connection = _UnixConnection(self._path, timeout)
            self._local.connection = connection
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        return connection

    def _unavailable(self, error: Exception) -> str:
        return (
            f"docker_host: the container engine at {self.docker_host} does not answer ({error}); "
            "is the service 'docker' running?"
        )


def _failure(method: str, path: str, status: int, answer: bytes) -> EngineError:
    try:
        message = str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        message = answer.decode(errors="replace")[:500] or "no reason given"
    return EngineError(f"{method} {path}: {message.strip()}", status)


def _decode(answer: bytes) -> Any:
    """Decode one JSON value, or the stream of them that long actions report their progress by."""
    if not answer.strip():
        return None
    try:
        return json.loads(answer)
    except ValueError:
        return [json.loads(line) for line in answer.splitlines() if line.strip()]
