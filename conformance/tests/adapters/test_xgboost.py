"""XGBoost: its metrics, and the derivatives with which it trains."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from conformance.adapters import registry
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.explain.explainer import explain
from conformance.explain.rendering import terminal
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.reference.oracle import Oracle
from conformance.tests.stated import case

installed = pytest.mark.skipif(importlib.util.find_spec("xgboost") is None, reason="xgboost is not installed")
Z = np.random.default_rng(7).standard_normal((4, 3)) * 3
LABELS = [0, 2, 1, 1]
BINARY: dict[str, Any] = {"loss": "binary", "target": "binary"}


def rows(stated: Any) -> dict[tuple[str, str], Any]:
    """The rows of the functions of XGBoost, by name and dtype."""
    [framework] = [found for found in registry.frameworks() if found.name == "xgboost"]
    items = plan([stated], [Installed(framework, registry.version_of(framework) or "")])
    found = [Judge(Oracle(), Ledger()).assess(item).row for item in items]
    return {(row.key.function.partition(".")[2], row.key.dtype): row for row in found}


@installed
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_xgboost_follows_its_source(dtype):
    of_classes = case(
        Z, LABELS, options={"sample_weights": [0.1, 2.0, 0.3, 1.25]}, dtypes=(dtype,), reductions=("sum", "mean")
    )
    found = rows(of_classes)
    assert {name: row.status in ("agrees", "diverges") for (name, _), row in found.items()} == {
        "mlogloss": True,
        "multi:softprob:gradient": True,
        "multi:softprob:hessian": True,
    }
    assert "hessian_factor=2.0" in found["multi:softprob:hessian", dtype].convention
    assert found["multi:softprob:gradient", dtype].result_dtype == "float32"
    of_outputs = case([0.5, -2.0, 25.0, -45.0], [1, 0, 0, 1], dtypes=(dtype,), reductions=("sum", "mean"), **BINARY)
    found = rows(of_outputs)
    assert {row.status for row in found.values()} <= {"agrees", "diverges"}
    assert "logits_as=probabilities" in found["logloss", dtype].convention
    assert "hessian_floor" in found["binary:logistic:hessian", dtype].convention


@installed
def test_reproducer_of_second_derivative_returns_its_row(tmp_path):
    row = rows(case(Z[:1], [1], dtypes=("float32",), reductions=("sum",)))["multi:softprob:hessian", "float32"]
    *lines, last = row.call.splitlines()
    script = tmp_path / "again.py"
    script.write_text("\n".join([*lines, f"print({last}.tolist())"]))
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert np.array_equal(np.array(eval(printed)), row.got.values)


@installed
def test_explanation_derives_second_derivative():
    [framework] = [found for found in registry.frameworks() if found.name == "xgboost"]
    here = [Installed(framework, registry.version_of(framework) or "")]
    stated = case(Z, LABELS, dtypes=("float32",), reductions=("sum",))
    explained = explain(stated, "float32", "sum", here, Judge(Oracle(), Ledger()), "hessian")
    text = " ".join(" ".join(line for _, line in terminal(explained)).split())
    assert "second derivative_ic = T softmax(z)_c (1 - softmax(z)_c)" in text
    assert "its second derivative at" in text
