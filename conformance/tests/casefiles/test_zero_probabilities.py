"""A probability of 0 (or 1, of a single output) put to functions that take logits: infinite, and not refused."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from conformance.adapters import optax, torch
from conformance.adapters.contract.lowering import lower
from conformance.judging.plan import unsupported
from conformance.judging.traits import traits
from conformance.judging.verdict import judge
from conformance.model.case import DTYPES, ByOracle, MustRaise
from conformance.model.convention import DEFINITION
from conformance.model.outcome import Returned
from conformance.reference.conversion import convert
from conformance.reference.oracle import Exact, Oracle, evaluate
from conformance.tests.casefiles.test_columns import newest
from conformance.tests.stated import case

OF_LOGITS = [
    newest(torch, "CrossEntropyLoss"),
    newest(torch, "BCEWithLogitsLoss"),
    newest(optax, "softmax_cross_entropy"),
    newest(optax, "softmax_cross_entropy_with_integer_labels"),
    newest(optax, "sigmoid_binary_cross_entropy"),
]
ELSEWHERE = case([[0.0, 0.75, 0.25], [0.5, 0.0, 0.5]], [1, 2], input_kind="probabilities")
ON_THE_LABEL = dataclasses.replace(ELSEWHERE, labels=np.array([0, 2]))
OUTPUTS = case([0.0, 1.0, 0.75], [0.0, 1.0, 1.0], loss="binary", target="binary", input_kind="probabilities")
WRONG = dataclasses.replace(OUTPUTS, labels=np.array([1.0, 0.0, 1.0]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", OF_LOGITS, ids=lambda function: function.name)
def test_functions_of_logits_are_called_with_infinite_logits(function, dtype):
    stated = OUTPUTS if "binary" in function.ranks else ELSEWHERE
    problem = stated.problem(dtype, "none")
    assert unsupported(function, stated, problem) is None
    converted, name = convert(problem, "logits")
    assert name == ("logit" if stated is OUTPUTS else "log")
    passed = lower(function, converted).arrays["predictions"].values.astype(np.float64)
    if stated is OUTPUTS:
        assert passed[:2].tolist() == [-math.inf, math.inf]
    else:
        assert np.isneginf(passed).tolist() == [[True, False, False], [False, True, False]]
    assert "infinite_prediction" in traits(problem, converted, problem.target_kind)


@pytest.mark.parametrize(
    ("stated", "due"),
    [
        (ELSEWHERE, [-math.log(0.75), -math.log(0.5)]),
        (ON_THE_LABEL, [math.inf, -math.log(0.5)]),
        (OUTPUTS, [0.0, 0.0, -math.log(0.75)]),
        (WRONG, [math.inf, math.inf, -math.log(0.75)]),
    ],
)
def test_answer_after_conversion_equals_that_of_probabilities(stated, due):
    problem = stated.problem("float64", "none")
    converted, _ = convert(problem, "logits")
    for answer in (
        evaluate(problem, DEFINITION),
        evaluate(converted, DEFINITION),
        Oracle().converted(problem, DEFINITION, "logits"),
    ):
        assert isinstance(answer, Exact)
        np.testing.assert_allclose(answer.hi, due, rtol=1e-15)


@pytest.mark.parametrize(("returned", "status"), [(-math.log(0.75), "agrees"), (math.nan, "disagrees")])
def test_nan_instead_of_number_disagrees(returned, status):
    function = OF_LOGITS[0]
    problem = ELSEWHERE.problem("float64", "none")
    converted, _ = convert(problem, "logits")
    outcome = Returned(np.array([returned, -math.log(0.5)]), "float64")
    verdict = judge(problem, converted, ByOracle(), function, DEFINITION, outcome, Oracle())
    assert (verdict.status, verdict.symptoms) == (status, frozenset({"nan"} if status == "disagrees" else ()))


def test_problem_changed_by_conversion_is_not_called():
    invalid = dataclasses.replace(ELSEWHERE, expect=MustRaise("invalid_probability"))
    assert "hide" in str(unsupported(OF_LOGITS[0], invalid, invalid.problem("float64", "none")))
