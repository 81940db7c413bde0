"""Conversions of problems: of predictions, which are rounded once and recorded, and of weights, which are exact.

A function that accepts only probabilities is passed the softmax of a case's logits, and so on.  Each
value is the exact one rounded to the dtype (computed with ball arithmetic for float64, in float64 for
narrower dtypes), so that a conversion costs one rounding and adds no errors of an implementation.

A function without class weights is passed the weight of its class as the weight of each sample; a function without
sample weights is passed class weights if all samples of a class share a weight.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Set
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb, ctx

from conformance.model.case import Array, InputKind, Problem, numpy_dtype
from conformance.model.convention import Convention
from conformance.reference.domain import dtype_info
from conformance.reference.flat_problem import flatten

CHUNK = 4096
PRECISION = 256
"""Precision of the balls in bits: in 128, the log-sum-exp of a confident row would not break a tie of its logits."""

NAMES: dict[tuple[str, InputKind, InputKind], str] = {
    ("categorical", "logits", "probabilities"): "softmax",
    ("categorical", "logits", "log_probabilities"): "log_softmax",
    ("binary", "logits", "probabilities"): "sigmoid",
    ("binary", "logits", "log_probabilities"): "log_sigmoid",
    ("categorical", "probabilities", "logits"): "log",
    ("binary", "probabilities", "logits"): "logit",
    ("categorical", "probabilities", "log_probabilities"): "log",
    ("binary", "probabilities", "log_probabilities"): "log",
    ("categorical", "log_probabilities", "probabilities"): "exp",
    ("binary", "log_probabilities", "probabilities"): "exp",
    ("categorical", "log_probabilities", "logits"): "as logits",
    ("binary", "log_probabilities", "logits"): "logit of exp",
}

DESCRIPTIONS: dict[str, str] = {
    "softmax": "the softmax of the logits",
    "log_softmax": "the log-softmax of the logits",
    "sigmoid": "the sigmoid of the logits",
    "log_sigmoid": "the log-sigmoid of the logits",
    "log": "the logarithms of the probabilities",
    "logit": "the logits of the probabilities, log p - log(1 - p)",
    "exp": "the exponentials of the log-probabilities",
    "as logits": "the log-probabilities, as logits",
    "logit of exp": "the logits of the exponentials of the log-probabilities",
}
"""What a function is passed instead of the case's predictions, as a phrase, by the name of the conversion."""
WEIGHT_DESCRIPTIONS: dict[str, str] = {
    "class weights as sample weights": "it accepts no class weights and is called with each sample's class weight",
    "sample weights as class weights": "it accepts no sample weights and is called with those of its samples, by class",
}
"""What a function is passed instead of the case's weights, as a phrase, by the name of the conversion."""


def convert(problem: Problem, input_kind: InputKind) -> tuple[Problem, str]:
    """The problem with its predictions converted, and the name of the conversion; "" if none is needed."""
    if problem.input_kind == input_kind:
        return problem, ""
    name = NAMES[problem.loss, problem.input_kind, input_kind]

    def converted(problem: Problem) -> Problem:
        x = problem.predictions if name == "as logits" else _convert(name, problem.predictions, problem.dtype)
        return dataclasses.replace(problem, input_kind=input_kind, predictions=x)

    converted_problem = problem.derived(("conversion", input_kind), converted)
    assert converted_problem is not None
    return converted_problem, name


def convert_weights(problem: Problem, options: Set[str]) -> tuple[Problem, str]:
    """Convert class weights to sample weights, or the reverse; return the problem and the name of the conversion.

    Returns the problem itself and "" if a function that supports `options` needs no conversion, or if none is exact.
    An exact one requires labels that name classes, no smoothing, finite weights above 0, and products that are exact in
    the dtype.  The definition has the same answer to both problems for each reduction.
    """
    stated = {"class_weights", "sample_weights"} & set(problem.options.names())
    missing = stated - options
    if not missing or len(options & {"class_weights", "sample_weights"}) != 1:
        return problem, ""
    by_sample = "class_weights" in missing
    name = "class weights as sample weights" if by_sample else "sample weights as class weights"
    converted = problem.derived(name, lambda unreduced: _with_weights(unreduced, by_sample))
    return (problem, "") if converted is None else (converted, name)


def _with_weights(problem: Problem, by_sample: bool) -> Problem | None:
    """The problem with all its weights as sample weights, or as class weights; None if that is not exact."""
    weights = _weights_of_samples(problem)
    if weights is not None and not by_sample:
        weights = _weights_of_classes(problem, weights)
    if weights is None:
        return None
    other = "class_weights" if by_sample else "sample_weights"
    changed: dict[str, Any] = {"class_weights": weights, "sample_weights": weights, other: None}
    return dataclasses.replace(problem, options=dataclasses.replace(problem.options, **changed))


def _labels_and_kept(problem: Problem) -> tuple[Array, Array] | None:
    """The class of each sample, and the mask of samples that are not ignored; None if a label names no class."""
    if problem.target_kind not in ("index", "one_hot") or problem.options.label_smoothing is not None:
        return None
    labels = problem.labels if problem.target == "index" else np.argmax(problem.labels, axis=-1)
    ignored = problem.options.ignore_index
    kept = np.ones(labels.shape, dtype=bool) if ignored is None else labels != ignored
    known = (labels >= 0) & (labels < problem.predictions.shape[-1])
    return (labels, kept) if labels.shape == problem.sample_shape and bool(np.all(known | ~kept)) else None


def _weights_of_samples(problem: Problem) -> Array | None:
    """The product of sample weight and class weight of each sample, 1 if it is ignored; None if it is not exact."""
    labels_and_kept = _labels_and_kept(problem)
    by_sample, by_class = problem.options.sample_weights, problem.options.class_weights
    if labels_and_kept is None or problem.layout.weight_dtype is not None or not problem.predictions.size:
        return None
    labels, kept = labels_and_kept
    factors = []
    if by_class is not None:
        if not bool(np.all(np.isfinite(by_class))):
            return None
        factors.append(by_class[np.where(kept, labels, 0)])
    if by_sample is not None:
        if by_sample.shape != labels.shape[: by_sample.ndim]:
            return None
        axes = (1,) * (labels.ndim - by_sample.ndim)
        factors.append(np.broadcast_to(by_sample.reshape(by_sample.shape + axes), labels.shape))
    factors = [np.where(kept, factor, np.ones((), factor.dtype)) for factor in factors]
    with np.errstate(all="ignore"):
        product = factors[0] if len(factors) == 1 else np.asarray(factors[0] * factors[1])
    if not bool(np.all((product > 0) & np.isfinite(product))):
        return None
    *exact_factors, rounded = (
        [Fraction(value) for value in array.astype(np.float64).flat] for array in (*factors, product)
    )
    return (
        product if all(math.prod(pair) == value for *pair, value in zip(*exact_factors, rounded, strict=True)) else None
    )


def _weights_of_classes(problem: Problem, weights: Array) -> Array | None:
    """The common weight of the samples of each class, 1 for a class without samples; None if they differ."""
    labels_and_kept = _labels_and_kept(problem)
    assert labels_and_kept is not None
    labels, kept = labels_and_kept
    by_class = np.ones(problem.predictions.shape[-1], dtype=weights.dtype)
    by_class[labels[kept]] = weights[kept]
    return by_class if bool(np.all(by_class[labels[kept]] == weights[kept])) else None


def why_not_convertible(problem: Problem, input_kind: InputKind) -> str | None:
    """Why a conversion would change the problem; None if it does not."""
    x = problem.predictions
    with np.errstate(invalid="ignore"):
        if problem.input_kind == "log_probabilities" and input_kind == "probabilities" and bool(np.any(x > 0)):
            return "no probability has a positive logarithm"
        if problem.input_kind == "logits" and input_kind == "log_probabilities" and _overflow(x, problem.dtype):
            return "a logarithm of a probability is beyond what the dtype has"
    return None


def renormalises(problem: Problem, input_kind: InputKind) -> bool:
    """Whether a function that takes `input_kind` divides the probabilities of a row by their sum, which may not be 1.

    A softmax does so with log-probabilities passed as logits.  Other conversions change an answer only by
    rounding.
    """
    return problem.loss == "categorical" and problem.input_kind != "logits" and input_kind == "logits"


def unchanging(problem: Problem, input_kind: InputKind) -> tuple[InputKind, ...]:
    """The input kinds that a problem can be converted to by rounding only, its own first."""
    kinds: tuple[InputKind, ...] = (problem.input_kind,)
    if renormalises(problem, input_kind):
        kinds = (*kinds, "log_probabilities" if problem.input_kind == "probabilities" else "probabilities")
    return tuple(kind for kind in kinds if kind == problem.input_kind or why_not_convertible(problem, kind) is None)


def row_sums(problem: Problem) -> Array:
    """The sums of the rows of a problem's probabilities, or of the exponentials of its log-probabilities."""
    x = problem.predictions.astype(np.float64)
    with np.errstate(all="ignore"):
        return np.asarray((np.exp(x) if problem.input_kind == "log_probabilities" else x).sum(axis=-1))


def destroyed(problem: Problem, converted: Problem, convention: Convention) -> tuple[str, ...]:
    """The information that the rounding of a conversion destroyed.

    One or two of `zero_probability` or `infinite_logarithm`, and `certain_probability`; or, if none of these,
    `digits_of_p` or `digits_of_1_minus_p`.  convention: determines which predictions count.
    """
    kinds, binary = [problem.input_kind, converted.input_kind], problem.loss == "binary"
    likely, unlikely = _counting(converted, convention)
    before, after = (side.predictions.reshape(likely.shape).astype(np.float64) for side in (problem, converted))
    impossible, certain = ([ends[kind] for kind in kinds] for ends in (_IMPOSSIBLE, _CERTAIN))
    losses = []
    if bool(np.any(likely & (after == impossible[1]) & (before != impossible[0]))):
        losses.append("zero_probability" if converted.input_kind == "probabilities" else "infinite_logarithm")
    if bool(np.any((unlikely if binary else likely) & (after == certain[1]) & (before != certain[0]))):
        losses.append("certain_probability")
    return tuple(losses) or ("digits_of_1_minus_p" if binary else "digits_of_p",)


_IMPOSSIBLE: dict[InputKind, float] = {"logits": -math.inf, "probabilities": 0.0, "log_probabilities": -math.inf}
_CERTAIN: dict[InputKind, float] = {"logits": math.inf, "probabilities": 1.0, "log_probabilities": 0.0}


def _counting(problem: Problem, convention: Convention) -> tuple[Array, Array]:
    """Masks of the predictions that count as p and as 1 - p, shaped as the rows."""
    flat = flatten(problem, convention)
    if flat.index is not None:
        labels = flat.index[:, np.newaxis] == np.arange(flat.x.shape[-1])
    else:
        labels = np.asarray(flat.q) != 0
    likely = labels | (flat.smoothing != 0)
    kept = flat.kept if flat.binary else flat.kept[:, np.newaxis]
    unlikely = (np.asarray(flat.q) != 1) | (flat.smoothing != 0) if flat.binary else ~labels
    return likely & kept, unlikely & kept


def _overflow(z: Array, dtype: str) -> bool:
    """Whether a finite logit has a log-probability that is not finite in the dtype; rows are on the last axis."""
    rows = z.reshape(-1, z.shape[-1])
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK].astype(np.float64)
        part[~np.isfinite(part)] = np.nan
        with np.errstate(over="ignore"):
            spread = np.fmax.reduce(part, axis=-1) - np.fmin.reduce(part, axis=-1) + math.log(z.shape[-1])
        if bool(np.any(spread > dtype_info(dtype).largest)):
            return True
    return False


def _convert(name: str, x: Array, dtype: str) -> Array:
    out = np.empty(x.shape, dtype=numpy_dtype(dtype))
    by_row = name in ("softmax", "log_softmax")
    source = x.reshape(-1, x.shape[-1] if by_row else 1)
    target = out.reshape(source.shape)
    wide = dtype == "float64"
    for start in range(0, len(source), CHUNK):
        chunk = source[start : start + CHUNK].astype(np.float64)
        if wide:
            with ctx.workprec(PRECISION):
                values: Any = [_exact_row(name, row) for row in chunk.tolist()]
        else:
            with np.errstate(all="ignore"):
                values = _FLOAT[name](chunk)
        target[start : start + CHUNK] = values
    out.flags.writeable = False
    return out


def _exact_row(name: str, row: list[float]) -> list[float]:
    if name in ("softmax", "log_softmax"):
        if any(map(math.isnan, row)) or math.isinf(max(row)):
            return [math.nan] * len(row)
        max_logit, first = arb(max(row)), row.index(max(row))
        shifted = [None if z == -math.inf else arb(z) - max_logit for z in row]
        terms = [arb(0) if d is None else d.exp() for d in shifted]
        # The largest term is 1; log1p of the sum of the others keeps digits that 1 + ... would lose in a confident row.
        other_terms = sum(terms[:first] + terms[first + 1 :], arb(0))
        if name == "softmax":
            share = 1 / (1 + other_terms)
            return [float(term * share) for term in terms]
        log = other_terms.log1p()
        return [-math.inf if d is None else float(d - log) for d in shifted]
    return [_exact(name, value) for value in row]


def _exact(name: str, value: float) -> float:
    if not math.isfinite(value) or (name in ("log", "logit") and not 0 < value < 1) or (value == 0 and "exp" in name):
        with np.errstate(all="ignore"):
            return float(_FLOAT[name](np.array([[value]]))[0, 0])
    return float(_BALL[name](arb(value)))


_BALL: dict[str, Callable[[Any], Any]] = {
    "sigmoid": lambda z: 1 / (1 + (-z).exp()),
    "log_sigmoid": lambda z: -((-z).exp().log1p()),
    "log": lambda p: p.log(),
    "logit": lambda p: p.log() - (-p).log1p(),
    "exp": lambda v: v.exp(),
    "logit of exp": lambda v: v - (-v.expm1()).log(),
}


def _log_softmax(z: Array) -> Array:
    max_logit = z.max(axis=1, keepdims=True)
    d = z - max_logit
    e = np.exp(d)
    # The largest term is 1; log1p of the sum of the others keeps digits that 1 + ... would lose in a confident row.
    np.put_along_axis(e, np.argmax(d, axis=1)[:, np.newaxis], 0.0, axis=1)
    return np.where(np.isfinite(max_logit), d - np.log1p(e.sum(axis=1, keepdims=True)), np.nan)


_FLOAT: dict[str, Callable[[Array], Array]] = {
    "softmax": lambda z: np.exp(_log_softmax(z)),
    "log_softmax": _log_softmax,
    "sigmoid": lambda z: np.asarray(np.where(z >= 0, 1 / (1 + np.exp(-z)), np.exp(z) / (1 + np.exp(z)))),
    "log_sigmoid": lambda z: np.asarray(np.minimum(z, 0) - np.log1p(np.exp(-np.abs(z)))),
    "log": lambda p: np.asarray(np.log(p)),
    "logit": lambda p: np.asarray(np.log(p) - np.log1p(-p)),
    "exp": lambda v: np.asarray(np.exp(v)),
    "logit of exp": lambda v: np.asarray(v - np.log(-np.expm1(v))),
}
