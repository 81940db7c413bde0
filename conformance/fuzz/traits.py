"""What is particular about a problem, as words: what a ledger entry's `when` may ask for, and what a finding needs.

positive_weight, infinite_prediction, class_axis, higher_rank, dense_target, beyond_range, ...
"""

from __future__ import annotations

import math

import numpy as np

from conformance.adapter import problem_features
from conformance.case import DTYPES, GIVEN, LOSSES, OPTIONS, ORDERS, REDUCTIONS, Array, Problem
from conformance.convention import EDGE, INVALID
from conformance.domain import examine, numpy_info
from conformance.suite import Asked

TARGETS = ("index", "one_hot", "distribution", "binary", "soft_binary")
SHAPES = ("rank_1", "higher_rank", "output_weights", "moved_class_axis", "labels_column", "label_dtype")
VALUES = ("certain_prediction", "beyond_range", "everything_ignored", "dense_target", "one_sample")
PLAIN = frozenset({*LOSSES, *GIVEN, *TARGETS, *REDUCTIONS, *DTYPES})
"""Traits that some problem or other must have: what it is, and not what is particular about it."""
TRAITS = PLAIN | EDGE | INVALID | {*OPTIONS, *ORDERS, *SHAPES, *VALUES, "class_axis", "class_axis_not_1"}


def traits(asked: Asked) -> frozenset[str]:
    """The traits of an item as it is asked.

    Beside options, layout, reduction, dtype, loss, what is given, the kind of target that is handed over, and the
    kinds of unusual and invalid input: `dense_target` (a number per class), `moved_class_axis`, `certain_prediction`
    (a probability of 0 or 1), `everything_ignored`, `one_sample`, and `beyond_range` (terms, or weights, whose sum is more than the
    dtype has).
    """
    problem, handed = asked.problem, asked.handed
    target = asked.item.function.target_as(problem.target_kind) or problem.target_kind
    found = {*problem_features(handed, target), problem.loss, problem.given, *examine(problem), *examine(handed)}
    if target in ("one_hot", "distribution"):
        found.add("dense_target")
    if handed.layout.class_axis != -1:
        found.add("moved_class_axis")
    if handed.given == "probabilities" and bool(np.any((handed.predictions == 0) | (handed.predictions == 1))):
        found.add("certain_prediction")
    ignored = problem.options.ignore_index
    if ignored is not None and problem.labels.size and bool(np.all(problem.labels == ignored)):
        found.add("everything_ignored")
    if math.prod(problem.sample_shape) == 1:
        found.add("one_sample")
    if _beyond_range(handed):
        found.add("beyond_range")
    return frozenset(found)


def _beyond_range(problem: Problem) -> bool:
    """Whether what is added up on some way to the loss, or to the divisor of its mean, may exceed the dtype."""
    options = problem.options
    largest = numpy_info(problem.dtype)[3] / 2
    with np.errstate(all="ignore"):
        terms = _sizes(problem)
        for weights in (options.class_weights, options.positive_weight):
            if weights is not None:
                terms = terms * np.maximum(1.0, _finite(weights))
        if options.sample_weights is not None:
            weights = _finite(options.sample_weights)
            terms = terms * np.maximum(1.0, weights.reshape(weights.shape + (1,) * (terms.ndim - weights.ndim)))
        sums = [terms.sum(), *(_finite(w).sum() * _count(problem) for w in _weights(problem))]
    return not all(total <= largest for total in sums)


def _count(problem: Problem) -> int:
    return max(1, math.prod(problem.sample_shape))


def _weights(problem: Problem) -> list[Array]:
    options = problem.options
    return [weights for weights in (options.class_weights, options.sample_weights) if weights is not None]


def _sizes(problem: Problem) -> Array:
    """About how large -log p is for each class or output, shaped as the predictions."""
    x = _finite(problem.predictions)
    if problem.given == "probabilities":
        return -np.log(np.maximum(x, numpy_info(problem.dtype)[1]))
    if problem.given == "log_probabilities" or problem.loss == "binary":
        return x + 1
    values = problem.predictions.astype(np.float64)
    values = np.where(np.isfinite(values), values, 0.0)
    return values.max(axis=-1, keepdims=True) - values + math.log(x.shape[-1]) if x.size else x


def _finite(values: Array) -> Array:
    """Absolute values in float64, without what is not finite."""
    wide = np.abs(values.astype(np.float64))
    return np.where(np.isfinite(wide), wide, 0.0)
