"""Pool of worker processes: starts them, sends calls before earlier ones are answered, and restarts processes that die.

One thread serves all local workers: further calls are in the buffers of the sockets, so that a worker continues while
this process judges its last answer.  With a thread per worker, each answer would have to wait for Python's lock.

Messages use a separate socket, because frameworks and their child processes print to stdout, also from C.  A call
that kills its worker is not repeated: the crash is its outcome.  Later calls are repeated in the next worker.
"""

from __future__ import annotations

import abc
import contextlib
import itertools
import logging
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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from conformance.adapters.contract import LoweringError
from conformance.adapters.contract.calling import SHARING
from conformance.adapters.contract.lowering import Call
from conformance.execution.workers import loop, wire
from conformance.execution.workers.wire import Message, Request, Versions, WireError
from conformance.model.errors import UserError
from conformance.model.outcome import Crashed, Outcome, TimedOut
from conformance.model.row_key import CPU
from conformance.model.text import loggable, truncate

if TYPE_CHECKING:
    from typing import Self

TIMEOUT = 120.0
"""Seconds that a call may take."""
IMPORT_TIMEOUT = 1800.0
"""Seconds that the start of an interpreter and the import of a framework may take: minutes on a busy machine."""
NOTICE_SECONDS = 30.0
"""Seconds between two notices about a slow import."""
_log = logging.getLogger(__name__)
MAX_IN_FLIGHT = 8
"""Maximum number of calls that a worker has received and not answered."""
OUTPUT_LINES, OUTPUT_CHARACTERS = 8, 300
"""Number of last lines of a worker's output in the message about a crash, and of characters of each."""
MAX_OUTPUT = 1 << 24
"""Size in bytes at which a worker's output is truncated."""
CHECK_INTERVAL = 64
"""Number of answers between two checks of that size."""
POLL_SECONDS = 0.1
"""Seconds between two checks whether a process that has not connected yet is still running."""
ALIVE_SECONDS = 1.0
"""Seconds without an answer after which the process is polled, because its children may keep the connection open."""
READ_BYTES = 1 << 20
NO_REQUEST = -1
"""A number that no message has."""


class WorkerError(UserError):
    """A worker cannot be started, or cannot make calls; the message has its name and the reason."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds after which a worker is abandoned."""

    call: float = TIMEOUT
    start: float = IMPORT_TIMEOUT
    """Seconds for the start of an interpreter and the import of a framework."""


DEFAULT_TIMEOUTS = Timeouts()


@dataclass(frozen=True)
class WorkerSpec:
    """The specification of a worker."""

    name: str
    """Name in messages and reports."""
    adapter: str
    """`module:attribute` of the `Framework`."""
    file: str = ""
    """File of the adapter's top-level package, if it is not installed in the worker's environment."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables to add."""
    interpreter: Path = Path(sys.executable)
    """The worker's Python."""
    device: str = CPU
    """A device that the framework must have on the worker's machine."""


@dataclass(eq=False)
class Future:
    """The pending answer to a request."""

    worker: Worker
    request: Request
    seconds: float
    """Timeout of the request."""
    message: Message | None = None
    """The message with the answer."""
    answer: Any = None
    """The content of the answer, see `Request.decode_answer`."""
    ended: Outcome | None = None
    """The outcome if there is no answer: the call killed the worker, or took too long."""

    @property
    def done(self) -> bool:
        """Whether the answer has arrived or can no longer arrive."""
        return self.message is not None or self.ended is not None or bool(self.worker.broken)

    def accept(self, message: Message) -> None:
        """Accept the answer.  Raises WireError if it is malformed, or the answer to another request."""
        self.answer = self.request.decode_answer(message)
        self.message = message


class Worker(abc.ABC):
    """Makes calls of one framework in another process, in the order of submission.

    If the process dies, the call in progress ends; the calls after it are made in the next process.
    """

    def __init__(self, spec: WorkerSpec, timeouts: Timeouts) -> None:
        self.spec = spec
        self.timeouts = timeouts
        self.broken = ""
        """Why the worker cannot make calls; "" if it can."""
        self._numbers = itertools.count(1)
        """Numbers of its requests, including those to its earlier processes."""
        self.started = self._start_future()
        """The import of the framework."""
        self._waiting: deque[Future] = deque()
        """Unanswered calls, in order."""
        self._waiting_since = 0.0
        """Time of the last answer, or of the submission of the first of these calls."""

    @property
    def unanswered(self) -> int:
        """Number of unanswered calls."""
        return len(self._waiting)

    def submit(self, request: Request, ended: Outcome | None = None) -> Future:
        """Send a request, when earlier ones allow, and return its future answer.

        ended: the outcome of a call that is not to be made.
        """
        future = self._future(request, self.timeouts.call)
        if ended is not None:
            future.ended = ended
            return future
        if not self._waiting:
            self._waiting_since = time.monotonic()
        self._waiting.append(future)
        self._send_pending()
        return future

    def withdraw(self, future: Future, outcome: Outcome) -> None:
        """End a call with an outcome, unless the process was sent it."""
        if future in itertools.islice(self._waiting, self.in_flight, None):
            self._waiting.remove(future)
            future.ended = outcome

    def versions(self) -> Versions:
        """The versions in the environment of a started worker.  Raises WorkerError if it could not start."""
        if self.broken:
            raise WorkerError(self.broken)
        versions: Versions = self.started.answer
        return versions

    def printed(self) -> list[str]:
        """The last lines of the process's output."""
        return []

    def _start_future(self) -> Future:
        request = wire.start_request(self.spec.adapter, self.spec.file, self.spec.device)
        return self._future(request, self.timeouts.start)

    def _future(self, request: Request, seconds: float) -> Future:
        request.assign(next(self._numbers))
        return Future(self, request, seconds)

    def _break(self, why: str) -> None:
        """Mark the worker as broken, permanently."""
        self.broken = f"{self.spec.name}: {why}"
        self.end()

    @property
    @abc.abstractmethod
    def in_flight(self) -> int:
        """Number of unanswered calls that the process was sent."""

    @abc.abstractmethod
    def ensure_started(self) -> None:
        """Start a process if there is none and one is needed, unless the worker is broken."""

    @abc.abstractmethod
    def enforce_timeout(self) -> None:
        """End the first call in the queue if it has taken too long."""

    @abc.abstractmethod
    def end(self) -> None:
        """Kill the process."""

    @abc.abstractmethod
    def _send_pending(self) -> None:
        """Send the next calls, up to `MAX_IN_FLIGHT`, if the process can receive them."""


class WorkerPool(abc.ABC):
    """Workers by name: submit calls, then wait for their outcomes in any order.

    As a context manager, it ends the workers on exit, even busy ones.
    """

    def __init__(self, workers: Mapping[str, Worker]) -> None:
        self._workers = dict(workers)
        for worker in self._workers.values():
            worker.ensure_started()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def versions(self, name: str) -> Versions:
        """The versions in the environment of a worker; raises WorkerError if it or the framework cannot start."""
        worker = self._workers[name]
        while not worker.started.done:
            self._step([worker])
        return worker.versions()

    def all_versions(self) -> dict[str, Versions | WorkerError]:
        """The versions of each worker by name, or why it could not start."""
        result: dict[str, Versions | WorkerError] = {}
        for name in self._workers:
            try:
                result[name] = self.versions(name)
            except WorkerError as error:
                result[name] = error
        return result

    def signatures(self, name: str, paths: Sequence[str]) -> dict[str, Any]:
        """Signatures of the objects at dotted paths; see `serve.signature`."""
        future = self._workers[name].submit(wire.signatures_request(paths))
        self.wait_any([future])
        return future.answer or {}

    def printed(self, name: str) -> list[str]:
        """The last lines of the output of a worker's process; empty for a remote one."""
        return self._workers[name].printed()

    def submit(self, name: str, call: Call, description: str, ended: Outcome | None = None) -> Future:
        """Submit a call to a worker.  description: name of the call in messages.  ended: see `Worker.submit`."""
        return self._workers[name].submit(wire.call_request(call, description), ended)

    def wait(self, future: Future) -> Outcome:
        """Wait for the outcome of a call.

        Raises LoweringError if the call could not be made, and WorkerError if the worker cannot make calls.
        """
        self.wait_any([future])
        if future.ended is not None:
            return future.ended
        if future.message is None:
            raise WorkerError(future.worker.broken)
        if isinstance(future.answer, str):
            raise LoweringError(future.answer)
        outcome: Outcome = future.answer
        return outcome

    def wait_any(self, futures: Sequence[Future]) -> None:
        """Wait until one of the futures is done."""
        workers = [future.worker for future in futures]
        while not any(future.done for future in futures):
            self._step(workers)

    def close(self) -> None:
        """End every worker, even a busy one."""
        for worker in self._workers.values():
            worker.end()

    @abc.abstractmethod
    def _step(self, workers: Sequence[Worker]) -> None:
        """Wait for an event, at most until the timeout of a call of these workers."""


class LocalWorkerPool(WorkerPool):
    """Workers on this machine, served by one thread."""

    def __init__(self, specs: Iterable[WorkerSpec], timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._selector = selectors.DefaultSelector()
        self._timeouts = timeouts
        super().__init__({spec.name: LocalWorker(spec, timeouts, self._selector) for spec in specs})

    def start(self, spec: WorkerSpec) -> None:
        """Start a worker, unless there is one with its name."""
        if spec.name not in self._workers:
            self._workers[spec.name] = LocalWorker(spec, self._timeouts, self._selector)

    def close(self) -> None:
        """End every worker, even a busy one."""
        super().close()
        self._selector.close()

    def _step(self, workers: Sequence[Worker]) -> None:
        local = cast("Sequence[LocalWorker]", workers)
        for worker in local:
            worker.ensure_started()
        remaining_seconds = [worker.remaining_seconds() for worker in local if not worker.broken]
        ready = self._ready(min(remaining_seconds, default=0.0))
        for key, mask in ready:
            key.data.transfer(mask)
        for worker in local:
            if not ready:
                worker.check_process()
                worker.notify_of_import()
            worker.enforce_timeout()

    def _ready(self, remaining_seconds: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Connections that can be read or written.

        If only one answer is outstanding, this process polls for a moment before it sleeps, as workers do.
        """
        is_single = sum(worker.unanswered for worker in self._workers.values()) == 1
        until = time.monotonic() + (min(loop.SPIN_SECONDS, remaining_seconds) if is_single else 0.0)
        while not (ready := self._selector.select(0)) and time.monotonic() < until:
            loop.yield_processor()
        return ready or self._selector.select(min(remaining_seconds, ALIVE_SECONDS))


class LocalWorker(Worker):
    """A process on this machine, connected by a socket; a dead process is replaced."""

    def __init__(self, spec: WorkerSpec, timeouts: Timeouts, selector: selectors.BaseSelector) -> None:
        super().__init__(spec, timeouts)
        self._selector = selector
        self._sent = 0
        """Number of waiting calls that have been sent."""
        self._last: Request | None = None
        """The last request that this process has answered."""
        self._out: deque[memoryview] = deque()
        self._in = bytearray()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        """File with the output of the process."""
        self._answered = 0
        self._spawned = 0.0
        """Start time of the process."""
        self._next_notice = 0.0
        self._spawn()

    @property
    def in_flight(self) -> int:
        return self._sent

    def ensure_started(self) -> None:
        if self._process is None and not self.broken:
            self._spawn()
        if self._socket is None and not self.broken:
            self._connect()

    def remaining_seconds(self) -> float:
        """Seconds until the timeout of the first queued call."""
        if not self._waiting:
            return 0.0
        return max(0.0, self._waiting_since + self._waiting[0].seconds - time.monotonic())

    def enforce_timeout(self) -> None:
        if self._waiting and not self.broken and self.remaining_seconds() == 0.0:
            seconds = self._waiting[0].seconds
            torn = f"was out of step: the rest of a message that it announced did not come within {seconds:g} s"
            self._fail(self._crashed(torn) if self._in else TimedOut(seconds))

    def notify_of_import(self) -> None:
        """Log at intervals that an import is still running."""
        if self.started.done or (now := time.monotonic()) < self._next_notice:
            return
        self._next_notice = now + NOTICE_SECONDS
        _log.warning(
            "waiting for the import of %s since %.0f s; it may take %g s (--import-timeout)",
            loggable(self.spec.name), now - self._spawned, self.timeouts.start,
        )  # fmt: skip

    def check_process(self) -> None:
        """Detect a dead process whose connection is still open, as when a child process holds it."""
        self._limit_output()
        process = self._process
        if process is None or self._socket is None or process.poll() is None:
            return
        self._receive()
        if self._process is process:
            self._died()

    def transfer(self, mask: int) -> None:
        """Send and receive as much as possible without blocking."""
        if mask & selectors.EVENT_WRITE:
            self._send()
        if mask & selectors.EVENT_READ:
            self._receive()

    def end(self) -> None:
        self._disconnect()
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.kill()
            self._process.wait()
            self._process = None
        if self._output is not None:
            self._output.close()
            self._output = None

    # The process

    def _spawn(self) -> None:
        self._spawned = time.monotonic()
        self._next_notice = self._spawned + NOTICE_SECONDS
        self._endpoint = _SocketPair() if hasattr(socket, "AF_UNIX") else _LocalPort()
        self._token = secrets.token_bytes(32)
        self._output = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed with the process
        own_variables = {loop.TOKEN: self._token.hex(), "PYTHONUNBUFFERED": "1"}
        variables = {**SHARING, **os.environ, **self.spec.variables, **own_variables}
        command = [str(self.spec.interpreter), loop.__file__, self._endpoint.address]
        self.started = self._start_future()
        self._waiting.appendleft(self.started)
        try:
            self._process = subprocess.Popen(  # noqa: S603
                command, env=variables, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output,
                pass_fds=self._endpoint.inherited,
            )  # fmt: skip
        except OSError as error:
            self._break(f"{self.spec.interpreter} cannot be run ({error.strerror})")
        self._endpoint.detach()

    def _connect(self) -> None:
        """Wait for the process to connect; only it knows the token."""
        deadline = self._spawned + self.timeouts.start
        while not self.broken and time.monotonic() < deadline:
            assert self._process is not None
            connection = self._endpoint.accept()
            self.notify_of_import()
            self._limit_output()
            if connection is None:
                if self._process.poll() is not None:
                    self._break(f"it could not be started: {self._exit_reason()}{_output_text(self.printed())}")
                continue
            connection.settimeout(5.0)
            with contextlib.suppress(OSError):
                if secrets.compare_digest(_receive_exactly(connection, len(self._token)), self._token):
                    return self._connected(connection)
            connection.close()
        if not self.broken:
            self._break(f"it did not connect within {self.timeouts.start:g} s{_output_text(self.printed())}")
        return None

    def _connected(self, connection: socket.socket) -> None:
        self._endpoint.close()
        connection.setblocking(False)
        loop.without_delay(connection)
        self._socket = connection
        self._sent = 0
        self._last = None
        self._in.clear()
        self._out.clear()
        self._selector.register(connection, selectors.EVENT_READ, self)
        self._waiting_since = time.monotonic()
        self._send_pending()

    def _disconnect(self) -> None:
        self._endpoint.close()
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None

    # Messages

    def _send_pending(self) -> None:
        if self._socket is None:
            return
        if not self._sent:
            self._waiting_since = time.monotonic()
        while self._sent < min(MAX_IN_FLIGHT, len(self._waiting)):
            self._out.extend(self._waiting[self._sent].request.buffers)
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
                self._out.clear()  # the process has ended; its last answers are still to be read
                break
            if count == len(self._out[0]):
                self._out.popleft()
            else:
                self._out[0] = self._out[0][count:]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
        if self._selector.get_key(self._socket).events != events:
            self._selector.modify(self._socket, events, self)

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            while chunk := self._socket.recv(READ_BYTES):
                self._in += chunk
                self._take_answers()
                if self.broken:
                    return None
        except BlockingIOError:
            self._truncate_output()
            return self._send_pending()
        except WireError as error:
            return self._on_malformed_answer(error)
        except OSError:
            pass
        return self._died()

    def _take_answers(self) -> None:
        """Accept the answers that have arrived.  Raises WireError for a message that does not answer a sent request."""
        while self._in:
            future = self._waiting[0] if self._sent else None
            message = wire.read_answer(self._in, future.request.number if future is not None else NO_REQUEST)
            if message is None or future is None:
                return
            future.accept(message)
            self._waiting.popleft()
            self._last = future.request
            self._sent -= 1
            self._waiting_since = time.monotonic()
            if future is self.started and isinstance(future.answer, str):
                self._break(future.answer)
                return

    # The end of the process

    def _on_malformed_answer(self, error: WireError) -> None:
        """End the process, and the first call that was sent to it, which may not be the one that sent the message."""
        last, is_sent = self._last, self._sent > 0
        cause = f"was out of step: {error}"
        if isinstance(error, wire.RepeatedAnswerError):
            cause = f"was ended because it answered {self._waiting[0].request.label} twice"
        elif last is not None and isinstance(error, wire.UnexpectedAnswerError) and error.number == last.number:
            cause = f"was ended because it answered {last.label} twice"
            _log.warning("the worker of %s answered %s twice and is ended", self.spec.name, loggable(last.label))
        if is_sent:
            self._fail(self._crashed(cause))
        else:
            self.end()

    def _crashed(self, cause: str) -> Crashed:
        return Crashed(cause, "\n".join(self.printed()))

    def _died(self) -> None:
        """End the first queued call, which killed the process."""
        assert self._process is not None
        try:
            self._process.wait(5.0)
            cause = self._exit_reason()
        except subprocess.TimeoutExpired:
            cause = "closed its connection"
        self._fail(self._crashed(cause))

    def _fail(self, outcome: Crashed | TimedOut) -> None:
        """End the process and the first queued call; the others are left for the next process."""
        output = _output_text(self.printed())
        self.end()
        if not self._waiting:
            return
        future = self._waiting.popleft()
        future.ended = outcome
        self._sent = 0
        if future is self.started:
            cause = f"it {outcome.how}" if isinstance(outcome, Crashed) else f"it took more than {outcome.seconds:g} s"
            self._break(f"the framework cannot be imported: {cause}{output}")

    def _exit_reason(self) -> str:
        """How the process ended, for messages."""
        assert self._process is not None
        status = self._process.wait()
        if status >= 0:
            return f"exited with status {status}"
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"was killed by {name}"

    def printed(self) -> list[str]:
        if self._output is None or self._output.closed:
            return []
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - 8192))
        # Addresses would make the output of two runs of the same calls differ.
        lines = re.sub(r"0x[0-9a-f]{6,}", "0x...", self._output.read().decode(errors="replace")).splitlines()
        return [truncate(line.rstrip(), OUTPUT_CHARACTERS) for line in lines if line.strip()][-OUTPUT_LINES:]

    def _truncate_output(self) -> None:
        """Truncate the output of a framework at intervals, so that it does not fill the disk."""
        self._answered += 1
        if self._answered % CHECK_INTERVAL == 0:
            self._limit_output()

    def _limit_output(self) -> None:
        """Truncate the output of the process if it is too long."""
        if self._output is not None and os.fstat(self._output.fileno()).st_size > MAX_OUTPUT:
            self._output.truncate(0)


class _SocketPair:
    """Endpoint for a process that inherits the other end: nothing is on disk, and no other process can connect."""

    def __init__(self) -> None:
        self._ours: socket.socket | None
        self._ours, self._theirs = socket.socketpair()
        self.inherited = (self._theirs.fileno(),)
        self.address = f"descriptor:{self._theirs.fileno()}"

    def detach(self) -> None:
        """Close the end that the process has inherited, so that its exit closes the connection."""
        self._theirs.close()

    def accept(self) -> socket.socket | None:
        """Wait until the connection is readable or closed; None on a timeout."""
        if self._ours is None:
            time.sleep(POLL_SECONDS)
            return None
        if not select.select([self._ours], [], [], POLL_SECONDS)[0]:
            return None
        accepted, self._ours = self._ours, None
        return accepted

    def close(self) -> None:
        """Close both ends, unless the connection was accepted."""
        self._theirs.close()
        if self._ours is not None:
            self._ours.close()


class _LocalPort:
    """Endpoint at a local port, for systems without socket pairs; a tenth slower, and any local process can connect."""

    inherited = ()

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(POLL_SECONDS)
        self.address = f"port:{self._listener.getsockname()[1]}"

    def detach(self) -> None:
        """Do nothing, as the process has not inherited anything."""

    def accept(self) -> socket.socket | None:
        """The next connection, from any process; None on a timeout."""
        try:
            return self._listener.accept()[0]
        except TimeoutError:
            return None

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


def _receive_exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (chunk := connection.recv(count - len(data))):
        data += chunk
    return data


def _output_text(lines: Sequence[str]) -> str:
    return f"; it said: {' | '.join(lines[-3:])}" if lines else ""
