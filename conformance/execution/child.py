"""Child processes of this package, which exchange pickled messages with it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from conformance.execution.ending import exit_now
from conformance.execution.interruption import ignore_signals
from conformance.model.errors import receive, record_error


class ChildProcess:
    """A process that calls `target(connection, *arguments)` and ends when it returns or when the parent has ended.

    target: a function at the top of a module; arguments must be picklable.
    """

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, child_end = context.Pipe()
        self._process = context.Process(target=_main, args=(target, child_end, *arguments), daemon=True)
        self._process.start()
        child_end.close()

    def send(self, message: object) -> None:
        """Send a message; raises OSError if the process is gone."""
        self.connection.send(message)

    def receive(self) -> Any:
        """Wait for the next message; raises as `model.errors.receive` does, and OSError if the process is gone."""
        return receive(self.connection)

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid or 0

    @property
    def exit_reason(self) -> str:
        """How the process ended, for messages; waits for its end."""
        self._process.join()
        status = self._process.exitcode or 0
        return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"

    def resume(self) -> bool:
        """Continue the process if it was stopped, as by SIGSTOP; return whether it was."""
        if not hasattr(os, "waitid"):
            return False
        try:
            if os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is None:
                return False
            os.kill(self.pid, signal.SIGCONT)
        except OSError:  # it has ended
            return False
        return True

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()


C = TypeVar("C", bound=ChildProcess)


def wait_for(processes: Iterable[C], seconds: float | None = None) -> list[C]:
    """Wait until processes have sent a message or have ended; return these.  seconds: timeout."""
    by_connection = {process.connection: process for process in processes}
    return [
        by_connection[connection]
        for connection in wait(list(by_connection), seconds)
        if isinstance(connection, Connection)
    ]


def _end_with_parent() -> None:
    """End this process when its parent has ended, even while it is blocked, as by an import."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


def _main(target: Callable[..., None], connection: Connection, *arguments: object) -> None:
    ignore_signals()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            target(connection, *arguments)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            connection.send(record_error(error))
    exit_now()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a group and wait for it; on systems with process groups, kill its children, too."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
