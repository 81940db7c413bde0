"""Functions that return and raise what no loss should, or change the process that calls them."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import decimal
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from conformance.adapters import arrays
from conformance.adapters.contract import Framework
from conformance.model.case import Array

FUNCTIONS: dict[str, Callable[[Array], Any]] = {}
"""By name."""
SAID: dict[str, tuple[str, str]] = {}
"""By name: the kind of outcome, and words that it has in it."""


def does(outcome: str, words: str = "") -> Callable[[Callable[[Array], Any]], Callable[[Array], Any]]:
    def note(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
        FUNCTIONS[function.__name__] = function
        SAID[function.__name__] = outcome, words
        return function

    return note


class Loud(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise SystemExit("no text")

    __repr__ = __str__


class Meta(type):
    @property
    def __name__(cls) -> str:
        raise ValueError("no name")

    def __getattr__(cls, name: str) -> Any:
        raise ValueError(f"no {name}")


class Nameless(Exception, metaclass=Meta):  # noqa: N818
    pass


class Text(str):
    __slots__ = ()

    def split(self, *_: Any) -> Any:
        raise ValueError("not split")

    def __len__(self) -> int:
        raise ValueError("no length")

    def __getitem__(self, _: Any) -> Any:
        raise ValueError("no characters")


class Wordy(Exception):  # noqa: N818
    def __str__(self) -> str:
        return Text("words")


class Lazy:
    """Computed only when it is read, which fails."""

    dtype = np.dtype("float64")
    shape = ()

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise ArithmeticError("computed too late")


class Guarded:
    @property
    def dtype(self) -> Any:
        raise GeneratorExit("no dtype")

    shape = dtype

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise GeneratorExit("no array")

    def __getattribute__(self, name: str) -> Any:
        raise GeneratorExit(f"no {name}")


def returning(name: str, value: Callable[[], Any], outcome: str, words: str = "") -> None:
    def function(x: Array) -> Any:
        return value()

    FUNCTIONS[name], SAID[name] = function, (outcome, words)


returning("text", lambda: "0.5", "NonNumeric", "a str")
returning("raw_bytes", lambda: b"0.5", "NonNumeric", "a bytes")
returning("nothing", lambda: None, "NonNumeric", "None")
returning("generator", lambda: (one for one in (1.0,)), "NonNumeric", "a generator")
returning("jagged", lambda: [[1.0], [1.0, 2.0]], "NonNumeric", "a list")
returning("mapping", lambda: {"loss": 1.0}, "NonNumeric", "a dict")
returning("function", lambda: len, "NonNumeric", "a builtin_function_or_method")
returning("kind", lambda: float, "NonNumeric", "a type")
returning("complex_number", lambda: 1 + 2j, "NonNumeric", "a complex")
returning("complex_array", lambda: np.array([1 + 2j]), "NonNumeric", "an array of complex128")
returning("object_array", lambda: np.array([1.0, None], dtype=object), "NonNumeric", "an array of object")
returning("object_of_numbers", lambda: np.array(1.0, dtype=object), "NonNumeric", "an array of object")
returning("text_array", lambda: np.array(["1.5"]), "NonNumeric", "an array of str")
returning("dates", lambda: np.array(["2020-01-01"], dtype="M8[D]"), "NonNumeric", "an array of datetime64")
returning("record", lambda: np.zeros(1, dtype=[("a", "f8")]), "NonNumeric", "an array of void")
returning("masked", lambda: np.ma.array([1.0, 2.0], mask=[True, False]), "NonNumeric", "masked")
returning("masked_constant", lambda: np.ma.masked, "NonNumeric", "masked")
returning("masked_nowhere", lambda: np.ma.array([1.0, 2.0]), "Returned", "float64")
returning("huge", lambda: np.broadcast_to(np.float32(1), (1 << 20, 1 << 20)), "NonNumeric", "an array of shape")
returning("lazy", Lazy, "Raised", "ArithmeticError: computed too late")
returning("guarded", Guarded, "Raised", "GeneratorExit: no ")
returning("decimals", lambda: decimal.Decimal("0.5"), "NonNumeric", "a Decimal")
returning("coroutine", lambda: asyncio.Future(loop=asyncio.new_event_loop()), "NonNumeric", "a Future")
returning("loop", lambda: (found := [1.0], found.append(found))[0], "NonNumeric", "a list")
returning("integer", lambda: 3, "Returned", "int")
returning("boolean", lambda: True, "Returned", "bool")
returning("long", lambda: np.longdouble(0.1), "Returned", "longdouble" if np.longdouble(0.1) != 0.1 else "float")
returning("listed", lambda: [1.0, 2.0], "Returned", "float64")
returning("none_of_it", lambda: np.zeros((0, 3)), "Returned", "float64")
returning("many_axes", lambda: np.zeros((1,) * 32), "Returned", "float64")
returning("foreign_order", lambda: np.array([1.0, 2.0], dtype=">f4"), "Returned", "float32")


class Matrix(np.ndarray):
    def __array_finalize__(self, _: Any) -> None:
        pass

    def astype(self, *_: Any, **__: Any) -> Any:
        raise ValueError("as it is")


returning("subclass", lambda: np.ones(2).view(Matrix), "Returned", "float64")


@does("Returned", "float64")
def argument(x: Array) -> Array:
    return x


@does("Returned", "float64")
def backwards(x: Array) -> Array:
    return x[::-1]


@does("Returned", "float64")
def readonly(x: Array) -> Array:
    found = np.array(x)
    found.flags.writeable = False
    return found


def raising(name: str, error: Callable[[], BaseException], words: str) -> None:
    def function(x: Array) -> Any:
        raise error()

    FUNCTIONS[name], SAID[name] = function, ("Raised", words)


raising("no_text", Loud, "Loud: (it has no text: `str` of it raised SystemExit)")
raising("no_name", lambda: Nameless("x"), "Nameless: x")
raising("odd_text", Wordy, "Wordy: words")
raising("surrogates", lambda: ValueError("a\udc80b"), r"ValueError: a\udc80b")
raising("controls", lambda: ValueError("\x1b[2J\x00"), "ValueError: \x1b[2J\x00")
raising("long_text", lambda: ValueError("x" * 10**8), "ValueError: xxx")
raising("blank_text", lambda: ValueError(" " * 10**7 + "y"), "ValueError")
raising("leaves", lambda: SystemExit(0), "SystemExit: 0")
raising("interrupts", KeyboardInterrupt, "KeyboardInterrupt")
raising("ends_generator", GeneratorExit, "GeneratorExit")
raising("stops", lambda: StopIteration(3), "StopIteration: 3")
raising("stops_async", StopAsyncIteration, "StopAsyncIteration")
raising("bare", lambda: BaseException("bare"), "BaseException: bare")
raising("no_memory", MemoryError, "MemoryError")
raising("cancelled", asyncio.CancelledError, "CancelledError")
raising("skipped", lambda: pytest.skip.Exception("skipped"), "Skipped")
raising("quits", lambda: pytest.exit.Exception("quit"), "Exit")
raising("asserts", lambda: AssertionError("no"), "AssertionError: no")
if hasattr(builtins, "BaseExceptionGroup"):
    group = builtins.BaseExceptionGroup
    raising("group", lambda: group("several", [ValueError("a"), KeyboardInterrupt()]), "BaseExceptionGroup: several")


@does("Raised", "RecursionError")
def recurses(x: Array) -> Array:
    return recurses(x)


@does("Raised", "StopIteration")
def exhausted(x: Array) -> Array:
    found: Array = next(iter(()))
    return found


@does("Raised", "RuntimeWarning: careful")
def warns_as_error(x: Array) -> Array:
    warnings.simplefilter("error")
    warnings.warn("careful", RuntimeWarning, stacklevel=1)
    return x


@does("Returned", "float64")
def warns_much(x: Array) -> Array:
    for number in range(3000):
        warnings.warn(f"\x1b {number}\udc80 " + "x" * 5000, UserWarning, stacklevel=1)
    return x


@does("Returned", "float64")
def warns_without_text(x: Array) -> Array:
    class Mute(UserWarning):
        asked = 0

        def __str__(self) -> str:
            Mute.asked += 1
            if Mute.asked > 1:
                raise ValueError("no text")
            return ""

    warnings.warn(Mute(), stacklevel=1)
    return x


# What changes the process


@does("Returned", "float64")
def moves(x: Array) -> Array:
    os.chdir("/")
    return x


@does("Returned", "float64")
def traps(x: Array) -> Array:
    np.seterr(all="raise")
    return x


@does("Returned", "float64")
def prints_otherwise(x: Array) -> Array:
    np.set_printoptions(precision=1, legacy="1.13")
    return x


@does("Returned", "float64")
def silences(x: Array) -> Array:
    warnings.simplefilter("ignore")
    warnings.showwarning = lambda *_, **__: None  # type: ignore[assignment]
    return x


@does("Returned", "float64")
def mutes(x: Array) -> Array:
    sys.stdout = sys.stderr = None  # type: ignore[assignment]
    return x


@does("Returned", "float64")
def closes(x: Array) -> Array:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        assert stream is not None
        stream.close()
    with sys.stdout:
        pass
    return x


@does("Raised", "ValueError")
def detaches(x: Array) -> Array:
    sys.stdout.detach()  # type: ignore[attr-defined]
    return x


@does("Returned", "float64")
def closes_descriptors(x: Array) -> Array:
    os.close(1)
    os.close(2)
    return x


@does("Returned", "float64")
def writes(x: Array) -> Array:
    print("printed")
    os.write(1, b"written\n")
    os.write(2, b"written\n")
    return x


@does("Returned", "float64")
def handles(x: Array) -> Array:
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
    return x


@does("Returned", "float64")
def alarms(x: Array) -> Array:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    return x


@does("Returned", "float64")
def shallow(x: Array) -> Array:
    with contextlib.suppress(RecursionError):
        sys.setrecursionlimit(90)
    return x


@does("Returned", "float64")
def on_github(x: Array) -> Array:
    os.environ["GITHUB_ACTIONS"] = "true"
    os.environ.pop("HOME", None)
    return x


@does("Returned", "float64")
def forks(x: Array) -> Array:
    if hasattr(os, "fork"):
        child = os.fork()
        if child:
            os.waitpid(child, 0)
    return x


@does("Returned", "float64")
def leaves_in_a_thread(x: Array) -> Array:
    thread = threading.Thread(target=sys.exit, args=(5,))
    thread.start()
    thread.join()
    return x


@does("Returned", "float64")
def reshapes(x: Array) -> Array:
    x.shape = (1, *x.shape)
    return np.ones(2)


@does("Returned", "float64")
def retypes(x: Array) -> Array:
    x.dtype = np.complex128 if x.size % 2 == 0 else np.int64  # type: ignore[misc]
    return np.ones(2)


BUFFER = np.zeros(2)


@does("Returned", "float64")
def reuses(x: Array) -> Array:
    BUFFER[:] += 1
    return BUFFER


@contextlib.contextmanager
def unchanged() -> Iterator[None]:
    """Within the context nothing is changed that a later call or a command depends on."""

    def state() -> dict[str, Any]:
        names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM") if hasattr(signal, name)]
        return {
            "folder": os.getcwd(),  # noqa: PTH109
            "errors": np.geterr(),
            "options": np.get_printoptions(),
            "filters": list(warnings.filters),
            "shows": warnings.showwarning,
            "streams": (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__),
            "open": [os.get_inheritable(descriptor) is not None for descriptor in (1, 2)],
            "handlers": [signal.getsignal(getattr(signal, name)) for name in names],
            "recursion": sys.getrecursionlimit(),
            "environment": {name: os.environ.get(name) for name in ("GITHUB_ACTIONS", "HOME")},
            "process": os.getpid(),
        }  # fmt: skip

    before = state()
    yield
    assert state() == before
    assert sys.stdout is None or not sys.stdout.closed


def loss(x: Array, name: str) -> Any:
    return FUNCTIONS[name](x)


FRAMEWORK = Framework(
    name="hostile", distributions=("numpy",), modules=("numpy",), functions=(),
    arrays=arrays.numpy, imports="import conformance.tests.hostile",
)  # fmt: skip
