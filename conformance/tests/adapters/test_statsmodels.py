"""statsmodels: the log-likelihood of a logit model, its score and its Hessian."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from conformance.adapters import registry
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.reference.oracle import Oracle
from conformance.tests.stated import case

pytestmark = pytest.mark.skipif(importlib.util.find_spec("statsmodels") is None, reason="statsmodels is not installed")


def rows(predictions: list[float], labels: list[int], dtype: str) -> dict[str, Any]:
    """The rows of the methods of a logit model, by name and reduction."""
    [framework] = [found for found in registry.frameworks() if found.name == "statsmodels"]
    stated = case(predictions, labels, loss="binary", target="binary", reductions=("none", "sum", "mean"))
    items = plan([stated], [Installed(framework, registry.version_of(framework) or "")])
    found = [Judge(Oracle(), Ledger()).assess(item).row for item in items if item.dtype == dtype]
    called = [row for row in found if row.status != "unsupported"]
    return {f"{row.key.function.rpartition('.')[2]} {row.key.reduction}": row for row in called}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_statsmodels_follows_its_documentation(dtype):
    found = rows([0.5, -2.0, 12.0, -7.0], [1, 0, 0, 1], dtype)
    assert {row.status for row in found.values()} <= {"agrees", "diverges"}
    methods = {"loglike sum", "score_factor sum", "hessian_factor sum"}
    assert {*found} == methods | {f"loglikeobs {reduction}" for reduction in ("none", "sum", "mean")}


def test_likelihood_of_far_sample_underflows():
    assert rows([-710.0], [1], "float64")["loglike sum"].got.values == float("inf")
    assert rows([-709.0], [1], "float64")["loglike sum"].status in ("agrees", "diverges")
