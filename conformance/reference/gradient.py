"""The exact gradient of the reduced loss with respect to the predictions, in closed form, under any convention.

With t_c = w_c q'_c, T = sum_c t_c, a sample's gradient is T softmax(z)_c - t_c in its logits, -t_c in its log
probabilities and -t_c / p_c in its probabilities, with the chain rule through a clip and a division by the
row's sum where a convention has them; what cancels in that is written as sums over the other classes.  That
of a binary loss is (1 - y') sigma(z) - pos y' (1 - sigma(z)) in its logit and (1 - y') / (1 - p) - pos y' / p in
its probability.  Each is times s_i, divided as a mean divides.  Unreduced losses are differentiated through
their sum.

One set of formulas is evaluated in two arithmetics: in balls, which certify it, for float64; in float64 for
narrower dtypes, where its error is that of a correct answer in float64 (`gradient_budget`), far below theirs.

*Kinks.*  Where a clip begins, and where it is given nan, there is no derivative, and any value is right
(`Slope.unconstrained`).  Beyond it the derivative is 0, or anything where a nan elsewhere in the row is what it would
be multiplied by.  A probability of 0 that counts has the derivative -inf; one that does not count (0 log 0), 0.
A mean over nothing has no derivative where it is nan by convention, and is constant where it is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import arb, ctx

from conformance.model.case import Problem
from conformance.model.convention import Convention
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
from conformance.reference.relevance import GRADIENT, relevant

PRECISION = 160
"""Bits of the balls: cancellation in T p - t loses at most the 53 that the inputs have."""
KINK_MARGIN = 1024
"""In units of u: how near to a floor of the logarithm rounding decides on which side of it a probability is."""
NOT_FINITE = frozenset({"nan_weight", "infinite_weight", "nan_target"})
"""Input kinds whose gradient is not tested."""

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]
"""float64, or objects: balls, and Python floats that are nan or infinite."""
Lift = Callable[[Floats], Numbers]


@dataclass(frozen=True, eq=False)
class Slope:
    """A gradient, element by element.

    value: as the rows of predictions, [n, C] or [n].  unconstrained: the same shape, True where any value is right.
    """

    value: Numbers
    unconstrained: npt.NDArray[np.bool_]


def answer(problem: Problem, convention: Convention, loss: Answer, oracle: Oracle | None = None) -> Answer:
    """The exact gradient, shaped as the predictions.

    loss: the answer to the problem under that convention; where there is none, there is no gradient either.
    oracle: remembers gradients, if one does.
    """
    if not isinstance(loss, Exact):
        return loss
    of = problem if problem.reduction == "mean" else problem.with_reduction("sum")  # which is that of unreduced losses
    matters = relevant(of, convention, GRADIENT)
    return _answer(of, matters) if oracle is None else oracle.gradient(of, matters, lambda: _answer(of, matters))


def estimate(problem: Problem, convention: Convention) -> Floats:
    """The gradient in float64 arithmetic, shaped as the predictions; it is coarse where terms cancel."""
    matters = relevant(problem, convention, GRADIENT)
    value: Floats = reduced_slope(problem, flatten(problem, matters), matters, floats).value
    return value.reshape(problem.predictions.shape)


def _answer(problem: Problem, convention: Convention) -> Answer:
    if kinds := examine(problem) & NOT_FINITE:
        return Undefined(f"there is no gradient: {', '.join(sorted(kinds))}")
    flat = flatten(problem, convention)
    shape = problem.predictions.shape
    in_balls = problem.dtype == "float64"
    with ctx.workprec(PRECISION):
        slope = reduced_slope(problem, flat, convention, balls if in_balls else floats)
        return answer_of(slope, shape, in_balls)


def answer_of(slope: Slope, shape: tuple[int, ...], in_balls: bool) -> Exact:
    """Derivatives as an answer of a shape.  in_balls: whether their elements are balls, which certify it."""
    if in_balls:
        found = exact(shape, slope.value.ravel().tolist(), PRECISION)
    else:
        found = Exact(slope.value.reshape(shape), np.zeros(shape), np.zeros(shape))
    return Exact(
        found.hi, found.lo, found.rad, slope.unconstrained.reshape(shape) if slope.unconstrained.any() else None
    )


def floats(values: Floats) -> Numbers:
    """Numbers for the formulas to be evaluated in float64."""
    return np.asarray(values, dtype=np.float64)


def balls(values: Floats) -> Numbers:
    """Numbers for the formulas to be evaluated in balls."""
    return np.asarray(np.frompyfunc(arb, 1, 1)(values), dtype=object)


def reduced_slope(problem: Problem, flat: FlatProblem, convention: Convention, lift: Lift) -> Slope:
    """The gradient with the reduction's factors."""
    with np.errstate(all="ignore"):
        slope = _slope(problem, flat, convention, lift)
        factor = factors(problem, flat, convention, lift)
        return _reduced(slope, flat, factor, _mean_of_nothing(problem, flat, convention, factor), lift)


def in_chunks(problem: Problem, convention: Convention, *, in_balls: bool, size: int) -> Iterator[tuple[slice, Exact]]:
    """(rows, their gradient, shaped [rows, C] or [rows]) for about `size` predictions at a time; see `answer`.

    in_balls: compute in balls, whatever the dtype.  The radius is 0 otherwise.
    """
    lift = balls if in_balls else floats
    with ctx.workprec(PRECISION):
        flat = flatten(problem, convention)
        factor = factors(problem, flat, convention, lift)
        of_nothing = _mean_of_nothing(problem, flat, convention, factor)
    for here in flat.chunks(size):
        with np.errstate(all="ignore"), ctx.workprec(PRECISION):
            part = flat.rows(here)
            slope = (binary_slope if part.binary else categorical_slope)(part, convention, lift)
            slope = _reduced(slope, part, factor[here], of_nothing, lift)
            yield here, answer_of(slope, part.x.shape, in_balls)


def _reduced(slope: Slope, flat: FlatProblem, factor: Numbers, of_nothing: bool, lift: Lift) -> Slope:
    """Slopes of rows with the factors of the reduction."""
    value = slope.value * (factor if flat.binary else factor[:, np.newaxis])
    counts = flat.kept if flat.binary else flat.kept[:, np.newaxis]
    return Slope(np.where(counts, value, lift(np.zeros(()))), (slope.unconstrained | of_nothing) & counts)


def _slope(problem: Problem, flat: FlatProblem, convention: Convention, lift: Lift) -> Slope:
    """The gradient of every row's loss, which no reduction changes."""
    matters = relevant(problem.unreduced, convention, GRADIENT)
    cache, key = problem.unreduced.cache, ("slope", matters, lift)
    if key not in cache:
        cache[key] = (binary_slope if flat.binary else categorical_slope)(flat, convention, lift)
    slope: Slope = cache[key]
    return slope


def _mean_of_nothing(problem: Problem, flat: FlatProblem, convention: Convention, factor: Numbers) -> bool:
    """Whether the loss is the nan that a convention has for a mean that divides by 0."""
    if problem.reduction != "mean" or convention.empty_mean != "nan" or np.any(factor != 0):
        return False
    by = _divisor(flat, convention)
    return not isinstance(by, float) and bool(by.contains(0))


def _divisor(flat: FlatProblem, convention: Convention) -> Term:
    """What a mean divides by; nan where there is none, and then no mean of which this would be the gradient."""
    try:
        return divided_by(flat, convention)
    except NoAnswerError:
        return np.nan


def factors(problem: Problem, flat: FlatProblem, convention: Convention, lift: Lift) -> Numbers:
    """What the gradient of each row is multiplied by: its weight, over what a mean divides by."""
    losses = len(flat.x) // max(1, flat.group)
    factor = lift(np.ones(losses))
    if flat.sample_weights is not None:
        weights = lift(flat.sample_weights)
        factor = factor * (weights if len(weights) == losses else weights.sum())
    if problem.reduction == "mean" and losses:
        by = _divisor(flat, convention)
        nothing = isinstance(by, float) or by.contains(0)  # then the convention says what a mean over nothing is
        factor = factor * 0 if nothing else factor / (by if lift is balls else float_of(by))
    return np.repeat(factor, flat.group) / flat.group if flat.group > 1 else factor


def targets(flat: FlatProblem, lift: Lift) -> Numbers:
    """t_c = w_c q'_c, or (sum_k w_k q'_k) q'_c by `Convention.class_weighting`: [n, C]."""
    q = smoothed(flat, lift)
    if flat.class_weights is None:
        return q
    return np.where(q == 0, q, q * (row_weights(flat, lift) if flat.weighs_rows else lift(flat.class_weights)))


def smoothed(flat: FlatProblem, lift: Lift) -> Numbers:
    """q'_c: [n, C]."""
    classes = flat.x.shape[1]
    if flat.index is not None:
        q = np.zeros(flat.x.shape)
        q[np.arange(len(q)), flat.index % classes] = 1.0
    else:
        assert flat.q is not None
        q = flat.q
    if not flat.smoothing:
        return lift(q)
    e = lift(np.asarray(flat.smoothing))
    return np.asarray((1 - e) * lift(q) + e / classes)


def categorical_slope(flat: FlatProblem, convention: Convention, lift: Lift) -> Slope:
    """The gradient of every row's loss, weights per sample not applied."""
    x = flat.x.astype(np.float64)
    t = targets(flat, lift)
    unconstrained = np.zeros(x.shape, dtype=bool)
    if flat.input_kind == "log_probabilities":
        value = -t
    elif flat.input_kind == "logits":
        t, unconstrained = _counted(t, softmax(x, lift), x, flat, convention, lift)
        others = of_others(t)
        if takes_total_for_one(flat, convention):
            others = (row_weights(flat, lift) if flat.weighs_rows else 1) - t
        value = _of_logits(x, t, others, lift)
    else:
        value, unconstrained = _of_probabilities(x, t, flat, convention, lift)
    if flat.index is not None and convention.out_of_range in ("zero", "nan"):
        outside = (flat.index < 0) | (flat.index >= x.shape[1])
        instead = 0.0 if convention.out_of_range == "zero" else np.nan
        value = np.where(outside[:, np.newaxis], instead, value)
    return Slope(value, unconstrained)


def takes_total_for_one(flat: FlatProblem, convention: Convention) -> bool:
    """Whether the softmax is multiplied by 1, or the weight of its row, whatever the row's targets sum to."""
    by_row = flat.class_weights is None or flat.weighs_rows
    return convention.log_sum_exp == "one" or (convention.gradient_total == "one" and by_row)


def row_weights(flat: FlatProblem, lift: Lift) -> Numbers:
    """The sum of the class weights over the targets of each row, sum_c w_c q'_c: [n, 1]."""
    assert flat.class_weights is not None
    q = smoothed(flat, lift)
    weighted: Numbers = np.where(q == 0, q, q * lift(flat.class_weights)).sum(axis=1, keepdims=True)
    return weighted


def _counted(
    t: Numbers, p: Numbers, x: Floats, flat: FlatProblem, convention: Convention, lift: Lift
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """Targets whose logarithm depends on its probability p of logits, and where the derivative is unconstrained.

    Others are behind the clip or the floor of a convention that turns logits into probabilities, where it is constant.
    """
    if convention.logits_as == "logits":
        return t, np.zeros(x.shape, dtype=bool)
    passes, at_end = clipped(p, x, flat, convention)
    if convention.log_floor is not None:
        least = float(np.exp(convention.log_floor))
        near = np.asarray(
            abs(p - least) <= least * KINK_MARGIN * dtype_info(str(flat.x.dtype)).unit_roundoff, dtype=bool
        )
        passes, at_end = passes & ~_below(p, least), at_end | near
    at_end = at_end & np.asarray(t != 0, dtype=bool)
    everywhere = at_end.any(axis=-1, keepdims=True) if not flat.binary else at_end
    return np.where(passes | at_end, t, lift(np.zeros(()))), np.broadcast_to(everywhere, x.shape)


def of_others(values: Numbers) -> Numbers:
    """The sum of the other elements of a row, for each: [n, C]; nothing cancels where none is negative."""
    before, after = np.zeros_like(values), np.zeros_like(values)
    before[:, 1:] = np.cumsum(values[:, :-1], axis=1)
    after[:, :-1] = np.cumsum(values[:, :0:-1], axis=1)[:, ::-1]
    return before + after


def _of_logits(x: Floats, t: Numbers, others: Numbers, lift: Lift) -> Numbers:
    p = softmax(x, lift)
    value = others * p - t * of_others(p)
    return np.where(np.isnan(x).any(axis=1, keepdims=True), np.nan, value)


def softmax(x: Floats, lift: Lift) -> Numbers:
    """Of rows of logits, [n, C]; -inf has the probability 0."""
    counts = x != -np.inf
    finite = np.where(np.isfinite(x), x, 0.0)
    top = np.where(counts, finite, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0.0)
    e = np.where(counts, np.exp(lift(finite) - lift(top)), lift(np.zeros(())))
    total = e.sum(axis=1, keepdims=True)
    return e / np.where(counts.any(axis=1, keepdims=True), total, lift(np.ones(())))


def _of_probabilities(
    x: Floats, t: Numbers, flat: FlatProblem, convention: Convention, lift: Lift
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    nan = np.isnan(x)
    zero = lift(np.zeros(()))
    p = lift(np.where(nan, 0.5, x))
    row = p.sum(axis=1, keepdims=True)
    p = p / row if convention.renormalise == "before_clip" else p
    passes, unconstrained = clipped(p, x, flat, convention)
    u = p if flat.clip is None else np.where(passes | unconstrained, p, _ends(p, flat.clip, lift))
    slopes = passes | unconstrained
    if convention.log_floor is not None:
        slopes = slopes & ~_below(u, np.exp(convention.log_floor))
    if convention.renormalise == "no":
        value = np.where(slopes, _minus_over(t, u, lift), zero)
    elif convention.renormalise == "before_clip":
        counted = np.where(slopes, t, zero)
        value = (_minus_over(counted * of_others(p), p, lift) + of_others(counted)) / row
        unconstrained = np.broadcast_to(unconstrained.any(axis=1, keepdims=True), unconstrained.shape)
    else:
        value = (_minus_over(t * of_others(u), u, lift) + of_others(t)) / u.sum(axis=1, keepdims=True)
        value = np.where(slopes, value, zero)
        unconstrained = unconstrained | (nan.any(axis=1, keepdims=True) & ~slopes)
    if convention.renormalise != "no":
        return np.where(nan.any(axis=1, keepdims=True), np.nan, value), unconstrained
    counts = np.asarray(smoothed(flat, lift) != 0, dtype=bool)  # also with a weight of 0, as in the loss
    return np.where(nan & counts, np.nan, value), unconstrained


def clipped(
    p: Numbers, x: Floats, flat: FlatProblem, convention: Convention
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(strictly between the ends of the clip, at one of them or so near that a rounded sum decides)."""
    if flat.clip is None:
        return np.ones(x.shape, dtype=bool), np.zeros(x.shape, dtype=bool)
    low, high = flat.clip
    near: Floats = np.zeros(())
    coarse = (
        float(np.spacing(np.asarray(low, dtype=flat.x.dtype))) / low if low else 0.0
    )  # of float16, 1e-7 is subnormal
    if convention.renormalise == "before_clip":
        several = (x != 0).sum(axis=-1, keepdims=True) > 1
        near = np.where(several, (x.shape[-1] + 2) * dtype_info(str(flat.x.dtype)).unit_roundoff + coarse / 2, 0.0)
    wide = np.vectorize(float_of, otypes=[np.float64])(p) if p.dtype == object and p.size else p.astype(np.float64)
    unconstrained = np.isnan(x) | (np.abs(wide - low) <= near * low) | (np.abs(wide - high) <= near * high)
    return (wide > low) & (wide < high) & ~unconstrained, unconstrained


def _ends(p: Numbers, clip: tuple[float, float], lift: Lift) -> Numbers:
    low, high = lift(np.asarray(clip[0])), lift(np.asarray(clip[1]))
    return np.where(_below(p, clip[0]), low, high)


def _below(p: Numbers, end: float) -> npt.NDArray[np.bool_]:
    return np.asarray(p < end, dtype=bool)


def _minus_over(t: Numbers, p: Numbers, lift: Lift) -> Numbers:
    """-t / p, where nothing counts 0, and -inf where a probability of 0 counts."""
    gone = np.asarray(p == 0, dtype=bool)
    value = -t / np.where(gone, lift(np.ones(())), p)
    counts = np.asarray(t != 0, dtype=bool)
    sign = np.where(np.asarray(t > 0, dtype=bool), -np.inf, np.inf)
    return np.where(counts, np.where(gone, sign, value), lift(np.zeros(())))


def binary_slope(flat: FlatProblem, convention: Convention, lift: Lift) -> Slope:
    """The gradient of every output's loss, weights per output not applied."""
    assert flat.q is not None
    x = flat.x.astype(np.float64)
    y = lift(flat.q)
    if flat.smoothing:
        e = lift(np.asarray(flat.smoothing))
        y = (1 - e) * y + e / 2
    on = y if flat.positive_weight is None else lift(flat.positive_weight) * y
    off = 1 - y
    unconstrained = np.zeros(x.shape, dtype=bool)
    if flat.input_kind == "logits":
        s, r = sigmoids(x, lift)
        on, of_on = _counted(on, s, x, flat, convention, lift)
        off, of_off = _counted(off, r, x, flat, convention, lift)
        value, unconstrained = off * s - on * r, of_on | of_off
    elif flat.input_kind == "log_probabilities":
        odds = np.exp(lift(np.where(x < 0, x, -1.0))) / -np.expm1(lift(np.where(x < 0, x, -1.0)))
        value = np.where(x < 0, off * odds - on, np.where(np.asarray(off != 0, dtype=bool), np.inf, -on))
    else:
        value, unconstrained = _of_outputs(x, y, on, off, flat, convention, lift)
    return Slope(np.where(np.isnan(x), np.nan, value), unconstrained)


def sigmoids(x: Floats, lift: Lift) -> tuple[Numbers, Numbers]:
    """(sigma(z), 1 - sigma(z)), each accurate."""
    e = np.where(np.isinf(x), lift(np.zeros(())), np.exp(-lift(np.where(np.isfinite(x), np.abs(x), 0.0))))
    small, large = e / (1 + e), 1 / (1 + e)
    return np.where(x >= 0, large, small), np.where(x >= 0, small, large)


def gradient_floor(flat: FlatProblem, convention: Convention) -> float:
    """The convention's, as the dtype has it; 0 where there is none left."""
    if convention.gradient_floor is None or flat.positive_weight is not None:
        return 0.0
    return float(np.asarray(convention.gradient_floor).astype(flat.x.dtype))


def _of_outputs(
    x: Floats, y: Numbers, on: Numbers, off: Numbers, flat: FlatProblem, convention: Convention, lift: Lift
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    p = lift(np.where(np.isnan(x), 0.5, x))
    if least := gradient_floor(flat, convention):
        product = p * (1 - p)
        divisor = np.where(_below(product, least), lift(np.asarray(least)), product)
        return (p - y) / divisor, np.zeros(x.shape, dtype=bool)
    passes, unconstrained = clipped(p, x, flat, convention)
    u = p if flat.clip is None else np.where(passes | unconstrained, p, _ends(p, flat.clip, lift))
    first, second = _minus_over(on, u, lift), -_minus_over(off, 1 - u, lift)
    if convention.log_floor is not None:
        least = np.exp(convention.log_floor)
        first = np.where(_below(u, least), lift(np.zeros(())), first)
        second = np.where(_below(1 - u, least), lift(np.zeros(())), second)
    return np.where(passes | unconstrained, first + second, lift(np.zeros(()))), unconstrained
