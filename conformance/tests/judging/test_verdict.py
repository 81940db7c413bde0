"""What is said about outcomes, one kind at a time, and what a failing test prints."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from typing import Any

import numpy as np
import pytest

from conformance.adapters.contract import Function
from conformance.adapters.registry import conventions, installed
from conformance.casefiles.known_issues import KnownIssue, Ledger
from conformance.judging.compare import compare, may_be_right, symptom_of_number
from conformance.judging.effects import (
    combined,
    effective_neighbours,
    has_effect,
    loss_choices,
    neighbours,
    with_numeric_choices,
)
from conformance.judging.judge import Assessment, Judge
from conformance.judging.plan import plan
from conformance.judging.row import COLUMNS
from conformance.judging.verdict import FAILING, STATUSES, Verdict, judge
from conformance.model.case import QUANTITIES, ByOracle, Case, Expectation, MustRaise, NoRightAnswer
from conformance.model.convention import DEFINITION, Convention
from conformance.model.outcome import Crashed, Outcome, Raised, Returned, TimedOut, Unsupported
from conformance.reference import error_bound
from conformance.reference.conversion import convert
from conformance.reference.oracle import Exact, Oracle, evaluate
from conformance.tests import miniatures
from conformance.tests.stated import case, shipped

FUNCTION = miniatures.Categorical.function()
PLAIN = case([[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]], [1, 0])


def judged(
    stated: Case,
    outcome: Outcome,
    documented: Convention = DEFINITION,
    *,
    expect: Expectation | None = None,
    handed: str = "",
    dtype: str = "float64",
    reduction: str = "mean",
    function: Function = FUNCTION,
    conventions: tuple[Convention, ...] = (),
) -> Verdict:
    asked = stated.problem(dtype, reduction)
    other = convert(asked, handed)[0] if handed else asked
    function = dataclasses.replace(function, input_kinds={handed: ""}) if handed else function
    return judge(asked, other, expect or stated.expect, function, documented, outcome, Oracle(), conventions)


def returned(value: Any, dtype: str = "float64", **said: Any) -> Returned:
    return Returned(np.asarray(value, dtype=np.float64), dtype, **said)


def exactly(stated: Case, convention: Convention = DEFINITION, dtype: str = "float64", reduction: str = "mean") -> Any:
    """The answer under a convention, rounded to the dtype."""
    found = evaluate(stated.problem(dtype, reduction), convention)
    assert isinstance(found, Exact)
    return found.hi.astype(dtype)


def test_statuses_include_failing_ones():
    assert set(STATUSES) >= FAILING
    assert len(STATUSES) == len(typing.get_args(Outcome)) + 1  # two of them disagree


# Values


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_rounded_exact_answer_agrees(dtype, reduction):
    got = returned(exactly(PLAIN, dtype=dtype, reduction=reduction), dtype)
    verdict = judged(PLAIN, got, dtype=dtype, reduction=reduction)
    assert verdict.status == "agrees"
    assert 0 < verdict.comparison.error_ratio < 1
    assert verdict.comparison.ulps <= 0.5
    assert (verdict.convention, verdict.explanation) == ("", "")


@pytest.mark.parametrize(
    ("budgets", "status"), [(0.98, "agrees"), (-0.98, "agrees"), (1.02, "disagrees"), (-3, "disagrees")]
)
def test_status_changes_at_one_budget(budgets, status):
    tolerance = float(error_bound.tolerance(PLAIN.problem("float32", "sum"), DEFINITION))
    verdict = judged(
        PLAIN,
        returned(evaluate(PLAIN.problem("float32", "sum")).hi + budgets * tolerance, "float32"),
        dtype="float32",
        reduction="sum",
    )
    assert verdict.status == status
    assert verdict.comparison.error_ratio == pytest.approx(abs(budgets), rel=1e-3)
    assert verdict.comparison.error == pytest.approx(abs(budgets) * tolerance, rel=1e-3)
    assert verdict.comparison.tolerance == tolerance


SMALL, LARGE = [20.0, -0.5], [0.5, 0.0]
"""Logits whose loss of class 0 a softmax in float32 may round to 0, and whose it may not."""


@pytest.mark.parametrize(
    ("rows", "labels", "options", "got", "status"),
    [
        ([SMALL], [0], {"sample_weights": [math.inf]}, [math.nan], "undefined"),
        ([SMALL], [0], {"sample_weights": [math.inf]}, [-math.inf], "undefined"),
        ([SMALL], [0], {"sample_weights": [math.inf]}, [math.inf], "agrees"),
        ([SMALL], [0], {"sample_weights": [math.inf]}, [0.0], "disagrees"),
        ([LARGE], [0], {"sample_weights": [math.inf]}, [math.nan], "disagrees"),
        ([SMALL, LARGE], [0, 0], {"sample_weights": [math.inf, 1.0]}, [math.nan, 0.47407698418], "undefined"),
        ([SMALL, LARGE], [0, 0], {"sample_weights": [math.inf, 1.0]}, [math.nan, math.nan], "disagrees"),
        ([SMALL, LARGE], [0, 0], {"sample_weights": [math.inf, 1.0]}, [math.nan, 0.48], "disagrees"),
        ([SMALL, LARGE], [0, 1], {"class_weights": [math.inf, 1.0]}, [math.nan, 0.97407698418], "undefined"),
        ([LARGE, SMALL], [0, 1], {"class_weights": [math.inf, 1.0]}, [math.nan, 20.5], "disagrees"),
        ([SMALL], [0], {"class_weights": [math.inf, 1.0], "label_smoothing": 0.5}, [math.nan], "undefined"),
        ([SMALL], [0], {"class_weights": [1.0, math.inf], "label_smoothing": 0.5}, [math.nan], "disagrees"),
    ],
)
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_infinite_weight_on_loss_rounded_to_0_need_not_be_infinite(rows, labels, options, got, status, reduction):
    stated = case(rows, labels, options=options)
    value = got if reduction == "none" else np.sum(got)
    if reduction == "sum" and len(rows) == 2 and status == "disagrees" and rows[0] is SMALL:
        status = "undefined"  # what else is wrong does not show in such a sum
    verdict = judged(stated, returned(value, "float32"), dtype="float32", reduction=reduction)
    assert verdict.status == status
    assert ("rounding may make 0" in verdict.explanation) == (status == "undefined")


@pytest.mark.parametrize(
    ("labels", "options", "status"),
    [
        ([[1.0, 0.0]], {"positive_weight": math.inf}, "undefined"),
        ([[0.5, 0.0]], {"positive_weight": math.inf}, "undefined"),
        ([[0.0, 1.0]], {"positive_weight": math.inf}, "disagrees"),
        ([[0.0, 0.0]], {"positive_weight": math.inf}, "disagrees"),
        ([[0.0, 0.0]], {"positive_weight": math.inf, "label_smoothing": 0.5}, "undefined"),
        ([[1.0, 0.0]], {"positive_weight": [1.0, math.inf]}, "disagrees"),
    ],
)
def test_infinite_positive_weight_on_loss_rounded_to_0_is_undefined(labels, options, status):
    options = {name: np.array(value) if name == "positive_weight" else value for name, value in options.items()}
    stated = case([[700.0, 0.0]], labels, loss="binary", target="binary", options=options)
    right = exactly(stated, dtype="float32", reduction="none")
    right[0, 0] = math.nan
    verdict = judged(stated, returned(right, "float32"), dtype="float32", reduction="none")
    assert verdict.status == status


def test_disagreement_states_position_and_distance():
    got = exactly(PLAIN, reduction="none")
    got[1] += 1e-3
    verdict = judged(PLAIN, returned(got), reduction="none")
    assert verdict.comparison.where == (1,)
    assert verdict.comparison.error == pytest.approx(1e-3)
    assert verdict.explanation.startswith(f"error of {verdict.comparison.error_ratio:.3g} times the tolerance at [1]")
    assert verdict.comparison.ulps == pytest.approx(1e-3 / np.spacing(got[1]), rel=1e-2)


@pytest.mark.parametrize(
    ("labels", "got", "within"),
    [
        ([0], math.inf, True),
        ([0], math.nan, False),
        ([0], 1e308, False),
        ([0], -math.inf, False),
        ([1], 0.0, True),
        ([1], -0.0, True),
        ([1], math.nan, False),
        ([1], 1e-300, False),
    ],
)
def test_nan_and_infinity_are_compared_as_values(labels, got, within):
    certain = case([[0.0, 1.0]], labels, input_kind="probabilities")
    verdict = judged(certain, returned(got), reduction="sum")
    assert verdict.status == ("agrees" if within else "disagrees")
    if not within and not math.isfinite(got - float(np.asarray(verdict.want.hi))):
        assert verdict.explanation.startswith(f"returned {got}, where {verdict.want.hi} is expected")


@pytest.mark.parametrize("unconstrained", [None, False, True])
@pytest.mark.parametrize("want", [math.nan, math.inf, -math.inf, 1.0])
@pytest.mark.parametrize("got", [math.nan, math.inf, -math.inf, 1.0, 2.0])
def test_impossible_result_exceeds_every_tolerance(got, want, unconstrained):
    mask = None if unconstrained is None else np.asarray(unconstrained)
    exact = Exact(np.asarray(want), np.zeros(()), np.zeros(()), mask)
    found = compare(np.asarray(got), exact, np.asarray(1e300), "float32")
    assert may_be_right(np.asarray(got), exact) == (unconstrained is True or math.isnan(got) == math.isnan(want))
    assert may_be_right(np.asarray(got), exact) or not found.within


@pytest.mark.parametrize("shape", [(), (1,)])
def test_finite_numbers_whose_difference_overflows_are_a_wrong_value(shape):
    exact = Exact(np.full(shape, -1.7e308), np.zeros(shape), np.zeros(shape))
    assert compare(np.full(shape, 1.7e308), exact, np.ones(shape), "float64").reason.code == "wrong_value"


@pytest.mark.parametrize("quantity", ["loss", "gradient"])
def test_known_conventions_are_tried_with_effective_fields(quantity):
    problem = case([[1.0, 2.0], [3.0, 1.0]], [0, 1]).problem("float32", "mean")
    documented = Convention(mean_divides_by="samples", label_shift=1)
    expected = {}
    for known, differing in neighbours(documented, conventions(), quantity):
        fields = [
            name for name in differing if any(has_effect(name, one, problem, quantity) for one in (known, documented))
        ]
        if fields:
            expected.setdefault(combined(documented, known, tuple(fields)), (known, tuple(fields)))
    found = effective_neighbours(documented, conventions(), problem, quantity)
    assert [(whole, (known, fields)) for whole, known, fields in found] == list(expected.items())


def test_nan_prediction_requires_nan():
    unknown = case([[math.nan, 0.0]], [0])
    assert judged(unknown, returned(math.nan)).status == "agrees"
    assert judged(unknown, returned(0.0)).status == "disagrees"


def test_infinity_is_accepted_beyond_dtype_range():
    large = case([[60000.0, -60000.0]], [1])
    assert judged(large, returned(math.inf, "float16"), dtype="float16").status == "agrees"
    assert judged(large, returned(-math.inf, "float16"), dtype="float16").status == "disagrees"
    assert judged(large, returned(math.inf, "float32"), dtype="float32").status == "disagrees"


@pytest.mark.parametrize("shape", [(2, 1), (1, 2), (1,), (), (4,), (2, 2)])
def test_shape_is_compared_before_values(shape):
    verdict = judged(PLAIN, returned(np.zeros(shape)), reduction="none")
    assert verdict.status == "disagrees"
    assert verdict.explanation.startswith(f"returned shape {shape}, where (2,) is expected")


def test_result_dtype_is_that_of_predictions_unless_documented():
    right = exactly(PLAIN, dtype="float32")
    verdict = judged(PLAIN, returned(right, "float64"), dtype="float32")
    assert (verdict.status, verdict.explanation) == ("disagrees", "returned float64, where float32 is expected")
    double = FUNCTION.__class__(**{**vars(FUNCTION), "result_dtype": "float64"})
    assert judged(PLAIN, returned(right, "float64"), dtype="float32", function=double).status == "agrees"
    assert judged(PLAIN, returned(right, "float32"), dtype="float32", function=double).status == "disagrees"


def test_mutated_argument_disagrees():
    verdict = judged(PLAIN, returned(exactly(PLAIN), mutated=("input", "weight")))
    assert verdict.status == "disagrees"
    assert verdict.explanation == "the call changed its argument input, weight in place"


# Conventions

EDGES = case(
    [[0.0, 1.0], [0.25, 0.75], [0.5, 0.5]], [0, 0, -1], input_kind="probabilities",
    options={"class_weights": [2.0, 1.0], "ignore_index": -1},
)  # fmt: skip
DOCUMENTED = Convention(mean_divides_by="kept", clip=1e-7, renormalise="before_clip", default_ignore_index=-100)


@pytest.mark.parametrize(
    ("part", "reduction", "named"),
    [
        (Convention(clip=1e-7), "sum", "clip=1e-07"),
        (Convention(clip=1e-7, mean_divides_by="kept"), "mean", "mean_divides_by=kept; clip=1e-07"),
    ],
)
def test_divergence_names_smallest_part_of_documented_convention(part, reduction, named):
    verdict = judged(EDGES, returned(exactly(EDGES, part, reduction=reduction)), DOCUMENTED, reduction=reduction)
    assert verdict.status == "diverges"
    assert verdict.convention == named
    assert verdict.explanation == f"as documented: {named}"
    assert verdict.want.hi == math.inf
    assert verdict.want_by_convention.hi == exactly(EDGES, part, reduction=reduction)
    assert verdict.comparison.within


def test_partly_documented_convention_disagrees():
    # It clips as documented, and divides as it does not document.
    got = exactly(EDGES, Convention(clip=1e-7, mean_divides_by="samples"))
    verdict = judged(EDGES, returned(got), DOCUMENTED)
    assert verdict.status == "disagrees"
    assert verdict.convention == ""
    assert "mean_divides_by=samples would explain it, but is not documented" in verdict.explanation


def test_disagreement_names_convention_that_would_explain_it():
    got = returned(exactly(EDGES, Convention(clip=1e-8), reduction="sum"))
    documented = Convention(clip=1e-7)
    verdict = judged(EDGES, got, documented, reduction="sum", conventions=(Convention(clip=1e-8, log_floor=-100.0),))
    assert verdict.status == "disagrees"
    assert verdict.explanation.endswith("clip=1e-08 would explain it, but is not documented")
    alone = judged(EDGES, got, documented, reduction="sum")
    assert alone.explanation.endswith("no known convention explains it")


@pytest.mark.parametrize(
    "choice", [{"clip": "dtype"}, {"hessian_factor": "classes"}, {"weights_narrowed_to": "bfloat16"}], ids=str
)
def test_choices_that_no_function_documents_are_tried(choice):
    assert (Convention(**choice), tuple(choice)) in neighbours(DEFINITION, (), "hessian")


@pytest.mark.parametrize("error", [1e-5, 1e-3])
def test_undocumented_narrow_computation_explains_no_wrong_value(error):
    verdict = judged(PLAIN, returned(exactly(PLAIN) * (1 + error)), conventions=(Convention(narrowed_to="float32"),))
    assert verdict.explanation.endswith("no known convention explains it")


def test_documented_convention_has_the_same_budget():
    documented = Convention(clip=1e-7)
    got = exactly(EDGES, documented, reduction="sum")
    tolerance = float(error_bound.tolerance(EDGES.problem("float64", "sum"), documented))
    assert judged(EDGES, returned(got + 0.9 * tolerance), documented, reduction="sum").status == "diverges"
    assert judged(EDGES, returned(got + 1.1 * tolerance), documented, reduction="sum").status == "disagrees"


def test_conversion_losing_digits_is_named_with_its_effect():
    far = case([[0.0, 200.0]], [0])
    got = returned(math.inf, "float32")
    verdict = judged(far, got, handed="probabilities", dtype="float32")
    assert (verdict.status, verdict.convention, verdict.effects) == ("diverges", "", "rounded_away")
    assert verdict.explanation.startswith(
        "conversion: it accepts only probabilities and is called with the softmax of the logits. Rounded to float32, "
        "a probability becomes 0, which changes the definition's answer from 200 to inf. "
        "No loss of this framework accepts such logits without conversion: float64 "
    )
    assert judged(far, got, dtype="float32").status == "disagrees"


def test_choice_hiding_loss_of_conversion_is_only_cause():
    far = case([[0.0, 200.0]], [0])
    documented = Convention(clip=1e-7)
    clipped = exactly(case([[0.0, 1.0]], [0], input_kind="probabilities"), documented, dtype="float32")
    verdict = judged(far, returned(clipped, "float32"), documented, handed="probabilities", dtype="float32")
    assert (verdict.status, verdict.convention, verdict.effects) == ("diverges", "clip=1e-07", "")
    assert verdict.explanation == "as documented: clip=1e-07"


def test_conversion_and_documented_choice_are_distinguished():
    certain = case([20.0, -200.0], [0, 1], loss="binary", target="binary")
    documented = Convention(log_floor=-100.0)
    # 1 - p is rounded to 0, whose logarithm counts as -100; log p = -200 counts as -100 with or without a conversion.
    verdict = judged(
        certain,
        returned([100.0, 100.0], "float32"),
        documented,
        handed="probabilities",
        dtype="float32",
        reduction="none",
    )
    assert (verdict.status, verdict.convention, verdict.effects) == ("diverges", "log_floor=-100.0", "rounded_away")
    conversion, _, choice = verdict.explanation.partition("; ")
    assert "1 - p becomes 0, which changes the documented answer at [0] from 20 to 100" in conversion
    assert choice == "as documented: log_floor=-100.0"
    alone = case([-200.0], [1], loss="binary", target="binary")
    verdict = judged(alone, returned(100.0, "float32"), documented, handed="probabilities", dtype="float32")
    assert (verdict.convention, verdict.effects) == ("log_floor=-100.0", "")


def test_conversion_is_named_if_it_alone_requires_choice():
    documented = Convention(mean_divides_by="kept", log_floor=-100.0)
    # sigmoid(20) is rounded to 1: without the floor its loss is infinite, and the weight of 0 leaves no answer.
    certain = case([20.0, -20.0], [0, 1], loss="binary", target="binary", options={"sample_weights": [0.0, 1.0]})
    verdict = judged(certain, returned(10.0, "float32"), documented, handed="probabilities", dtype="float32")
    choices = "mean_divides_by=kept; log_floor=-100.0"
    assert (verdict.status, verdict.convention, verdict.effects) == ("diverges", choices, "rounded_away")
    assert "1 - p becomes 0, which makes the answer undefined" in str(verdict.conversion)
    assert "as documented" not in str(verdict.conversion)
    assert verdict.explanation == f"conversion: {verdict.conversion!s}; as documented: {choices}"


def test_conversion_is_not_named_if_choice_is_needed_without_it():
    documented = Convention(mean_divides_by="kept", log_floor=-100.0)
    far = case([20.0, -200.0], [0, 1], loss="binary", target="binary", options={"sample_weights": [0.0, 1.0]})
    verdict = judged(far, returned(50.0, "float32"), documented, handed="probabilities", dtype="float32")
    choices = "mean_divides_by=kept; log_floor=-100.0"
    assert (verdict.status, verdict.convention, verdict.effects) == ("diverges", choices, "")
    mild = case([2.0, -20.0], [0, 1], loss="binary", target="binary", options={"sample_weights": [0.0, 1.0]})
    verdict = judged(mild, returned(10.0, "float32"), documented, handed="probabilities", dtype="float32")
    assert (verdict.convention, verdict.effects) == ("mean_divides_by=kept", "")


def test_conversion_effect_is_named_with_fewest_choices():
    documented = Convention(mean_divides_by="kept", log_floor=-20.000001)
    # The floor gives back what the rounding of the sigmoid took.
    certain = case([20.0, -1.0], [0, 1], loss="binary", target="binary", options={"sample_weights": [1.0, 3.0]})
    got = (20.0 + 3.0 * math.log1p(math.e)) / 2
    verdict = judged(certain, returned(got, "float32"), documented, handed="probabilities", dtype="float32")
    assert (verdict.convention, verdict.effects) == ("mean_divides_by=kept; log_floor=-20.000001", "rounded_away")
    assert f"changes the answer with mean_divides_by=kept alone from {got:.6g} to inf" in str(verdict.conversion)
    # A floor that moves the answer without the conversion, too, is a cause however small the step is for the dtype.
    wrong = case([100.0, -102.0], [0, 1], loss="binary", target="binary")
    floored = Convention(log_floor=-100.0)
    verdict = judged(wrong, returned(100.0, "bfloat16"), floored, handed="probabilities", dtype="bfloat16")
    assert (verdict.convention, verdict.effects) == ("log_floor=-100.0", "")


HALVES = [[0.2, 0.3], [0.5, 0.5], [0.9, 0.3]]
WEIGHTED = {"class_weights": [1.0, 3.0], "sample_weights": [1.0, 2.0, 0.5]}


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("input_kind", ["probabilities", "log_probabilities"])
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 1, 1], {}),
        ([0, 1, 1], {"options": WEIGHTED}),
        ([0, -1, 1], {"options": {"ignore_index": -1}}),
        ([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]], {"target": "distribution", "options": {"label_smoothing": 0.25}}),
    ],
)
def test_softmax_of_rows_not_summing_to_one_is_named(labels, said, input_kind, reduction):
    stated = case(HALVES if input_kind == "probabilities" else np.log(HALVES), labels, input_kind=input_kind, **said)
    asked = stated.problem("float64", reduction)
    after = evaluate(convert(asked, "logits")[0])
    before = evaluate(asked)
    verdict = judged(stated, returned(after.hi), handed="logits", reduction=reduction)
    assert (verdict.status, verdict.convention, verdict.effects) == ("diverges", "", "renormalised")
    sums = (
        "rows, of which the exponentials of one sum to"
        if input_kind == "log_probabilities"
        else "rows, of which one sums to"
    )
    assert f"Softmax renormalises {sums} 0.5, which changes the definition's answer" in verdict.explanation
    assert "as documented" not in verdict.explanation
    assert "rounded once" not in verdict.explanation
    at = np.unravel_index(np.argmax(np.abs(before.hi - after.hi)), before.hi.shape)
    assert f"from {before.hi[at]:.6g} to {after.hi[at]:.6g}" in verdict.explanation
    assert verdict.explanation.endswith("first; the definition then has the same answer")


def test_renormalised_ignored_row_is_not_a_cause():
    stated = case(HALVES[:2], [-1, 1], input_kind="probabilities", options={"ignore_index": -1})
    after = evaluate(convert(stated.problem("float64", "mean"), "logits")[0])
    assert judged(stated, returned(after.hi), handed="logits").status == "agrees"


def test_impossible_log_probabilities_have_no_answer_as_logits():
    stated = case([[-math.inf, -math.inf]], [0], input_kind="log_probabilities")
    verdict = judged(stated, returned(math.nan), handed="logits")
    assert (verdict.status, verdict.effects) == ("undefined", "renormalised")
    assert "makes the answer undefined" in verdict.explanation
    assert "log sum exp" not in verdict.explanation


def test_conversion_to_rejected_input_is_named():
    stated = case([[0.0, 0.5]], [1], input_kind="probabilities")
    documented = Convention(rejects=frozenset({"infinite_prediction"}))
    verdict = judged(stated, REFUSED, documented, handed="log_probabilities")
    assert (verdict.status, verdict.convention) == ("diverges", "rejects=infinite_prediction")
    assert verdict.effects == "refused"
    assert "which are input that it rejects: infinite_prediction" in verdict.explanation


@pytest.mark.parametrize(
    ("input_kind", "expected", "documented", "named"),
    [
        (
            "probabilities",
            "log_probabilities",
            DEFINITION,
            "Instead, miniature.Other accepts log-probabilities: log p",
        ),
        ("log_probabilities", "log_probabilities", DEFINITION, "Instead, miniature.Other accepts log-probabilities"),
        (
            "log_probabilities",
            "probabilities",
            DEFINITION,
            "Instead, miniature.Other accepts probabilities: exp(log p)",
        ),
        ("log_probabilities", "probabilities", Convention(renormalise="before_clip"), "No loss of this framework"),
    ],
)
def test_alternative_function_must_have_correct_answer(input_kind, expected, documented, named):
    stated = case(HALVES if input_kind == "probabilities" else np.log(HALVES), [0, 1, 1], input_kind=input_kind)
    asked = stated.problem("float64", "mean")
    handed = convert(asked, "logits")[0]
    other = dataclasses.replace(FUNCTION, name="miniature.Other", input_kinds={expected: ""})
    got = returned(evaluate(handed).hi)
    verdict = judge(
        asked, handed, stated.expect, FUNCTION, DEFINITION, got, Oracle(), alternatives=[(other, documented)]
    )
    assert f". {named}" in verdict.explanation


def test_conversion_without_effect_is_not_named():
    plain = case([[0.5, -1.5, 0.25]], [1])
    verdict = judged(plain, returned(exactly(plain)), handed="probabilities")
    assert (verdict.status, verdict.convention) == ("agrees", "")
    smoothed = case([[0.5, -1.5]], [1], options={"label_smoothing": 0.5, "class_weights": [3.0, 1.0]})
    documented = Convention(mean_divides_by="kept")
    verdict = judged(smoothed, returned(exactly(smoothed, documented)), documented, handed="probabilities")
    assert (verdict.status, verdict.convention) == ("diverges", "mean_divides_by=kept")


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_infinite_conversion_of_sample_with_weight_zero_keeps_tolerance_of_others(reduction):
    stated = case(
        [20.0, -20.0], [0, 1], loss="binary", target="binary", options={"sample_weights": [0.0, 1.0]}
    )  # sigmoid(20) is 1 in float32
    clamped = Convention(log_floor=-100.0)
    right = exactly(stated, dtype="float32", reduction=reduction)
    assert (
        judged(
            stated, returned(right, "float32"), clamped, dtype="float32", handed="probabilities", reduction=reduction
        ).status
        == "agrees"
    )
    wrong = np.asarray(right) * 1.0001
    assert (
        judged(
            stated, returned(wrong, "float32"), clamped, dtype="float32", handed="probabilities", reduction=reduction
        ).status
        == "disagrees"
    )


# Which part of a convention is the cause

IGNORED = Convention(
    mean_divides_by="label_weight",
    default_ignore_index=-100,
    cancellation="logits",
    empty_mean="nan",
    out_of_range="nan",
)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"class_weights": [1.0, 3.0]},
        {"label_smoothing": 0.25},
        {"sample_weights": [1.0, 2.0]},
        {"class_weights": [1.0, 3.0], "label_smoothing": 0.25, "sample_weights": [1.0, 2.0]},
    ],
)
@pytest.mark.parametrize("choice", ["nan", "zero"])
def test_labels_all_ignored_by_default_are_named_as_cause(options, choice):
    stated = case([[0.1, 0.2], [1.0, -1.0]], [-100, -100], options=options)
    documented = dataclasses.replace(IGNORED, empty_mean=choice, out_of_range="refuse")
    verdict = judged(stated, returned(math.nan if choice == "nan" else 0.0), documented)
    assert (verdict.status, verdict.convention) == ("diverges", "default_ignore_index=-100")


def test_divisor_is_named_beside_an_ignored_label_only_if_it_matters():
    for options, named in (
        ({}, "default_ignore_index=-100"),
        (
            {"class_weights": [1.0, 3.0], "label_smoothing": 0.25},
            "mean_divides_by=label_weight; default_ignore_index=-100",
        ),
    ):
        stated = case([[0.1, 0.2], [1.0, -1.0]], [-100, 1], options=options)
        got = exactly(stated, dataclasses.replace(IGNORED, cancellation="none"))
        assert judged(stated, returned(got), IGNORED).convention == named


def test_needed_one_of_two_sufficient_choices_is_named():
    # A floor of log 1e-7 or a clip at 1e-7 gives the first loss; only the clip moves the second one.
    stated = case([[0.0, 1.0], [1.0, 0.0]], [0, 0], input_kind="probabilities")
    documented = Convention(clip=1e-7, log_floor=math.log(1e-7))
    floored = exactly(stated, Convention(log_floor=math.log(1e-7)), reduction="none")
    assert judged(stated, returned(floored), documented, reduction="none").status == "disagrees"
    both = exactly(stated, documented, reduction="none")
    assert judged(stated, returned(both), documented, reduction="none").convention == "clip=1e-07"


CHEAP = [found for found in shipped() if found.predicted <= 40][::5]
DOCUMENTED_SOMEWHERE = sorted(conventions(), key=str)


@pytest.mark.parametrize("stated", CHEAP, ids=lambda found: found.id)
def test_named_choices_are_needed_and_others_have_no_effect(stated):
    problem = stated.problem(stated.dtypes[0], stated.reductions[0])
    for documented in DOCUMENTED_SOMEWHERE:
        by = loss_choices(documented)
        without = [name for name in by.choices() if not has_effect(name, documented, problem, "loss")]
        less = dataclasses.replace(by, **{name: getattr(DEFINITION, name) for name in without})
        full, rest = evaluate(problem, by), evaluate(problem, less)
        assert type(full) is type(rest)
        if not isinstance(full, Exact):
            continue
        np.testing.assert_array_equal(full.hi, rest.hi)
        with np.errstate(over="ignore"):
            got = Returned(full.hi.astype(problem.predictions.dtype).astype(np.float64), problem.dtype)
        verdict = judge(problem, problem, stated.expect, FUNCTION, documented, got, Oracle())
        if verdict.status != "diverges":
            continue
        names = [part.partition("=")[0] for part in verdict.convention.split("; ")]
        assert not set(names) & set(without)
        for name in names:
            kept = [other for other in names if other != name]
            part = loss_choices(documented.restricted_to((*kept, "empty_mean")))
            answer = evaluate(problem, part)
            tolerance = error_bound.tolerance(problem, with_numeric_choices(part, documented))
            assert not (isinstance(answer, Exact) and compare(got.value, answer, tolerance, problem.dtype).within), name


# Exceptions, and cases without a right answer

REFUSED = Raised("ValueError", "no")
OUTSIDE = case([[0.5, -1.5]], [-1])


@pytest.mark.parametrize("expect", [ByOracle(), MustRaise("label_out_of_range")])
def test_invalid_input_requires_exception(expect):
    verdict = judged(OUTSIDE, REFUSED, expect=expect)
    assert (verdict.status, verdict.explanation) == ("agrees", "rejected, as required: label_out_of_range")
    verdict = judged(OUTSIDE, returned(1.0), expect=expect)
    assert verdict.status == "disagrees"
    assert verdict.explanation.startswith("returned a value for invalid input: label_out_of_range")


@pytest.mark.parametrize(
    ("documented", "stated"),
    [
        (Convention(out_of_range="wrap"), OUTSIDE),
        (Convention(out_of_range="zero"), OUTSIDE),
        (Convention(out_of_range="ignore"), case([[0.5, -1.5], [1.0, 2.0]], [2, 0])),
        (Convention(out_of_range="nan"), OUTSIDE),
        (Convention(default_ignore_index=-1), case([[0.5, -1.5], [1.0, 2.0]], [-1, 0])),
        (Convention(accepts=frozenset({"invalid_probability"})), case([[1.5, 0.5]], [1], input_kind="probabilities")),
    ],
)
def test_value_for_invalid_input_diverges_if_documented(documented, stated):
    verdict = judged(stated, returned(exactly(stated, documented)), documented)
    assert (verdict.status, verdict.convention) == ("diverges", str(documented))
    assert judged(stated, REFUSED, documented).status == "agrees"
    assert judged(stated, returned(123.0), documented).status == "disagrees"


def test_divergence_names_only_accepted_anomaly():
    documented = Convention(accepts=frozenset({"invalid_probability", "trailing_axis"}))
    stated = case([[1.5, 0.5]], [1], input_kind="probabilities")
    assert judged(stated, returned(math.log(2)), documented).convention == "accepts=invalid_probability"


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("handed", ["logits", "probabilities", "log_probabilities"])
@pytest.mark.parametrize(
    ("labels", "options"),
    [
        ([[0, 1, 0], [1, 0, 1]], {"sample_weights": [1.0, 2.0, 3.0]}),
        ([[0, 1, 0], [1, 0, 1]], {"sample_weights": [[1.0, 2.0, 3.0, 4.0]]}),
        ([[0, 1, 0], [1, 0, 1]], {"positive_weight": [1.0, 2.0]}),
        ([0, 1], {"sample_weights": [1.0, 2.0]}),
    ],
)
@pytest.mark.parametrize("documented", [DEFINITION, Convention(binary_outputs="mean_of_last_axis", clip="dtype")])
def test_judge_expects_exception_for_weights_that_do_not_fit(labels, options, handed, reduction, documented):
    predictions = [[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]]
    stated = case(predictions, labels, loss="binary", target="binary", options=options)
    expect = MustRaise("shape_mismatch")
    input_kind = {"expect": expect, "documented": documented, "handed": handed, "reduction": reduction}
    verdict = judged(stated, returned(1.0), **input_kind)
    assert (verdict.status, verdict.symptoms) == ("disagrees", {"accepted_invalid"})
    assert judged(stated, REFUSED, **input_kind).status == "agrees"


def test_exception_disagrees_if_answer_exists():
    verdict = judged(PLAIN, REFUSED)
    assert verdict.status == "disagrees"
    assert verdict.explanation == "it raised ValueError, although there is an answer: no"
    infinite = case([[0.0, -math.inf]], [0])
    assert judged(infinite, REFUSED).status == "disagrees"
    documented = Convention(rejects=frozenset({"infinite_prediction", "one_class"}))
    verdict = judged(infinite, REFUSED, documented)
    assert (verdict.status, verdict.convention) == ("diverges", "rejects=infinite_prediction")
    assert judged(infinite, returned(0.0), documented).status == "agrees"


@pytest.mark.parametrize("outcome", [returned(0.0), returned(math.nan), REFUSED])
def test_outcome_of_undefined_problem_is_recorded(outcome):
    nothing = case([[0.5, -1.5]], [-1], options={"ignore_index": -1})
    verdict = judged(nothing, outcome)
    assert verdict.status == "undefined"
    assert verdict.explanation.startswith("the mean divides by zero: nothing counts")
    verdict = judged(PLAIN, outcome, expect=NoRightAnswer("nobody says"))
    assert verdict.status == "undefined"
    assert verdict.explanation.startswith("nobody says")
    assert ("raised ValueError: no" in verdict.explanation) == isinstance(outcome, Raised)


@pytest.mark.parametrize(
    ("outcome", "status", "explanation"),
    [
        (Crashed("was killed by SIGSEGV"), "crashed", "the process was killed by SIGSEGV"),
        (Crashed("exited with status 3", "a\nb"), "crashed", "the process exited with status 3; its output: a | b"),
        (TimedOut(1.5), "timed_out", "it did not return within 1.5 s"),
        (Unsupported("it has no ears"), "unsupported", "it has no ears"),
    ],
)
def test_outcome_without_answer_keeps_its_status(outcome, status, explanation):
    for stated in (PLAIN, OUTSIDE):
        verdict = judged(stated, outcome)
        assert (verdict.status, verdict.explanation) == (status, explanation)


def test_empty_arrays_are_compared():
    empty = Exact(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2)))
    assert compare(np.zeros((0, 2)), empty, np.zeros((0, 2)), "float32").within
    assert not compare(np.zeros((0,)), empty, np.zeros((0, 2)), "float32").within


# What a test prints, and the row


def assessed(
    loss: type[miniatures.Loss], stated: Case, reduction: str = "mean", ledger: Ledger | None = None
) -> Assessment:
    (item,) = (
        i for i in plan([stated], [miniatures.installed(loss)]) if i.reduction == reduction and i.dtype == "float64"
    )
    return Judge(Oracle(), ledger or Ledger()).assess(item)


SMOOTHED = case(
    [[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]], [1, 0], options={"label_smoothing": 0.5},
    path="cases/a/b.yaml", line=12, reductions=("none", "mean"), why="It mixes.",
)  # fmt: skip


def test_assessment_text_has_every_detail_of_failure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where `cases` is not the folder of the shipped ones
    assessment = assessed(miniatures.DropsSmoothing, SMOOTHED, "none")
    text = str(assessment)
    lines = {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in text.splitlines()[1:]}
    assert text.startswith("miniature.DropsSmoothing 1.0 disagrees with the definition and with what it documents\n")
    assert lines["case"] == "a/b/c (float64, none): It mixes."
    assert lines["file"] == "cases/a/b.yaml:12"
    assert json.loads(lines["got"]) == assessment.verdict.outcome.value.tolist()
    assert json.loads(lines["want"]) == evaluate(SMOOTHED.problem("float64", "none")).hi.tolist()
    error, place, ratio, tolerance, ulps = map(assessment.row.cells.get, ("error", "where", "ratio", "budget", "ulps"))
    assert (
        lines["how"] == f"far    {error:.6g} at {place} = {ratio:.4g} x the tolerance {tolerance:.6g} ({ulps:.4g} ulp)"
    )
    assert lines["because"].startswith(f"error of {ratio:.3g} times the tolerance at {place}")
    path = "conformance.power.mutants.catalogue"
    assert lines["reproduce"].startswith(f"import {path}; import numpy as np; predictions = np.array([[")
    assert f"; {path}.DropsSmoothing(input_kind='logits', " in lines["reproduce"]
    asked = "miniature.DropsSmoothing and a/b/c and float64 and none and not gradient"
    assert lines["again"] == f'pytest --cases cases -k "{asked}"'


def test_printed_pytest_expression_selects_the_item():
    from conformance.judging.selection import compile_expression, substring_of

    assessment = assessed(miniatures.DropsSmoothing, SMOOTHED)
    expression = str(assessment).splitlines()[-1].partition('"')[2].rstrip('"')
    assert compile_expression(expression)(substring_of(assessment.item.id))


def test_rows_have_builtin_values_in_column_order():
    for loss, reduction in ((miniatures.Categorical, "none"), (miniatures.DropsSmoothing, "mean")):
        row = assessed(loss, SMOOTHED, reduction).row.cells
        assert tuple(row) == COLUMNS
        assert {type(value) for value in row.values()} <= {str, float, type(None)}
        assert json.loads(json.dumps(row)) == row


def test_row_of_subsampled_array_has_full_shape():
    rng = np.random.default_rng(0)
    large = case(rng.normal(size=(1500, 2)), rng.integers(0, 2, 1500), reductions=("none", "mean"))
    row = assessed(miniatures.Categorical, large, "none").row.cells
    assert row["shape"] == "(1500,): 1024 of 1500 elements"
    assert len(json.loads(row["got"])) == len(json.loads(row["want"])) == 1024
    assert assessed(miniatures.Categorical, large).row.cells["shape"] == ""
    assert assessed(miniatures.Categorical, SMOOTHED, "none").row.cells["shape"] == ""
    masked = case(np.tile([-np.inf, 0.0], (1500, 1)), np.ones(1500, dtype=int), reductions=("none",))
    raises = assessed(miniatures.RaisesOnInfinity, masked, "none").row.cells
    assert (raises["got"], raises["shape"]) == ("", "(1500,): 1024 of 1500 elements")


def known(**said: Any) -> Ledger:
    entry = {
        "case": "a/b/*",
        "function": "miniature.DropsSmoothing",
        "reason": "it does",
        "path": "known/m.yaml",
        "line": 3,
    }
    return Ledger([KnownIssue(**{**entry, **said})])


def test_ledger_entry_makes_disagreement_known():
    assessment = assessed(miniatures.DropsSmoothing, SMOOTHED, ledger=known())
    assert (assessment.expected, assessment.row.cells["known"]) == ("known", "it does")
    for other in ({"case": "x/*"}, {"versions": "<1"}, {"dtypes": ("float32",)}, {"reductions": ("sum",)}):
        assert assessed(miniatures.DropsSmoothing, SMOOTHED, ledger=known(**other)).expected == "unexpected"
    crashed = assessed(miniatures.DropsSmoothing, SMOOTHED, ledger=known(status="crashed"))
    assert crashed.expected == "unexpected"


def test_ledger_entry_of_fixed_discrepancy_is_stale():
    assessment = assessed(miniatures.Categorical, SMOOTHED, ledger=known(function="miniature.Categorical"))
    assert assessment.expected == "stale"
    text = str(assessment)
    assert text.startswith("miniature.Categorical 1.0 agrees, although the ledger knows it as a discrepancy")
    assert "ledger     known/m.yaml:3 says it disagrees; remove the entry" in text


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_explanation_is_searched_with_weights_per_output(reduction):
    stated = case(
        [[0.5, -1.0], [2.0, 0.25], [0.1, 0.2], [0.3, 0.4]], [[1, 0], [0, 1], [1, 1], [0, 0]],
        loss="binary", target="binary",
        options={"sample_weights": np.arange(1.0, 9.0).reshape(4, 2)}, reductions=("none", "sum", "mean"),
    )  # fmt: skip
    assessment = assessed(miniatures.CancelsLogits, stated, reduction)
    assert assessment.verdict.status in ("agrees", "disagrees")
    averaging = Convention(binary_outputs="mean_of_last_axis")
    verdict = judged(stated, returned(123.0), reduction=reduction, conventions=(averaging,))
    assert verdict.explanation.endswith("no known convention explains it")


def test_assessment_text_omits_distance_of_shape_mismatch():
    assert "how far" not in str(assessed(miniatures.ReturnsColumns, SMOOTHED, "none"))


def test_replay_rejects_unknown_name():
    import conformance

    with pytest.raises(LookupError, match=r"no installed nobody\.loss takes categorical/index_labels/three_by_three"):
        conformance.replay("nobody.loss", "categorical/index_labels/three_by_three", "float32", "mean")


def test_row_has_id_of_its_item():
    items = plan([PLAIN], [found for found in installed()[0] if found.framework.name == "torch"])
    assert {item.quantity for item in items} == set(QUANTITIES) - {"d2", "hessian"}
    suite = Judge(Oracle(), Ledger([]))
    assert [suite.assess(item).row.key.id for item in items] == [item.id for item in items]


def test_symptom_of_loss_explains_wrong_gradient():
    here = [found for found in installed()[0] if found.framework.name == "torch"]
    item = next(item for item in plan([PLAIN], here) if item.quantity == "gradient" and item.dtype == "float64")
    entry = KnownIssue(PLAIN.id, item.function.name)
    asked = Judge(Oracle(), Ledger([entry])).assess(item)
    assert (asked.verdict.status, asked.expected) == ("agrees", "ok")

    def wrong(framework, call, what):
        return Returned(np.full(PLAIN.predictions.shape, 7.0), "float64")

    assert Judge(Oracle(), Ledger([entry]), performer=wrong).assess(item).expected == "known"
    assert Judge(Oracle(), Ledger(), performer=wrong).assess(item).expected == "unexpected"


# In which way it is wrong

LOSSES = exactly(PLAIN, reduction="none")


@pytest.mark.parametrize(
    ("got", "symptoms"),
    [
        ([np.nan, LOSSES[1]], {"nan"}),
        ([np.inf, LOSSES[1]], {"inf"}),
        ([-np.inf, np.nan], {"minus_inf", "nan"}),
        ([0.0, 5.0], {"zero", "too_large"}),
        ([-5.0, 5.0], {"too_small", "too_large"}),
        ([LOSSES[0] * (1 + 1e-6), LOSSES[1]], {"imprecise"}),
        ([1.0], {"wrong_shape"}),
    ],
)
def test_symptoms_of_wrong_value(got, symptoms):
    verdict = judged(PLAIN, returned(got), reduction="none")
    assert (verdict.status, verdict.symptoms) == ("disagrees", symptoms)


def test_symptoms_of_outcomes_without_value():
    def symptoms(outcome, stated=PLAIN):
        return judged(stated, outcome).symptoms

    mean = float(np.mean(LOSSES))
    assert symptoms(Raised("ValueError", "no")) == {"raised ValueError"}
    assert symptoms(Crashed("was killed by SIGSEGV")) == {"crashed"}
    assert symptoms(TimedOut(1.0)) == {"timed_out"}
    assert symptoms(Returned(np.array(mean), "float32")) == {"wrong_dtype"}
    assert symptoms(Returned(np.array(mean), "float64", mutated=("input",))) == {"mutated_argument"}
    invalid = case([[0.5, -1.5]], [2], expect=MustRaise("label_out_of_range"))
    assert symptoms(returned(0.0), invalid) == {"accepted_invalid"}
    assert symptoms(returned(mean)) == frozenset()


def test_number_instead_of_nan_or_infinity_has_own_symptom():
    assert symptom_of_number(1.0, np.nan) == "not_nan"
    assert symptom_of_number(15.94, np.inf) == "too_small"
    assert symptom_of_number(0.0, -1.0) == "zero"


def test_documented_answer_has_no_symptom():
    stated = case([[0.0, 1.0], [0.25, 0.75]], [0, 1], input_kind="probabilities", reductions=("none",))
    clipped = -np.log(1e-7)
    documented = Convention(clip=1e-7)
    verdict = judged(stated, returned([clipped, np.nan]), documented, reduction="none")
    assert (verdict.status, verdict.symptoms) == ("disagrees", {"nan"})


# What the ledger knows by traits


def wrong_by(value: Any, ledger: Ledger, stated: Case = SMOOTHED, reduction: str = "mean") -> Assessment:
    (item,) = (
        item
        for item in plan([stated], [miniatures.installed(miniatures.Categorical)])
        if item.reduction == reduction and item.dtype == "float64"
    )

    def performer(framework, call, what):
        return value if not isinstance(value, float) else Returned(np.array(value), "float64")

    return Judge(Oracle(), ledger, performer=performer).assess(item)


OTHERS = Ledger(
    (),
    [
        KnownIssue(
            "somebody/elses/case", "miniature.Categorical", when=("label_smoothing",), symptoms=("nan",),
            reason="It is nan.", see="https://example.org/1", path="known/m.yaml", line=3,
        )
    ],
)  # fmt: skip


def test_ledger_matches_other_cases_by_traits_and_symptom():
    assessment = wrong_by(float("nan"), OTHERS)
    assert (assessment.expected, assessment.row.cells["known"]) == ("known", "It is nan. (https://example.org/1)")
    assert "  ledger     known/m.yaml:3: It is nan. (https://example.org/1)" in str(assessment)


@pytest.mark.parametrize(
    "outcome", [5.0, float("inf"), 0.0, Raised("ValueError", "no"), Crashed("was killed")], ids=str
)
def test_other_symptom_of_same_function_is_unexpected(outcome):
    assert wrong_by(outcome, OTHERS).expected == "unexpected"
    shipped = Ledger([dataclasses.replace(OTHERS.traits_only[0], case=SMOOTHED.id)])
    assert wrong_by(outcome, shipped).expected == "unexpected"
    assert wrong_by(outcome, shipped).row.cells["known"] == ""


def test_same_symptom_without_traits_is_unexpected():
    plain = case([[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]], [1, 0])
    assert wrong_by(float("nan"), OTHERS, plain).expected == "unexpected"


def test_user_case_with_traits_and_right_answer_agrees():
    assessment = assessed(miniatures.Categorical, SMOOTHED, ledger=OTHERS)
    assert (assessment.verdict.status, assessment.expected) == ("agrees", "ok")


def test_ids_of_user_cases_match_no_shipped_entry():
    """A case of a user's may be called as a shipped one is, and be about something else."""
    other = dataclasses.replace(OTHERS.traits_only[0], case=SMOOTHED.id, when=())
    assert wrong_by(float("nan"), Ledger((), [other])).expected == "unexpected"
    assert assessed(miniatures.Categorical, SMOOTHED, ledger=Ledger((), [other])).expected == "ok"


def test_entry_of_folder_precedes_shipped_entries():
    own = dataclasses.replace(OTHERS.traits_only[0], case=SMOOTHED.id, when=(), reason="Mine.")
    ledger = Ledger([own], OTHERS.traits_only)
    assert wrong_by(float("nan"), ledger).row.cells["known"].startswith("Mine.")
    assert wrong_by(5.0, ledger).expected == "unexpected"
