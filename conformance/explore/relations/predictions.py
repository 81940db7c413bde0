"""Relations of predictions: shifted, normalised, converted to another kind, or in a wider dtype.

A shift of arbitrary logits is not exact, as 0.1 + 8 is rounded. The logits of source and follow-up are therefore first
rounded to a grid on which the shift is exact. Probabilities computed from logits are rounded once each, for which the
tolerance has a term. Probabilities that the function documents to clip or to floor are excluded.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from conformance.adapters.contract import Function
from conformance.explore.relations.relation import (
    MetamorphicGroup,
    has_finite_losses,
    relation,
    relations_of,
    replace_fields,
    replace_options,
)
from conformance.model.case import InputKind, Problem, numpy_dtype
from conformance.model.convention import Convention
from conformance.reference.conversion import convert
from conformance.reference.domain import dtype_info
from conformance.reference.flat_problem import flatten

SHIFTS = {"float16": 6, "bfloat16": 6, "float32": 8, "float64": 10}
"""Binary exponent of the shift of logits, by dtype: its exponential exceeds the range of the dtype, if the grid is
still fine enough.

float16 has 11 significant bits, of which 6 are before the point then, and bfloat16 has 8.
"""


def accepts_kinds(kind: InputKind, other: InputKind) -> Callable[[Problem, Function], bool]:
    """Return a predicate: whether the predictions are of one kind and the function accepts this kind and another."""
    return lambda problem, function: problem.input_kind == kind and {kind, other} <= set(function.takes)


def has_logits(problem: Problem, function: Function) -> bool:
    return problem.input_kind == "logits" and problem.loss == "categorical"


@relation("shifted_logits", has_logits)
def shift_logits(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """Adding a constant to all logits of a row does not change the loss.

    Shift rows alternately up and down by the same power of two.
    """
    dtype = numpy_dtype(problem.dtype)
    shift = 2.0 ** SHIFTS[problem.dtype]
    # Numbers up to twice the shift are multiples of their unit in the last place there.
    grid = shift * dtype_info(problem.dtype).epsilon
    z = problem.predictions.astype(np.float64)
    rounded = np.where(np.isfinite(z), np.round(z / grid) * grid, z)
    if np.any(np.abs(rounded[np.isfinite(rounded)]) >= shift):
        return None
    signs = np.where(np.arange(math.prod(z.shape[:-1])) % 2, -1.0, 1.0).reshape(*z.shape[:-1], 1)
    shifted = (rounded + signs * shift).astype(dtype)
    source = replace_fields(problem, predictions=rounded.astype(dtype))
    return MetamorphicGroup(source, (replace_fields(problem, predictions=shifted),))


@relation("normalised_logits", lambda problem, function: has_logits(problem, function) and "logits" in function.takes)
def normalise_logits(problem: Problem, convention: Convention) -> MetamorphicGroup:
    """Log-probabilities are logits of the same probabilities.

    Subtract the log-sum-exp from the logits, which gives logits again.
    """
    logs, _ = convert(problem, "log_probabilities")
    return MetamorphicGroup(problem, (replace_fields(logs, input_kind="logits"),), is_rounded=True)


@relation("as_probabilities", accepts_kinds("logits", "probabilities"))
def logits_to_probabilities(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """Logits and their softmax or sigmoid have the same loss.

    Softmax or sigmoid of the logits, if no result is so near to 0 or 1 that digits are lost.
    """
    other, _ = convert(problem, "probabilities")
    p = other.predictions.astype(np.float64)
    unit, smallest = dtype_info(problem.dtype)[:2]
    nearest = np.minimum(p, 1 - p) if problem.loss == "binary" else p
    edge = math.sqrt(unit) if problem.loss == "binary" else smallest
    if not np.all(nearest >= edge) or is_clipped(other, convention):
        return None
    return MetamorphicGroup(problem, (other,), is_rounded=True)


@relation("as_log_probabilities", accepts_kinds("logits", "log_probabilities"))
def logits_to_log_probabilities(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """Logits and their log-softmax have the same loss.

    Log-softmax of the logits.
    """
    other, _ = convert(problem, "log_probabilities")
    return None if problem.loss == "binary" else MetamorphicGroup(problem, (other,), is_rounded=True)


def is_clipped(problem: Problem, convention: Convention) -> bool:
    """Whether the function documents to clip a probability, or to floor its logarithm."""
    if problem.input_kind != "probabilities":
        return False
    p = problem.predictions.astype(np.float64)
    p = np.stack([p, 1 - p]) if problem.loss == "binary" else p
    low, high = flatten(problem, convention).clip or (0.0, 1.0)
    floor = 0.0 if convention.log_floor is None else math.exp(convention.log_floor)
    return not bool(np.all((p >= max(low, floor)) & (p <= high)))


def accepts_logits_and_probabilities(problem: Problem, function: Function) -> bool:
    return problem.loss == "categorical" and accepts_kinds("probabilities", "logits")(problem, function)


@relation("as_logits", accepts_logits_and_probabilities)
def probabilities_to_logits(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """Logarithms of probabilities are logits of the same probabilities.

    Logarithms of probabilities that sum to 1 exactly.
    """
    p = problem.predictions.astype(np.float64)
    sums = [math.fsum(row) for row in p.reshape(-1, p.shape[-1]).tolist()]
    if any(total != 1 for total in sums) or is_clipped(problem, convention):
        return None
    return MetamorphicGroup(problem, (convert(problem, "logits")[0],), is_rounded=True)


def accepts_probabilities(problem: Problem, function: Function) -> bool:
    return problem.input_kind == "probabilities" and "probabilities" in function.takes


@relation("clipped_beforehand", accepts_probabilities)
def clip_first(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """Clipping probabilities as documented before the call does not change the loss.

    Clip probabilities to the limits that the function documents.
    """
    ends = flatten(problem, convention).clip
    if ends is None or convention.renormalise == "before_clip":
        return None
    with np.errstate(invalid="ignore"):
        clipped = np.clip(problem.predictions.astype(np.float64), *ends).astype(problem.predictions.dtype)
    if np.array_equal(clipped, problem.predictions, equal_nan=True):
        return None
    return MetamorphicGroup(problem, (replace_fields(problem, predictions=clipped),))


def accepts_probability_rows(problem: Problem, function: Function) -> bool:
    return accepts_probabilities(problem, function) and problem.loss == "categorical"


@relation("halved_rows", accepts_probability_rows)
def halve_rows(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """If rows are divided by their sum, halving one does not change the loss.

    Halve each row, for a function that divides rows by their sum.
    """
    half = problem.predictions * problem.predictions.dtype.type(0.5)
    exact = np.array_equal(half.astype(np.float64) * 2, problem.predictions.astype(np.float64), equal_nan=True)
    other = replace_fields(problem, predictions=half)
    if not exact or convention.renormalise == "no" or is_clipped(problem, convention) or is_clipped(other, convention):
        return None
    return MetamorphicGroup(problem, (other,))


def has_rows_with_hard_labels(problem: Problem, function: Function) -> bool:
    hard = problem.target_kind in ("index", "one_hot") and not problem.options.label_smoothing
    return hard and accepts_probability_rows(problem, function)


@relation("other_probabilities", has_rows_with_hard_labels)
def halve_other_classes(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """If rows are not normalised, only the probability of the label affects the loss.

    Halve the probabilities of the classes that are not the label, for a function that does not normalise rows.
    """
    classes = problem.predictions.shape[-1]
    index = problem.target == "index"
    label = problem.labels[..., np.newaxis] == np.arange(classes) if index else problem.labels != 0
    half = problem.predictions * problem.predictions.dtype.type(0.5)
    if convention.renormalise != "no" or not has_finite_losses(problem):
        return None
    return MetamorphicGroup(problem, (replace_fields(problem, predictions=np.where(label, problem.predictions, half)),))


def is_narrow(problem: Problem, function: Function) -> bool:
    return problem.dtype != "float64" and problem.input_kind in function.takes and "float64" in function.dtypes


@relation("in_float64", is_narrow)
def cast_to_float64(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """The same numbers in float64 have the same loss.

    Cast to float64.
    """
    wide = np.dtype(np.float64)
    other = dataclasses.replace(replace_fields(problem, predictions=problem.predictions.astype(wide)), dtype="float64")
    weights = {
        name: weights.astype(wide)
        for name in ("class_weights", "sample_weights", "positive_weight")
        if (weights := getattr(problem.options, name)) is not None
    }
    if problem.target != "index" and problem.labels.dtype.kind not in "biu":
        other = replace_fields(other, labels=problem.labels.astype(wide))
    other = replace_options(other, **weights)
    if is_clipped(problem, convention) or is_clipped(other, convention):
        return None
    return MetamorphicGroup(problem, (other,))


RELATIONS = relations_of(globals())
