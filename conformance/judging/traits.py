"""Traits of a problem as words, as in a ledger entry's `when`, and those that a finding depends on.

positive_weight, infinite_prediction, class_axis, higher_rank, dense_target, beyond_range, ...
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from conformance.adapters.contract import required_capabilities
from conformance.adapters.contract.source import TARGET_KINDS
from conformance.model.case import DTYPES, INPUT_KINDS, LOSSES, REDUCTIONS, WEIGHTS, Array, Problem, numpy_dtype
from conformance.model.convention import EDGE, INVALID
from conformance.reference.domain import ROW_SUM_TOLERANCE, dtype_info, examine
from conformance.reference.dtype_range import beyond_range

SHAPE_TRAITS = {
    "unbatched": "one sample without an axis of samples",
    "rank_1": "predictions with one axis",
    "higher_rank": "predictions with more than two axes",
    "several_outputs": "a binary loss with more than one output along the last of several axes",
    "output_weights": "sample weights of the shape of the predictions, one per output",
    "leading_weights": "sample weights of fewer axes than the predictions without their last",
    "moved_class_axis": "classes that are passed on another axis than the last",
    "labels_column": "labels with a trailing axis of length 1 that the function takes",
    "label_dtype": "labels in a stated dtype",
    "weight_dtype": "weights in a stated dtype",
    "weights_by_sample": "sample weights that are not the same for all samples",
}
"""Traits of shapes and dtypes, with their descriptions."""
VALUE_TRAITS = {
    "dense_target": "a target per class",
    "column_beside_flat": "labels or outputs of a binary loss with a trailing axis of length 1 that the others lack",
    "certain_prediction": "a probability of 0 or 1, or one that a clip makes that",
    "near_certain_prediction": "a probability that is certain, or nearer to 0 or 1 than 1e-3",
    "saturated_logit": "a binary logit whose sigmoid is 0 or 1 once 1 + exp(-|z|) is rounded, or within 1e-7 of them",
    "low_logits": "a row of logits that are all below -80, whose exponentials vanish unless the largest is subtracted",
    "beyond_range": "a sum that may be larger than the largest number of the dtype",
    "everything_ignored": "samples that are all ignored",
    "odd_ignored": "an ignored row that is not finite",
    "inexact_label": "an index label that the dtype of the predictions rounds to another",
    "label_minus_hundred": "an index label of -100 that is not the ignored one",
    "one_sample": "one sample",
    "many_samples": "more samples than the dtype has consecutive integers, so that it loses count",
    "many_classes": "more classes than the dtype has consecutive integers",
    "samples_beyond_range": "more samples than the largest number of the dtype",
    "lowest_weight": "a weight that is the lowest number of its integer dtype, from which nothing can be subtracted",
}
"""Traits of values, with their descriptions."""
GENERIC_TRAITS = frozenset({*LOSSES, *INPUT_KINDS, *TARGET_KINDS, *REDUCTIONS, *DTYPES})
"""Trait groups such as the loss, from which every problem has a value, so that they do not identify a problem."""
LOW_LOGIT = -80.0
"""The exponential of a logit below this loses digits in float32, where it is subnormal, or all of them."""
CERTAINTY_MARGIN = 1e-3
"""A probability that is nearer to 0 or 1 than this is nearly certain."""
TRAITS_OF_SMALL_CASES = frozenset({"one_sample", "rank_1", "unbatched", "missing_class"})
"""Traits of every shrunk case, relevant or not."""
UNUSUAL_TRAITS = EDGE - {"missing_class"} | INVALID | {
    "beyond_range", "everything_ignored", "odd_ignored", "inexact_label", "many_samples", "samples_beyond_range",
    "many_classes", "lowest_weight",
}  # fmt: skip
"""Traits that exclude a problem from being ordinary, except a missing class; see `is_ordinary`."""
WIDEST_CLIP = 1e-7
"""The largest constant at which a function of this package clips probabilities; others clip at the dtype's epsilon."""


def traits(problem: Problem, converted: Problem, target: str) -> frozenset[str]:
    """The traits of a problem and of the converted problem that a function gets.  target: kind of target as passed.

    They are the required capabilities, loss, input kind, unusual input, `SHAPE_TRAITS` and `VALUE_TRAITS`.
    """
    names = {
        *required_capabilities(converted, target),
        problem.loss,
        problem.input_kind,
        *examine(problem),
        *examine(converted),
        *(("bool_labels",) if problem.labels.dtype.kind == "b" else ()),
    }
    if "shape_mismatch" in names and "trailing_axis" not in names:
        return frozenset(names)  # nothing lies beside anything else
    if target in ("one_hot", "multi_hot", "distribution"):
        names.add("dense_target")
    if problem.loss == "binary" and names & {"trailing_axis", "labels_column"}:
        names.add("column_beside_flat")
    if converted.layout.class_axis != -1:
        names.add("moved_class_axis")
    if converted.input_kind == "probabilities":
        names.update(_probability_traits(converted))
    if converted.input_kind == "logits" and converted.predictions.size:
        names.update(_logit_traits(converted))
    if problem.target == "index":
        names.update(_label_traits(problem))
    names.update(_size_traits(problem))
    names.update(_weight_traits(problem))
    names.update(_ignored_traits(problem))
    if math.prod(problem.sample_shape) == 1:
        names.add("one_sample")
    if beyond_range(problem) or beyond_range(converted):
        names.add("beyond_range")
    return frozenset(names)


def is_ordinary(problem: Problem, converted: Problem, target: str) -> bool:
    """Whether a problem is an everyday one and not an edge case; parameters as in `traits`.

    Predictions are finite; probabilities are at least `WIDEST_CLIP`, and the dtype's epsilon, away from 0 and 1, and
    the probabilities of a row sum to 1, as do its targets; so do the exponentials of log-probabilities.  Labels are
    valid and exact in the dtype, not all ignored.  Weights are finite and positive.  Shapes fit, nothing is empty, and
    sums stay within the range of the dtype.
    """
    if traits(problem, converted, target) & UNUSUAL_TRAITS:
        return False
    rows = [
        np.exp(_wide(version.predictions))
        for version in (problem, converted)
        if version.input_kind == "log_probabilities"
    ]
    rows += [problem.labels.astype(np.float64)] if problem.target == "distribution" else []
    unit = dtype_info(problem.dtype).unit_roundoff
    if problem.loss == "categorical":
        off = ROW_SUM_TOLERANCE * unit * problem.predictions.shape[-1]
        if any(bool(np.any(np.abs(row.sum(axis=-1) - 1) > off)) for row in rows):
            return False
    clip = max(WIDEST_CLIP, 2 * unit)
    probabilities = [
        _wide(version.predictions) for version in (problem, converted) if version.input_kind == "probabilities"
    ]
    return all(bool(np.all(np.minimum(values, 1 - values) >= clip)) for values in probabilities)


def _saturates(converted: Problem) -> bool:
    limit = -math.log(max(1e-7, dtype_info(converted.dtype).unit_roundoff))
    with np.errstate(invalid="ignore"):
        return bool(np.any(np.abs(_wide(converted.predictions)) >= limit))


def _weight_traits(problem: Problem) -> Iterator[str]:
    """Traits of the weights."""
    weights, dtype = problem.options.sample_weights, problem.layout.weight_dtype
    if weights is not None and weights.ndim < problem.predictions.ndim - 1:
        yield "leading_weights"
    if dtype is not None and numpy_dtype(dtype).kind in "iu":
        stated = (getattr(problem.options, name) for name in WEIGHTS)
        if any(bool(np.any(_wide(values) == np.iinfo(dtype).min)) for values in stated if values is not None):
            yield "lowest_weight"


def _ignored_traits(problem: Problem) -> Iterator[str]:
    """Traits of ignored samples."""
    ignored = problem.options.ignore_index
    if ignored is not None and problem.labels.size and problem.labels.shape == problem.sample_shape:
        skipped = problem.labels == ignored
        if bool(np.all(skipped)):
            yield "everything_ignored"
        if bool(np.any(~np.isfinite(_wide(problem.predictions))[skipped])):
            yield "odd_ignored"


def _logit_traits(converted: Problem) -> Iterator[str]:
    """Traits of logits."""
    with np.errstate(invalid="ignore"):
        if converted.loss == "binary" and _saturates(converted):
            yield "saturated_logit"
        if converted.loss == "categorical" and bool(np.any(_wide(converted.predictions).max(axis=-1) < LOW_LOGIT)):
            yield "low_logits"


def _probability_traits(converted: Problem) -> Iterator[str]:
    with np.errstate(invalid="ignore"):
        from_certain = np.minimum(_wide(converted.predictions), 1 - _wide(converted.predictions))
        if bool(np.any(from_certain <= 0)):
            yield "certain_prediction"
        if bool(np.any(from_certain < CERTAINTY_MARGIN)):
            yield "near_certain_prediction"


def _label_traits(problem: Problem) -> Iterator[str]:
    labels, ignored = problem.labels, problem.options.ignore_index
    counted_labels = labels if ignored is None else labels[labels != ignored]
    if bool(
        np.any(
            counted_labels.astype(numpy_dtype(problem.dtype)).astype(np.float64) != counted_labels.astype(np.float64)
        )
    ):
        yield "inexact_label"
    if bool(np.any(counted_labels == -100)):
        yield "label_minus_hundred"


def _size_traits(problem: Problem) -> Iterator[str]:
    unit, _, _, largest = dtype_info(problem.dtype)
    samples = math.prod(problem.sample_shape)
    if samples > 1 / unit:
        yield "many_samples"
    if samples > largest:
        yield "samples_beyond_range"
    if problem.loss == "categorical" and problem.predictions.shape[-1] > 1 / unit:
        yield "many_classes"


def _wide(values: Array) -> Array:
    return values.astype(np.float64)
