"""Weights that are the lowest number of their integer dtype: a trait by which the ledger knows what wraps."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from conformance.judging.traits import is_ordinary, traits
from conformance.model.case import Layout
from conformance.tests.stated import case


@pytest.mark.parametrize(
    ("dtype", "weight", "lowest"),
    [
        ("uint8", 0.0, True),
        ("uint8", 255.0, False),
        ("int8", -128.0, True),
        ("int8", 0.0, False),
        ("int16", -(2.0**15), True),
        ("int32", -(2.0**31), True),
        ("int64", -(2.0**63), True),
        ("int64", -(2.0**31), False),
        ("bool", 0.0, False),
        ("float32", 0.0, False),
        (None, 0.0, False),
    ],
)
def test_lowest_weight_is_lowest_number_of_dtype(dtype, weight, lowest):
    options = {"positive_weight": np.array([weight, 1.0])}
    stated = case(
        [0.5, -0.5], [1, 0], loss="binary", target="binary", options=options, layout=Layout(weight_dtype=dtype)
    )
    problem = stated.problem("float64", "mean")
    assert ("lowest_weight" in traits(problem, problem, "binary")) == lowest
    assert not (lowest and is_ordinary(problem, problem, "binary"))


def test_integer_weights_of_float16_predictions_are_compared_without_a_warning():
    options = {"positive_weight": np.array([2.0, 1.0])}
    stated = case(
        [0.5, -0.5], [1, 0], loss="binary", target="binary", options=options, layout=Layout(weight_dtype="int64")
    )
    problem = stated.problem("float16", "mean")
    with warnings.catch_warnings(action="error"):
        assert "lowest_weight" not in traits(problem, problem, "binary")
