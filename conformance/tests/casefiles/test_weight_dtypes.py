"""Weights in another dtype than the predictions: as a layout that changes no answer, and as functions take it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from conformance.adapters import keras, sklearn, torch
from conformance.adapters.contract import LoweringError
from conformance.adapters.contract.lowering import lower
from conformance.casefiles import validation
from conformance.casefiles.loading import read_file
from conformance.casefiles.writing import case_file_text
from conformance.explore.fuzz.generation import random_case
from conformance.explore.relations.relation import replace_options
from conformance.model.case import WEIGHT_DTYPES, Layout
from conformance.tests.casefiles.test_columns import newest
from conformance.tests.stated import case

ROWS, LABELS = [[0.5, -1.5, 0.25], [1.0, 2.0, 3.0]], [1, 2]
WEIGHTED = case(ROWS, LABELS, options={"class_weights": [1.0, 2.0, 0.1]}, layout=Layout(weight_dtype="float64"))
SOFT = dataclasses.replace(WEIGHTED, target="distribution", labels=np.full((2, 3), 0.25))
OUTPUTS = case(
    [0.8, -1.4],
    [1.0, 0.25],
    loss="binary",
    target="binary",
    options={"sample_weights": [1.5, 0.25], "positive_weight": np.array(2.0)},
    layout=Layout(weight_dtype="float64"),
)
CROSS_ENTROPY, NLL = newest(torch, "CrossEntropyLoss"), newest(torch, "NLLLoss")
WITH_LOGITS = newest(torch, "BCEWithLogitsLoss")


def in_dtype(of, weight_dtype):
    return dataclasses.replace(of, layout=Layout(weight_dtype=weight_dtype))


def test_weights_are_rounded_to_the_predictions_and_passed_in_the_dtype():
    problem = SOFT.problem("float32", "mean")
    passed = lower(CROSS_ENTROPY, problem).arrays["class_weights"].values
    assert passed.dtype == np.float64
    assert passed.tolist() == np.array([1.0, 2.0, 0.1], np.float32).astype(np.float64).tolist()
    assert problem.digest == in_dtype(SOFT, None).problem("float32", "mean").digest


def test_digest_without_weight_dtype_is_unchanged():
    plain = case(ROWS, LABELS)
    assert plain.digest == "c2359da7760b74a7"
    assert len({plain.digest, WEIGHTED.digest, in_dtype(WEIGHTED, "float16").digest}) == 3


def test_functions_accept_weight_dtypes_as_declared():
    for dtype in ("float16", "bfloat16", "float32"):
        assert (
            CROSS_ENTROPY.unsupported(WEIGHTED.problem(dtype, "mean"))
            == "it does not combine index and weight_dtype: float64"
        )
        assert NLL.unsupported(WEIGHTED.problem(dtype, "mean")) == "it takes no float64 weights"
    assert CROSS_ENTROPY.unsupported(WEIGHTED.problem("float64", "mean")) is None
    assert NLL.unsupported(WEIGHTED.problem("float64", "mean")) is None
    assert WITH_LOGITS.unsupported(in_dtype(OUTPUTS, "bool").problem("float32", "mean")) is not None
    sampled = case(ROWS, LABELS, options={"sample_weights": [3.0, 1.0]}, layout=Layout(weight_dtype="int64"))
    taken = newest(keras, "SparseCategoricalCrossentropy"), newest(sklearn, "log_loss")
    assert [one.unsupported(sampled.problem("float32", "mean")) for one in taken] == [None, None]


@pytest.mark.parametrize(
    ("function", "of", "dtype", "weight_dtype", "due"),
    [
        (CROSS_ENTROPY, SOFT, "float32", "float64", "float64"),
        (CROSS_ENTROPY, SOFT, "float64", "float32", "float64"),
        (CROSS_ENTROPY, SOFT, "float16", "bfloat16", "float32"),
        (CROSS_ENTROPY, SOFT, "float16", "int64", "float16"),
        (CROSS_ENTROPY, SOFT, "float16", None, "float16"),
        (WITH_LOGITS, OUTPUTS, "float32", "float64", "float32"),
        (newest(torch, "BCELoss"), OUTPUTS, "float32", "float64", "float32"),
        (newest(sklearn, "log_loss"), OUTPUTS, "float32", "float16", "float64"),
    ],
)
def test_result_dtype_follows_declaration(function, of, dtype, weight_dtype, due):
    assert function.result_dtype_for(in_dtype(of, weight_dtype).problem(dtype, "none")) == due


@pytest.mark.parametrize("weight_dtype", [name for name in WEIGHT_DTYPES if name != "float64"])
def test_weights_beyond_dtype_are_rejected(weight_dtype):
    tenth = dataclasses.replace(in_dtype(WEIGHTED, weight_dtype), dtypes=("float64",))
    (found,) = validation.find_errors(tenth)
    assert found.path[:2] == ("options", "class_weights")
    assert f"does not fit into {weight_dtype}" in found.message
    with pytest.raises(LoweringError, match=f"class_weights do not fit {weight_dtype}"):
        lower(CROSS_ENTROPY, in_dtype(SOFT, weight_dtype).problem("float64", "mean"))


def test_weight_dtype_requires_weights_and_round_trips(tmp_path):
    (found,) = validation.find_errors(case(ROWS, LABELS, layout=Layout(weight_dtype="int64")))
    assert (found.path, found.message) == (("layout", "weight_dtype"), "there are no weights")
    path = tmp_path / "x.yaml"
    path.write_text(case_file_text([dataclasses.replace(WEIGHTED, about="Weights.", source="here")]))
    (read,), errors = read_file(path, "x")
    assert not errors
    assert (read.digest, read.layout.weight_dtype) == (WEIGHTED.digest, "float64")


def test_relations_that_change_weights_drop_their_dtype():
    problem = WEIGHTED.problem("float32", "mean")
    assert replace_options(problem, label_smoothing=0.5).layout.weight_dtype == "float64"
    assert replace_options(problem, class_weights=np.ones(3, np.float32)).layout.weight_dtype is None


def test_some_drawn_cases_have_weights_in_another_dtype():
    rng = np.random.default_rng(1)
    drawn = [random_case(rng, "a/b/c") for _ in range(600)]
    assert {"float64", "float16"} <= {one.layout.weight_dtype for one in drawn}
