"""MindSpore: its losses and gradients on the CPU, and what it returns for ordinary input that is wrong."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from conformance.adapters import registry
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.reference.oracle import Oracle
from conformance.tests.stated import case

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mindspore") is None, reason="mindspore is not installed")
Z = np.array([[1.5, -0.25, 0.5], [0.125, 2.5, -1.25]])
Q = np.array([[0.5, 0.25, 0.25], [0.125, 0.5, 0.375]])
P = [0.25, 0.5, 0.875]
REDUCTIONS: Any = ("none", "sum", "mean")
BINARY: dict[str, Any] = {"loss": "binary", "target": "binary", "reductions": REDUCTIONS}
RIGHT = {"agrees", "diverges"}


def rows(stated: Any) -> dict[str, Any]:
    """The rows of the functions of MindSpore that are called, by name, dtype, reduction and quantity."""
    [framework] = [found for found in registry.frameworks() if found.name == "mindspore"]
    items = plan([stated], [Installed(framework, registry.version_of(framework) or "")])
    found = [Judge(Oracle(), Ledger()).assess(item).row for item in items]
    called = [row.key for row in found if row.status != "unsupported"]
    names = {key: f"{key.function.partition('.')[2]} {key.dtype} {key.reduction} {key.quantity}" for key in called}
    return {names[row.key]: row for row in found if row.key in names}


def functions(found: dict[str, Any]) -> set[str]:
    return {name.partition(" ")[0] for name in found}


def test_losses_and_gradients_of_classes_are_right():
    of_index = rows(case(Z, [2, 1], dtypes=("float32",), reductions=REDUCTIONS))
    of_rows = rows(case(Z, Q, target="distribution", dtypes=("float32",), reductions=REDUCTIONS))
    assert {"nn.CrossEntropyLoss", "nn.NLLLoss", "ops.NLLLoss"} <= functions(of_index)
    assert {"nn.CrossEntropyLoss", "nn.SoftmaxCrossEntropyWithLogits"} <= functions(of_rows)
    for name, row in (of_index | of_rows).items():
        if name.endswith("loss"):
            assert row.status in RIGHT, name
        else:  # the exponential of float32 has six digits
            assert np.ravel(row.got.values) == pytest.approx(np.ravel(row.want.values), abs=1e-5), name


def test_losses_of_outputs_are_right():
    found = rows(case(Z, Z > 1, dtypes=("bfloat16", "float32"), **BINARY))
    found |= rows(case(P, [0, 1, 1], input_kind="probabilities", dtypes=("float32",), **BINARY))
    assert functions(found) >= {"nn.BCELoss", "nn.BCEWithLogitsLoss", "ops.SigmoidCrossEntropyWithLogits"}
    assert "nn.BCEWithLogitsLoss bfloat16 mean gradient" in found
    assert {row.status for name, row in found.items() if name.endswith("loss")} <= RIGHT


def test_exponential_of_float32_loses_digits_of_a_gradient():
    row = rows(case([-20.0], [0], dtypes=("float32",), **BINARY))["nn.BCEWithLogitsLoss float32 sum gradient"]
    assert row.status == "disagrees"
    assert np.ravel(row.got.values)[0] == pytest.approx(np.exp(-20), rel=1e-5)


def test_class_weights_are_passed_to_kernel_without_default():
    for options in ({}, {"class_weights": [0.5, 1.0, 4.0]}):
        found = rows(case(Z, [2, 1], options=options, dtypes=("float32",), reductions=REDUCTIONS))
        assert {found[f"ops.NLLLoss float32 {name} loss"].status for name in REDUCTIONS} <= RIGHT


def test_sum_and_mean_of_one_output_are_doubled():
    found = rows(case([0.25], [1], input_kind="probabilities", dtypes=("float32",), **BINARY))
    got = {name: found[f"nn.BCELoss float32 {name} loss"].got.values for name in REDUCTIONS}
    once = -np.log(0.25)
    assert [np.ravel(got[name])[0] for name in REDUCTIONS] == pytest.approx([once, 2 * once, 2 * once])


def test_masked_class_makes_an_index_loss_nan():
    found = rows(case([[0.0, -np.inf, 1.0]], [0], dtypes=("float32",)))
    row = found["nn.CrossEntropyLoss float32 mean loss"]
    assert row.status == "disagrees"
    assert np.isnan(row.got.values)


def test_logarithm_of_a_softmax_that_underflows_is_infinite_in_one_reduction():
    found = rows(case([[100.0, 0.0]], [1], dtypes=("float32",), reductions=REDUCTIONS))
    got = {name: found[f"nn.SoftmaxCrossEntropyWithLogits:sparse float32 {name} loss"].got for name in REDUCTIONS}
    assert [np.ravel(got[name].values)[0] for name in REDUCTIONS] == [100.0, 100.0, np.inf]
