"""tinygrad: its losses and gradients on the CPU, and what is said where there is no clang."""

from __future__ import annotations

import importlib.util
import shutil
from typing import Any

import numpy as np
import pytest

from conformance.adapters import registry, tinygrad
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.reference.oracle import Oracle
from conformance.tests.stated import case

callable_here = pytest.mark.skipif(
    importlib.util.find_spec("tinygrad") is None or shutil.which("clang") is None, reason="tinygrad or clang is missing"
)
Z = np.array([[1.5, -0.25, 0.5], [0.125, 2.5, -1.25]])
Q = np.array([[0.5, 0.25, 0.25], [0.125, 0.5, 0.25]])
P = np.array([0.25, 0.75])
MEANS: dict[str, Any] = {"dtypes": ("float32",), "reductions": ("mean",)}


def rows(stated: Any) -> dict[tuple[str, str, str], Any]:
    """The rows of the functions of tinygrad, by name without the library's, dtype and quantity."""
    framework = tinygrad.FRAMEWORK
    judge = Judge(Oracle(), Ledger())
    items = plan([stated], [Installed(framework, registry.version_of(framework) or "")])
    found = [judge.assess(item).row for item in items]
    return {(row.key.function.partition(".")[2], row.key.dtype, row.key.quantity): row for row in found}


@callable_here
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_tinygrad_takes_indices_in_each_dtype(dtype):
    found = rows(case(Z, [2, 1], dtypes=(dtype,), reductions=("mean",)))
    assert {row.status for row in found.values()} == {"agrees"}
    losses = {function for function, _, quantity in found if quantity == "loss"}
    gradients = {function for function, _, quantity in found if quantity == "gradient"}
    assert losses == {"cross_entropy", "sparse_categorical_crossentropy", "nll_loss"}
    assert gradients == losses - {"nll_loss"}  # which is in log-probabilities, and these are logits


@callable_here
def test_tinygrad_takes_rows_and_one_sample_without_an_axis():
    found = rows(case(Z, Q, target="distribution", **MEANS))
    assert {key[0]: row.status for key, row in found.items()} == {"cross_entropy": "agrees"}
    found = rows(case(Z[0], 2, **MEANS))
    assert {key[0] for key in found} == {"cross_entropy", "sparse_categorical_crossentropy"}
    found = rows(case(np.array(0.25), 1.0, loss="binary", target="binary", input_kind="probabilities", **MEANS))
    assert found["binary_crossentropy", "float32", "gradient"].status == "agrees"


@callable_here
def test_tinygrad_negates_boolean_labels_by_the_logical_not():
    stated = {"loss": "binary", "target": "binary", "input_kind": "probabilities", **MEANS}
    found = {
        name: rows(case(P, np.array([1, 0], dtype=name), **stated))["binary_crossentropy", "float32", "loss"]
        for name in ("bool", "uint8")
    }
    assert (found["bool"].status, found["uint8"].status) == ("disagrees", "agrees")
    assert float(str(found["bool"].got)) == pytest.approx((0 + np.log(0.75) - np.log(0.25)) / 2)


@callable_here
def test_tinygrad_divides_by_labels_of_minus_one_only_by_default():
    found = rows(case(Z, [2, -1], options={"ignore_index": -1}, **MEANS))
    assert found["nll_loss", "float32", "loss"].status == "agrees"
    assert found["sparse_categorical_crossentropy", "float32", "loss"].status == "disagrees"


def test_tinygrad_without_clang_suggests_installation(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PARALLEL", "0")
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(RuntimeError, match="compiles with clang, which is not installed: install clang, or set CC"):
        tinygrad.prepare.__wrapped__()
