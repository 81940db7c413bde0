"""Messages between a run and its workers: a JSON header and the bytes of arrays.

No pickles, so that versions of Python and numpy may differ.  Arrays are bit-exact.  A message consists of `MAGIC`, the
length of the header (uint32), the length of all arrays (uint64), the header, and the arrays.
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
JOIN_LIMIT_BYTES = 1 << 16
"""Messages with fewer bytes in arrays are joined to one buffer: a copy costs less than another send."""
MAX_MESSAGE_BYTES = 1 << 40
"""Maximum length of the arrays of a message; a larger one means that the stream is corrupt."""

Header = dict[str, Any]
Buffers = list[memoryview]


class WireError(Exception):
    """The bytes are no message."""


def message(header: Mapping[str, Any], arrays: Sequence[Array] = ()) -> Buffers:
    """The buffers of a message, in order; contiguous arrays are not copied."""
    flat = [np.ascontiguousarray(array, dtype=_little(array.dtype)) for array in arrays]
    described = [[_name(array.dtype), list(array.shape)] for array in arrays]
    text = json.dumps({**header, "arrays": described}).encode()
    size = sum(array.nbytes for array in flat)
    # memoryview knows neither bfloat16 nor arrays without elements.
    buffers = [memoryview(LENGTHS.pack(MAGIC, len(text), size) + text)]
    buffers += [array.reshape(-1).view(np.uint8).data for array in flat if array.size]
    return [memoryview(b"".join(buffers))] if size < JOIN_LIMIT_BYTES else buffers


def lengths(start: bytes | bytearray) -> tuple[int, int]:
    """Lengths in bytes of the header and the arrays that follow.  Raises WireError."""
    magic, header, arrays = LENGTHS.unpack(start)
    if magic != MAGIC or arrays > MAX_MESSAGE_BYTES:
        raise WireError(f"expected a message, got {start!r}")
    return header, arrays


def arrays_of(header: Header, body: bytes | bytearray | memoryview) -> list[Array]:
    """The arrays of a message, as read-only views of its body.  Raises ImportError if numpy lacks a dtype."""
    arrays, start = [], 0
    for name, shape in header["arrays"]:
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


def read_message(read: Callable[[int], bytes | bytearray]) -> tuple[Header, bytes | bytearray]:
    """Header and body of the next message of a stream.  read: returns the given number of bytes, or raises."""
    header, arrays = lengths(read(LENGTHS.size))
    return json.loads(read(header)), read(arrays)


def take_message(buffer: bytearray) -> tuple[Header, bytes] | None:
    """Remove the first message from a buffer; return its header and body, or None if it is not complete."""
    start = LENGTHS.size
    if len(buffer) < start:
        return None
    header, arrays = lengths(buffer[:start])
    end = start + header + arrays
    if len(buffer) < end:
        return None
    content = bytes(buffer[start:end])
    del buffer[:end]
    return json.loads(content[:header]), content[header:]


@cache
def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.name == "bfloat16" else dtype.newbyteorder("<")


@cache
def _name(dtype: np.dtype[Any]) -> str:
    return "bfloat16" if dtype.name == "bfloat16" else dtype.newbyteorder("<").str


# Calls


def call_message(call: Call, what: str) -> Buffers:
    """The message that requests a call.  what: name of the call in errors."""
    named = [[name, tensor.order] for name, tensor in call.arrays.items()]
    header = {"do": "perform", "what": what, "text": call.text, "mode": call.mode, "named": named}
    return message(header, [tensor.values for tensor in call.arrays.values()])


def call_of(header: Header, arrays: Sequence[Array]) -> Call:
    """The call in a message."""
    tensors = {name: Tensor(values, order) for (name, order), values in zip(header["named"], arrays, strict=True)}
    return Call(header["text"], tensors, header["mode"])


# Outcomes

_PLAIN: dict[str, Any] = {kind.__name__: kind for kind in (NonNumeric, Raised, Crashed, TimedOut, Unsupported)}


def outcome_message(outcome: Outcome) -> Buffers:
    """The message with the outcome of a call."""
    if isinstance(outcome, Returned):
        header = {
            "outcome": "Returned",
            "dtype": outcome.dtype,
            "warnings": outcome.warnings,
            "mutated": outcome.mutated,
        }
        return message(header, [outcome.value])
    return message({"outcome": type(outcome).__name__, "fields": asdict(outcome)})


def outcome_of(header: Header, arrays: Sequence[Array]) -> Outcome:
    """The outcome in a message."""
    if header["outcome"] == "Returned":
        return Returned(arrays[0], header["dtype"], tuple(header["warnings"]), tuple(header["mutated"]))
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in header["fields"].items()}
    outcome: Outcome = _PLAIN[header["outcome"]](**fields)
    return outcome
