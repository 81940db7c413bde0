"""Losses that make the logits themselves, from hidden states and a weight matrix."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from conformance.adapters import checked, registry
from conformance.adapters.checked import CheckedCallable, CheckError, Inspection, Parameter
from conformance.adapters.contract.calling import evaluate
from conformance.adapters.contract.heads import head_of, upstream_gradient, with_bias
from conformance.judging.compare import compare
from conformance.judging.effects import answer_by, tolerance_by
from conformance.model.case import Case, Problem
from conformance.model.convention import Convention
from conformance.model.outcome import Returned
from conformance.reference.oracle import Exact, Oracle
from conformance.tests.stated import shipped

CANCELS = Convention(gradient_cancellation="targets")
NAMES = (
    "categorical/index_labels/",
    "categorical/large_logits/",
    "categorical/unbatched/",
    "categorical/class_weights/",
)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    found = [case for case in shipped() if case.id.startswith(NAMES)]
    return [case for case in found if case.input_kind == "logits" and not hasattr(case.expect, "kind")]


def problems(cases: list[Case], reduction="mean"):
    for case in cases:
        for dtype in case.dtypes:
            problem = case.problem(dtype, reduction)
            if np.isfinite(problem.predictions).all():
                yield problem


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_product_is_exact_in_the_dtype_in_any_order(cases, has_bias, order):
    found = 0
    for problem in problems(cases):
        head = head_of(with_bias(problem, has_bias))
        products = head.hidden[..., np.newaxis, :] * head.weight
        if head.bias is not None:
            products = np.concatenate([products, np.broadcast_to(head.bias[:, None], (*products.shape[:-1], 1))], -1)
        total = np.zeros(products.shape[:-1], dtype=products.dtype)
        for term in np.moveaxis(products, -1, 0)[order]:
            total = total + term
        assert total.dtype == problem.predictions.dtype
        assert np.array_equal(total, problem.predictions), problem.case
        assert head.hidden.shape[-1] % 8 == 0
        found += 1
    assert found > 50


def test_product_has_several_terms_and_a_bias(cases):
    terms = [
        int((head.hidden[..., np.newaxis, :] * head.weight != 0).sum(-1).max())
        for problem in problems(cases)
        for head in [head_of(with_bias(problem, has_bias=False))]
    ]
    assert sum(count >= 2 for count in terms) > len(terms) * 0.8
    assert sum(bool(head_of(problem).bias.any()) for problem in problems(cases)) > len(terms) / 3


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize(
    ("quantity", "has_bias"),
    [("hidden_gradient", True), ("hidden_gradient", False), ("weight_gradient", False), ("bias_gradient", True)],
)
def test_gradient_is_the_chain_rule(cases, quantity, has_bias, reduction):
    oracle, found = Oracle(), 0
    for problem in problems(cases, reduction):
        problem = with_bias(problem, has_bias)
        if problem.dtype != "float64" or problem.predictions.size > 40 or problem.predictions.ndim != 2:
            continue
        slope = answer_by(problem, CANCELS, "gradient", oracle)
        exact = answer_by(problem, CANCELS, quantity, oracle)
        assert isinstance(slope, Exact)
        assert isinstance(exact, Exact)
        upstream = upstream_gradient(problem.sample_shape) if reduction == "none" else np.ones(problem.sample_shape)
        g = [
            [Fraction(by) * (Fraction(h) + Fraction(low)) for h, low in zip(hi, lo, strict=True)]
            for hi, lo, by in zip(slope.hi, slope.lo, upstream.tolist(), strict=True)
        ]
        head = head_of(problem)
        samples, classes = slope.hi.shape
        for at in np.ndindex(exact.hi.shape):
            if quantity == "hidden_gradient":
                due = sum(g[at[0]][c] * Fraction(float(head.weight[c, at[1]])) for c in range(classes))
            else:
                by = head.hidden[:, at[1]] if quantity == "weight_gradient" else np.ones(samples)
                due = sum(g[n][at[0]] * Fraction(float(by[n])) for n in range(samples))
            error = abs(Fraction(exact.hi[at]) + Fraction(exact.lo[at]) - due)
            assert error <= Fraction(exact.rad[at]) + abs(due) * Fraction(2) ** -100 + Fraction(2) ** -1000
        found += 1
    assert found >= 4


def _gradients(problem: Problem) -> dict[str, np.ndarray]:
    """Gradients of a right implementation in the dtype of the problem, by float64 softmax."""
    head, z = head_of(problem), problem.predictions.astype(np.float64)
    p = np.exp(z - z.max(-1, keepdims=True))
    p = p / p.sum(-1, keepdims=True)
    p[np.arange(len(z)), problem.labels] -= 1
    g = (p / len(z)).astype(problem.predictions.dtype)
    found = {"hidden_gradient": g @ head.weight, "weight_gradient": g.T @ head.hidden, "bias_gradient": g.sum(0)}
    return {name: value.astype(np.float64) for name, value in found.items()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tolerance_accepts_right_gradients_and_rejects_faults(cases, dtype):
    case = next(case for case in shipped() if case.id == "categorical/vocabularies/classes_4097")
    problem, oracle = case.problem(dtype, "mean"), Oracle()
    for quantity, right in _gradients(problem).items():
        exact, tolerance = answer_by(problem, CANCELS, quantity, oracle), tolerance_by(problem, CANCELS, quantity)
        assert isinstance(exact, Exact)
        assert compare(right, exact, tolerance, dtype).within
        dropped, scaled = right.copy(), right * 1.001
        if quantity == "hidden_gradient":  # the classes beyond a block
            z = problem.predictions.astype(np.float64)
            p = np.exp(z - z.max(-1, keepdims=True))
            late = (p / p.sum(-1, keepdims=True) / len(z))[:, 4096:]
            dropped -= late @ head_of(problem).weight[4096:].astype(np.float64)
        else:
            dropped[4096:] = 0
        assert not compare(dropped, exact, tolerance, dtype).within
        assert not compare(scaled, exact, tolerance, dtype).within


def test_infinite_logits_and_probabilities_are_unsupported(cases):
    function = registry.function_named("torch.linear_cross_entropy")
    problem = next(p for p in problems(cases) if p.predictions.ndim == 2 and p.target == "index")
    assert function.unsupported(problem) is None
    infinite = dataclasses.replace(problem, predictions=np.full_like(problem.predictions, -np.inf))
    assert function.unsupported(infinite) == "it takes hidden states, of which no product is infinite or nan"
    probabilities = dataclasses.replace(problem, input_kind="probabilities")
    assert function.unsupported(probabilities) == "it takes hidden states, which are made of logits only"


def _inspection(*names: str) -> Inspection:
    return Inspection(False, (), tuple(Parameter(name, True, True) for name in names), "0")


def _call(tmp_path, names, arguments=None):
    (tmp_path / "kernels.py").write_text("")
    described = CheckedCallable(
        target=f"{tmp_path / 'kernels.py'}:f", like="torch.linear_cross_entropy", arguments=arguments or {}
    )
    (function,) = checked.installed(described, _inspection(*names)).functions
    return function


@pytest.mark.parametrize(
    ("names", "arguments", "call"),
    [
        (("hidden", "weight", "target"), {}, "kernels.f({hidden}, {weight}, {labels}, {options})"),
        (("weight", "x", "y"), {}, "kernels.f({weight}, {hidden}, {labels}, {options})"),
        (("a", "b", "c_"), {}, "kernels.f({hidden}, {weight}, {labels}, {options})"),
        (("a", "b", "t"), {"b": "hidden", "a": "weight"}, "kernels.f({weight}, {hidden}, {labels}, {options})"),
    ],
)
def test_parameters_of_a_head_are_found(tmp_path, names, arguments, call):
    function = _call(tmp_path, names, arguments)
    assert function.call.endswith(call)
    assert function.quantities == ("loss", "hidden_gradient", "weight_gradient")
    assert function.default_files == frozenset()


def test_head_with_bias_has_a_gradient_in_it(tmp_path):
    function = _call(tmp_path, ("hidden", "weight", "target", "bias", "ignore_index"))
    assert function.quantities[-1] == "bias_gradient"
    assert function.options == {"ignore_index"}


def test_head_without_a_weight_is_rejected(tmp_path):
    with pytest.raises(CheckError, match="no parameter for weight"):
        _call(tmp_path, ("hidden", "target"))


def test_head_is_called_with_factors_of_logits(cases, monkeypatch, tmp_path):
    (tmp_path / "my_head.py").write_text(
        "import numpy as np\n"
        "def f(hidden, weight, target, bias, reduction='mean'):\n"
        "    z = hidden @ weight.T + bias\n"
        "    z = z - z.max(-1, keepdims=True)\n"
        "    loss = np.log(np.exp(z).sum(-1)) - z[np.arange(len(z)), target]\n"
        "    return loss if reduction == 'none' else getattr(loss, reduction)()\n"
    )
    described = CheckedCallable(
        target=f"{tmp_path / 'my_head.py'}:f", like="torch.linear_cross_entropy", arrays="numpy"
    )
    found = checked.installed(described, checked.inspect_callable(described.target))
    problem = next(
        p for p in problems(cases, "none") if p.dtype == "float64" and p.target == "index" and not p.options.names()
    )
    outcome = evaluate(found.framework, found.functions[0], problem)
    assert isinstance(outcome, Returned)
    exact = answer_by(problem, Convention(), "loss", Oracle())
    assert isinstance(exact, Exact)
    assert compare(outcome.value, exact, tolerance_by(problem, Convention(), "loss"), "float64").within
