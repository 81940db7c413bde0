"""CatBoost: its metrics, and the derivatives with which it trains."""

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

pytestmark = pytest.mark.skipif(importlib.util.find_spec("catboost") is None, reason="catboost is not installed")
Z = np.random.default_rng(7).standard_normal((4, 3)) * 3
WEIGHTS = [0.1, 2.0, 0.3, 1.25]
BINARY: dict[str, Any] = {"loss": "binary", "target": "binary", "reductions": ("sum", "mean")}


def rows(stated: Any, dtype: str) -> dict[str, Any]:
    """The rows of the functions of CatBoost for one dtype, by name."""
    [framework] = [found for found in registry.frameworks() if found.name == "catboost"]
    items = plan([stated], [Installed(framework, registry.version_of(framework) or "")])
    found = [Judge(Oracle(), Ledger()).assess(item).row for item in items if item.dtype == dtype]
    return {row.key.function.partition(".")[2]: row for row in found}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_catboost_follows_its_documentation(dtype):
    of_classes = case(Z, [0, 2, 1, 1], options={"sample_weights": WEIGHTS}, reductions=("sum", "mean"))
    of_outputs = case([0.5, -2.0, 12.0, -7.0], [1, 0, 0, 1], options={"sample_weights": WEIGHTS}, **BINARY)
    found = rows(of_classes, dtype) | rows(of_outputs, dtype)
    called = {name for name, row in found.items() if row.status != "unsupported"}
    of_outputs_alone = {"Logloss", "CrossEntropy", "Logloss:gradient", "Logloss:hessian"}
    assert called >= of_outputs_alone | {"MultiClass", "MultiClass:gradient", "CrossEntropy:hessian"}
    assert {found[name].status for name in called} <= {"agrees", "diverges"}
    assert ("weights_narrowed_to=float32" in found["MultiClass"].convention) == (dtype == "float64")


def test_second_derivative_is_lost_on_both_sides():
    [right, wrong] = rows(case([-40.0, -40.0], [0, 1], **BINARY), "float32")["Logloss:hessian"].got.values
    assert right == wrong == 0.0


def test_positive_labels_are_weighted_in_training():
    found = rows(case([0.3, -1.7], [1, 0], options={"positive_weight": [2.5, 2.5]}, **BINARY), "float64")
    assert found["Logloss:gradient"].got.values == pytest.approx([-2.5 / (1 + np.exp(0.3)), 1 / (1 + np.exp(1.7))])
