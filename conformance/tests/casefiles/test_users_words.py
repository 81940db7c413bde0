"""Messages say what a case file says: the word for its labels, the axis of its classes, its layout."""

from __future__ import annotations

import dataclasses
import math
import types

import numpy as np
import pytest

from conformance.adapters import keras, sklearn, torch
from conformance.casefiles.loading import read
from conformance.cli.look import _print_case, _ratio
from conformance.model.case import Layout
from conformance.tests.casefiles.test_columns import newest
from conformance.tests.stated import case

FILE = "about: a\nloss: {}\ngiven: logits\ntarget: {}\ncases:\n  y:\n    predictions: {}\n    labels: {}\n"


def written(tmp_path, *parts):
    file = tmp_path / "x.yaml"
    file.write_text(FILE.format(*parts))
    return read(file)


@pytest.mark.parametrize(
    ("loss", "target"),
    [("binary", "one_hot"), ("binary", "distribution"), ("categorical", "soft_binary")],
)
def test_error_names_target_as_written(tmp_path, loss, target):
    _, (error,) = written(tmp_path, loss, target, "[0.5, 1.0]", "[0, 1]")
    assert f"a {loss} loss has no {target} target" in str(error)


@pytest.mark.parametrize("target", ["one_hot", "distribution"])
def test_show_names_target_as_written(tmp_path, capsys, target):
    (stated,), _ = written(tmp_path, "categorical", target, "[[0.5, 1.0, 2.0]]", "[[0, 1, 0]]")
    _print_case(dataclasses.replace(stated, layout=Layout(class_axis=0, label_dtype="uint8")))
    shown = capsys.readouterr().out
    assert f"{target} targets" in shown
    assert "layout class_axis: 0, label_dtype: uint8" in shown


def test_boolean_index_is_rejected_with_advice(tmp_path):
    cases, errors = written(tmp_path, "categorical", "index", "[[0.5, 1.0]]", "[true]")
    assert not cases
    assert "true is not an index; write 1 for true and 0 for false" in str(errors[0])


@pytest.mark.parametrize(
    ("function", "layout", "why"),
    [
        (newest(sklearn, "log_loss"), Layout(class_axis=0), "it has no layout class_axis: 0"),
        (newest(torch, "CrossEntropyLoss"), Layout(labels="column"), "it has no layout labels: column"),
        (newest(torch, "CrossEntropyLoss"), Layout(weight_dtype="float64"),
         "it does not combine index and weight_dtype: float64"),
        (newest(keras, "SparseCategoricalCrossentropy"), Layout(class_axis=0, labels="column"),
         "it does not combine class_axis: 0 and labels: column"),
    ],
)  # fmt: skip
def test_missing_capability_is_named_as_written(function, layout, why):
    options = {"class_weights": [1.0, 2.0, 1.0]} if layout.weight_dtype else {}
    stated = case([[0.5, 1.0, 0.25]], [0], layout=layout, options=options)
    assert function.unsupported(stated.problem("float32", "mean")) == why


@pytest.mark.parametrize(
    ("ratio", "got", "text"),
    [
        (0.25, 1.0, "0.25"),
        (math.inf, math.nan, "not a number"),
        (math.inf, [1.0, math.nan], "not a number"),
        (math.inf, math.inf, "infinitely far"),
        (None, None, ""),
    ],
)
def test_show_explains_nan(ratio, got, text):
    row = types.SimpleNamespace(ratio=ratio, got=None if got is None else types.SimpleNamespace(values=np.array(got)))
    assert _ratio(row) == text
