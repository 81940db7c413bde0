"""Class weights of whole rows, log-sum-exp that counts once, a class axis that stays; PaddlePaddle, which has them."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from conformance.adapters import registry
from conformance.adapters.contract import DeclarationError
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.judging.effects import answer_by, tolerance_by
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.model.case import Layout, Problem
from conformance.model.convention import DEFINITION, Convention
from conformance.reference.oracle import Exact, Oracle, Undefined
from conformance.tests.stated import case

installed = pytest.mark.skipif(importlib.util.find_spec("paddle") is None, reason="paddle is not installed")
ROWS = Convention(class_weighting="rows")
ONCE = Convention(log_sum_exp="one")
KEPT = Convention(unreduced_class_axis="kept")
Z = np.array([[1.2, -0.3, 0.5], [0.1, 2.4, -1.3]])
Q = np.array([[0.5, 0.25, 0.5], [0.125, 0.5, 0.25]])
W = np.array([0.75, 2.0, 0.5])


def due(problem: Problem, convention: Convention, quantity: Any = "loss") -> Any:
    found = answer_by(problem, convention, quantity, Oracle())
    assert isinstance(found, Exact)
    return found.hi


def soft(reduction: Any, targets: Any = Q, weights: Any = W, **fields: Any) -> Problem:
    options = {} if weights is None else {"class_weights": weights}
    return case(Z, targets, target="distribution", options=options, **fields).problem("float64", reduction)


def log_softmax(z: Any) -> Any:
    return z - z.max(axis=-1, keepdims=True) - np.log(np.exp(z - z.max(axis=-1, keepdims=True)).sum(-1, keepdims=True))


def test_row_weights_multiply_whole_loss():
    by_hand = (Q @ W) * -(Q * log_softmax(Z)).sum(axis=1)
    assert due(soft("none"), ROWS) == pytest.approx(by_hand, rel=1e-14)
    assert not np.allclose(due(soft("none"), DEFINITION), by_hand)
    slope = (Q @ W)[:, np.newaxis] * (Q.sum(axis=1, keepdims=True) * np.exp(log_softmax(Z)) - Q)
    assert due(soft("sum"), ROWS, "gradient") == pytest.approx(slope, rel=1e-13)


def test_row_weights_equal_label_weights_for_one_hot_rows():
    problem = case(Z, [2, 1], options={"class_weights": W}).problem("float64", "mean")
    assert due(problem, ROWS) == due(problem, DEFINITION)
    smoothed = case(Z, [2, 1], options={"class_weights": W, "label_smoothing": 0.25}).problem("float64", "none")
    assert not np.allclose(due(smoothed, ROWS), due(smoothed, DEFINITION))


def test_budget_of_a_row_whose_weights_cancel_is_that_of_their_size():
    cancels = soft("none", np.array([[-0.75, 0.25, 0.125], [0.5, 0.25, 0.25]]), np.array([0.7, 1.9, 0.4]))
    convention = Convention(class_weighting="rows", accepts=frozenset({"invalid_target"}))
    assert abs(due(cancels, convention)[0]) < 1e-15 < 1 < due(cancels, convention)[1]
    assert float(tolerance_by(cancels, convention, "loss")[0]) > 1e-16


@pytest.mark.parametrize("targets", [[[1, 1, 0], [0, 0, 0]], Q.tolist()])
def test_log_sum_exp_counts_once(targets):
    problem, q = soft("none", np.array(targets, dtype=float), None), np.array(targets, dtype=float)
    shifted = Z - Z.max(axis=1, keepdims=True)
    by_hand = np.log(np.exp(shifted).sum(axis=1)) - (q * shifted).sum(axis=1)
    assert due(problem, ONCE) == pytest.approx(by_hand, rel=1e-14)
    assert due(problem.with_reduction("sum"), ONCE, "gradient") == pytest.approx(np.exp(log_softmax(Z)) - q, abs=1e-15)
    assert not np.allclose(due(problem, DEFINITION), by_hand)


def test_class_axis_is_that_of_predictions():
    assert due(soft("none"), KEPT).shape == (2, 1)
    assert due(soft("mean"), KEPT).shape == ()
    images = np.zeros((2, 4, 5, 3))
    at_one = case(images, np.zeros((2, 4, 5), dtype=int), layout=Layout(class_axis=1)).problem("float64", "none")
    assert due(at_one, KEPT).shape == (2, 1, 4, 5) == tolerance_by(at_one, KEPT, "loss").shape
    last = case(images, np.zeros((2, 4, 5), dtype=int)).problem("float64", "none")
    assert due(last, KEPT).shape == (2, 4, 5, 1)


def test_loss_of_unspecified_label_is_undefined():
    problem = case(Z, [-1, 1]).problem("float64", "mean")
    assert isinstance(answer_by(problem, Convention(out_of_range="unspecified"), "loss", Oracle()), Undefined)


@pytest.mark.parametrize("convention", [ROWS, ONCE, KEPT])
def test_choice_without_effect_is_rejected(convention):
    from conformance.adapters import arrays
    from conformance.adapters.contract import DocumentedConvention, Framework, Function

    fields: dict[str, Any] = {
        "ranks": {"binary": range(2)}, "input_kinds": {"logits": ""}, "targets": {"binary": ""},
        "reductions": {"none": ""}, "conventions": (DocumentedConvention(convention),),
    }  # fmt: skip
    with pytest.raises(DeclarationError, match="has no effect on what it takes"):
        Framework("f", (), (), (Function("loss", "f({predictions}, {labels}, {options})", **fields),), arrays.numpy)


def rows_of(name: str, stated: Any, dtype: str, quantity: str) -> dict[str, Any]:
    [framework] = [found for found in registry.frameworks() if found.name == name]
    items = plan([stated], [Installed(framework, registry.version_of(framework) or "")])
    judge = Judge(Oracle(), Ledger())
    rows = [judge.assess(item).row for item in items if (item.dtype, item.quantity) == (dtype, quantity)]
    return {f"{row.key.function.partition('.')[2]} {row.key.reduction}": row for row in rows}


@installed
@pytest.mark.parametrize("quantity", ["loss", "gradient"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_paddle_weighs_rows_and_keeps_the_class_axis(dtype, quantity):
    stated = case(
        Z, Q, target="distribution", options={"class_weights": W}, dtypes=(dtype,), reductions=("none", "sum", "mean")
    )
    rows = rows_of("paddle", stated, dtype, quantity)
    assert {row.status for row in rows.values()} == {"diverges"}
    assert {name.partition(" ")[0] for name in rows} == {"CrossEntropyLoss", "functional.cross_entropy"}
    assert "class_weighting=rows" in rows["CrossEntropyLoss mean"].convention
    assert ("mean_divides_by=target_weight" in rows["CrossEntropyLoss mean"].convention) or quantity == "gradient"
    assert ("unreduced_class_axis=kept" in rows["CrossEntropyLoss none"].convention) == (quantity == "loss")


@installed
def test_smoothing_of_nothing_keeps_the_labels_of_paddle():
    stated = case(Z, [2, 1], options={"label_smoothing": 0.0}, dtypes=("float32",), reductions=("none",))
    rows = rows_of("paddle", stated, "float32", "loss")
    assert {row.status for row in rows.values()} == {"agrees"}
    assert len(rows) == 2
