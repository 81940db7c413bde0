"""Lowering: turn a problem into a call, which is source over named arrays, by the tables of a function."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from conformance.adapters.arrays import Tensor
from conformance.adapters.contract.containment import cause
from conformance.adapters.contract.encoding import (
    broadcast_weights,
    index_labels,
    labels,
    named_labels,
    one_hot_labels,
    predictions,
)
from conformance.adapters.contract.errors import LoweringError
from conformance.adapters.contract.framework import Framework, Function
from conformance.adapters.contract.heads import head_of, with_bias
from conformance.adapters.contract.source import join_lines, parenthesized, source_of, split_last_expression
from conformance.adapters.contract.upstream import Upstream
from conformance.model.case import HEAD_GRADIENTS, Array, Problem, numpy_dtype
from conformance.model.row_key import CPU, EAGER
from conformance.model.text import text_of, type_name

MAX_SHARED = 1000
"""Maximum number of elements of an array that is cached, with its text, for other functions."""


@dataclass(frozen=True)
class Call:
    """A call of a function on a problem."""

    text: str
    """Source whose last line is an expression, the result."""
    arrays: Mapping[str, Tensor]
    """Name in the source -> array."""
    mode: str = EAGER
    """Mode of the framework by which `text` is wrapped."""
    unreduced: str = ""
    """Source of the unreduced result; that of the result if the function reduces by an argument."""
    reduction: str = "{result}"
    """Expression that reduces the unreduced `{result}`; `{result}` itself if the function reduces."""
    device: str = CPU
    """Device that the arrays are placed on before the call."""

    @property
    def recompile(self) -> bool:
        """Whether to compile the source for each call: `torch.compile` and `jax.jit` cache by code object."""
        return self.mode != EAGER


def call_name(function: Function, problem: Problem) -> str:
    """Name of a call in messages."""
    return f"{function.name} on {problem.case}"


def lower(function: Function, problem: Problem) -> Call:
    """Return the call of a function on a problem.

    problem: a problem whose input kind the function accepts.  Raises LoweringError if the tables of the function cannot
    express the call.
    """
    try:
        if function.sample_weight_shape == "per_loss":
            problem = broadcast_weights(problem)
        values = _values(function, problem)
        arrays = {word: value for word, value in values.items() if isinstance(value, Tensor)}
        # As text, since 0.0 == -0.0 and 1 == True.
        plain = tuple((word, source_of(value)) for word, value in values.items() if word not in arrays)
        text = function.call_source(problem.input_kind, problem.reduction, tuple(arrays), plain)
        reduction = function.reductions[problem.reduction] if function.appends(problem.reduction) else "{result}"
        return Call(_reduced(text, reduction), arrays, unreduced=text, reduction=reduction)
    except LoweringError as error:
        raise LoweringError(f"{call_name(function, problem)}: {error}") from None
    except Exception as error:
        raise LoweringError(f"{call_name(function, problem)}: {type_name(error)}: {text_of(error)}") from cause(error)


def _values(function: Function, problem: Problem) -> dict[str, Any]:
    """Placeholder -> `Tensor` or plain value, for everything that a call may need, in the order of its arguments."""
    options = problem.options
    values: dict[str, Any] = {}
    if function.has_head:
        factors = [word for word in HEAD_GRADIENTS.values() if word in function.words]
        problem = with_bias(problem, "bias" in factors)
        values |= {word: _shared(problem, _factor, word) for word in factors}
    else:
        values["predictions"] = _shared(problem, predictions, _axis(function, problem))
    values["labels"] = _labels(function, problem)
    for word in function.arguments:
        name = word.partition(":")[0]
        value = getattr(options, name, None)
        if value is not None:
            values[name] = _shared(problem, _weights, name) if isinstance(value, np.ndarray) else value
    if missing := set(options.names()) - function.options:
        raise LoweringError(f"it has no argument for {', '.join(sorted(missing))}")
    for word, derive in _DERIVED.items():
        if word in function.words and (value := derive(function, problem)) is not None:
            values[word] = value
    return values if function.placeholder_values is None else {**values, **function.placeholder_values(problem)}


def _passes_names(function: Function, problem: Problem) -> bool:
    """Whether labels are passed as the names of their classes."""
    return function.named_classes and bool(problem.layout.class_names)


_DERIVED: Mapping[str, Callable[[Function, Problem], Any]] = {
    "class_axis": lambda _, problem: None if problem.layout.class_axis == -1 else problem.layout.class_axis,
    "labels_column": lambda _, problem: True if problem.layout.labels == "column" else None,
    "soft_labels": lambda function, problem: (
        True if _label_kind(function, problem) in ("one_hot", "distribution") else None
    ),
    "dtype": lambda _, problem: problem.dtype,
    "classes": lambda function, problem: (
        None if problem.target == "distribution" or _passes_names(function, problem) else _classes(problem)
    ),
    "class_names": lambda function, problem: (
        list(problem.layout.class_names) if _passes_names(function, problem) else None
    ),
    "target": lambda _, problem: problem.target,
}
"""Derived word -> its value; None for a problem without it."""


def _shared(problem: Problem, make: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """An array of a problem, `make(problem, *arguments)`; a small one is the same object for all functions."""
    cache, key = problem.unreduced.cache, (make, *arguments)
    tensor: Tensor = cache.get(key) or make(problem, *arguments)
    if tensor.values.size <= MAX_SHARED:
        cache[key] = tensor
    return tensor


def _factor(problem: Problem, name: str) -> Tensor:
    """A factor of the logits: `hidden`, `weight` or `bias`."""
    return Tensor(getattr(head_of(problem), name))


def _weights(problem: Problem, name: str) -> Tensor:
    """Weights in the dtype of the layout; raises LoweringError if they are not exact in it."""
    values: Array = getattr(problem.options, name)
    if problem.layout.weight_dtype is None:
        return Tensor(values)
    with np.errstate(invalid="ignore", over="ignore"):
        converted = values.astype(numpy_dtype(problem.layout.weight_dtype))
    if not np.array_equal(converted.astype(np.float64), values.astype(np.float64), equal_nan=True):
        raise LoweringError(f"{name} do not fit {problem.layout.weight_dtype}")
    return Tensor(converted)


def _classes(problem: Problem) -> int:
    return int(problem.predictions.shape[-1]) if problem.loss == "categorical" else 2


def _axis(function: Function, problem: Problem) -> int:
    return function.class_axis if problem.loss == "categorical" and problem.sample_shape else -1


def _label_kind(function: Function, problem: Problem) -> str:
    return function.target_kind_for(problem.target_kind) or problem.target_kind


def _labels(function: Function, problem: Problem) -> Tensor:
    """The labels in a kind and dtype that a function accepts; raises LoweringError if they are not exact in it."""
    kind = _label_kind(function, problem)
    dtype = function.label_dtype_for(problem)
    if _passes_names(function, problem):
        return _shared(problem, named_labels)
    if kind == "index":
        return _shared(problem, index_labels, dtype)
    encode = one_hot_labels if problem.target == "index" and kind == "one_hot" else labels
    return _shared(problem, encode, dtype, _axis(function, problem))


def apply_mode(
    framework: Framework,
    call: Call,
    derivative: str = "",
    mode: str = EAGER,
    backend: str = "",
    upstream: Upstream | None = None,
    device: str = CPU,
) -> Call:
    """Return a call wrapped in a mode and a derivative; an eager call without a derivative is returned unchanged.

    derivative: `gradient`, one of `HEAD_GRADIENTS` or another derivative of the framework's arrays (see
    `Function.derivative_for`); "" for none.  upstream: factor of the result before it is differentiated.
    device: device of the arrays.  Raises LoweringError if the framework has no such mode, derivative or device.
    """
    if device != CPU:
        if device not in (devices := framework.devices_in(backend)):
            raise LoweringError(f"{framework.name} has no device {device}; it has {', '.join(devices)}")
        call = replace(call, device=device)
    if not derivative and mode == EAGER:
        return call
    sources = framework.arrays_of(backend).derivatives
    if mode not in (modes := framework.modes_in(backend, device)):
        raise LoweringError(f"{framework.name} has no mode {mode}; it has {', '.join(modes)}")
    with_respect_to = HEAD_GRADIENTS.get(derivative, "predictions")  # type: ignore[call-overload]
    derivative = "gradient" if derivative in HEAD_GRADIENTS else derivative
    if derivative and derivative not in sources:
        raise LoweringError(f"{framework.name} has no {derivative}")
    text, arrays = _in_mode(call, framework, mode), call.arrays
    if derivative:
        derivative_source = sources[derivative]
        if upstream is not None:
            derivative_source, arrays = upstream.multiplied(derivative_source), {**arrays, **upstream.arrays}
        text = _differentiated(text, derivative_source, with_respect_to)
    return replace(call, text=text, arrays=arrays, mode=mode)


def _in_mode(call: Call, framework: Framework, mode: str) -> str:
    """The source of a call in a mode; several statements become a function that can be differentiated."""
    names, wrapper = tuple(call.arrays), framework.mode(mode)
    if wrapper.unreduced:
        return _reduced(_wrapped(call.unreduced, names, wrapper.wrap), call.reduction)
    if mode != EAGER or split_last_expression(call.text)[0]:
        return _wrapped(call.text, names, wrapper.wrap)
    return call.text


@lru_cache(maxsize=4096)
def _reduced(text: str, reduction: str) -> str:
    """Return `text` with `reduction` applied to its last expression."""
    if reduction == "{result}":
        return text
    statements, result = split_last_expression(text)
    return join_lines(statements, reduction.replace("{result}", parenthesized(result)))


@lru_cache(maxsize=4096)
def _wrapped(text: str, names: tuple[str, ...], wrap: str = "{loss}") -> str:
    """Wrap the call in `def loss(...)`, apply the mode's wrapper, and call it."""
    statements, result = split_last_expression(text)
    before, function = split_last_expression(wrap.replace("{loss}", "loss"))
    arguments = ", ".join(names)
    body = textwrap.indent(join_lines(statements, f"return {result}"), "    ")
    return join_lines(f"def loss({arguments}):\n{body}", before, f"{parenthesized(function)}({arguments})")


@lru_cache(maxsize=4096)
def _differentiated(text: str, derivative_source: str, with_respect_to: str) -> str:
    """Return `text` with its last expression differentiated with respect to an array."""
    statements, result = split_last_expression(text)
    return join_lines(
        statements, derivative_source.replace("{x}", with_respect_to).replace("{result}", parenthesized(result))
    )
