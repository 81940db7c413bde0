"""The one conversion a prediction may need: softmax, sigmoid, log, ... rounded once, and recorded.

A function that takes only probabilities is handed the softmax of a case's logits, and so on.  Each
value is the exact one rounded to the dtype (through ball arithmetic for float64, through float64 for
narrower dtypes), so that a bridge costs one rounding and never an implementation's own errors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from flint import arb, ctx

from conformance.case import Array, Given, Problem, numpy_dtype
from conformance.domain import numpy_info

CHUNK = 4096
PRECISION = 256

NAMES: dict[tuple[str, Given, Given], str] = {
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


def bridge(problem: Problem, given: Given) -> tuple[Problem, str]:
    """The problem with its predictions as `given`, and the name of the conversion ("" where none was needed)."""
    if problem.given == given:
        return problem, ""
    name = NAMES[problem.loss, problem.given, given]
    converted = problem.predictions if name == "as logits" else _convert(name, problem.predictions, problem.dtype)
    return dataclasses.replace(problem, given=given, predictions=converted), name


def unbridgeable(problem: Problem, given: Given) -> str | None:
    """Why a conversion would say another problem than the one that is asked; None where it would not."""
    x = problem.predictions
    with np.errstate(invalid="ignore"):
        if problem.given == "log_probabilities" and given == "probabilities" and bool(np.any(x > 0)):
            return "no probability has a positive logarithm"
        if problem.given == "logits" and given == "log_probabilities" and _overflow(x, problem.dtype):
            return "a logarithm of a probability is beyond what the dtype has"
        ends = (x == 0) | (x == 1) if problem.loss == "binary" else x == 0
        if problem.given == "probabilities" and given == "logits" and bool(np.any(ends)):
            return "a probability of 0 (or 1, of a single output) has no finite logit"
    return None


def _overflow(z: Array, dtype: str) -> bool:
    """Whether a finite logit, a row on the last axis, has a log-probability that is not finite in the dtype."""
    wide = np.where(np.isfinite(z), z, np.nan).astype(np.float64)
    with np.errstate(over="ignore"):
        spread = np.fmax.reduce(wide, axis=-1) - np.fmin.reduce(wide, axis=-1) + math.log(z.shape[-1])
    return bool(np.any(spread > numpy_info(dtype)[3]))


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
        top = arb(max(row))
        total = sum(((arb(z) - top).exp() for z in row if z != -math.inf), arb(0))
        log = total.log()
        if name == "softmax":
            return [float(((arb(z) - top).exp() / total).mid()) if z != -math.inf else 0.0 for z in row]
        return [float((arb(z) - top - log).mid()) if z != -math.inf else -math.inf for z in row]
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
