"""Derivation of one element of the definition's gradient or second derivative in closed form, with its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from flint import ctx

from conformance.explain.derivation import format_in_dtype, sample_weight, smoothed_target, weighted_targets
from conformance.explain.explanation import Step
from conformance.explain.number_format import format_element, format_number, format_sum, step
from conformance.explain.subproblems import PRECISION, ball, to_balls
from conformance.model.case import Problem, Quantity
from conformance.model.convention import DEFINITION
from conformance.model.floats import distinguishing_digits
from conformance.reference import gradient
from conformance.reference.flat_problem import FlatProblem, flatten
from conformance.reference.oracle import Answer, Exact, Oracle, divided_by


def formula(problem: Problem, quantity: Quantity) -> str:
    """A derivative of the definition as a formula, restricted to the options that the problem sets."""
    options = problem.options
    divisor = " / divisor" if problem.reduction == "mean" else ""
    divisor += " * e^mean" if quantity == "perplexity_gradient" else ""
    s = "s_i " if options.sample_weights is not None else ""
    if problem.loss == "binary":
        y = "y'" if options.label_smoothing else "y"
        pos = "pos " if options.positive_weight is not None else ""
        if quantity == "hessian":
            share = f"(1 - {y} + pos {y}) " if pos else ""
            return f"second derivative_i = {s}{share}sigmoid(z) (1 - sigmoid(z)){divisor}"
        output = {
            "logits": f"((1 - {y}) sigmoid(z) - {pos}{y} (1 - sigmoid(z)))",
            "probabilities": f"((1 - {y}) / (1 - p) - {pos}{y} / p)",
            "log_probabilities": f"((1 - {y}) e^x / (1 - e^x) - {pos}{y})",
        }
        return f"gradient_i = {s}{output[problem.input_kind]}{divisor}"
    if quantity == "hessian":
        of_row = f"T = sum_c t_c, t_c = {_target_text(problem)}"
        return f"second derivative_ic = {s}T softmax(z)_c (1 - softmax(z)_c){divisor}, {of_row}"
    of_class = {"logits": "(T softmax(z)_c - t_c)", "probabilities": "(-t_c / p_c)", "log_probabilities": "(-t_c)"}
    total = ", T = sum_c t_c" if problem.input_kind == "logits" else ""
    text = f"gradient_ic = {s}{of_class[problem.input_kind]}{divisor}, t_c = {_target_text(problem)}{total}"
    return f"{_CHAIN_RULE[quantity]}, {text}" if quantity in _CHAIN_RULE else text


_CHAIN_RULE: dict[Quantity, str] = {
    "hidden_gradient": "gradient @ weight",
    "weight_gradient": "gradient.T @ hidden",
    "bias_gradient": "gradient.sum(0)",
}


def _target_text(problem: Problem) -> str:
    """The weighted target t_c in terms of the problem's options."""
    weight = "w_c " if problem.options.class_weights is not None else ""
    return f"{weight}q'_c" if problem.options.label_smoothing else f"{weight}q_c"


def largest_element(want: Exact) -> tuple[int, ...]:
    """Index of the largest finite element."""
    size = np.where(np.isfinite(want.hi), np.abs(want.hi), -1.0)
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(size)), size.shape)) if size.ndim else ()


def closed_form(
    problem: Problem, want: Exact, where: tuple[int, ...], quantity: Quantity, oracle: Oracle
) -> tuple[Step, ...]:
    """Steps to the element `where` of the derivative `want`; none if it is a sum over the gradient in the logits."""
    if quantity in _CHAIN_RULE:
        return ()
    flat = flatten(problem, DEFINITION)
    shape = problem.sample_shape
    i = int(np.ravel_multi_index(where[: len(shape)], shape)) if shape else 0
    if not flat.kept[i]:
        return (step(f"{_name(quantity)} at {list(where)}", "0", "the sample is ignored"),)
    with ctx.workprec(PRECISION):
        if quantity == "hessian":
            lines = list(_second_lines(flat, i, where[-1] if where else 0))
        else:
            lines = list(
                _binary_lines(problem, flat, i) if flat.binary else _categorical_lines(problem, flat, i, where[-1])
            )
        outer = oracle.answer(problem) if quantity == "perplexity_gradient" else None
        return (*lines, *_scaling_lines(problem, flat, want, where, i, lines[-1].value, outer, _name(quantity)))


def _name(quantity: Quantity) -> str:
    return "second derivative" if quantity == "hessian" else "gradient"


def _second_lines(flat: FlatProblem, i: int, c: int) -> Iterator[Step]:
    """The second derivative of row `i`, or of its class `c`, before a reduction."""
    x = flat.x[i]
    if flat.binary:
        y = smoothed_target(flat, i)
        share = ball(1.0) if flat.positive_weight is None else 1 - y + ball(float(flat.positive_weight[i])) * y
        p, complement = (side[0] for side in gradient.sigmoids(np.array([float(x)]), to_balls))
        yield step("sigmoid(z)", p, f"1 / (1 + e^-({format_element(x)}))")
    else:
        parts = dict(weighted_targets(flat, i))
        share = sum(parts.values(), ball(0.0))
        row = gradient.softmax(x[np.newaxis].astype(np.float64), to_balls)
        p, complement = row[0, c], gradient.sum_of_others(row)[0, c]
        yield step("T", share, "sum_c t_c", format_sum(list(parts.values())))
        exponentials = format_sum([f"e^{format_element(z)}" for z in x])
        yield step(f"softmax(z)_{c}", p, "", f"e^{format_element(x[c])} / ({exponentials})")
    filled = f"{format_number(share)} * {format_number(p)} * {format_number(complement)}"
    yield step("unreduced", share * p * complement, "", filled)


def _categorical_lines(problem: Problem, flat: FlatProblem, i: int, c: int) -> Iterator[Step]:
    parts, x = dict(weighted_targets(flat, i)), flat.x[i]
    t: Any = parts.get(c, ball(0.0))
    yield step(f"t_{c}", t, _target_text(problem).replace("_c", f"_{c}"))
    if problem.input_kind == "log_probabilities":
        yield step("slope", -t, f"-t_{c}")
    elif problem.input_kind == "probabilities":
        p = float(x[c])
        value = -t / ball(p) if p > 0 else (ball(0.0) if t == 0 else -np.inf)
        yield step("slope", value, f"-t_{c} / p_{c}", f"-{format_number(t)} / {format_element(x[c])}")
    else:
        total = sum(parts.values(), ball(0.0))
        p = gradient.softmax(x[np.newaxis].astype(np.float64), to_balls)[0, c]
        exponentials = format_sum([f"e^{format_element(z)}" for z in x])
        yield step("T", total, "sum_c t_c", format_sum(list(parts.values())))
        yield step(f"softmax(z)_{c}", p, "", f"e^{format_element(x[c])} / ({exponentials})")
        filled = f"{format_number(total)} * {format_number(p)} - {format_number(t)}"
        yield step("slope", total * p - t, f"T softmax(z)_{c} - t_{c}", filled)


def _binary_lines(problem: Problem, flat: FlatProblem, i: int) -> Iterator[Step]:
    x, y = flat.x[i], smoothed_target(flat, i)
    pos = ball(1.0) if flat.positive_weight is None else ball(float(flat.positive_weight[i]))
    weighted = "" if flat.positive_weight is None else f"{format_in_dtype(problem, flat.positive_weight[i])} * "
    on, off, text = format_number(y), format_number(1 - y), format_element(x)
    yield step("y'" if flat.smoothing else "y", on)
    match problem.input_kind:
        case "logits":
            s, r = (side[0] for side in gradient.sigmoids(np.array([float(x)]), to_balls))
            yield step("sigmoid(z)", s, f"1 / (1 + e^-({text}))")
            filled = f"{off} * {format_number(s)} - {weighted}{on} * {format_number(r)}"
            value = (1 - y) * s - pos * y * r
        case "probabilities":
            p = ball(float(x))
            filled = f"{off} / (1 - {text}) - {weighted}{on} / {text}"
            first = ball(0.0) if y == 1 else ((1 - y) / (1 - p) if p != 1 else np.inf)
            second = ball(0.0) if y == 0 else (pos * y / p if p != 0 else np.inf)
            value = first - second
        case "log_probabilities":
            e = ball(float(x)).exp()
            filled = f"{off} * {format_number(e)} / (1 - {format_number(e)}) - {weighted}{on}"
            value = (1 - y) * e / (1 - e) - pos * y if e != 1 else np.nan
    yield step("slope", value, "", filled)


def _scaling_lines(
    problem: Problem,
    flat: FlatProblem,
    want: Exact,
    where: tuple[int, ...],
    i: int,
    slope: str,
    mean: Answer | None,
    name: str,
) -> Iterator[Step]:
    """The slope times the factor of the reduction.

    mean: the mean of a perplexity, which is also a factor; None for other quantities.
    name: name of the derivative.
    """
    factor, s = gradient.factors(problem, flat, DEFINITION, to_balls)[i], sample_weight(flat, i)
    text = "1" if s is None else format_in_dtype(problem, s)
    if problem.reduction == "mean":
        filled = f"{text} / {format_number(divided_by(flat, DEFINITION))}"
        yield step("factor", factor, "1 / divisor" if s is None else "s_i / divisor", filled)
    elif s is not None:
        yield step("factor", text, "s_i")
    value, filled, rule = want.hi[where], f"{format_number(factor)} * {slope}", "factor * slope"
    if isinstance(mean, Exact):
        yield step("perplexity", np.exp(mean.hi), "e^mean", f"e^{format_number(mean.hi)}")
        filled, rule = f"{format_number(np.exp(mean.hi))} * {filled}", f"perplexity * {rule}"
    yield step(f"{name} at {list(where)}", value, rule, filled, distinguishing_digits([float(value)]))
