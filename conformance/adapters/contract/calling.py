"""Make a call and describe its outcome: compile once, execute with the arrays bound, contain side effects."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import CodeType
from typing import Any

import numpy as np

from conformance.adapters.arrays import Arrays, identical
from conformance.adapters.contract.containment import Surroundings, cause
from conformance.adapters.contract.errors import LoweringError
from conformance.adapters.contract.framework import Framework, Function
from conformance.adapters.contract.lowering import Call, call_name, lower
from conformance.adapters.contract.source import FILE, split_last_expression
from conformance.model.case import Array, Problem
from conformance.model.outcome import NonNumeric, Outcome, Raised, Returned, warning_text
from conformance.model.row_key import CPU, EAGER
from conformance.model.text import text_of, type_name

SHARING = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Lets idle threads of a framework sleep instead of spin, as other worker processes need the processor."""
MAX_WARNINGS = 1000
"""Maximum number of warnings of one call that are read."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
"""Variables that set the number of threads of a framework."""


def share_processors() -> None:
    """Set `SHARING` in this process, before any framework is imported, unless the user has set it."""
    for name, value in SHARING.items():
        os.environ.setdefault(name, value)


def evaluate(framework: Framework, function: Function, problem: Problem) -> Outcome:
    """Call a function on a problem in this process and return the outcome.

    problem: a problem whose input kind the function accepts.  Raises LoweringError.
    """
    return perform(framework, lower(function, problem), call_name(function, problem))


def _compiled(text: str) -> tuple[CodeType | None, CodeType]:
    statements, result = split_last_expression(text)
    return compile(statements, FILE, "exec") if statements else None, compile(result, FILE, "eval")


_compiled_once = lru_cache(maxsize=4096)(_compiled)


def perform(framework: Framework, call: Call, description: str, copied: bool = True) -> Outcome:
    """Make a call and return its outcome.

    description: name of the call in messages.
    copied: whether to copy the arrays into the layouts of the call and to report
    those that the function changed in place; if False, the function gets the arrays themselves and may change them.
    An exception of the framework's own call becomes `Raised`, except one that a signal raised, such as Ctrl-C.  An
    earlier error, or one in the source of the call of a registered framework, raises `LoweringError`.  `Surroundings`
    restores the state of the process after the call.
    """
    with Surroundings() as surroundings:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                framework.prepare()
                _check_environment(framework, call)
                statements, result = (_compiled if call.recompile else _compiled_once)(call.text)
                arrays, imported = framework.runtime(call.mode)
                tensors = call.arrays
                memory = {name: tensor.laid_out() if copied else tensor.values for name, tensor in tensors.items()}
                natives = _natives(arrays, call.device, memory, imported)
                names = imported | natives
        except BaseException as error:
            surroundings.pass_on(error)
            raise LoweringError(f"{description}: {type_name(error)}: {text_of(error)}") from cause(error)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                if statements is not None:
                    exec(statements, names)  # noqa: S102 - the adapter's own source
                read = _read(arrays, eval(result, names), surroundings, copied)  # noqa: S307
            except BaseException as error:
                surroundings.pass_on(error)
                if not framework.adapter and (fault := _fault(error, call.text)):
                    raise LoweringError(f"{description}: {fault}") from cause(error)
                return Raised(type_name(error), text_of(error)[:500], _texts(caught))
        if isinstance(read, NonNumeric):
            return replace(read, warnings=_texts(caught))
        return Returned(*read, _texts(caught), _mutated(arrays, call, memory, natives) if copied else ())


def _natives(arrays: Arrays, device: str, memory: Mapping[str, Array], imported: Mapping[str, Any]) -> dict[str, Any]:
    """Convert arrays to the library's type, on a device.  imported: names that the source of the device needs."""
    natives = {name: arrays.native(values) for name, values in memory.items()}
    if device == CPU or (place := arrays.devices[device].place) == "{array}":
        return natives
    code = compile(place.replace("{array}", "array"), FILE, "eval")
    return {name: eval(code, {**imported, "array": native}) for name, native in natives.items()}  # noqa: S307


def _mutated(arrays: Arrays, call: Call, memory: Mapping[str, Array], natives: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the arrays that a call changed in place.

    memory: numpy arrays passed to `natives`, the arrays of the library, which may share memory with them.
    """
    if call.device == CPU or arrays.devices[call.device].place == "{array}":
        return tuple(name for name, tensor in call.arrays.items() if not _same(memory[name], tensor.values))
    now = {name: np.asarray(arrays.numpy(native)[0], dtype=np.float64) for name, native in natives.items()}
    return tuple(name for name, tensor in call.arrays.items() if not _same(now[name], tensor.values.astype(np.float64)))


def _check_environment(framework: Framework, call: Call) -> None:
    """Raise LoweringError if this process lacks an environment variable of the call's mode."""
    if call.mode == EAGER:
        return
    for name, value in framework.mode(call.mode).environment.items():
        if os.environ.get(name) != value:
            raise LoweringError(
                f"{call.mode} of {framework.name} needs a process with {name}={value}: have the calls made in workers, "
                "as `conformance run` does and pytest with --isolate, or set the variable before Python starts"
            )


_KEYWORD = re.compile(r"unexpected keyword argument '(\w+)'")
_MODULE = re.compile(r"module '[\w.]+' has no attribute '(\w+)'")
_BINDING = re.compile(r"required (positional|keyword-only) argument|positional arguments? but|multiple values for")


def _fault(error: BaseException, text: str) -> str:
    """Why an exception is a fault of the call's text and no finding; "" if it is a finding.

    It is a fault if a name, attribute, import or argument that appears in the text does not exist: a mistyped argument
    in an adapter raises TypeError in every framework and would otherwise be taken for a rejected input.
    """
    if type(error) not in (TypeError, NameError, AttributeError, ImportError, ModuleNotFoundError):
        return ""
    message = f"{type_name(error)}: {text_of(error)}"
    if type(error) is TypeError and (match := _KEYWORD.search(message)) and re.search(rf"\b{match[1]}=", text):
        return message
    if (missing := _MODULE.search(message)) and re.search(rf"\.{missing[1]}\b", text):
        return message  # raised in the `__getattr__` of the module
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None or frame.tb_frame.f_code.co_filename != FILE:
        return ""
    return message if type(error) is not TypeError or _BINDING.search(message) else ""


MAX_RETURNED = 1 << 27
"""Maximum number of elements of a result; as float64 it takes a gibibyte."""
SMALL_BYTES = 1 << 12
"""Size of arrays that are compared fastest as bytes."""
_ARRAYS = ("__array__", "__array_interface__", "__dlpack__", "dtype")
"""Attributes by which an object declares that it is an array."""


def _read(arrays: Arrays, result: Any, surroundings: Surroundings, copied: bool) -> tuple[Array, str] | NonNumeric:
    """Return (values in float64, name of the dtype) of a result, or a description of a non-numeric result.

    If conversion fails for an object that declares to be an array, the exception propagates: it may be computed lazily.
    """
    try:
        if issubclass(type(result), np.ma.MaskedArray) and np.ma.is_masked(result):
            return NonNumeric("a masked array with masked elements")
        value, dtype = arrays.numpy(result)
        array = np.asarray(value)
    except BaseException as error:
        surroundings.pass_on(error)
        if any(name in vars(kind) for kind in type(result).__mro__ for name in _ARRAYS):
            raise
        return NonNumeric(_named(result), f"{type_name(error)}: {text_of(error)[:500]}")
    if not (array.dtype.kind in "biuf" or (array.dtype.kind == "V" and array.dtype.name == "bfloat16")):
        is_array = issubclass(type(result), np.ndarray | np.generic)
        return NonNumeric(f"an array of {array.dtype.name}" if is_array else _named(result))
    if array.size > MAX_RETURNED:
        return NonNumeric(f"an array of shape {array.shape}")
    name = dtype if type(dtype) is str else text_of(dtype)[:100]
    # A copy, as the function may keep the array and write into it.
    return (np.array(array, dtype=np.float64) if copied else np.asarray(array, dtype=np.float64)), name


def _named(result: Any) -> str:
    """The type of a result, with an article."""
    if result is None:
        return "None"
    name = type_name(result)
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"


def _texts(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    """The first `MAX_WARNINGS` warnings as text, without duplicates."""
    return tuple(dict.fromkeys(warning_text(warning) for warning in caught[:MAX_WARNINGS]))


def _same(now: Array, before: Array) -> bool:
    if now.shape != before.shape or now.dtype != before.dtype:
        return False
    if now.nbytes <= SMALL_BYTES and now.tobytes() == before.tobytes():
        return True
    if now.dtype.kind == "U":
        return np.array_equal(now, before)
    together = now.nbytes % 8 == 0 and now.flags.c_contiguous and before.flags.c_contiguous
    pair = (now.reshape(-1), before.reshape(-1)) if together else (now, before)
    bits = "u8" if together else f"u{now.dtype.itemsize}"
    if bool((pair[0].view(bits) == pair[1].view(bits)).all()):
        return True
    return bool(np.all(identical(now, before)))
