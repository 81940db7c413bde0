"""river: its metrics, and the losses of its optimisers with their gradients."""

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
from conformance.model.case import Layout
from conformance.reference.oracle import Oracle
from conformance.tests.stated import case

pytestmark = pytest.mark.skipif(importlib.util.find_spec("river") is None, reason="river is not installed")
BINARY: dict[str, Any] = {"loss": "binary", "target": "binary", "reductions": ("none", "sum", "mean")}
Z = [0.5, -2.0, 7.0, -3.0]
P = np.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.25, 0.25, 0.5]])


def rows(stated: Any, dtype: str = "float64") -> dict[str, Any]:
    """The rows of the functions of river that are called for one dtype, by name and reduction."""
    [framework] = [found for found in registry.frameworks() if found.name == "river"]
    items = plan([stated], [Installed(framework, registry.version_of(framework) or "")])
    found = [Judge(Oracle(), Ledger()).assess(item).row for item in items if item.dtype == dtype]
    called = [row for row in found if row.status != "unsupported"]
    return {f"{row.key.function.partition('.')[2]} {row.key.reduction}": row for row in called}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_binary_functions_follow_documentation(dtype):
    found = rows(case(Z, [1, 0, 1, 1], options={"positive_weight": np.array(2.5)}, **BINARY), dtype)
    found |= rows(case(Z, [1, 0, 1, 1], options={"sample_weights": [0.5, 2.0, 0.25, 1.0]}, **BINARY), dtype)
    names = ("Log", "Log:number", "Log:weight_neg")
    gradients = {f"losses.{name}:gradient sum" for name in names}
    losses = {f"losses.{name} {reduction}" for name in names for reduction in BINARY["reductions"]}
    assert {*found} == gradients | losses | ({"LogLoss mean"} if dtype == "float64" else set())
    assert {row.status for row in found.values()} <= {"agrees", "diverges"}


def test_multiclass_functions_follow_documentation():
    of_metric = case(P, [0, 1, 0], input_kind="probabilities", options={"sample_weights": [0.5, 2.0, 1.0]})
    of_loss = case(P, [0, 1, 0], input_kind="probabilities", options={"class_weights": [0.5, 4.0, 1.0]})
    found = {"metric": rows(of_metric)["CrossEntropy mean"], "loss": rows(of_loss)["losses.CrossEntropy mean"]}
    assert found["metric"].status == "agrees"
    assert (found["loss"].status, found["loss"].convention) == ("diverges", "mean_divides_by=kept")


def test_multiclass_gradient_is_with_respect_to_logits():
    slope = rows(case(P, [0, 1, 0], input_kind="probabilities", reductions=("sum",)))[
        "losses.CrossEntropy:gradient sum"
    ]
    assert slope.status == "disagrees"
    assert np.reshape(slope.got.values, P.shape) == pytest.approx(P - np.eye(3)[[0, 1, 0]])
    found = rows(case(np.log(P), [0, 1, 0], reductions=("sum",)))
    assert found["losses.CrossEntropy:mean_func:gradient sum"].status in ("agrees", "diverges")


def test_labels_of_bytes_wrap_in_vectors():
    found = rows(case([0.5, -0.5], [1, 0], layout=Layout(label_dtype="uint8"), **BINARY))
    assert found["losses.Log:gradient sum"].got.values[0] == pytest.approx(255 / (1 + np.exp(0.5)))
    assert found["losses.Log:number sum"].status == "agrees"
