"""Quantities computed from the loss: a perplexity, or the fraction of the loss that is explained (D2).

*Perplexity* is P = exp(m) of the mean m.  An error e of m is a factor of exp(e) in P, and the exponential itself
has a relative error of g u (see `error_bound` for u, g and h).  Its gradient is P times that of m.

*D2* is 1 - a / b, 1 minus a quotient of deviances: a is the sum of the losses, b that of a model that predicts for
each sample the share of each class among the labels, p_c = W_c / S with W_c = sum_i s_i q_ic and S = sum_i s_i.  So
b = -sum_c W_c log p_c, with 0 log 0 = 0.  A share is a quotient of two sums with a relative error of (2 h(n) + 2) u,
which is the absolute error of its logarithm; the logarithm adds g u, its products with weights and targets 2 u, and
the sum h(n) u, all relative.  If all labels are of one class, or b is no larger than its own error, there is no
answer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from flint import arb, ctx

from conformance.model.case import Problem
from conformance.model.convention import Convention
from conformance.model.floats import Floats
from conformance.reference import error_bound, gradient
from conformance.reference.domain import dtype_info
from conformance.reference.error_bound import ELEMENTARY, finite_or_zero, sum_error, underflow_error
from conformance.reference.flat_problem import FlatProblem, flatten
from conformance.reference.oracle import Answer, Exact, NoAnswerError, Oracle, Term, Undefined, exact
from conformance.reference.relevance import ANSWER_FIELDS, relevant

PRECISION = 256
"""Precision in bits for transforms of losses, which are enclosed to 75 bits or more."""
LARGEST_EXPONENT = 1e5
"""Above it, exp is infinite or zero in every dtype."""


def perplexity(mean: Answer) -> Answer:
    """The exact exponential of a mean."""
    if not isinstance(mean, Exact):
        return mean
    with ctx.workprec(PRECISION):
        return exact(mean.hi.shape, [_exponential(term) for term in _terms(mean)], PRECISION)


def perplexity_gradient(mean: Answer, loss_gradient: Answer, dtype: str) -> Answer:
    """The exact gradient of a perplexity.  loss_gradient: the gradient of the mean, shaped as the predictions."""
    factor = perplexity(mean)
    if not isinstance(loss_gradient, Exact) or not isinstance(factor, Exact):
        return loss_gradient if isinstance(factor, Exact) else factor
    if not np.all(np.abs(factor.hi) <= dtype_info(dtype).largest):
        return Undefined(f"the perplexity is no finite number in {dtype}, so it has no gradient")
    with ctx.workprec(PRECISION):
        factor_term = next(_terms(factor), arb(0))
        terms = [term * (factor_term if isinstance(term, arb) else 1.0) for term in _terms(loss_gradient)]
        entries = exact(loss_gradient.hi.shape, terms, PRECISION)
    return Exact(entries.hi, entries.lo, entries.rad, loss_gradient.unconstrained)


def d2(problem: Problem, convention: Convention, oracle: Oracle) -> Answer:
    """The exact D2 of a problem under a convention."""
    total = oracle.answer(problem.with_reduction("sum"), convention)
    if not isinstance(total, Exact):
        return total
    with ctx.workprec(PRECISION):
        try:
            null, _ = null_loss(problem, convention)
        except NoAnswerError as error:
            return Undefined(str(error))
        [loss] = _terms(total)
        return exact((), [1 - loss / null if isinstance(loss, arb) else -loss], PRECISION)


def perplexity_tolerance(problem: Problem, convention: Convention, mean_tolerance: Floats) -> Floats:
    """The tolerance of a perplexity.  mean_tolerance: tolerance of the mean."""
    with np.errstate(all="ignore"):
        return finite_or_zero(
            _relative_error(problem, mean_tolerance) * _perplexity(problem, convention) + underflow_error(problem.dtype)
        )


def perplexity_gradient_tolerance(problem: Problem, convention: Convention, gradient_tolerance: Floats) -> Floats:
    """The tolerance of the gradient of a perplexity.  gradient_tolerance: tolerance of the mean's gradient."""
    mean_tolerance = error_bound.tolerance(problem, convention)
    loss_gradient = gradient.estimate(problem, convention)
    with np.errstate(all="ignore"):
        factor, relative = _perplexity(problem, convention), _relative_error(problem, mean_tolerance)
        return finite_or_zero(
            factor * ((1 + relative) * gradient_tolerance + relative * np.abs(loss_gradient))
            + underflow_error(problem.dtype)
        )


def d2_tolerance(problem: Problem, convention: Convention) -> Floats:
    """The tolerance of a D2."""
    total = problem.with_reduction("sum")
    value, value_tolerance = error_bound.estimate(total, convention)[0], error_bound.tolerance(total, convention)
    unit = dtype_info(problem.dtype).unit_roundoff
    try:
        with ctx.workprec(PRECISION):
            ball, null_error = null_loss(problem, convention)
    except NoAnswerError:
        return np.zeros(())
    null = float(ball.mid())
    with np.errstate(all="ignore"):
        quotient = np.abs(value) / null
        return finite_or_zero(
            (value_tolerance + quotient * null_error) / (null - null_error) + unit * (2 * quotient + 1)
        )


def null_loss(problem: Problem, convention: Convention) -> tuple[Any, float]:
    """(loss of a model that predicts the share of each class, as a ball, its error in the dtype of the problem).

    Raises NoAnswerError if it has none, or none that exceeds its error.
    """
    key = ("null loss", relevant(problem.unreduced, convention, ANSWER_FIELDS))
    weights, total, samples = problem.unreduced.computed_once(key, lambda: _class_totals(flatten(problem, convention)))
    counted = [weight for weight in weights if not weight.is_zero()]
    if not all(weight > 0 for weight in counted):
        raise NoAnswerError("the share of a class is negative or no number")
    if len(counted) < 2:
        raise NoAnswerError("what counts is of one class: predicting its share has no loss that could be explained")
    loss = -sum((weight * (weight / total).log() for weight in counted), arb(0))
    unit, terms = dtype_info(problem.dtype).unit_roundoff, sum_error(samples)
    size = float(sum(counted, arb(0)).mid())
    error = unit * ((2 * terms + 2) * size + (ELEMENTARY[problem.dtype] + 2 + terms) * float(loss.mid()))
    if not loss > error:
        raise NoAnswerError("the loss of predicting the share of each class is no larger than its own rounding error")
    return loss, error


def _class_totals(flat: FlatProblem) -> tuple[list[Any], Any, int]:
    """(W_c of each class, or of 0 and 1 for a binary loss, and S, as balls; the number of samples)."""
    weights = np.where(flat.kept, 1.0 if flat.sample_weights is None else flat.sample_weights, 0.0).tolist()
    totals = [arb(0)] * (2 if flat.binary else flat.x.shape[1])
    targets = flat.index if flat.q is None else flat.q
    assert targets is not None
    rows = targets.tolist() if targets.ndim == 1 else map(tuple, targets.tolist())
    for (row, weight), count in Counter(zip(rows, weights, strict=True)).items():  # equal rows are common
        size = count * arb(weight)
        if flat.index is not None:
            totals[row % len(totals)] += size
        else:
            shares = (1 - arb(row), arb(row)) if flat.binary else map(arb, row)
            totals = [total + size * share for total, share in zip(totals, shares, strict=True)]
    total = sum((count * arb(weight) for weight, count in Counter(weights).items()), arb(0))
    return totals, total, len(weights)


def _perplexity(problem: Problem, convention: Convention) -> Floats:
    return np.exp(error_bound.estimate(problem, convention)[0])


def _relative_error(problem: Problem, mean_tolerance: Floats) -> Floats:
    """The relative tolerance of a perplexity."""
    unit = dtype_info(problem.dtype).unit_roundoff
    return np.expm1(mean_tolerance) + (1 + np.expm1(mean_tolerance)) * (ELEMENTARY[problem.dtype] + 1) * unit


def _terms(answer: Exact) -> Iterator[Term]:
    """The elements of an answer as balls; nan and infinities as floats."""
    for hi, lo, rad in zip(answer.hi.ravel(), answer.lo.ravel(), answer.rad.ravel(), strict=True):
        yield arb(float(hi), float(rad)) + float(lo) if math.isfinite(hi) else float(hi)


def _exponential(term: Term) -> Term:
    size = term if isinstance(term, float) else float(term.mid())
    if math.isnan(size) or size > LARGEST_EXPONENT:
        return math.nan if math.isnan(size) else math.inf
    return arb(0) if size < -LARGEST_EXPONENT else term.exp()
