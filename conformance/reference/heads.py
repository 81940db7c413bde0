"""Exact gradients with respect to the factors of logits, for losses that form the product themselves.

With G the gradient in the logits z = h W' + b (`gradient`), that in h is G W, that in W is G' h, and that in b the sum
of the rows of G.  In float64 the products are formed in balls; for narrower dtypes in float64, as G is.

*Error.*  Each element is a sum of n products G_k w_k, n the number of classes or of samples: what G_k is off by
counts |w_k| times, and products and sum are off by (h(n) + 2) u of the sum of |G_k w_k| (see `error_bound` for u and
h).  A product may underflow.
"""

from __future__ import annotations

import numpy as np
from flint import arb, arb_mat, ctx

from conformance.adapters.contract.heads import head_of
from conformance.model.case import Problem, Quantity
from conformance.model.convention import Convention
from conformance.reference import gradient
from conformance.reference.domain import dtype_info
from conformance.reference.error_bound import sum_error, underflow_error
from conformance.reference.gradient import PRECISION, Floats
from conformance.reference.oracle import Answer, Exact, Undefined, exact


def head_gradient(problem: Problem, quantity: Quantity, slope: Answer) -> Answer:
    """The exact gradient with respect to a factor of the logits.  slope: that in the logits."""
    if not isinstance(slope, Exact):
        return slope
    if not np.isfinite(slope.hi).all():
        return Undefined("the gradient in the logits is not finite")
    left, right, shape = _factors(problem, quantity, slope.hi)
    if problem.dtype == "float64":
        with ctx.workprec(PRECISION):
            parts = (_factors(problem, quantity, part)[0].ravel().tolist() for part in (slope.lo, slope.rad))
            balls = [arb(hi, rad) + lo for hi, lo, rad in zip(left.ravel().tolist(), *parts, strict=True)]
            product = arb_mat(*left.shape, balls) * arb_mat(*right.shape, right.ravel().tolist())
            found = exact(shape, product.entries(), PRECISION)
    else:
        found = Exact((left @ right).reshape(shape), np.zeros(shape), np.zeros(shape))
    unconstrained = np.full(shape, slope.unconstrained is not None and bool(slope.unconstrained.any()))
    if quantity == "weight_gradient":
        unconstrained[:, head_of(problem).bias_feature] = True
    return Exact(found.hi, found.lo, found.rad, unconstrained if unconstrained.any() else None)


def head_gradient_tolerance(problem: Problem, quantity: Quantity, convention: Convention, of_slope: Floats) -> Floats:
    """The absolute error of each element of such a gradient.  of_slope: that of the gradient in the logits."""
    slope = np.abs(gradient.estimate(problem, convention))
    unit, tiny = dtype_info(problem.dtype).unit_roundoff, underflow_error(problem.dtype)
    off, right, shape = _factors(problem, quantity, np.broadcast_to(of_slope, slope.shape))
    size = off + _factors(problem, quantity, slope)[0]
    terms = off.shape[1]
    with np.errstate(all="ignore"):
        error = (off + (sum_error(terms) + 2) * unit * size) @ np.abs(right) + (terms + 1) * tiny
    return np.where(np.isfinite(error), error, 0.0).reshape(shape)


def _factors(problem: Problem, quantity: Quantity, slope: Floats) -> tuple[Floats, Floats, tuple[int, ...]]:
    """(matrix of the slope, what it is multiplied by, the shape of the product).  slope: as the predictions."""
    head = head_of(problem)
    rows, features = slope.reshape(-1, slope.shape[-1]), head.weight.shape[1]
    if quantity == "hidden_gradient":
        return rows, head.weight.astype(np.float64), head.hidden.shape
    if quantity == "weight_gradient":
        return rows.T, head.hidden.reshape(len(rows), features).astype(np.float64), head.weight.shape
    return rows.T, np.ones((len(rows), 1)), head.bias.shape
