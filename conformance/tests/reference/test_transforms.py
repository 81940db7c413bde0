"""Perplexity and D2: exact answers against decimal arithmetic, and tolerances against rounded computations."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest

from conformance.adapters import registry
from conformance.casefiles.known_issues import KnownIssue, Ledger
from conformance.explain.explainer import explain
from conformance.explain.rendering import terminal
from conformance.judging.effects import answer_by, tolerance_by
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.model.case import Problem, numpy_dtype
from conformance.model.convention import DEFINITION, Convention
from conformance.model.row_key import RowKey
from conformance.reference.oracle import Exact, Oracle, Undefined
from conformance.tests.stated import case

PROBABILITIES = [[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.25, 0.625, 0.125], [0.0625, 0.4375, 0.5]]
LABELS = [0, 1, 0, 2]
WEIGHTS = [1.0, 0.5, 3.0, 0.25]


def due(problem: Problem, quantity: Any, convention: Convention = DEFINITION) -> Any:
    return answer_by(problem, convention, quantity, Oracle())


def number(problem: Problem, quantity: Any, convention: Convention = DEFINITION) -> float:
    found = due(problem, quantity, convention)
    assert isinstance(found, Exact)
    return float(found.hi)


def expected_d2(p: Any, labels: list[int], weights: list[float]) -> Decimal:
    """D2 in decimal arithmetic of 50 digits."""
    rows = list(zip(p, labels, map(Decimal, weights), strict=True))
    share = {c: sum(s for _, y, s in rows if y == c) / sum(s for _, _, s in rows) for c in labels}
    of_model = sum(-s * Decimal(row[y]).ln() for row, y, s in rows)
    return 1 - of_model / sum(-s * share[y].ln() for _, y, s in rows)


@pytest.mark.parametrize("weights", [[], WEIGHTS])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_d2_is_one_minus_a_quotient_of_losses(dtype, weights):
    options = {"sample_weights": weights} if weights else {}
    stated = case(PROBABILITIES, LABELS, input_kind="probabilities", options=options)
    with localcontext(prec=50):
        right = expected_d2(PROBABILITIES, LABELS, weights or [1] * 4)
        found = due(stated.problem(dtype, "mean"), "d2")
        assert abs(Decimal(float(found.hi)) + Decimal(float(found.lo)) - right) <= Decimal(float(found.rad)) * 2
        assert float(found.rad) < 1e-25


def test_d2_of_two_classes_is_that_of_a_binary_loss():
    p = [0.25, 0.5, 0.875]
    rows = case([[1 - x, x] for x in p], [0, 1, 1], input_kind="probabilities")
    outputs = case(p, [0, 1, 1], loss="binary", target="binary", input_kind="probabilities")
    assert number(rows.problem("float64", "mean"), "d2") == number(outputs.problem("float64", "mean"), "d2")


def test_d2_of_the_shares_themselves_is_zero():
    shares = case([[0.5, 0.25, 0.25]] * 4, LABELS, input_kind="probabilities")
    assert abs(number(shares.problem("float64", "mean"), "d2")) < 1e-30
    impossible = case([[0.25, 0.0, 0.75]] * 4, LABELS, input_kind="probabilities")
    assert number(impossible.problem("float64", "mean"), "d2") == -np.inf


@pytest.mark.parametrize(
    ("labels", "weights", "why"),
    [
        ([1, 1, 1, 1], [], "of one class"),
        ([0, 1, 1, 1], [0.0, 1.0, 1.0, 1.0], "of one class"),
        ([0, 1, 1, 1], [-1.0, 1.0, 1.0, 1.0], "negative"),
        ([0, 1, 1, 1], [1e-30, 1.0, 1.0, 1.0], "rounding error"),
    ],
)
def test_d2_without_a_loss_to_explain_is_undefined(labels, weights, why):
    options = {"sample_weights": weights} if weights else {}
    problem = case(PROBABILITIES, labels, input_kind="probabilities", options=options).problem("float32", "mean")
    found = due(problem, "d2")
    assert isinstance(found, Undefined)
    assert why in found.why
    assert tolerance_by(problem, DEFINITION, "d2") == 0


def test_conventions_apply_to_the_losses_that_a_quantity_follows_from():
    certain = case([[0.0, 1.0], [1.0, 0.0]], [0, 0], input_kind="probabilities").problem("float64", "mean")
    clipped = Convention(clip=1e-15)
    assert number(certain, "perplexity") == np.inf
    assert number(certain, "perplexity", clipped) == pytest.approx(1e15**0.5, rel=1e-6)
    problem = case([[0.0, 1.0], [0.5, 0.5]], [0, 1], input_kind="probabilities").problem("float64", "mean")
    assert number(problem, "d2") == -np.inf
    assert number(problem, "d2", clipped) == pytest.approx(1 - (15 * np.log(10) + np.log(2)) / (2 * np.log(2)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_perplexity_is_the_exponential_of_the_mean(dtype):
    problem = case([[0.5, 1.5, -1.0], [2.0, 0.25, 0.0]], [2, 0]).problem(dtype, "mean")
    mean, found = due(problem, "loss"), due(problem, "perplexity")
    with localcontext(prec=40):
        right = (Decimal(float(mean.hi)) + Decimal(float(mean.lo))).exp()
        assert abs(Decimal(float(found.hi)) + Decimal(float(found.lo)) - right) < Decimal("1e-28")


def test_gradient_of_a_perplexity_is_its_slope():
    z = np.array([[0.5, 1.5, -1.0], [2.0, 0.25, 0.0]])
    whole = due(case(z, [2, 0]).problem("float64", "mean"), "perplexity_gradient")
    assert np.all(whole.rad <= 1e-25)
    for where in np.ndindex(z.shape):
        ends = []
        for sign in (1, -1):
            moved = z.copy()
            moved[where] += sign * 2.0**-14
            ends.append(due(case(moved, [2, 0]).problem("float64", "mean"), "perplexity"))
        slope = ((ends[0].hi - ends[1].hi) + (ends[0].lo - ends[1].lo)) * 2.0**13
        assert whole.hi[where] == pytest.approx(slope, rel=1e-7)


def test_gradient_of_undefined_perplexity_is_undefined():
    problem = case([[0.0, 200.0]], [0]).problem("float32", "mean")
    assert np.isfinite(number(problem, "perplexity"))
    assert isinstance(due(problem, "perplexity_gradient"), Undefined)
    assert isinstance(due(case([[0.0, 200.0]], [0]).problem("float64", "mean"), "perplexity_gradient"), Exact)


def drawn(seed: int, dtype: str) -> tuple[Any, Any, Any]:
    """Logits, labels and sample weights."""
    random = np.random.default_rng(seed)
    samples, classes = int(random.integers(2, 60)), int(random.integers(2, 12))
    z = (random.standard_normal((samples, classes)) * random.choice([0.1, 1, 4])).astype(numpy_dtype(dtype))
    labels = random.integers(0, classes, samples)
    labels[:2] = [0, 1]
    weights = random.uniform(0.1, 4, samples).astype(numpy_dtype(dtype))
    return z, labels, weights


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("seed", range(12))
def test_tolerance_accepts_rounded_perplexity_and_rejects_wrong_one(dtype, seed):
    z, labels, _ = drawn(seed, dtype)
    problem = case(z, labels).problem(dtype, "mean")
    d = z - z.max(axis=1, keepdims=True)
    losses = np.log(np.exp(d).sum(axis=1)) - np.take_along_axis(d, labels[:, None], 1)[:, 0]
    computed = np.exp(losses.mean(dtype=z.dtype)).astype(np.float64)
    want, tolerance = number(problem, "perplexity"), float(tolerance_by(problem, DEFINITION, "perplexity"))
    unit = {"float16": 2**-11, "bfloat16": 2**-8, "float32": 2**-24}[dtype]
    assert abs(computed - want) <= tolerance
    assert tolerance < 200 * unit * want * (1 + np.log(want))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("seed", range(12))
def test_tolerance_accepts_rounded_d2_and_rejects_wrong_one(dtype, seed):
    z, labels, weights = drawn(seed, dtype)
    p = np.exp(z.astype(np.float64))
    p = (p / p.sum(axis=1, keepdims=True)).astype(z.dtype)
    stated = case(p, labels, input_kind="probabilities", options={"sample_weights": weights})
    problem = stated.problem(dtype, "mean")
    one_hot = np.eye(p.shape[1], dtype=z.dtype)[labels]
    shares = (weights[:, None] * one_hot).sum(axis=0, dtype=z.dtype) / weights.sum(dtype=z.dtype)
    a = (weights * -np.log(p[np.arange(len(p)), labels])).sum(dtype=z.dtype)
    b = (weights * -np.log(shares[labels])).sum(dtype=z.dtype)
    want, tolerance = number(problem, "d2"), float(tolerance_by(problem, DEFINITION, "d2"))
    unit = {"float16": 2**-11, "float32": 2**-24}[dtype]
    assert abs(float(1 - a / b) - want) <= tolerance
    assert tolerance < 2000 * unit * (2 - want)


def test_ledger_entry_of_loss_explains_derived_quantities():
    ledger = Ledger([KnownIssue("a/b/c", "lib.Loss*", quantities=("gradient",), symptoms=("nan",))])
    key = RowKey("a/b/c", "", "lib.Loss:perplexity", "float32", "mean", "perplexity_gradient")
    assert ledger.find(key, frozenset({"nan"})) is not None
    assert ledger.find(key) is None, "a row that is right is not stale"
    plain = RowKey("a/b/c", "", "lib.Loss:perplexity", "float32", "mean", "perplexity")
    assert ledger.find(plain, frozenset({"nan"})) is None


@pytest.mark.parametrize(
    ("framework", "stated", "dtype", "quantities", "lines"),
    [
        (
            "sklearn",
            case(PROBABILITIES, LABELS, input_kind="probabilities", options={"sample_weights": WEIGHTS}),
            "float64",
            ("d2",),
            ("d2 = 1 - sum / that loss = 1 - ", "-sum_c W_c log(W_c / S)"),
        ),
        (
            "torch",
            case([[0.5, 1.5, -1.0], [2.0, 0.25, 0.0]], [2, 0], options={"class_weights": [1.0, 2.0, 0.5]}),
            "float32",
            ("perplexity", "perplexity_gradient"),
            ("perplexity = e^mean = e^", "perplexity * factor * slope"),
        ),
    ],
)
def test_function_of_other_quantity_is_judged_and_explained(framework, stated, dtype, quantities, lines):
    installed = [one for one in registry.installed()[0] if one.framework.name == framework]
    if not installed:
        pytest.skip(f"{framework} is not installed")
    judge = Judge(Oracle(), Ledger())
    items = [item for item in plan([stated], installed) if item.dtype == dtype and item.quantity in quantities]
    assert {item.quantity for item in items} == set(quantities)
    for item in items:
        row = judge.assess(item).row
        assert (row.status, row.key.quantity) == ("agrees", item.quantity)
        assert item.id.endswith(f"-{item.quantity}")
        assert 0 <= row.ratio < 0.5
        assert row.call.count("predictions = ") >= 1
        names: dict[str, Any] = {}
        *statements, result = row.call.split("; ")
        exec("; ".join(statements), names)
        assert np.allclose(np.asarray(eval(result, names)), np.asarray(row.got.values), rtol=1e-6)
    explained = [explain(stated, dtype, "mean", installed, judge, quantity) for quantity in quantities]
    text = "\n".join(line for explanation in explained for _, line in terminal(explanation))
    assert all(line in text for line in lines), text
