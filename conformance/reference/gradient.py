"""The exact gradient of the reduced loss with respect to the predictions, in closed form, under any convention.

w: class weights, q': smoothed targets, s_i: the weight of a sample; pos: the weight of positive targets, y': a smoothed
binary target; z: logits, p: probabilities.  With t_c = w_c q'_c and T = sum_c t_c, the gradient of a sample is
T softmax(z)_c - t_c with respect to its logits, -t_c with respect to its log-probabilities and -t_c / p_c with respect
to its probabilities, with the chain rule through a clip and a division by the row's sum if a convention has them.
Terms that would cancel are written as sums over the other classes.  The gradient of a binary loss is
(1 - y') sigma(z) - pos y' (1 - sigma(z)) with respect to its logit and (1 - y') / (1 - p) - pos y' / p with respect to
its probability.  Each row is multiplied by s_i and, for a mean, divided by its divisor.  Unreduced losses are
differentiated through their sum.

The same formulas are evaluated in two arithmetics: in balls, which certify the result, for float64; in float64 for
narrower dtypes, where the error is that of a correct answer in float64 (`gradient_error_bound`), far below theirs.

*Kinks.*  At an end of the clip, and at nan, there is no derivative, and any value is accepted
(`Gradient.unconstrained`).  Outside the clip the derivative is 0, or any value if a nan elsewhere in the row would be
multiplied by it.  A probability of 0 that counts has the derivative -inf; one that does not count (0 log 0), 0.
A mean over nothing has no derivative where it is nan by convention, and is constant where it is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import arb, ctx

from conformance.model.case import Problem
from conformance.model.convention import Convention
from conformance.model.floats import Floats
from conformance.reference.domain import dtype_info, examine
from conformance.reference.flat_problem import FlatProblem, flatten
from conformance.reference.oracle import (
    Answer,
    Exact,
    NoAnswerError,
    Oracle,
    Term,
    Undefined,
    divided_by,
    exact,
    float_of,
)
from conformance.reference.relevance import GRADIENT_FIELDS, relevant

PRECISION = 160
"""Precision of the balls in bits: cancellation in T p - t loses at most the 53 bits of the inputs."""
KINK_MARGIN = 1024
"""Within this many unit roundoffs of the log floor, rounding decides the side."""
NOT_FINITE = frozenset({"nan_weight", "infinite_weight", "nan_target"})
"""Input anomalies for which there is no gradient."""

Numbers = npt.NDArray[Any]
"""float64, or objects: balls, and Python floats that are nan or infinite."""
ToNumbers = Callable[[Floats], Numbers]
"""Converts float64 values to the arithmetic of the formulas: `floats` or `balls`."""


@dataclass(frozen=True, eq=False)
class Gradient:
    """Derivatives of rows.

    value: shaped as the rows of predictions, [n, C] or [n].  unconstrained: mask of elements for which any value is
    right.
    """

    value: Numbers
    unconstrained: npt.NDArray[np.bool_]


def answer(problem: Problem, convention: Convention, loss: Answer, oracle: Oracle | None = None) -> Answer:
    """The exact gradient, shaped as the predictions.

    loss: the answer to the problem under that convention; if it is undefined, so is the gradient.
    oracle: caches gradients; None for no cache.
    """
    if not isinstance(loss, Exact):
        return loss
    reduced = problem if problem.reduction == "mean" else problem.with_reduction("sum")  # also for unreduced losses
    relevant_convention = relevant(reduced, convention, GRADIENT_FIELDS)
    if oracle is None:
        return _answer(reduced, relevant_convention)
    return oracle.gradient(reduced, relevant_convention, lambda: _answer(reduced, relevant_convention))


def estimate(problem: Problem, convention: Convention) -> Floats:
    """The gradient in float64 arithmetic, shaped as the predictions; inaccurate where terms cancel."""
    relevant_convention = relevant(problem, convention, GRADIENT_FIELDS)
    value: Floats = reduced_gradient(problem, flatten(problem, relevant_convention), relevant_convention, floats).value
    return value.reshape(problem.predictions.shape)


def _answer(problem: Problem, convention: Convention) -> Answer:
    if kinds := examine(problem) & NOT_FINITE:
        return Undefined(f"there is no gradient: {', '.join(sorted(kinds))}")
    flat = flatten(problem, convention)
    shape = problem.predictions.shape
    in_balls = problem.dtype == "float64"
    with ctx.workprec(PRECISION):
        return answer_of(reduced_gradient(problem, flat, convention, balls if in_balls else floats), shape, in_balls)


def answer_of(gradient: Gradient, shape: tuple[int, ...], in_balls: bool) -> Exact:
    """The derivatives as an answer with this shape.  in_balls: whether they are balls, which certify them."""
    if in_balls:
        answer = exact(shape, gradient.value.ravel().tolist(), PRECISION)
    else:
        answer = Exact(gradient.value.reshape(shape), np.zeros(shape), np.zeros(shape))
    return replace(
        answer, unconstrained=gradient.unconstrained.reshape(shape) if gradient.unconstrained.any() else None
    )


def floats(values: Floats) -> Numbers:
    """Return the values as float64."""
    return np.asarray(values, dtype=np.float64)


def balls(values: Floats) -> Numbers:
    """Return the values as exact balls, an object array of the same shape."""
    return np.asarray(np.frompyfunc(arb, 1, 1)(values), dtype=object)


def reduced_gradient(problem: Problem, flat: FlatProblem, convention: Convention, to_numbers: ToNumbers) -> Gradient:
    """The gradient, multiplied by the factors of the reduction."""
    with np.errstate(all="ignore"):
        gradient = _unreduced(problem, flat, convention, to_numbers)
        factor = factors(problem, flat, convention, to_numbers)
        return _reduced(gradient, flat, factor, _mean_of_nothing(problem, flat, convention, factor), to_numbers)


def in_chunks(problem: Problem, convention: Convention, *, in_balls: bool, size: int) -> Iterator[tuple[slice, Exact]]:
    """Yield (rows, their gradient, shaped [rows, C] or [rows]) for about `size` predictions at a time; see `answer`.

    in_balls: whether to compute in balls, for any dtype.  Otherwise the radius is 0.
    """
    to_numbers = balls if in_balls else floats
    with ctx.workprec(PRECISION):
        flat = flatten(problem, convention)
        factor = factors(problem, flat, convention, to_numbers)
        is_mean_of_nothing = _mean_of_nothing(problem, flat, convention, factor)
    for rows in flat.chunks(size):
        with np.errstate(all="ignore"), ctx.workprec(PRECISION):
            part = flat.rows(rows)
            gradient = (binary_gradient if part.binary else categorical_gradient)(part, convention, to_numbers)
            gradient = _reduced(gradient, part, factor[rows], is_mean_of_nothing, to_numbers)
            yield rows, answer_of(gradient, part.x.shape, in_balls)


def _reduced(
    gradient: Gradient, flat: FlatProblem, factor: Numbers, is_mean_of_nothing: bool, to_numbers: ToNumbers
) -> Gradient:
    """The gradients of rows times the factors of the reduction."""
    value = gradient.value * (factor if flat.binary else factor[:, np.newaxis])
    kept = flat.kept if flat.binary else flat.kept[:, np.newaxis]
    return Gradient(
        np.where(kept, value, to_numbers(np.zeros(()))), (gradient.unconstrained | is_mean_of_nothing) & kept
    )


def _unreduced(problem: Problem, flat: FlatProblem, convention: Convention, to_numbers: ToNumbers) -> Gradient:
    """The gradient of each row's own loss; cached, as it does not depend on the reduction."""
    relevant_convention = relevant(problem.unreduced, convention, GRADIENT_FIELDS)
    row_gradients = binary_gradient if flat.binary else categorical_gradient
    key = ("gradient", relevant_convention, to_numbers)
    return problem.unreduced.computed_once(key, lambda: row_gradients(flat, convention, to_numbers))


def _mean_of_nothing(problem: Problem, flat: FlatProblem, convention: Convention, factor: Numbers) -> bool:
    """Whether the loss is the nan that a convention returns for a mean that divides by 0."""
    if problem.reduction != "mean" or convention.empty_mean != "nan" or np.any(factor != 0):
        return False
    divisor = _divisor(flat, convention)
    return not isinstance(divisor, float) and bool(divisor.contains(0))


def _divisor(flat: FlatProblem, convention: Convention) -> Term:
    """The divisor of a mean; nan if it is undefined, in which case there is no gradient."""
    try:
        return divided_by(flat, convention)
    except NoAnswerError:
        return np.nan


def factors(problem: Problem, flat: FlatProblem, convention: Convention, to_numbers: ToNumbers) -> Numbers:
    """The factor of each row's gradient, [n]: its sample weight, for a mean divided by the divisor."""
    losses = len(flat.x) // max(1, flat.group)
    factor = to_numbers(np.ones(losses))
    if flat.sample_weights is not None:
        weights = to_numbers(flat.sample_weights)
        factor = factor * (weights if len(weights) == losses else weights.sum())
    if problem.reduction == "mean" and losses:
        divisor = _divisor(flat, convention)
        is_empty = isinstance(divisor, float) or divisor.contains(0)  # the convention defines such a mean
        factor = factor * 0 if is_empty else factor / (divisor if to_numbers is balls else float_of(divisor))
    return np.repeat(factor, flat.group) / flat.group if flat.group > 1 else factor


def targets(flat: FlatProblem, to_numbers: ToNumbers) -> Numbers:
    """t_c = w_c q'_c, or (sum_k w_k q'_k) q'_c by `Convention.class_weighting`: [n, C]."""
    q = smoothed(flat, to_numbers)
    if flat.class_weights is None:
        return q
    return np.where(
        q == 0, q, q * (row_weights(flat, to_numbers) if flat.weighs_rows else to_numbers(flat.class_weights))
    )


def smoothed(flat: FlatProblem, to_numbers: ToNumbers) -> Numbers:
    """q'_c: [n, C]."""
    classes = flat.x.shape[1]
    if flat.index is not None:
        q = np.zeros(flat.x.shape)
        q[np.arange(len(q)), flat.index % classes] = 1.0
    else:
        assert flat.q is not None
        q = flat.q
    if not flat.smoothing:
        return to_numbers(q)
    e = to_numbers(np.asarray(flat.smoothing))
    return np.asarray((1 - e) * to_numbers(q) + e / classes)


def categorical_gradient(flat: FlatProblem, convention: Convention, to_numbers: ToNumbers) -> Gradient:
    """The gradient of every row's loss, before sample weights."""
    x = flat.x.astype(np.float64)
    t = targets(flat, to_numbers)
    unconstrained = np.zeros(x.shape, dtype=bool)
    if flat.input_kind == "log_probabilities":
        value = -t
    elif flat.input_kind == "logits":
        t, unconstrained = _varying_targets(t, softmax(x, to_numbers), x, flat, convention, to_numbers)
        complement = sum_of_others(t)
        if has_unit_total(flat, convention):
            complement = (row_weights(flat, to_numbers) if flat.weighs_rows else 1) - t
        value = _logit_gradient(x, t, complement, to_numbers)
    else:
        value, unconstrained = _probability_gradient(x, t, flat, convention, to_numbers)
    if flat.index is not None and convention.out_of_range in ("zero", "nan"):
        outside = (flat.index < 0) | (flat.index >= x.shape[1])
        instead = 0.0 if convention.out_of_range == "zero" else np.nan
        value = np.where(outside[:, np.newaxis], instead, value)
    return Gradient(value, unconstrained)


def has_unit_total(flat: FlatProblem, convention: Convention) -> bool:
    """Whether the factor T is replaced by 1 or the weight of its row, for any sum of the row's targets."""
    by_row = flat.class_weights is None or flat.weighs_rows
    return convention.log_sum_exp == "one" or (convention.gradient_total == "one" and by_row)


def row_weights(flat: FlatProblem, to_numbers: ToNumbers) -> Numbers:
    """The sum of the class weights over the targets of each row, sum_c w_c q'_c: [n, 1]."""
    assert flat.class_weights is not None
    q = smoothed(flat, to_numbers)
    weighted: Numbers = np.where(q == 0, q, q * to_numbers(flat.class_weights)).sum(axis=1, keepdims=True)
    return weighted


def _varying_targets(
    t: Numbers, p: Numbers, x: Floats, flat: FlatProblem, convention: Convention, to_numbers: ToNumbers
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """Zero the targets whose log-probability is constant (behind the clip or floor), and scale those with an offset.

    p: the probabilities of logits x.  Returns (targets, mask of the elements whose derivative is unconstrained), both
    shaped as x.
    """
    if convention.logits_as == "logits":
        return t, np.zeros(x.shape, dtype=bool)
    inside, at_kink = clip_masks(p, x, flat, convention)
    e = to_numbers(np.asarray(flat.offset))
    if convention.log_floor is not None:
        floor = float(np.exp(convention.log_floor))
        margin = floor * KINK_MARGIN * dtype_info(str(flat.x.dtype)).unit_roundoff
        inside, at_kink = inside & ~(p + e < floor), at_kink | (abs(p + e - floor) <= margin)
    at_kink = at_kink & (t != 0)
    unconstrained = at_kink if flat.binary else at_kink.any(axis=-1, keepdims=True)
    t = np.where(inside | at_kink, _weighted_target(t, p, flat.offset, to_numbers), to_numbers(np.zeros(())))
    return t, np.broadcast_to(unconstrained, x.shape)


def sum_of_others(values: Numbers) -> Numbers:
    """For each element the sum of the others of its row, [n, C]; nothing cancels if none is negative."""
    before, after = np.zeros_like(values), np.zeros_like(values)
    before[:, 1:] = np.cumsum(values[:, :-1], axis=1)
    after[:, :-1] = np.cumsum(values[:, :0:-1], axis=1)[:, ::-1]
    return before + after


def _logit_gradient(x: Floats, t: Numbers, complement: Numbers, to_numbers: ToNumbers) -> Numbers:
    """The gradients with respect to logits x, [n, C].  complement: `sum_of_others(t)`, or that of a convention."""
    p = softmax(x, to_numbers)
    value = complement * p - t * sum_of_others(p)
    return np.where(np.isnan(x).any(axis=1, keepdims=True), np.nan, value)


def softmax(x: Floats, to_numbers: ToNumbers) -> Numbers:
    """The softmax of rows of logits, [n, C]; a logit of -inf has the probability 0."""
    has_probability = x != -np.inf
    finite = np.where(np.isfinite(x), x, 0.0)
    max_logit = np.where(has_probability, finite, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    max_logit = np.where(np.isfinite(max_logit), max_logit, 0.0)
    e = np.where(has_probability, np.exp(to_numbers(finite) - to_numbers(max_logit)), to_numbers(np.zeros(())))
    total = e.sum(axis=1, keepdims=True)
    return e / np.where(has_probability.any(axis=1, keepdims=True), total, to_numbers(np.ones(())))


def _probability_gradient(
    x: Floats, t: Numbers, flat: FlatProblem, convention: Convention, to_numbers: ToNumbers
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """(gradients with respect to probabilities x, mask of unconstrained elements), each [n, C]."""
    is_nan = np.isnan(x)
    zero = to_numbers(np.zeros(()))
    p = to_numbers(np.where(is_nan, 0.5, x))
    row_sum = p.sum(axis=1, keepdims=True)
    p = p / row_sum if convention.renormalise == "before_clip" else p
    inside, unconstrained = clip_masks(p, x, flat, convention)
    has_gradient = inside | unconstrained
    u = p if flat.clip is None else np.where(has_gradient, p, _nearest_end(p, flat.clip, to_numbers))
    e = to_numbers(np.asarray(flat.offset))
    if convention.log_floor is not None:
        has_gradient = has_gradient & ~(u + e < np.exp(convention.log_floor))
    if convention.renormalise == "no":
        value = np.where(has_gradient, _minus_over(t, u + e, to_numbers), zero)
    elif convention.renormalise == "before_clip":
        varying = np.where(has_gradient, t, zero)
        weighted_targets = sum_of_others(_weighted_target(varying, p, flat.offset, to_numbers))
        value = (_minus_over(varying * sum_of_others(p), p + e, to_numbers) + weighted_targets) / row_sum
        unconstrained = np.broadcast_to(unconstrained.any(axis=1, keepdims=True), unconstrained.shape)
    else:
        total = u.sum(axis=1, keepdims=True)
        weighted_targets = sum_of_others(_weighted_target(t, u / total, flat.offset, to_numbers))
        value = (_minus_over(t * sum_of_others(u), u + e * total, to_numbers) + weighted_targets) / total
        value = np.where(has_gradient, value, zero)
        unconstrained = unconstrained | (is_nan.any(axis=1, keepdims=True) & ~has_gradient)
    if convention.renormalise != "no":
        return np.where(is_nan.any(axis=1, keepdims=True), np.nan, value), unconstrained
    has_target = np.asarray(smoothed(flat, to_numbers) != 0, dtype=bool)  # also with a weight of 0, as in the loss
    return np.where(is_nan & has_target, np.nan, value), unconstrained


def clip_masks(
    p: Numbers, x: Floats, flat: FlatProblem, convention: Convention
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(inside, unconstrained), masks shaped as x: strictly between the ends of the clip; at an end, so near to one that
    the rounding of p decides, or nan.

    p: the probabilities, which a convention may have divided by their sum.  x: predictions as passed.
    """
    if flat.clip is None:
        return np.ones(x.shape, dtype=bool), np.zeros(x.shape, dtype=bool)
    low, high = flat.clip
    margin: Floats = np.zeros(())
    spacing = (
        float(np.spacing(np.asarray(low, dtype=flat.x.dtype))) / low if low else 0.0
    )  # 1e-7 is subnormal in float16
    if convention.renormalise == "before_clip":
        is_rounded = (x != 0).sum(axis=-1, keepdims=True) > 1
        unit = dtype_info(str(flat.x.dtype)).unit_roundoff
        margin = np.where(is_rounded, (x.shape[-1] + 2) * unit + spacing / 2, 0.0)
    values = np.vectorize(float_of, otypes=[np.float64])(p) if p.dtype == object and p.size else p.astype(np.float64)
    unconstrained = np.isnan(x) | (np.abs(values - low) <= margin * low) | (np.abs(values - high) <= margin * high)
    return (values > low) & (values < high) & ~unconstrained, unconstrained


def _nearest_end(p: Numbers, clip: tuple[float, float], to_numbers: ToNumbers) -> Numbers:
    """The end of the clip on the side of each p, shaped as p."""
    low, high = to_numbers(np.asarray(clip[0])), to_numbers(np.asarray(clip[1]))
    return np.where(p < clip[0], low, high)


def _minus_over(t: Numbers, p: Numbers, to_numbers: ToNumbers) -> Numbers:
    """-t / p, elementwise: 0 where t is 0, -inf where t is positive and p is 0."""
    is_zero = np.asarray(p == 0, dtype=bool)
    value = -t / np.where(is_zero, to_numbers(np.ones(())), p)
    infinite = np.where(np.asarray(t > 0, dtype=bool), -np.inf, np.inf)
    return np.where(np.asarray(t != 0, dtype=bool), np.where(is_zero, infinite, value), to_numbers(np.zeros(())))


def _weighted_target(t: Numbers, p: Numbers, offset: float, to_numbers: ToNumbers) -> Numbers:
    """Share t p / (p + e), elementwise: the derivative of -t log(p + e) with respect to -log p; e is the offset."""
    return t * p / (p + to_numbers(np.asarray(offset))) if offset else t


def binary_gradient(flat: FlatProblem, convention: Convention, to_numbers: ToNumbers) -> Gradient:
    """The gradient of every output's loss, before weights per output."""
    assert flat.q is not None
    x = flat.x.astype(np.float64)
    y = to_numbers(flat.q)
    if flat.smoothing:
        e = to_numbers(np.asarray(flat.smoothing))
        y = (1 - e) * y + e / 2
    pos_factor = y if flat.positive_weight is None else to_numbers(flat.positive_weight) * y
    neg_factor = 1 - y
    unconstrained = np.zeros(x.shape, dtype=bool)
    if flat.input_kind == "logits":
        s, r = sigmoids(x, to_numbers)
        pos_factor, positive_unconstrained = _varying_targets(pos_factor, s, x, flat, convention, to_numbers)
        neg_factor, negative_unconstrained = _varying_targets(neg_factor, r, x, flat, convention, to_numbers)
        value, unconstrained = neg_factor * s - pos_factor * r, positive_unconstrained | negative_unconstrained
    elif flat.input_kind == "log_probabilities":
        odds = np.exp(to_numbers(np.where(x < 0, x, -1.0))) / -np.expm1(to_numbers(np.where(x < 0, x, -1.0)))
        value = np.where(
            x < 0,
            neg_factor * odds - pos_factor,
            np.where(np.asarray(neg_factor != 0, dtype=bool), np.inf, -pos_factor),
        )
    else:
        value, unconstrained = _output_gradient(x, y, pos_factor, neg_factor, flat, convention, to_numbers)
    return Gradient(np.where(np.isnan(x), np.nan, value), unconstrained)


def sigmoids(x: Floats, to_numbers: ToNumbers) -> tuple[Numbers, Numbers]:
    """(sigma(x), 1 - sigma(x)), each shaped as x and accurate."""
    e = np.where(np.isinf(x), to_numbers(np.zeros(())), np.exp(-to_numbers(np.where(np.isfinite(x), np.abs(x), 0.0))))
    small, large = e / (1 + e), 1 / (1 + e)
    return np.where(x >= 0, large, small), np.where(x >= 0, small, large)


def gradient_floor(flat: FlatProblem, convention: Convention) -> float:
    """The convention's floor of p (1 - p), rounded to the dtype; 0 if there is none, or it underflows."""
    if convention.gradient_floor is None or flat.positive_weight is not None:
        return 0.0
    return float(np.asarray(convention.gradient_floor).astype(flat.x.dtype))


def _output_gradient(
    x: Floats,
    y: Numbers,
    pos_factor: Numbers,
    neg_factor: Numbers,
    flat: FlatProblem,
    convention: Convention,
    to_numbers: ToNumbers,
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """(gradients with respect to binary probabilities x, mask of unconstrained elements), shaped as x.

    y: smoothed targets.  pos_factor, neg_factor: factors of -log p and -log(1 - p).
    """
    p = to_numbers(np.where(np.isnan(x), 0.5, x))
    if floor := gradient_floor(flat, convention):
        product = p * (1 - p)
        divisor = np.where(product < floor, to_numbers(np.asarray(floor)), product)
        return (p - y) / divisor, np.zeros(x.shape, dtype=bool)
    inside, unconstrained = clip_masks(p, x, flat, convention)
    has_gradient = inside | unconstrained
    u = p if flat.clip is None else np.where(has_gradient, p, _nearest_end(p, flat.clip, to_numbers))
    e = to_numbers(np.asarray(flat.offset))
    raised, complement = u + e, 1 - u + e
    pos_term = _minus_over(pos_factor, raised, to_numbers)
    neg_term = -_minus_over(neg_factor, complement, to_numbers)
    if convention.log_floor is not None:
        floor = np.exp(convention.log_floor)
        pos_term = np.where(raised < floor, to_numbers(np.zeros(())), pos_term)
        neg_term = np.where(complement < floor, to_numbers(np.zeros(())), neg_term)
    return np.where(has_gradient, pos_term + neg_term, to_numbers(np.zeros(()))), unconstrained
