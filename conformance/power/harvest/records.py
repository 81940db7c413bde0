"""Records of a source, and their serialisation between the process that reads the source and this one.

Arguments are builtin values and arrays by parameter name, copied at the time of the call. Other values, such as a
callable or a traced array, become `Opaque`.
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
    """A value that cannot be read; `what` is its type, such as `Tracer`."""

    what: str


@dataclass(frozen=True, eq=False)
class StatedAnswer:
    """An answer that the source states."""

    values: Array
    """Float64, shaped as the result."""
    dtype: str
    """The dtype it was computed in; "" if it is a literal."""
    rtol: float
    atol: float
    """Absolute tolerance of the source itself, as `rtol` is the relative one."""


@dataclass(frozen=True, eq=False)
class Record:
    """One call in a source's tests."""

    test: str
    """The test, as pytest names it."""
    name: str
    """The text from which the case's name is made."""
    function: str
    arguments: Mapping[str, Any]
    stated: StatedAnswer | None = None
    raised: str = ""
    """The exception that the call raised; "" if none."""
    line: int = 1
    """Line in the test's file."""


@dataclass(frozen=True)
class CollectedRecords:
    """All records of a source, in its order."""

    records: tuple[Record, ...]
    notes: tuple[str, ...] = field(default=())
    """Remarks for the reader of the table."""


def first_line(function: Any) -> int:
    """First line of a function; 1 if it is unknown."""
    while hasattr(function, "func"):
        function = function.func
    return int(getattr(getattr(inspect.unwrap(function), "__code__", None), "co_firstlineno", 1))


def to_plain(value: Any) -> Any:
    """Convert a value: numbers become arrays of their own, text and None are kept, anything else becomes `Opaque`."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Opaque):
        return value
    if isinstance(value, tuple | list):
        array = _array(value)
        return array if array is not None else [to_plain(element) for element in value]
    if isinstance(value, Mapping):
        return {str(name): to_plain(element) for name, element in value.items()}
    if hasattr(value, "__array__"):
        array = _array(value)
        if array is not None:
            return array
    if isinstance(value, np.ndarray):
        return [to_plain(element) for element in value.tolist()] if value.ndim else to_plain(value.item())
    if hasattr(value, "__array__") and (text := _text_list(value)) is not None:
        return text
    return Opaque(type(value).__name__)


def _array(value: Any) -> Array | None:
    """A copy as an array of numbers or truth values; None if it is no such array."""
    array = _to_array(value)
    if array is None:
        return None
    readable = array.dtype.kind in "biuf" or array.dtype.name == "bfloat16"
    return array if readable else None


def _text_list(value: Any) -> list[Any] | None:
    """The nested list that an array of text represents."""
    array = _to_array(value)
    made = None if array is None else array.tolist()
    return made if made is None or isinstance(made, list) else [made]


def _to_array(value: Any) -> Array | None:
    """A copy made by numpy; None if it fails. Tests may have turned warnings into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return np.array(value)
        except Exception:  # whatever a foreign `__array__` raises: it is no array that can be read
            return None


# What travels


def encode(record: Record) -> wire.Buffers:
    """Serialise one record."""
    arrays: list[Array] = []

    def describe(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays.append(value)
            return {"array": len(arrays) - 1}
        if isinstance(value, Opaque):
            return {"opaque": value.what}
        if isinstance(value, Mapping):
            return {"mapping": {name: describe(one) for name, one in value.items()}}
        if isinstance(value, list):
            return {"list": [describe(one) for one in value]}
        return {"value": value}

    stated = record.stated
    head = {
        "found": [record.test, record.name, record.function, record.raised, record.line],
        "arguments": describe(dict(record.arguments)),
        "stated": None if stated is None else [describe(stated.values), stated.dtype, stated.rtol, stated.atol],
    }
    return wire.message(head, arrays)


def decode(head: wire.Head, body: bytes | bytearray) -> Record:
    """Deserialise one record."""
    arrays: Sequence[Array] = wire.arrays_of(head, body)

    def read(description: Any) -> Any:
        ((kind, value),) = description.items()
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
        stated = StatedAnswer(read(values), dtype, rtol, atol)
    return Record(test, name, function, read(head["arguments"]), stated, raised, line)


def encode_end(notes: Sequence[str]) -> wire.Buffers:
    """The message after the last record."""
    return wire.message({"notes": list(notes)})


def encode_failure(why: str) -> wire.Buffers:
    """The message instead of it, if the source cannot be read."""
    return wire.message({"failed": why})
