"""Which choices of a convention affect a problem: conventions that agree in these share their answers.

Each function returns the convention with every choice that cannot change its result set back to the definition's.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from conformance.model.case import InputKind, Loss, Problem, Reduction
from conformance.model.convention import DEFINITION, Convention
from conformance.reference.domain import depends_on_columns, examine
from conformance.reference.flat_problem import logarithm_kind, shifts_labels, weighs_rows_of_targets

_MEAN = {"mean_divides_by", "empty_mean"}
_PROBABILITIES = {"logits_as", "clip", "log_offset", "log_floor", "renormalise"}
_ROWS = {"class_weighting", "log_sum_exp"}
_SHAPE = {"binary_outputs", "unreduced_class_axis", "label_shift", "class_columns", "default_ignore_index"}
_ROUNDING = {"cancellation", "gradient_cancellation"}
_GRADIENT = {"gradient_total", "gradient_floor"}
_HESSIAN = {"hessian_cancellation", "hessian_factor", "hessian_floor", "hessian_floor_of"}
_DOMAIN = {"out_of_range", "accepts", "empty_batch"}
ANSWER = frozenset(_MEAN | _PROBABILITIES | _ROWS | _SHAPE | _DOMAIN)
GRADIENT = frozenset(ANSWER | _GRADIENT)
ERROR_BOUND = frozenset({*ANSWER, "cancellation"} - {"empty_mean"})
GRADIENT_ERROR_BOUND = frozenset(ERROR_BOUND | _ROUNDING | _GRADIENT)
HESSIAN = frozenset(_MEAN | _ROWS | _SHAPE | _DOMAIN | _HESSIAN)
"""Fields that each computation reads; error bounds only for problems that are not rejected."""


def relevant(
    problem: Problem, convention: Convention, read: frozenset[str], taken_as: InputKind | None = None
) -> Convention:
    """Return a convention with only those choices in `read` that can affect the problem.

    read: `ANSWER`, `GRADIENT`, `ERROR_BOUND`, `GRADIENT_ERROR_BOUND` or `HESSIAN`.
    taken_as: the kind to which the problem's predictions are converted; None if they are not.
    """
    if convention is DEFINITION:
        return convention
    key = (relevant, convention, read, taken_as)
    return problem.computed_once(key, lambda: _relevant(problem, convention, read, taken_as))


def _relevant(problem: Problem, convention: Convention, read: frozenset[str], taken_as: InputKind | None) -> Convention:
    input_kind = logarithm_kind(problem, convention, taken_as)
    sums_exponentials = (taken_as or problem.input_kind) == "logits" and problem.target == "distribution"
    names = _names(
        read, problem.loss, input_kind, problem.reduction, weighs_rows_of_targets(problem), sums_exponentials
    )
    result = _restricted(convention, names)
    return result if result is DEFINITION else _without(result, *_idle(problem, result))


def _idle(problem: Problem, convention: Convention) -> tuple[tuple[str, ...], frozenset[str]]:
    """The fields that cannot matter because of a problem's content, and its kinds of accepted input."""
    idle = []
    ignored = convention.default_ignore_index
    if ignored is not None and not (problem.target == "index" and bool(np.any(problem.labels == ignored))):
        idle.append("default_ignore_index")
    if convention.label_shift and not shifts_labels(problem, convention):
        idle.append("label_shift")
    if not depends_on_columns(problem, convention.class_columns):
        idle.append("class_columns")
    kinds = examine(problem)
    if "shape_mismatch" not in kinds:  # with a shape mismatch, nothing else is examined
        idle += [] if "label_out_of_range" in kinds else ["out_of_range"]
        idle += [] if "empty_batch" in kinds else ["empty_batch"]
    return tuple(idle), convention.accepts & kinds


@functools.cache
def _names(
    read: frozenset[str],
    loss: Loss,
    input_kind: InputKind,
    reduction: Reduction,
    weighs_rows: bool,
    sums_exponentials: bool,
) -> tuple[str, ...]:
    names = set(read)
    names -= set() if weighs_rows else {"class_weighting"}
    names -= set() if sums_exponentials else {"log_sum_exp"}
    if reduction != "mean":
        names -= _MEAN
    names -= {"binary_outputs"} if loss != "binary" else {"unreduced_class_axis"}
    if reduction != "none":
        names -= {"unreduced_class_axis"}
    if input_kind != "probabilities":
        names -= _PROBABILITIES - {"log_floor"}
        names -= {"log_floor"} if input_kind == "logits" or "cancellation" not in read else set()
    if input_kind != "logits" and not read & _GRADIENT:
        names -= {"cancellation"}
    return tuple(sorted(names))


@functools.cache
def _restricted(convention: Convention, names: tuple[str, ...]) -> Convention:
    return _canonical(convention.restricted_to(names))


@functools.cache
def _without(convention: Convention, idle: tuple[str, ...], accepts: frozenset[str]) -> Convention:
    defaults = {name: getattr(DEFINITION, name) for name in idle}
    return _canonical(dataclasses.replace(convention, accepts=accepts, **defaults))


def _canonical(convention: Convention) -> Convention:
    return DEFINITION if convention == DEFINITION else convention
