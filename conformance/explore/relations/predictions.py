"""Predictions: shifted, normalised, of another kind, in a wider dtype.

A shift of arbitrary logits is not exact: 0.1 + 8 is rounded.  So the logits of both sides are rounded to a grid first,
on which the shift is.  Probabilities that are made from logits are rounded once each, which the budget has a term for.
Where a function says that it clips probabilities, or floors their logarithms, they must lie where it does neither.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from conformance.adapters.contract import Function
from conformance.explore.relations.relation import Relation, Restated, finite, opted, stated
from conformance.model.case import Problem, numpy_dtype
from conformance.model.convention import Convention
from conformance.reference.conversion import bridge
from conformance.reference.domain import numpy_info
from conformance.reference.flat_problem import rows

SHIFTS = {"float16": 6, "bfloat16": 6, "float32": 8, "float64": 10}
"""By which power of two logits are shifted: one whose exponential is beyond the dtype, where the grid can be that fine.

float16 has 11 bits, of which 6 are before the point then, and bfloat16 has 8."""


def has_logits(problem: Problem, function: Function) -> bool:
    return problem.given == "logits" and problem.loss == "categorical"


def shifted(problem: Problem, convention: Convention) -> Restated | None:
    """Every row shifted up or down by the same power of two, in turns."""
    dtype = numpy_dtype(problem.dtype)
    shift = 2.0 ** SHIFTS[problem.dtype]
    # Numbers up to twice the shift are multiples of their unit in the last place there.
    grid = shift * numpy_info(problem.dtype)[2]
    z = problem.predictions.astype(np.float64)
    whole = np.where(np.isfinite(z), np.round(z / grid) * grid, z)
    if np.any(np.abs(whole[np.isfinite(whole)]) >= shift):
        return None
    signs = np.where(np.arange(math.prod(z.shape[:-1])) % 2, -1.0, 1.0).reshape(*z.shape[:-1], 1)
    moved = (whole + signs * shift).astype(dtype)
    start = stated(problem, predictions=whole.astype(dtype))
    return Restated(start, (stated(problem, predictions=moved),))


def takes_logits(problem: Problem, function: Function) -> bool:
    return has_logits(problem, function) and "logits" in function.takes


def normalised(problem: Problem, convention: Convention) -> Restated:
    """The logits less their log-sum-exp, which are logits, too."""
    logs, _ = bridge(problem, "log_probabilities")
    return Restated(problem, (stated(logs, given="logits"),), converted=True)


def takes_probabilities_too(problem: Problem, function: Function) -> bool:
    return problem.given == "logits" and {"logits", "probabilities"} <= set(function.takes)


def as_probabilities(problem: Problem, convention: Convention) -> Restated | None:
    """The softmax or sigmoid of the logits, where neither end of [0, 1] is so near that its digits are lost."""
    other, _ = bridge(problem, "probabilities")
    p = other.predictions.astype(np.float64)
    unit, least = numpy_info(problem.dtype)[:2]
    nearest = np.minimum(p, 1 - p) if problem.loss == "binary" else p
    edge = math.sqrt(unit) if problem.loss == "binary" else least
    if not np.all(nearest >= edge) or clipped(other, convention):
        return None
    return Restated(problem, (other,), converted=True)


def takes_log_probabilities_too(problem: Problem, function: Function) -> bool:
    return problem.given == "logits" and {"logits", "log_probabilities"} <= set(function.takes)


def as_log_probabilities(problem: Problem, convention: Convention) -> Restated | None:
    """The log-softmax of the logits."""
    other, _ = bridge(problem, "log_probabilities")
    return None if problem.loss == "binary" else Restated(problem, (other,), converted=True)


def clipped(problem: Problem, convention: Convention) -> bool:
    """Whether a function that documents this changes some probability before, or its logarithm after, it takes it."""
    if problem.given != "probabilities":
        return False
    p = problem.predictions.astype(np.float64)
    p = np.stack([p, 1 - p]) if problem.loss == "binary" else p
    low, high = rows(problem, convention).clip or (0.0, 1.0)
    floor = 0.0 if convention.log_floor is None else math.exp(convention.log_floor)
    return not bool(np.all((p >= max(low, floor)) & (p <= high)))


def takes_logits_too(problem: Problem, function: Function) -> bool:
    both = {"logits", "probabilities"} <= set(function.takes)
    return problem.given == "probabilities" and both and problem.loss == "categorical"


def as_logits(problem: Problem, convention: Convention) -> Restated | None:
    """The logarithms of probabilities that sum to 1 exactly."""
    p = problem.predictions.astype(np.float64)
    sums = [math.fsum(row) for row in p.reshape(-1, p.shape[-1]).tolist()]
    if any(total != 1 for total in sums) or clipped(problem, convention):
        return None
    return Restated(problem, (bridge(problem, "logits")[0],), converted=True)


def takes_probabilities(problem: Problem, function: Function) -> bool:
    return problem.given == "probabilities" and "probabilities" in function.takes


def clipped_beforehand(problem: Problem, convention: Convention) -> Restated | None:
    """Probabilities where a function documents that it moves them to."""
    ends = rows(problem, convention).clip
    if ends is None or convention.renormalise == "before_clip":
        return None
    with np.errstate(invalid="ignore"):
        inside = np.clip(problem.predictions.astype(np.float64), *ends).astype(problem.predictions.dtype)
    if np.array_equal(inside, problem.predictions, equal_nan=True):
        return None
    return Restated(problem, (stated(problem, predictions=inside),))


def takes_rows(problem: Problem, function: Function) -> bool:
    return takes_probabilities(problem, function) and problem.loss == "categorical"


def halved(problem: Problem, convention: Convention) -> Restated | None:
    """Rows of half their sum, for a function that divides by it."""
    half = problem.predictions * problem.predictions.dtype.type(0.5)
    exact = np.array_equal(half.astype(np.float64) * 2, problem.predictions.astype(np.float64), equal_nan=True)
    other = stated(problem, predictions=half)
    if not exact or convention.renormalise == "no" or clipped(problem, convention) or clipped(other, convention):
        return None
    return Restated(problem, (other,))


def takes_crisp_rows(problem: Problem, function: Function) -> bool:
    crisp = problem.target_kind in ("index", "one_hot") and not problem.options.label_smoothing
    return crisp and takes_rows(problem, function)


def with_others_halved(problem: Problem, convention: Convention) -> Restated | None:
    """Another share for the classes that are not the label, for a function that takes rows as they are."""
    classes = problem.predictions.shape[-1]
    index = problem.target == "index"
    label = problem.labels[..., np.newaxis] == np.arange(classes) if index else problem.labels != 0
    half = problem.predictions * problem.predictions.dtype.type(0.5)
    if convention.renormalise != "no" or not finite(problem):
        return None
    return Restated(problem, (stated(problem, predictions=np.where(label, problem.predictions, half)),))


def is_narrow(problem: Problem, function: Function) -> bool:
    return problem.dtype != "float64" and problem.given in function.takes and "float64" in function.dtypes


def widened(problem: Problem, convention: Convention) -> Restated | None:
    """The same numbers in float64."""
    wide = np.dtype(np.float64)
    other = dataclasses.replace(stated(problem, predictions=problem.predictions.astype(wide)), dtype="float64")
    weights = {
        name: weights.astype(wide)
        for name in ("class_weights", "sample_weights", "positive_weight")
        if (weights := getattr(problem.options, name)) is not None
    }
    if problem.target != "index" and problem.labels.dtype.kind not in "biu":
        other = stated(other, labels=problem.labels.astype(wide))
    other = opted(other, **weights)
    return None if clipped(problem, convention) or clipped(other, convention) else Restated(problem, (other,))


RELATIONS = (
    Relation("shifted_logits", "What is added to all logits of a row changes no probability.", has_logits, shifted),
    Relation(
        "normalised_logits",
        "Logarithms of probabilities are logits of the same probabilities.",
        takes_logits,
        normalised,
    ),
    Relation(
        "as_probabilities",
        "Logits and the probabilities they stand for have the same loss.",
        takes_probabilities_too,
        as_probabilities,
    ),
    Relation(
        "as_log_probabilities",
        "Logits and the log-probabilities they stand for have the same loss.",
        takes_log_probabilities_too,
        as_log_probabilities,
    ),
    Relation("as_logits", "Logarithms of probabilities are logits of them.", takes_logits_too, as_logits),
    Relation(
        "clipped_beforehand",
        "A probability has the loss of the one that it is documented to be clipped to.",
        takes_probabilities,
        clipped_beforehand,
    ),
    Relation("halved_rows", "Rows that are divided by their sum may have any.", takes_rows, halved),
    Relation(
        "other_probabilities",
        "Of a row that is taken as it is only the probability of the label counts.",
        takes_crisp_rows,
        with_others_halved,
    ),
    Relation("in_float64", "The same numbers in a wider dtype have the same loss.", is_narrow, widened),
)
