"""The closed form of one element of a gradient, with its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from flint import ctx

from conformance.explain.derivation import counted, said_as, smoothed_output
from conformance.explain.explanation import Line
from conformance.explain.number_format import added, apart, element, figure
from conformance.explain.subproblems import PRECISION, ball, lift
from conformance.model.case import Problem
from conformance.model.convention import DEFINITION
from conformance.reference import gradient
from conformance.reference.flat_problem import Rows, rows
from conformance.reference.oracle import Exact, divided_by


def rule_of(problem: Problem) -> str:
    """The gradient of the definition as a formula, with only the options that the problem asks for."""
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
        return f"gradient_i = {s}{output[problem.given]}{by}"
    of_class = {"logits": "(T softmax(z)_c - t_c)", "probabilities": "(-t_c / p_c)", "log_probabilities": "(-t_c)"}
    total = ", T = sum_c t_c" if problem.given == "logits" else ""
    return f"gradient_ic = {s}{of_class[problem.given]}{by}, t_c = {_target(problem)}{total}"


def _target(problem: Problem) -> str:
    """t_c in the problem's own options."""
    weight = "w_c " if problem.options.class_weights is not None else ""
    return f"{weight}q'_c" if problem.options.label_smoothing else f"{weight}q_c"


def largest(want: Exact) -> tuple[int, ...]:
    """The index of the largest finite element."""
    size = np.where(np.isfinite(want.hi), np.abs(want.hi), -1.0)
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(size)), size.shape)) if size.ndim else ()


def closed_form(problem: Problem, want: Exact, where: tuple[int, ...]) -> tuple[Line, ...]:
    """How the definition comes to the element `where` of the gradient `want`."""
    given = rows(problem, DEFINITION)
    shape = problem.sample_shape
    at = int(np.ravel_multi_index(where[: len(shape)], shape)) if shape else 0
    if not given.kept[at]:
        return (Line(f"gradient at {list(where)}", "the sample is ignored", "", "0"),)
    with ctx.workprec(PRECISION):
        one = _one(given, at)
        found = _binary(problem, one) if given.binary else _categorical(problem, one, where[-1])
        return (*found, *_scaled(problem, given, want, where, at, found[-1].value))


def _one(given: Rows, at: int) -> Any:
    return given, at


def _categorical(problem: Problem, one: tuple[Rows, int], c: int) -> tuple[Line, ...]:
    given, at = one
    parts = counted(given, at)
    x = given.x[at]
    t: Any = dict(parts).get(c, ball(0.0))
    total = sum((part for _, part in parts), ball(0.0))
    lines = [Line(f"t_{c}", _target(problem).replace("_c", f"_{c}"), "", figure(t))]
    match problem.given:
        case "log_probabilities":
            lines.append(Line("slope", f"-t_{c}", "", figure(-t)))
        case "probabilities":
            p = float(x[c])
            value = -t / ball(p) if p > 0 else (ball(0.0) if t == 0 else -np.inf)
            lines.append(Line("slope", f"-t_{c} / p_{c}", f"-{figure(t)} / {element(x[c])}", figure(value)))
        case "logits":
            p = gradient.softmax(x[np.newaxis].astype(np.float64), lift)[0, c]
            exponentials = added([f"e^{element(z)}" for z in x])
            lines += [
                Line("T", "sum_c t_c", added([figure(part) for _, part in parts]), figure(total)),
                Line(f"softmax(z)_{c}", "", f"e^{element(x[c])} / ({exponentials})", figure(p)),
                Line(
                    "slope",
                    f"T softmax(z)_{c} - t_{c}",
                    f"{figure(total)} * {figure(p)} - {figure(t)}",
                    figure(total * p - t),
                ),
            ]
    return tuple(lines)


def _binary(problem: Problem, one: tuple[Rows, int]) -> tuple[Line, ...]:
    given, at = one
    x, y = given.x[at], smoothed_output(given, at)
    pos = ball(1.0) if given.positive_weight is None else ball(float(given.positive_weight[at]))
    weighted = "" if given.positive_weight is None else f"{said_as(problem, given.positive_weight[at])} * "
    on, off = figure(y), figure(1 - y)
    lines = [Line("y'" if given.smoothing else "y", "", "", on)]
    match problem.given:
        case "logits":
            s, r = (side[0] for side in gradient.sigmoids(np.array([float(x)]), lift))
            lines.append(Line("sigmoid(z)", f"1 / (1 + e^-({element(x)}))", "", figure(s)))
            filled = f"{off} * {figure(s)} - {weighted}{on} * {figure(r)}"
            value = (1 - y) * s - pos * y * r
        case "probabilities":
            p = ball(float(x))
            filled = f"{off} / (1 - {element(x)}) - {weighted}{on} / {element(x)}"
            first = ball(0.0) if y == 1 else ((1 - y) / (1 - p) if p != 1 else np.inf)
            second = ball(0.0) if y == 0 else (pos * y / p if p != 0 else np.inf)
            value = first - second
        case "log_probabilities":
            e = ball(float(x)).exp()
            filled = f"{off} * {figure(e)} / (1 - {figure(e)}) - {weighted}{on}"
            value = (1 - y) * e / (1 - e) - pos * y if e != 1 else np.nan
    lines.append(Line("slope", "", filled, figure(value)))
    return tuple(lines)


def _scaled(problem: Problem, given: Rows, want: Exact, where: tuple[int, ...], at: int, slope: str) -> Iterator[Line]:
    """The slope times what the reduction multiplies it by."""
    factor = gradient.factors(problem, given, DEFINITION, lift)[at]
    s = None if given.sample_weights is None or len(given.sample_weights) != len(given.x) else given.sample_weights[at]
    parts = "1" if s is None else said_as(problem, s)
    if problem.reduction == "mean":
        by = divided_by(given, DEFINITION)
        yield Line(
            "factor", "s_i / divisor" if s is not None else "1 / divisor", f"{parts} / {figure(by)}", figure(factor)
        )
    elif s is not None:
        yield Line("factor", "s_i", "", parts)
    value = want.hi[where]
    digits = apart([float(value)])
    yield Line(f"gradient at {list(where)}", "factor * slope", f"{figure(factor)} * {slope}", figure(value, digits))
