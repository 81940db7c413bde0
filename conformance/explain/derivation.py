"""Derivation of the definition's answer with the numbers of the case: each sample, then the reduction."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flint import ctx

from conformance.explain.explanation import Derivation, Sample, Step
from conformance.explain.meanings import kinds_text
from conformance.explain.number_format import (
    DEFAULT_DIGITS,
    MAX_TERMS,
    distinguishing_digits,
    format_element,
    format_number,
    format_numbers,
    format_row,
    format_sum,
)
from conformance.explain.subproblems import PRECISION, ball, negative_logs, subproblem, to_balls
from conformance.model.case import Expectation, MustRaise, NoRightAnswer, Problem, Quantity, numpy_dtype
from conformance.model.convention import DEFINITION
from conformance.reference import oracle
from conformance.reference.flat_problem import FlatProblem, flatten, refused
from conformance.reference.gradient import targets
from conformance.reference.oracle import Answer, Exact, Invalid, Undefined

SAMPLES_SHOWN = 4
"""Number of leading samples that are shown."""
MAX_SAMPLES_SEARCHED = 5_000
"""Number of samples above which only the leading losses are computed and the largest loss is not located."""

AnswerFunction = Callable[[Problem], Answer]
"""Maps a problem to the definition's answer."""


def derive(
    problem: Problem, expect: Expectation, quantity: Quantity, answer_of: AnswerFunction, want: Answer
) -> Derivation:
    """Derive the answer `want`. `answer_of` answers the same problem at another reduction, or a part of it."""
    formula_text = formula(problem)
    if isinstance(expect, MustRaise):
        return Derivation(formula_text, why=f"An exception is the only right answer: {_kind_text(expect.kind)}.")
    if violations := refused(problem, DEFINITION):
        return Derivation(
            formula_text,
            why=f"It is outside the definition's domain, so an exception is due: {kinds_text(violations)}.",
        )
    why = ""
    if isinstance(expect, NoRightAnswer):
        why = f"The case says that it has no right answer: {expect.why}"
    elif isinstance(want, Undefined):
        why = f"The definition has no value here: {want.why}."
    flat = flatten(problem, DEFINITION)
    truncated = len(flat.x) > MAX_SAMPLES_SEARCHED
    losses = answer_of(subproblem(problem, flat, range(MAX_TERMS)) if truncated else problem.with_reduction("none"))
    if not isinstance(losses, Exact) or not len(flat.x):
        return Derivation(formula_text, answer="" if why else answer_text(want), why=why or explain_non_finite(want))
    picked = _pick_samples(problem, flat, losses)
    digits = (
        distinguishing_digits(losses.hi.ravel()[picked].tolist())
        if truncated or len(flat.x) == losses.hi.size
        else DEFAULT_DIGITS
    )
    samples = tuple(_sample(problem, flat, i, digits) for i in picked)
    reduction = () if quantity == "gradient" else _reduction_lines(problem, flat, losses, answer_of, want, digits)
    answer = "" if why else answer_text(want)
    return Derivation(
        formula_text, samples, len(flat.x) - len(samples), reduction, answer, why or explain_non_finite(want)
    )


def _kind_text(kind: str) -> str:
    try:
        return kinds_text((kind,))
    except KeyError:
        return kind.replace("_", " ")


def answer_text(want: Answer) -> str:
    """Format an exact answer: a scalar with all digits of a float64; an array with its tail elided."""
    match want:
        case Exact(hi, _, _):
            return format_element(hi) if hi.ndim == 0 else array_text(hi)
        case Undefined(why):
            return f"none ({why})"
        case Invalid(violations):
            return f"an exception ({kinds_text(violations)})"


def array_text(values: Any, digits: int = 9) -> str:
    """Format an array as nested lists. Nine digits per element distinguish float32 values; the tail is elided."""
    values = np.asarray(values)
    if values.ndim == 0:
        return format_number(values, digits)
    if values.ndim == 1:
        return format_numbers(values.tolist(), digits)
    more = f", ... ({len(values) - SAMPLES_SHOWN} more)" if len(values) > SAMPLES_SHOWN else ""
    return f"[{', '.join(array_text(value, digits) for value in values[:SAMPLES_SHOWN])}{more}]"


def explain_non_finite(want: Answer) -> str:
    """Say why an exact answer has infinite or nan elements; return "" if all are finite."""
    if not isinstance(want, Exact):
        return ""
    parts = []
    if bool(np.isinf(want.hi).any()):
        parts.append("It is infinite where what counts has the probability 0: log 0 is -inf.")
    if bool(np.isnan(want.hi).any()):
        parts.append("It is nan where a nan counts: the definition hands a nan on.")
    return " ".join(parts)


def formula(problem: Problem) -> str:
    """The definition as a formula, restricted to the options that the problem sets."""
    options = problem.options
    s = "s_i " if options.sample_weights is not None else ""
    if problem.loss == "binary":
        y = "y'" if options.label_smoothing else "y"
        pos = "pos " if options.positive_weight is not None else ""
        p = (
            "sigmoid(z)"
            if problem.input_kind == "logits"
            else "exp(x)"
            if problem.input_kind == "log_probabilities"
            else "p"
        )
        q = f", y' = (1 - e) y + e/2, e = {options.label_smoothing:g}" if options.label_smoothing else ""
        both = f"{pos}{y} (-log p) + (1 - {y}) (-log(1 - p))"
        return f"loss_i = {f'{s}({both})' if s else both}{'' if p == 'p' else f', p = {p}'}{q}"
    w = "w_" if options.class_weights is not None else ""
    log = {"logits": "logsumexp(z) - z_", "probabilities": "-log p_", "log_probabilities": "-x_"}[problem.input_kind]
    if problem.target == "index" and not options.label_smoothing:
        return f"loss_i = {s}{w and w + 'y '}{log + 'y' if not s + w else f'({log}y)'}, y the label"
    q = "q'" if options.label_smoothing else "q"
    smoothed = f", q' = (1 - e) q + e/C, e = {options.label_smoothing:g}" if options.label_smoothing else ""
    return f"loss_i = {s}sum_c {w and w + 'c '}{q}_c ({log}c){smoothed}"


def _pick_samples(problem: Problem, flat: FlatProblem, losses: Exact) -> list[int]:
    """Flat indices of the leading samples, and of the sample with the largest loss."""
    first = list(range(min(SAMPLES_SHOWN, len(flat.x))))
    if SAMPLES_SHOWN < len(flat.x) == losses.hi.size:
        largest = int(np.argmax(np.nan_to_num(np.abs(losses.hi.ravel()), nan=np.inf)))
        return [*first, largest] if largest not in first else first
    return first


def sample_weight(flat: FlatProblem, i: int) -> float | None:
    """The sample weight of row `i`, or None if rows have no weight of their own."""
    weights = flat.sample_weights
    return None if weights is None or len(weights) != len(flat.x) else float(weights[i])


def _sample(problem: Problem, flat: FlatProblem, i: int, digits: int) -> Sample:
    where = tuple(int(i) for i in np.unravel_index(i, problem.sample_shape))
    if not flat.kept[i]:
        label = int(problem.labels.reshape(-1)[i])
        return Sample(where, f"label {label} is ignored: its loss is 0 and its weight is 0", (), 0.0, 0.0)
    part = subproblem(problem, flat, [i])
    answer = oracle.evaluate(part)
    loss = float(answer.hi.ravel()[0]) if isinstance(answer, Exact) else math.nan
    divisor = oracle.divisor(part)
    weight = math.nan if divisor is None else float(divisor)
    lines = (binary_lines if flat.binary else categorical_lines)(problem, flat, i, digits)
    lines += [Step("loss", *_loss_terms(problem, flat, i, digits), format_number(loss, digits))]
    if problem.options.class_weights is not None or (flat.sample_weights is not None and flat.index is None):
        lines.append(_weight_line(problem, flat, i, weight, digits))
    return Sample(where, _describe_sample(problem, flat, i), tuple(lines), loss, weight)


def format_in_dtype(problem: Problem, value: Any) -> str:
    """Format a weight or a target with the shortest digits that read back in the problem's dtype."""
    return format_element(np.asarray(value).astype(numpy_dtype(problem.dtype)))


def _describe_sample(problem: Problem, flat: FlatProblem, i: int) -> str:
    x = flat.x[i]
    letter = {"logits": "z", "probabilities": "p", "log_probabilities": "x"}[problem.input_kind]
    shown = format_element(x) if flat.binary else format_row(x)
    label = _describe_label(problem, flat, i)
    s = sample_weight(flat, i)
    weight = "" if s is None else f", sample weight s = {format_in_dtype(problem, s)}"
    return f"{letter} = {shown}, {label}{weight}"


def _describe_label(problem: Problem, flat: FlatProblem, i: int) -> str:
    if flat.index is not None:
        return f"label y = {int(flat.index[i])}"
    assert flat.q is not None
    if flat.binary:
        return f"label y = {format_in_dtype(problem, flat.q[i])}"
    return f"target q = {format_row(flat.q[i].astype(numpy_dtype(problem.dtype)))}"


def weighted_targets(flat: FlatProblem, i: int) -> list[tuple[int, Any]]:
    """Pairs (class, w_c q'_c) of the classes with a nonzero weighted target in categorical row `i`."""
    one = dataclasses.replace(
        flat,
        x=flat.x[i : i + 1],
        index=None if flat.index is None else flat.index[i : i + 1],
        q=None if flat.q is None else flat.q[i : i + 1],
    )
    with ctx.workprec(PRECISION):
        t = targets(one, to_balls)[0].tolist()
    return [(c, part) for c, part in enumerate(t) if part != 0]


def without_class_weights(flat: FlatProblem) -> FlatProblem:
    """The same problem without class weights, so that its weighted targets are the smoothed targets."""
    return dataclasses.replace(flat, class_weights=None)


def categorical_lines(problem: Problem, flat: FlatProblem, i: int, digits: int) -> list[Step]:
    """Steps from the predictions of row `i` to -log p of each class with a nonzero target."""
    x = flat.x[i]
    lines = []
    parts = weighted_targets(flat, i)
    if flat.smoothing:
        lines.append(_smoothed_line(problem, flat, i, digits))
    shown = [c for c, _ in parts][:MAX_TERMS]
    logs = negative_logs(problem, DEFINITION, i, shown) if shown else None
    if logs is None:
        return lines
    if problem.input_kind == "logits":
        lse = _logsumexp(x, shown, logs)
        if lse is not None:
            filled = format_sum([f"e^{format_element(z)}" for z in x])
            lines.append(Step("logsumexp(z)", "", f"log({filled})", format_number(lse, digits)))
            for c, log in zip(shown, logs, strict=True):
                filled = f"{format_number(lse, digits)} - {_parenthesise(format_element(x[c]))}"
                lines.append(Step(f"-log p_{c}", f"logsumexp(z) - z_{c}", filled, format_number(log, digits)))
            return lines
    for c, log in zip(shown, logs, strict=True):
        filled = (
            f"-log {format_element(x[c])}" if problem.input_kind == "probabilities" else f"-({format_element(x[c])})"
        )
        lines.append(Step(f"-log p_{c}", "", filled, format_number(log, digits)))
    return lines


def _logsumexp(x: Any, shown: Sequence[int], logs: Sequence[Any]) -> Any:
    """The log-sum-exp of a row, recovered as -log p_c + z_c from a class for which both are finite; None if there is
    none.
    """
    for c, log in zip(shown, logs, strict=True):
        if not isinstance(log, float) and math.isfinite(float(x[c])):
            with ctx.workprec(PRECISION):
                return log + ball(float(x[c]))
    return None


def _smoothed_line(problem: Problem, flat: FlatProblem, i: int, digits: int) -> Step:
    classes = flat.x.shape[1]
    q = dict(weighted_targets(without_class_weights(flat), i))
    if flat.index is not None:
        one = np.eye(classes)[int(flat.index[i])]
    else:
        assert flat.q is not None
        one = flat.q[i]
    e = f"{flat.smoothing:g}"
    values = [q.get(c, 0) for c in range(classes)]
    return Step(
        "q'",
        "(1 - e) q + e/C",
        f"(1 - {e}) {format_row(one.astype(numpy_dtype(problem.dtype)))} + {e}/{classes}",
        format_numbers(values, digits),
    )


def binary_lines(problem: Problem, flat: FlatProblem, i: int, digits: int) -> list[Step]:
    """Steps from the prediction of output `i` to -log p and -log(1 - p), as far as they have a nonzero coefficient."""
    x = flat.x[i]
    lines = []
    y = smoothed_target(flat, i)
    if flat.smoothing:
        assert flat.q is not None
        e = f"{flat.smoothing:g}"
        filled = f"(1 - {e}) * {format_in_dtype(problem, flat.q[i])} + {e}/2"
        lines.append(Step("y'", "(1 - e) y + e/2", filled, format_number(y, digits)))
    sides = [side for side, share in ((1, y), (0, 1 - y)) if share != 0]
    logs = negative_logs(problem, DEFINITION, i, sides)
    for side, log in zip(sides, logs or (), strict=logs is not None):
        name = "-log p" if side else "-log(1 - p)"
        if problem.input_kind == "logits":
            z = format_element(x)
            formula = "log(1 + e^-z)" if side else "log(1 + e^z)"
            filled = f"log(1 + e^-{_parenthesise(z)})" if side else f"log(1 + e^{z})"
        elif problem.input_kind == "probabilities":
            formula, filled = "", f"-log {format_element(x)}" if side else f"-log(1 - {format_element(x)})"
        else:
            formula, filled = "", f"-({format_element(x)})" if side else f"-log(1 - e^({format_element(x)}))"
        lines.append(Step(name, formula, filled, format_number(log, digits)))
    return lines


def smoothed_target(flat: FlatProblem, i: int) -> Any:
    """The smoothed target y' of binary output `i`."""
    assert flat.q is not None
    with ctx.workprec(PRECISION):
        y, e = ball(float(flat.q[i])), ball(flat.smoothing)
        return y if not flat.smoothing or isinstance(y, float) else (1 - e) * y + e / 2


def _loss_terms(problem: Problem, flat: FlatProblem, i: int, digits: int) -> tuple[str, str]:
    """Return (formula, filled formula) of the loss of a row in terms of its logarithms."""
    s = sample_weight(flat, i)
    factor = "" if s is None else f"{format_in_dtype(problem, s)} * "
    terms = _binary_terms(problem, flat, i, digits) if flat.binary else _categorical_terms(problem, flat, i, digits)
    if not terms:
        return "nothing counts", ""
    total = format_sum(terms)
    return "", f"{factor}({total})" if factor and len(terms) > 1 else f"{factor}{total}"


def _categorical_terms(problem: Problem, flat: FlatProblem, i: int, digits: int) -> list[str]:
    parts = weighted_targets(flat, i)
    shown = parts[:MAX_TERMS]
    logs = negative_logs(problem, DEFINITION, i, [c for c, _ in shown]) if shown else []
    smoothed = dict(weighted_targets(without_class_weights(flat), i))
    terms = []
    for (c, _), log in zip(shown, logs or (), strict=logs is not None):
        w = None if flat.class_weights is None else flat.class_weights[c]
        q = format_number(smoothed[c], digits)
        factors = [
            *([] if w is None else [format_in_dtype(problem, w)]),
            *([] if q == "1" else [q]),
            format_number(log, digits),
        ]
        terms.append(" * ".join(map(_parenthesise, factors)))
    return terms + ["..."] * (len(parts) - len(shown))


def _binary_terms(problem: Problem, flat: FlatProblem, i: int, digits: int) -> list[str]:
    y = smoothed_target(flat, i)
    sides = [(side, share) for side, share in ((1, y), (0, 1 - y)) if share != 0]
    logs = negative_logs(problem, DEFINITION, i, [side for side, _ in sides])
    terms = []
    for (side, share), log in zip(sides, logs or (), strict=logs is not None):
        factors = [] if format_number(share, digits) == "1" else [format_number(share, digits)]
        if side and flat.positive_weight is not None:
            factors.insert(0, format_in_dtype(problem, flat.positive_weight[i]))
        terms.append(" * ".join(map(_parenthesise, [*factors, format_number(log, digits)])))
    return terms


def _parenthesise(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


def _weight_line(problem: Problem, flat: FlatProblem, i: int, weight: float, digits: int) -> Step:
    s = sample_weight(flat, i)
    factor = [] if s is None else [format_in_dtype(problem, s)]
    if flat.binary or flat.class_weights is None:
        return Step("weight", "s" if factor else "1", "", format_number(weight, digits))
    q = "q'" if flat.smoothing else "q"
    parts = [format_number(part, digits) for _, part in weighted_targets(flat, i)]
    shares = [format_number(part, digits) for _, part in weighted_targets(without_class_weights(flat), i)]
    of_label = len(parts) == 1 and not flat.smoothing and shares == ["1"]
    formula = "w_y" if of_label else f"sum_c w_c {q}_c"
    total = f"({format_sum(parts)})" if (factor or flat.q is not None) and len(parts) > 1 else format_sum(parts) or "0"
    if flat.q is not None and not of_label:
        formula += f" / sum_c {q}_c"
        total += f" / ({format_sum(shares)})" if len(shares) > 1 else f" / {format_sum(shares) or '0'}"
    return Step(
        "weight", f"{'s ' if factor else ''}{formula}", " * ".join([*factor, total]), format_number(weight, digits)
    )


def _reduction_lines(
    problem: Problem, flat: FlatProblem, unreduced: Exact, answer_of: AnswerFunction, want: Answer, digits: int
) -> tuple[Step, ...]:
    if problem.reduction == "none":
        return ()
    total = answer_of(problem.with_reduction("sum"))
    if not isinstance(total, Exact):
        return ()
    losses = unreduced.hi.ravel().tolist()
    omitted = ["..."] * (len(flat.x) - len(losses))
    digits_shown = distinguishing_digits([*losses[:MAX_TERMS], float(total.hi)], digits)
    lines = [
        Step(
            "sum",
            "",
            format_sum([format_number(loss, digits_shown) for loss in losses] + omitted),
            format_number(total.hi, digits_shown),
        )
    ]
    if problem.reduction == "sum":
        return tuple(lines)
    divisor = oracle.divisor(problem)
    if divisor is None:
        return tuple(lines)
    lines.append(Step("divisor", "sum of the weights", divisor_terms(problem, flat), format_number(divisor, digits)))
    if isinstance(want, Exact):
        filled = f"{format_number(total.hi, digits_shown)} / {format_number(divisor, digits)}"
        lines.append(Step("mean", "sum / divisor", filled, format_number(want.hi, digits_shown)))
    return tuple(lines)


def divisor_terms(problem: Problem, flat: FlatProblem) -> str:
    """The weights whose sum is the definition's divisor, written out; "" if the weights are not per row."""
    if flat.sample_weights is not None and len(flat.sample_weights) != len(flat.x):
        return ""
    divisors = [oracle.divisor(subproblem(problem, flat, [i])) for i in range(min(len(flat.x), MAX_TERMS))]
    if any(weight is None for weight in divisors):
        return ""
    texts = [format_number(weight) for weight in divisors]
    return format_sum(texts + ["..."] * (len(flat.x) - len(divisors)))
