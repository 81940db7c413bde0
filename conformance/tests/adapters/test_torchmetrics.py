"""torchmetrics: the perplexity of token sequences, as a metric and as a function."""

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

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torchmetrics") is None, reason="torchmetrics is not installed"
)
Z = np.random.default_rng(7).standard_normal((2, 3, 4)) * 3
LABELS = [[0, 3, 1], [2, 2, 0]]


def rows(stated: Any, dtype: str) -> dict[str, Any]:
    """The rows of the functions of torchmetrics that are called for one dtype, by name and quantity."""
    [framework] = [found for found in registry.frameworks() if found.name == "torchmetrics"]
    items = plan([stated], [Installed(framework, registry.version_of(framework) or "")])
    found = [Judge(Oracle(), Ledger()).assess(item).row for item in items if item.dtype == dtype]
    called = [row for row in found if row.status != "unsupported"]
    return {f"{row.key.function.partition('.')[2]} {row.key.quantity}": row for row in called}


@pytest.mark.parametrize("options", [{}, {"ignore_index": 2}])
def test_perplexity_and_its_gradient_follow_definition(options):
    found = rows(case(Z, LABELS, options=options), "float32")
    function = "functional.text.perplexity"
    assert {*found} == {"text.Perplexity perplexity", f"{function} perplexity", f"{function} perplexity_gradient"}
    assert {row.status for row in found.values()} <= {"agrees", "diverges"}


def test_metric_of_float64_has_single_precision():
    found = rows(case(Z, LABELS), "float64")
    assert found["functional.text.perplexity perplexity"].status in ("agrees", "diverges")
    assert found["text.Perplexity perplexity"].status == "disagrees"


def test_perplexity_is_infinite_if_probability_of_token_underflows():
    logits = np.zeros((1, 10, 2))
    logits[0, 0, 1] = 200.0
    row = rows(case(logits, np.zeros((1, 10), int)), "float32")["functional.text.perplexity perplexity"]
    assert (row.status, row.got.values) == ("disagrees", np.inf)
    assert row.want.values == pytest.approx(np.exp(20.0) * 2**0.9)
