"""The gate: a container's PID 1 knocks, everything declared is proven in force, and only then it gets its word to go.

Every instance that is not behind an open gate has a boot socket, and all of them are waited on at once. The engine is
not asked on this way: it answers late while it starts containers, and it may be down.

What is left behind when the agent dies at any point of it is one of two: nobody listens on the control socket, then
the gate is closed and wshd knocks again; or wshd listens, then it has opened, whatever was still to be written.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from ..agent_files import AgentFiles
from ..backends.base import Backend
from ..host.files import read_text, write_atomic
from ..instance_state import BACKOFF, EXITED, FAILED, HEALTH_NONE, HEALTH_STARTING, OPEN, REFUSED, WAITING
from ..wsh.errors import ProtocolError
from ..wsh.protocol import Boot, Error, FrameReader, Go, Message, Open, Refuse, encode
from .faults import fault
from .ledger import LOG, Ledger, Record
from .peer import Peer, StrangerError, identified
from .proof import Proof, Prover, open_counter
from .sockets import UNKNOWN, bind_boot, bind_control, credentials, listener_of
from .workers import Workers

KNOCK_SECONDS = 5.0  # for the first frame of who connects
OPEN_SECONDS = 5.0  # for wshd's answer to its word to go
_REFUSAL_SECONDS = 0.5  # for wshd to print why, before it is killed
_UNPROVEN_MAX = 8  # connections of one instance that have not knocked yet
_FRAME_MAX = 4096  # bytes; wshd's frames here are headers alone, or an error's text
CLOSED: Mapping[str, object] = {
    "status": WAITING, "reason": "", "gate_ms": None, "opened_at": None, "pid": None, "health": HEALTH_NONE,
}  # fmt: skip
_PAUSE_SECONDS = 1.0
_QUIET_SECONDS = 60.0  # between two lines of the log that say the same


class CannotStartError(ProtocolError):
    """The gate is open, and there is no program that could be started."""


class Gate:
    """All instances' boot sockets. `opened` is told of each instance whose gate has opened."""

    def __init__(self, ledger: Ledger, prover: Prover, workers: Workers) -> None:
        self.opened: Callable[[Record], None] = lambda _record: None
        self._ledger = ledger
        self._prover = prover
        self._workers = workers
        self._listeners: dict[str, tuple[socket.socket, int]] = {}  # with the host's uid that each is for
        self._knocking: dict[str, set[asyncio.Task[None]]] = {}
        self._said: dict[str, tuple[str, float]] = {}

    @property
    def _files(self) -> AgentFiles:
        return self._prover.host.files

    @property
    def _backend(self) -> Backend:
        return self._prover.host.backend

    def close(self) -> None:
        """Let go of everything; whoever knocks tries again until an agent is there."""
        for name in list(self._listeners):
            self._drop_listener(name)
        for tasks in self._knocking.values():
            for task in tasks:
                task.cancel()

    # Boot sockets.

    def arm(self, record: Record) -> None:
        """Have an instance's boot socket there, unless its gate has opened. Raises OSError where that cannot be."""
        if record.declared is None:
            return
        uid = record.declared.host_uid
        path = self._files.boot_socket(record.name)
        held = self._listeners.get(record.name)
        if held is not None and held[1] == uid and _is_at(held[0], path):
            return
        self._drop_listener(record.name)
        self._files.make_boot_directory(record.name)
        listener = bind_boot(path, uid)
        self._listeners[record.name] = (listener, uid)
        asyncio.get_running_loop().add_reader(listener, self._on_connection, record.name, listener)

    def disarm(self, name: str) -> None:
        """Take an instance's boot socket away."""
        self._drop_listener(name)
        self._files.boot_socket(name).unlink(missing_ok=True)

    def _drop_listener(self, name: str) -> None:
        held = self._listeners.pop(name, None)
        if held is not None:
            asyncio.get_running_loop().remove_reader(held[0])
            held[0].close()

    def passed(self, name: str) -> int | None:
        """Return the pid of the wshd that is past its gate, UNKNOWN where it is too busy to say, None where none is."""
        return listener_of(self._files.control_socket(name))

    # Knocking.

    def _on_connection(self, name: str, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # it has gone again
            return
        except OSError as error:
            self._pause(name, listener, error)
            return
        accepted = time.monotonic()
        connection.setblocking(False)
        tasks = self._knocking.setdefault(name, set())
        if len(tasks) >= _UNPROVEN_MAX:
            connection.close()
            return
        task = asyncio.get_running_loop().create_task(self._receive(name, connection, accepted))
        tasks.add(task)
        task.add_done_callback(lambda done: self._forget(name, done))

    def _pause(self, name: str, listener: socket.socket, error: OSError) -> None:
        """Wait with a socket that cannot be served, for want of descriptors say, rather than turn in circles."""
        self._say(name, f"its boot socket cannot be served: {error}")
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)

        def go_on() -> None:
            if self._listeners.get(name, (None,))[0] is listener:
                loop.add_reader(listener, self._on_connection, name, listener)

        loop.call_later(_PAUSE_SECONDS, go_on)

    def _forget(self, name: str, task: asyncio.Task[None]) -> None:
        tasks = self._knocking.get(name, set())
        tasks.discard(task)
        if not tasks:
            self._knocking.pop(name, None)

    async def _receive(self, name: str, connection: socket.socket, accepted: float) -> None:
        """Serve one connection. Whatever it does costs itself alone."""
        try:
            with connection:
                fault("knocked")
                await _expect(connection, Boot, KNOCK_SECONDS)
                await self._knock(name, connection, accepted)
        except (StrangerError, ProtocolError, OSError, TimeoutError) as error:
            self._say(name, f"a connection to its boot socket was closed: {error or 'nothing came in time'}")
        except Exception:
            LOG.exception("%s: its gate stays closed", name)

    def _say(self, name: str, text: str) -> None:
        """Log what may come again and again, once a while."""
        now = time.monotonic()
        said, at = self._said.get(name, ("", 0.0))
        if said != text or now - at > _QUIET_SECONDS:
            self._said[name] = (text, now)
            LOG.warning("%s: %s", name, text)

    async def _knock(self, name: str, connection: socket.socket, accepted: float) -> None:
        record = self._ledger.get(name)
        if record is None:
            return
        async with record.gate:
            with identified(credentials(connection).pid) as peer:
                fault("identified")
                proof = await self._workers.kernel(self._prover.prove, name, peer)
                self._ledger.reload(record)
                if proof.reason or not peer.alive:
                    await self._refuse(record, connection, peer, proof.reason)
                else:
                    fault("proven")
                    await self._admit(record, connection, peer, proof, accepted)

    # Both answers.

    async def _admit(
        self, record: Record, connection: socket.socket, peer: Peer, proof: Proof, accepted: float
    ) -> None:
        files, name = self._files, record.name
        with bind_control(files.control_socket(name)) as control:
            fault("bound")
            self._describe(name)
            fault("described")
            counter = open_counter(proof.oom_counter)
            try:
                descriptors = [control.fileno()] if counter is None else [control.fileno(), counter]
                _send(connection, Go(), descriptors)
            finally:
                if counter is not None:
                    os.close(counter)
        gate_ms = round((time.monotonic() - accepted) * 1000, 3)
        fault("sent")
        try:
            await self._await_open(record, connection, peer)
        except CannotStartError as error:
            await self._close_again(record, peer, f"its program cannot be started: {error}")
            return
        fault("opened")
        self.disarm(name)
        fault("unbound")
        record.spec = proof.spec
        record.container, record.running = peer.container, True
        self.publish_open(record, peer, gate_ms=gate_ms, opened_at=time.time())
        fault("written")
        self.opened(record)

    def publish_open(
        self, record: Record, peer: Peer, gate_ms: float | None, opened_at: float, reason: str = ""
    ) -> None:
        """Say that an instance is behind its limits, and runs."""
        record.opened_at = opened_at
        checked = record.spec is not None and record.spec.healthcheck is not None
        health = HEALTH_STARTING if checked else HEALTH_NONE
        if record.is_open and record.state.pid == peer.pid and record.state.health != HEALTH_NONE:
            health = record.state.health
        self._ledger.publish(
            record,
            container=peer.container,
            status=OPEN,
            reason=reason,
            gate_ms=gate_ms,
            opened_at=opened_at,
            pid=peer.pid,
            health=health,
        )

    async def _await_open(self, record: Record, connection: socket.socket, peer: Peer) -> None:
        """Wait until wshd listens. Its word to go cannot be taken back: where it is frozen, it is waited for."""
        try:
            await _expect(connection, Open, OPEN_SECONDS)
        except CannotStartError:
            raise
        except (ProtocolError, OSError, TimeoutError) as error:
            while self.passed(record.name) is None:
                if not peer.alive:
                    raise
                self._say(record.name, f"its first process has its word to go and does not listen yet: {error}")
                await asyncio.sleep(OPEN_SECONDS / 10)

    async def _refuse(self, record: Record, connection: socket.socket, peer: Peer, reason: str) -> None:
        """Say why, write it down, and end the container without asking the engine."""
        if not peer.alive:
            raise StrangerError(f"process {peer.pid} has ended")
        fault("refusing")
        try:
            _send(connection, Refuse(reason))
        except OSError as error:  # it will be killed all the same
            self._say(record.name, f"its refusal could not be sent: {error}")
        fault("refused")
        await self._close_again(record, peer, reason)

    async def _close_again(self, record: Record, peer: Peer, reason: str) -> None:
        record.container, record.running = peer.container, True
        self._ledger.publish(record, **{**CLOSED, "container": peer.container, "status": REFUSED, "reason": reason})
        fault("told")
        await self._workers.kernel(peer.kill, _REFUSAL_SECONDS)
        fault("killed")

    def _describe(self, name: str) -> None:
        """Tell wsh how to reach the engine's own client, for what only the engine does."""
        path = self._files.exec_file(name)
        content = "\0".join(self._backend.client())
        if read_text(path) != content:
            write_atomic(path, content.encode(), mode=0o600)

    # After a start of the agent, and while instances come and go.

    async def settle(self, record: Record) -> bool:
        """Find out on which side of its gate a running instance is; say whether it is past it.

        Who is past it is proven again: what no longer holds is said, but nobody is thrown out who was let in.
        """
        if record.gate.locked():
            return False  # it is being served right now
        pid = self.passed(record.name)
        if pid is None:
            self.arm(record)
            if record.is_open or (record.running and record.state.status in (EXITED, BACKOFF, FAILED)):
                self._ledger.publish(record, **CLOSED)
            return False
        self.disarm(record.name)
        former = record.state
        with self._who(record, pid) as peer:
            self._describe(record.name)
            proof = await self._workers.kernel(self._prover.prove, record.name, peer)
            same = former.container == peer.container and former.opened_at is not None
            record.container, record.running = peer.container, True
            self.publish_open(
                record,
                peer,
                gate_ms=former.gate_ms if same else None,
                opened_at=former.opened_at if same and former.opened_at else time.time(),
                reason=proof.reason,
            )
        self.opened(record)
        return True

    def standing(self, record: Record) -> AbstractContextManager[Peer] | None:
        """Return who is past an instance's gate, None where nobody is."""
        pid = self.passed(record.name)
        return None if pid is None else self._who(record, pid)

    @staticmethod
    def _who(record: Record, pid: int) -> AbstractContextManager[Peer]:
        return identified(record.state.pid or 0 if pid == UNKNOWN else pid)

    async def apply(self, record: Record) -> str:
        """Put what is declared now in force for an instance past its gate, and return what does not hold."""
        found = self.standing(record)
        if found is None:
            return "it does not run behind an open gate"
        with found as peer:
            proof = await self._workers.kernel(self._prover.prove, record.name, peer)
        self._ledger.reload(record)
        record.spec = proof.spec or record.spec
        self._ledger.publish(record, reason=proof.reason)
        return proof.reason


async def _expect(connection: socket.socket, wanted: type[Message], seconds: float) -> None:
    """Receive exactly one frame of a kind, and nothing beside it."""
    reader = FrameReader()
    async with asyncio.timeout(seconds):
        while True:
            data = await asyncio.get_running_loop().sock_recv(connection, _FRAME_MAX)
            if not data:
                raise ProtocolError("it was closed from the other side")
            frames = reader.feed(data)
            if frames:
                break
    message = frames[0].decode()
    if wanted is Open and isinstance(message, Error):
        raise CannotStartError(message.text)
    if not isinstance(message, wanted) or len(frames) > 1 or reader.partial:
        raise ProtocolError(f"{frames[0].kind.name} is not what is expected there")


def _send(connection: socket.socket, message: Message, descriptors: list[int] | None = None) -> None:
    """Send a frame whole: a peer that does not take these few bytes at once takes none."""
    frame = encode(message)
    if socket.send_fds(connection, [frame], descriptors or []) != len(frame):
        raise ProtocolError("it does not take its answer")


def _is_at(listener: socket.socket, path: Path) -> bool:
    """Say whether a path still leads to a socket: somebody may have removed it."""
    return listener.fileno() >= 0 and path.is_socket()
