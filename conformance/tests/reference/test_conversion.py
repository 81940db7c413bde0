"""A conversion goes to the nearest number, keeps everything else, and its one rounding is paid for."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mpmath
import numpy as np
import pytest
from mpmath import mp, mpf

from conformance.adapters import registry
from conformance.casefiles import known_issues
from conformance.casefiles.loading import shipped_cases
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.model.case import INPUT_KINDS, LOSSES, MustRaise, Problem
from conformance.model.convention import DEFINITION
from conformance.reference import error_bound
from conformance.reference.conversion import NAMES, WEIGHT_DESCRIPTIONS, convert, convert_weights
from conformance.reference.oracle import Exact, Oracle, evaluate
from conformance.tests.stated import case, shipped

DTYPES = ("float16", "bfloat16", "float32", "float64")
WAYS = [(loss, input_kind, wanted) for loss, input_kind, wanted in NAMES]


def problem(loss: str, input_kind: str, dtype: str, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    widths = np.resize([0.1, 2.0, 9.0], 120)
    z = rng.normal(size=(120, 3)) * widths[:, np.newaxis] if loss == "categorical" else rng.normal(size=120) * widths
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) if loss == "categorical" else 1 / (1 + np.exp(-z))
    values = {"logits": z, "probabilities": p, "log_probabilities": np.log(p)}[input_kind]
    if loss == "categorical":
        return case(values, rng.integers(0, 3, 120), input_kind=input_kind).problem(dtype, "none")
    return case(values, rng.integers(0, 2, 120), loss=loss, target=loss, input_kind=input_kind).problem(dtype, "none")


def exactly(name: str, row: list[float]) -> list[Any]:
    """The conversion of one row in 60 digits, written as in a textbook."""
    z = list(map(mpf, row))
    one = {
        "sigmoid": lambda v: 1 / (1 + mpmath.exp(-v)),
        "log_sigmoid": lambda v: mpmath.log(1 / (1 + mpmath.exp(-v))),
        "log": mpmath.log,
        "logit": lambda p: mpmath.log(p / (1 - p)),
        "exp": mpmath.exp,
        "as logits": lambda v: v,
        "logit of exp": lambda v: mpmath.log(mpmath.exp(v) / (1 - mpmath.exp(v))),
    }
    if name in one:
        return [one[name](value) for value in z]
    softmax = [mpmath.exp(value) / sum(map(mpmath.exp, z)) for value in z]
    return softmax if name == "softmax" else [mpmath.log(p) for p in softmax]


def test_conversion_names_cover_every_pair_of_input_kinds():
    assert set(NAMES) == {(loss, a, b) for loss in LOSSES for a in INPUT_KINDS for b in INPUT_KINDS if a != b}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("loss", "input_kind", "expected"), WAYS)
def test_conversion_rounds_to_nearest(loss, input_kind, expected, dtype):
    asked = problem(loss, input_kind, dtype)
    if input_kind != "logits" and loss == "binary":
        inside = (
            asked.predictions.astype(float)
            if input_kind == "probabilities"
            else np.exp(asked.predictions.astype(float))
        )
        keep = (inside > 0) & (inside < 1)
        asked = dataclasses.replace(asked, predictions=asked.predictions[keep], labels=asked.labels[keep])
    handed, name = convert(asked, expected)
    assert name == NAMES[loss, input_kind, expected]
    got = handed.predictions
    assert got.dtype == asked.predictions.dtype
    rows = asked.predictions.reshape(-1, asked.predictions.shape[-1]).astype(np.float64).tolist()
    with mp.workdps(60):
        for row, converted in zip(rows, got.reshape(len(rows), -1).astype(np.float64).tolist(), strict=True):
            for exact, value in zip(exactly(name, row), converted, strict=True):
                if mpmath.isinf(exact):
                    assert exact == value
                    continue
                unit = float(np.spacing(np.abs(np.float64(value).astype(got.dtype))).astype(np.float64))
                # Half a unit; narrow types are rounded once more, from float64.
                assert abs(exact - value) <= unit * (0.5 if dtype == "float64" else 0.5 + 2.0**-25)


def test_conversion_to_same_kind_returns_problem_itself():
    asked = problem("categorical", "logits", "float32")
    assert convert(asked, "logits") == (asked, "")


def test_conversion_changes_only_predictions():
    asked = case(
        [[[0.5, 1.0], [2.0, -1.0]]], [[0, 1]], options={"class_weights": [1.0, 2.0], "label_smoothing": 0.1}
    ).problem("float32", "sum")
    before = asked.predictions.copy()
    handed, _ = convert(asked, "probabilities")
    changed = {f.name for f in dataclasses.fields(asked) if getattr(asked, f.name) is not getattr(handed, f.name)}
    assert changed == {"input_kind", "predictions"}
    assert handed.predictions.shape == (1, 2, 2)
    assert not handed.predictions.flags.writeable
    np.testing.assert_array_equal(asked.predictions, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("loss", "input_kind", "expected", "row", "want"),
    [
        ("categorical", "logits", "probabilities", [0.0, -math.inf], [1.0, 0.0]),
        ("categorical", "logits", "log_probabilities", [0.0, -math.inf], [0.0, -math.inf]),
        ("categorical", "logits", "probabilities", [math.inf, 0.0], [math.nan, math.nan]),
        ("categorical", "logits", "probabilities", [-math.inf, -math.inf], [math.nan, math.nan]),
        ("categorical", "logits", "probabilities", [math.nan, 0.0], [math.nan, math.nan]),
        ("categorical", "logits", "probabilities", [6e4, 6e4], [0.5, 0.5]),
        ("categorical", "probabilities", "logits", [1.0, 0.0], [0.0, -math.inf]),
        ("categorical", "log_probabilities", "probabilities", [0.0, -math.inf], [1.0, 0.0]),
        ("binary", "logits", "probabilities", [math.inf, -math.inf, math.nan], [1.0, 0.0, math.nan]),
        ("binary", "logits", "log_probabilities", [math.inf, -math.inf, -6e4], [0.0, -math.inf, -6e4]),
        ("binary", "probabilities", "logits", [0.0, 1.0, 0.5, math.nan], [-math.inf, math.inf, 0.0, math.nan]),
        ("binary", "log_probabilities", "logits", [0.0, -math.inf], [math.inf, -math.inf]),
    ],
)
def test_conversion_of_boundary_values(loss, input_kind, expected, row, want, dtype):
    binary = loss == "binary"
    values, labels = (row, [1] * len(row)) if binary else ([row], [0])
    asked = case(values, labels, loss=loss, input_kind=input_kind, target="binary" if binary else "index").problem(
        dtype, "none"
    )
    handed, _ = convert(asked, expected)
    rounded = np.array(want).astype(asked.predictions.dtype).astype(np.float64)
    np.testing.assert_array_equal(handed.predictions.reshape(-1).astype(np.float64), rounded)


@pytest.mark.parametrize("dtype", DTYPES)
def test_conversion_of_long_array_equals_that_of_its_rows(dtype):
    z = np.random.default_rng(1).normal(size=(5000, 2))
    whole, _ = convert(case(z, [0] * 5000).problem(dtype, "none"), "probabilities")
    end, _ = convert(case(z[-3:], [0] * 3).problem(dtype, "none"), "probabilities")
    np.testing.assert_array_equal(whole.predictions[-3:], end.predictions)


def from_given(handed: Problem) -> Any:
    """Losses of a plain problem in the dtype, straight from the predictions it was handed."""
    x, y = handed.predictions, handed.labels
    if handed.loss == "binary":
        if handed.input_kind == "logits":
            tail = np.log1p(np.exp(-np.abs(x)))
            return tail + np.maximum(np.where(y == 1, -x, x), x.dtype.type(0))
        p = x if handed.input_kind == "probabilities" else np.exp(x)
        return np.where(y == 1, -np.log(p), -np.log1p(-p))
    if handed.input_kind == "logits":
        d = x - x.max(axis=1, keepdims=True)
        return np.log(np.exp(d).sum(axis=1)) - d[np.arange(len(y)), y]
    picked = x[np.arange(len(y)), y]
    return -(np.log(picked) if handed.input_kind == "probabilities" else picked)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    ("loss", "input_kind", "expected"),
    [way for way in WAYS if way[0] == "categorical" or "log_probabilities" not in way],
)
def test_conversion_error_is_within_its_budget(loss, input_kind, expected, dtype):
    asked = problem(loss, input_kind, dtype, seed=4)
    handed, name = convert(asked, expected)
    exact = evaluate(asked)
    assert isinstance(exact, Exact)
    tolerance = error_bound.tolerance(handed, DEFINITION, asked)
    with np.errstate(all="ignore"):
        got = from_given(handed).astype(np.float64)
        # Where rounding the prediction lost the answer altogether, the difference is the conversion's, and reported.
        kept = np.isfinite(got) & np.isfinite(exact.hi) & _half_of_the_digits(handed)
        ratio = (np.abs(got - exact.hi) / np.where(tolerance == 0, 1.0, tolerance))[kept]
    assert kept.mean() > 0.5
    assert ratio.max() <= 1, name
    assert np.all(tolerance >= error_bound.tolerance(handed, DEFINITION))


def _half_of_the_digits(handed: Problem) -> Any:
    """Where rounding left a probability, and its complement, at least half of its digits."""
    if handed.input_kind != "probabilities":
        return np.ones(handed.sample_shape, dtype=bool)
    p, info = handed.predictions.astype(np.float64), np.finfo(handed.predictions.dtype)
    if handed.loss == "categorical":
        return p[np.arange(len(p)), handed.labels] > float(info.tiny)
    return (p > float(info.tiny)) & (1 - p > np.sqrt(float(info.eps)))


def test_log_softmax_of_confident_row_keeps_small_terms():
    handed, _ = convert(case([[200.0, 0.0]], [0]).problem("float64", "none"), "log_probabilities")
    assert handed.predictions[0, 0] == pytest.approx(-math.exp(-200.0), rel=1e-15)


def test_log_softmax_of_confident_row_breaks_tie_by_small_terms():
    handed, _ = convert(case([[1.0, -(2.0**53), -100.0]], [0]).problem("float64", "none"), "log_probabilities")
    assert handed.predictions[0, 1] == -(2.0**53) - 2  # -2^53 - 1 - exp(-101)


def weighted(options: dict[str, Any], **named: Any) -> Problem:
    logits = [[1.2, -0.3, 0.5], [0.1, 2.4, -1.3], [-0.6, 0.8, 1.9], [0.9, 0.2, -0.4]]
    dtype = named.pop("dtype", "float64")
    return case(logits, named.pop("labels", [2, 1, 2, 0]), options=options, **named).problem(dtype, "none")


def test_class_weights_become_those_of_the_labels():
    converted, name = convert_weights(weighted({"class_weights": [0.7, 1.9, 0.4]}), frozenset({"sample_weights"}))
    assert name == "class weights as sample weights"
    assert converted.options.names() == ("sample_weights",)
    np.testing.assert_array_equal(converted.options.sample_weights, [0.4, 1.9, 0.4, 0.7])


def test_sample_weights_become_those_of_their_classes():
    asked = weighted({"sample_weights": [0.4, 1.9, 0.4, 0.7]})
    converted, name = convert_weights(asked, frozenset({"class_weights"}))
    assert name == "sample weights as class weights"
    np.testing.assert_array_equal(converted.options.class_weights, [0.7, 1.9, 0.4])


def test_ignored_sample_may_have_any_weight():
    options = {"class_weights": [0.7, 1.9, 0.4], "ignore_index": -1}
    asked = weighted(options, labels=[2, -1, 2, 0])
    converted, _ = convert_weights(asked, frozenset({"sample_weights", "ignore_index"}))
    np.testing.assert_array_equal(converted.options.sample_weights, [0.4, 1.0, 0.4, 0.7])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"class_weights": [0.7, 1.9, 0.4], "label_smoothing": 0.1}, {}),
        ({"class_weights": [0.7, 0.0, 0.4]}, {}),
        ({"class_weights": [0.7, -1.9, 0.4]}, {}),
        ({"class_weights": [0.7, math.inf, 0.4]}, {"labels": [0, 0, 0, 0]}),
        ({"class_weights": [0.7, math.nan, 0.4]}, {"labels": [0, 0, 0, 0]}),
        ({"class_weights": [0.7, 1.9, 0.4]}, {"labels": [0, 1, 2, -1]}),
        ({"class_weights": [0.7, 1.9, 0.4]}, {"labels": [0, 1, 2, 3]}),
        ({"class_weights": [0.7, 1.9, 0.4]}, {"labels": [[0.5, 0.5, 0.0]] * 4, "target": "distribution"}),
        ({"class_weights": [0.7, 1.9, 0.4], "sample_weights": [0.3, 0.7, 0.9, 1.1]}, {}),
        ({"class_weights": [1e200, 1.0, 1.0], "sample_weights": [1.0, 1.0, 1.0, 1e200]}, {}),
    ],
)
def test_weight_conversion_rejects_weights_without_equivalent(options, named):
    asked = weighted(options, **named)
    assert convert_weights(asked, frozenset({"sample_weights", "ignore_index", "label_smoothing"})) == (asked, "")


def test_sample_weights_differing_within_class_have_no_class_weights():
    asked = weighted({"sample_weights": [0.4, 1.9, 0.5, 0.7]})
    assert convert_weights(asked, frozenset({"class_weights"})) == (asked, "")


@pytest.mark.parametrize("options", [frozenset(), frozenset({"class_weights", "sample_weights"})])
def test_weights_are_not_converted_if_both_or_none_are_supported(options):
    asked = weighted({"class_weights": [0.7, 1.9, 0.4]})
    assert convert_weights(asked, options) == (asked, "")


@pytest.fixture(scope="module")
def ledger():
    return known_issues.load(shipped_cases())


def test_definition_has_same_answer_for_both_forms_of_weights():
    answers = 0
    for one in shipped():
        if one.representative is not one or isinstance(one.expect, MustRaise):
            continue
        for asked in one.problems():
            for option in ("class_weights", "sample_weights"):
                converted, name = convert_weights(asked, frozenset({option, "ignore_index"}))
                if not name:
                    continue
                before, after = evaluate(asked), evaluate(converted)
                assert type(before) is type(after), asked.case
                if isinstance(before, Exact):
                    answers += 1
                    np.testing.assert_array_equal(before.hi, after.hi, asked.case)
    assert answers > 200


@pytest.mark.parametrize(
    ("function", "case_id", "reduction", "status", "convention"),
    [
        ("sklearn.log_loss", "weights_converted_probabilities/class_weights", "mean", "agrees", ""),
        ("sklearn.log_loss", "weights_converted_probabilities/both_kinds_of_weights", "sum", "agrees", ""),
        ("torch.CrossEntropyLoss", "weights_converted/samples_of_a_class_share_a_weight", "mean", "agrees", ""),
        (
            "keras.SparseCategoricalCrossentropy",
            "weights_converted/inverse_frequencies",
            "mean",
            "diverges",
            "mean_divides_by=kept",
        ),
        ("keras.SparseCategoricalCrossentropy", "weights_converted/inverse_frequencies", "none", "agrees", ""),
    ],
)
def test_conversion_of_weights_is_named_in_row(function, case_id, reduction, status, convention, ledger):
    available = [one for one in registry.installed()[0] if one.framework.name == function.partition(".")[0]]
    if not available:
        pytest.skip("not installed")
    [chosen] = [one for one in shipped() if one.id == f"categorical/{case_id}"]
    [item] = [
        item
        for item in plan([chosen], available)
        if (item.function.name, item.dtype, item.reduction) == (function, "float32", reduction)
    ]
    row = Judge(Oracle(), ledger).assess(item).row
    assert (row.status, row.convention) == (status, convention)
    assert row.bridge in WEIGHT_DESCRIPTIONS
    if status == "diverges":
        assert WEIGHT_DESCRIPTIONS[row.bridge] in row.explanation


def test_product_of_weights_of_unbatched_sample_is_an_array():
    options = {"class_weights": [2.5, 1.0], "sample_weights": np.array(2.0)}
    problem = case([0.5, 1.0], np.array(0), options=options).problem("float32", "mean")
    converted, _ = convert_weights(problem, {"sample_weights"})
    assert isinstance(converted.options.sample_weights, np.ndarray)
    assert converted.options.sample_weights == 5.0
