"""The diagonal of the exact Hessian of the reduced loss with respect to the logits, and its error bound.

Second-order methods train with the diagonal alone.  In the notation of `gradient`, with t_c = w_c q'_c and
T = sum_c t_c, the second derivative of a sample is T p_c (1 - p_c), p = softmax(z), for any label; that of a
binary loss is (1 - y' + pos y') sigma(z) (1 - sigma(z)).  A convention may multiply it by a factor and replace smaller
values by a floor, before or after it is weighted.  Each row is multiplied by s_i and, for a mean, divided by its
divisor.  As in `gradient`, 1 - p_c is the sum of the others, and the same formulas are evaluated in balls for float64
and in float64 for narrower dtypes.

*Error.*  In the terms of `error_bound`: p_c has a relative error r_c u, that of log p_c plus g u, and so has
1 - p_c by the same of the others, or 2 g + 2 each for sigmoids.  T is a sum of C terms with an error h(C) u, with
a rounding for each product and three for smoothing; products with it are rounded once each, and the factor, a quotient,
twice.  With `hessian_cancellation` the complement is computed from the rounded p_c, with an error (r_c + 1) u p_c plus
a rounding, however small it is: T p_c times that is added.  A floor has its own rounding error and, where it decides,
no more than either side.  Underflow, and the factor of a reduction, as in `gradient_error_bound`.
"""

from __future__ import annotations

import numpy as np
from flint import ctx

from conformance.model.case import Problem
from conformance.model.convention import Convention
from conformance.model.floats import Floats
from conformance.reference import gradient
from conformance.reference.domain import dtype_info, examine
from conformance.reference.error_bound import (
    DIVISION,
    ELEMENTARY,
    divisor_error,
    softmax_error,
    sum_error,
    underflow_error,
)
from conformance.reference.flat_problem import FlatProblem, flatten, rejected_anomalies
from conformance.reference.gradient import NOT_FINITE, PRECISION, Gradient, Numbers, ToNumbers, balls, floats
from conformance.reference.oracle import Answer, Exact, Undefined
from conformance.reference.relevance import HESSIAN_FIELDS, relevant


def answer(problem: Problem, convention: Convention, loss: Answer) -> Answer:
    """The exact second derivatives, shaped as the predictions.

    loss: the answer to the problem under that convention; if it is undefined, so are the derivatives.
    """
    if not isinstance(loss, Exact):
        return loss
    if problem.input_kind != "logits":
        return Undefined("the second derivative is defined in the logits")
    if kinds := examine(problem) & NOT_FINITE:
        return Undefined(f"there is no second derivative: {', '.join(sorted(kinds))}")
    reduced = problem if problem.reduction == "mean" else problem.with_reduction("sum")
    relevant_convention = relevant(reduced, convention, HESSIAN_FIELDS)
    return reduced.computed_once(("hessian", relevant_convention), lambda: _answer(reduced, relevant_convention))


def _answer(problem: Problem, convention: Convention) -> Exact:
    in_balls = problem.dtype == "float64"
    with ctx.workprec(PRECISION):
        value = _reduced(problem, flatten(problem, convention), convention, balls if in_balls else floats)
        derivatives = Gradient(value, np.zeros(value.shape, dtype=bool))
        return gradient.answer_of(derivatives, problem.predictions.shape, in_balls)


def tolerance(problem: Problem, convention: Convention) -> Floats:
    """The tolerance of each second derivative, shaped as the predictions; 0 where it is not finite."""
    if rejected_anomalies(problem, convention) or problem.input_kind != "logits":
        return np.zeros(())
    flat, tiny = flatten(problem, convention), underflow_error(problem.dtype)
    unit = dtype_info(problem.dtype).unit_roundoff
    with np.errstate(all="ignore"):
        value, relative, absolute = _unreduced_error(flat, convention, ELEMENTARY[problem.dtype])
        factor = np.abs(_column(flat, gradient.factors(problem, flat, convention, floats)))
        products = 2.0 + (flat.sample_weights is not None) + _target_sum_error(flat)
        if problem.reduction == "mean":
            products += DIVISION + divisor_error(flat, convention, len(flat.x), unit)
        scale = np.abs(_reduced(problem, flat, convention, floats))
        error = unit * (scale * products + factor * (absolute + value * relative)) + tiny * (1 + factor) * DIVISION
    return np.where(np.isfinite(error), error, 0.0).reshape(problem.predictions.shape)


def _unreduced_error(flat: FlatProblem, convention: Convention, g: float) -> tuple[Floats, Floats, Floats]:
    """(second derivatives of rows, their relative error, an absolute error to be added), the last two in u."""
    x, target_sum = flat.x.astype(np.float64), np.abs(_target_sum(flat, convention, floats))
    if flat.binary:
        p, complement = gradient.sigmoids(x, floats)
        p_error: Floats = np.full(x.shape, 2 * g + 2)
    else:
        minus_log, log_error = softmax_error(x, convention, g)
        p, p_error = np.exp(-minus_log), log_error + g + 1
        p_error, complement = np.where(p > 0, p_error, 0.0), gradient.sum_of_others(p)
    cancels = convention.hessian_cancellation == "complement"
    complement_error = (
        0.0 if cancels else np.max(p_error, axis=-1, keepdims=True, initial=0.0) if not flat.binary else p_error
    )
    products = 2.0 + 2 * (convention.hessian_factor != 1)
    factor = _factor(flat, convention) * target_sum
    absolute = factor * p * ((p_error + 1) * p + complement) if cancels else np.zeros(x.shape)
    return factor * p * complement, p_error + complement_error + products, absolute


def _target_sum_error(flat: FlatProblem) -> float:
    """The relative error of T in units of u, if no target or weight is negative."""
    products = (flat.class_weights is not None or flat.positive_weight is not None) + 3.0 * bool(flat.smoothing)
    if flat.binary:
        return products + (flat.positive_weight is not None) * 2
    terms = 1 if flat.q is None and not flat.smoothing else flat.x.shape[1]
    return products + sum_error(terms) + (flat.q is not None)


def _reduced(problem: Problem, flat: FlatProblem, convention: Convention, to_numbers: ToNumbers) -> Numbers:
    """The second derivatives of rows with the factors of the reduction and the convention's factor and floor."""
    with np.errstate(all="ignore"):
        x, zero = flat.x.astype(np.float64), to_numbers(np.zeros(()))
        if flat.binary:
            p, complement = gradient.sigmoids(x, to_numbers)
        else:
            p = gradient.softmax(x, to_numbers)
            complement = gradient.sum_of_others(p)
        target_sum = _target_sum(flat, convention, to_numbers)
        value = p * complement * _factor(flat, convention, to_numbers)
        floor = None if convention.hessian_floor is None else to_numbers(np.asarray(convention.hessian_floor))
        if floor is not None and convention.hessian_floor_of == "sample":
            value = _at_least(value, floor)
        factor = _column(flat, gradient.factors(problem, flat, convention, to_numbers))
        unreduced = _column(flat, gradient.factors(problem.with_reduction("sum"), flat, convention, to_numbers))
        value = value * target_sum * unreduced
        if floor is not None and convention.hessian_floor_of == "weighted":
            value = _at_least(value, floor)
        if problem.reduction == "mean":
            weighs = np.asarray(unreduced != 0, dtype=bool)
            value = value * np.where(weighs, factor / np.where(weighs, unreduced, to_numbers(np.ones(()))), zero)
        nan = np.isnan(x) if flat.binary else np.isnan(x).any(axis=1, keepdims=True)
        value = np.where(nan, np.nan, value)
        return np.where(flat.kept if flat.binary else flat.kept[:, np.newaxis], value, zero)


def _target_sum(flat: FlatProblem, convention: Convention, to_numbers: ToNumbers) -> Numbers:
    """T of each row, [n, 1]; for a binary loss 1 - y' + pos y', [n]."""
    if not flat.binary:
        if gradient.has_unit_total(flat, convention):
            return gradient.row_weights(flat, to_numbers) if flat.weighs_rows else to_numbers(np.ones((len(flat.x), 1)))
        return np.asarray(gradient.targets(flat, to_numbers).sum(axis=1, keepdims=True))
    assert flat.q is not None
    if flat.positive_weight is None:
        return to_numbers(np.ones(flat.x.shape))
    e = to_numbers(np.asarray(flat.smoothing))
    y = (1 - e) * to_numbers(flat.q) + e / 2 if flat.smoothing else to_numbers(flat.q)
    return np.asarray(1 - y + to_numbers(flat.positive_weight) * y)


def _factor(flat: FlatProblem, convention: Convention, to_numbers: ToNumbers = floats) -> Numbers:
    """The convention's factor; the definition's, 1, for a binary loss."""
    if flat.binary or convention.hessian_factor == 1:
        return to_numbers(np.ones(()))
    if convention.hessian_factor != "classes":
        return to_numbers(np.asarray(convention.hessian_factor))
    classes = flat.x.shape[1]
    return np.asarray(to_numbers(np.asarray(float(classes))) / to_numbers(np.asarray(float(classes - 1))))


def _at_least(value: Numbers, floor: Numbers) -> Numbers:
    return np.where(np.asarray(value < floor, dtype=bool), floor, value)


def _column(flat: FlatProblem, values: Numbers) -> Numbers:
    """Values of rows, beside classes as a column."""
    return values if flat.binary else values[:, np.newaxis]
