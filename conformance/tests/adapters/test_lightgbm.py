"""LightGBM: its metrics, and the derivatives with which it trains."""

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
from conformance.casefiles.loading import load, shipped_cases
from conformance.judging.judge import Judge
from conformance.judging.plan import plan, unsupported
from conformance.reference.oracle import Oracle
from conformance.tests.stated import case

installed = pytest.mark.skipif(importlib.util.find_spec("lightgbm") is None, reason="lightgbm is not installed")
Z = np.random.default_rng(7).standard_normal((4, 3)) * 3
LABELS = [0, 2, 1, 1]
WEIGHTS = [0.1, 2.0, 0.3, 1.25]
BINARY: dict[str, Any] = {"loss": "binary", "target": "binary", "reductions": ("sum", "mean")}


def rows(stated: Any, dtype: str) -> dict[str, Any]:
    """The rows of the functions of LightGBM for one dtype, by name."""
    [framework] = [found for found in registry.frameworks() if found.name == "lightgbm"]
    items = plan([stated], [Installed(framework, registry.version_of(framework) or "")])
    found = [Judge(Oracle(), Ledger()).assess(item).row for item in items if item.dtype == dtype]
    return {row.key.function.partition(".")[2]: row for row in found}


@installed
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lightgbm_follows_its_source(dtype):
    found = rows(case(Z, LABELS, options={"sample_weights": WEIGHTS}, reductions=("sum", "mean")), dtype)
    assert {row.status for row in found.values()} <= {"agrees", "diverges"}
    assert "multi_logloss" in found
    assert ("weights_narrowed_to=float32" in found["multi_logloss"].convention) == (dtype == "float64")
    # Derivatives are held in float32.
    assert ("multiclass:hessian" in found) == ("multiclass:gradient" in found)
    far = case([0.5, -2.0, 25.0, -45.0], [1, 0, 0, 1], **BINARY)
    found = rows(far, dtype)
    assert {name for name in found if "logloss" in name or name == "cross_entropy"} == {
        "binary_logloss",
        "cross_entropy",
    }
    assert "log_floor=-34.5" in found["binary_logloss"].convention
    assert "log_floor=-27.6" in found["cross_entropy"].convention


@installed
def test_derivatives_of_sample_do_not_depend_on_others():
    stated = case([0.5, 0.5, -2.0, 1e-20, 90.0, -90.0], [1, 1, 0, 1, 0, 1], **BINARY)
    found = rows(stated, "float32")
    for name in ("binary:gradient", "cross_entropy:gradient", "cross_entropy:hessian"):
        assert found[name].status == "agrees", name
    # The second derivative of `binary` is lost where the prediction is confident and wrong.
    values = found["binary:hessian"].got.values
    assert values[4:].tolist() == [0.0, 0.0]
    assert values[:4] == pytest.approx(found["cross_entropy:hessian"].got.values[:4], rel=1e-6)


@installed
def test_only_one_weight_of_positive_labels_is_supported():
    stated = case([0.3, -1.7, 2.0], [1, 0, 1], options={"positive_weight": [2.5, 0.5, 1.75]}, **BINARY)
    found = rows(stated, "float32")
    assert {name: row.status for name, row in found.items() if row.status != "unsupported"} == {
        "binary:gradient": "agrees",
        "binary:hessian": "agrees",
    }


@installed
def test_reproducer_of_second_derivative_returns_its_row(tmp_path):
    stated = case([0.3, -1.7], [1, 0], options={"sample_weights": [0.5, 3.0]}, **BINARY)
    row = rows(stated, "float32")["cross_entropy:hessian"]
    *lines, last = row.call.splitlines()
    script = tmp_path / "again.py"
    script.write_text("\n".join([*lines, f"print({last}.tolist())"]))
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert np.array_equal(np.array(eval(printed.splitlines()[-1])), row.got.values)


def test_shipped_cases_of_many_classes_are_skipped():
    [framework] = [found for found in registry.frameworks() if found.name == "lightgbm"]
    [found] = [function for function in framework.functions if function.name == "lightgbm.multi_logloss"]
    many = next(one for one in load(shipped_cases() / "categorical/vocabularies.yaml") if one.predicted > 2**16)
    assert "only some of the shipped cases" in (unsupported(found, many, many.problem("float32", "mean")) or "")
    few = case(Z, LABELS, reductions=("mean",))
    assert unsupported(found, few, few.problem("float32", "mean")) is None
