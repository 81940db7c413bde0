"""ONNX Runtime and the reference evaluator: one model each, and levels of optimisation that change nothing."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from conformance.adapters import registry
from conformance.adapters.contract.calling import perform
from conformance.adapters.contract.reproducer import reproducer
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.judging.prepare import prepare
from conformance.model.case import MustRaise
from conformance.model.outcome import Returned
from conformance.reference.oracle import Oracle
from conformance.tests.adapters.test_adapter import executed, same_bits
from conformance.tests.stated import case

FRAMEWORKS = {found.name: found for found in registry.frameworks() if found.name in ("onnx", "onnxruntime")}
RUN = [(name, mode) for name, found in FRAMEWORKS.items() for mode in ("eager", *found.modes)]
Z = np.array([[[0.5, -1.25, 2.0], [0.25, 1.5, -0.75]], [[1.0, 0.0, -2.0], [3.0, 0.5, 0.125]]])
LABELS = np.array([[2, -1], [0, 1]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("name", "mode"), RUN)
def test_onnx_agrees_and_its_reproducers_return_same_bits(name: str, mode: str, dtype: str) -> None:
    framework = FRAMEWORKS[name]
    if any(importlib.util.find_spec(module) is None for module in framework.modules):
        pytest.skip(f"{name} is not installed")
    stated = case(
        Z, LABELS, options={"class_weights": np.array([0.75, 2.0, 0.5]), "ignore_index": -1}, dtypes=(dtype,),
        reductions=("none", "sum", "mean"),
    )  # fmt: skip
    judge, rows = Judge(Oracle(), Ledger()), {}
    for item in plan([stated], [Installed(framework, registry.version_of(framework) or "", mode=mode)]):
        asked = prepare(item)
        outcome = perform(framework, asked.call, asked.description)
        assert isinstance(outcome, Returned), outcome
        rows[item.function.name, item.reduction] = judge.judge(asked, outcome).verdict.status
        value: Any = executed(reproducer(framework, item.function, asked.converted, asked.call))
        assert same_bits(np.asarray(value, dtype=np.float64), outcome.value)
    if (name, dtype) == ("onnxruntime", "bfloat16"):
        assert not rows
        return
    assert len(rows) == 6
    assert set(rows.values()) == {"agrees"}


@pytest.mark.parametrize("labels", [np.array([0]), np.array([[0, 1], [1, 0]])])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_narrow_labels_are_accepted_by_onnx_runtime_only(name: str, labels: Any) -> None:
    framework = FRAMEWORKS[name]
    if any(importlib.util.find_spec(module) is None for module in framework.modules):
        pytest.skip(f"{name} is not installed")
    scores = np.zeros((2, 3) if labels.ndim == 1 else (2, 3, 3))
    stated = case(scores, labels, reductions=("none",), dtypes=("float32",), expect=MustRaise("shape_mismatch"))
    judge, items = Judge(Oracle(), Ledger()), plan([stated], [Installed(framework, "")])
    assert len(items) == 2
    for item in items:
        asked = prepare(item)
        verdict = judge.judge(asked, perform(framework, asked.call, asked.description)).verdict
        assert verdict.symptoms == ({"accepted_invalid"} if name == "onnxruntime" else set())
