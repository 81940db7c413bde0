"""MLX: its losses and gradients on the CPU, against numpy."""

from __future__ import annotations

import importlib.util
import itertools
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

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mlx") is None, reason="mlx is not installed")
Z = np.array([[1.5, -0.25, 0.5], [0.125, 2.5, -1.25]])
Q = np.array([[0.5, 0.25, 0.25], [0.125, 0.5, 0.25]])
NARROW = ("float16", "bfloat16", "float32")
BINARY: dict[str, Any] = {"loss": "binary", "target": "binary"}


def rows(stated: Any) -> dict[tuple[str, str, str, str], Any]:
    """The rows of the functions of MLX, by name, dtype, reduction and quantity."""
    [framework] = [found for found in registry.frameworks() if found.name == "mlx"]
    judge = Judge(Oracle(), Ledger())
    found = [
        judge.assess(item).row for item in plan([stated], [Installed(framework, registry.version_of(framework) or "")])
    ]
    return {(row.key.function, row.key.dtype, row.key.reduction, row.key.quantity): row for row in found}


def test_mlx_takes_indices_rows_and_log_probabilities_in_narrow_dtypes():
    functions = {"index": {"mlx.cross_entropy", "mlx.nll_loss"}, "distribution": {"mlx.cross_entropy"}}
    for target, labels in (("index", [2, 1]), ("distribution", Q)):
        found = rows(case(Z, labels, target=target, dtypes=NARROW, reductions=("none", "sum", "mean")))
        losses = {(name, dtype, reduction) for name, dtype, reduction, quantity in found if quantity == "loss"}
        assert losses == set(itertools.product(functions[target], NARROW, ("none", "sum", "mean")))
        assert {row.status for row in found.values()} <= {"agrees", "diverges"}
        assert ("mlx.cross_entropy", "bfloat16", "mean", "gradient") in found


def test_mlx_counts_the_log_sum_exp_of_a_row_once():
    row = rows(case(Z, 2 * Q, target="distribution", dtypes=("float32",), reductions=("sum",)))
    loss = row["mlx.cross_entropy", "float32", "sum", "loss"]
    assert (loss.status, loss.convention) == ("diverges", "log_sum_exp=one")


def test_mlx_clips_the_logarithm_of_a_probability():
    found = rows(
        case(
            np.array([0.0, 0.25]),
            [1.0, 0.5],
            input_kind="probabilities",
            dtypes=("float32",),
            reductions=("none",),
            **BINARY,
        )
    )
    loss = found["mlx.binary_cross_entropy", "float32", "none", "loss"]
    assert (loss.status, loss.convention) == ("diverges", "log_floor=-100.0")


def test_mlx_has_seven_digits_of_a_float64():
    found = rows(case(Z, [2, 1], dtypes=("float64",), reductions=("sum",)))
    row = found["mlx.cross_entropy", "float64", "sum", "loss"]
    assert row.status == "disagrees"
    assert 1e-9 < abs(float(str(row.got)) - float(str(row.want))) < 1e-5
