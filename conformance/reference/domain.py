"""Input anomalies: values outside the definition's domain or at its edge.

A problem with one of `convention.INVALID` has no answer: an exception is right.  One with `convention.EDGE` has an
answer (or is undefined), but some functions document that they reject it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from conformance.model.case import WEIGHTS, Array, Loss, Options, Problem, numpy_dtype
from conformance.model.convention import ClassColumns

ROW_SUM_TOLERANCE = 16
"""A row is unnormalised if its sum differs from 1 by more than this many unit roundoffs per class."""
CHUNK = 1 << 16
"""Predictions per block, so that intermediate results stay in the processor's cache."""

Shape = tuple[int, ...]


def examine(problem: Problem) -> frozenset[str]:
    """The input anomalies of a problem; empty for an ordinary one."""
    unreduced = problem.unreduced
    return unreduced.computed_once("input anomalies", lambda: _examine(unreduced))


def _examine(problem: Problem) -> frozenset[str]:
    shapes = _shapes(problem)
    if "shape_mismatch" in shapes:
        return shapes
    with np.errstate(invalid="ignore"):  # comparing nan warns in low-precision dtypes
        return shapes | _contents(problem)


def _contents(problem: Problem) -> frozenset[str]:
    kinds: set[str] = set()
    options = problem.options
    x = problem.predictions
    considered = _not_ignored(problem)
    if problem.loss == "categorical" and x.shape[-1] == 1:
        kinds.add("one_class")
    for values in _in_chunks(x, considered if problem.loss == "categorical" else None):
        _add_predictions(kinds, problem, values)
    if 0 in problem.sample_shape:
        kinds.add("empty_batch")

    labels = problem.labels
    if problem.target == "index":
        outside = (labels < 0) | (labels >= x.shape[-1])
        _add_if_any(kinds, "label_out_of_range", outside & considered)
    else:
        soft = labels.astype(np.float64)
        _add_if_any(kinds, "nan_target", np.isnan(soft))
        _add_if_any(kinds, "invalid_target", (soft < 0) | (soft > 1))
    if labels.size and _misses_class(problem):
        kinds.add("missing_class")

    for name in WEIGHTS:
        if (weights := getattr(options, name)) is not None:
            _add_if_any(kinds, "nan_weight", np.isnan(_wide(weights)))
            _add_if_any(kinds, "infinite_weight", np.isinf(_wide(weights)))
            _add_if_any(kinds, "negative_weight", weights < 0)
            _add_if_any(kinds, "zero_weight", weights == 0)
    if options.sample_weights is not None and options.sample_weights.size and not np.any(options.sample_weights):
        kinds.add("no_weight")
    return frozenset(kinds)


def _in_chunks(values: Array, considered: Array | None) -> Iterator[Array]:
    """Yield rows with about `CHUNK` predictions each, so that intermediate results need little memory.

    considered: mask of the samples to include, each a row of the last axis; None for all, if predictions have no rows.
    """
    rows = values.reshape(-1) if considered is None else values.reshape(considered.size, values.shape[-1])
    step = max(1, CHUNK * len(rows) // max(1, rows.size))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        yield part if considered is None else part[considered.reshape(-1)[start : start + step]]


def _misses_class(problem: Problem) -> bool:
    """Whether no label names some class, if all labels name a class."""
    labels = problem.labels
    if problem.target_kind == "one_hot":
        return not bool(labels.any(axis=tuple(range(labels.ndim - 1))).all())
    if problem.target_kind not in ("index", "binary"):
        return False
    classes = problem.predictions.shape[-1] if problem.target == "index" else 2
    is_present = np.zeros(classes, dtype=bool)
    is_present[labels[(labels >= 0) & (labels < classes)].astype(np.intp)] = True
    return not bool(is_present.all())


def _add_predictions(kinds: set[str], problem: Problem, values: Array) -> None:
    """Add the anomalies of predictions.  values: some predictions of samples that are not ignored."""
    info = dtype_info(problem.dtype)
    wide = _wide(values)
    _add_if_any(kinds, "nan_prediction", np.isnan(wide))
    _add_if_any(kinds, "infinite_prediction", np.isinf(wide))
    if problem.input_kind == "probabilities":
        _add_if_any(kinds, "invalid_probability", (wide < 0) | (wide > 1))
        _add_if_any(kinds, "subnormal_prediction", (wide > 0) & (wide < info.smallest_normal))
        if problem.loss == "categorical" and values.size:
            off = np.abs(wide.sum(axis=-1) - 1)
            _add_if_any(kinds, "unnormalised_row", off > ROW_SUM_TOLERANCE * info.unit_roundoff * values.shape[-1])
    elif problem.input_kind == "log_probabilities":
        _add_if_any(kinds, "invalid_probability", wide > 0)


def depends_on_columns(problem: Problem, choice: ClassColumns) -> bool:
    """Whether a choice of `class_columns` can change the answer to a problem, or its existence."""
    if choice == "stated":
        return False
    outside = {"missing_class", "label_out_of_range", "invalid_target"}
    inferred = choice == "inferred" and bool(examine(problem) & outside)
    return inferred or not problem.layout.is_sorted


def infinitely_weighted(problem: Problem) -> Iterator[tuple[Problem, Array]]:
    """For each kind of infinite weight: the unreduced problem that it multiplies, and the affected samples (mask)."""

    def alone(labels: Array | None = None, **options: Any) -> Problem:
        changed = dataclasses.replace(problem.options, sample_weights=None, **options)
        labels = problem.labels if labels is None else labels
        return dataclasses.replace(problem, reduction="none", options=changed, labels=labels)

    def infinite(weights: Array | None) -> Array:
        return np.zeros(0, dtype=bool) if weights is None else np.isinf(_wide(weights))

    shape, options = problem.sample_shape, problem.options
    if (mask := infinite(options.sample_weights)).any():
        yield alone(), np.broadcast_to(mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim)), shape)
    for weights_of_class in np.eye(len(mask := infinite(options.class_weights)), dtype=numpy_dtype(problem.dtype))[
        mask
    ]:
        yield alone(class_weights=weights_of_class), np.ones(shape, dtype=bool)
    if (mask := infinite(options.positive_weight)).any():
        positive = (problem.labels != 0) | bool(options.label_smoothing)
        labels = np.ones_like(problem.labels)
        yield alone(labels, positive_weight=None, label_smoothing=None), positive & np.broadcast_to(mask, shape)


class DtypeInfo(NamedTuple):
    """Constants of a floating dtype, as floats."""

    unit_roundoff: float
    smallest_normal: float
    epsilon: float
    """The machine epsilon: the distance from 1 to the next larger number."""
    largest: float
    """The largest finite number."""


@cache
def dtype_info(dtype: str) -> DtypeInfo:
    """Constants of a floating dtype, by name; bfloat16 is that of ml_dtypes."""
    if dtype == "bfloat16":
        import ml_dtypes

        info = ml_dtypes.finfo(numpy_dtype(dtype))
    else:
        info = np.finfo(numpy_dtype(dtype))
    return DtypeInfo(float(info.eps) / 2, float(info.tiny), float(info.eps), float(info.max))


def _wide(values: Array) -> Array:
    return values.astype(np.float64) if values.dtype.itemsize < 4 else values


def _add_if_any(kinds: set[str], kind: str, mask: Array) -> None:
    if mask.any():  # `np.any` takes twice as long on small arrays
        kinds.add(kind)


def _not_ignored(problem: Problem) -> Array:
    """Mask of the samples that are not ignored."""
    ignored = problem.options.ignore_index
    if problem.loss == "binary" or problem.target != "index" or ignored is None:
        return np.ones(problem.sample_shape, dtype=bool)
    return np.asarray(problem.labels != ignored)


def _shapes(problem: Problem) -> frozenset[str]:
    """`shape_mismatch` if labels or weights do not fit, and `trailing_axis` if the shapes of labels and samples differ
    only by a last axis of length 1.
    """
    want = problem.predictions.shape if problem.target != "index" else problem.sample_shape
    label_shape = problem.labels.shape
    if mismatched_weights(problem.options, problem.predictions.shape, problem.loss):
        return frozenset({"shape_mismatch"})
    if label_shape == want:
        return frozenset()
    if problem.target != "distribution" and (label_shape == (*want, 1) or want == (*label_shape, 1)):
        return frozenset({"shape_mismatch", "trailing_axis"})
    return frozenset({"shape_mismatch"})


def mismatched_weights(options: Options, predictions: Shape, loss: Loss) -> list[str]:
    """Names of the weights whose shape does not fit the shape of the predictions."""
    return [
        name
        for name in WEIGHTS
        if (weights := getattr(options, name)) is not None and not fits(name, weights.shape, predictions, loss)
    ]


def fits(option: str, shape: Shape, predictions: Shape, loss: Loss) -> bool:
    """Whether the shape of weights fits the shape of the predictions.

    class_weights: [C].  sample_weights: the shape of the samples, or their leading axes, at least one of them
    unless there are none.  positive_weight: any shape that broadcasts to that of the predictions.
    """
    if option == "class_weights":
        return shape == predictions[-1:]
    if option == "sample_weights":
        samples = predictions[:-1] if loss == "categorical" else predictions
        return bool(shape or not samples) and shape == samples[: len(shape)]
    leading = len(predictions) - len(shape)
    return leading >= 0 and all(
        length in (1, along) for length, along in zip(shape, predictions[leading:], strict=True)
    )
