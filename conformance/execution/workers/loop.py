"""The far side: a script that connects to a run, makes the calls it is sent, and answers with their outcomes.

    python loop.py ADDRESS       (the token is in the environment, the framework in the first message)

It needs Python 3.10, numpy and the framework, and nothing of this package but the files beside it: it
mounts them under their name without putting the folder they lie in, and all that is installed there, on
sys.path.  What the framework prints goes to stderr; it never mixes with the messages.
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
ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that end a run; its workers end when their connection is closed."""
AWAKE = 2e-3
"""Seconds that a worker looks for its next call before it goes to sleep; whoever else wants the processor gets it."""
ORPHANED = 1.0
"""Seconds between looks at whether the run is still there."""
STUCK = 600.0
"""Seconds after which a worker that cannot even look ends itself; a run gives up on a call long before."""


def mount(name: str, file: str) -> None:
    """Make a package or module importable from its file, and nothing else that lies beside it."""
    source = Path(file)
    folder = [str(source.parent)] if source.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, source, submodule_search_locations=folder)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def connected(address: str) -> socket.socket:
    """A connection to a run: a descriptor that this process was born with, or to a port of this machine."""
    kind, number = address.split(":")
    if kind == "port":
        connection = socket.create_connection(("127.0.0.1", int(number)))
    else:
        connection = socket.socket(fileno=int(number))
        connection.set_inheritable(False)  # its end has to be seen, whatever a framework starts
    without_delay(connection)
    return connection


def without_delay(connection: socket.socket) -> None:
    """Have small messages sent at once, where a connection would wait for more."""
    if connection.family != getattr(socket, "AF_UNIX", None):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def main(address: str) -> None:
    """Serve one run until it closes the connection."""
    connection = connected(address)
    connection.sendall(bytes.fromhex(os.environ.pop(TOKEN)))
    for name in ENDING:
        if hasattr(signal, name):
            signal.signal(
                getattr(signal, name), signal.SIG_IGN
            )  # the run's to handle, and often sent to all of its group
    faulthandler.enable()
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()

    def read(count: int) -> bytearray:
        data = bytearray(count)
        rest = memoryview(data)
        while rest:
            rest = rest[connection.recv_into(rest) or os._exit(0) :]  # without a run there is nothing to tidy up for
        return data

    mount("conformance", str(Path(__file__).parents[2] / "__init__.py"))
    from conformance.execution.workers import serve, wire

    server = serve.Server()
    lone = False
    while True:
        lone = _linger(connection, lone)
        for piece in server.answer(*wire.received(read)):
            connection.sendall(piece)


def _linger(connection: socket.socket, lone: bool) -> bool:
    """Wait for the next call; whether there was none yet.

    lone: whether that was so the last time, too, as where calls come one by one.  Then it stays awake for a
    moment, because who was asleep makes a call a fifth slower; where many are on their way it is no use.
    """
    if select.select([connection], [], [], 0)[0]:
        return False
    until = time.perf_counter() + AWAKE
    while lone and not select.select([connection], [], [], 0)[0] and time.perf_counter() < until:
        give_way()
    return True


def give_way() -> None:
    """Let another process have the processor, if one wants it."""
    if hasattr(os, "sched_yield"):
        os.sched_yield()


def _watch(parent: int) -> None:
    while True:
        faulthandler.dump_traceback_later(STUCK, exit=True)
        time.sleep(ORPHANED)
        if os.getppid() != parent:
            os._exit(0)


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file
    main(sys.argv[1])
