"""Which choices of a convention affect a problem: conventions that agree in these share their answers.

Each function returns the convention with every choice that cannot change its result set back to the definition's.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.model.case import InputKind, Problem
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
ANSWER_FIELDS = frozenset(_MEAN | _PROBABILITIES | _ROWS | _SHAPE | _DOMAIN)
GRADIENT_FIELDS = frozenset(ANSWER_FIELDS | _GRADIENT)
ERROR_BOUND_FIELDS = frozenset({*ANSWER_FIELDS, "cancellation"} - {"empty_mean"})
GRADIENT_ERROR_BOUND_FIELDS = frozenset(ERROR_BOUND_FIELDS | _ROUNDING | _GRADIENT)
HESSIAN_FIELDS = frozenset(_MEAN | _ROWS | _SHAPE | _DOMAIN | _HESSIAN)
"""Fields that each computation reads; error bounds only for problems that are not rejected."""


def relevant(
    problem: Problem, convention: Convention, fields: frozenset[str], taken_as: InputKind | None = None
) -> Convention:
    """Return a convention with only those choices in `fields` that can affect the problem.

    fields: `ANSWER_FIELDS`, `GRADIENT_FIELDS`, `ERROR_BOUND_FIELDS`, `GRADIENT_ERROR_BOUND_FIELDS` or `HESSIAN_FIELDS`.
    taken_as: the kind to which the problem's predictions are converted; None if they are not.
    """
    if convention is DEFINITION:
        return convention
    key = (relevant, convention, fields, taken_as)
    return problem.computed_once(key, lambda: _relevant(problem, convention, fields, taken_as))


def _relevant(
    problem: Problem, convention: Convention, fields: frozenset[str], taken_as: InputKind | None
) -> Convention:
    names = [name for name in convention.choices() if name in fields and affects(name, convention, problem, taken_as)]
    if "cancellation" not in fields and logarithm_kind(problem, convention, taken_as) != "probabilities":
        names = [name for name in names if name != "log_floor"]  # log-probabilities are floored in error bounds only
    return _restricted(convention, tuple(names), convention.accepts & examine(problem))


def affects(name: str, convention: Convention, problem: Problem, taken_as: InputKind | None = None) -> bool:
    """Whether the choice for a field can affect a problem, in combination with any other choices.

    taken_as: as in `relevant`.
    """
    predicate = _AFFECTS.get(name)
    kinds = (taken_as or problem.input_kind, logarithm_kind(problem, convention, taken_as))
    return predicate is None or predicate(getattr(convention, name), problem, *kinds)


_AFFECTS: dict[str, Callable[[Any, Problem, InputKind, InputKind], bool]] = {
    **dict.fromkeys(("mean_divides_by", "empty_mean"), lambda chosen, problem, *_: problem.reduction == "mean"),
    **dict.fromkeys(("logits_as", "cancellation"), lambda chosen, problem, kind, _: kind == "logits"),
    **dict.fromkeys(("clip", "log_offset"), lambda chosen, problem, kind, logarithm: logarithm == "probabilities"),
    "log_floor": lambda chosen, problem, kind, logarithm: logarithm != "logits",
    "renormalise": lambda chosen, problem, kind, logarithm: (
        logarithm == "probabilities" and problem.loss == "categorical"
    ),
    "class_weighting": lambda chosen, problem, *_: weighs_rows_of_targets(problem),
    "log_sum_exp": lambda chosen, problem, kind, _: kind == "logits" and problem.target == "distribution",
    "unreduced_class_axis": lambda chosen, problem, *_: problem.loss == "categorical" and problem.reduction == "none",
    "binary_outputs": lambda chosen, problem, *_: problem.loss == "binary" and problem.predictions.ndim > 0,
    "default_ignore_index": lambda chosen, problem, *_: (
        problem.target == "index" and bool(np.any(problem.labels == chosen))
    ),
    "class_columns": lambda chosen, problem, *_: depends_on_columns(problem, chosen),
    "label_shift": lambda chosen, problem, *_: shifts_labels(problem, chosen),
    # With a shape mismatch, nothing else is examined.
    "out_of_range": lambda chosen, problem, *_: bool(examine(problem) & {"label_out_of_range", "shape_mismatch"}),
    "empty_batch": lambda chosen, problem, *_: bool(examine(problem) & {"empty_batch", "shape_mismatch"}),
    "accepts": lambda chosen, problem, *_: bool(chosen & examine(problem)),
}
"""Predicates of a choice, a problem, the kind of its predictions, and the kind of which the logarithm is taken; the
choice for another field always affects a problem."""


@functools.cache
def _restricted(convention: Convention, names: tuple[str, ...], accepts: frozenset[str]) -> Convention:
    if "accepts" in names:
        convention = dataclasses.replace(convention, accepts=accepts)
    restricted = convention.restricted_to(names)
    return DEFINITION if restricted == DEFINITION else restricted
