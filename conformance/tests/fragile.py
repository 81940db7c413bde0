"""A framework whose calls end in every way a call can end; it runs in workers only."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

import numpy as np

from conformance.adapters import arrays
from conformance.adapters.contract import Framework
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
DEADLY = Framework(
    name="deadly", distributions=("numpy",), modules=("numpy",), functions=(), prepare=die,
    arrays=arrays.numpy,
)  # fmt: skip
