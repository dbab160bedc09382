"""Asking the agent: holding an instance against its restarts, and waiting for its gate.

Requests are lines of JSON on the agent's socket, which only root reaches. What a connection holds is let go
when it closes, so that a caller that dies holds nothing.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import EnforcementError, HostError
from .instance_state import InstanceState, parse_state

SOCKET_NAME = "agent.sock"
ACTIVE, DRAINING, DRAINED = "active", "draining", "drained"
_DRAIN_PAUSE = 0.2  # seconds
_ANSWER_MAX = 1 << 24  # bytes of one answer's line
# What the agent itself may take for an instance's start or stop that is under way when it is asked to hold it.
_HOLD_SECONDS = 90.0


class AgentUnavailableError(HostError):
    """The agent does not answer, so that no gate would open."""


class GateError(EnforcementError):
    """A container's gate did not open: a limit does not hold, or the container ended before."""


class Held:
    """One instance, held: the agent leaves its container alone until the block ends."""

    def __init__(self, name: str, connection: _Connection) -> None:
        self._name = name
        self._connection = connection

    def expect(self) -> None:
        """Have the agent wait at the instance's gate, for the spec that its file holds now."""
        self._connection.ask("expect", self._name)

    def await_gate(self, container_id: str, timeout: float) -> InstanceState:
        """Wait until a container's gate has opened, `timeout` seconds at most.

        Raises GateError with the agent's reason where it does not open.
        """
        answer = self._connection.ask(
            "await", self._name, {"container": container_id, "timeout": timeout}, timeout + 5, error=GateError
        )
        return parse_state(answer["state"], f"the agent's answer on {self._name}")

    def apply(self) -> None:
        """Have the agent put what is declared now in force for a container that runs, and read all of it back.

        Raises EnforcementError naming what does not hold.
        """
        self._connection.ask("apply", self._name, timeout=_HOLD_SECONDS, error=EnforcementError)

    def forget(self) -> None:
        """Have the agent remove all that it keeps of an instance whose container is gone."""
        self._connection.ask("forget", self._name)


class AgentClient:
    """The agent of one host."""

    def __init__(self, run_dir: Path, timeout: float = 10.0) -> None:
        self.run_dir = run_dir
        self._timeout = timeout

    @contextmanager
    def hold(self, name: str) -> Iterator[Held]:
        """Keep the agent from starting or stopping an instance while the block lasts."""
        with _Connection(self.run_dir / SOCKET_NAME, self._timeout) as connection:
            connection.ask("hold", name, timeout=_HOLD_SECONDS)
            yield Held(name, connection)

    def ask(self, operation: str, timeout: float | None = None) -> dict[str, Any]:
        """Ask for something that concerns the whole host: status, drain or resume."""
        with _Connection(self.run_dir / SOCKET_NAME, self._timeout) as connection:
            return connection.ask(operation, timeout=timeout)

    def network(self, names: Collection[str]) -> dict[str, list[dict[str, Any]]]:
        """Have the agent read back the network of those of the named instances whose gate is open, by their names."""
        with _Connection(self.run_dir / SOCKET_NAME, self._timeout) as connection:
            answer = connection.ask("network", arguments={"names": sorted(names)})
        return dict(answer["instances"])

    def scan(self, names: Collection[str], rules: Mapping[str, Any], timeout: float, *, act: bool) -> dict[str, Any]:
        """Have the agent scan for hostile processes, and wait for `timeout` seconds: findings, and a summary."""
        with _Connection(self.run_dir / SOCKET_NAME, self._timeout) as connection:
            arguments = {"names": sorted(names), "rules": dict(rules), "act": act}
            return connection.ask("scan", arguments=arguments, timeout=timeout)

    def pardon(self, name: str) -> bool:
        """Have an instance go on that a scan's rule has frozen or stopped; say whether one had."""
        with _Connection(self.run_dir / SOCKET_NAME, self._timeout) as connection:
            return bool(connection.ask("pardon", name)["pardoned"])

    def state(self) -> str:
        """Return what the host is: active, draining while tenants still run, or drained."""
        about = self.ask("status")["agent"]
        if not about["draining"]:
            return ACTIVE
        return DRAINING if about["running"] else DRAINED

    def drain(self, timeout: float) -> None:
        """Have every tenant stopped and none started any more; `timeout` bounds, in seconds, the wait for the last."""
        self.ask("drain")
        deadline = time.monotonic() + timeout
        while self.state() != DRAINED:
            if time.monotonic() > deadline:
                left = self.ask("status")["agent"]["running"]
                raise HostError(f"{left} instances have not stopped within {timeout:g} s; the host goes on draining")
            time.sleep(_DRAIN_PAUSE)


class _Connection:
    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._received = b""

    def __enter__(self) -> _Connection:
        self._socket.settimeout(self._timeout)
        try:
            self._socket.connect(str(self._path))
        except OSError as error:
            self._socket.close()
            message = f"the agent does not answer at {self._path} ({error.strerror}): no gate would open; start baileyd"
            raise AgentUnavailableError(message) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(
        self,
        operation: str,
        name: str | None = None,
        arguments: dict[str, object] | None = None,
        timeout: float | None = None,
        error: type[HostError | EnforcementError] = HostError,
    ) -> dict[str, Any]:
        """Send one request and return its answer; the agent's refusal is raised as `error`."""
        request = {"op": operation, **({} if name is None else {"name": name}), **(arguments or {})}
        self._socket.settimeout(self._timeout if timeout is None else timeout)
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(self._line())
        except TimeoutError as failure:
            raise AgentUnavailableError(f"the agent at {self._path} has not answered {operation} in time") from failure
        except (OSError, ValueError) as failure:
            message = f"the agent at {self._path} broke off while it was asked for {operation}: {failure}"
            raise AgentUnavailableError(message) from failure
        if not isinstance(answer, dict) or answer.get("ok") is not True:
            reason = answer.get("reason") if isinstance(answer, dict) else None
            raise error(str(reason or f"the agent at {self._path} gave no reason"))
        return answer

    def _line(self) -> bytes:
        while b"\n" not in self._received:
            chunk = self._socket.recv(65536)
            if not chunk or len(self._received) > _ANSWER_MAX:
                raise ConnectionError("the connection ended before the answer did")
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line
