"""Exact gradients with respect to the factors of logits, for losses that compute the product themselves.

With G the gradient in the logits z = h W' + b (`gradient`), that in h is G W, that in W is G' h, and that in b the sum
of the rows of G.  The rows of unreduced losses are multiplied by the upstream gradient first.  In float64
the products are computed in balls; for narrower dtypes in float64, as G is.

*Error.*  Each element is a sum of n products G_k w_k, n the number of classes or of samples: the error of G_k
counts |w_k| times, and products and sum add (h + 2) u times the sum of |G_k w_k| (see `error_bound` for u).  A
product may underflow.  If the terms differ, h is h(n) of `error_bound`.  A matrix product is summed sequentially,
and equal terms have equal rounding errors while the sum has one exponent: the error of m of them is m times that of
one, and errors of groups are independent, which makes h = 2 sqrt(sum of m^2), or n - 1 if that is less.
"""

from __future__ import annotations

import numpy as np
from flint import arb, arb_mat, ctx

from conformance.adapters.contract.heads import head_of, upstream_gradient
from conformance.model.case import Problem, Quantity
from conformance.model.convention import Convention
from conformance.model.floats import Floats
from conformance.reference import gradient
from conformance.reference.domain import dtype_info
from conformance.reference.error_bound import LONG_SUM_FACTOR, underflow_error
from conformance.reference.gradient import PRECISION
from conformance.reference.oracle import Answer, Exact, Undefined, exact


def head_gradient(problem: Problem, quantity: Quantity, logit_gradient: Answer) -> Answer:
    """The exact gradient with respect to a factor of the logits.

    logit_gradient: the gradient with respect to the logits.
    """
    if not isinstance(logit_gradient, Exact):
        return logit_gradient
    if not np.isfinite(logit_gradient.hi).all():
        return Undefined("the gradient in the logits is not finite")
    left, right, shape = _factors(problem, quantity, logit_gradient.hi)
    if problem.dtype == "float64":
        with ctx.workprec(PRECISION):
            parts = (
                _factors(problem, quantity, part)[0].ravel().tolist()
                for part in (logit_gradient.lo, logit_gradient.rad)
            )
            balls = [arb(hi, abs(rad)) + lo for hi, lo, rad in zip(left.ravel().tolist(), *parts, strict=True)]
            product = arb_mat(*left.shape, balls) * arb_mat(*right.shape, right.ravel().tolist())
            product_entries = exact(shape, product.entries(), PRECISION)
    else:
        product_entries = Exact((left @ right).reshape(shape), np.zeros(shape), np.zeros(shape))
    unconstrained = np.full(
        shape, logit_gradient.unconstrained is not None and bool(logit_gradient.unconstrained.any())
    )
    return Exact(
        product_entries.hi, product_entries.lo, product_entries.rad, unconstrained if unconstrained.any() else None
    )


def head_gradient_tolerance(
    problem: Problem, quantity: Quantity, convention: Convention, gradient_tolerance: Floats
) -> Floats:
    """The tolerance of each element of `head_gradient`.

    gradient_tolerance: that of the gradient with respect to the logits.
    """
    logit_gradient = np.abs(gradient.estimate(problem, convention))
    unit, tiny = dtype_info(problem.dtype).unit_roundoff, underflow_error(problem.dtype)
    errors, right, shape = _factors(problem, quantity, np.broadcast_to(gradient_tolerance, logit_gradient.shape))
    errors, right = np.abs(errors), np.abs(right)
    left = np.abs(_factors(problem, quantity, logit_gradient)[0])
    magnitude, terms = errors + left, left.shape[1]
    equal = np.minimum(_squared_counts(left)[:, np.newaxis], _squared_counts(right.T))
    sum_factor = np.minimum(terms - 1, LONG_SUM_FACTOR * np.sqrt(equal))
    with np.errstate(all="ignore"):
        error = (errors + 2 * unit * magnitude) @ right + sum_factor * (unit * (magnitude @ right)) + (terms + 1) * tiny
    return np.where(np.isfinite(error), error, 0.0).reshape(shape)


def _squared_counts(factors: Floats) -> Floats:
    """The sum of m^2 in each row, m being the number of occurrences of each number other than 0."""
    if not factors.size:
        return np.zeros(len(factors))
    ordered = np.sort(factors, axis=1)
    begins = np.ones(ordered.shape, dtype=bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    group = np.cumsum(begins) - 1
    counts = np.bincount(group)[group].reshape(ordered.shape)
    return np.asarray(np.where(ordered != 0, counts, 0).sum(axis=1), dtype=np.float64)


def _factors(problem: Problem, quantity: Quantity, logit_gradient: Floats) -> tuple[Floats, Floats, tuple[int, ...]]:
    """(gradient in the logits as a matrix, its factor, shape of the product).

    logit_gradient: shaped as the predictions.
    """
    head = head_of(problem)
    if problem.reduction == "none":
        logit_gradient = logit_gradient * upstream_gradient(problem.sample_shape)[..., np.newaxis]
    rows, features = logit_gradient.reshape(-1, logit_gradient.shape[-1]), head.weight.shape[1]
    if quantity == "hidden_gradient":
        return rows, head.weight.astype(np.float64), head.hidden.shape
    if quantity == "weight_gradient":
        return rows.T, head.hidden.reshape(len(rows), features).astype(np.float64), head.weight.shape
    return rows.T, np.ones((len(rows), 1)), (logit_gradient.shape[-1],)
