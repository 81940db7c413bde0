"""Script of a worker process: connects to a run, makes the calls that it receives, and returns their outcomes.

    python loop.py ADDRESS       (the token is in the environment, the framework in the first message)

It needs Python 3.10, numpy and the framework.  The modules of this package are imported from the files beside this one,
without adding their folder, and other packages in it, to sys.path.  What the framework prints goes to stderr and does
not mix with the messages.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path

TOKEN = "CONFORMANCE_WORKER_TOKEN"  # noqa: S105 - the name of a variable
TERMINATION_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that workers ignore, because the run handles them; a worker ends when its connection is closed.

`timeout`, schedulers and terminals send them to whole process groups; a worker that ended would be reported as a crash.
"""
SPIN_SECONDS = 2e-3
"""Seconds for which a worker polls for its next call before it sleeps, yielding the processor."""
PARENT_CHECK_SECONDS = 1.0
"""Seconds between two checks whether the process of the run still exists."""
PR_SET_PDEATHSIG = 1
"""Constant of `prctl`."""
MAX_HANG_SECONDS = 600.0
"""Seconds after which a worker ends itself if that check is blocked; the timeout of a call is much shorter."""


def import_from_file(name: str, file: str) -> None:
    """Make a package or module importable from its file, without the other files in its folder."""
    source = Path(file)
    folder = [str(source.parent)] if source.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, source, submodule_search_locations=folder)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def connect(address: str) -> socket.socket:
    """Connect to a run: by an inherited descriptor (`descriptor:N`), or to a local port (`port:N`)."""
    kind, number = address.split(":")
    if kind == "port":
        connection = socket.create_connection(("127.0.0.1", int(number)))
    else:
        connection = socket.socket(fileno=int(number))
        connection.set_inheritable(False)  # child processes of a framework must not keep it open
    without_delay(connection)
    return connection


def without_delay(connection: socket.socket) -> None:
    """Send small messages immediately, without waiting for more data (TCP_NODELAY)."""
    if connection.family != getattr(socket, "AF_UNIX", None):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def main(address: str) -> None:
    """Serve one run until it closes the connection."""
    parent = os.getppid()
    die_with_parent()
    connection = connect(address)
    connection.sendall(bytes.fromhex(os.environ.pop(TOKEN)))
    for name in TERMINATION_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    faulthandler.enable()
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()

    def read(count: int) -> bytearray:
        data = bytearray(count)
        remaining = memoryview(data)
        while remaining:
            remaining = remaining[connection.recv_into(remaining) or os._exit(0) :]  # the run has ended
        return data

    import_from_file("conformance", str(Path(__file__).parents[2] / "__init__.py"))
    from conformance.execution.workers import serve, wire

    server = serve.Server()
    was_idle = False
    process = os.getpid()
    while True:
        was_idle = _wait_for_message(connection, was_idle)
        request = wire.read_message(read)
        answer = server.answer(request.header, request.body)
        if os.getpid() != process:
            os._exit(0)  # the called function forked this process and returned in both
        for piece in wire.with_trailer(wire.set_message_number(answer, request.number)):
            connection.sendall(piece)


def _wait_for_message(connection: socket.socket, was_idle: bool) -> bool:
    """Wait for the next message; return whether it had not arrived yet.

    was_idle: the previous return value.  If it is true, calls are sent one at a time; then the worker polls for a
    moment before it sleeps, because a call after sleep is a fifth slower.
    """
    if select.select([connection], [], [], 0)[0]:
        return False
    until = time.perf_counter() + SPIN_SECONDS
    while was_idle and not select.select([connection], [], [], 0)[0] and time.perf_counter() < until:
        yield_processor()
    return True


def yield_processor() -> None:
    """Yield the processor to another process."""
    if hasattr(os, "sched_yield"):
        os.sched_yield()


def die_with_parent() -> None:
    """On Linux, let the kernel kill this process when its parent ends; on other systems `_watch` detects that.

    While an import holds Python's lock for minutes, no thread of this process can detect anything.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(parent: int) -> None:
    while True:
        faulthandler.dump_traceback_later(MAX_HANG_SECONDS, exit=True)
        time.sleep(PARENT_CHECK_SECONDS)
        if os.getppid() != parent:
            os._exit(0)


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file
    main(sys.argv[1])
