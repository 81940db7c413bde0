"""How the definition comes to its answer, with the case's numbers: each sample, then the reduction."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flint import ctx

from conformance.explain.explanation import Derivation, Line, Sample
from conformance.explain.meanings import kinds
from conformance.explain.number_format import DIGITS, SHOWN, added, apart, element, figure, figures, row
from conformance.explain.subproblems import PRECISION, ball, lift, minus_logs, some
from conformance.model.case import Expectation, MustRaise, NoRightAnswer, Problem, Quantity, numpy_dtype
from conformance.model.convention import DEFINITION
from conformance.reference import oracle
from conformance.reference.flat_problem import Rows, refused, rows
from conformance.reference.gradient import targets
from conformance.reference.oracle import Answer, Exact, Invalid, Undefined

FIRST = 4
"""Samples that are shown from the beginning."""
SEARCHED = 5_000
"""Samples beyond which only the first losses are worked out, and the largest is not looked for."""

Answers = Callable[[Problem], Answer]
"""The definition's answer to a problem."""


def derived(problem: Problem, expect: Expectation, quantity: Quantity, answers: Answers, want: Answer) -> Derivation:
    """The way to the answer `want`; answers: of the same problem at another reduction, or of a part of it."""
    rule = rule_of(problem)
    if isinstance(expect, MustRaise):
        return Derivation(rule, why=f"An exception is the only right answer: {_kind(expect.kind)}.")
    if found := refused(problem, DEFINITION):
        return Derivation(rule, why=f"It is outside the definition's domain, so an exception is due: {kinds(found)}.")
    why = ""
    if isinstance(expect, NoRightAnswer):
        why = f"The case says that it has no right answer: {expect.why}"
    elif isinstance(want, Undefined):
        why = f"The definition has no value here: {want.why}."
    given = rows(problem, DEFINITION)
    large = len(given.x) > SEARCHED
    whole = answers(some(problem, given, range(SHOWN)) if large else problem.reduced("none"))
    if not isinstance(whole, Exact) or not len(given.x):
        return Derivation(rule, answer="" if why else answer_text(want), why=why or not_finite(want))
    shown = _picked(problem, given, whole)
    digits = apart(whole.hi.ravel()[shown].tolist()) if large or len(given.x) == whole.hi.size else DIGITS
    samples = tuple(_sample(problem, given, at, digits) for at in shown)
    reduction = () if quantity == "gradient" else _reduction(problem, given, whole, answers, want, digits)
    answer = "" if why else answer_text(want)
    return Derivation(rule, samples, len(given.x) - len(samples), reduction, answer, why or not_finite(want))


def _kind(kind: str) -> str:
    try:
        return kinds((kind,))
    except KeyError:
        return kind.replace("_", " ")


def answer_text(want: Answer) -> str:
    """An exact answer as text: a number with every digit that float64 has, or an array, cut where it is long."""
    match want:
        case Exact(hi, _, _):
            return element(hi) if hi.ndim == 0 else array_text(hi)
        case Undefined(why):
            return f"none ({why})"
        case Invalid(found):
            return f"an exception ({kinds(found)})"


def array_text(values: Any, digits: int = 9) -> str:
    """An array as nested lists, of nine digits a number, which tells float32 apart; its tail left out."""
    values = np.asarray(values)
    if values.ndim == 0:
        return figure(values, digits)
    if values.ndim == 1:
        return figures(values.tolist(), digits)
    more = f", ... ({len(values) - FIRST} more)" if len(values) > FIRST else ""
    return f"[{', '.join(array_text(value, digits) for value in values[:FIRST])}{more}]"


def not_finite(want: Answer) -> str:
    """Why an exact answer holds what is no finite number; "" where it does not."""
    if not isinstance(want, Exact):
        return ""
    parts = []
    if bool(np.isinf(want.hi).any()):
        parts.append("It is infinite where what counts has the probability 0: log 0 is -inf.")
    if bool(np.isnan(want.hi).any()):
        parts.append("It is nan where a nan counts: the definition hands a nan on.")
    return " ".join(parts)


def rule_of(problem: Problem) -> str:
    """The definition as a formula, with only the options that the problem asks for."""
    options = problem.options
    s = "s_i " if options.sample_weights is not None else ""
    if problem.loss == "binary":
        y = "y'" if options.label_smoothing else "y"
        pos = "pos " if options.positive_weight is not None else ""
        p = "sigmoid(z)" if problem.given == "logits" else "exp(x)" if problem.given == "log_probabilities" else "p"
        q = f", y' = (1 - e) y + e/2, e = {options.label_smoothing:g}" if options.label_smoothing else ""
        both = f"{pos}{y} (-log p) + (1 - {y}) (-log(1 - p))"
        return f"loss_i = {f'{s}({both})' if s else both}{'' if p == 'p' else f', p = {p}'}{q}"
    w = "w_" if options.class_weights is not None else ""
    log = {"logits": "logsumexp(z) - z_", "probabilities": "-log p_", "log_probabilities": "-x_"}[problem.given]
    if problem.target == "index" and not options.label_smoothing:
        return f"loss_i = {s}{w and w + 'y '}{log + 'y' if not s + w else f'({log}y)'}, y the label"
    q = "q'" if options.label_smoothing else "q"
    smoothed = f", q' = (1 - e) q + e/C, e = {options.label_smoothing:g}" if options.label_smoothing else ""
    return f"loss_i = {s}sum_c {w and w + 'c '}{q}_c ({log}c){smoothed}"


def _picked(problem: Problem, given: Rows, whole: Exact) -> list[int]:
    """The first samples and the one with the largest loss."""
    first = list(range(min(FIRST, len(given.x))))
    if FIRST < len(given.x) == whole.hi.size:
        largest = int(np.argmax(np.nan_to_num(np.abs(whole.hi.ravel()), nan=np.inf)))
        return [*first, largest] if largest not in first else first
    return first


def weight_of(given: Rows, at: int) -> float | None:
    """The sample weight of a row; None where it has none of its own."""
    weights = given.sample_weights
    return None if weights is None or len(weights) != len(given.x) else float(weights[at])


def _sample(problem: Problem, given: Rows, at: int, digits: int) -> Sample:
    where = tuple(int(i) for i in np.unravel_index(at, problem.sample_shape))
    if not given.kept[at]:
        label = int(problem.labels.reshape(-1)[at])
        return Sample(where, f"label {label} is ignored: its loss is 0 and its weight is 0", (), 0.0, 0.0)
    part = some(problem, given, [at])
    answer = oracle.evaluate(part)
    loss = float(answer.hi.ravel()[0]) if isinstance(answer, Exact) else math.nan
    divisor = oracle.divisor(part)
    weight = math.nan if divisor is None else float(divisor)
    lines = (binary_lines if given.binary else categorical_lines)(problem, given, at, digits)
    lines += [Line("loss", *_loss(problem, given, at, digits), figure(loss, digits))]
    if problem.options.class_weights is not None or (given.sample_weights is not None and given.index is None):
        lines.append(_weight_line(problem, given, at, weight, digits))
    return Sample(where, _about(problem, given, at), tuple(lines), loss, weight)


def said_as(problem: Problem, value: Any) -> str:
    """A weight or a target as the case says it: the shortest digits that read back in the problem's dtype."""
    return element(np.asarray(value).astype(numpy_dtype(problem.dtype)))


def _about(problem: Problem, given: Rows, at: int) -> str:
    x = given.x[at]
    letter = {"logits": "z", "probabilities": "p", "log_probabilities": "x"}[problem.given]
    shown = element(x) if given.binary else row(x)
    label = _label(problem, given, at)
    s = weight_of(given, at)
    weight = "" if s is None else f", sample weight s = {said_as(problem, s)}"
    return f"{letter} = {shown}, {label}{weight}"


def _label(problem: Problem, given: Rows, at: int) -> str:
    if given.index is not None:
        return f"label y = {int(given.index[at])}"
    assert given.q is not None
    if given.binary:
        return f"label y = {said_as(problem, given.q[at])}"
    return f"target q = {row(given.q[at].astype(numpy_dtype(problem.dtype)))}"


def counted(given: Rows, at: int) -> list[tuple[int, Any]]:
    """(class, w_c q'_c) of what counts in a categorical row."""
    one = dataclasses.replace(
        given,
        x=given.x[at : at + 1],
        index=None if given.index is None else given.index[at : at + 1],
        q=None if given.q is None else given.q[at : at + 1],
    )
    with ctx.workprec(PRECISION):
        t = targets(one, lift)[0].tolist()
    return [(c, part) for c, part in enumerate(t) if part != 0]


def unweighted(given: Rows) -> Rows:
    """The rows without class weights, whose targets are the smoothed ones."""
    return dataclasses.replace(given, class_weights=None)


def categorical_lines(problem: Problem, given: Rows, at: int, digits: int) -> list[Line]:
    """From the predictions of a row to -log p of each class that counts."""
    x = given.x[at]
    lines = []
    parts = counted(given, at)
    if given.smoothing:
        lines.append(_smoothed_line(problem, given, at, digits))
    shown = [c for c, _ in parts][:SHOWN]
    logs = minus_logs(problem, DEFINITION, at, shown) if shown else None
    if logs is None:
        return lines
    if problem.given == "logits":
        lse = _logsumexp(x, shown, logs)
        if lse is not None:
            filled = added([f"e^{element(z)}" for z in x])
            lines.append(Line("logsumexp(z)", "", f"log({filled})", figure(lse, digits)))
            for c, log in zip(shown, logs, strict=True):
                filled = f"{figure(lse, digits)} - {_in_brackets(element(x[c]))}"
                lines.append(Line(f"-log p_{c}", f"logsumexp(z) - z_{c}", filled, figure(log, digits)))
            return lines
    for c, log in zip(shown, logs, strict=True):
        filled = f"-log {element(x[c])}" if problem.given == "probabilities" else f"-({element(x[c])})"
        lines.append(Line(f"-log p_{c}", "", filled, figure(log, digits)))
    return lines


def _logsumexp(x: Any, shown: Sequence[int], logs: Sequence[Any]) -> Any:
    """From -log p_c + z_c, whichever is finite."""
    for c, log in zip(shown, logs, strict=True):
        if not isinstance(log, float) and math.isfinite(float(x[c])):
            with ctx.workprec(PRECISION):
                return log + ball(float(x[c]))
    return None


def _smoothed_line(problem: Problem, given: Rows, at: int, digits: int) -> Line:
    classes = given.x.shape[1]
    q = dict(counted(unweighted(given), at))
    if given.index is not None:
        one = np.eye(classes)[int(given.index[at])]
    else:
        assert given.q is not None
        one = given.q[at]
    e = f"{given.smoothing:g}"
    values = [q.get(c, 0) for c in range(classes)]
    return Line(
        "q'",
        "(1 - e) q + e/C",
        f"(1 - {e}) {row(one.astype(numpy_dtype(problem.dtype)))} + {e}/{classes}",
        figures(values, digits),
    )


def binary_lines(problem: Problem, given: Rows, at: int, digits: int) -> list[Line]:
    """From the prediction of an output to -log p and -log(1 - p), whichever counts."""
    x = given.x[at]
    lines = []
    y = smoothed_output(given, at)
    if given.smoothing:
        assert given.q is not None
        e = f"{given.smoothing:g}"
        filled = f"(1 - {e}) * {said_as(problem, given.q[at])} + {e}/2"
        lines.append(Line("y'", "(1 - e) y + e/2", filled, figure(y, digits)))
    sides = [side for side, share in ((1, y), (0, 1 - y)) if share != 0]
    logs = minus_logs(problem, DEFINITION, at, sides)
    for side, log in zip(sides, logs or (), strict=logs is not None):
        name = "-log p" if side else "-log(1 - p)"
        if problem.given == "logits":
            z = element(x)
            formula = "log(1 + e^-z)" if side else "log(1 + e^z)"
            filled = f"log(1 + e^-{_in_brackets(z)})" if side else f"log(1 + e^{z})"
        elif problem.given == "probabilities":
            formula, filled = "", f"-log {element(x)}" if side else f"-log(1 - {element(x)})"
        else:
            formula, filled = "", f"-({element(x)})" if side else f"-log(1 - e^({element(x)}))"
        lines.append(Line(name, formula, filled, figure(log, digits)))
    return lines


def smoothed_output(given: Rows, at: int) -> Any:
    """Y' of a binary output."""
    assert given.q is not None
    with ctx.workprec(PRECISION):
        y, e = ball(float(given.q[at])), ball(given.smoothing)
        return y if not given.smoothing or isinstance(y, float) else (1 - e) * y + e / 2


def _loss(problem: Problem, given: Rows, at: int, digits: int) -> tuple[str, str]:
    """(formula, filled) of the loss of a row from its logarithms."""
    s = weight_of(given, at)
    factor = "" if s is None else f"{said_as(problem, s)} * "
    terms = _binary_terms(problem, given, at, digits) if given.binary else _terms(problem, given, at, digits)
    if not terms:
        return "nothing counts", ""
    total = added(terms)
    return "", f"{factor}({total})" if factor and len(terms) > 1 else f"{factor}{total}"


def _terms(problem: Problem, given: Rows, at: int, digits: int) -> list[str]:
    parts = counted(given, at)
    shown = parts[:SHOWN]
    logs = minus_logs(problem, DEFINITION, at, [c for c, _ in shown]) if shown else []
    smoothed = dict(counted(unweighted(given), at))
    terms = []
    for (c, _), log in zip(shown, logs or (), strict=logs is not None):
        w = None if given.class_weights is None else given.class_weights[c]
        q = figure(smoothed[c], digits)
        factors = [*([] if w is None else [said_as(problem, w)]), *([] if q == "1" else [q]), figure(log, digits)]
        terms.append(" * ".join(map(_in_brackets, factors)))
    return terms + ["..."] * (len(parts) - len(shown))


def _binary_terms(problem: Problem, given: Rows, at: int, digits: int) -> list[str]:
    y = smoothed_output(given, at)
    sides = [(side, share) for side, share in ((1, y), (0, 1 - y)) if share != 0]
    logs = minus_logs(problem, DEFINITION, at, [side for side, _ in sides])
    terms = []
    for (side, share), log in zip(sides, logs or (), strict=logs is not None):
        factors = [] if figure(share, digits) == "1" else [figure(share, digits)]
        if side and given.positive_weight is not None:
            factors.insert(0, said_as(problem, given.positive_weight[at]))
        terms.append(" * ".join(map(_in_brackets, [*factors, figure(log, digits)])))
    return terms


def _in_brackets(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


def _weight_line(problem: Problem, given: Rows, at: int, weight: float, digits: int) -> Line:
    s = weight_of(given, at)
    factor = [] if s is None else [said_as(problem, s)]
    if given.binary or given.class_weights is None:
        return Line("weight", "s" if factor else "1", "", figure(weight, digits))
    q = "q'" if given.smoothing else "q"
    parts = [figure(part, digits) for _, part in counted(given, at)]
    shares = [figure(part, digits) for _, part in counted(unweighted(given), at)]
    of_label = len(parts) == 1 and not given.smoothing and shares == ["1"]
    formula = "w_y" if of_label else f"sum_c w_c {q}_c"
    total = f"({added(parts)})" if (factor or given.q is not None) and len(parts) > 1 else added(parts) or "0"
    if given.q is not None and not of_label:
        formula += f" / sum_c {q}_c"
        total += f" / ({added(shares)})" if len(shares) > 1 else f" / {added(shares) or '0'}"
    return Line("weight", f"{'s ' if factor else ''}{formula}", " * ".join([*factor, total]), figure(weight, digits))


def _reduction(
    problem: Problem, given: Rows, whole: Exact, answers: Answers, want: Answer, digits: int
) -> tuple[Line, ...]:
    if problem.reduction == "none":
        return ()
    total = answers(problem.reduced("sum"))
    if not isinstance(total, Exact):
        return ()
    losses = whole.hi.ravel().tolist()
    left = ["..."] * (len(given.x) - len(losses))
    least = apart([*losses[:SHOWN], float(total.hi)], digits)
    lines = [Line("sum", "", added([figure(loss, least) for loss in losses] + left), figure(total.hi, least))]
    if problem.reduction == "sum":
        return tuple(lines)
    divisor = oracle.divisor(problem)
    if divisor is None:
        return tuple(lines)
    lines.append(Line("divisor", "sum of the weights", divisor_terms(problem, given), figure(divisor, digits)))
    if isinstance(want, Exact):
        filled = f"{figure(total.hi, least)} / {figure(divisor, digits)}"
        lines.append(Line("mean", "sum / divisor", filled, figure(want.hi, least)))
    return tuple(lines)


def divisor_terms(problem: Problem, given: Rows) -> str:
    """The weights that the definition's mean adds up, written out; "" where they are not per row."""
    if given.sample_weights is not None and len(given.sample_weights) != len(given.x):
        return ""
    found = [oracle.divisor(some(problem, given, [at])) for at in range(min(len(given.x), SHOWN))]
    if any(weight is None for weight in found):
        return ""
    texts = [figure(weight) for weight in found]
    return added(texts + ["..."] * (len(given.x) - len(found)))
