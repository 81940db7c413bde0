"""Workers of a run: started, fed ahead of their answers, watched, and started again when they die.

One thread does it all: messages wait in the sockets' buffers, so that a worker has its next call while
this side judges the last answer.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from conformance.adapters.contract import SHARING, Call, LoweringError
from conformance.execution.workers import loop, wire
from conformance.execution.workers.wire import Head
from conformance.model.errors import UserError
from conformance.model.outcome import Crashed, Outcome, TimedOut

TIMEOUT = 120.0
"""Seconds that a call may take."""
START_TIMEOUT = 300.0
"""Seconds that the start of an interpreter and the import of a framework may take."""
AHEAD = 8
"""Calls that a worker has before it has answered the first of them."""
LINES = 8
"""Last lines of stderr that a crash is told with."""
PRINTED = 1 << 24
"""Bytes of what a worker printed that are kept."""
LOOKED_AT = 64
"""Answers between two looks at how much that is."""
MOMENT = 0.1
"""Seconds that are waited for a process to say its first word, before it is looked at whether it still runs."""
READ = 1 << 20


class WorkerError(UserError):
    """A worker cannot be had: for what, and why."""


@dataclass(frozen=True)
class WorkerSpec:
    """Where a framework runs.

    name: in messages and reports.  interpreter: its Python.  adapter: `module:attribute` of the `Framework`;
    file: of its top-level package, for where that is not installed.  variables: added to the environment.
    """

    name: str
    interpreter: Path
    adapter: str
    file: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What a worker found where it runs: versions of the framework, of Python and of numpy; the backend that runs."""

    version: str
    python: str
    numpy: str
    backend: str = ""


class Future:
    """Stands for an answer that is not there yet."""

    def __init__(self, pieces: Sequence[memoryview], seconds: float) -> None:
        self.pieces = pieces
        self.seconds = seconds
        self.head: Head | None = None
        self.body: bytes | bytearray = b""
        self.ended: Outcome | None = None
        """Why there will be no answer: the worker died of it, or it took too long."""

    @property
    def done(self) -> bool:
        return self.head is not None or self.ended is not None


class WorkerPool:
    """Workers by name; submit calls, then wait for what came of them, in any order."""

    def __init__(self, places: Mapping[str, WorkerSpec], timeout: float = TIMEOUT) -> None:
        self._selector = selectors.DefaultSelector()
        self._timeout = timeout
        self._workers = {name: Worker(place, timeout, self._selector) for name, place in places.items()}
        for worker in self._workers.values():
            worker.ensure()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, place: WorkerSpec) -> None:
        """Start a worker, unless there is one of its name."""
        if place.name not in self._workers:
            self._workers[place.name] = Worker(place, self._timeout, self._selector)

    def facts(self, name: str) -> Facts:
        """What is where a worker runs; raises WorkerError where it cannot start or import the framework."""
        worker = self._workers[name]
        while not worker.started.done and not worker.broken:
            self._step([worker])
        return worker.facts()

    def signatures(self, name: str, paths: Sequence[str]) -> dict[str, Any]:
        """Signatures of what stands at dotted paths; see `serve.signature`."""
        ticket = self._workers[name].submit(wire.message({"do": "signatures", "paths": list(paths)}))
        self.wait_any([(name, ticket)])
        return {} if ticket.head is None else dict(ticket.head["signatures"])

    def submit(self, name: str, call: Call, what: str) -> Future:
        """Have a worker make a call; what: names it in messages."""
        return self._workers[name].submit(wire.call_message(call, what))

    def wait(self, name: str, ticket: Future) -> Outcome:
        """What came of a call; raises LoweringError where it could not be made, and WorkerError where nothing can."""
        self.wait_any([(name, ticket)])
        if ticket.ended is not None:
            return ticket.ended
        if ticket.head is None:
            raise WorkerError(self._workers[name].broken)
        if "harness" in ticket.head:
            raise LoweringError(ticket.head["harness"])
        return wire.outcome_of(ticket.head, wire.arrays_of(ticket.head, ticket.body))

    def done(self, name: str, ticket: Future) -> bool:
        """Whether there is nothing more to wait for."""
        return ticket.done or bool(self._workers[name].broken)

    def wait_any(self, tickets: Sequence[tuple[str, Future]]) -> None:
        """Wait until one of some tickets, each with its worker's name, is done or never will be."""
        workers = [self._workers[name] for name, _ in tickets]
        while not any(self.done(name, ticket) for name, ticket in tickets):
            self._step(workers)

    def close(self) -> None:
        """End every worker, whatever it is doing."""
        for worker in self._workers.values():
            worker.end()
        self._selector.close()

    def _step(self, workers: Sequence[Worker]) -> None:
        """Wait for something to happen, at most until a call of these workers has taken too long."""
        for worker in workers:
            worker.ensure()
        patience = [worker.patience() for worker in workers if not worker.broken]
        for key, mask in self._moved(min(patience, default=0.0)):
            key.data.move(mask)
        for worker in workers:
            worker.check()

    def _moved(self, patience: float) -> list[tuple[selectors.SelectorKey, int]]:
        """What can be read or written; looked for awake at first where one answer is all that is due, as workers do."""
        lone = sum(worker.due for worker in self._workers.values()) == 1
        until = time.monotonic() + (min(loop.AWAKE, patience) if lone else 0.0)
        while not (moved := self._selector.select(0)) and time.monotonic() < until:
            loop.give_way()
        return moved or self._selector.select(patience)


class Worker:
    """One process that makes calls for one framework; see `WorkerPool`."""

    def __init__(self, place: WorkerSpec, timeout: float, selector: selectors.BaseSelector) -> None:
        self.place = place
        self.timeout = timeout
        self.broken = ""
        """Why no call can be made here at all."""
        self._selector = selector
        self._waiting: deque[Future] = deque()
        """Not answered yet, in order; the first `_sent` of them are on their way."""
        self._sent = 0
        self._out: deque[memoryview] = deque()
        self._in = bytearray()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._printed: IO[bytes] | None = None
        self._since = 0.0
        self._answered = 0
        self._spawn()

    # What the crew asks for.

    @property
    def due(self) -> int:
        """How many calls are not answered yet."""
        return len(self._waiting)

    def submit(self, pieces: Sequence[memoryview]) -> Future:
        ticket = Future(pieces, self.timeout)
        self._waiting.append(ticket)
        if self._socket is not None:
            self._feed()
        return ticket

    def facts(self) -> Facts:
        if self.broken:
            raise WorkerError(self.broken)
        assert self.started.head is not None
        return Facts(**self.started.head["ready"])

    def ensure(self) -> None:
        """See that there is a process, and a connection to it, unless none can be had."""
        if self._process is None and not self.broken:
            self._spawn()
        if self._socket is None and not self.broken:
            self._connect()

    def patience(self) -> float:
        """Seconds until the first call in the queue has taken too long."""
        if not self._waiting:
            return 0.0
        return max(0.0, self._since + self._waiting[0].seconds - time.monotonic())

    def check(self) -> None:
        """Give up on the first call in the queue if its time is over."""
        if self._waiting and not self.broken and self.patience() == 0.0:
            self._fail(TimedOut(self._waiting[0].seconds))

    def move(self, mask: int) -> None:
        """Send and receive what can be without waiting."""
        if mask & selectors.EVENT_WRITE:
            self._send()
        if mask & selectors.EVENT_READ:
            self._receive()

    def end(self) -> None:
        """Kill the process."""
        self._disconnect()
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.kill()
            self._process.wait()
            self._process = None
        if self._printed is not None:
            self._printed.close()
            self._printed = None

    # The process

    def _spawn(self) -> None:
        self._door = _Pair() if hasattr(socket, "AF_UNIX") else _Port()
        self._token = secrets.token_bytes(32)
        self._printed = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed with the process
        own = {loop.TOKEN: self._token.hex(), "PYTHONUNBUFFERED": "1"}
        variables = {**SHARING, **os.environ, **self.place.variables, **own}
        command = [str(self.place.interpreter), loop.__file__, self._door.address]
        self.started = Future(
            wire.message({"do": "start", "adapter": self.place.adapter, "file": self.place.file}), START_TIMEOUT
        )
        self._waiting.appendleft(self.started)
        try:
            self._process = subprocess.Popen(  # noqa: S603
                command, env=variables, stdin=subprocess.DEVNULL, stdout=self._printed, stderr=self._printed,
                pass_fds=self._door.inherited,
            )  # fmt: skip
        except OSError as error:
            self._break(f"{self.place.interpreter} cannot be run ({error.strerror})")
        self._door.detach()

    def _connect(self) -> None:
        """Wait for the process to connect; nobody else who does knows the token."""
        deadline = time.monotonic() + START_TIMEOUT
        while not self.broken and time.monotonic() < deadline:
            assert self._process is not None
            connection = self._door.accept()
            if connection is None:
                if self._process.poll() is not None:
                    self._break(f"it could not be started: {self._how()}{_told(self._tail())}")
                continue
            connection.settimeout(5.0)
            with contextlib.suppress(OSError):
                if secrets.compare_digest(_exactly(connection, len(self._token)), self._token):
                    return self._connected(connection)
            connection.close()
        if not self.broken:
            self._break(f"it did not connect within {START_TIMEOUT:g} s{_told(self._tail())}")
        return None

    def _connected(self, connection: socket.socket) -> None:
        self._door.close()
        connection.setblocking(False)
        loop.without_delay(connection)
        self._socket = connection
        self._sent = 0
        self._in.clear()
        self._out.clear()
        self._selector.register(connection, selectors.EVENT_READ, self)
        self._since = time.monotonic()
        self._feed()

    def _disconnect(self) -> None:
        self._door.close()
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None

    # Messages

    def _feed(self) -> None:
        """Put the next calls on their way, up to `AHEAD`."""
        if not self._sent:
            self._since = time.monotonic()
        while self._sent < min(AHEAD, len(self._waiting)):
            self._out.extend(self._waiting[self._sent].pieces)
            self._sent += 1
        self._send()

    def _send(self) -> None:
        assert self._socket is not None
        while self._out:
            try:
                count = self._socket.send(self._out[0])
            except BlockingIOError:
                break
            except OSError:
                self._out.clear()  # it is gone; what it still answered is to be read, and then its end
                break
            if count == len(self._out[0]):
                self._out.popleft()
            else:
                self._out[0] = self._out[0][count:]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
        if self._selector.get_key(self._socket).events != wanted:
            self._selector.modify(self._socket, wanted, self)

    def _receive(self) -> None:
        gone = self._read()
        try:
            while (answer := self._next()) is not None:
                ticket = self._waiting.popleft()
                ticket.head, ticket.body = answer
                self._sent -= 1
                self._since = time.monotonic()
                if ticket is self.started and "failed" in ticket.head:
                    return self._break(f"the framework cannot be imported: {ticket.head['failed']}")
        except wire.WireError as error:
            return self._fail(Crashed(f"was out of step: {error}", "\n".join(self._tail())))
        if gone:
            return self._died()
        self._forget()
        return self._feed()

    def _read(self) -> bool:
        """Take in what has arrived; whether that was the end."""
        assert self._socket is not None
        try:
            while chunk := self._socket.recv(READ):
                self._in += chunk
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def _next(self) -> tuple[Head, bytes | bytearray] | None:
        """(head, body) of the first message that has arrived whole."""
        start = wire.LENGTHS.size
        if len(self._in) < start:
            return None
        head, arrays = wire.lengths(bytes(self._in[:start]))
        if len(self._in) < start + head + arrays:
            return None
        message = bytes(self._in[start : start + head + arrays])
        del self._in[: start + head + arrays]
        return wire.received(_reader(message, head))

    # Ends

    def _died(self) -> None:
        """The connection is gone: the first call in the queue is what the process died of."""
        assert self._process is not None
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._fail(Crashed(self._how(), "\n".join(self._tail())))

    def _fail(self, outcome: Crashed | TimedOut) -> None:
        """End the process, say so of the call that it was at, and leave the others for the next one."""
        told = _told(self._tail())
        self.end()
        if not self._waiting:
            return
        ticket = self._waiting.popleft()
        ticket.ended = outcome
        self._sent = 0
        if ticket is self.started:
            how = f"it {outcome.how}" if isinstance(outcome, Crashed) else f"it took more than {outcome.seconds:g} s"
            self._break(f"the framework cannot be imported: {how}{told}")

    def _break(self, why: str) -> None:
        self.broken = f"{self.place.name}: {why}"
        self.end()

    def _how(self) -> str:
        assert self._process is not None
        status = self._process.wait()
        if status >= 0:
            return f"exited with status {status}"
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"was killed by {name}"

    def _tail(self) -> list[str]:
        """The last lines that the process printed."""
        if self._printed is None or self._printed.closed:
            return []
        size = self._printed.seek(0, os.SEEK_END)
        self._printed.seek(max(0, size - 8192))
        # Addresses are of no use to anybody, and would make two runs of the same thing differ.
        lines = re.sub(r"0x[0-9a-f]{6,}", "0x...", self._printed.read().decode(errors="replace")).splitlines()
        return [line.rstrip() for line in lines if line.strip()][-LINES:]

    def _forget(self) -> None:
        """Keep what a framework prints from filling the disk."""
        self._answered += 1
        if self._answered % LOOKED_AT:
            return
        if self._printed is not None and os.fstat(self._printed.fileno()).st_size > PRINTED:
            self._printed.truncate(0)


class _Pair:
    """The two ends of a line, one of which the process is born with: nothing on disk, and nobody else can come."""

    def __init__(self) -> None:
        self._ours: socket.socket | None
        self._ours, self._theirs = socket.socketpair()
        self.inherited = (self._theirs.fileno(),)
        self.address = f"descriptor:{self._theirs.fileno()}"

    def detach(self) -> None:
        """Close here what the process has now, so that its end is seen."""
        self._theirs.close()

    def accept(self) -> socket.socket | None:
        """The line, once something was said on it or its other end is gone; None: not within a moment."""
        if self._ours is None:
            time.sleep(MOMENT)
            return None
        if not select.select([self._ours], [], [], MOMENT)[0]:
            return None
        found, self._ours = self._ours, None
        return found

    def close(self) -> None:
        """Close what is held here."""
        self._theirs.close()
        if self._ours is not None:
            self._ours.close()


class _Port:
    """A port of this machine, where a process cannot be born with a line; a tenth slower, and anybody may come."""

    inherited = ()

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(MOMENT)
        self.address = f"port:{self._listener.getsockname()[1]}"

    def detach(self) -> None:
        """Nothing: the process has to come."""

    def accept(self) -> socket.socket | None:
        """Who came, whoever that is; None: nobody within a moment."""
        try:
            return self._listener.accept()[0]
        except TimeoutError:
            return None

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (chunk := connection.recv(count - len(data))):
        data += chunk
    return data


def _reader(data: bytes, head: int) -> Any:
    """Reads a message whose lengths were taken off already."""
    parts = iter((wire.LENGTHS.pack(wire.MAGIC, head, len(data) - head), data[:head], data[head:]))
    return lambda _: next(parts)


def _told(lines: Sequence[str]) -> str:
    return f"; it said: {' | '.join(lines[-3:])}" if lines else ""


def here() -> Path:
    """The interpreter that runs this."""
    return Path(sys.executable)
