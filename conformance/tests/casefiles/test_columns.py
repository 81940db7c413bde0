"""Predictions and labels of shapes (N, 1) and (N,), for binary losses."""

from __future__ import annotations

import pytest

from conformance.adapters import keras, sklearn, torch
from conformance.adapters.contract.framework import required_capabilities
from conformance.casefiles.validation import layout_errors
from conformance.model.case import Layout
from conformance.reference.domain import examine
from conformance.reference.flat_problem import rejected_anomalies
from conformance.reference.oracle import Exact, evaluate
from conformance.tests.stated import case

FLAT, COLUMN = [0.3, 0.8, 0.15], [[0.3], [0.8], [0.15]]
LABELS, LABEL_COLUMN = [1, 1, 0], [[1], [1], [0]]


def problem(predictions, labels, reduction="mean", **options):
    binary = {"loss": "binary", "target": "binary", "input_kind": "probabilities", "options": options}
    return case(predictions, labels, **binary).problem("float32", reduction)


def newest(framework, name):
    whole = f"{framework.FRAMEWORK.name}.{name}"
    return next(one for one in framework.FRAMEWORK.functions if one.name == whole and "<" not in one.versions)


def documented(function, of):
    """The convention that a function documents for a problem."""
    capabilities = required_capabilities(of, of.target_kind)
    return next(one.convention for one in function.conventions if one.capabilities <= capabilities)


LOG_LOSS, KERAS, BCE = newest(sklearn, "log_loss"), newest(keras, "BinaryCrossentropy"), newest(torch, "BCELoss")


@pytest.mark.parametrize("function", [LOG_LOSS, KERAS, BCE])
def test_column_of_probabilities_is_called(function):
    assert function.unsupported(problem(COLUMN, LABEL_COLUMN)) is None


def test_log_loss_takes_one_output_and_one_weight_per_sample():
    assert LOG_LOSS.unsupported(problem([[0.3, 0.8]], [[1, 0]])) == "it takes no rows of several outputs"
    assert "rank 3" in LOG_LOSS.unsupported(problem([[[0.3]]], [[[1]]]))
    assert "weights per output" in LOG_LOSS.unsupported(
        problem(COLUMN, LABEL_COLUMN, sample_weights=[[1.0], [2.0], [3.0]])
    )
    assert LOG_LOSS.unsupported(problem(COLUMN, LABEL_COLUMN, sample_weights=[1.0, 2.0, 3.0])) is None


@pytest.mark.parametrize(("predictions", "labels"), [(COLUMN, LABELS), (FLAT, LABEL_COLUMN)])
def test_documented_column_beside_flat_has_answer_of_two_columns(predictions, labels):
    mixed, both = problem(predictions, labels), problem(COLUMN, LABEL_COLUMN)
    assert {"shape_mismatch", "trailing_axis"} <= examine(mixed)
    due = evaluate(both)
    assert isinstance(due, Exact)
    for function in (LOG_LOSS, KERAS):
        found = evaluate(mixed, documented(function, mixed))
        assert isinstance(found, Exact)
        assert float(found.hi) == pytest.approx(float(due.hi), rel=1e-6)
    assert rejected_anomalies(mixed, documented(BCE, mixed)) == {"shape_mismatch"}


def test_flat_outputs_beside_column_of_labels_are_samples():
    assert documented(KERAS, problem(FLAT, LABEL_COLUMN)).binary_outputs == "each"
    assert documented(KERAS, problem(FLAT, LABELS)).binary_outputs == "mean_of_last_axis"
    of_rows = evaluate(problem(FLAT, LABEL_COLUMN, "none"), documented(KERAS, problem(FLAT, LABEL_COLUMN)))
    assert of_rows.hi.shape == (3,)


@pytest.mark.parametrize(("labels", "count"), [(LABEL_COLUMN, 1), (LABELS, 0)])
def test_column_labels_are_not_made_columns_again(labels, count):
    stated = problem(COLUMN, labels)
    errors = layout_errors(Layout(labels="column"), "binary", stated.predictions, stated.labels)
    assert [error.message for error in errors] == ["labels of shape [3, 1] are a column"] * count


def test_log_loss_takes_no_weights_in_bfloat16():
    layout = Layout(weight_dtype="bfloat16")
    weighted = case([0.25, 0.5], [0, 1], loss="binary", target="binary", input_kind="probabilities",
                    options={"sample_weights": [1.0, 0.5]}, layout=layout).problem("float32", "mean")  # fmt: skip
    assert LOG_LOSS.unsupported(weighted) == "it takes no bfloat16 weights"
