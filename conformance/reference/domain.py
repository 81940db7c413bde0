"""Where a problem lies outside the definition's domain, or at its edge.

Kinds in `convention.INVALID` have no answer: an exception is right.  Kinds in `convention.EDGE` have
one (or are undefined), but some functions document that they refuse them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from conformance.model.case import Array, Loss, Options, Problem, numpy_dtype

UNNORMALISED = 16
"""A row is unnormalised when its sum is off by more than this many roundings per class."""
WEIGHTS = ("class_weights", "sample_weights", "positive_weight")
"""Options that are arrays."""

Shape = tuple[int, ...]


def examine(problem: Problem) -> frozenset[str]:
    """The kinds of invalid and unusual input that a problem contains, empty for an ordinary one."""
    derived = problem.unreduced.derived
    if "kinds of input" not in derived:
        derived["kinds of input"] = _examine(problem.unreduced)
    found: frozenset[str] = derived["kinds of input"]
    return found


def _examine(problem: Problem) -> frozenset[str]:
    shapes = _shapes(problem)
    if "shape_mismatch" in shapes:
        return shapes
    with np.errstate(invalid="ignore"):  # comparing nan warns in the narrow types
        return shapes | _contents(problem)


def _contents(problem: Problem) -> frozenset[str]:
    kinds: set[str] = set()
    options = problem.options
    x = problem.predictions
    considered = _considered(problem)
    values = x[considered] if problem.loss == "categorical" else x

    _note(kinds, "nan_prediction", np.isnan(_wide(values)))
    _note(kinds, "infinite_prediction", np.isinf(_wide(values)))
    if problem.input_kind == "probabilities":
        _note(kinds, "invalid_probability", (values < 0) | (values > 1))
        smallest = numpy_info(problem.dtype)[1]
        _note(kinds, "subnormal_prediction", (values > 0) & (_wide(values) < smallest))
    if problem.loss == "categorical":
        if x.shape[-1] == 1:
            kinds.add("one_class")
        if problem.input_kind == "probabilities" and values.size:
            unit = numpy_info(problem.dtype)[0]
            off = np.abs(_wide(values).sum(axis=-1) - 1)
            _note(kinds, "unnormalised_row", off > UNNORMALISED * unit * x.shape[-1])
    if 0 in problem.sample_shape:
        kinds.add("empty_batch")

    labels = problem.labels
    if problem.target == "index":
        outside = (labels < 0) | (labels >= x.shape[-1])
        _note(kinds, "label_out_of_range", outside & considered)
    else:
        soft = labels.astype(np.float64)
        _note(kinds, "nan_target", np.isnan(soft))
        _note(kinds, "invalid_target", (soft < 0) | (soft > 1))

    for weights in (options.class_weights, options.sample_weights, options.positive_weight):
        if weights is not None:
            _note(kinds, "nan_weight", np.isnan(_wide(weights)))
            _note(kinds, "infinite_weight", np.isinf(_wide(weights)))
            _note(kinds, "negative_weight", weights < 0)
            _note(kinds, "zero_weight", weights == 0)
    if options.sample_weights is not None and options.sample_weights.size and not np.any(options.sample_weights):
        kinds.add("no_weight")
    return frozenset(kinds)


def infinitely_weighted(problem: Problem) -> Iterator[tuple[Problem, Array]]:
    """What infinite weights multiply: problems without them, not reduced, and the samples where they do."""

    def alone(labels: Array | None = None, **options: Any) -> Problem:
        changed = dataclasses.replace(problem.options, sample_weights=None, **options)
        labels = problem.labels if labels is None else labels
        return dataclasses.replace(problem, reduction="none", options=changed, labels=labels)

    def infinite(weights: Array | None) -> Array:
        return np.zeros(0, dtype=bool) if weights is None else np.isinf(_wide(weights))

    shape, options = problem.sample_shape, problem.options
    if (where := infinite(options.sample_weights)).any():
        yield alone(), np.broadcast_to(where.reshape(where.shape + (1,) * (len(shape) - where.ndim)), shape)
    for one in np.eye(len(where := infinite(options.class_weights)), dtype=numpy_dtype(problem.dtype))[where]:
        yield alone(class_weights=one), np.ones(shape, dtype=bool)
    if (where := infinite(options.positive_weight)).any():
        positive = (problem.labels != 0) | bool(options.label_smoothing)
        labels = np.ones_like(problem.labels)
        yield alone(labels, positive_weight=None, label_smoothing=None), positive & np.broadcast_to(where, shape)


@cache
def numpy_info(dtype: str) -> tuple[float, float, float, float]:
    """(unit roundoff, smallest normal, machine epsilon, largest finite) of a dtype, as floats."""
    if dtype == "bfloat16":
        import ml_dtypes

        info = ml_dtypes.finfo(numpy_dtype(dtype))
    else:
        info = np.finfo(numpy_dtype(dtype))
    return float(info.eps) / 2, float(info.tiny), float(info.eps), float(info.max)


def _wide(values: Array) -> Array:
    return values.astype(np.float64) if values.dtype.itemsize < 4 else values


def _note(kinds: set[str], kind: str, where: Array) -> None:
    if bool(np.any(where)):
        kinds.add(kind)


def _considered(problem: Problem) -> Array:
    """Which samples are not ignored, shaped as the samples."""
    ignored = problem.options.ignore_index
    if problem.loss == "binary" or problem.target != "index" or ignored is None:
        return np.ones(problem.sample_shape, dtype=bool)
    return np.asarray(problem.labels != ignored)


def _shapes(problem: Problem) -> frozenset[str]:
    """`shape_mismatch` where labels or weights do not fit; with `trailing_axis` if one axis of length 1 in the labels
    is all that differs.
    """
    want = problem.predictions.shape if problem.target != "index" else problem.sample_shape
    have = problem.labels.shape
    if misfits(problem.options, problem.predictions.shape, problem.loss):
        return frozenset({"shape_mismatch"})
    if have == want:
        return frozenset()
    if problem.target != "distribution" and (have == (*want, 1) or want == (*have, 1)):
        return frozenset({"shape_mismatch", "trailing_axis"})
    return frozenset({"shape_mismatch"})


def misfits(options: Options, predictions: Shape, loss: Loss) -> list[str]:
    """Names of the weights whose shape does not fit predictions of a shape."""
    return [
        name
        for name in WEIGHTS
        if (weights := getattr(options, name)) is not None and not fits(name, weights.shape, predictions, loss)
    ]


def fits(option: str, shape: Shape, predictions: Shape, loss: Loss) -> bool:
    """Whether weights of a shape fit predictions of a shape.

    class_weights: [C].  sample_weights: the shape of the samples, or its leading axes.  positive_weight: anything
    that broadcasts against the predictions and leaves their shape as it is.
    """
    if option == "class_weights":
        return shape == predictions[-1:]
    if option == "sample_weights":
        samples = predictions[:-1] if loss == "categorical" else predictions
        return bool(shape) and shape == samples[: len(shape)]
    leading = len(predictions) - len(shape)
    return leading >= 0 and all(
        length in (1, along) for length, along in zip(shape, predictions[leading:], strict=True)
    )
