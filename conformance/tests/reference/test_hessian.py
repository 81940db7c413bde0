"""Second derivatives: the exact answer, its budget and the conventions about them."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conformance.judging.effects import answer_by, has_effect, tolerance_by
from conformance.model.case import Problem
from conformance.model.convention import DEFINITION, Convention
from conformance.reference.flat_problem import flatten, without_logits
from conformance.reference.oracle import Exact, Oracle, Undefined
from conformance.tests.stated import case

installed = pytest.mark.skipif(importlib.util.find_spec("xgboost") is None, reason="xgboost is not installed")
Z = np.random.default_rng(7).standard_normal((4, 3)) * 3
LABELS = [0, 2, 1, 1]
WEIGHTS = {"sample_weights": [0.5, 2.0, 0.0, 1.25], "class_weights": [1.0, 0.25, 3.0]}
BINARY: dict[str, Any] = {"loss": "binary", "target": "binary"}


def due(problem: Problem, convention: Convention = DEFINITION, quantity: Any = "hessian") -> Any:
    found = answer_by(problem, convention, quantity, Oracle())
    assert isinstance(found, Exact)
    return found.hi


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize(
    "stated",
    [
        case(Z, LABELS),
        case(Z, LABELS, options=WEIGHTS | {"label_smoothing": 0.2}),
        case(Z, [0, -100, 1, 1], options={"ignore_index": -100}),
        case(Z[:, 0], [0, 1, 1, 0], options={"positive_weight": np.array(3.0), "label_smoothing": 0.1}, **BINARY),
    ],
    ids=["plain", "weighted", "ignored", "binary"],
)
def test_second_derivative_is_the_difference_quotient_of_the_gradient(stated, reduction):
    problem, step = stated.problem("float64", reduction), 1e-5
    found = due(problem)
    for index in np.ndindex(found.shape):
        sides = []
        for sign in (1, -1):
            moved = problem.predictions.copy()
            moved[index] += sign * step
            sides.append(due(replace(problem, predictions=moved), quantity="gradient")[index])
        assert found[index] == pytest.approx((sides[0] - sides[1]) / (2 * step), abs=1e-8)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_tolerance_allows_only_closed_form_in_the_dtype(dtype, reduction):
    problem = case(Z, LABELS, options=WEIGHTS, dtypes=(dtype,)).problem(dtype, reduction)
    exact, allowed = due(problem), tolerance_by(problem, DEFINITION, "hessian")
    x = problem.predictions
    e = np.exp(x - x.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    weights = np.asarray(problem.options.class_weights)[LABELS] * np.asarray(problem.options.sample_weights)
    divisor = weights.sum() if reduction == "mean" else x.dtype.type(1)
    found = (p * (1 - p) * weights[:, np.newaxis] / divisor).astype(np.float64)
    ordinary = np.abs(exact) > allowed
    assert np.all(np.abs(found - exact)[p.astype(np.float64) < 0.9] <= allowed[p.astype(np.float64) < 0.9])
    assert not np.any((np.abs(2 * exact - exact) <= allowed)[ordinary])


def test_large_probability_is_subtracted_from_one_without_cancellation():
    problem = case([[40.0, 0.0]], [1]).problem("float64", "sum")
    assert due(problem)[0] == pytest.approx([np.exp(-40.0)] * 2, rel=1e-14)
    of_output = case([40.0, -40.0], [1, 1], **BINARY).problem("float64", "sum")
    assert due(of_output) == pytest.approx([np.exp(-40.0)] * 2, rel=1e-14)


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({"hessian_factor": 2.0}, [4.0, 0.5]),
        ({"hessian_factor": "classes"}, [3.0, 0.375]),
        ({"hessian_floor": 1.0}, [9.0, 1.125]),
        ({"hessian_floor": 1.0, "hessian_floor_of": "weighted"}, [2.0, 1.0]),
    ],
)
def test_factor_and_floor_of_a_convention(choices, expected):
    # Three classes of one logit have p (1 - p) = 2/9; weights of 9 and 9/8 make 2 and 1/4 of it.
    problem = case(np.zeros((2, 3)), [0, 1], options={"sample_weights": [9.0, 1.125]}).problem("float64", "sum")
    assert due(problem, Convention(**choices))[:, 0] == pytest.approx(expected)


def test_second_derivative_is_not_defined_in_probabilities():
    problem = case([[0.25, 0.75]], [0], input_kind="probabilities").problem("float64", "mean")
    assert isinstance(answer_by(problem, DEFINITION, "hessian", Oracle()), Undefined)


def test_nan_logit_has_no_second_derivative_in_its_row():
    problem = case([[np.nan, 0.0], [0.0, 0.0]], [0, 1]).problem("float64", "sum")
    assert np.array_equal(np.isnan(due(problem)), [[True, True], [False, False]])


def test_fields_about_second_derivatives_have_an_effect_on_nothing_else():
    problem = case(Z, LABELS).problem("float64", "sum")
    convention = Convention(hessian_factor=2.0, gradient_total="one")
    assert [has_effect("hessian_factor", convention, problem, name) for name in ("loss", "gradient", "hessian")] == [
        False,
        False,
        True,
    ]
    assert not has_effect("gradient_total", convention, problem, "hessian")


# Probabilities that logits are turned into.


def test_log_floor_bounds_tolerance_of_saturated_sigmoid():
    problem = case([-200.0, 20.0], [1, 0], **BINARY).problem("float32", "none")
    convention = Convention(logits_as="probabilities", log_floor=-36.0)
    assert due(problem, convention, "loss") == pytest.approx([36.0, 20.0])
    # The float32 nearest to sigmoid(20) is 1: anything from the exact loss to the floor may come of it.
    allowed = tolerance_by(problem, convention, "loss")
    assert allowed[1] == pytest.approx(16.0, rel=1e-3)
    assert allowed[0] < 1e-4
    assert tolerance_by(problem, DEFINITION, "loss")[1] < 1e-4


@pytest.mark.parametrize(
    ("choices", "of_logits", "of_gradient"),
    [
        ({}, 50.0, -1.0),
        ({"clip": 1e-7}, -np.log(float(np.float32(1e-7))), 0.0),
        ({"log_floor": -10.0}, 10.0, 0.0),
    ],
)
def test_clip_and_floor_of_softmax_follow_convention(choices, of_logits, of_gradient):
    problem = case([[50.0, 0.0, 0.0]], [1]).problem("float32", "sum")
    convention = Convention(logits_as="probabilities", **choices)
    assert float(due(problem, convention, "loss")) == pytest.approx(of_logits, rel=1e-6)
    assert due(problem, convention, "gradient")[0, 1] == pytest.approx(of_gradient)


def test_converted_probabilities_are_read_as_they_are_and_rows_divided_by_their_sum():
    plain = case([[0.25, 0.25]], [0], input_kind="probabilities").problem("float64", "mean")
    convention, kind = without_logits(plain, Convention(logits_as="probabilities", clip=0.3), "logits")
    assert (convention.renormalise, convention.logits_as, kind) == ("before_clip", "logits", "probabilities")
    found = Oracle().converted(plain, Convention(logits_as="probabilities", clip=0.3), "logits")
    assert isinstance(found, Exact)
    assert float(found.hi) == pytest.approx(np.log(2))
    assert flatten(plain, Convention(clip=0.3)).clip == (0.3, 0.7)


# Inputs that are narrowed one by one, and labels that a function leaves open.


@pytest.mark.parametrize(
    ("name", "changed"), [("labels_narrowed_to", "labels"), ("weights_narrowed_to", "sample_weights")]
)
def test_kinds_of_input_are_narrowed_separately(name, changed):
    stated = case([0.3, -1.7], [0.1, 0.7], options={"sample_weights": [0.1, 0.7]}, loss="binary", target="binary")
    problem, convention = stated.problem("float64", "sum"), Convention(**{name: "float32"})
    by_hand = {"labels": np.float32([0.1, 0.7]).astype(np.float64)}
    if changed == "sample_weights":
        by_hand = {"options": replace(problem.options, sample_weights=by_hand["labels"])}  # type: ignore[dict-item]
    assert has_effect(name, convention, problem, "loss")
    assert due(problem, convention, "loss") == due(replace(problem, **by_hand), DEFINITION, "loss")
    assert due(problem, convention, "loss") != due(problem, DEFINITION, "loss")
    # The budget stays that of float64.
    assert float(tolerance_by(problem, convention, "loss")) < 1e-14
    assert not has_effect(name, convention, stated.problem("float32", "sum"), "loss")


def test_unspecified_label_has_no_answer():
    problem = case(Z, [0, 7, 1, 1]).problem("float64", "sum")
    found = answer_by(problem, Convention(out_of_range="unspecified"), "loss", Oracle())
    assert isinstance(found, Undefined)
    assert "unspecified" in found.why
    inside = case(Z, LABELS).problem("float64", "sum")
    assert due(inside, Convention(out_of_range="unspecified"), "loss") == due(inside, DEFINITION, "loss")
