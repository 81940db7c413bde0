"""Gradients against differences of the oracle's losses, in two arithmetics, at kinks, and through the whole flow."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from conformance.model.case import Case, Problem
from conformance.model.convention import DEFINITION, Convention
from conformance.reference import gradient, gradient_error_bound, oracle
from conformance.reference.domain import examine
from conformance.reference.oracle import Exact, Undefined
from conformance.tests.stated import case, shipped

STEP = 2.0**-14
ROOM = 2.0**16
"""Numbers that there have to be between two sides of an element."""
LEAST_CHANGE = 1e-25
"""Change of a loss that its digits, twice those of a float64, show well enough; slopes that change it less are left."""
LARGEST = 40
"""Predictions of the largest case that is differentiated numerically."""
CONVENTIONS = (
    DEFINITION,
    Convention(mean_divides_by="label_weight", default_ignore_index=-100),
    Convention(mean_divides_by="kept", clip=1e-7, renormalise="before_clip"),
    Convention(mean_divides_by="sample_weight", clip=1e-3, renormalise="after_clip"),
    Convention(mean_divides_by="target_weight", renormalise="before_clip"),
    Convention(mean_divides_by="samples", clip=1e-3, binary_outputs="mean_of_last_axis"),
    Convention(log_floor=-5.0, out_of_range="wrap"),
    Convention(log_offset=1e-2, clip=1e-3),
    Convention(log_offset=1e-2, renormalise="before_clip"),
    Convention(log_offset=1e-2, renormalise="after_clip", clip=1e-3),
    Convention(log_offset=0.1, log_floor=-1.5, logits_as="probabilities"),
    Convention(out_of_range="zero"),
)


def exact(problem: Problem, convention: Convention = DEFINITION) -> oracle.Answer:
    return gradient.answer(problem, convention, oracle.evaluate(problem, convention))


def small() -> list[Case]:
    found = [found for found in shipped() if found.predicted <= LARGEST]
    return [found for found in found if found.predicted and np.isfinite(found.predictions).all()]


def moved(problem: Problem, index: tuple[int, ...], step: float) -> Problem:
    x = problem.predictions.copy()
    x[index] += step
    return dataclasses.replace(problem, predictions=x)


def difference(problem: Problem, convention: Convention, index: tuple[int, ...], step: float) -> float:
    """The slope of the loss between two sides of an element, nan where there is none."""
    sides = [oracle.evaluate(moved(problem, index, side * step), convention) for side in (1, -1)]
    if not all(isinstance(side, Exact) for side in sides):
        return np.nan
    (up, up_rest), (down, down_rest) = ((float(side.hi), float(side.lo)) for side in sides)
    apart = float(problem.predictions[index] + step) - float(problem.predictions[index] - step)
    return ((up - down) + (up_rest - down_rest)) / apart


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda convention: str(convention) or "definition")
def test_gradient_is_slope_of_loss(convention):
    """On every third case, others for the next convention."""
    compared = 0
    for found in small()[CONVENTIONS.index(convention) % 3 :: 3]:
        problem = found.problem("float64", ("sum", "mean")[compared % 2])
        answer = exact(problem, convention)
        if not isinstance(answer, Exact) or examine(problem) & {"nan_prediction", "negative_weight"}:
            continue
        for index in list(np.ndindex(problem.predictions.shape))[:: max(1, found.predicted // 4)]:
            want = answer.hi[index]
            x = float(problem.predictions[index])
            step = STEP * (abs(x) < 1e6) if problem.input_kind == "logits" else STEP * min(x, 1 - x, 0.1) * (0 < x < 1)
            if problem.input_kind == "log_probabilities":
                step = STEP * min(-x, 1.0) if x < 0 else 0.0
            if not step or not np.isfinite(want) or (answer.unconstrained is not None and answer.unconstrained[index]):
                continue
            if step < ROOM * np.spacing(abs(x)):  # its two sides are not at the same distance, where they differ at all
                continue
            if abs(want) * step < LEAST_CHANGE:
                continue
            slope, finer = (difference(problem, convention, index, h) for h in (step, step / 2))
            if np.isfinite(slope) and np.isfinite(finer):
                # Of the remainder of order h^2 the finer one has a quarter; a kink in between has them disagree.
                rest = abs(slope - finer)
                assert abs(finer - want) <= 2 * rest + 1e-9 * (1 + abs(want)), (found.id, index, problem.reduction)
                compared += 1
    assert compared > 40


def test_closed_form_in_float64_is_within_tolerance_of_float64():
    compared = 0
    for found, convention in itertools.product(small(), (DEFINITION, CONVENTIONS[1], CONVENTIONS[4])):
        narrow = found.problem("float32", "sum")
        wide = dataclasses.replace(
            narrow,
            dtype="float64",
            predictions=narrow.predictions.astype(np.float64),
            labels=narrow.labels.astype(np.float64) if narrow.target != "index" else narrow.labels,
            options=narrow.options.rounded(np.dtype(np.float64)),
        )
        in_floats, in_balls = exact(narrow, convention), exact(wide, convention)
        assert type(in_floats) is type(in_balls)
        if isinstance(in_floats, Exact) and isinstance(in_balls, Exact):
            finite = np.isfinite(in_balls.hi)
            tolerance = 2 * gradient_error_bound.tolerance(wide, convention) + 1e-300
            with np.errstate(invalid="ignore"):
                off = np.abs(in_floats.hi - in_balls.hi)
            assert np.all(off[finite] <= np.broadcast_to(tolerance, off.shape)[finite]), found.id
            np.testing.assert_array_equal(in_floats.hi[~finite], in_balls.hi[~finite])
            compared += 1
    assert compared > 100


def test_ball_encloses_gradient_tightly():
    answer = exact(case(predictions=[[30.0, 0.0, -2.0]], labels=[0]).problem("float64", "sum"))
    assert isinstance(answer, Exact)
    assert np.all(answer.rad < 1e-25 * np.abs(answer.hi))
    rest = np.exp(-30.0) + np.exp(-32.0)
    assert answer.hi[0, 0] == pytest.approx(-rest / (1 + rest), rel=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_slope_is_undefined_at_end_of_clip_and_zero_beyond(dtype):
    stated = case(
        loss="binary", input_kind="probabilities", target="binary", predictions=[0.25, 0.1, 0.75], labels=[1, 1, 1]
    )
    answer = exact(stated.problem(dtype, "sum"), Convention(clip=0.25))
    assert isinstance(answer, Exact)
    assert answer.unconstrained is not None
    assert answer.unconstrained.tolist() == [True, False, True]
    assert answer.hi[1] == 0


def test_counted_probability_of_zero_has_infinite_slope():
    stated = case(input_kind="probabilities", predictions=[[0.0, 1.0, 0.0], [0.0, 0.5, 0.5]], labels=[0, 1])
    answer = exact(stated.problem("float64", "sum"))
    assert isinstance(answer, Exact)
    assert answer.hi.tolist() == [[-np.inf, 0, 0], [0, -2, 0]]


def test_ignored_sample_has_zero_gradient_for_any_content():
    stated = case(predictions=[[np.nan, np.inf], [0.0, 0.0]], labels=[-1, 0], options={"ignore_index": -1})
    answer = exact(stated.problem("float64", "mean"))
    assert isinstance(answer, Exact)
    assert answer.hi.tolist() == [[0, 0], [-0.5, 0.5]]


def test_counted_nan_has_nan_slope_for_any_weight():
    stated = case(
        input_kind="probabilities",
        predictions=[[np.nan, 0.5], [0.5, 0.5]],
        labels=[0, 1],
        options={"class_weights": [0, 1]},
    )
    answer = exact(stated.problem("float64", "sum"))
    assert isinstance(answer, Exact)
    np.testing.assert_array_equal(answer.hi, [[np.nan, 0], [0, -2]])


def test_clipped_prediction_beside_nan_has_unconstrained_slope():
    stated = case(input_kind="probabilities", predictions=[[1e-9, 0.5, np.nan]], labels=[2])
    answer = exact(stated.problem("float32", "sum"), Convention(clip=1e-7, renormalise="after_clip"))
    assert isinstance(answer, Exact)
    assert answer.unconstrained is not None
    assert answer.unconstrained.tolist() == [[True, False, True]]
    assert np.isnan(answer.hi[0, 1])


@pytest.mark.parametrize(("choice", "free"), [("nan", True), ("zero", False)])
def test_empty_mean_of_nan_has_no_slope(choice, free):
    options = {"class_weights": [0.0, 1.0], "label_smoothing": 0.5}
    problem = case(predictions=[[1.0, 0.0]], labels=[0], options=options).problem("float64", "mean")
    answer = exact(problem, Convention(mean_divides_by="label_weight", empty_mean=choice))
    assert isinstance(answer, Exact)
    assert (answer.unconstrained is not None and bool(answer.unconstrained.all())) == free
    assert answer.hi.tolist() == [[0, 0]]


def test_tolerance_covers_loss_of_subnormal_product():
    # 1 / D times a weight is 1.5 of the smallest float16, and rounded to 2 of them; so are T p and t before they are
    # divided by a small probability.
    least = 2.0**-24
    weighted = case(input_kind="log_probabilities", predictions=[[-1.0, -2.0]] * 2, labels=[0, 1],
                    options={"sample_weights": [3 * least, 3 * least]}).problem("float16", "mean")  # fmt: skip
    by_number = Convention(mean_divides_by="kept")
    answer = exact(weighted, by_number)
    assert isinstance(answer, Exact)
    assert np.all(
        np.abs(np.where(answer.hi < 0, -2 * least, 0) - answer.hi)
        <= gradient_error_bound.tolerance(weighted, by_number)
    )
    rows = case(input_kind="probabilities", predictions=[[1 - 2.0**-12, 2.0**-12]], labels=[0],
                options={"sample_weights": [2.0**-10]}).problem("float16", "sum")  # fmt: skip
    through = Convention(clip=1e-7, renormalise="after_clip", gradient_cancellation="targets")
    answer = exact(rows, through)
    assert isinstance(answer, Exact)
    lost = (least / 2) / 2.0**-12
    assert (
        gradient_error_bound.tolerance(rows, through)[0, 1]
        >= lost
        > 10 * gradient_error_bound.tolerance(rows, through)[0, 0]
    )


def test_tolerance_covers_cancellation_before_division_by_small_probability():
    # 201 steps over 4 outputs are 50.25 steps, which are 50; divided by p again they are 0.2488 and not 0.25.
    p, least = 201 * 2.0**-24, 2.0**-24
    outputs = {"loss": "binary", "input_kind": "probabilities", "target": "binary"}
    small = case([p, 0.5, 0.75, 0.25], [0, 1, 0, 0], **outputs).problem("float16", "mean")
    answer = exact(small)
    assert isinstance(answer, Exact)
    off, tolerance = np.abs(50 * least / p - answer.hi[0]), gradient_error_bound.tolerance(small, DEFINITION)
    assert off <= tolerance[0] < 10 * off
    assert tolerance[0] - least / p > tolerance[2] * answer.hi[0] / answer.hi[2]
    wide = dataclasses.replace(small, dtype="float32", predictions=small.predictions.astype(np.float32))
    assert off > 100 * gradient_error_bound.tolerance(wide, DEFINITION)[0]


def test_gradient_is_undefined_if_loss_is():
    stated = case(predictions=[[np.inf, 0.0]], labels=[0])
    assert isinstance(exact(stated.problem("float64", "sum")), Undefined)


def test_floored_denominator_follows_convention_not_definition():
    stated = case(loss="binary", input_kind="probabilities", target="binary", predictions=[0.0, 1.0], labels=[0, 1])
    problem = stated.problem("float32", "sum")
    plain, floored = exact(problem), exact(problem, Convention(gradient_floor=1e-12))
    assert isinstance(plain, Exact)
    assert isinstance(floored, Exact)
    assert plain.hi.tolist() == [1, -1]
    assert floored.hi.tolist() == [0, 0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("input_kind", ["logits", "log_probabilities"])
def test_tolerance_accepts_rounded_formula_and_rejects_wrong_one(dtype, input_kind):
    random = np.random.default_rng(5)
    z = random.normal(scale=8, size=(50, 7))
    z = z - np.log(np.exp(z).sum(axis=1, keepdims=True)) if input_kind == "log_probabilities" else z
    labels = random.integers(7, size=50)
    problem = case(input_kind=input_kind, predictions=z.tolist(), labels=labels.tolist()).problem(dtype, "mean")
    x = problem.predictions
    one = np.eye(7, dtype=x.dtype)[labels]
    if input_kind == "logits":
        e = np.exp(x - x.max(axis=1, keepdims=True))
        returned = (e / e.sum(axis=1, keepdims=True, dtype=x.dtype) - one) / x.dtype.type(50)
    else:
        returned = -one / x.dtype.type(50)
    answer = exact(problem)
    assert isinstance(answer, Exact)
    off = np.abs(returned.astype(np.float64) - answer.hi)
    usual = gradient_error_bound.tolerance(problem, Convention(gradient_cancellation="targets"))
    assert np.all(off <= usual)
    assert np.any(np.abs(returned.astype(np.float64) * 1.1 - answer.hi) > usual)
    right = np.abs(answer.hi) < 1e-3 / 50
    assert np.all((gradient_error_bound.tolerance(problem, DEFINITION) <= 1.1 * usual)[right])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_tolerance_holds_for_derivative_of_softplus(dtype):
    random = np.random.default_rng(7)
    z = np.concatenate([random.uniform(-40, 40, size=4000), random.normal(size=1000)])
    y = random.integers(2, size=z.size)
    problem = case(loss="binary", target="binary", predictions=z.tolist(), labels=y.tolist()).problem(dtype, "sum")
    x = problem.predictions
    zero = x.dtype.type(0)
    returned = np.where(y == 0, np.exp(x - np.logaddexp(x, zero)), -np.exp(-x - np.logaddexp(-x, zero)))
    assert returned.dtype == x.dtype
    answer = exact(problem)
    assert isinstance(answer, Exact)
    off = np.abs(returned.astype(np.float64) - answer.hi)
    allowed = gradient_error_bound.tolerance(problem, Convention(gradient_cancellation="logits"))
    assert np.all(off <= allowed)
    assert np.any(4 * off > allowed)
    assert bool(np.any(off > gradient_error_bound.tolerance(problem, DEFINITION))) == (dtype == "float64")
    small = np.abs(x) < 1
    assert np.all(allowed[small] <= 1.2 * gradient_error_bound.tolerance(problem, DEFINITION)[small])
