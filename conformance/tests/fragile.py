"""A framework whose calls end in every way a call can end; it runs in workers only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import stat
import sys
import time

import numpy as np

from conformance.adapters import arrays
from conformance.adapters.contract import Framework
from conformance.execution.workers import wire
from conformance.model.case import Array


def echo(x: Array) -> Array:
    return x


def total(x: Array, scale: float = 1.0) -> Array:
    return np.asarray(x.sum() * scale)


def warn(x: Array) -> Array:
    import warnings

    warnings.warn("careful", UserWarning, stacklevel=1)
    return x


def fail(x: Array) -> Array:
    raise ValueError("no such thing")


def leave(x: Array) -> Array:
    sys.exit("enough")


def babble(x: Array) -> Array:
    os.write(1, b"y" * 100_000)
    os._exit(3)


def vanish(x: Array) -> Array:
    os._exit(3)


def orphan(x: Array) -> Array:
    if os.fork() == 0:
        time.sleep(20)  # with the worker's connection open
        os._exit(0)
    os._exit(3)


def segfault(x: Array) -> Array:
    ctypes.string_at(0)
    return x


def abort(x: Array) -> Array:
    os.write(2, b"assertion failed: x > 0\n")
    os.abort()


def starve(x: Array) -> Array:
    os.kill(os.getpid(), signal.SIGKILL)
    return x


def hang(x: Array) -> Array:
    time.sleep(600)
    return x


def shout(x: Array) -> Array:
    print("noise " * 1000)
    os.write(1, b"more noise\n" * 100_000)
    return x


def listen(x: Array) -> Array:
    return np.asarray(float(len(sys.stdin.read())))


def scribble(x: Array) -> Array:
    x[0] = 7
    return x


def connection() -> int:
    """The descriptor of the worker's connection, as a library finds it that closes or writes what it did not open."""
    for number in range(3, 256):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                return number
    raise LookupError("there is no connection")


def request_number() -> int:
    """The number of the request that is being answered."""
    frame = sys._getframe()
    while not isinstance(frame.f_locals.get("request"), wire.Message):
        frame = frame.f_back
    return frame.f_locals["request"].number


def interject(x: Array, content: bytes, shift: int | None = None) -> Array:
    """Write bytes to the connection before the answer.  shift: if given, they are a message with the number + shift."""
    if shift is not None:
        content = bytes(wire.set_message_number([memoryview(bytearray(content))], request_number() + shift)[0])
    with socket.socket(fileno=os.dup(connection())) as there:
        there.sendall(content)
    return x


def chatter(x: Array) -> Array:
    while True:
        os.write(connection(), b"progress\n" * 10_000)


def hang_up(x: Array) -> Array:
    os.close(connection())
    return hang(x)


def fork(x: Array) -> Array:
    os.fork()
    return x


def whoami(x: Array) -> Array:
    return np.asarray(float(os.getpid()))


FRAMEWORK = Framework(
    name="fragile",
    distributions=("numpy",),
    modules=("numpy",),
    functions=(),
    arrays=arrays.numpy,
    imports="import conformance.tests.fragile",
)


def die() -> None:
    os.write(2, b"libsomething.so: undefined symbol\n")
    os.abort()


UNIMPORTABLE = Framework(
    name="unimportable", distributions=("numpy",), modules=("no_such_module",), functions=(),
    arrays=arrays.numpy,
)  # fmt: skip
RENAMED = Framework(
    name="renamed", distributions=("numpy",), modules=("numpy",), functions=(), imports="from numpy import former_name",
    arrays=arrays.numpy,
)  # fmt: skip
DEADLY = Framework(
    name="deadly", distributions=("numpy",), modules=("numpy",), functions=(), prepare=die,
    arrays=arrays.numpy,
)  # fmt: skip
SLOW = Framework(
    name="slow", distributions=("numpy",), modules=("numpy",), functions=(), prepare=lambda: time.sleep(600),
    arrays=arrays.numpy,
)  # fmt: skip
