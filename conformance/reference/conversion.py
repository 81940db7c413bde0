"""The one conversion a prediction may need: softmax, sigmoid, log, ... rounded once, and recorded.

A function that takes only probabilities is passed the softmax of a case's logits, and so on.  Each
value is the exact one rounded to the dtype (through ball arithmetic for float64, through float64 for
narrower dtypes), so that a conversion costs one rounding and never an implementation's own errors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from flint import arb, ctx

from conformance.model.case import Array, InputKind, Problem, numpy_dtype
from conformance.model.convention import Convention
from conformance.reference.domain import dtype_info
from conformance.reference.flat_problem import flatten

CHUNK = 4096
PRECISION = 256

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

HANDED: dict[str, str] = {
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
"""What a function is passed instead of the case's predictions, by the name of the conversion."""


def convert(problem: Problem, input_kind: InputKind) -> tuple[Problem, str]:
    """The problem with its predictions converted, and the name of the conversion; "" if none is needed."""
    if problem.input_kind == input_kind:
        return problem, ""
    name = NAMES[problem.loss, problem.input_kind, input_kind]
    converted = problem.predictions if name == "as logits" else _convert(name, problem.predictions, problem.dtype)
    return dataclasses.replace(problem, input_kind=input_kind, predictions=converted), name


def conversion_obstacle(problem: Problem, input_kind: InputKind) -> str | None:
    """Why a conversion would change the problem; None if it would not."""
    x = problem.predictions
    with np.errstate(invalid="ignore"):
        if problem.input_kind == "log_probabilities" and input_kind == "probabilities" and bool(np.any(x > 0)):
            return "no probability has a positive logarithm"
        if problem.input_kind == "logits" and input_kind == "log_probabilities" and _overflow(x, problem.dtype):
            return "a logarithm of a probability is beyond what the dtype has"
    return None


def renormalises(problem: Problem, input_kind: InputKind) -> bool:
    """Whether a function that takes `input_kind` divides the probabilities of a row by their sum, which may not be 1.

    A softmax does so with log-probabilities that it takes as logits.  No other conversion changes an answer, but by
    its rounding.
    """
    return problem.loss == "categorical" and problem.input_kind != "logits" and input_kind == "logits"


def unchanging(problem: Problem, input_kind: InputKind) -> tuple[InputKind, ...]:
    """The input kinds that a problem can be converted to with rounding only, its own first."""
    kinds: tuple[InputKind, ...] = (problem.input_kind,)
    if renormalises(problem, input_kind):
        kinds = (*kinds, "log_probabilities" if problem.input_kind == "probabilities" else "probabilities")
    return tuple(kind for kind in kinds if kind == problem.input_kind or conversion_obstacle(problem, kind) is None)


def row_sums(problem: Problem) -> Array:
    """What the rows of a problem's probabilities, or of the exponentials of its log-probabilities, sum to."""
    x = problem.predictions.astype(np.float64)
    with np.errstate(all="ignore"):
        return np.asarray((np.exp(x) if problem.input_kind == "log_probabilities" else x).sum(axis=-1))


def destroyed(problem: Problem, converted: Problem, convention: Convention) -> tuple[str, ...]:
    """What the rounding of a conversion destroyed for good.

    One or two of `zero_probability` or `infinite_logarithm`, and `certain_probability`; or, where it is none of them,
    `digits_of_p` or `digits_of_1_minus_p`.  convention: says which predictions count.
    """
    kinds, binary = [problem.input_kind, converted.input_kind], problem.loss == "binary"
    likely, unlikely = _counting(converted, convention)
    before, after = (one.predictions.reshape(likely.shape).astype(np.float64) for one in (problem, converted))
    impossible, certain = ([ends[kind] for kind in kinds] for ends in (_IMPOSSIBLE, _CERTAIN))
    found = []
    if bool(np.any(likely & (after == impossible[1]) & (before != impossible[0]))):
        found.append("zero_probability" if converted.input_kind == "probabilities" else "infinite_logarithm")
    if bool(np.any((unlikely if binary else likely) & (after == certain[1]) & (before != certain[0]))):
        found.append("certain_probability")
    return tuple(found) or ("digits_of_1_minus_p" if binary else "digits_of_p",)


_IMPOSSIBLE: dict[InputKind, float] = {"logits": -math.inf, "probabilities": 0.0, "log_probabilities": -math.inf}
_CERTAIN: dict[InputKind, float] = {"logits": math.inf, "probabilities": 1.0, "log_probabilities": 0.0}


def _counting(problem: Problem, convention: Convention) -> tuple[Array, Array]:
    """Which predictions count as p, and which as 1 - p, shaped as the rows."""
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
    """Whether a finite logit, a row on the last axis, has a log-probability that is not finite in the dtype."""
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
        top, first = arb(max(row)), row.index(max(row))
        shifted = [None if z == -math.inf else arb(z) - top for z in row]
        terms = [arb(0) if d is None else d.exp() for d in shifted]
        # The largest term is 1; log1p of the others keeps what a confident row would lose in 1 + ...
        others = sum((term for c, term in enumerate(terms) if c != first), arb(0))
        if name == "softmax":
            return [float((term / (1 + others)).mid()) for term in terms]
        log = others.log1p()
        return [-math.inf if d is None else float((d - log).mid()) for d in shifted]
    return [_exact(name, value) for value in row]


def _exact(name: str, value: float) -> float:
    if not math.isfinite(value) or (name in ("log", "logit") and not 0 < value < 1) or (value == 0 and "exp" in name):
        with np.errstate(all="ignore"):
            return float(_FLOAT[name](np.array([[value]]))[0, 0])
    return float(_BALL[name](arb(value)).mid())


_BALL: dict[str, Callable[[Any], Any]] = {
    "sigmoid": lambda z: 1 / (1 + (-z).exp()),
    "log_sigmoid": lambda z: -((-z).exp().log1p()),
    "log": lambda p: p.log(),
    "logit": lambda p: p.log() - (-p).log1p(),
    "exp": lambda v: v.exp(),
    "logit of exp": lambda v: v - (-v.expm1()).log(),
}


def _log_softmax(z: Array) -> Array:
    top = z.max(axis=1, keepdims=True)
    d = z - top
    e = np.exp(d)
    # The largest term is 1; log1p of the others keeps what a confident row would lose in 1 + ...
    np.put_along_axis(e, np.argmax(d, axis=1)[:, np.newaxis], 0.0, axis=1)
    return np.where(np.isfinite(top), d - np.log1p(e.sum(axis=1, keepdims=True)), np.nan)


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
