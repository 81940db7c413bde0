"""A bound on the error of a correct floating-point gradient, in the terms of `error_bound`.

u is the unit roundoff, g u the error of an elementary function, h(n) u that of a sum of n terms; see `error_bound`.

*Logits, categorical.*  T p_c - t_c = (T - t_c) p_c - t_c (1 - p_c), with p_c = exp(log p_c): the error of log p_c
(`error_bound.softmax_error`) plus g is the relative error of p_c, and of 1 - p_c, which is the sum of the others.
If t_c is subtracted from T p_c (`gradient_cancellation`), the gradient of a right prediction is no better than
the rounding of its p_c, and the tolerance scales with T p_c + |t_c|.

*Logits, binary.*  (1 - y') sigma(z) and pos y' sigma(-z) are relatively accurate.  With `gradient_cancellation` the
form is sigma(z) - y, and the scale sigma(z) (|1 - y'| + |pos y'|) + |pos y'|; for a label of 0 that is the same.  With
a positive weight it is (pos y' + 1 - y') sigma(z) - pos y', whose 1 cancels: sigma(z) (1 + |pos y'|) more.  If the
sigmoid is exp(z - L), L = log(1 + e^z) = max(z, 0) + t, t = log1p(e^-|z|), the exponent has an error of 2 g u t for t
and of two roundings: of z + t or z - t, by u (|z| + t) and by no more than t, as z is a number of the dtype; and of t,
by u t.

*Probabilities.* t_c / p_c is a division. 1 - p is rounded once, and so is a sum with an offset. A row that is divided
by its sum has T / S subtracted from every element, each of which knows S and its quotient to h(C) + 3; one that is
normalised through log and log-sum-exp pays for them as in logits. A binary gradient has two terms of opposite sign,
or their common form (p - y) / (p (1 - p)): the scale is the sum of the two terms' sizes. With a `gradient_floor` it
is that of p - y, to which a smoothed label adds 3u y'.

*Weights and smoothing* are products as in the loss; the complement of a smoothed label has an error of 3u y'. *The
mean* multiplies every sample by 1 / D, which is rounded, and has the error of D if its weights cancel
(`error_bound.divisor_error`).  In float16 it may be subnormal, as may its product with a sample's weight:
then the error is up to half of the smallest subnormal, however large the term that it multiplies. *Underflow*: p_c may
be flushed to zero if it is smaller than the smallest number, and so may a term that is divided by a probability
afterwards, t_c, T p_c or p - y times the sample's factor: that loss is divided, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.model.case import Problem
from conformance.model.convention import Convention
from conformance.model.floats import Floats
from conformance.reference import gradient
from conformance.reference.domain import dtype_info
from conformance.reference.error_bound import (
    DIVISION,
    ELEMENTARY,
    divisor_error,
    finite_or_zero,
    softmax_error,
    sum_error,
    underflow,
    underflow_error,
)
from conformance.reference.flat_problem import FlatProblem, flatten, rejected_anomalies
from conformance.reference.gradient import floats
from conformance.reference.relevance import GRADIENT_ERROR_BOUND_FIELDS, relevant


def tolerance(problem: Problem, convention: Convention) -> Floats:
    """The tolerance of each element of the gradient, shaped as the predictions.

    problem: the problem as passed to the function.  The tolerance is 0 if the gradient is not finite: it must be met
    exactly.
    """
    if rejected_anomalies(problem, convention):
        return np.zeros(())
    relevant_convention = relevant(problem, convention, GRADIENT_ERROR_BOUND_FIELDS)
    key = ("gradient error bound", relevant_convention, problem.reduction == "mean")
    return problem.unreduced.computed_once(key, lambda: _reduced(problem, relevant_convention))


def _reduced(problem: Problem, convention: Convention) -> Floats:
    flat = flatten(problem, convention)
    with np.errstate(all="ignore"):
        relevant_convention = relevant(problem.unreduced, convention, GRADIENT_ERROR_BOUND_FIELDS)
        key, bound_rows = (
            ("gradient error bound of samples", relevant_convention),
            _binary if flat.binary else _categorical,
        )
        size, error = problem.unreduced.computed_once(
            key, lambda: bound_rows(flat, relevant_convention, ELEMENTARY[problem.dtype])
        )
        total = _weighted(flat, convention, size, error, _factors(problem, flat, convention))
    return total.reshape(problem.predictions.shape)


def in_chunks(problem: Problem, convention: Convention, *, size: int) -> Iterator[Floats]:
    """The tolerances of the rows of `gradient.in_chunks`; nothing is cached."""
    flat = flatten(problem, convention)
    factors = _factors(problem, flat, convention)
    bound_rows = _binary if flat.binary else _categorical
    for chunk in flat.chunks(size):
        part = flat.rows(chunk)
        with np.errstate(all="ignore"):
            scale, error = bound_rows(part, convention, ELEMENTARY[problem.dtype])
            chunk_factors = _Factors(factors.unweighted[chunk], factors.factor[chunk], factors.products)
            yield _weighted(part, convention, scale, error, chunk_factors)


@dataclass(frozen=True, eq=False)
class _Factors:
    """Factors of the gradient of each row, as a column that broadcasts to classes."""

    unweighted: Floats
    """Before a mean divides them."""
    factor: Floats
    products: float
    """Number of roundings when a gradient is multiplied by them."""


def _factors(problem: Problem, flat: FlatProblem, convention: Convention) -> _Factors:
    factor = unweighted = gradient.factors(problem, flat, convention, floats)
    if problem.reduction == "mean":
        unweighted = gradient.factors(problem.with_reduction("sum"), flat, convention, floats)
    products = 1 + (flat.sample_weights is not None) + (flat.group > 1) * 2.0
    if problem.reduction == "mean":
        products += DIVISION + divisor_error(flat, convention, len(unweighted), dtype_info(problem.dtype).unit_roundoff)
    if not flat.binary:
        unweighted, factor = unweighted[:, np.newaxis], factor[:, np.newaxis]
    return _Factors(unweighted, factor, products)


def _weighted(flat: FlatProblem, convention: Convention, size: Floats, error: Floats, factors: _Factors) -> Floats:
    """The tolerance of rows, given the size and the error of their unweighted gradients."""
    dtype = str(flat.x.dtype)
    tiny, factor = underflow_error(dtype), np.abs(factors.factor)
    total = factor * (error + factors.products * size)
    size = tiny / dtype_info(dtype).unit_roundoff * size
    weights = np.abs(factors.unweighted) + (flat.sample_weights is not None)
    total = total + weights * size + factor * (tiny + size) + tiny * DIVISION
    total = total + tiny * _underflow_multiplier(flat, convention, factor)
    return finite_or_zero(total)


def _underflow_multiplier(flat: FlatProblem, convention: Convention, factor: Floats) -> Any:
    """The multiplier of an underflow of a product with the factor, if the product is divided by a probability.

    factor: factor of each row, as a column that broadcasts to classes.
    """
    if flat.input_kind != "probabilities":
        return 0.0
    normal = dtype_info(str(flat.x.dtype)).smallest_normal

    def quotient(product: Floats, p: Floats) -> Floats:
        return np.where((product > 0) & (product < normal) & (p > 0), 1 / p, 0.0)

    x = flat.x.astype(np.float64)
    row: Any = 1.0
    if convention.renormalise == "before_clip" and not flat.binary:
        row = x.sum(axis=1, keepdims=True)
    p = x / row if flat.clip is None else np.clip(x / row, *flat.clip)
    p, complement = p + flat.offset, 1 - p + flat.offset
    if flat.binary:
        assert flat.q is not None
        y = flat.q * (1 - flat.smoothing) + flat.smoothing / 2
        pos_factor = factor * np.abs(y if flat.positive_weight is None else flat.positive_weight * y)
        separate = quotient(pos_factor, p) + quotient(factor * np.abs(1 - y), complement)
        divisor = np.maximum(p * complement, gradient.gradient_floor(flat, convention))
        return np.maximum(separate, quotient(factor * np.abs(p - y), divisor))
    t = factor * np.abs(gradient.targets(flat, floats))
    multiplier = quotient(t, p)
    if convention.renormalise == "after_clip":
        multiplier = multiplier + quotient(t.sum(axis=1, keepdims=True) * p / p.sum(axis=1, keepdims=True), p)
    return multiplier / np.abs(row)


def _categorical(flat: FlatProblem, convention: Convention, g: float) -> tuple[Floats, Floats]:
    """(u times the scale of each element, its error), before sample weights.

    Terms are multiplied by u first, so that the scale of a gradient near the largest number does not overflow.
    """
    x = flat.x.astype(np.float64)
    unit = dtype_info(str(flat.x.dtype)).unit_roundoff
    t = np.abs(gradient.targets(flat.absolute if flat.weighs_rows else flat, floats)) * unit
    total = t.sum(axis=1, keepdims=True)
    if gradient.has_unit_total(flat, convention):
        total = unit * (gradient.row_weights(flat.absolute, floats) if flat.weighs_rows else np.ones_like(total))
    num_targets = int((t != 0).sum(axis=1).max(initial=1))
    products = 2.0 + (flat.class_weights is not None) + 3 * bool(flat.smoothing) + (flat.q is not None)
    products += sum_error(x.shape[1]) + 3 if flat.weighs_rows else 0
    if flat.input_kind == "log_probabilities":
        return t, products * t
    if flat.input_kind == "logits":
        return _through_softmax(x, t, total, products + sum_error(num_targets), convention, g)
    p, row = x, np.abs(x).sum(axis=1, keepdims=True)
    if convention.renormalise == "before_clip":
        p = x / x.sum(axis=1, keepdims=True)
    if flat.clip is not None:
        p = np.clip(p, *flat.clip)
    if convention.renormalise == "after_clip" and not flat.offset:
        logs = np.log(p)
        magnitude, error = _through_softmax(logs, t, total, products + sum_error(num_targets), convention, g)
        sum_log_error = g * np.abs(logs) + (np.exp(logs) / p.sum(axis=1, keepdims=True) * g * np.abs(logs)).sum(
            axis=1, keepdims=True
        )
        return magnitude / p, (error + magnitude * (sum_log_error + 2)) / p
    if convention.renormalise == "after_clip":
        row = p.sum(axis=1, keepdims=True)
        p = p / row
    raised = p + flat.offset
    magnitude = np.where(t == 0, 0.0, t / np.where(raised == 0, np.inf, raised))
    quotient_error = (
        sum_error(x.shape[1]) + 3 + underflow(p, str(flat.x.dtype)) if convention.renormalise != "no" else 0.0
    )
    error = magnitude * (products + quotient_error + 1 + (flat.offset > 0))
    if convention.renormalise != "no":
        magnitude = (magnitude + total) / row
        error = error + total * (products + 2 * quotient_error + sum_error(num_targets) + 1)
        error = error / row + quotient_error * magnitude
    return magnitude, error


def _through_softmax(
    z: Floats, t: Floats, total: Floats, products: float, convention: Convention, g: float
) -> tuple[Floats, Floats]:
    minus_log, log_error = softmax_error(z, convention, g)
    p = np.exp(-minus_log)
    relative = np.where(p > 0, log_error + g + 1, 0.0)
    if convention.gradient_cancellation == "targets" or "one" in (convention.gradient_total, convention.log_sum_exp):
        return total * p + t, total * p * (relative + products + 1) + t * (products + 1)
    complement, other_targets = gradient.sum_of_others(p), gradient.sum_of_others(t)
    magnitude = other_targets * p + t * complement
    log_error = other_targets * p * relative + t * (
        gradient.sum_of_others(relative * p) + sum_error(p.shape[1]) * complement
    )
    return magnitude, magnitude * (products + 2) + log_error


def _binary(flat: FlatProblem, convention: Convention, g: float) -> tuple[Floats, Floats]:
    assert flat.q is not None
    x = flat.x.astype(np.float64)
    e = flat.smoothing
    y = flat.q * (1 - e) + e / 2
    unit = dtype_info(str(flat.x.dtype)).unit_roundoff
    pos_factor = np.abs(y if flat.positive_weight is None else flat.positive_weight * y) * unit
    neg_factor = np.abs(1 - y) * unit
    smoothed = 3 * y * unit * bool(e)
    products = 2 + 2 * (flat.positive_weight is not None) + 4 * bool(e)
    if flat.input_kind == "logits":
        s, r = gradient.sigmoids(x, floats)
        cancels = convention.gradient_cancellation == "targets"
        magnitude = s * (neg_factor + pos_factor) + pos_factor if cancels else neg_factor * s + pos_factor * r
        sigmoid_error: Any = 2 * g + 2
        if convention.gradient_cancellation == "logits":
            tail = np.log1p(np.exp(-np.abs(x)))
            sigmoid_error = g + np.minimum(np.abs(x) + tail, tail / unit) + (2 * g + 1) * tail
        error = magnitude * (sigmoid_error + 1 + products) + smoothed * s
        if cancels and flat.positive_weight is not None:
            error = error + np.where(y != 0, (unit + pos_factor) * s, 0.0)
        return magnitude, error
    p = np.exp(x) if flat.input_kind == "log_probabilities" else x
    if flat.clip is not None:
        p = np.clip(p, *flat.clip)
    raised, complement = p + flat.offset, 1 - p + flat.offset
    pos_term, neg_term = _over(pos_factor, raised), _over(neg_factor, complement)
    inherited = _over(smoothed, complement)
    products += flat.offset > 0
    if convention.log_floor is not None:  # below the floor the loss is constant
        floor = np.exp(convention.log_floor)
        pos_term = np.where(raised < floor, 0.0, pos_term)
        neg_term, inherited = (np.where(complement < floor, 0.0, term) for term in (neg_term, inherited))
    if flat.input_kind == "log_probabilities":
        pos_term, neg_term = pos_factor, neg_term * p
        return pos_term + neg_term, (pos_term + neg_term) * (2 * g + 4 + products) + inherited * p
    if product_floor := gradient.gradient_floor(flat, convention):
        divisor = np.maximum(p * (1 - p), product_floor)
        magnitude = np.abs(p - y) * unit / divisor
        return magnitude, magnitude * (4 + products) + smoothed / divisor
    return pos_term + neg_term, (pos_term + neg_term) * (4 + products) + inherited


def _over(part: Any, p: Floats) -> npt.NDArray[np.float64]:
    return np.where(part == 0, 0.0, part / np.where(p == 0, np.nan, p))
