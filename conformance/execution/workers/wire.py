"""What travels between a run and its workers: one JSON head and the bytes of some arrays per message.

No pickles: what one version of Python or numpy writes, any other reads.  Arrays are bit-exact.  A message
is `MAGIC`, the length of the head (uint32), the length of all arrays (uint64), the head, the arrays.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np

from conformance.adapters.arrays import Tensor
from conformance.adapters.contract.lowering import Call
from conformance.model.case import Array, numpy_dtype
from conformance.model.outcome import Crashed, NonNumeric, Outcome, Raised, Returned, TimedOut, Unsupported

MAGIC = b"CE01"
LENGTHS = struct.Struct("<4sIQ")
JOINED = 1 << 16
"""Messages with less than these bytes in arrays are sent in one piece: copying it costs less than sending twice."""
LARGEST = 1 << 40
"""No message is longer; a length beyond it is a stream that is out of step."""

Head = dict[str, Any]
Buffers = list[memoryview]


class WireError(Exception):
    """The bytes are no message."""


def message(head: Mapping[str, Any], arrays: Sequence[Array] = ()) -> Buffers:
    """The pieces of a message, in the order they are sent in; an array that lies in one piece is not copied."""
    flat = [np.ascontiguousarray(array, dtype=_little(array.dtype)) for array in arrays]
    described = [[_name(array.dtype), list(array.shape)] for array in arrays]
    text = json.dumps({**head, "arrays": described}).encode()
    size = sum(array.nbytes for array in flat)
    # memoryview knows neither bfloat16 nor arrays without elements.
    pieces = [memoryview(LENGTHS.pack(MAGIC, len(text), size) + text)]
    pieces += [array.reshape(-1).view(np.uint8).data for array in flat if array.size]
    return [memoryview(b"".join(pieces))] if size < JOINED else pieces


def lengths(start: bytes | bytearray) -> tuple[int, int]:
    """(bytes of the head, bytes of the arrays) that follow; raises WireError."""
    magic, head, arrays = LENGTHS.unpack(start)
    if magic != MAGIC or arrays > LARGEST:
        raise WireError(f"expected a message, got {start!r}")
    return head, arrays


def arrays_of(head: Head, body: bytes | bytearray | memoryview) -> list[Array]:
    """The arrays of a message, as read-only views of its body; raises ImportError where numpy lacks a dtype."""
    arrays, start = [], 0
    for name, shape in head["arrays"]:
        dtype = _dtype(name)
        count = math.prod(shape)
        array = np.frombuffer(body, np.uint8, count * dtype.itemsize, start).view(dtype).reshape(shape)
        array.flags.writeable = False
        arrays.append(array)
        start += count * dtype.itemsize
    return arrays


@cache
def _dtype(name: str) -> np.dtype[Any]:
    return numpy_dtype(name) if name == "bfloat16" else np.dtype(name)


def received(read: Callable[[int], bytes | bytearray]) -> tuple[Head, bytes | bytearray]:
    """(head, body) of the next message of a stream; `read` returns as many bytes as it is asked for, or raises."""
    head, arrays = lengths(read(LENGTHS.size))
    return json.loads(read(head)), read(arrays)


@cache
def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.name == "bfloat16" else dtype.newbyteorder("<")


@cache
def _name(dtype: np.dtype[Any]) -> str:
    return "bfloat16" if dtype.name == "bfloat16" else dtype.newbyteorder("<").str


# Calls


def call_message(call: Call, what: str) -> Buffers:
    """A call to be made.  what: names it in messages."""
    named = [[name, tensor.order] for name, tensor in call.arrays.items()]
    head = {"do": "perform", "what": what, "text": call.text, "mode": call.mode, "named": named}
    return message(head, [tensor.values for tensor in call.arrays.values()])


def call_of(head: Head, arrays: Sequence[Array]) -> Call:
    """The call in a message."""
    tensors = {name: Tensor(values, order) for (name, order), values in zip(head["named"], arrays, strict=True)}
    return Call(head["text"], tensors, head["mode"])


# Outcomes

_PLAIN: dict[str, Any] = {kind.__name__: kind for kind in (NonNumeric, Raised, Crashed, TimedOut, Unsupported)}


def outcome_message(outcome: Outcome) -> Buffers:
    """What came of a call."""
    if isinstance(outcome, Returned):
        head = {"outcome": "Returned", "dtype": outcome.dtype, "warnings": outcome.warnings, "mutated": outcome.mutated}
        return message(head, [outcome.value])
    return message({"outcome": type(outcome).__name__, "fields": asdict(outcome)})


def outcome_of(head: Head, arrays: Sequence[Array]) -> Outcome:
    """The outcome in a message."""
    if head["outcome"] == "Returned":
        return Returned(arrays[0], head["dtype"], tuple(head["warnings"]), tuple(head["mutated"]))
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in head["fields"].items()}
    outcome: Outcome = _PLAIN[head["outcome"]](**fields)
    return outcome
