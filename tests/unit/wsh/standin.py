"""A stand-in for wshd on a real socket: it runs real programs, and a test may have it do anything else instead."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bailey.wsh.client import Client
from bailey.wsh.protocol import (
    VERSION,
    Ended,
    Error,
    ErrorCode,
    Exec,
    Exited,
    Flags,
    FrameReader,
    Message,
    Ping,
    Pong,
    Signal,
    Started,
    encode,
)
from bailey.wsh.session import Completed

Handler = Callable[["Peer"], None]


@dataclass
class Peer:
    """One client's connection."""

    socket: socket.socket
    version: int = VERSION
    reader: FrameReader = field(default_factory=FrameReader)

    def receive(self) -> Message | None:
        """Return the next message, or None at the end."""
        while True:
            try:
                data = self.socket.recv(65536)
            except OSError:
                return None
            for frame in self.reader.feed(data):
                self.version = frame.version
                return frame.decode(frame.version)
            if not data:
                return None

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        self.send_raw(encode(message, self.version), descriptors)

    def send_raw(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self.socket, [data], descriptors)


def run_session(peer: Peer) -> None:
    """What wshd does, without any of its care."""
    message = peer.receive()
    if isinstance(message, Ping):
        peer.send(Pong("stand-in", 0))
    if not isinstance(message, Exec):
        return
    try:
        process = start(message)
    except OSError as error:
        peer.send(Error(ErrorCode.CANNOT_EXECUTE, message.argv[0].decode(), errno=error.errno))
        return
    streams = [stream for stream in (process.stdin, process.stdout, process.stderr) if stream is not None]
    peer.send(Started(process.pid), [stream.fileno() for stream in streams])
    for stream in streams:
        stream.close()
    watcher = threading.Thread(target=_watch, args=(peer, message, process))
    watcher.start()
    process.wait()
    code = process.returncode
    peer.send(Exited(Ended.CODE, code) if code >= 0 else Exited(Ended.SIGNAL, -code))
    with contextlib.suppress(OSError):
        peer.socket.shutdown(socket.SHUT_RDWR)
    watcher.join()


def start(message: Exec) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        message.argv,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environb, **dict(word.split(b"=", 1) for word in message.environment)},
        cwd=message.directory,
        umask=-1 if message.umask is None else message.umask,
        start_new_session=True,
    )


def _watch(peer: Peer, message: Exec, process: subprocess.Popen[bytes]) -> None:
    while (asked := peer.receive()) is not None:
        if isinstance(asked, Signal):
            os.killpg(process.pid, asked.number)
    if message.flags & Flags.KILL_ON_DISCONNECT and process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@dataclass
class StandIn:
    """The server: each connection is handled by a thread, and what these raised is raised by the test."""

    path: Path
    handler: Handler
    failures: list[BaseException] = field(default_factory=list)
    connections: int = 0

    def serve(self, listener: socket.socket) -> None:
        threads: list[threading.Thread] = []
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                break
            self.connections += 1
            threads.append(threading.Thread(target=self._handle, args=(accepted,)))
            threads[-1].start()
        for thread in threads:
            thread.join(30)

    def _handle(self, accepted: socket.socket) -> None:
        with accepted:
            try:
                self.handler(Peer(accepted))
            except BaseException as error:
                self.failures.append(error)


@contextlib.contextmanager
def serving(path: Path, handler: Handler = run_session, backlog: int = 128) -> Iterator[StandIn]:
    server = StandIn(path, handler)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(backlog)
        thread = threading.Thread(target=server.serve, args=(listener,))
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            path.unlink()
    assert server.failures == []


def sh(client: Client, script: str, **options: object) -> Completed:
    """Run a shell script by a client."""
    return client.run(["sh", "-c", script], **options)  # type: ignore[arg-type] # by name


def open_descriptors() -> int:
    """Count this process's descriptors, those of forgotten objects aside."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))
