"""Derivation of one element of the definition's gradient in closed form, with its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from flint import ctx

from conformance.explain.derivation import format_in_dtype, smoothed_target, weighted_targets
from conformance.explain.explanation import Step
from conformance.explain.number_format import distinguishing_digits, format_element, format_number, format_sum
from conformance.explain.subproblems import PRECISION, ball, to_balls
from conformance.model.case import Problem
from conformance.model.convention import DEFINITION
from conformance.reference import gradient
from conformance.reference.flat_problem import FlatProblem, flatten
from conformance.reference.oracle import Exact, divided_by


def formula(problem: Problem) -> str:
    """The gradient of the definition as a formula, restricted to the options that the problem sets."""
    options = problem.options
    by = " / divisor" if problem.reduction == "mean" else ""
    s = "s_i " if options.sample_weights is not None else ""
    if problem.loss == "binary":
        y = "y'" if options.label_smoothing else "y"
        pos = "pos " if options.positive_weight is not None else ""
        output = {
            "logits": f"((1 - {y}) sigmoid(z) - {pos}{y} (1 - sigmoid(z)))",
            "probabilities": f"((1 - {y}) / (1 - p) - {pos}{y} / p)",
            "log_probabilities": f"((1 - {y}) e^x / (1 - e^x) - {pos}{y})",
        }
        return f"gradient_i = {s}{output[problem.input_kind]}{by}"
    of_class = {"logits": "(T softmax(z)_c - t_c)", "probabilities": "(-t_c / p_c)", "log_probabilities": "(-t_c)"}
    total = ", T = sum_c t_c" if problem.input_kind == "logits" else ""
    return f"gradient_ic = {s}{of_class[problem.input_kind]}{by}, t_c = {_target_text(problem)}{total}"


def _target_text(problem: Problem) -> str:
    """The weighted target t_c in terms of the problem's options."""
    weight = "w_c " if problem.options.class_weights is not None else ""
    return f"{weight}q'_c" if problem.options.label_smoothing else f"{weight}q_c"


def largest_element(want: Exact) -> tuple[int, ...]:
    """Index of the largest finite element."""
    size = np.where(np.isfinite(want.hi), np.abs(want.hi), -1.0)
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(size)), size.shape)) if size.ndim else ()


def closed_form(problem: Problem, want: Exact, where: tuple[int, ...]) -> tuple[Step, ...]:
    """Steps to the element `where` of the gradient `want`."""
    flat = flatten(problem, DEFINITION)
    shape = problem.sample_shape
    i = int(np.ravel_multi_index(where[: len(shape)], shape)) if shape else 0
    if not flat.kept[i]:
        return (Step(f"gradient at {list(where)}", "the sample is ignored", "", "0"),)
    with ctx.workprec(PRECISION):
        lines = _binary_lines(problem, flat, i) if flat.binary else _categorical_lines(problem, flat, i, where[-1])
        return (*lines, *_scaling_lines(problem, flat, want, where, i, lines[-1].value))


def _categorical_lines(problem: Problem, flat: FlatProblem, i: int, c: int) -> tuple[Step, ...]:
    parts = weighted_targets(flat, i)
    x = flat.x[i]
    t: Any = dict(parts).get(c, ball(0.0))
    total = sum((part for _, part in parts), ball(0.0))
    lines = [Step(f"t_{c}", _target_text(problem).replace("_c", f"_{c}"), "", format_number(t))]
    match problem.input_kind:
        case "log_probabilities":
            lines.append(Step("slope", f"-t_{c}", "", format_number(-t)))
        case "probabilities":
            p = float(x[c])
            value = -t / ball(p) if p > 0 else (ball(0.0) if t == 0 else -np.inf)
            lines.append(
                Step("slope", f"-t_{c} / p_{c}", f"-{format_number(t)} / {format_element(x[c])}", format_number(value))
            )
        case "logits":
            p = gradient.softmax(x[np.newaxis].astype(np.float64), to_balls)[0, c]
            exponentials = format_sum([f"e^{format_element(z)}" for z in x])
            lines += [
                Step("T", "sum_c t_c", format_sum([format_number(part) for _, part in parts]), format_number(total)),
                Step(f"softmax(z)_{c}", "", f"e^{format_element(x[c])} / ({exponentials})", format_number(p)),
                Step(
                    "slope",
                    f"T softmax(z)_{c} - t_{c}",
                    f"{format_number(total)} * {format_number(p)} - {format_number(t)}",
                    format_number(total * p - t),
                ),
            ]
    return tuple(lines)


def _binary_lines(problem: Problem, flat: FlatProblem, i: int) -> tuple[Step, ...]:
    x, y = flat.x[i], smoothed_target(flat, i)
    pos = ball(1.0) if flat.positive_weight is None else ball(float(flat.positive_weight[i]))
    weighted = "" if flat.positive_weight is None else f"{format_in_dtype(problem, flat.positive_weight[i])} * "
    on, off = format_number(y), format_number(1 - y)
    lines = [Step("y'" if flat.smoothing else "y", "", "", on)]
    match problem.input_kind:
        case "logits":
            s, r = (side[0] for side in gradient.sigmoids(np.array([float(x)]), to_balls))
            lines.append(Step("sigmoid(z)", f"1 / (1 + e^-({format_element(x)}))", "", format_number(s)))
            filled = f"{off} * {format_number(s)} - {weighted}{on} * {format_number(r)}"
            value = (1 - y) * s - pos * y * r
        case "probabilities":
            p = ball(float(x))
            filled = f"{off} / (1 - {format_element(x)}) - {weighted}{on} / {format_element(x)}"
            first = ball(0.0) if y == 1 else ((1 - y) / (1 - p) if p != 1 else np.inf)
            second = ball(0.0) if y == 0 else (pos * y / p if p != 0 else np.inf)
            value = first - second
        case "log_probabilities":
            e = ball(float(x)).exp()
            filled = f"{off} * {format_number(e)} / (1 - {format_number(e)}) - {weighted}{on}"
            value = (1 - y) * e / (1 - e) - pos * y if e != 1 else np.nan
    lines.append(Step("slope", "", filled, format_number(value)))
    return tuple(lines)


def _scaling_lines(
    problem: Problem, flat: FlatProblem, want: Exact, where: tuple[int, ...], i: int, slope: str
) -> Iterator[Step]:
    """The slope times the factor of the reduction."""
    factor = gradient.factors(problem, flat, DEFINITION, to_balls)[i]
    s = None if flat.sample_weights is None or len(flat.sample_weights) != len(flat.x) else flat.sample_weights[i]
    parts = "1" if s is None else format_in_dtype(problem, s)
    if problem.reduction == "mean":
        by = divided_by(flat, DEFINITION)
        yield Step(
            "factor",
            "s_i / divisor" if s is not None else "1 / divisor",
            f"{parts} / {format_number(by)}",
            format_number(factor),
        )
    elif s is not None:
        yield Step("factor", "s_i", "", parts)
    value = want.hi[where]
    digits = distinguishing_digits([float(value)])
    yield Step(
        f"gradient at {list(where)}",
        "factor * slope",
        f"{format_number(factor)} * {slope}",
        format_number(value, digits),
    )
