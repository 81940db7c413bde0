"""What is particular about a problem, as words: what a ledger entry's `when` may ask for, and what a finding needs.

positive_weight, infinite_prediction, class_axis, higher_rank, dense_target, beyond_range, ...
"""

from __future__ import annotations

import math

import numpy as np

from conformance.adapter import problem_features
from conformance.case import DTYPES, GIVEN, LOSSES, OPTIONS, ORDERS, REDUCTIONS
from conformance.convention import EDGE, INVALID
from conformance.domain import examine
from conformance.fuzz.ranges import beyond_range
from conformance.suite import Asked

TARGETS = ("index", "one_hot", "distribution", "binary", "soft_binary")
SHAPES = (
    "rank_1",
    "higher_rank",
    "output_weights",
    "leading_weights",
    "moved_class_axis",
    "labels_column",
    "label_dtype",
)
VALUES = ("certain_prediction", "beyond_range", "everything_ignored", "dense_target", "one_sample", "odd_ignored")
PLAIN = frozenset({*LOSSES, *GIVEN, *TARGETS, *REDUCTIONS, *DTYPES})
"""Traits that some problem or other must have: what it is, and not what is particular about it."""
SMALL = frozenset({"one_sample", "rank_1"})
"""Traits that a case has once it is shrunk, whether they matter or not."""
TRAITS = PLAIN | EDGE | INVALID | {*OPTIONS, *ORDERS[1:], *SHAPES, *VALUES, "class_axis", "class_axis_not_1"}


def traits(asked: Asked) -> frozenset[str]:
    """The traits of an item as it is asked.

    Beside options, layout, reduction, dtype, loss, what is given, the kind of target that is handed over, and the
    kinds of unusual and invalid input: `dense_target` (a number per class), `moved_class_axis`, `certain_prediction`
    (a probability of 0 or 1, or one that a clip makes that), `leading_weights` (sample weights of fewer axes than the
    predictions without their last), `everything_ignored`, `odd_ignored` (an ignored row that
    is not finite), `one_sample`, and `beyond_range` (see `ranges`).
    """
    problem, handed = asked.problem, asked.handed
    target = asked.item.function.target_as(problem.target_kind) or problem.target_kind
    found = {*problem_features(handed, target), problem.loss, problem.given, *examine(problem), *examine(handed)}
    if target in ("one_hot", "distribution"):
        found.add("dense_target")
    if handed.layout.class_axis != -1:
        found.add("moved_class_axis")
    if handed.given == "probabilities":
        with np.errstate(invalid="ignore"):
            certain = (handed.predictions <= 0) | (handed.predictions >= 1)
        found |= {"certain_prediction"} if bool(np.any(certain)) else set()
    weights = problem.options.sample_weights
    if weights is not None and weights.ndim < problem.predictions.ndim - 1:
        found.add("leading_weights")
    ignored = problem.options.ignore_index
    if ignored is not None and problem.labels.size:
        left_out = problem.labels == ignored
        found |= {"everything_ignored"} if bool(np.all(left_out)) else set()
        odd = ~np.isfinite(problem.predictions.astype(np.float64))[left_out]
        found |= {"odd_ignored"} if bool(np.any(odd)) else set()
    if math.prod(problem.sample_shape) == 1:
        found.add("one_sample")
    if beyond_range(problem) or beyond_range(handed):
        found.add("beyond_range")
    return frozenset(found)
