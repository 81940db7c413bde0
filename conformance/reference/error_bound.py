"""A bound on the error of a correct floating-point answer.

The tolerance is derived, never fitted.  u is the unit roundoff of the dtype, and every operation
returns its exact result times (1 + d), |d| <= u.  An elementary function (exp, log, log1p) has a relative error of at
most g u: two ulps, g = 4; in float32 four ulps, g = 8, because the vectorised loops of numpy and others promise no more
there.  All bounds are first order in u and elementwise before reduction.

*Sums.*  n terms summed in any order have an error of at most h(n) u sum|t_i|.  The guaranteed bound is n - 1; in
long sums it is never nearly attained.  Roundings that are independent and uniform within their ulp have a
standard deviation of at most u / sqrt(3), which adds up to u sqrt(n) / 3 of the sum for sequential
summation; six of those are 2 sqrt(n).  With n - 1, the error of a float32 mean of 10^5 samples could be 0.6 %.
(For the independence see Higham and Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci.
Comput. 41(5), 2019.)  h(n) is the smaller of the two.

*Logits, categorical.*  With d_c = z_c - max z, S = sum exp d_c and p_c = exp(d_c) / S:
rounding d_c changes exp(d_c) by |d_c| u, exp adds g u, the sum h(C) u, the logarithm g u log S.  So
log S has an error of u (sum_c p_c |d_c| + g + h(C) + g log S), and -log p_c = log S - d_c that plus
u (|d_c| + |log p_c|).  The loss, and so the bound, is invariant under a shift of the row: an implementation
that adds the shift back before it subtracts the label's logit (`cancellation="logits"`) loses u |z| more.

*Logits, binary.*  log(1 + exp(-|z|)) through exp and log1p is relatively accurate (2g u; |z| is exact), and
the larger term |z| is added to it.  For labels of exactly 0 or 1 nothing cancels.  With a soft label or a
positive weight, the products of |z| are rounded: 2u |z| on each side.  With `cancellation="logits"`
terms of size |z| cancel and u |z| is lost once more on each side, three times if a positive weight multiplies one;
that weight p becomes 1 + (p - 1) y, which has an error of 2u |p - 1| y however small it is.

*Probabilities.* log is relatively accurate; 1 - p is rounded once, which changes log(1 - p) by u, and so is the sum of
either and the offset of a convention (`log_offset`). A convention that renormalises divides by a rounded sum (h(C)
+ 1, and 1 because rounding the inputs changed the row's sum); a quotient below the smallest normal
number has an error of half a subnormal step, however small it is. Renormalisation through log and
log-sum-exp has the error of logits. A convention that turns logits into probabilities first (`logits_as`) rounds p with
a relative error r u: that of log p for logits, and two more for the quotient; for a sigmoid (g + 3) u. 1 - p changes by
r u p, which may be all of it. So log p lies between log p (1 - r u) and log p (1 + r u), each clipped, offset and
floored by the convention: next to p = 1 it may be anything down to the floor.

*Weights and smoothing* are products: one rounding each, three for a smoothed label; the result itself
is rounded once.  The relative error of a smoothed binary label becomes an absolute error of its
complement: 3u y' on both sides.  *The mean* divides once, by a divisor D: a count, or a sum of
weights w.  A weight of a row that depends on its targets is a sum of products over k classes, with an error of h(k) u
and a rounding for each factor; dividing it by the sum of the targets adds as much again and the division (that
rounding the targets changed their sum by up to u is one of the four roundings of any mean).  If the targets of a row
are so small that they underflow, so may its weight, by k times the smallest number over the sum of the targets.
If weights of both signs cancel, the roundings of D are a fraction e of it that need not be small (their number times
u sum |w| / |D|), and 1 / D has a relative error of e / (1 - e); if e may be 1 the oracle has no answer, because another
order of the sum may change its sign.  *Underflow*:
a number below the smallest normal number may be flushed to zero.  *The conversion*: a prediction that was
converted for the function was rounded once; that changes the loss by u |x dloss/dx|, counted up to the
point where half of the digits are lost (1/sqrt(u)): larger changes are attributed to the conversion and reported as
such.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from conformance.model.case import Problem
from conformance.model.convention import Convention
from conformance.model.floats import Floats
from conformance.reference.domain import dtype_info
from conformance.reference.flat_problem import (
    FlatProblem,
    absolute_weights,
    averages_class_weights,
    flatten,
    rejected_anomalies,
    roundings_of_divisor,
    shape_of_losses,
    smoothing_of_weight,
    weighs_classes,
)
from conformance.reference.relevance import ERROR_BOUND_FIELDS, relevant

ELEMENTARY = {"float16": 4.0, "bfloat16": 4.0, "float32": 8.0, "float64": 4.0}
"""g: the error of exp, log and log1p in units of u, by dtype."""
LONG_SUM_FACTOR = 2.0
"""Factor of sqrt(n) in the bound on long sums: six standard deviations."""
DIVISION = 4.0
"""Roundings of the mean besides its sums: the division, and a mask's count and scale."""
EXP_UNDERFLOW = 746.0
"""exp(-x) is 0 in float64 for larger x: it is below half of the smallest number, 2^-1074."""
MAX_PREDICTIONS_AT_ONCE = 1 << 22
"""Maximum number of predictions in one step of sums over the classes, which need some ten numbers per row."""
ESTIMATE_ERROR = 1e-6
"""Relative error that an `estimate` may have in addition to the tolerance."""


def tolerance(problem: Problem, convention: Convention, unconverted: Problem | None = None) -> Floats:
    """The absolute error that a correct answer to `problem` may have, shaped as the reduced loss.

    problem: the problem as passed to the function.  convention: convention that the function documents; its numeric
    choices determine the rounding errors.  unconverted: the problem before its predictions
    were converted; None if they were not.  If the answer is not finite the budget is 0: it must be met exactly.
    """
    if rejected_anomalies(problem, convention):
        return np.zeros(())
    relevant_convention, is_converted = relevant(problem, convention, ERROR_BOUND_FIELDS), unconverted is not None
    key = ("error bound", relevant_convention, is_converted)
    return problem.computed_once(key, lambda: _reduced(problem, relevant_convention, is_converted))


def estimate(problem: Problem, convention: Convention) -> tuple[Floats, Floats]:
    """Return the loss in float64 arithmetic and a bound on its error, both shaped as the reduced loss.

    For problems that are not rejected.  The bound is coarse if sums cancel; it is not a tolerance for functions.
    """
    bound = tolerance(problem, convention)
    rows = _cached_rows(problem, relevant(problem, convention, ERROR_BOUND_FIELDS), is_converted=False)
    loss, _ = rows.by_sample
    with np.errstate(all="ignore"):
        if problem.reduction == "none":
            shape = shape_of_losses(problem, rows.flat, convention)
            value, size = loss.reshape(shape), np.abs(loss).reshape(shape)
        else:
            divisor = _divisor(rows.flat, convention) if problem.reduction == "mean" else 1.0
            value, size = np.asarray(loss.sum() / divisor), np.asarray(np.abs(loss).sum() / abs(divisor))
        return value, bound + ESTIMATE_ERROR * size + underflow_error(problem.dtype)


@dataclass(frozen=True, eq=False)
class _RowBounds:
    """Losses of rows, before rows are ignored, grouped and weighted."""

    flat: FlatProblem
    loss: Floats
    error: Floats
    """Absolute error that the loss may have; not finite if it is unbounded."""

    @functools.cached_property
    def by_sample(self) -> tuple[Floats, Floats]:
        """(loss, error) of each sample, after rows are ignored, grouped and weighted."""
        flat, loss, error = self.flat, self.loss, self.error
        dtype = str(flat.x.dtype)
        unit = dtype_info(dtype).unit_roundoff
        with np.errstate(all="ignore"):
            # An infinite input with a finite loss must be met exactly; it must not void the tolerance of other samples.
            is_bounded = flat.kept & np.isfinite(error) & np.isfinite(loss)
            error = np.where(is_bounded, error + DIVISION * underflow_error(dtype), 0.0)
            loss = np.where(flat.kept, loss, 0.0)
            if flat.group == 0:
                loss = error = np.zeros(math.prod(flat.shape))
            if flat.group > 1:
                error = error.reshape(-1, flat.group)
                loss = loss.reshape(-1, flat.group)
                rounding = (sum_error(flat.group) + 1) * (unit * np.abs(loss)).mean(axis=1)
                error, loss = error.mean(axis=1) + rounding, (unit * loss).mean(axis=1) / unit
            if flat.sample_weights is not None:
                weights = flat.sample_weights
                if weights.shape == flat.kept.shape:
                    weights = np.where(flat.kept, weights, 0.0)  # also if they are infinite or nan
                # A weight of 0 adds nothing, also if a conversion made the loss infinite.
                error, loss = (np.where(weights == 0, 0.0, values) for values in (error, loss))
                product = (error + unit * np.abs(loss)) * np.abs(weights)
                error = product + np.where(error > 0, underflow_error(dtype), 0.0)  # the product may underflow, too
                loss = loss * weights
        return loss, error


def row_losses(problem: Problem, convention: Convention) -> tuple[Floats, Floats]:
    """(loss, error) of each row in float64, before rows are ignored, grouped and weighted, each of shape [n].

    The loss is computed by the formulas of the bound; the error is the bound for the dtype of the problem, not
    finite if it is unbounded.
    """
    rows = _cached_rows(problem, relevant(problem, convention, ERROR_BOUND_FIELDS), is_converted=False)
    return rows.loss, rows.error


def _reduced(problem: Problem, convention: Convention, is_converted: bool) -> Floats:
    rows = _cached_rows(problem, convention, is_converted)
    flat, (loss, error) = rows.flat, rows.by_sample
    unit = dtype_info(problem.dtype).unit_roundoff
    with np.errstate(all="ignore"):
        if problem.reduction == "none":
            return finite_or_zero(error.reshape(shape_of_losses(problem, flat, convention)))
        if convention.empty_batch == "unreduced" and flat.shape == (0,):
            return np.zeros((0,))
        magnitude = (unit * np.abs(loss)).sum()
        total = error.sum() + sum_error(error.size) * magnitude
        if problem.reduction == "mean":
            divisor = abs(_divisor(flat, convention))
            relative_divisor_error = divisor_error(flat, convention, error.size, unit)
            # The size of the sum itself, which is less than that of its terms if losses of both signs cancel.
            sum_after_cancellation = np.abs((unit * loss).sum()) + unit * total
            total = (
                total / divisor
                + DIVISION * (magnitude / divisor)
                + relative_divisor_error * (sum_after_cancellation / divisor)
                + underflow_error(problem.dtype)
            )
    return finite_or_zero(np.asarray(total))


def _cached_rows(problem: Problem, convention: Convention, is_converted: bool) -> _RowBounds:
    """The rows of a problem under a convention; those of a large problem are cached for one convention only."""
    relevant_convention = relevant(problem.unreduced, convention, ERROR_BOUND_FIELDS)
    name, key = "error bound of rows", (relevant_convention, is_converted)
    cache = problem.unreduced.cache.setdefault(name, {})
    if key not in cache:
        if problem.predictions.size > MAX_PREDICTIONS_AT_ONCE:
            cache.clear()
        cache[key] = _rows(problem, *key)
    rows: _RowBounds = cache[key]
    return rows


def _rows(problem: Problem, convention: Convention, is_converted: bool) -> _RowBounds:
    flat = flatten(problem, convention)
    loss, error = np.empty(len(flat.x)), np.empty(len(flat.x))
    has_index_formula = _has_index_formula(flat, convention, is_converted)
    bound_rows = _index_of_logits if has_index_formula else _binary if flat.binary else _categorical
    with np.errstate(all="ignore"):
        for chunk in flat.chunks(MAX_PREDICTIONS_AT_ONCE) if has_index_formula else flat.chunks():
            loss[chunk], error[chunk] = bound_rows(flat.rows(chunk), convention, is_converted)
    return _RowBounds(flat, loss, error)


def underflow_error(dtype: str) -> float:
    """Maximum error by underflow: float16 has subnormals everywhere, other dtypes may be flushed to 0."""
    return float(np.finfo(np.float16).smallest_subnormal) if dtype == "float16" else dtype_info(dtype).smallest_normal


def sum_error(n: int) -> float:
    """h(n): the error of a sum of n terms in any order, in units of u sum|t_i|."""
    return min(max(n - 1, 0), LONG_SUM_FACTOR * math.sqrt(n))


def _roundings(flat: FlatProblem) -> tuple[float, float]:
    """(g, u) of the dtype."""
    dtype = str(flat.x.dtype)
    return ELEMENTARY[dtype], dtype_info(dtype).unit_roundoff


def _categorical(flat: FlatProblem, convention: Convention, is_converted: bool) -> tuple[Floats, Floats]:
    """(loss, error) of rows, before sample weights.

    Terms are multiplied by u first, so that the error of a loss near the largest number does not overflow.
    """
    x, (g, unit) = flat.x.astype(np.float64), _roundings(flat)
    classes = x.shape[1]
    if flat.input_kind == "logits":
        minus_log, error = softmax_error(x, convention, g, unit)
        if convention.logits_as == "probabilities":
            minus_log, error = _rounded_probability_error(
                np.exp(-minus_log), minus_log, error + 2 * unit, flat, convention, g
            )
    elif flat.input_kind == "log_probabilities":
        minus_log = -x
        error = np.zeros_like(x)
    else:
        p = x / x.sum(axis=1, keepdims=True) if convention.renormalise == "before_clip" else x
        p = np.clip(p, *flat.clip) if flat.clip is not None else p
        minus_log = -np.log(p + flat.offset)
        if convention.log_floor is not None:
            minus_log = np.minimum(minus_log, -convention.log_floor)
        error = unit * (g * np.abs(minus_log) + (flat.offset > 0))
        if convention.renormalise == "before_clip":
            error = error + unit * (2 + sum_error(classes) + underflow(p, str(flat.x.dtype)))
        if convention.renormalise == "after_clip":
            error = softmax_error(-minus_log, convention, g, unit)[1] + unit + error
            error += unit * np.nansum(p * g * minus_log, axis=1, keepdims=True)
    products = 1.0 + (flat.class_weights is not None) + 3 * bool(flat.smoothing) + (flat.q is not None)
    products += sum_error(classes) + 3 if flat.weighs_rows else 0  # the sum of the row's weights
    weighted_targets = _targets(flat)
    with_conversion = error + unit * products * np.abs(minus_log)
    if is_converted:
        with_conversion = with_conversion + unit * _categorical_conversion(flat, x, minus_log)
    used = weighted_targets != 0
    losses = np.where(used, weighted_targets * minus_log, 0.0)
    terms = int(used.sum(axis=1).max(initial=1))
    magnitude = (unit * np.abs(losses)).sum(axis=1)
    target_magnitudes = _targets(flat.absolute) if flat.weighs_rows else np.abs(weighted_targets)
    rounding = np.where(used, target_magnitudes * with_conversion, 0.0).sum(axis=1)
    loss = losses.sum(axis=1)
    if convention.log_sum_exp == "one" and flat.input_kind == "logits":
        log_total = minus_log.min(axis=1, initial=np.inf)
        constant = np.where(log_total == 0, 0.0, (1 - weighted_targets.sum(axis=1)) * log_total)
        loss = loss + constant
        rounding = rounding + np.abs(1 - weighted_targets.sum(axis=1)) * error.min(axis=1, initial=np.inf)
        magnitude = magnitude + 2 * unit * np.abs(constant)
    return np.asarray(loss), np.asarray(rounding + sum_error(terms) * magnitude)


def _has_index_formula(flat: FlatProblem, convention: Convention, is_converted: bool) -> bool:
    """Whether the losses and errors of rows can be computed from a few sums over the logits."""
    needs_each_class = is_converted or convention.logits_as == "probabilities"
    needs_each_class = needs_each_class or (
        bool(flat.smoothing) and (convention.cancellation == "logits" or flat.weighs_rows)
    )
    return flat.index is not None and flat.input_kind == "logits" and not needs_each_class


def _index_of_logits(flat: FlatProblem, convention: Convention, _: bool) -> tuple[Floats, Floats]:
    """`_categorical` for logits that were not converted, with index labels: the sums over classes in closed form.

    With a_c = max z - z_c, -log p_c = log S + a_c is not negative, and the error of each is linear in it and in a_c.
    All chunks share two buffers, because allocating memory takes longer than the computation.
    """
    assert flat.index is not None
    (g, unit), e, classes = _roundings(flat), flat.smoothing, flat.x.shape[1]
    weights = np.ones(classes) if flat.class_weights is None else flat.class_weights
    has_weight = weights != 0
    index = flat.index % classes
    max_logit, total, spread, label_logit, signed, absolute = np.zeros((6, len(flat.x), 1))
    chunks = flat.chunks()
    buffers = np.empty((2, max((chunk.stop - chunk.start for chunk in chunks), default=0), classes))
    for chunk in chunks:
        x = flat.x[chunk]
        d, exponentials = buffers[:, : len(x)]
        d[...] = x
        d.max(axis=1, keepdims=True, out=max_logit[chunk])
        d -= max_logit[chunk]
        label_logit[chunk] = np.take_along_axis(d, index[chunk, np.newaxis], axis=1)
        np.exp(d, out=exponentials)
        exponentials.sum(axis=1, keepdims=True, out=total[chunk])
        if e:
            weighted_logs = d if has_weight.all() else d[:, has_weight]  # a weight of 0 on a logit of -inf adds nothing
            for sums, factors in ((signed, weights), (absolute, np.abs(weights))):
                sums[chunk, 0] = (
                    -weighted_logs.sum(axis=1) if flat.class_weights is None else -(weighted_logs @ factors[has_weight])
                )
        np.maximum(d, -EXP_UNDERFLOW, out=d)
        exponentials *= d
        exponentials.sum(axis=1, keepdims=True, out=spread[chunk])
    minus_log, log_sum_error = _log_softmax_error(total, -spread / total, label_logit, classes, g)
    own_weight = weights[index][:, np.newaxis]
    products = 1 + (flat.class_weights is not None) + 3 * bool(e)
    if not e:
        error = (
            unit * log_sum_error + unit * np.abs(label_logit) + unit * minus_log + unit * products * np.abs(minus_log)
        )
        if convention.cancellation == "logits":
            error = error + unit * np.abs(max_logit) + unit * np.abs(label_logit + max_logit)
        loss, error = (
            np.where(own_weight != 0, own_weight * minus_log, 0.0),
            np.where(own_weight != 0, np.abs(own_weight) * error, 0.0),
        )
        return loss[:, 0], error[:, 0]
    log_total = np.log(total)

    def summed(factors: Floats, distances: Floats) -> tuple[Floats, Floats]:
        """The sums of w_c q'_c and of w_c q'_c a_c over the classes."""
        own_target = (1 - e) * factors[index][:, np.newaxis]
        label = np.where(own_target != 0, own_target * -label_logit, 0.0)
        return own_target + e / classes * factors.sum(), label + e / classes * distances

    part, distance = summed(weights, signed)
    weight_magnitude, absolute_distance = summed(np.abs(weights), absolute)
    loss = part * log_total + distance
    largest_loss = weight_magnitude * log_total + absolute_distance
    error = unit * (weight_magnitude * log_sum_error + absolute_distance) + unit * (1 + products) * largest_loss
    return loss[:, 0], (error + sum_error(max(int(has_weight.sum()), 1)) * (unit * largest_loss))[:, 0]


def _log_softmax_error(total: Floats, spread: Floats, d: Floats, classes: int, g: float) -> tuple[Floats, Floats]:
    """(-log p of the classes with these d, error of log S in units of u)."""
    log_total = np.log(total)
    return log_total - d, spread + g + sum_error(classes) + g * log_total


def softmax_error(z: Floats, convention: Convention, g: float, unit: float = 1.0) -> tuple[Floats, Floats]:
    """(-log softmax, its error), classes on the last axis.  unit: u; 1 for an error in units of u."""
    max_logit = z.max(axis=1, keepdims=True)
    d = z - max_logit
    e = np.exp(d)
    total = e.sum(axis=1, keepdims=True)
    spread = np.nansum(np.where(e > 0, e * np.abs(d), 0.0), axis=1, keepdims=True) / total
    minus_log, log_sum_error = _log_softmax_error(total, spread, d, z.shape[1], g)
    error = unit * log_sum_error + unit * np.abs(d) + unit * minus_log
    if convention.cancellation == "logits":
        error = error + unit * np.abs(max_logit) + unit * np.abs(z)
    return minus_log, error


def _rounded_probability_error(
    p: Floats, minus_log: Floats, relative: Floats | float, flat: FlatProblem, convention: Convention, g: float
) -> tuple[Floats, Floats]:
    """(-log p, its error) of probabilities that are rounded before a clip, an offset, a logarithm and a floor.

    relative: their relative error; if it reaches 1, the logarithm may be that of 0.  An infinite loss
    has no tolerance; only a clip, an offset or a floor prevents it.  Without these a probability is rounded
    to the nearest number, which is 0 or at least the smallest one, and is not flushed to 0.
    """
    dtype = str(flat.x.dtype)
    lower, upper = (0.0, 1.0) if flat.clip is None else flat.clip
    if flat.binary and flat.clip is not None:  # of p and of 1 - p alike
        lower, upper = min(lower, 1 - upper), max(upper, 1 - lower)
    ceiling = math.inf if convention.log_floor is None else -convention.log_floor

    def bounded_log(logs: Floats) -> Floats:
        clipped = np.minimum(np.maximum(logs, -math.log(upper)), -math.log(lower) if lower else math.inf)
        return np.minimum(-np.log(np.exp(-clipped) + flat.offset) if flat.offset else clipped, ceiling)

    unit, normal, epsilon, _ = dtype_info(dtype)
    smallest, is_bounded = normal * epsilon, lower + flat.offset > 0 or ceiling < math.inf
    underflow_loss = underflow_error(dtype) if is_bounded else smallest / 2
    relative_loss = relative + underflow_loss / p
    below = bounded_log(minus_log - np.log1p(-np.minimum(relative_loss, 1.0)))
    above = bounded_log(np.maximum(minus_log - np.log1p(relative_loss), 0.0))
    value = bounded_log(minus_log)
    if not is_bounded:
        may_be_zero = (relative >= 1) | (p * (1 + relative) < underflow_loss)
        below = np.where(may_be_zero, math.inf, np.minimum(below, -math.log(smallest)))
    logarithm_error = unit * ((g + 1) * np.abs(value) + (flat.offset > 0))
    return value, np.maximum(below - value, value - above) + logarithm_error


def _targets(flat: FlatProblem) -> Floats:
    """w_c q'_c: [rows, C]."""
    classes = flat.x.shape[1]
    if flat.index is not None:
        q = np.zeros(flat.x.shape)
        q[np.arange(len(q)), flat.index % classes] = 1.0
    else:
        assert flat.q is not None
        q = flat.q
    if flat.smoothing:
        q = (1 - flat.smoothing) * q + flat.smoothing / classes
    if flat.class_weights is None:
        return q
    weighted = _share(q, flat.class_weights)
    return _share(q, weighted.sum(axis=1, keepdims=True)) if flat.weighs_rows else weighted


def _share(q: Floats, weights: Floats) -> Floats:
    """Each share q times its weight; 0 if the share is 0, for any weight."""
    return np.where(q != 0, q * weights, 0.0)


def underflow(p: Floats, dtype: str) -> Floats:
    """The error of log p, in units of u, of a quotient p that is subnormal and has fewer digits.

    It is rounded by up to half a step s, which changes its logarithm by up to -log(1 - s / (2 p)).
    """
    unit, normal, epsilon, _ = dtype_info(dtype)
    step = normal * epsilon
    with np.errstate(all="ignore"):
        return np.where((p > 0) & (p < normal), -np.log1p(-(step / p) / 2) / unit, 0.0)


def _categorical_conversion(flat: FlatProblem, x: Floats, minus_log: Floats) -> Floats:
    if flat.input_kind == "probabilities":
        return np.ones_like(x)
    if flat.input_kind == "log_probabilities":
        return np.abs(x)
    magnitude = np.where(np.isfinite(x), np.abs(x), 0.0)
    return np.asarray(magnitude + (np.exp(-minus_log) * magnitude).sum(axis=1, keepdims=True))


def _binary(flat: FlatProblem, convention: Convention, is_converted: bool) -> tuple[Floats, Floats]:
    assert flat.q is not None
    x, (g, unit), e = flat.x.astype(np.float64), _roundings(flat), flat.smoothing
    y = flat.q * (1 - e) + e / 2
    positive = np.ones_like(y) if flat.positive_weight is None else flat.positive_weight
    products = unit * (1.0 + (flat.positive_weight is not None))
    if flat.input_kind == "logits" and convention.logits_as == "probabilities":
        tail = np.log1p(np.exp(-np.abs(x)))
        p, complement = np.exp(-tail - np.maximum(-x, 0)), np.exp(-tail - np.maximum(x, 0))
        p_error = unit * (g + 3)
        pos_loss, pos_error = _rounded_probability_error(p, tail + np.maximum(-x, 0), p_error, flat, convention, g)
        neg_loss, neg_error = _rounded_probability_error(
            complement, tail + np.maximum(x, 0), p_error * p / complement + unit, flat, convention, g
        )
        pos_error, neg_error = (pos_error + products * pos_loss, neg_error + products * neg_loss)
        pos_sensitivity, neg_sensitivity = np.abs(x) * complement, np.abs(x) * p
    elif flat.input_kind == "logits":
        tail = np.log1p(np.exp(-np.abs(x)))
        pos_loss, neg_loss = tail + np.maximum(-x, 0), tail + np.maximum(x, 0)
        is_hard_label = ((y == 0) | (y == 1)) & (positive == 1)
        magnitude = unit * np.abs(x)
        rounded = np.where(is_hard_label, 0.0, 2.0) * magnitude
        if convention.cancellation == "logits":
            rounded = rounded + magnitude * (1 if flat.positive_weight is None else 3)
        pos_error = unit * (2 * g * tail) + products * pos_loss + rounded
        neg_error = unit * (2 * g * tail) + products * neg_loss + rounded
        pos_sensitivity, neg_sensitivity = (np.abs(x) * np.exp(-pos_loss), np.abs(x) * np.exp(-neg_loss))
    else:
        p = np.exp(x) if flat.input_kind == "log_probabilities" else x
        p = np.clip(p, *flat.clip) if flat.clip is not None else p
        pos_loss, neg_loss = (-np.log(p + flat.offset), -np.log(1 - p + flat.offset) if flat.offset else -np.log1p(-p))
        if convention.log_floor is not None:
            pos_loss, neg_loss = (
                np.minimum(pos_loss, -convention.log_floor),
                np.minimum(neg_loss, -convention.log_floor),
            )
        offset_error = unit * (flat.offset > 0)
        pos_error = (unit * g + products) * np.abs(pos_loss) + offset_error
        neg_error = (unit * g + products) * np.abs(neg_loss) + unit * (p > 0) + offset_error
        pos_sensitivity, neg_sensitivity = np.ones_like(p), p / (1 - p)
    if is_converted:
        limit = 1 / math.sqrt(unit)
        pos_error = pos_error + unit * np.minimum(pos_sensitivity, limit)
        neg_error = neg_error + unit * np.minimum(neg_sensitivity, limit)
    pos_factor, neg_factor = _share(y, positive), 1 - y
    loss = np.where(pos_factor != 0, pos_factor * pos_loss, 0.0) + np.where(neg_factor != 0, neg_factor * neg_loss, 0.0)
    error = np.where(pos_factor != 0, np.abs(pos_factor) * pos_error, 0.0)
    error += np.where(neg_factor != 0, np.abs(neg_factor) * neg_error, 0.0)
    if flat.input_kind == "logits" and convention.cancellation == "logits" and flat.positive_weight is not None:
        error += np.where(y != 0, 2 * unit * np.abs(positive - 1) * y * pos_loss, 0.0)
    if e:
        positive_term = np.abs(positive) * (unit * np.where(pos_factor != 0, pos_loss, 0.0))
        error += 3 * y * (positive_term + unit * np.where(neg_factor != 0, neg_loss, 0.0))
    return loss, error + unit * np.abs(loss)


def divisor_error(flat: FlatProblem, convention: Convention, losses: int, unit: float) -> float:
    """The error of a mean by its divisor, relative and in units of u.  losses: their number."""
    counts = convention.mean_divides_by in ("kept", "samples") or flat.sample_weights is None
    if counts and not weighs_classes(flat, convention):
        return 0.0
    underflow = _underflow_of_divisor(flat, convention) / unit
    if (times := cancellation_factor(flat, convention)) == 1:
        return (sum_error(losses) + _row_weight_error(flat, convention) + underflow) / max(1 - underflow * unit, unit)
    error = roundings_of_divisor(flat, convention) * times + underflow
    return error / max(1 - error * unit, unit)


def _row_weight_error(flat: FlatProblem, convention: Convention) -> float:
    """The relative error of the weight of a row before the weights are summed, in units of u."""
    if not weighs_classes(flat, convention):
        return 0.0
    smoothed, added = bool(smoothing_of_weight(flat, convention)), float(flat.sample_weights is not None)
    terms = flat.x.shape[1] if smoothed else 1
    if flat.q is not None and not smoothed:
        has_weight = flat.q != 0
        terms = int(has_weight.sum(axis=1).max(initial=1))
        if terms == 1 and bool(np.all(flat.q[has_weight] == 1)):
            return added
    elif not smoothed:
        return added
    row_sum_error = sum_error(terms) + 3 * smoothed
    added += row_sum_error + (flat.class_weights is not None)
    return added + row_sum_error + 1 if averages_class_weights(flat, convention) else added


def _underflow_of_divisor(flat: FlatProblem, convention: Convention) -> float:
    """The relative error of a divisor by underflow of targets or of their products with class weights."""
    if flat.index is not None or not weighs_classes(flat, convention):
        return 0.0
    samples = np.ones(len(flat.kept)) if flat.sample_weights is None else np.abs(flat.sample_weights)
    weights, sums = _row_weights(flat, convention)
    sum_underflow = flat.x.shape[1] * underflow_error(str(flat.x.dtype))
    lost = sum_underflow * (1 + np.abs(weights)) / sums if averages_class_weights(flat, convention) else sum_underflow
    divisor = abs(_divisor(flat, convention))
    return float((samples * lost)[flat.kept].sum() / divisor) if divisor else 0.0


def cancellation_factor(flat: FlatProblem, convention: Convention) -> float:
    """The cancellation in a divisor that is a sum of weights: sum |w| / |sum w|, 1 if none is negative."""
    positive = absolute_weights(flat)
    if positive is None or convention.mean_divides_by in ("kept", "samples"):
        return 1.0
    divisor = abs(_divisor(flat, convention))
    return max(1.0, _divisor(positive, convention) / divisor) if divisor else 1.0


def _divisor(flat: FlatProblem, convention: Convention) -> float:
    """The divisor of the mean, to float64 accuracy; the oracle computes it exactly."""
    weights, kept = weights_of_mean(flat, convention)
    return float(weights[kept].sum())


def weights_of_mean(flat: FlatProblem, convention: Convention) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """(contribution of each loss to the divisor of the mean, whether it counts), flat, to float64 accuracy."""
    num_samples = math.prod(flat.shape)
    kept = flat.kept if flat.group == 1 else np.ones(num_samples, dtype=bool)
    weights = np.ones(num_samples)
    if convention.mean_divides_by in ("samples", "kept"):
        return weights, np.ones(num_samples, dtype=bool) if convention.mean_divides_by == "samples" else kept
    if flat.sample_weights is not None:
        weights = flat.sample_weights
    if weighs_classes(flat, convention):
        weights = weights * _row_weights(flat, convention)[0]
    return weights, kept


def _row_weights(flat: FlatProblem, convention: Convention) -> tuple[Floats, Floats]:
    """(weight of each row without its sample weight, sum of its targets), if class weights or targets matter."""
    classes = flat.x.shape[1]
    e = smoothing_of_weight(flat, convention)
    weights = np.ones(classes) if flat.class_weights is None else flat.class_weights
    if flat.q is None:
        assert flat.index is not None
        label_weights, sums = weights[flat.index % classes], np.ones(len(flat.index))
    else:
        label_weights, sums = _share(flat.q, weights).sum(axis=1), (1 - e) * flat.q.sum(axis=1) + e
    row_weights = (1 - e) * label_weights + e * weights.sum() / classes if e else label_weights
    return row_weights / sums if averages_class_weights(flat, convention) else row_weights, sums


def finite_or_zero(error: Floats) -> Floats:
    """Errors, and 0 for those that are not finite."""
    return np.where(np.isfinite(error), error, 0.0)
