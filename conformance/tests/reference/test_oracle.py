"""The oracle against a second derivation, against hand-computed conventions, and against its own cache."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import sqlite3
import struct
import warnings
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from conformance.casefiles.generated_arrays import GeneratedCase
from conformance.model.case import Case, Layout, NoRightAnswer, Options, Problem
from conformance.model.convention import DEFINITION, Convention
from conformance.reference import oracle
from conformance.reference.cache import Cache, CacheWarning
from conformance.reference.domain import examine
from conformance.reference.oracle import Exact, Invalid, Oracle, Undefined, decode, encode, evaluate
from conformance.tests.stated import case, shipped

DIGITS = mpf(10) ** -30
LARGEST = 1_500
"""Numbers of the largest generated case that is derived a second time."""


# A second derivation: the textbook formulas of the definition in mpmath, sharing no code with the oracle.


class NoValueError(Exception):
    """The definition has none here."""


def textbook(problem: Problem) -> Any:
    """The losses as an object array of mpf, reduced; "invalid" or "undefined" where there are none."""
    with mp.workdps(60):
        if _invalid(problem):
            return "invalid"
        try:
            return _reduced(problem)
        except NoValueError:
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
    below = problem.input_kind == "probabilities" and bool(np.any(seen < 0))
    above = {"logits": math.inf, "probabilities": 1.0, "log_probabilities": 0.0}[problem.input_kind]
    return below or bool(np.any(seen > above))


def _reduced(problem: Problem) -> Any:
    pairs = _pairs(problem.unreduced)
    if problem.options.sample_weights is not None:
        s = _numbers(problem.options.sample_weights)
        s = np.broadcast_to(s.reshape(s.shape + (1,) * (len(problem.sample_shape) - s.ndim)), problem.sample_shape)
        # An ignored sample (None) stays out, whatever its weight.
        pairs = [
            (_times(w, pair[0]), pair[1] if pair[1] is None else _times(w, pair[1])) if pair else None
            for w, pair in zip(s.flat, pairs, strict=True)
        ]
    losses = [pair[0] if pair else mpf(0) for pair in pairs]
    if problem.reduction == "none":
        return np.array([*losses, None], dtype=object)[:-1].reshape(problem.sample_shape)
    total = _plus(losses)
    if problem.reduction == "sum":
        return np.array(total, dtype=object)
    if any(pair and pair[1] is None for pair in pairs):
        raise NoValueError
    divisor = _plus([pair[1] for pair in pairs if pair])
    if divisor == 0 or not mpmath.isfinite(divisor) or abs(divisor) <= _unsure(problem):
        raise NoValueError
    return np.array(total / divisor, dtype=object)


@functools.lru_cache(maxsize=2)
def _pairs(problem: Problem) -> list[Any]:
    """(loss, weight) of each sample, None where it is ignored; computed once for all reductions of a problem."""
    return _categorical(problem) if problem.loss == "categorical" else _binary(problem)


def _unsure(problem: Problem) -> Any:
    """What the roundings of the divisor may come to where weights of both signs are added up; -1 where they are not."""
    weights = {name: getattr(problem.options, name) for name in ("class_weights", "sample_weights")}
    sizes = {
        name: abs(found) for name, found in weights.items() if found is not None and np.any(found.astype(float) < 0)
    }
    if not sizes:
        return mpf(-1)
    same = dataclasses.replace(problem, options=dataclasses.replace(problem.options, **sizes))
    pairs = _pairs(same)
    s = same.options.sample_weights
    each = np.ones(problem.sample_shape) if s is None else s.astype(np.float64)
    each = np.broadcast_to(
        each.reshape(each.shape + (1,) * (len(problem.sample_shape) - each.ndim)), problem.sample_shape
    )
    size = _plus([_times(w, pair[1]) for w, pair in zip(_numbers(each).flat, pairs, strict=True) if pair])
    classes = problem.predictions.shape[-1] if problem.loss == "categorical" else 0
    unit = mpf(2) ** -{"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}[problem.dtype]
    averages = problem.target == "distribution" and problem.options.class_weights is not None
    return (len(pairs) + classes + (classes + 4) * averages + 8) * unit * size


def _categorical(problem: Problem) -> list[Any]:
    classes = problem.predictions.shape[-1]
    x = _numbers(problem.predictions).reshape(-1, classes)
    w = [mpf(1)] * classes if problem.options.class_weights is None else list(_numbers(problem.options.class_weights))
    weighs = problem.options.class_weights is not None
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
        if (
            problem.input_kind != "logits"
            and any(map(mpmath.isnan, row))
            and not any(mpmath.isnan(row[c]) for c in picked)
        ):
            raise NoValueError  # whether this nan counts is not for the definition to say
        if problem.input_kind == "logits" and not any(map(mpmath.isnan, row)) and max(row) in (mpmath.inf, -mpmath.inf):
            raise NoValueError  # inf/inf
        terms = [_times(_times(w[c], smoothed[c]), _minus_log(problem.input_kind, list(row), c)) for c in picked]
        found.append((_plus(terms), _average(w, smoothed, picked) if weighs else mpf(1)))
    return found


def _average(w: list[Any], q: list[Any], picked: list[int]) -> Any:
    """Of class weights over the targets of a row; None where these sum to 0 or less."""
    total = _plus([q[c] for c in picked])
    if total <= 0:
        return None
    return _plus([_times(w[c], q[c] / total) for c in picked])


def _minus_log(input_kind: str, row: list[Any], c: int) -> Any:
    if input_kind == "log_probabilities":
        return -row[c]
    if input_kind == "probabilities":
        return mpmath.inf if row[c] == 0 else -mpmath.log(row[c])
    if any(map(mpmath.isnan, row)):
        return mpmath.nan
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
        if problem.input_kind == "logits":
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
    if (mpmath.isinf(a) and b == 0) or (mpmath.isinf(b) and a == 0):
        raise NoValueError
    return a * b


def _plus(terms: list[Any]) -> Any:
    if any(map(mpmath.isnan, terms)):
        return mpmath.nan
    if mpmath.inf in terms and -mpmath.inf in terms:
        raise NoValueError
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
def test_oracle_agrees_with_second_derivation_on_every_case(dtype):
    problems = [
        whole.with_reduction(reduction)
        for found in shipped()
        if not isinstance(found, GeneratedCase) or found.recipe.classes * math.prod(found.recipe.shape) <= LARGEST
        if dtype in found.dtypes and not isinstance(found.expect, NoRightAnswer)
        for whole in [found.problem(dtype, "none")]
        if "shape_mismatch" not in examine(whole)
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
WEIGHT = st.sampled_from([0.0, 1.0, 0.5, 3.0, 0.1, 1.0, 2.0, 0.7, -1.0, math.nan])


@st.composite
def problems(draw: Any) -> Problem:
    """Any problem of up to 4 x 5, with every option, at the edges of the domain more often than not."""
    loss = draw(st.sampled_from(["categorical", "binary"]))
    input_kind = draw(st.sampled_from(["logits", "probabilities"] + ["log_probabilities"] * (loss == "categorical")))
    target = draw(st.sampled_from(["index", "distribution"])) if loss == "categorical" else "binary"
    least = 2 if loss == "categorical" else 1
    shape = draw(st.lists(st.integers(1, 4), min_size=least, max_size=3).map(tuple))
    shape = (*shape[:-1], draw(st.integers(1, 5)))
    samples = shape[:-1] if loss == "categorical" else shape

    def array(of: Any, expected: tuple[int, ...]) -> Any:
        size = math.prod(expected)
        return np.array(draw(st.lists(of, min_size=size, max_size=size)), dtype=np.float64).reshape(expected)

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
    made = case(array(value[input_kind], shape), labels, loss=loss, input_kind=input_kind, target=target)
    return dataclasses.replace(made, options=Options(**options)).problem(
        dtype, draw(st.sampled_from(["none", "sum", "mean"]))
    )


@settings(max_examples=600, deadline=None, derandomize=True)
@given(problems())
def test_oracle_agrees_with_second_derivation_on_random_problems(problem):
    assert difference(problem) == ""


@pytest.mark.parametrize(
    ("weights", "labels", "want"),
    [([math.inf, 1.0], [0], math.inf), ([1.0, math.inf], [0], 1.0), ([math.nan, 1.0], [0], math.nan)],
)
def test_oracle_applies_nonfinite_class_weights(weights, labels, want):
    problem = case([[-1.0, -2.0]], labels, input_kind="log_probabilities", options={"class_weights": weights})
    assert answer(problem, reduction="sum") == pytest.approx(want, abs=0, nan_ok=True)


@pytest.mark.parametrize("weight", [math.inf, math.nan])
def test_terms_with_factor_zero_are_excluded_for_any_weight(weight):
    by_class = {"class_weights": [2.0, weight]}
    index = case([[0.0, 1.0], [0.0, 1.0]], [0, 0], options=by_class)
    rows = case([[0.0, 1.0], [0.0, 1.0]], [[1, 0], [1, 0]], target="distribution", options=by_class)
    for reduction in ("sum", "mean"):
        assert (
            answer(rows, reduction=reduction)
            == answer(index, reduction=reduction)
            == pytest.approx(math.log1p(math.e) * (4 if reduction == "sum" else 1))
        )
    binary = {"loss": "binary", "target": "binary"}
    assert answer(case([0.0], [0.0], **binary, options={"positive_weight": [weight]})) == [pytest.approx(math.log(2))]
    ignored = case([[0.0, 0.0]] * 2, [0, -1], options={"ignore_index": -1, "sample_weights": [3.0, weight]})
    assert answer(ignored, reduction="mean") == pytest.approx(math.log(2))


@pytest.mark.parametrize("choice", ["nan", "zero", None])
def test_mean_is_undefined_if_sum_of_weights_is_not_finite(choice):
    weighted = case([[0.0, 0.0]] * 2, [0, 1], options={"sample_weights": [1.0, math.inf]})
    assert isinstance(answer(weighted, Convention(empty_mean=choice), reduction="mean"), Undefined)
    assert answer(weighted, reduction="sum") == math.inf


def test_zero_weight_times_infinite_loss_is_undefined():
    problem = case([[1.0, 0.0]], [1], input_kind="probabilities", options={"class_weights": [1.0, 0.0]})
    assert isinstance(evaluate(problem.problem("float64", "sum")), Undefined)


@pytest.mark.parametrize(
    ("dtype", "weights", "sure"),
    [
        ("float32", [0.1, 0.2, -0.3], False),  # 1.5e-8 is left, a unit in the last place
        ("float64", [0.1, 0.2, -0.3], False),
        ("float64", [0.1, 0.2, -0.3000001], True),
        ("float32", [0.1, 0.2, -0.3000001], False),
        ("float32", [1.0, 2.0, -3.0], False),
        ("float64", [-1.0, -2.0, -3.0], True),
    ],
)
@pytest.mark.parametrize("convention", [DEFINITION, Convention(empty_mean="nan")], ids=str)
def test_mean_is_undefined_if_weights_cancel_up_to_rounding(convention, dtype, weights, sure):
    weighted = case([[1.0, 0.0]] * 3, [0, 1, 1], options={"sample_weights": weights})
    assert isinstance(answer(weighted, convention, dtype, "mean"), float) == sure
    assert isinstance(answer(weighted, convention, dtype, "sum"), float)
    by_class = case([[1.0, 0.0, 2.0]] * 3, [0, 1, 2], options={"class_weights": weights})
    assert isinstance(answer(by_class, convention, dtype, "mean"), float) == sure


def test_mean_of_many_rows_with_negative_class_weights_is_defined():
    rows = 3000  # as many roundings of float16 are more than 1
    negative = case(
        [[-1.0, -2.0]] * rows, [[0.1, 0.3]] * rows, input_kind="log_probabilities", target="distribution",
        options={"class_weights": [-0.7, -0.3]},
    )  # fmt: skip
    w, q = (np.array(values, dtype=np.float16).astype(np.float64) for values in ([0.7, 0.3], [0.1, 0.3]))
    want = (w * q * [1, 2]).sum() / ((w * q).sum() / q.sum())
    assert answer(negative, dtype="float16", reduction="mean") == pytest.approx(want, rel=1e-12)


def test_mean_over_samples_is_defined_if_weights_cancel():
    weighted = case([[1.0, 0.0]] * 3, [0, 1, 1], options={"sample_weights": [0.1, 0.2, -0.3]})
    assert isinstance(answer(weighted, Convention(mean_divides_by="kept"), "float32", "mean"), float)


@pytest.mark.parametrize("losses", [[math.nan, 0.0], [0.0, math.nan], [math.inf, -math.inf, math.nan]])
def test_sum_with_nan_is_nan_in_any_order(losses):
    """Infinite losses of either sign: those of log-probabilities of -inf, by weights of either sign."""
    rows = [[-abs(loss), -1.0] for loss in losses]

    def summed(kept: list[int]) -> Any:
        weights = {"sample_weights": [math.copysign(1.0, losses[i]) for i in kept]}
        problem = case([rows[i] for i in kept], [0] * len(kept), input_kind="log_probabilities", options=weights)
        return answer(problem, reduction="sum")

    assert math.isnan(summed([0, 1, 2][: len(losses)]))
    assert isinstance(summed([i for i, loss in enumerate(losses) if not math.isnan(loss)]), Undefined) == (
        math.inf in losses
    )


# Conventions, one choice at a time, against numbers computed by hand.


def answer(of: Case, convention: Convention = DEFINITION, dtype: str = "float64", reduction: str = "none") -> Any:
    """The exact answer rounded to float64, as builtin values; Undefined and Invalid as they are."""
    found = evaluate(of.problem(dtype, reduction), convention)
    return found.hi.tolist() if isinstance(found, Exact) else found


# loss 0: 1 (3/4 1 1 + 1/4 2 3) = 9/4; loss 1: 3 (1/4 1 2 + 3/4 2 4) = 39/2; the third is ignored.
WEIGHTED = case(
    [[-1.0, -3.0], [-2.0, -4.0], [-5.0, -6.0]],
    [0, 1, -1],
    input_kind="log_probabilities",
    options={
        "class_weights": [1.0, 2.0], "sample_weights": [1.0, 3.0, 5.0], "label_smoothing": 0.5, "ignore_index": -1,
    },
)  # fmt: skip
LOSSES = Fraction(9, 4) + Fraction(39, 2)


@pytest.mark.parametrize(
    ("divisor", "counts"),
    [
        ("weight", Fraction(5, 4) + 3 * Fraction(7, 4)),
        ("target_weight", Fraction(5, 4) + 3 * Fraction(7, 4)),
        ("label_weight", 1 * 1 + 3 * 2),
        ("sample_weight", 1 + 3),
        ("kept", 2),
        ("samples", 3),
    ],
)
def test_mean_divides_by_each_choice(divisor, counts):
    convention = Convention(mean_divides_by=divisor)
    assert answer(WEIGHTED, convention, reduction="mean") == float(LOSSES / counts)
    assert answer(WEIGHTED, convention, reduction="sum") == float(LOSSES)
    assert answer(WEIGHTED, convention) == [2.25, 19.5, 0.0]


# Losses 1/2 1 + 1/4 2 = 1 and 1/2 2 + 1 4 = 5; with class weights 1/2 1 1 + 1/4 3 2 = 2 and 1/2 1 2 + 1 3 4 = 13.
ROW_SUM_TOLERANCE = {
    "predictions": [[-1.0, -2.0], [-2.0, -4.0]],
    "labels": [[0.5, 0.25], [0.5, 1.0]],
    "input_kind": "log_probabilities",
    "target": "distribution",
}


@pytest.mark.parametrize(
    ("options", "divisor", "mean"),
    [
        ({}, "weight", Fraction(6, 2)),
        ({}, "label_weight", Fraction(6, 2)),
        ({}, "target_weight", Fraction(6) / (Fraction(3, 4) + Fraction(3, 2))),
        ({"sample_weights": [3.0, 0.5]}, "weight", Fraction(11, 2) / Fraction(7, 2)),
        ({"class_weights": [1.0, 3.0]}, "weight", Fraction(15) / (Fraction(5, 3) + Fraction(7, 3))),
        ({"class_weights": [1.0, 3.0]}, "label_weight", Fraction(15) / (Fraction(5, 3) + Fraction(7, 3))),
        ({"class_weights": [1.0, 3.0]}, "target_weight", Fraction(15) / (Fraction(5, 4) + Fraction(7, 2))),
        ({"class_weights": [1.0, 3.0]}, "sample_weight", Fraction(15, 2)),
        ({"class_weights": [1.0, 3.0]}, "kept", Fraction(15, 2)),
    ],
)
def test_targets_not_summing_to_one_are_no_weights(options, divisor, mean):
    found = answer(case(**ROW_SUM_TOLERANCE, options=options), Convention(mean_divides_by=divisor), reduction="mean")
    assert found == float(mean)


# q' = 1/2 q + 1/4: 1/2, 3/8 and 1/2, 3/4; losses 5/4 and 4, with class weights 1/2 + 9/4 and 1 + 9.
@pytest.mark.parametrize(
    ("options", "divisor", "mean"),
    [
        ({}, "weight", Fraction(21, 8)),
        ({}, "target_weight", Fraction(21, 4) / (Fraction(7, 8) + Fraction(5, 4))),
        ({"class_weights": [1.0, 3.0]}, "weight", Fraction(51, 4) / (Fraction(13, 7) + Fraction(11, 5))),
        ({"class_weights": [1.0, 3.0]}, "label_weight", Fraction(51, 4) / (Fraction(5, 3) + Fraction(7, 3))),
        ({"class_weights": [1.0, 3.0]}, "target_weight", Fraction(51, 4) / (Fraction(13, 8) + Fraction(11, 4))),
    ],
)
def test_class_weights_are_averaged_over_smoothed_targets(options, divisor, mean):
    smoothed = case(**ROW_SUM_TOLERANCE, options={**options, "label_smoothing": 0.5})
    assert answer(smoothed, Convention(mean_divides_by=divisor), reduction="mean") == float(mean)


def test_unweighted_mean_counts_rows_for_any_targets():
    def mean(labels: Any) -> float:
        return answer(case([[0.0, 0.0]] * len(labels), labels, target="distribution"), reduction="mean")

    assert mean([[0.5, 0.4]]) == pytest.approx(0.62383, abs=5e-6)
    assert mean([[1.0, 1.0], [0.0, 1.0]]) == pytest.approx(1.5 * math.log(2), rel=1e-15)
    assert mean([[0.0, 0.0]]) == 0
    assert mean([[0.0, 0.0], [1.0, 0.0]]) == pytest.approx(math.log(2) / 2, rel=1e-15)
    assert math.isnan(mean([[math.nan, 0.4], [1.0, 0.0]]))


ACCEPTS = frozenset({"invalid_target"})


@pytest.mark.parametrize(
    ("labels", "sure"),
    [
        ([0.0, 0.0, 0.0], False),
        ([0.25, -0.5, 0.0], False),
        ([1.0, -1.0, 0.0], False),
        ([1.0, 2.0**-60, -1.0], True),
        ([1.0, -(2.0**-120), -1.0], False),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_class_weighted_mean_is_undefined_if_targets_sum_to_zero_or_less(labels, sure, dtype):
    weighted = case(
        [[-1.0, -2.0, -3.0]], [labels], input_kind="log_probabilities", target="distribution",
        options={"class_weights": [2.0, 2.0, 2.0]}, layout=Layout(label_dtype="float64"),
    )  # fmt: skip
    negative = min(labels) < 0
    if negative:
        assert answer(weighted, dtype=dtype, reduction="mean") == Invalid(("invalid_target",))
    for empty_mean in (None, "nan"):
        found = answer(weighted, Convention(accepts=ACCEPTS, empty_mean=empty_mean), dtype, "mean")
        assert isinstance(found, float) if sure else isinstance(found, Undefined) and "sum to 0 or less" in found.why
    assert isinstance(answer(weighted, Convention(accepts=ACCEPTS), dtype, "sum"), float)
    assert isinstance(answer(weighted, Convention(accepts=ACCEPTS, mean_divides_by="kept"), dtype, "mean"), float)
    problem = weighted.problem(dtype, "mean")
    assert (oracle.divisor(problem, Convention(accepts=ACCEPTS)) == 2) is sure


def test_smoothed_row_of_zeros_has_mean_of_class_weights():
    smoothed = {"class_weights": [1.0, 3.0], "label_smoothing": 0.5}
    zeros = case([[0.0, 0.0]] * 2, [[0.0, 0.0], [0.5, 0.5]], target="distribution", options=smoothed)
    problem = zeros.problem("float64", "mean")
    assert oracle.divisor(problem) == 4


def same_mean(one: Problem, other: Problem) -> bool:
    """Whether two problems have the same answer, or neither has one."""
    a, b = evaluate(one), evaluate(other)
    if not (isinstance(a, Exact) and isinstance(b, Exact)):
        return type(a) is type(b)
    if not np.isfinite(a.hi):
        return bool(np.array_equal(a.hi, b.hi, equal_nan=True))
    off = abs(float(a.hi - b.hi) + float(a.lo - b.lo))
    return off <= float(a.rad + b.rad) + 2.0**-98 * abs(float(a.hi))


def means(dtype: str) -> list[Problem]:
    """Every small shipped categorical case whose mean is asked for in a dtype."""
    return [
        found.problem(dtype, "mean")
        for found in shipped()
        if not isinstance(found, GeneratedCase)
        if found.loss == "categorical" and "mean" in found.reductions and dtype in found.dtypes
    ]


def with_options(problem: Problem, **options: Any) -> Problem:
    return dataclasses.replace(problem, options=dataclasses.replace(problem.options, **options))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("factor", [4.0, 0.125, -2.0])
def test_scaled_class_weights_have_same_mean(dtype, factor):
    weighted = [problem for problem in means(dtype) if problem.options.class_weights is not None]
    assert len(weighted) > 50
    for problem in weighted:
        weights = problem.options.class_weights
        assert same_mean(problem, with_options(problem, class_weights=weights * weights.dtype.type(factor)))


def test_unit_class_weights_have_unweighted_mean():
    compared = 0
    for problem in means("float64"):
        if problem.options.class_weights is None:
            ones = with_options(problem, class_weights=np.ones(problem.predictions.shape[-1]))
            if not isinstance(evaluate(ones), Undefined):  # a row of zeros counts, and has no average
                assert same_mean(problem, ones), problem.case
                compared += 1
    assert compared > 150


def test_label_has_same_mean_as_its_one_hot_row():
    compared = 0
    for problem in means("float32"):
        classes = problem.predictions.shape[-1]
        ignores = problem.options.ignore_index is not None
        if problem.target != "index" or ignores or isinstance(evaluate(problem), Invalid):
            continue
        rows = np.eye(classes, dtype=problem.predictions.dtype)[problem.labels]
        assert same_mean(problem, dataclasses.replace(problem, target="distribution", labels=rows)), problem.case
        compared += problem.options.class_weights is not None
    assert compared > 10


def probabilities(rows: Any, labels: Any, **stated: Any) -> Case:
    return case(rows, labels, input_kind="probabilities", **stated)


def logarithm(p: float) -> float:
    return float(-mpmath.log(mpf(p)))


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("float16", 2 * 2.0**-24, 1.0),
        ("bfloat16", 1.00117176771163940430e-07, 1.0),
        ("float32", float(np.float32(1e-7)), 1 - 2.0**-23),
        ("float64", 1e-7, 1 - 1e-7),
    ],
)
def test_clip_bounds_are_rounded_to_dtype(dtype, low, high):
    convention = Convention(clip=1e-7)
    at_the_ends = probabilities([[0.0, 1.0], [0.0, 1.0], [0.5, 0.5]], [0, 1, 0])
    assert answer(at_the_ends, convention, dtype) == [logarithm(low), logarithm(high), logarithm(0.5)]
    assert answer(at_the_ends) == [math.inf, 0.0, logarithm(0.5)]
    output = probabilities([0.0, 1.0], [1, 0], loss="binary", target="binary")
    complement = math.inf if high == 1 else logarithm(1 - high)
    assert answer(output, convention, dtype) == [logarithm(low), complement]


@pytest.mark.parametrize(("dtype", "epsilon"), [("float16", 2.0**-10), ("float32", 2.0**-23), ("float64", 2.0**-52)])
def test_clip_at_dtype_epsilon(dtype, epsilon):
    at_the_ends = probabilities([[0.0, 1.0], [0.0, 1.0]], [0, 1])
    assert answer(at_the_ends, Convention(clip="dtype"), dtype) == [logarithm(epsilon), logarithm(1 - epsilon)]


def test_clip_does_not_apply_to_logits():
    far = case([[0.0, 100.0]], [0])
    assert answer(far, Convention(clip=1e-7)) == [100.0]


def test_log_floor_bounds_losses():
    outputs = probabilities([0.0, 1.0, 1e-300, 0.5], [1, 0, 1, 1], loss="binary", target="binary")
    assert answer(outputs, Convention(log_floor=-100.0)) == [100.0, 100.0, 100.0, logarithm(0.5)]
    assert answer(outputs) == [math.inf, math.inf, logarithm(1e-300), logarithm(0.5)]


def test_log_offset_is_added_to_probabilities():
    outputs = probabilities([0.0, 1.0, 0.25, 0.25], [1, 1, 1, 0], loss="binary", target="binary")
    losses = [logarithm(2.0**-20), -math.log1p(2.0**-20), logarithm(0.25 + 2.0**-20), logarithm(0.75 + 2.0**-20)]
    assert answer(outputs, Convention(log_offset=2.0**-20)) == losses
    row = probabilities([[0.0, 0.5]], [0])
    assert answer(row, Convention(log_offset=0.25, clip=0.25)) == [logarithm(0.5)]
    assert answer(row, Convention(log_offset=0.25, log_floor=-1.0)) == [1.0]
    assert answer(probabilities([[0.0, 1.0]], [0]), Convention(log_offset=1e-12), "float16") == [math.inf]


def test_rows_are_renormalised_before_or_after_clip():
    rows = probabilities([[0.0, 0.5], [0.0, 0.5]], [0, 1])
    assert answer(rows, Convention(clip=0.125)) == [logarithm(0.125), logarithm(0.5)]
    before = Convention(clip=0.125, renormalise="before_clip")
    assert answer(rows, before) == [logarithm(0.125), logarithm(0.875)]
    after = Convention(clip=0.125, renormalise="after_clip")
    with mp.workdps(30):
        assert answer(rows, after) == [float(-mpmath.log(mpf(1) / 5)), float(-mpmath.log(mpf(4) / 5))]
    assert answer(rows, Convention(renormalise="before_clip")) == [math.inf, 0.0]


def test_binary_outputs_are_averaged_before_weighting():
    outputs = case(
        [[0.0, 0.0], [math.inf, -math.inf]], [[0, 1], [1, 0]], loss="binary", target="binary",
        options={"sample_weights": [3.0, 5.0]},
    )  # fmt: skip
    log2 = math.log(2)
    averaged = Convention(binary_outputs="mean_of_last_axis")
    assert answer(outputs) == pytest.approx(np.array([[3 * log2, 3 * log2], [0, 0]]), rel=1e-15)
    assert answer(outputs, averaged) == pytest.approx([3 * log2, 0], rel=1e-15)
    assert answer(outputs, averaged, reduction="sum") == pytest.approx(3 * log2, rel=1e-15)
    assert answer(outputs, reduction="sum") == pytest.approx(6 * log2, rel=1e-15)
    assert answer(outputs, averaged, reduction="mean") == pytest.approx(3 * log2 / 8, rel=1e-15)


def test_default_ignore_index_excludes_its_label():
    rows = case([[-1.0, -2.0], [-3.0, -4.0]], [0, -100], input_kind="log_probabilities")
    assert isinstance(answer(rows), Invalid)
    ignoring = Convention(default_ignore_index=-100)
    assert answer(rows, ignoring) == [1.0, 0.0]
    assert answer(rows, ignoring, reduction="mean") == 1.0


@pytest.mark.parametrize(("choice", "want"), [("wrap", 4.0), ("zero", 0.0), ("ignore", 0.0), ("nan", math.nan)])
def test_labels_outside_classes_follow_convention(choice, want):
    rows = case([[-1.0, -2.0], [-3.0, -4.0]], [0, -1], input_kind="log_probabilities")
    assert answer(rows) == Invalid(("label_out_of_range",))
    convention = Convention(out_of_range=choice)
    np.testing.assert_array_equal(answer(rows, convention), [1.0, want])
    mean = 1.0 if choice == "ignore" else (1.0 + want) / 2
    np.testing.assert_array_equal(answer(rows, convention, reduction="mean"), mean)


@pytest.mark.parametrize(("choice", "want"), [("nan", math.nan), ("zero", 0.0)])
def test_empty_mean_follows_convention(choice, want):
    rows = case([[-1.0, -2.0]], [-1], input_kind="log_probabilities", options={"ignore_index": -1})
    assert isinstance(answer(rows, reduction="mean"), Undefined)
    np.testing.assert_array_equal(answer(rows, Convention(empty_mean=choice), reduction="mean"), want)
    assert answer(rows, Convention(empty_mean=choice), reduction="sum") == 0.0


def test_empty_batch_may_stay_unreduced():
    empty = dataclasses.replace(
        case([], [], loss="binary", target="binary"), predictions=np.zeros(0), labels=np.zeros(0)
    )
    assert answer(empty, reduction="sum") == 0.0
    assert isinstance(answer(empty, reduction="mean"), Undefined)
    unreduced = Convention(empty_batch="unreduced")
    assert answer(empty, unreduced, reduction="sum") == []
    assert answer(empty, unreduced, reduction="mean") == []


@pytest.mark.parametrize(
    ("kind", "problem", "want"),
    [
        ("invalid_probability", probabilities([[1.5, 0.5]], [1]), [logarithm(0.5)]),
        ("invalid_probability", case([[0.5, -2.0]], [0], input_kind="log_probabilities"), [-0.5]),
        ("invalid_probability", case([[0.5, -2.0]], [1], input_kind="log_probabilities"), [2.0]),
        (
            "invalid_target",
            case([[-1.0, -2.0]], [[2.0, 0.5]], input_kind="log_probabilities", target="distribution"),
            [3.0],
        ),
        ("trailing_axis", case([[-1.0, -2.0]], [[1]], input_kind="log_probabilities"), [2.0]),
    ],
)
def test_accepted_invalid_input_is_evaluated_as_is(kind, problem, want):
    assert isinstance(answer(problem), Invalid)
    assert answer(problem, Convention(accepts=frozenset({kind}))) == want


@pytest.mark.parametrize(
    ("predictions", "options", "valid"),
    [
        ([[0.0, -1.0]], {}, True),
        ([[-0.0, -np.inf]], {}, True),
        ([[np.nan, -1.0]], {}, True),
        ([[2.0**-149, -1.0]], {}, False),
        ([[np.inf, -1.0]], {}, False),
        ([[0.5, 0.5], [-1.0, -1.0]], {"ignore_index": 0}, True),
        ([[-1.0, -1.0], [0.5, 0.5]], {"ignore_index": 0}, False),
    ],
)
def test_log_probability_above_zero_is_invalid(predictions, options, valid):
    stated = case(predictions, list(range(len(predictions))), input_kind="log_probabilities", options=options)
    assert isinstance(answer(stated), Invalid) is not valid


@pytest.mark.parametrize(
    "convention", [Convention(rejects=frozenset({"one_class"})), Convention(cancellation="logits")]
)
def test_numeric_choices_do_not_change_the_answer(convention):
    assert answer(WEIGHTED, convention) == answer(WEIGHTED)


def test_convention_rejects_unknown_input_anomalies():
    with pytest.raises(ValueError, match="unknown input anomalies"):
        Convention(rejects=frozenset({"full_moon"}))


# Enclosures


@settings(max_examples=150, deadline=None, derandomize=True)
@given(problems())
def test_enclosure_contains_high_precision_answer(problem):
    found = evaluate(problem)
    if not isinstance(found, Exact):
        return
    for ball, hi, lo, rad in zip(
        oracle.enclosure(problem, precision=4096), found.hi.flat, found.lo.flat, found.rad.flat, strict=True
    ):
        if isinstance(ball, float):
            assert str(ball) == str(float(hi))
        else:
            with oracle.ctx.workprec(4096):
                assert abs(ball - float(hi) - float(lo)) <= float(rad) + abs(ball) * oracle.arb(2) ** -3000
            assert rad <= abs(hi) * 2.0**-75 + 2.0**-100


def test_precision_is_raised_until_enclosure_is_narrow():
    tiny = case([[800.0, 0.0]], [0]).problem("float64", "none")
    exact = Fraction(int(mpmath.floor(mpmath.exp(-800) * mpf(10) ** 380)), 10**380)
    found = evaluate(tiny, max_radius=np.array([5e-324]))
    assert isinstance(found, Exact)
    # Smaller than any float64: the radius has to say so.
    assert abs(exact - Fraction(found.hi[0]) - Fraction(found.lo[0])) <= Fraction(found.rad[0])


def test_evaluation_raises_if_no_precision_suffices():
    with pytest.raises(ArithmeticError, match="a/b/c: the enclosure stays too wide"):
        evaluate(case([[0.5, 0.0]], [0]).problem("float64", "none"), max_radius=np.array([0.0]))


def test_certain_digits_are_common_to_the_enclosure():
    third = case([[-1.0, -2.0]], [[0.25, 0.75]], input_kind="log_probabilities", target="distribution")
    assert oracle.exact_digits(third.problem("float64", "none"), count=12) == ["1.75000000000"]
    exact = oracle.exact_digits(case([[0.0, 0.0]], [0]).problem("float64", "sum"), count=40)
    with mp.workdps(60):
        assert exact == mpmath.nstr(mpmath.log(2), 40)


# The cache


@pytest.mark.parametrize(
    "stored",
    [
        Exact(np.array(0.1), np.array(1e-20), np.array(1e-40)),
        Exact(np.array([[math.nan, -math.inf], [-0.0, 5e-324]]), np.zeros((2, 2)), np.full((2, 2), 1e-300)),
        Exact(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3))),
        Undefined("the mean divides by zero: nothing counts"),
        Invalid(("invalid_target", "label_out_of_range")),
    ],
    ids=["scalar", "special", "empty", "undefined", "invalid"],
)
def test_cache_encoding_round_trips_bit_for_bit(stored):
    again = decode(encode(stored))
    assert encode(again) == encode(stored)
    assert type(again) is type(stored)
    if isinstance(stored, Exact):
        for part in ("hi", "lo", "rad"):
            assert getattr(again, part).tobytes() == getattr(stored, part).tobytes()
            assert getattr(again, part).shape == getattr(stored, part).shape
    else:
        assert again == stored


PROBLEM = case([[0.3, -1.2, 0.8], [2.0, 0.1, -0.7]], [2, 0]).problem("float64", "mean")
OTHER = case([[0.3, -1.2, 0.8], [2.0, 0.1, -0.7]], [2, 1]).problem("float64", "mean")
RIGHT = encode(evaluate(PROBLEM))


def asked(path: Any, problem: Problem = PROBLEM) -> bytes:
    """The answer to a problem by an oracle that just opened the cache, as it would be stored."""
    cache = Cache(path)
    found = encode(Oracle(cache).answer(problem))
    cache.close()
    return found


@pytest.fixture
def filled(tmp_path):
    """A cache file that holds two answers."""
    path = tmp_path / "folder" / "oracle.sqlite"
    assert asked(path) == RIGHT
    assert asked(path, OTHER) != RIGHT
    return path


def test_cache_returns_stored_answers(filled, monkeypatch):
    monkeypatch.setattr(oracle, "evaluate", lambda *_: pytest.fail("evaluated again"))
    assert asked(filled) == RIGHT


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE answers SET value = substr(value, 1, 10)",
        "UPDATE answers SET value = x'55'",
        "UPDATE answers SET value = 'U'",
        "UPDATE answers SET checksum = ''",
        "UPDATE answers SET checksum = CAST(x'fffe' AS TEXT)",
        "UPDATE answers SET value = CAST(x'fffe' AS TEXT)",
        "UPDATE answers SET checksum = 3",
        "UPDATE answers SET value = (SELECT value FROM answers a WHERE a.key != answers.key),"
        " checksum = (SELECT checksum FROM answers a WHERE a.key != answers.key)",
    ],
    ids=["truncated", "replaced", "text", "unchecked", "no UTF-8", "value no UTF-8", "number", "swapped"],
)
@pytest.mark.filterwarnings("error")
def test_cache_replaces_damaged_entry(filled, damage, monkeypatch):
    with sqlite3.connect(filled) as database:
        database.execute(damage)
    database.close()
    assert asked(filled) == RIGHT
    monkeypatch.setattr(oracle, "evaluate", lambda *_: pytest.fail("not stored again"))
    assert asked(filled) == RIGHT


def planted(path, problem, entry):
    """The answer to a problem of an oracle whose cache has an entry for it, with the checksum of the cache."""
    cache = Cache(path)
    cache.put(oracle.answer_key(problem, Convention()), entry)
    cache.close()
    return asked(path, problem)


def exact_entry(hi, lo=0.0, rad=0.0):
    return encode(Exact(*(np.array(part, dtype=np.float64) for part in np.broadcast_arrays(hi, lo, rad))))


TRUE = decode(RIGHT).hi


@pytest.mark.parametrize(
    "entry",
    {
        "nothing": b"",
        "unknown kind": b"X" + RIGHT[1:],
        "one byte less": RIGHT[:-1],
        "one byte more": RIGHT + b"\0",
        "no shape": b"E",
        "more axes than bytes": b"E\xff",
        "negative length": b"E\x01" + struct.pack("<q", -1),
        "length beyond all memory": b"E\x02" + struct.pack("<2q", 2**40, 2**40),
        "text that is no text": b"U\xff\xfe",
        "undefined": encode(Undefined("because")),
        "invalid": encode(Invalid(("shape_mismatch",))),
        "another shape": exact_entry([TRUE, TRUE]),
        "nan": exact_entry(np.nan),
        "infinite": exact_entry(np.inf),
        "another number": exact_entry(TRUE * 1.001),
        "another sign": exact_entry(-TRUE),
        "negative radius": exact_entry(TRUE, 0.0, -1e-40),
        "radius that is nan": exact_entry(TRUE, 0.0, np.nan),
        "infinite radius": exact_entry(TRUE, 0.0, np.inf),
        "low part that is high": exact_entry(TRUE, 1.0),
        "low part that is nan": exact_entry(TRUE, np.nan),
        "right wherever asked": encode(Exact(TRUE, TRUE * 0, TRUE * 0, np.array(True))),
    }.values(),
    ids=lambda entry: entry[:12].hex(),
)
def test_cache_recomputes_implausible_entry(tmp_path, entry):
    assert planted(tmp_path / "oracle.sqlite", PROBLEM, entry) == RIGHT


def test_cache_recomputes_finite_entry_of_infinite_answer(tmp_path):
    infinite = case([[0.0, -np.inf]], [1]).problem("float64", "mean")
    assert planted(tmp_path / "oracle.sqlite", infinite, exact_entry(700.0)) == encode(evaluate(infinite))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize(
    "stated",
    [
        case([[0.3, -1.2, 0.8], [2.0, 0.1, -0.7]], [2, 0]),
        case([[1000.0, 0.0], [-1000.0, 0.0]], [1, 0]),
        case([[0.0, -np.inf], [0.0, 1.0]], [1, 0]),
        case([[0.0, np.nan], [0.0, 1.0]], [1, 0]),
    ],
    ids=["plain", "large", "infinite", "nan"],
)
def test_answers_are_possible_and_found_on_disk(tmp_path, stated, reduction, monkeypatch):
    problem = stated.problem("float64", reduction)
    path = tmp_path / "oracle.sqlite"
    first = asked(path, problem)
    monkeypatch.setattr(oracle, "evaluate", lambda *_: pytest.fail("evaluated again"))
    assert asked(path, problem) == first


@pytest.mark.parametrize("content", [b"", b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_cache_rebuilds_file_that_is_not_a_database(filled, content, monkeypatch):
    for file in filled.parent.iterdir():
        file.unlink()
    filled.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asked(filled) == RIGHT
        monkeypatch.setattr(oracle, "evaluate", lambda *_: pytest.fail("not stored again"))
        assert asked(filled) == RIGHT


def test_cache_rebuilds_table_with_another_schema(filled):
    with sqlite3.connect(filled) as database:
        database.execute("DROP TABLE answers")
        database.execute("CREATE TABLE answers (question TEXT)")
    database.close()
    assert asked(filled) == RIGHT
    assert asked(filled) == RIGHT


def test_cache_survives_damaged_pages(filled):
    content = bytearray(filled.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    filled.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert asked(filled) == RIGHT
    assert len(caught) <= 1


def unusable(tmp_path: Any, kind: str) -> Any:
    """Where a cache cannot be."""
    if kind == "a folder in place of the file":
        (tmp_path / "oracle.sqlite").mkdir()
    if kind == "a file in place of the folder":
        (tmp_path / "folder").write_text("")
        return tmp_path / "folder" / "oracle.sqlite"
    if kind == "a folder that cannot be written":
        (tmp_path / "folder").mkdir(mode=0o500)
        return tmp_path / "folder" / "oracle.sqlite"
    return tmp_path / "oracle.sqlite"


@pytest.mark.parametrize(
    "kind",
    [
        "a folder in place of the file",
        "a file in place of the folder",
        pytest.param(
            "a folder that cannot be written",
            marks=pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() == 0, reason="root can write everywhere"),
        ),
    ],
)
def test_unusable_cache_warns_once(tmp_path, kind):
    path = unusable(tmp_path, kind)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cache = Cache(path)
        found = Oracle(cache)
        assert encode(found.answer(PROBLEM)) == RIGHT
        found.answer(OTHER)
        found.flush()
        cache.close()
    (warning,) = caught
    assert warning.category is CacheWarning
    assert str(path) in str(warning.message)
    assert "CONFORMANCE_CACHE=off" in str(warning.message)


def test_cache_is_shared_with_another_process(tmp_path):
    path = tmp_path / "oracle.sqlite"
    one, two = Cache(path), Cache(path)
    one.put("a", b"1")
    two.put("b", b"2")
    one.flush()
    two.flush()
    assert (one.get("b"), two.get("a")) == (b"2", b"1")
    one.close()
    two.close()


def test_cache_entry_is_replaced_by_narrower_enclosure(tmp_path):
    path = tmp_path / "oracle.sqlite"
    small = case([[90.0, 0.0]], [0]).problem("float64", "sum")
    known = oracle.evaluate(small)
    wide = Exact(known.hi, np.zeros(()), np.array(1e-45))
    cache = Cache(path)
    cache.put(oracle.answer_key(small, Convention()), encode(wide))
    cache.flush()
    assert encode(Oracle(cache).answer(small, max_radius=np.array(1e-44))) == encode(wide)
    sharp = Oracle(cache).answer(small, max_radius=np.array(1e-60))
    cache.close()
    assert isinstance(sharp, Exact)
    assert sharp.rad <= 1e-60
    assert asked(path, small) == encode(sharp)


def test_cache_can_be_turned_off(monkeypatch):
    monkeypatch.setenv("CONFORMANCE_CACHE", "off")
    assert oracle.open_cache() is None


# Digests


def test_problem_digests_are_pinned():
    plain = case([[0.5, -1.5], [2.0, 0.25]], [1, 0])
    assert plain.digest == "e654673ccbd65290"
    assert WEIGHTED.digest == "0609776f94361b1d"
    assert plain.problem("float32", "none").with_reduction("mean").digest == plain.problem("float32", "mean").digest
    assert plain.problem("float32", "mean").digest == "819ef3ac1269cdf776f7048068aa8627"
    assert WEIGHTED.problem("bfloat16", "none").digest == "cf7ea3ae9de7a9331c3e063697ea99d1"
    assert (
        oracle.answer_key(plain.problem("float64", "mean"), DEFINITION)
        == f"{oracle.VERSION}:9539dbe36a90347edd9e347b54007cfc:18bb64598f2dcb13"
    )


def test_digest_depends_on_every_mathematical_field():
    base = WEIGHTED
    others = [
        dataclasses.replace(base, predictions=base.predictions + 2.0**-40),
        dataclasses.replace(base, predictions=base.predictions.reshape(1, 3, 2), labels=base.labels.reshape(1, 3)),
        dataclasses.replace(base, labels=np.array([1, 1, -1])),
        dataclasses.replace(base, input_kind="logits"),
        dataclasses.replace(base, target="distribution"),
        dataclasses.replace(base, loss="binary"),
        *(
            dataclasses.replace(base, options=dataclasses.replace(base.options, **{name: value}))
            for name, value in {
                "class_weights": None, "sample_weights": np.array([1.0, 3.0, 4.0]), "label_smoothing": 0.25,
                "ignore_index": -2, "positive_weight": np.array(1.0),
            }.items()
        ),
    ]  # fmt: skip
    assert len({one.digest for one in [base, *others]}) == len(others) + 1
    at = [one.problem("float64", "mean").digest for one in [base, *others]]
    at += [base.problem("float64", "sum").digest, base.problem("float32", "mean").digest]
    assert len(set(at)) == len(at)


def test_digest_ignores_descriptive_fields():
    text = dataclasses.replace(WEIGHTED, id="x/y/z", why="another", line=7, reductions=("none",), dtypes=("float16",))
    assert text.digest == WEIGHTED.digest
    laid_out = dataclasses.replace(WEIGHTED, layout=Layout(order="fortran", labels="column"))
    assert laid_out.digest != WEIGHTED.digest
    assert laid_out.problem("float32", "mean").digest == WEIGHTED.problem("float32", "mean").digest


def test_answer_key_depends_on_convention():
    problem = WEIGHTED.problem("float64", "mean")
    found = Oracle()
    one, two = (found.answer(problem, Convention(mean_divides_by=divisor)) for divisor in ("kept", "samples"))
    assert isinstance(one, Exact)
    assert isinstance(two, Exact)
    assert one.hi != two.hi
    keys = {oracle.answer_key(problem, convention) for convention in (
        DEFINITION, Convention(clip=1e-7), Convention(clip=1e-8), Convention(renormalise="after_clip"),
        Convention(accepts=frozenset({"trailing_axis"})), Convention(accepts=frozenset({"invalid_target"})),
    )}  # fmt: skip
    assert len(keys) == 6


# Predictions that are converted without rounding


@pytest.mark.parametrize(
    "convention",
    [
        Convention(clip=1e-7),
        Convention(log_floor=-3.0),
        Convention(log_offset=0.01),
        Convention(clip=0.2, renormalise="after_clip"),
        DEFINITION,
    ],
    ids=str,
)
@pytest.mark.parametrize("input_kind", ["logits", "log_probabilities"])
@pytest.mark.parametrize("loss", ["categorical", "binary"])
def test_converted_predictions_have_the_answer_of_the_probabilities(loss, input_kind, convention):
    p = np.array([[0.5, 0.25, 0.25], [0.9375, 0.0078125, 0.0546875]])
    labels = [0, 1]
    said = {}
    if loss == "binary":
        p, labels, said = p[:, 0], [0, 1], {"loss": "binary", "target": "binary"}
    values = (
        np.log(p) if input_kind == "log_probabilities" else np.log(p) - np.log1p(-p) if loss == "binary" else np.log(p)
    )
    want = evaluate(case(p, labels, input_kind="probabilities", **said).problem("float64", "none"), convention)
    found = evaluate(
        case(values, labels, input_kind=input_kind, **said).problem("float64", "none"),
        convention,
        taken_as="probabilities",
    )
    np.testing.assert_allclose(found.hi, want.hi, rtol=1e-14)


def test_logits_beyond_any_probability_are_converted_without_rounding():
    far = case([[0.0, 1e5]], [0]).problem("float64", "mean")
    assert evaluate(far, taken_as="probabilities").hi == 1e5
    assert evaluate(far, Convention(log_floor=-100.0), taken_as="probabilities").hi == 100.0
    assert evaluate(far, Convention(clip=1e-7), taken_as="probabilities").hi == pytest.approx(-math.log(1e-7))
    certain = case([1e3], [0], loss="binary", target="binary").problem("float64", "mean")
    assert evaluate(certain, taken_as="probabilities").hi == 1e3
    assert evaluate(certain, Convention(clip=1e-7), taken_as="probabilities").hi == pytest.approx(-math.log(1e-7))


@pytest.mark.parametrize("input_kind", ["probabilities", "log_probabilities"])
def test_rows_taken_as_logits_are_divided_by_their_sum(input_kind):
    p = np.array([[0.2, 0.3], [0.9, 0.9]])
    problem = case(p if input_kind == "probabilities" else np.log(p), [0, 1], input_kind=input_kind).problem(
        "float64", "none"
    )
    np.testing.assert_allclose(evaluate(problem, taken_as="logits").hi, -np.log([0.4, 0.5]), rtol=1e-14)
    np.testing.assert_allclose(evaluate(problem, taken_as="log_probabilities").hi, -np.log([0.2, 0.9]), rtol=1e-14)
    impossible = case([[-math.inf, -math.inf]], [0], input_kind="log_probabilities").problem("float64", "none")
    assert isinstance(evaluate(impossible, taken_as="logits"), Undefined)
