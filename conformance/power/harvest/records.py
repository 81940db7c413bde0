"""Records of a source, that is an upstream test suite, and their serialisation between processes.

Arguments are builtin values and arrays by parameter name, copied at the time of the call. Other values, such as a
callable or a traced array, become `Opaque`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.execution.workers import wire
from conformance.model.case import Array


@dataclass(frozen=True)
class Opaque:
    """A value that is not converted."""

    type_name: str
    """Name of its type, such as `Tracer`."""


@dataclass(frozen=True, eq=False)
class StatedAnswer:
    """A result that a test of the upstream suite expects."""

    values: Array
    """float64, in the shape of the result."""
    dtype: str
    """The dtype in which it was computed; "" for a literal."""
    rtol: float
    atol: float
    """Absolute tolerance of the source's comparison; `rtol` is the relative one."""


@dataclass(frozen=True, eq=False)
class Record:
    """One call in a source's tests."""

    test: str
    """The test, as pytest names it."""
    name: str
    """The text from which the case's name is derived."""
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

    records: Sequence[Record]
    notes: Sequence[str] = ()
    """Remarks for the reader of the table."""


def first_line(function: Any) -> int:
    """Line number of a function, also of a partial one; 1 if it is unknown."""
    while hasattr(function, "func"):
        function = function.func
    return int(getattr(getattr(inspect.unwrap(function), "__code__", None), "co_firstlineno", 1))


def to_plain(value: Any) -> Any:
    """Convert a value: sequences of numbers become arrays; numbers, text and None are kept; the rest is `Opaque`."""
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
    """A copy as a numeric or boolean array; None if it is neither."""
    array = _to_array(value)
    if array is None:
        return None
    readable = array.dtype.kind in "biuf" or array.dtype.name == "bfloat16"
    return array if readable else None


def _text_list(value: Any) -> list[Any] | None:
    """The nested list that an array of text represents."""
    array = _to_array(value)
    values = None if array is None else array.tolist()
    return values if values is None or isinstance(values, list) else [values]


def _to_array(value: Any) -> Array | None:
    """A copy made by numpy; None if it fails. Tests may have turned warnings into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return np.array(value)
        except Exception:  # a foreign `__array__` may raise anything
            return None


# Serialisation

CLASSES = {kind.__name__: kind for kind in (CollectedRecords, Record, StatedAnswer, Opaque)}


def encode(collected: CollectedRecords) -> wire.Buffers:
    """Serialise the records of a source."""
    arrays: list[Array] = []

    def describe(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays.append(value)
            return {"array": len(arrays) - 1}
        if isinstance(value, list | tuple):
            return [describe(element) for element in value]
        if isinstance(value, Mapping):
            return {"mapping": {name: describe(element) for name, element in value.items()}}
        if type(value) in CLASSES.values():
            return {type(value).__name__: describe(vars(value))["mapping"]}
        return value

    return wire.encode_message({"collected": describe(collected)}, arrays)


def decode(message: wire.Message) -> CollectedRecords:
    """Deserialise the records of a source.  Raises WireError."""
    arrays = wire.decode_arrays(message.header, message.body)

    def read(description: Any) -> Any:
        if isinstance(description, list):
            return [read(element) for element in description]
        if not isinstance(description, dict):
            return description
        ((kind, value),) = description.items()
        if kind == "array":
            return arrays[value]
        fields = {name: read(element) for name, element in value.items()}
        return CLASSES[kind](**fields) if kind in CLASSES else fields

    try:
        collected = read(message.header["collected"])
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise wire.WireError(f"it has no records ({type(error).__name__})") from error
    if not isinstance(collected, CollectedRecords):
        raise wire.WireError("it has no records")
    return collected
