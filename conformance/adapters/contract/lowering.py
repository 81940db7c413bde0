"""Lowering: a problem becomes a call, source over named arrays, from the tables of a function."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
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


@dataclass(frozen=True)
class Call:
    """One call: source whose last expression is the result, and the arrays that its names stand for."""

    text: str
    """Source; its last line is an expression, the result."""
    arrays: Mapping[str, Tensor]
    """Name in the source -> array."""
    mode: str = EAGER
    """How the call is made; the text has what follows from it."""
    unreduced: str = ""
    """The text without a reduction that is an expression of the result."""
    reduction: str = "{result}"
    """That expression."""
    device: str = CPU
    """Where the arrays are placed before it."""

    @property
    def fresh(self) -> bool:
        """Whether to compile the source for each call: `torch.compile` and `jax.jit` cache by code object."""
        return self.mode != EAGER


def call_name(function: Function, problem: Problem) -> str:
    """The name of a call for messages."""
    return f"{function.name} on {problem.case}"


def lower(function: Function, problem: Problem) -> Call:
    """Return the call of a function on a problem.

    problem: in a kind of input that the function takes.  Raises LoweringError if the tables of the function cannot
    express it.
    """
    try:
        if function.sample_weight_shape == "per_loss":
            problem = broadcast_weights(problem)
        values = _values(function, problem)
        arrays = {word: value for word, value in values.items() if isinstance(value, Tensor)}
        # As text, since 0.0 == -0.0 and 1 == True.
        plain = tuple((word, source_of(value)) for word, value in values.items() if word not in arrays)
        text = function.text(problem.input_kind, problem.reduction, tuple(arrays), plain)
        reduction = function.reductions[problem.reduction] if function.appends(problem.reduction) else "{result}"
        return Call(_reduced(text, reduction), arrays, unreduced=text, reduction=reduction)
    except LoweringError as error:
        raise LoweringError(f"{call_name(function, problem)}: {error}") from None
    except Exception as error:
        raise LoweringError(f"{call_name(function, problem)}: {type_name(error)}: {text_of(error)}") from cause(error)


def _values(function: Function, problem: Problem) -> dict[str, Any]:
    """Word -> array or plain value that a call may need, in the order in which its arguments are written."""
    options = problem.options
    values: dict[str, Any] = {}
    if function.has_head:
        head = head_of(with_bias(problem, "bias" in function.words))
        values |= {"hidden": Tensor(head.hidden), "weight": Tensor(head.weight)}
        values |= {} if head.bias is None else {"bias": Tensor(head.bias)}
    else:
        values["predictions"] = predictions(problem, _axis(function, problem))
    values["labels"] = _labels(function, problem)
    for word in function.arguments:
        name = word.partition(":")[0]
        value = getattr(options, name, None)
        if value is not None:
            values[name] = Tensor(_weights(problem, name, value)) if isinstance(value, np.ndarray) else value
    if missing := set(options.names()) - function.options:
        raise LoweringError(f"it has no argument for {', '.join(sorted(missing))}")
    layout = problem.layout
    named = function.named_classes and bool(layout.class_names)
    derived = {
        "class_axis": None if layout.class_axis == -1 else layout.class_axis,
        "labels_column": True if layout.labels == "column" else None,
        "soft_labels": True if _label_kind(function, problem) in ("one_hot", "distribution") else None,
        "dtype": problem.dtype,
        "classes": None if problem.target == "distribution" or named else _classes(problem),
        "class_names": list(layout.class_names) if named else None,
        "target": problem.target,
    }
    values |= {word: value for word, value in derived.items() if word in function.words and value is not None}
    return values if function.placeholder_values is None else {**values, **function.placeholder_values(problem)}


def _weights(problem: Problem, name: str, values: Array) -> Array:
    """Weights in the dtype of the layout; raises LoweringError for one that does not fit."""
    if problem.layout.weight_dtype is None:
        return values
    with np.errstate(invalid="ignore", over="ignore"):
        found = values.astype(numpy_dtype(problem.layout.weight_dtype))
    if not np.array_equal(found.astype(np.float64), values.astype(np.float64), equal_nan=True):
        raise LoweringError(f"{name} do not fit {problem.layout.weight_dtype}")
    return found


def _classes(problem: Problem) -> int:
    return int(problem.predictions.shape[-1]) if problem.loss == "categorical" else 2


def _axis(function: Function, problem: Problem) -> int:
    return function.class_axis if problem.loss == "categorical" and problem.sample_shape else -1


def _label_kind(function: Function, problem: Problem) -> str:
    return function.target_as(problem.target_kind) or problem.target_kind


def _labels(function: Function, problem: Problem) -> Tensor:
    """The labels in a kind and dtype that a function takes; raises LoweringError for one that does not fit."""
    kind = _label_kind(function, problem)
    dtype = function.labels_as(problem)
    if function.named_classes and problem.layout.class_names:
        return named_labels(problem)
    if kind == "index":
        return index_labels(problem, dtype)
    encode = one_hot_labels if problem.target == "index" and kind == "one_hot" else labels
    return encode(problem, dtype, _axis(function, problem))


def apply_mode(
    framework: Framework,
    call: Call,
    order: str = "",
    mode: str = EAGER,
    backend: str = "",
    upstream: Upstream | None = None,
    device: str = CPU,
) -> Call:
    """Return a call wrapped in a mode and in a derivative; an eager call without one is returned as it is.

    order: `gradient`, one of `HEAD_GRADIENTS` or another derivative of the framework's arrays (see
    `Function.order_of`); "" for none.  upstream: what the result is multiplied by before it is differentiated.
    device: where its arrays will be.  Raises LoweringError where the framework has no such mode, derivative or device.
    """
    if device != CPU:
        if device not in (devices := framework.devices_in(backend)):
            raise LoweringError(f"{framework.name} has no device {device}; it has {', '.join(devices)}")
        call = replace(call, device=device)
    if not order and mode == EAGER:
        return call
    derivatives = framework.arrays_of(backend).derivatives
    if mode not in (had := framework.modes_in(backend, device)):
        raise LoweringError(f"{framework.name} has no mode {mode}; it has {', '.join(had)}")
    by = HEAD_GRADIENTS.get(order, "predictions")  # type: ignore[call-overload]
    order = "gradient" if order in HEAD_GRADIENTS else order
    if order and order not in derivatives:
        raise LoweringError(f"{framework.name} has no {order}")
    derivative = derivatives[order] if order else ""
    arrays = call.arrays
    if derivative and upstream is not None:
        derivative, arrays = upstream.multiplied(derivative), {**arrays, **upstream.arrays}
    text, names, way = call.text, tuple(call.arrays), framework.mode(mode)
    if mode != EAGER:
        inner, reduction = (call.unreduced, call.reduction) if way.unreduced else (call.text, "{result}")
        text = _reduced(_wrapped(inner, names, way.wrap), reduction)
    elif split_last_expression(text)[0]:
        text = _wrapped(text, names)
    return replace(call, text=_differentiated(text, derivative, by) if derivative else text, arrays=arrays, mode=mode)


@lru_cache(maxsize=4096)
def _reduced(text: str, reduction: str) -> str:
    """Source whose last expression is a reduction of that of other source."""
    if reduction == "{result}":
        return text
    statements, result = split_last_expression(text)
    return join_lines(statements, reduction.replace("{result}", parenthesized(result)))


@lru_cache(maxsize=4096)
def _wrapped(text: str, names: tuple[str, ...], wrap: str = "{loss}") -> str:
    """Source that makes a function `loss` of a call, another one of it as a mode does, and calls that."""
    statements, result = split_last_expression(text)
    before, function = split_last_expression(wrap.replace("{loss}", "loss"))
    arguments = ", ".join(names)
    body = textwrap.indent(join_lines(statements, f"return {result}"), "    ")
    return join_lines(f"def loss({arguments}):\n{body}", before, f"{parenthesized(function)}({arguments})")


@lru_cache(maxsize=4096)
def _differentiated(text: str, derivative: str, by: str) -> str:
    """Source of the derivative, by an array, of the last expression of other source."""
    statements, result = split_last_expression(text)
    return join_lines(statements, derivative.replace("{x}", by).replace("{result}", parenthesized(result)))
