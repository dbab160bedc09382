"""The agent's socket: lines of JSON from root, each answered by one. What a connection holds ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from ..agent_files import AgentFiles
from ..errors import BaileyError, HostError, InvalidValueError
from ..instance_state import REFUSED, InstanceState, LastExit
from ..names import parse_name
from .ledger import LOG, Ledger, Record
from .policy import DRAINED
from .proof import drain_flag
from .scan import Order, Outcome
from .sockets import credentials
from .supervisor import Supervisor

_LINE_MAX = 65_536
_AHEAD = 16  # requests that are read before the first of them is answered
_LAST_ANSWERS = 1.0  # seconds
_TIMEOUT_MAX = 3600.0
_CONNECTIONS_MAX = 512

Answer = dict[str, Any]


class Session:
    """One connection: its requests in order, its holds until it ends."""

    def __init__(
        self,
        ledger: Ledger,
        supervisor: Supervisor,
        files: AgentFiles,
        about: Callable[[], Answer],
        read_network: Callable[[Collection[str]], Awaitable[Answer]],
        scan: Callable[[Order], Awaitable[Outcome]],
    ) -> None:
        self._ledger = ledger
        self._supervisor = supervisor
        self._files = files
        self._about = about
        self._read_network = read_network
        self._scan_now = scan
        self._held: list[Record] = []
        self._named: Record | None = None

    async def answer(self, line: bytes) -> Answer:
        """Carry out one request. Nothing that is asked for ends the session but its own end."""
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise InvalidValueError("request", type(request).__name__, "an object")
            return {"ok": True, **await self._operation(request.get("op"))(request)}
        except ValueError:
            return {"ok": False, "reason": "a request is a line of JSON"}
        except (BaileyError, OSError) as error:
            return {"ok": False, "reason": str(error)}
        finally:
            self._forget_nobody()

    def close(self) -> None:
        """Let go of what it holds."""
        for record in self._held:
            self._supervisor.release(record)
        self._held.clear()

    def _operation(self, name: object) -> Callable[[Answer], Awaitable[Answer]]:
        operations = {
            "hold": self._hold,
            "expect": self._expect,
            "await": self._await,
            "apply": self._apply,
            "forget": self._forget,
            "drain": self._drain,
            "resume": self._resume,
            "status": self._status,
            "network": self._network,
            "scan": self._scan,
            "pardon": self._pardon,
        }
        if not isinstance(name, str) or name not in operations:
            raise InvalidValueError("op", name, f"one of {', '.join(operations)}")
        return operations[name]

    def _record(self, request: Answer) -> Record:
        self._named = self._ledger.record(parse_name("name", request.get("name")))
        return self._named

    def _forget_nobody(self) -> None:
        """Keep no record of a name that was asked for and that nothing is declared under."""
        record, self._named = self._named, None
        if record is not None and record.declared is None and not record.problem and not record.holds:
            self._ledger.drop(record)

    async def _hold(self, request: Answer) -> Answer:
        record = self._record(request)
        await self._supervisor.hold(record)
        self._held.append(record)
        return {}

    async def _expect(self, request: Answer) -> Answer:
        if self._supervisor.draining:
            raise HostError(DRAINED)
        record = self._record(request)
        self._supervisor.expect(record)
        if record.problem or record.declared is None:
            raise HostError(record.problem or f"nothing is declared under the name {record.name}")
        return {}

    async def _await(self, request: Answer) -> Answer:
        record, container = self._record(request), request.get("container")
        timeout = request.get("timeout")
        if not isinstance(container, str) or not container:
            raise InvalidValueError("container", container, "a container's id")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout <= _TIMEOUT_MAX:
            raise InvalidValueError("timeout", timeout, f"from 0 to {_TIMEOUT_MAX:g} seconds")
        try:
            async with asyncio.timeout(timeout):
                while (state := gate_of(record, container)) is None:
                    await record.changed()
        except TimeoutError:
            raise HostError(f"its gate did not open within {timeout:g} s") from None
        return {"state": state.as_json()}

    async def _apply(self, request: Answer) -> Answer:
        reason = await self._supervisor.apply(self._record(request))
        if reason:
            raise HostError(reason)
        return {}

    async def _forget(self, request: Answer) -> Answer:
        record = self._record(request)
        self._supervisor.forget(record)
        self._files.forget(record.name)
        return {}

    async def _drain(self, _request: Answer) -> Answer:
        stopping = await self._supervisor.drain(drain_flag(self._files.state_dir))
        LOG.warning("the host is drained: %d instances are stopped", stopping)
        return {"stopping": stopping}

    async def _resume(self, _request: Answer) -> Answer:
        await self._supervisor.resume(drain_flag(self._files.state_dir))
        LOG.info("the host takes instances again")
        return {}

    async def _status(self, _request: Answer) -> Answer:
        return {"agent": self._about()}

    async def _network(self, request: Answer) -> Answer:
        return {"instances": await self._read_network(_names(request))}

    async def _scan(self, request: Answer) -> Answer:
        rules, act = request.get("rules"), request.get("act")
        if not isinstance(rules, dict):
            raise InvalidValueError("rules", rules, "a mapping of rules")
        if not isinstance(act, bool):
            raise InvalidValueError("act", act, "true or false")
        names = [parse_name(f"names[{at}]", name) for at, name in enumerate(_names(request))]
        return (await self._scan_now(Order(names, rules, act))).as_json()

    async def _pardon(self, request: Answer) -> Answer:
        return {"pardoned": self._supervisor.pardon(self._record(request))}


def _names(request: Answer) -> list[str]:
    names = request.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidValueError("names", names, "a list of instances' names")
    return names


def gate_of(record: Record, container: str) -> InstanceState | None:
    """Return the state in which a container's gate opened, None while it stands at it.

    Raises HostError where it will not open. That a program has ended since is no fault of its gate.
    """
    state = record.state
    if state.is_open(container):
        return state
    if container in record.opened:
        return record.opened[container]
    if state.status == REFUSED and state.container == container:
        raise HostError(state.reason)
    if container in record.ends:
        raise HostError(f"it ended before its gate opened: {describe(record.ends[container])}")
    return None


def describe(last: LastExit) -> str:
    """Return how a program ended, for a reader."""
    return f"exit code {last.code}" if last.signal is None else f"signal {last.signal}"


class Api:
    """The socket, and the sessions on it."""

    def __init__(self, make_session: Callable[[], Session]) -> None:
        self._make_session = make_session
        self._server: asyncio.AbstractServer | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, listener: socket.socket) -> None:
        """Begin to answer on a listening socket."""
        self._server = await asyncio.start_unix_server(self._on_connection, sock=listener, limit=_LINE_MAX)

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a server's callback runs as one
        self._open.add(task)
        try:
            peer = credentials(writer.get_extra_info("socket"))
            if peer.uid == 0 and len(self._open) <= _CONNECTIONS_MAX:
                await self._talk(reader, writer)
            else:
                LOG.warning("a connection of uid %d to the agent's socket was closed", peer.uid)
        except OSError:
            return  # it went away
        finally:
            self._open.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer in order while reading ahead, so that a caller that goes away in the middle of it is noticed."""
        session = self._make_session()
        lines: asyncio.Queue[bytes] = asyncio.Queue(_AHEAD)
        answering = asyncio.ensure_future(self._answer(session, lines, writer))
        try:
            while line := await reader.readline():
                await lines.put(line)
            with contextlib.suppress(TimeoutError):  # who only has no more to ask still gets its answers
                await asyncio.wait_for(lines.join(), _LAST_ANSWERS)
        except ValueError:
            writer.write(_encode({"ok": False, "reason": f"a request has at most {_LINE_MAX} bytes"}))
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            session.close()

    @staticmethod
    async def _answer(session: Session, lines: asyncio.Queue[bytes], writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(_encode(await session.answer(await lines.get())))
            await writer.drain()
            lines.task_done()


def _encode(answer: Answer) -> bytes:
    return json.dumps(answer).encode() + b"\n"
