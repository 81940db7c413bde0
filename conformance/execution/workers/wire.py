"""Messages between a run and its workers: a JSON header and the bytes of arrays.

No pickles, so that versions of Python and numpy may differ.  Arrays are bit-exact.  A message consists of `MAGIC`, its
number (uint64), the length of the header (uint32), the length of all arrays (uint64), the header, and the arrays; all
numbers are little-endian.  The request number and the `END` trailer distinguish a worker's answer from bytes that the
framework wrote to the same stream.  Whatever a worker sends is checked before it is used.

The header is a JSON object.  `arrays` lists the dtype and the shape of each array.  A request has its kind in `do`, and
the fields of `start_request`, `signatures_request` or `call_request`.  An answer has, by the kind of its request:

    start        `ready`, the fields of `Versions`; or `failed`, why the framework cannot be used
    perform      `outcome`, the name of a class of `model.outcome`, and its fields
    signatures   `signatures`, by path: a list of parameters, or null

In place of the last two, `harness` says why the request could not be served.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np

from conformance.adapters.arrays import Tensor
from conformance.adapters.contract.calling import MAX_RETURNED
from conformance.adapters.contract.lowering import Call
from conformance.model.case import Array, numpy_dtype
from conformance.model.outcome import Crashed, NonNumeric, Outcome, Raised, Returned, TimedOut, Unsupported

MAGIC = b"CE02"
PREFIX = struct.Struct("<4sQIQ")
END = b"ende"
"""Trailer of each answer."""
JOIN_LIMIT_BYTES = 1 << 16
"""Messages with fewer bytes in arrays are joined to one buffer, as a copy is faster than another send."""
MAX_ARRAY_BYTES = 1 << 40
"""Maximum length of the arrays of a message; a larger one means that the stream is corrupt."""
MAX_ANSWER_ARRAY_BYTES = np.dtype(np.float64).itemsize * MAX_RETURNED
"""Maximum length of the arrays of an answer, which are float64."""
MAX_HEADER_BYTES = 1 << 26
"""Maximum length of a header: the longest ones have a thousand warnings."""

Header = dict[str, Any]
Buffers = list[memoryview]


class WireError(Exception):
    """The bytes are not a message, or not the expected one."""


class UnexpectedAnswerError(WireError):
    """The message has another number than the request that was sent."""

    def __init__(self, number: int) -> None:
        super().__init__("it sent an answer that was not expected")
        self.number = number


class RepeatedAnswerError(WireError):
    """A second answer to the same request starts where the first one should end."""


@dataclass(frozen=True)
class Message:
    """A message that has arrived."""

    number: int
    header: Header
    body: bytes | bytearray

    @property
    def buffers(self) -> Buffers:
        """Encode the message again, to forward it."""
        header = json.dumps(self.header).encode()
        return [memoryview(PREFIX.pack(MAGIC, self.number, len(header), len(self.body)) + header + self.body)]


def encode_message(header: Mapping[str, Any], arrays: Sequence[Array] = ()) -> Buffers:
    """The buffers of a message with the number 0, in order.

    Contiguous arrays of JOIN_LIMIT_BYTES and more are not copied.
    """
    flat = [np.ascontiguousarray(array, dtype=_little(array.dtype)) for array in arrays]
    described = [[_name(array.dtype), list(array.shape)] for array in arrays]
    text = json.dumps({**header, "arrays": described}).encode()
    size = sum(array.nbytes for array in flat)
    # memoryview knows neither bfloat16 nor arrays without elements.
    buffers = [memoryview(bytearray(PREFIX.pack(MAGIC, 0, len(text), size) + text))]
    buffers += [array.reshape(-1).view(np.uint8).data for array in flat if array.size]
    return [memoryview(bytearray().join(buffers))] if size < JOIN_LIMIT_BYTES else buffers


def set_message_number(buffers: Buffers, number: int) -> Buffers:
    """Write a number into the buffers of a message, in place, and return them."""
    struct.pack_into("<Q", buffers[0], len(MAGIC), number)
    return buffers


def with_trailer(buffers: Buffers) -> Buffers:
    """The buffers of an answer, followed by `END`."""
    return [memoryview(b"".join((buffers[0], END)))] if len(buffers) == 1 else [*buffers, memoryview(END)]


def decode_arrays(header: Header, body: bytes | bytearray | memoryview) -> list[Array]:
    """The arrays of a message, as read-only views of its body.

    Raises ImportError if numpy lacks a dtype, and WireError if the body has another size than the arrays.
    """
    arrays, start = [], 0
    try:
        for name, shape in header["arrays"]:
            dtype = _dtype(name)
            count = math.prod(shape)
            array = np.frombuffer(body, np.uint8, count * dtype.itemsize, start).view(dtype).reshape(shape)
            array.flags.writeable = False
            arrays.append(array)
            start += count * dtype.itemsize
    # numpy raises SyntaxError for the name of a dtype that it cannot parse.
    except (LookupError, TypeError, ValueError, ArithmeticError, SyntaxError) as error:
        raise WireError(f"its arrays cannot be read ({type(error).__name__})") from error
    if start != len(body):
        raise WireError(f"its arrays have {len(body)} bytes; expected {start}")
    return arrays


@cache
def _dtype(name: str) -> np.dtype[Any]:
    return numpy_dtype(name) if name == "bfloat16" else np.dtype(name)


def read_message(read: Callable[[int], bytes | bytearray]) -> Message:
    """The next message of a stream.

    read: returns the given number of bytes, or raises.

    Raises WireError if the bytes are not a message.
    """
    number, header_bytes, array_bytes = _prefix(read(PREFIX.size), MAX_ARRAY_BYTES)
    return Message(number, _header(read(header_bytes)), read(array_bytes))


def read_answer(buffer: bytearray, number: int) -> Message | None:
    """Remove the first answer from a buffer and return it, or None if it is not complete.

    number: number of the request.

    Raises WireError if the buffer begins with anything but its answer.
    """
    start = PREFIX.size
    if len(buffer) < start:
        if not MAGIC.startswith(buffer[: len(MAGIC)]):
            raise WireError(f"expected a message, got {bytes(buffer)!r}")
        return None
    answered, header_bytes, array_bytes = _prefix(buffer[:start], MAX_ANSWER_ARRAY_BYTES)
    if answered != number:
        raise UnexpectedAnswerError(answered)
    end = start + header_bytes + array_bytes
    trailer = bytes(buffer[end : end + len(END)])
    if not END.startswith(trailer):
        is_repeated = MAGIC.startswith(trailer)
        raise RepeatedAnswerError if is_repeated else WireError(f"expected the end of its answer, got {trailer!r}")
    if len(trailer) < len(END):
        return None
    content = bytes(buffer[start:end])
    del buffer[: end + len(END)]
    return Message(answered, _header(content[:header_bytes]), content[header_bytes:])


def _prefix(start: bytes | bytearray, max_array_bytes: int) -> tuple[int, int, int]:
    """Number, and lengths in bytes of the header and the arrays that follow."""
    if len(start) < PREFIX.size or not start.startswith(MAGIC):
        raise WireError(f"expected a message, got {bytes(start)!r}")
    _, number, header_bytes, array_bytes = PREFIX.unpack(start)
    if header_bytes > MAX_HEADER_BYTES or array_bytes > max_array_bytes:
        raise WireError(f"it announced a header of {header_bytes} bytes and arrays of {array_bytes} bytes")
    return number, header_bytes, array_bytes


def _header(text: bytes | bytearray) -> Header:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError(f"the header of its message cannot be read ({type(error).__name__})") from error
    if not isinstance(header, dict):
        raise WireError("the header of its message is not an object")
    return header


@cache
def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.name == "bfloat16" else dtype.newbyteorder("<")


@cache
def _name(dtype: np.dtype[Any]) -> str:
    return "bfloat16" if dtype.name == "bfloat16" else dtype.newbyteorder("<").str


@dataclass(eq=False)
class Request:
    """A message to a worker."""

    kind: str
    """`start`, `perform` or `signatures`; decides what the answer may be."""
    buffers: Buffers
    """Binary parts of the message."""
    number: int = 0
    """0 until `assign` sets it."""
    label: str = ""
    """Name of the request in error messages."""

    def __post_init__(self) -> None:
        self.label = self.label or f"the request to {self.kind}"

    def assign(self, number: int) -> None:
        """Give the message a number, unless it has one."""
        if not self.number:
            self.number = number
            set_message_number(self.buffers, number)

    @classmethod
    def from_bytes(cls, content: bytes) -> Request:
        """Parse a request from bytes, to forward it."""
        number, header_bytes, _ = _prefix(content[: PREFIX.size], MAX_ARRAY_BYTES)
        kind = _header(content[PREFIX.size : PREFIX.size + header_bytes])["do"]
        return cls(kind, [memoryview(bytearray(content))], number)

    def decode_answer(self, arrived: Message) -> Any:
        """The content of the answer to this request.

        start: `Versions`, or a str that says why the framework cannot be used.
        perform: an `Outcome`, or a str that says why the call could not be made.
        signatures: these by path.

        Raises WireError if it is malformed, or the answer to another request.
        """
        if arrived.number != self.number:
            raise UnexpectedAnswerError(arrived.number)
        try:
            return _ANSWERS[self.kind](arrived.header, arrived.body)
        except (LookupError, TypeError, ValueError, AttributeError, ImportError) as error:
            raise WireError(f"its answer cannot be read ({type(error).__name__})") from error


def start_request(adapter: str, file: str, device: str) -> Request:
    """The request to import a framework; the parameters are fields of `WorkerSpec`."""
    return Request("start", encode_message({"do": "start", "adapter": adapter, "file": file, "device": device}))


def signatures_request(paths: Sequence[str]) -> Request:
    """The request for signatures; see `serve.signature`."""
    return Request("signatures", encode_message({"do": "signatures", "paths": list(paths)}))


def call_request(call: Call, label: str) -> Request:
    """The request for a call.

    label: name of the call in error messages.
    """
    header = {
        "do": "perform",
        "what": label,
        "text": call.text,
        "mode": call.mode,
        "device": call.device,
        "named": [[name, tensor.order] for name, tensor in call.arrays.items()],
    }
    buffers = encode_message(header, [tensor.values for tensor in call.arrays.values()])
    return Request("perform", buffers, label=label)


def decode_call(header: Header, arrays: Sequence[Array]) -> Call:
    """The call in a message."""
    tensors = {name: Tensor(values, order) for (name, order), values in zip(header["named"], arrays, strict=True)}
    return Call(header["text"], tensors, header["mode"], device=header["device"])


_OUTCOME_TYPES: dict[str, Any] = {
    outcome.__name__: outcome for outcome in (NonNumeric, Raised, Crashed, TimedOut, Unsupported)
}
"""Outcomes without an array, by name."""


_NUMBERS: dict[str, Any] = {"seconds": float, "earlier": int}
"""Fields of outcomes that are numbers, and how they are read."""


def outcome_message(outcome: Outcome) -> Buffers:
    """The message with the outcome of a call."""
    if isinstance(outcome, Returned):
        header = {
            "outcome": "Returned",
            "dtype": outcome.dtype,
            "warnings": outcome.warnings,
            "mutated": outcome.mutated,
        }
        return encode_message(header, [outcome.value])
    return encode_message({"outcome": type(outcome).__name__, "fields": asdict(outcome)})


def decode_outcome(header: Header, body: bytes | bytearray) -> Outcome:
    """The outcome in a message.

    Raises WireError, LookupError, TypeError or ValueError if the message does not hold one.
    """
    if header["outcome"] == "Returned":
        (value,) = decode_arrays(header, body)
        if value.dtype != np.float64:
            raise TypeError(value.dtype)
        return Returned(value, _text(header["dtype"]), _texts(header["warnings"]), _texts(header["mutated"]))
    if header["arrays"] or body:
        raise WireError("it sent arrays that were not expected")
    fields = {
        name: _texts(value) if name == "warnings" else _NUMBERS.get(name, _text)(value)
        for name, value in header["fields"].items()
    }
    outcome: Outcome = _OUTCOME_TYPES[header["outcome"]](**fields)
    return outcome


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(type(value))
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(type(values))
    return tuple(map(_text, values))


@dataclass(frozen=True)
class Versions:
    """Versions of a framework, Python and numpy in the environment of a worker, and the framework's backend."""

    version: str
    python: str
    numpy: str
    backend: str = ""


def _started(header: Header, body: bytes | bytearray) -> Versions | str:
    if "failed" in header:
        return _text(header["failed"])
    return Versions(**{name: _text(value) for name, value in header["ready"].items()})


def _performed(header: Header, body: bytes | bytearray) -> Outcome | str:
    return _text(header["harness"]) if "harness" in header else decode_outcome(header, body)


def _signatures(header: Header, body: bytes | bytearray) -> dict[str, list[list[str]] | None]:
    if "harness" in header:
        return {}
    return {
        _text(path): parameters and [list(_texts(parameter)) for parameter in parameters]
        for path, parameters in header["signatures"].items()
    }


_ANSWERS: Mapping[str, Callable[[Header, bytes | bytearray], Any]] = {
    "start": _started,
    "perform": _performed,
    "signatures": _signatures,
}
