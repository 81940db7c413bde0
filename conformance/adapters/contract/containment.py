"""Save the state of the process that a framework's function may change, and restore it after the call.

Restored is only what later calls or this package depend on: the working directory, numpy's floating-point error
handling and print options, the standard streams, signal handlers and a pending alarm, the recursion limit, resource
limits that were lowered, entries removed from `sys.path`, removed environment variables, and a few that were
changed.
Warning filters are restored by `warnings.catch_warnings`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

import numpy as np

_signal: Any = importlib.import_module("_signal")
"""C implementation of `signal`, whose Python wrappers take microseconds to convert to enumerations."""
try:
    _resource: Any = importlib.import_module("resource")
except ImportError:  # on Windows
    _resource = None
SIGNALS = tuple(getattr(_signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM") if hasattr(_signal, name))
"""Signals whose handlers are restored; exceptions raised by them are not attributed to the function."""
VARIABLES = tuple(os.environ.encodekey(name) for name in ("GITHUB_ACTIONS", "CONFORMANCE_CACHE", "PATH", "HOME"))
"""Environment variables that this package reads while it runs; a function may change all others."""
_environ = os.environ
_ENVIRONMENT = _environ._data  # type: ignore[attr-defined]
_interruptions = 0
_descriptors: dict[int, int] = {}
_limits: dict[int, tuple[int, int]] = {}
"""Soft and hard limits of resources before the first call."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt as Python's handler does, and record it: the function may swallow the exception."""
    global _interruptions
    _interruptions += 1
    raise KeyboardInterrupt


class _Unclosable:
    """A wrapper of a stream that cannot be closed or detached through the wrapper."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __enter__(self) -> _Unclosable:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the stream open."""

    def close(self) -> None:
        """Leave the stream open."""

    def detach(self) -> Any:
        """Raise ValueError: the stream cannot be detached."""
        raise ValueError("this stream cannot be detached")

    @property
    def buffer(self) -> _Unclosable:
        return _Unclosable(self.stream.buffer)


_ASIDE = _Unclosable(None)


class Surroundings:
    """Context manager that restores the state of the process on exit.

    Inside it, in the main thread, both standard streams write to stderr, because stdout belongs to the output of the
    command.  An interruption that the function swallowed is raised again on exit.
    """

    __slots__ = (
        "alarm", "environment", "errors", "folder", "handlers", "interruptions", "main", "options", "path", "process",
        "recursion", "streams",
    )  # fmt: skip

    def __enter__(self) -> Surroundings:
        if not _descriptors:
            _duplicate()
            _note_limits()
        self.process = os.getpid()
        self.main = threading.current_thread() is threading.main_thread()
        self.streams = sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__
        if sys.stderr is not None and self.main:  # concurrent threads would leave the streams replaced
            if sys.stderr is not _ASIDE:
                _ASIDE.stream = sys.stderr
            sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = _ASIDE  # type: ignore[assignment,misc]
        self.folder = _folder()
        self.environment = _ENVIRONMENT.copy()
        self.recursion = sys.getrecursionlimit()
        self.path = sys.path, sys.path.copy()
        self.options = np.get_printoptions()
        self.errors = np.errstate()
        self.errors.__enter__()
        self.handlers = tuple(map(_signal.getsignal, SIGNALS))
        self.interruptions = _interruptions
        self.alarm = _pending()
        if self.main and self.handlers[0] is _signal.default_int_handler:
            _signal.signal(SIGNALS[0], _interrupt)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if os.getpid() != self.process:
            os._exit(0)  # a child that the function forked: only the parent continues the run
        self._restore_signals()
        self.errors.__exit__(None, None, None)
        sys.setrecursionlimit(self.recursion)
        _raise_limits()
        self._restore_path()
        if self.main:
            sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__ = self.streams  # type: ignore[misc]
        for descriptor in _descriptors:
            _reopen(descriptor)
        if self.folder and _folder() != self.folder:
            with contextlib.suppress(OSError):
                os.chdir(self.folder)
        if self.environment != _ENVIRONMENT or os.environ is not _environ:
            self._restore_environment()
        if np.get_printoptions() != self.options:
            np.set_printoptions(**self.options)
        if _interruptions != self.interruptions and kind is None:
            raise KeyboardInterrupt

    def pass_on(self, error: BaseException) -> None:
        """Raise an exception again if it came from a signal, such as Ctrl-C, and not from the function."""
        if _interruptions != self.interruptions:
            raise KeyboardInterrupt from None
        codes = {code for handler in self.handlers if (code := _code(handler)) is not None}
        if codes and any(code in codes for code in _codes(error.__traceback__)):
            raise error

    def _restore_signals(self) -> None:
        if self.main:
            for number, handler in zip(SIGNALS, self.handlers, strict=True):
                if _signal.getsignal(number) is not handler and handler is not None:
                    _signal.signal(number, handler)
        if not self.alarm and _pending():
            _signal.setitimer(_signal.ITIMER_REAL, 0)

    def _restore_path(self) -> None:
        """Restore removed entries; added ones stay, as modules that are imported later may need them."""
        path, entries = self.path
        try:
            is_intact = sys.path is path and (path == entries or all(entry in path for entry in entries))
        except Exception:  # comparing an added object may raise
            is_intact = False
        if not is_intact:
            path[:] = entries
            sys.path = path

    def _restore_environment(self) -> None:
        os.environ = _environ  # noqa: B003 - the original object, in case a function replaced it
        before = self.environment
        for name in (before.keys() - _ENVIRONMENT.keys()) | set(VARIABLES):
            decoded = os.environ.decodekey(name)
            if name in before:
                os.environ[decoded] = os.environ.decodevalue(before[name])
            else:
                os.environ.pop(decoded, None)


def _folder() -> str:
    """The working directory; "" if it was deleted."""
    try:
        return os.getcwd()  # noqa: PTH109 - three times as fast as pathlib
    except OSError:
        return ""


def _pending() -> bool:
    """Whether a timer is set to send SIGALRM."""
    return hasattr(_signal, "getitimer") and bool(_signal.getitimer(_signal.ITIMER_REAL)[0])


def _duplicate() -> None:
    """Duplicate the descriptors of stdout and stderr, to restore them if a function closes them."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            _descriptors[descriptor] = os.dup(descriptor)


def _note_limits() -> None:
    """Record the resource limits that this process needs to write a report."""
    for name in ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE"):
        if (number := getattr(_resource, name, None)) is not None:
            _limits[number] = _resource.getrlimit(number)


def _raise_limits() -> None:
    """Raise soft limits that were lowered since the first call, as far as the hard limits allow."""
    for number, before in _limits.items():
        current = _resource.getrlimit(number)
        if current != before:
            endless = _resource.RLIM_INFINITY
            soft, hard, target = (sys.maxsize if value == endless else value for value in (*current, before[0]))
            target = min(target, hard)
            if soft < target:
                with contextlib.suppress(OSError, ValueError):
                    _resource.setrlimit(number, (endless if target == sys.maxsize else target, current[1]))


def _reopen(descriptor: int) -> None:
    try:
        os.get_inheritable(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(_descriptors[descriptor], descriptor)


def _code(handler: Any) -> Any:
    """The code object of a signal handler that is written in Python."""
    return getattr(getattr(handler, "__func__", handler), "__code__", None)


def _codes(traceback: TracebackType | None) -> Any:
    while traceback is not None:
        yield traceback.tb_frame.f_code
        traceback = traceback.tb_next


def cause(error: BaseException) -> BaseException | None:
    """An exception as the `__cause__` of another; None if printing it could end the process."""
    try:
        str(error), repr(error)
    except BaseException:
        return None
    return error


def has_called() -> bool:
    """Whether a function of a framework was called in this process."""
    return bool(_descriptors)
