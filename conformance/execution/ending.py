"""Make sure that a process in which frameworks were called ends, and with the right exit status.

Imports nothing slow: the command line uses it before it has parsed its command.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

GRACE_SECONDS = 10.0
"""Seconds granted to threads and exit handlers of frameworks after the main thread has ended."""
_statuses: list[int] = []


@contextlib.contextmanager
def exit_guard() -> Iterator[None]:
    """Context manager that ensures that the process ends with its exit status; see `ensure_exit`."""
    try:
        yield
    except SystemExit as leaving:
        code = leaving.code
        ensure_exit(code if isinstance(code, int) else 0 if code is None else 1)
        raise
    ensure_exit(0)


def _flush() -> None:
    """Flush the standard streams, as far as possible."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def exit_now() -> None:
    """End this worker process immediately, without waiting for threads and exit handlers of frameworks."""
    _flush()
    os._exit(0)


def ensure_exit(status: int, grace: float = GRACE_SECONDS) -> None:
    """Make sure that this process ends with a status soon after its main thread, even if threads or exit handlers hang.

    A framework may have started a thread that never ends, or have registered an exit handler that hangs.  Does nothing
    if no function was called in this process.
    """
    if not has_called():
        return
    _statuses.append(status)
    if len(_statuses) > 1:
        return

    def wait() -> None:
        threading.main_thread().join()
        time.sleep(grace)
        _flush()
        os.write(2, b"a thread or an exit handler of a framework does not end; the process ends without it\n")
        os._exit(_statuses[-1])

    # Thread.start would wait forever if there is no memory for the thread.
    with contextlib.suppress(RuntimeError, MemoryError):
        _thread.start_new_thread(wait, ())


def has_called() -> bool:
    """Whether a function of a framework was called in this process."""
    containment = sys.modules.get("conformance.adapters.contract.containment")
    return containment is not None and containment.has_called()
