"""Handle signals that end a command: the first one stops it and keeps its results, a second one ends it immediately."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

TERMINATION_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, the signal of `kill` and schedulers, and the signal for a closed terminal."""
DEBOUNCE_SECONDS = 0.5
"""Seconds during which further signals count as the first: `timeout` signals a process and its group."""
INTERRUPTED = 130
"""Exit status of a command that was interrupted."""

_getsignal: Callable[[int], object] = importlib.import_module("_signal").getsignal
"""`signal.getsignal` without enumerations, which take longer than everything else between two rows."""
_received: tuple[str, float] | None = None
_finishing = False
_at_once = ""
_installed: dict[int, Callable[[int, FrameType | None], None]] = {}


@contextlib.contextmanager
def interruptible(signals: Sequence[signal.Signals] = TERMINATION_SIGNALS, *, at_once: str = "") -> Iterator[None]:
    """Context manager that raises KeyboardInterrupt at the first of some signals, and exits at a second one.

    The second one ends the process with status `INTERRUPTED`, even during a call that does not return to Python. A
    signal that was ignored when the process started, as with `nohup` or for background jobs of a script, stays ignored.
    Does nothing outside the main thread, which alone may set handlers, or if nested.

    at_once: line to print before the second signal ends the process.
    """
    global _received, _finishing, _at_once
    if threading.current_thread() is not threading.main_thread() or _installed:
        yield
        return
    _received, _finishing, _at_once = None, False, at_once
    handled = [number for number in signals if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    terminals = [descriptor for descriptor in (1, 2) if _is_terminal(descriptor)]

    def handle(number: int, frame: FrameType | None) -> None:
        global _received
        if _received is not None:
            _exit_if_again(_received[1])
            return
        _received = (signal.Signals(number).name, time.monotonic())
        _redirect_to_devnull_if_hung_up(terminals)
        if not _finishing:
            raise KeyboardInterrupt

    reader, writer = socket.socketpair()
    writer.setblocking(False)
    watcher = threading.Thread(target=_watch, args=(reader, frozenset(handled)), name="signals", daemon=True)
    watcher.start()
    woken = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, handle) for number in handled}
    _installed.update(dict.fromkeys(handled, handle))
    try:
        yield
    finally:
        _installed.clear()
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        writer.close()  # the watcher reads EOF and closes its end


def interruption() -> str:
    """The name of the signal that told this process to end; "" if there was none.

    A KeyboardInterrupt may be swallowed by the code in which it is raised; this function still returns the signal.
    """
    return "" if _received is None else _received[0]


def ignore_first_signal() -> None:
    """Ignore the first signal from now on: the command has finished its work and is about to end."""
    global _finishing
    _finishing = True


def reinstall_handlers() -> None:
    """Set the handlers of `interruptible` again if an imported library has set its own, as Ray does."""
    for number, handle in _installed.items():
        if _getsignal(number) is not handle:
            signal.signal(number, handle)


def ignore_signals() -> None:
    """Ignore signals in a worker; the parent process handles them, as they may be sent to a whole process group."""
    for number in TERMINATION_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _watch(reader: socket.socket, handled: frozenset[int]) -> None:
    """Exit at a second signal even if the main thread does not return to Python, as in a call that hangs."""
    first = None
    while received := reader.recv(1):
        if received[0] in handled:
            _exit_if_again(first)
            first = first or time.monotonic()
    reader.close()


def _exit_if_again(first: float | None) -> None:
    """Exit if this is a second signal.  first: time of the first one, None if there was none."""
    if first is not None and time.monotonic() - first > DEBOUNCE_SECONDS:
        if _at_once:
            with contextlib.suppress(OSError):
                os.write(2, f"{_at_once}\n".encode())  # `print` needs a lock that the main thread may hold
        os._exit(INTERRUPTED)


def _is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def _redirect_to_devnull_if_hung_up(terminals: Sequence[int]) -> None:
    """Redirect output to devnull if its terminal is gone, so that printing raises no OSError."""
    for descriptor in terminals:
        if not _is_terminal(descriptor):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
