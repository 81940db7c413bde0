"""Encode the arrays of a problem: exact conversions between kinds of labels, and the layout that a case asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from conformance.adapters.arrays import Tensor
from conformance.adapters.contract.errors import LoweringError
from conformance.model.case import Array, Order, Problem, dtype_name, numpy_dtype


def encodable(problem: Problem) -> bool:
    """Whether every index label names a class, so that a one-hot encoding exists."""
    classes = problem.predictions.shape[-1]
    is_plain = problem.labels.shape == problem.sample_shape
    return is_plain and bool(np.all((problem.labels >= 0) & (problem.labels < classes)))


def predictions(problem: Problem, axis: int = -1) -> Tensor:
    """The predictions with the classes on the axis of the layout, or on `axis` if the layout names none."""
    values, axis = _move_classes(problem, problem.predictions, axis)
    return Tensor(values, problem.layout.order, axis)


def labels(problem: Problem, dtype: str | None = None, axis: int = -1) -> Tensor:
    """The labels in the layout of the problem; dtype: required by the function, None if it requires none."""
    values = problem.labels
    if problem.target == "distribution":
        values, _ = _move_classes(problem, values, axis)
    return Tensor(_as_laid_out(problem, values, dtype), _label_order(problem))


def one_hot_labels(problem: Problem, dtype: str | None = None, axis: int = -1) -> Tensor:
    """Distributions [..., C]: unchanged, or one-hot encoded from index labels."""
    if problem.target == "distribution":
        return labels(problem, dtype, axis)
    values = np.zeros((*problem.labels.shape, problem.predictions.shape[-1]), dtype=numpy_dtype(problem.dtype))
    np.put_along_axis(values, problem.labels[..., np.newaxis], 1, axis=-1)
    values, _ = _move_classes(problem, values, axis)
    return Tensor(values.astype(numpy_dtype(dtype)) if dtype else values, _label_order(problem))


def index_labels(problem: Problem, dtype: str | None = None) -> Tensor:
    """Index labels [...]: unchanged, or decoded from one-hot rows."""
    if problem.target == "index":
        return labels(problem, dtype)
    values = np.asarray(np.argmax(problem.labels.astype(np.float64), axis=-1))
    narrow = problem.layout.label_dtype
    if narrow is not None and dtype in (None, narrow) and not _holds(narrow, problem.predictions.shape[-1] - 1):
        dtype = dtype_name(values.dtype)  # a dtype that holds 0 and 1 need not hold a class index
    return Tensor(_as_laid_out(problem, values, dtype), _label_order(problem))


def named_labels(problem: Problem) -> Tensor:
    """Labels as the names of their classes."""
    return Tensor(_as_laid_out(problem, problem.layout.name_labels(problem.labels), None), _label_order(problem))


def _holds(dtype: str, largest: int) -> bool:
    return int(np.array(largest).astype(numpy_dtype(dtype))) == largest


def broadcast_weights(problem: Problem) -> Problem:
    """The problem with one sample weight per loss: weights of fewer leading axes are broadcast."""
    weights, shape = problem.options.sample_weights, problem.sample_shape
    if weights is None or weights.shape == shape or weights.shape != shape[: weights.ndim]:
        return problem
    spread = np.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)
    return replace(problem, options=replace(problem.options, sample_weights=spread))


def _move_classes(problem: Problem, values: Array, axis: int) -> tuple[Array, int]:
    """Values [..., C] with the classes on the layout's axis, or on `axis` if it names none; and that axis."""
    axis = problem.layout.class_axis if problem.layout.class_axis != -1 else axis
    return values if axis == -1 else np.moveaxis(values, -1, axis), axis


def _as_laid_out(problem: Problem, values: Array, dtype: str | None) -> Array:
    label_dtype = dtype or problem.layout.label_dtype
    if label_dtype is not None:
        converted = values.astype(numpy_dtype(label_dtype), copy=False)
        if (
            dtype
            and converted.dtype.kind in "iu"
            and values.dtype.kind in "iu"
            and not np.array_equal(converted, values)
        ):
            raise LoweringError(f"labels do not fit {dtype}")
        values = converted
    return values[..., np.newaxis] if problem.layout.labels == "column" else values


def _label_order(problem: Problem) -> Order:
    return "c" if problem.layout.order == "broadcast" else problem.layout.order
