"""Rows of zeros and ones with several ones, or none: who takes them, and as what."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from conformance.adapters import arrays, registry
from conformance.adapters.contract import Framework, Function
from conformance.adapters.contract.lowering import lower
from conformance.casefiles.known_issues import Ledger
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.reference.oracle import Oracle, evaluate
from conformance.tests.stated import case

ROWS = [[0.5, 0.3, 0.2], [0.125, 0.25, 0.625], [0.1, 0.7, 0.2]]
SEVERAL = [[0, 1, 0], [1, 0, 1], [1, 1, 1]]


def stated(labels, predictions=ROWS, **more):
    return case(predictions, labels, input_kind="probabilities", target="distribution", **more)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (SEVERAL, "multi_hot"),
        (np.array(SEVERAL, dtype=bool), "multi_hot"),
        (np.array(SEVERAL, dtype=float), "multi_hot"),
        (np.zeros((3, 3), int), "multi_hot"),
        (np.eye(3), "one_hot"),
        (np.full((3, 3), 0.5), "distribution"),
        ([[0, 1, 0], [1, 0, 2], [1, 1, 1]], "distribution"),
        ([[0, 1, 0], [1, 0, np.nan], [1, 1, 1]], "distribution"),
    ],
)
def test_kind_of_target_follows_the_rows(labels, kind):
    assert stated(labels).problem("float64", "mean").target_kind == kind


def test_rows_of_one_class_are_a_distribution():
    assert stated([[1], [0]], [[0.5], [0.25]]).problem("float64", "mean").target_kind == "distribution"


def function(*targets):
    found = Function(
        "f",
        "f({predictions}, {labels})",
        ranks={"categorical": range(2, 3)},
        input_kinds={"probabilities": ""},
        targets=dict.fromkeys(targets, "same"),
        reductions={"mean": ""},
    )
    return Framework("spy", ("numpy",), ("numpy",), (found,), arrays.numpy).functions[0]


@pytest.mark.parametrize(
    ("targets", "handed"),
    [
        (("multi_hot",), "multi_hot"),
        (("distribution",), "distribution"),
        (("distribution", "multi_hot"), "multi_hot"),
        (("index",), None),
        (("one_hot",), None),
    ],
)
def test_multi_hot_targets_are_passed_if_supported(targets, handed):
    asked, problem = function(*targets), stated(SEVERAL).problem("float32", "mean")
    assert asked.target_kind_for("multi_hot") == handed
    assert (asked.unsupported(problem) is None) is (handed is not None)
    if handed is not None:
        labels = lower(asked, problem).arrays["labels"].values
        assert labels.dtype == np.float32
        assert labels.tolist() == SEVERAL


def test_functions_of_multi_hot_targets_accept_no_soft_targets():
    asked = function("multi_hot")
    assert (
        asked.unsupported(stated(np.full((3, 3), 0.5)).problem("float32", "mean")) == "it takes no distribution targets"
    )


def test_log_loss_sums_over_positive_classes():
    here = [installed for installed in registry.installed()[0] if installed.framework.name == "sklearn"]
    if not here:
        pytest.skip("scikit-learn is not installed")
    weighted = stated(SEVERAL, options={"sample_weights": [1.0, 2.0, 0.5]})
    for one, weights in ((stated(SEVERAL), np.ones(3)), (weighted, np.array([1.0, 2.0, 0.5]))):
        one = dataclasses.replace(one, reductions=("sum", "mean"))
        items = plan([one], here)
        assert {item.function.name for item in items} == {"sklearn.log_loss"}
        for item in items:
            found = Judge(Oracle(), Ledger()).assess(item)
            assert found.verdict.status == "agrees"
            assert "labels=" not in found.call.rpartition("log_loss(")[2]
            losses = -(np.array(SEVERAL) * np.log(ROWS)).sum(axis=1) * weights
            want = losses.sum() / (weights.sum() if item.reduction == "mean" else 1)
            assert float(evaluate(item.case.problem("float64", item.reduction)).hi) == pytest.approx(want)
