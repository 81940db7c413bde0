"""The oracle against a second derivation, against hand-computed conventions, and against its own cache."""

from __future__ import annotations

import dataclasses
import math
import os
import sqlite3
import warnings
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from conformance import oracle
from conformance.cache import Cache, CacheWarning
from conformance.case import Case, Layout, NoRightAnswer, Options, Problem
from conformance.convention import DEFINITION, Convention
from conformance.generate import GeneratedCase
from conformance.loading import load, shipped
from conformance.oracle import Exact, Invalid, Oracle, Undefined, decode, encode, evaluate

DIGITS = mpf(10) ** -30
LARGEST = 2_500
"""Numbers of the largest generated case that is derived a second time."""


def case(predictions: Any, labels: Any, **stated: Any) -> Case:
    """A case from lists, with what is usual left out."""
    options = {
        name: np.array(value, dtype=np.float64) if isinstance(value, list) else value
        for name, value in stated.pop("options", {}).items()
    }
    return Case(
        **{
            "id": "a/b/c", "why": "", "about": "", "source": "", "loss": "categorical", "given": "logits",
            "target": "index", "predictions": np.array(predictions, dtype=np.float64), "labels": np.array(labels),
            "options": Options(**options), **stated,
        }
    )  # fmt: skip


# A second derivation: the textbook formulas of the definition in mpmath, sharing no code with the oracle.


class NoValue(Exception):
    """The definition has none here."""


def textbook(problem: Problem) -> Any:
    """The losses as an object array of mpf, reduced; "invalid" or "undefined" where there are none."""
    with mp.workdps(60):
        if _invalid(problem):
            return "invalid"
        try:
            return _reduced(problem)
        except NoValue:
            return "undefined"


def _numbers(values: Any) -> Any:
    """Floats as mpf, exactly."""
    wide = np.asarray(values).astype(np.float64)
    return np.array([mpf(float(value)) for value in wide.reshape(-1)] + [None], dtype=object)[:-1].reshape(wide.shape)


def _invalid(problem: Problem) -> bool:
    x, y = problem.predictions.astype(np.float64), problem.labels
    index = problem.target == "index"
    if y.shape != (x.shape[:-1] if index else x.shape):
        return True
    counted = y != problem.options.ignore_index if index else np.ones(x.shape[:-1], dtype=bool)
    if index and np.any(counted & ((y < 0) | (y >= x.shape[-1]))):
        return True
    if not index and np.any((y.astype(np.float64) < 0) | (y.astype(np.float64) > 1)):
        return True
    seen = x[counted] if problem.loss == "categorical" else x
    return bool(problem.given == "probabilities" and np.any((seen < 0) | (seen > 1)))


def _reduced(problem: Problem) -> Any:
    categorical = problem.loss == "categorical"
    pairs = _categorical(problem) if categorical else _binary(problem)
    if problem.options.sample_weights is not None:
        s = _numbers(problem.options.sample_weights)
        s = np.broadcast_to(s.reshape(s.shape + (1,) * (len(problem.sample_shape) - s.ndim)), problem.sample_shape)
        # An ignored sample (None) stays out, whatever its weight.
        pairs = [(_times(w, pair[0]), _times(w, pair[1])) if pair else None for w, pair in zip(s.flat, pairs, strict=True)]
    losses = [pair[0] if pair else mpf(0) for pair in pairs]
    if problem.reduction == "none":
        return np.array([*losses, None], dtype=object)[:-1].reshape(problem.sample_shape)
    total = _plus(losses)
    if problem.reduction == "sum":
        return np.array(total, dtype=object)
    divisor = _plus([pair[1] for pair in pairs if pair])
    if divisor == 0 or not mpmath.isfinite(divisor):
        raise NoValue
    return np.array(total / divisor, dtype=object)


def _categorical(problem: Problem) -> list[Any]:
    classes = problem.predictions.shape[-1]
    x = _numbers(problem.predictions).reshape(-1, classes)
    w = [mpf(1)] * classes if problem.options.class_weights is None else list(_numbers(problem.options.class_weights))
    e = mpf(problem.options.label_smoothing or 0.0)
    if problem.target == "index":
        labels = problem.labels.reshape(-1).tolist()
        q = [None if k == problem.options.ignore_index else [mpf(c == k) for c in range(classes)] for k in labels]
    else:
        q = [list(row) for row in _numbers(problem.labels).reshape(-1, classes)]
    found: list[Any] = []
    for row, target in zip(x, q, strict=True):
        if target is None:
            found.append(None)
            continue
        smoothed = [(1 - e) * part + e / classes for part in target] if e else target
        picked = [c for c in range(classes) if smoothed[c] != 0]
        if problem.given != "logits" and any(map(mpmath.isnan, row)) and not any(mpmath.isnan(row[c]) for c in picked):
            raise NoValue  # whether this nan counts is not for the definition to say
        terms = [_times(_times(w[c], smoothed[c]), _minus_log(problem.given, list(row), c)) for c in picked]
        found.append((_plus(terms), _plus([_times(w[c], smoothed[c]) for c in picked])))
    return found


def _minus_log(given: str, row: list[Any], c: int) -> Any:
    if given == "log_probabilities":
        return -row[c]
    if given == "probabilities":
        return mpmath.inf if row[c] == 0 else -mpmath.log(row[c])
    if any(map(mpmath.isnan, row)):
        return mpmath.nan
    if max(row) in (mpmath.inf, -mpmath.inf):
        raise NoValue
    if row[c] == -mpmath.inf:
        return mpmath.inf
    # -log p_c = log sum_k exp(z_k - z_c), whose own term is 1.
    return mpmath.log1p(sum((mpmath.exp(z - row[c]) for k, z in enumerate(row) if k != c and z != -mpmath.inf), mpf(0)))


def _binary(problem: Problem) -> list[Any]:
    e = mpf(problem.options.label_smoothing or 0.0)
    positive = problem.options.positive_weight
    ones = np.ones(problem.predictions.shape)
    pos = _numbers(ones if positive is None else np.broadcast_to(positive.astype(np.float64), ones.shape))
    found: list[Any] = []
    for x, y, weight in zip(_numbers(problem.predictions).flat, _numbers(problem.labels).flat, pos.flat, strict=True):
        y = (1 - e) * y + e / 2 if e else y
        if mpmath.isnan(x) or mpmath.isnan(y):
            found.append((mpmath.nan, mpf(1)))
            continue
        if problem.given == "logits":
            on, off = (_softplus(-x), _softplus(x))
        else:
            on = mpmath.inf if x == 0 else -mpmath.log(x)
            off = mpmath.inf if x == 1 else -mpmath.log1p(-x)
        terms = [_times(_times(weight, y), on)] if y != 0 else []
        terms += [_times(1 - y, off)] if y != 1 else []
        found.append((_plus(terms), mpf(1)))
    return found


def _softplus(z: Any) -> Any:
    if mpmath.isinf(z):
        return mpmath.inf if z > 0 else mpf(0)
    return z + mpmath.log1p(mpmath.exp(-z)) if z > 0 else mpmath.log1p(mpmath.exp(z))


def _times(a: Any, b: Any) -> Any:
    if mpmath.isnan(a) or mpmath.isnan(b):
        return mpmath.nan
    if mpmath.isinf(a) and b == 0 or mpmath.isinf(b) and a == 0:
        raise NoValue
    return a * b


def _plus(terms: list[Any]) -> Any:
    if any(map(mpmath.isnan, terms)):
        return mpmath.nan
    if mpmath.inf in terms and -mpmath.inf in terms:
        raise NoValue
    return mpmath.fsum(terms)


def difference(problem: Problem) -> str:
    """What the oracle and the textbook do not agree on; "" if they agree to 30 digits."""
    second = textbook(problem)
    if isinstance(second, str):
        first: Any = evaluate(problem)
        kind = {Invalid: "invalid", Undefined: "undefined"}.get(type(first), "a value")
        return "" if kind == second else f"{problem.case} {problem.dtype} {problem.reduction}: {first} is not {second}"
    size = np.array([abs(float(v)) if mpmath.isfinite(v) else 1.0 for v in second.flat]).reshape(second.shape)
    first = evaluate(problem, DEFINITION, np.maximum(size * 1e-30, 1e-322))
    if not isinstance(first, Exact):
        return f"{problem.case} {problem.dtype} {problem.reduction}: {first} is not {second}"
    with mp.workdps(60):
        for want, hi, lo, rad in zip(second.flat, first.hi.flat, first.lo.flat, first.rad.flat, strict=True):
            if mpmath.isnan(want) or mpmath.isinf(want):
                same = str(mpf(float(hi))) == str(want)
            else:
                off = abs(mpf(float(hi)) + mpf(float(lo)) - want)
                same = off <= mpf(float(rad)) + DIGITS * abs(want)
            if not same:
                return f"{problem.case} {problem.dtype} {problem.reduction}: {hi!r} + {lo!r} is not {want}"
    return "" if first.hi.shape == second.shape else f"{problem.case}: shape {first.hi.shape} is not {second.shape}"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_agrees_with_a_second_derivation_on_every_case(dtype):
    problems = [
        found.problem(dtype, reduction)
        for found in load(shipped())
        if not isinstance(found, GeneratedCase) or found.recipe.classes * math.prod(found.recipe.shape) <= LARGEST
        if dtype in found.dtypes and not isinstance(found.expect, NoRightAnswer)
        for reduction in found.reductions
    ]
    assert len(problems) > 700
    assert list(filter(None, map(difference, problems))) == []


LOGIT = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(-50, 50, width=32),
    st.sampled_from([-1e3, 1e3, -700.0, 30.0, 1e-8, -0.0, 1e300, math.inf, -math.inf, math.nan]),
)
PROBABILITY = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, 0.25, 1e-7, 1 - 1e-7, 1e-45, 1e-300]),
    st.floats(0, 1, width=32),
    st.sampled_from([0.5, math.nan, 1.5, -0.25, math.inf]),
)
WEIGHT = st.sampled_from([0.0, 1.0, 0.5, 3.0, 0.1, 1.0, 2.0, 0.7, -1.0, math.nan, math.inf])


@st.composite
def problems(draw: Any) -> Problem:
    """Any problem of up to 4 x 5, with every option, at the edges of the domain more often than not."""
    loss = draw(st.sampled_from(["categorical", "binary"]))
    given_ = draw(st.sampled_from(["logits", "probabilities"] + ["log_probabilities"] * (loss == "categorical")))
    target = draw(st.sampled_from(["index", "distribution"])) if loss == "categorical" else "binary"
    least = 2 if loss == "categorical" else 1
    shape = draw(st.lists(st.integers(1, 4), min_size=least, max_size=3).map(tuple))
    shape = (*shape[:-1], draw(st.integers(1, 5)))
    samples = shape[:-1] if loss == "categorical" else shape

    def array(of: Any, wanted: tuple[int, ...]) -> Any:
        size = math.prod(wanted)
        return np.array(draw(st.lists(of, min_size=size, max_size=size)), dtype=np.float64).reshape(wanted)

    value = {"logits": LOGIT, "probabilities": PROBABILITY, "log_probabilities": st.one_of(st.floats(-80, 0), LOGIT)}
    labels: Any = array(st.sampled_from([0.0, 1.0, 0.25, 0.5, 0.1, 1.0, 0.0, math.nan]), shape)
    if target == "index":
        labels = array(st.integers(-1, shape[-1]), samples).astype(np.int64)
        labels = labels if draw(st.booleans()) else np.clip(labels, 0, shape[-1] - 1)
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        options["sample_weights"] = array(WEIGHT, samples if draw(st.booleans()) else samples[:1])
    if draw(st.booleans()):
        options["label_smoothing"] = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    if draw(st.booleans()) and loss == "categorical":
        options["class_weights"] = array(WEIGHT, shape[-1:])
    if draw(st.booleans()) and loss == "binary":
        options["positive_weight"] = array(WEIGHT, draw(st.sampled_from([(), shape[-1:]])))
    if draw(st.booleans()) and target == "index":
        options["ignore_index"] = draw(st.sampled_from([-1, 0, -100]))
    dtype = draw(st.sampled_from(["float16", "bfloat16", "float32", "float64"]))
    made = case(array(value[given_], shape), labels, loss=loss, given=given_, target=target)
    return dataclasses.replace(made, options=Options(**options)).problem(
        dtype, draw(st.sampled_from(["none", "sum", "mean"]))
    )


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(problems())
def test_it_agrees_with_a_second_derivation_on_any_problem(problem):
    assert difference(problem) == ""
