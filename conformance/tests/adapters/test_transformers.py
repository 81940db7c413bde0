"""Losses of language models: labels that they shift, inputs that they narrow, and a divisor that the caller gives."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from conformance.adapters import registry
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.explain.explainer import explain
from conformance.explain.rendering import terminal
from conformance.judging.effects import answer_by, has_effect, narrowed, tolerance_by
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.model.case import Problem
from conformance.model.convention import DEFINITION, Convention
from conformance.reference.flat_problem import flatten, rejected_anomalies
from conformance.reference.oracle import Exact, Oracle
from conformance.tests.stated import case

installed = pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
SHIFTED = Convention(label_shift=1)
IN_FLOAT32 = Convention(narrowed_to="float32")
Z = np.random.default_rng(5).standard_normal((2, 4, 3))
LABELS = np.array([[0, 2, 1, 1], [2, 0, 0, 1]])


def due(problem: Problem, convention: Convention, quantity: Any = "loss") -> Any:
    found = answer_by(problem, convention, quantity, Oracle())
    assert isinstance(found, Exact)
    return found.hi


def shifted_by_hand(shift: int, reduction: Any, dtype: str = "float64") -> Problem:
    """The problem of the positions that have a label further along, beside that label."""
    return case(Z[:, : 4 - shift], LABELS[:, shift:], reductions=(reduction,)).problem(dtype, reduction)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("shift", [1, 3])
def test_shifted_labels_are_those_of_later_positions(shift, reduction):
    problem, by_hand = case(Z, LABELS).problem("float64", reduction), shifted_by_hand(shift, reduction)
    convention = Convention(label_shift=shift)
    assert due(problem, convention) == due(by_hand, DEFINITION)
    slope = due(problem, convention, "gradient")
    assert np.array_equal(slope[:, : 4 - shift], due(by_hand, DEFINITION, "gradient"))
    assert not slope[:, 4 - shift :].any()
    tolerances = [float(tolerance_by(*asked, "loss")) for asked in ((problem, convention), (by_hand, DEFINITION))]
    assert tolerances[0] == pytest.approx(tolerances[1], rel=0.3)


def test_shifted_labels_of_distributions_are_those_of_their_indices():
    rows = case(Z, np.eye(3)[LABELS], target="distribution").problem("float64", "none")
    assert np.array_equal(due(rows, SHIFTED), due(case(Z, LABELS).problem("float64", "none"), SHIFTED))


def test_unreduced_loss_is_zero_without_shifted_label():
    found = due(case(Z, LABELS).problem("float64", "none"), SHIFTED)
    assert np.array_equal(found != 0, [[True, True, True, False]] * 2)


def test_shift_beyond_axis_excludes_all_samples():
    problem = case(Z, LABELS).problem("float64", "mean")
    for shift in (4, 9):
        assert not flatten(problem, Convention(label_shift=shift)).kept.any()


def test_ignored_labels_shift_with_the_others():
    problem = case(Z, np.where(LABELS == 1, -100, LABELS), options={"ignore_index": -100}).problem("float64", "mean")
    assert flatten(problem, SHIFTED).kept.reshape(2, 4).tolist() == [
        [True, False, False, False],
        [True, True, False, False],
    ]


def test_unused_label_may_have_any_value():
    problem = case(Z[0], [7, 0, 1, 2]).problem("float64", "mean")
    assert rejected_anomalies(problem, DEFINITION) == {"label_out_of_range"}
    assert not rejected_anomalies(problem, SHIFTED)
    assert rejected_anomalies(case(Z[0], [0, 7, 1, 2]).problem("float64", "mean"), SHIFTED)


def test_shift_has_no_effect_without_an_axis_of_samples():
    alone = case([0.5, 1.0], 1).problem("float64", "none")
    assert not has_effect("label_shift", SHIFTED, alone, "loss")
    assert due(alone, SHIFTED) == due(alone, DEFINITION)


@pytest.mark.parametrize("quantity", ["loss", "gradient"])
def test_narrowed_inputs_have_the_answer_and_the_tolerance_of_the_rounded_ones(quantity):
    stated = case([[1e6 + 0.013, 1e6]], [0], options={"sample_weights": [0.1]})
    wide, narrow = stated.problem("float64", "mean"), stated.problem("float32", "mean")
    assert narrowed(wide, IN_FLOAT32).dtype == "float32"
    assert np.array_equal(due(wide, IN_FLOAT32, quantity), due(narrow, DEFINITION, quantity))
    assert not np.array_equal(due(wide, DEFINITION, quantity), due(narrow, DEFINITION, quantity))
    assert np.array_equal(tolerance_by(wide, IN_FLOAT32, quantity), tolerance_by(narrow, DEFINITION, quantity))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_narrowing_keeps_representable_inputs(dtype):
    problem = case(Z, LABELS).problem(dtype, "mean")
    assert narrowed(problem, IN_FLOAT32) is problem
    assert not has_effect("narrowed_to", IN_FLOAT32, problem, "loss")


def transformers(stated: Any, dtype: str, quantity: str = "loss") -> dict[str, Any]:
    """The rows of the functions of transformers, by name and reduction."""
    [framework] = [found for found in registry.frameworks() if found.name == "transformers"]
    items = plan([stated], [Installed(framework, registry.version_of(framework) or "")])
    judge = Judge(Oracle(), Ledger())
    rows = [judge.assess(item).row for item in items if (item.dtype, item.quantity) == (dtype, quantity)]
    return {f"{row.key.function.partition('.')[2]} {row.key.reduction}": row for row in rows}


@installed
@pytest.mark.parametrize("quantity", ["loss", "gradient"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_transformers_follows_its_source(dtype, quantity):
    stated = case(
        Z * 3, np.where(LABELS == 2, -100, LABELS), options={"ignore_index": -100},
        dtypes=(dtype,), reductions=("sum", "mean"),
    )  # fmt: skip
    rows = transformers(stated, dtype, quantity)
    names = (
        "ForCausalLMLoss", "ForCausalLMLoss:shift_labels", "ForMaskedLMLoss", "ForTokenClassification", "LabelSmoother",
    )  # fmt: skip
    reduced = {f"{name} {reduction}" for name in names for reduction in ("sum", "mean")}
    assert rows.keys() == reduced | {"ForCausalLMLoss:num_items_in_batch mean"}
    assert {row.status for row in rows.values()} <= {"agrees", "diverges"}
    assert "label_shift=1" in rows["ForCausalLMLoss mean"].convention
    assert ("narrowed_to=float32" in rows["ForMaskedLMLoss mean"].convention) == (dtype == "float64")
    assert "mean_divides_by=samples" in rows["ForCausalLMLoss:num_items_in_batch mean"].convention
    assert rows["ForMaskedLMLoss mean"].result_dtype == ("float32" if quantity == "loss" else dtype)


@installed
def test_explanation_shows_used_labels_and_rounded_number():
    [framework] = [found for found in registry.frameworks() if found.name == "transformers"]
    here = [Installed(framework, registry.version_of(framework) or "")]
    stated = case(Z, LABELS, dtypes=("float64",))
    explained = explain(stated, "float64", "mean", here, Judge(Oracle(), Ledger()))
    text = " ".join(" ".join(line for _, line in terminal(explained)).split())
    assert "labels that it holds the predictions against = [2, 1, 1, -, 0, 0, 1, -]" in text
    assert "its prediction = " in text
