"""Running programs in an instance through its control socket.

    client = instance_client(Path("/run/bailey"), "ada-web-1")
    done = client.run(["id", "-u"], timeout=10)

A client holds nothing open between calls and may be used by many threads. `run_all` drives many sessions from one
thread with one selector.
"""

from __future__ import annotations

import selectors
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypedDict, Unpack

from ..errors import InvalidValueError
from ..instance_state import OPEN, read_state
from ..names import parse_name
from ..rlimits import KINDS, UNLIMITED, Rlimit
from .errors import GateClosedError, NoSuchInstanceError, ProtocolError, UnreachableError
from .protocol import (
    MAX_EXEC,
    OLDEST,
    VERSION,
    Error,
    ErrorCode,
    Exec,
    Flags,
    FrameReader,
    Message,
    Ping,
    Pong,
    encode,
)
from .protocol import Rlimit as RlimitField
from .session import Completed, Session, Work
from .streams import Sink
from .transport import close_all, open_socket, peer_of, receive

# The kernel's numbers, asm-generic/resource.h; the standard library's module lacks some of them.
_RESOURCES: Mapping[str, int] = {
    "cpu": 0,
    "fsize": 1,
    "data": 2,
    "stack": 3,
    "core": 4,
    "rss": 5,
    "nproc": 6,
    "nofile": 7,
    "memlock": 8,
    "as": 9,
    "locks": 10,
    "sigpending": 11,
    "msgqueue": 12,
    "nice": 13,
    "rtprio": 14,
    "rttime": 15,
}
_INFINITY = (1 << 64) - 1
_PING_SECONDS = 5.0


class CommandOptions(TypedDict, total=False):
    """What may be given along with a program; see Command."""

    environment: Mapping[str, str]
    directory: str | None
    umask: int | None
    rlimits: Mapping[str, Rlimit]
    stdin: bytes | BinaryIO
    timeout: float | None
    kill_on_disconnect: bool
    output_limit: int
    stdout: Sink | None
    stderr: Sink | None


@dataclass(frozen=True)
class Command:
    """A program to be run, beside what the instance itself gives it.

    `environment` comes over the instance's own, `rlimits` go by the names of `ulimits`, `timeout` is in seconds
    and ends the whole session. The session dies with the connection unless `kill_on_disconnect` is off. Of each
    output `output_limit` bytes are kept, where no sink takes it as it comes. Text is written as UTF-8, with
    surrogates standing for bytes that are none.
    """

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str | None = None
    umask: int | None = None
    rlimits: Mapping[str, Rlimit] = field(default_factory=dict)
    stdin: bytes | BinaryIO = b""
    timeout: float | None = None
    kill_on_disconnect: bool = True
    output_limit: int = 64 << 20
    stdout: Sink | None = None
    stderr: Sink | None = None

    def as_work(self) -> Work:
        """Return the session's work. Raises InvalidValueError for what could not be sent."""
        if not self.argv or not self.argv[0]:
            raise InvalidValueError("argv", list(self.argv), "a program and its arguments")
        if self.umask is not None and not 0 <= self.umask <= 0o777:
            raise InvalidValueError("umask", self.umask, "from 0 to 0777")
        if self.timeout is not None and self.timeout <= 0:
            raise InvalidValueError("timeout", self.timeout, "a number of seconds above 0")
        message = Exec(
            tuple(_bytes("argv", word) for word in self.argv),
            tuple(_variable(name, value) for name, value in self.environment.items()),
            directory=None if self.directory is None else _bytes("directory", self.directory),
            umask=self.umask,
            rlimits=tuple(_rlimit(name, limit) for name, limit in self.rlimits.items()),
            flags=Flags.KILL_ON_DISCONNECT if self.kill_on_disconnect else Flags(0),
        )
        try:
            encode(message)
        except ProtocolError:
            raise InvalidValueError("argv", self.argv[0], f"with the environment {MAX_EXEC} bytes at most") from None
        return Work(message, self.stdin, self.timeout, self.output_limit, self.stdout, self.stderr)


def _bytes(name: str, text: str) -> bytes:
    if "\0" in text:
        raise InvalidValueError(name, text, "text without zero bytes")
    return text.encode(errors="surrogateescape")


def _variable(name: str, value: str) -> bytes:
    if not name or "=" in name or "\0" in name:
        raise InvalidValueError("environment", name, "as a name, text without '=' or zero bytes")
    if "\0" in value:  # not shown: it may be a secret
        raise InvalidValueError(f"environment.{name}", "", "text without zero bytes")
    return f"{name}={value}".encode(errors="surrogateescape")


def _rlimit(name: str, limit: Rlimit) -> RlimitField:
    if name not in _RESOURCES:
        raise InvalidValueError("rlimits", name, f"as a name, one of {', '.join(KINDS)}")
    soft, hard = (_INFINITY if value == UNLIMITED else value for value in (limit.soft, limit.hard))
    return RlimitField(_RESOURCES[name], soft, hard)


class Client:
    """One instance's control socket."""

    def __init__(self, path: Path, version: int = VERSION) -> None:
        self.path = path
        self._version = version

    def run(self, argv: Sequence[str], **options: Unpack[CommandOptions]) -> Completed:
        """Run a program and return how it ended.

        Raises WshError where no session could be had or it broke off, CannotExecuteError where the program could
        not be started, InvalidValueError for arguments that are not valid.
        """
        (outcome,) = run_all([(self, Command(argv, **options))])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def session(self, command: Command) -> Session:
        """Return a session to be driven; run() and run_all() drive theirs."""
        return Session(self.path, command.as_work(), self._version)

    def ping(self, timeout: float = _PING_SECONDS, greet: Callable[[int], None] | None = None) -> Pong:
        """Ask wshd for its version and the number of its sessions; `timeout` is in seconds.

        `greet` is called before that with the number that wshd has on this host.
        """
        deadline = time.monotonic() + timeout
        version = self._version
        while True:
            try:
                answer = self._ask(version, deadline, greet)
            except TimeoutError as error:
                raise self.explain(UnreachableError(f"{self.path}: no answer within {timeout:g} s")) from error
            except OSError as error:
                raise self.explain(UnreachableError(f"{self.path}: {error.strerror or 'it hung up'}")) from error
            except UnreachableError as error:
                raise self.explain(error) from error
            if isinstance(answer, Pong):
                return answer
            newest = answer.newest if isinstance(answer, Error) and answer.code is ErrorCode.VERSION else None
            if newest is None or not OLDEST <= newest < version:
                raise ProtocolError(f"{self.path}: a ping was not answered, but by {answer}")
            version = newest

    def _ask(self, version: int, deadline: float, greet: Callable[[int], None] | None) -> Message:
        while (connection := open_socket(self.path)) is None:
            if time.monotonic() >= deadline:
                raise TimeoutError
            time.sleep(0.005)
        reader = FrameReader()
        with connection:
            if greet is not None:
                greet(peer_of(connection))
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            connection.sendall(encode(Ping(), version))
            while True:
                data, descriptors = receive(connection, 1)
                close_all(descriptors)
                for answer in reader.feed(data):
                    return answer.decode(version)
                if not data:
                    raise ConnectionResetError
                connection.settimeout(max(deadline - time.monotonic(), 0.001))

    def explain(self, error: Exception) -> Exception:
        """Return the error to be raised for what a session or a ping met with."""
        return error


class InstanceClient(Client):
    """A client that can tell, by the agent's state files, why an instance does not answer."""

    def __init__(self, run_dir: Path, name: str) -> None:
        super().__init__(control_socket(run_dir, name))
        self._run_dir = run_dir
        self._name = name

    def explain(self, error: Exception) -> Exception:
        """Return the error with the instance's state as its reason, where that is the reason."""
        if not isinstance(error, UnreachableError):
            return error
        state = read_state(self._run_dir, self._name)
        if state is not None and state.status != OPEN:
            return GateClosedError(self._name, state.status, state.reason)
        if state is None and error.missing:
            return NoSuchInstanceError(f"{self._name}: there is no such instance on this host")
        return error


def control_socket(run_dir: Path, name: str) -> Path:
    """Return the path of an instance's control socket."""
    return run_dir / "ctl" / f"{name}.sock"


def instance_client(run_dir: Path, name: str) -> InstanceClient:
    """Return the client of an instance by its name. Raises InvalidValueError where that is no name."""
    return InstanceClient(run_dir, parse_name("name", name))


def run_all(jobs: Sequence[tuple[Client, Command]], at_once: int = 64) -> list[Completed | Exception]:
    """Run programs, `at_once` at a time, and return in order how each ended, or the error that it met with.

    Raises InvalidValueError before anything runs where a command is not valid.
    """
    sessions = [client.session(command) for client, command in jobs]
    drive(sessions, at_once)
    outcomes: list[Completed | Exception] = []
    for (client, _), session in zip(jobs, sessions, strict=True):
        if session.error is not None:
            outcomes.append(client.explain(session.error))
        elif session.result is not None:
            outcomes.append(session.result)
    return outcomes


def drive(sessions: Sequence[Session], at_once: int) -> None:
    """Drive sessions until each is over. An interruption closes them all, and so kills what they run."""
    waiting = deque(sessions)
    active: list[Session] = []
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or active:
                while waiting and len(active) < at_once:
                    active.append(waiting.popleft())
                    active[-1].start(selector)
                _turn(selector, active)
                active = [session for session in active if not session.over]
        finally:
            for session in active:
                session.close()


def _turn(selector: selectors.BaseSelector, active: Sequence[Session]) -> None:
    """Wait for the next event or deadline. Events come first: a session that has just made progress is not late."""
    deadline = min((session.deadline for session in active if not session.over), default=0.0)
    wait = None if deadline == float("inf") else max(deadline - time.monotonic(), 0.0)
    for key, mask in selector.select(wait):
        session, handler = key.data
        session.handle(handler, mask)
    now = time.monotonic()
    for session in active:
        if not session.over and session.deadline <= now:
            session.expire()
