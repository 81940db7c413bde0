"""What a source has: one input as it stands there, and how it travels from the process that read it.

Arguments are plain values and arrays by parameter name, copied when the call was made.  What is neither (a
callable, a traced array) becomes `Opaque` and says what it was.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conformance.execution.workers import wire
from conformance.model.case import Array


@dataclass(frozen=True)
class Opaque:
    """A value that cannot be read.  what: its kind, as `Tracer`."""

    what: str


@dataclass(frozen=True, eq=False)
class Stated:
    """An answer that the source states.

    values: float64, shaped as the result.  dtype: it was computed in, or "" where it was written down.
    rtol, atol: how far off the source itself lets a result be.
    """

    values: Array
    dtype: str
    rtol: float
    atol: float


@dataclass(frozen=True, eq=False)
class Found:
    """One input.

    test: where it stands, as pytest names it.  name: from which the case's is made.  function: what was called.
    raised: the exception it ended in, "" for none.  line: of the test's file.
    """

    test: str
    name: str
    function: str
    arguments: Mapping[str, Any]
    stated: Stated | None = None
    raised: str = ""
    line: int = 1


@dataclass(frozen=True)
class Collected:
    """Everything that a source has, in its order.  notes: what a reader of the table should know."""

    found: tuple[Found, ...]
    notes: tuple[str, ...] = field(default=())


def line_of(function: Any) -> int:
    """The line that a function starts on; 1 where it has none."""
    while hasattr(function, "func"):
        function = function.func
    return int(getattr(getattr(inspect.unwrap(function), "__code__", None), "co_firstlineno", 1))


def plain(value: Any) -> Any:
    """A value as it is now: numbers become arrays of their own, text and None stay, the rest becomes `Opaque`."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Opaque):
        return value
    if isinstance(value, tuple | list):
        made = _array(value)
        return made if made is not None else [plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if hasattr(value, "__array__"):
        made = _array(value)
        if made is not None:
            return made
    if isinstance(value, np.ndarray):
        return [plain(one) for one in value.tolist()] if value.ndim else plain(value.item())
    if hasattr(value, "__array__") and (text := _text(value)) is not None:
        return text
    return Opaque(type(value).__name__)


def _array(value: Any) -> Array | None:
    """A copy as an array of numbers or truth values; None where it is none."""
    array = _read(value)
    if array is None:
        return None
    readable = array.dtype.kind in "biuf" or array.dtype.name == "bfloat16"
    return array if readable else None


def _text(value: Any) -> list[Any] | None:
    """The nested list that an array of text stands for."""
    array = _read(value)
    made = None if array is None else array.tolist()
    return made if made is None or isinstance(made, list) else [made]


def _read(value: Any) -> Array | None:
    """A copy as numpy makes it; None where it cannot.  Tests may have turned warnings into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return np.array(value)
        except Exception:  # whatever a foreign `__array__` raises: it is no array that can be read
            return None


# What travels


def encoded(found: Found) -> wire.Buffers:
    """One input as a message."""
    arrays: list[Array] = []

    def said(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays.append(value)
            return {"array": len(arrays) - 1}
        if isinstance(value, Opaque):
            return {"opaque": value.what}
        if isinstance(value, Mapping):
            return {"mapping": {name: said(one) for name, one in value.items()}}
        if isinstance(value, list):
            return {"list": [said(one) for one in value]}
        return {"value": value}

    stated = found.stated
    head = {
        "found": [found.test, found.name, found.function, found.raised, found.line],
        "arguments": said(dict(found.arguments)),
        "stated": None if stated is None else [said(stated.values), stated.dtype, stated.rtol, stated.atol],
    }
    return wire.message(head, arrays)


def decoded(head: wire.Head, body: bytes | bytearray) -> Found:
    """The input in a message."""
    arrays: Sequence[Array] = wire.arrays_of(head, body)

    def read(said: Any) -> Any:
        ((kind, value),) = said.items()
        match kind:
            case "array":
                return arrays[value]
            case "opaque":
                return Opaque(value)
            case "mapping":
                return {name: read(one) for name, one in value.items()}
            case "list":
                return [read(one) for one in value]
            case _:
                return value

    test, name, function, raised, line = head["found"]
    stated = None
    if head["stated"] is not None:
        values, dtype, rtol, atol = head["stated"]
        stated = Stated(read(values), dtype, rtol, atol)
    return Found(test, name, function, read(head["arguments"]), stated, raised, line)


def closing(notes: Sequence[str]) -> wire.Buffers:
    """The message after the last input."""
    return wire.message({"notes": list(notes)})


def failing(why: str) -> wire.Buffers:
    """The message instead of it, where the source cannot be read."""
    return wire.message({"failed": why})
