"""Derivation of the definition's answer with the numbers of the case: each sample, then the reduction."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from flint import ctx

from conformance.explain.explanation import Derivation, Sample, Step
from conformance.explain.number_format import (
    DEFAULT_DIGITS,
    FLOAT32_DIGITS,
    MAX_TERMS,
    format_element,
    format_number,
    format_numbers,
    format_row,
    format_sum,
    step,
)
from conformance.explain.subproblems import PRECISION, ball, negative_logs, subproblem, to_balls
from conformance.model.case import (
    Array,
    Expectation,
    MustRaise,
    NoRightAnswer,
    Problem,
    Quantity,
    is_derivative,
    numpy_dtype,
)
from conformance.model.convention import DEFINITION
from conformance.model.floats import distinguishing_digits
from conformance.model.meanings import anomalies_text
from conformance.reference import oracle
from conformance.reference.flat_problem import FlatProblem, flatten, rejected_anomalies
from conformance.reference.gradient import targets
from conformance.reference.oracle import Answer, Exact, Invalid, Undefined
from conformance.reference.transforms import null_loss

SAMPLES_SHOWN = 4
"""Number of leading samples that are shown."""
MAX_SAMPLES_SEARCHED = 5_000
"""Number of samples above which only the leading losses are computed and the largest loss is not located."""

AnswerFunction = Callable[[Problem], Answer]
"""Maps a problem to the definition's answer."""


def derive(
    problem: Problem, expect: Expectation, quantity: Quantity, answer_of: AnswerFunction, want: Answer
) -> Derivation:
    """Derive the answer `want`. `answer_of` returns the answer for another reduction or for a part of the problem."""
    formula_text = formula(problem)
    if isinstance(expect, MustRaise):
        return Derivation(formula_text, why=f"An exception is the only right answer: {_kind_text(expect.kind)}.")
    if violations := rejected_anomalies(problem, DEFINITION):
        return Derivation(
            formula_text,
            why=f"It is outside the definition's domain, so an exception is expected: {anomalies_text(violations)}.",
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
    picked = _pick_samples(flat, losses)
    digits = (
        distinguishing_digits(losses.hi.ravel()[picked].tolist())
        if truncated or len(flat.x) == losses.hi.size
        else DEFAULT_DIGITS
    )
    samples = tuple(_sample(problem, flat, i, digits) for i in picked)
    reduction = (
        ()
        if is_derivative(quantity)
        else (
            *_reduction_lines(problem, flat, losses, answer_of, digits),
            *transform_lines(problem, quantity, answer_of, want),
        )
    )
    answer = "" if why else answer_text(want)
    return Derivation(
        formula_text, samples, len(flat.x) - len(samples), reduction, answer, why or explain_non_finite(want)
    )


def _kind_text(kind: str) -> str:
    try:
        return anomalies_text((kind,))
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
            return f"an exception ({anomalies_text(violations)})"


def array_text(values: Any) -> str:
    """Format an array as nested lists; the tail is elided."""
    values = np.asarray(values)
    if values.ndim == 0:
        return format_number(values, FLOAT32_DIGITS)
    if values.ndim == 1:
        return format_numbers(values.tolist(), FLOAT32_DIGITS)
    remainder = f", ... ({len(values) - SAMPLES_SHOWN} more)" if len(values) > SAMPLES_SHOWN else ""
    return f"[{', '.join(array_text(value) for value in values[:SAMPLES_SHOWN])}{remainder}]"


def explain_non_finite(want: Answer) -> str:
    """The reason why an exact answer has infinite or nan elements; "" if all are finite."""
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


def _pick_samples(flat: FlatProblem, losses: Exact) -> list[int]:
    """Flat indices of the leading samples, and of the sample with the largest loss."""
    first = list(range(min(SAMPLES_SHOWN, len(flat.x))))
    if SAMPLES_SHOWN < len(flat.x) == losses.hi.size:
        largest = int(np.argmax(np.nan_to_num(np.abs(losses.hi.ravel()), nan=np.inf)))
        return [*first, largest] if largest not in first else first
    return first


def sample_weight(flat: FlatProblem, i: int) -> float | None:
    """The sample weight of row `i`; None if rows have no weights."""
    weights = flat.sample_weights
    return None if weights is None or len(weights) != len(flat.x) else float(weights[i])


def _sample(problem: Problem, flat: FlatProblem, i: int, digits: int) -> Sample:
    index = tuple(int(i) for i in np.unravel_index(i, problem.sample_shape))
    if not flat.kept[i]:
        label = int(problem.labels.reshape(-1)[i])
        return Sample(index, f"label {label} is ignored: its loss is 0 and its weight is 0", (), 0.0, 0.0)
    part = subproblem(problem, flat, [i])
    answer = oracle.evaluate(part)
    loss = float(answer.hi.ravel()[0]) if isinstance(answer, Exact) else math.nan
    divisor = oracle.divisor(part)
    weight = math.nan if divisor is None else float(divisor)
    terms, omitted = _terms(problem, flat, i)
    lines = [*_smoothed_line(problem, flat, i, digits), *_logarithm_lines(problem, flat, i, terms, digits)]
    lines.append(step("loss", loss, *_loss_terms(problem, flat, i, terms, omitted, digits), digits))
    if problem.options.class_weights is not None or (flat.sample_weights is not None and flat.index is None):
        lines.append(_weight_line(problem, flat, i, weight, digits))
    return Sample(index, _describe_sample(problem, flat, i), tuple(lines), loss, weight)


def format_in_dtype(problem: Problem, value: Any) -> str:
    """Format a weight or a target with the shortest digits that parse to the same value in the problem's dtype."""
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
    sample = dataclasses.replace(
        flat,
        x=flat.x[i : i + 1],
        index=None if flat.index is None else flat.index[i : i + 1],
        q=None if flat.q is None else flat.q[i : i + 1],
    )
    with ctx.workprec(PRECISION):
        t = targets(sample, to_balls)[0].tolist()
    return [(c, part) for c, part in enumerate(t) if part != 0]


def without_class_weights(flat: FlatProblem) -> FlatProblem:
    """The same problem without class weights; its weighted targets are then the smoothed targets."""
    return dataclasses.replace(flat, class_weights=None)


class _Term(NamedTuple):
    """A term of the loss of a row, weight * share * log."""

    class_index: int
    """The class; of a binary output 1 for -log p and 0 for -log(1 - p)."""
    weight: float | None
    """The weight of the class, or of the positive side; None for none."""
    share: Any
    """The smoothed target, as a ball."""
    log: Any
    """-log p of the class or side, as a ball."""


def _terms(problem: Problem, flat: FlatProblem, i: int) -> tuple[list[_Term], int]:
    """The leading terms of the loss of row `i` with a nonzero target, and the number of the others."""
    if flat.binary:
        positive = None if flat.positive_weight is None else flat.positive_weight[i]
        all_terms = [(side, positive if side else None, share) for side, share in binary_shares(flat, i)]
    else:
        shares, weights = dict(weighted_targets(without_class_weights(flat), i)), flat.class_weights
        all_terms = [(c, None if weights is None else weights[c], shares[c]) for c, _ in weighted_targets(flat, i)]
    shown = all_terms[:MAX_TERMS]
    logs = negative_logs(problem, DEFINITION, i, [index for index, _, _ in shown]) if shown else []
    terms = [_Term(*parts, log) for parts, log in zip(shown, logs or (), strict=logs is not None)]
    return terms, len(all_terms) - len(shown)


_BINARY_LOGARITHMS = {
    "logits": (("log(1 + e^z)", "log(1 + e^{x})"), ("log(1 + e^-z)", "log(1 + e^-{bracketed})")),
    "probabilities": (("", "-log(1 - {x})"), ("", "-log {x}")),
    "log_probabilities": (("", "-log(1 - e^({x}))"), ("", "-({x})")),
}
"""Formulas in symbols and with a number, of -log(1 - p) and of -log p."""


def _logarithm_lines(
    problem: Problem, flat: FlatProblem, i: int, terms: Sequence[_Term], digits: int
) -> Iterator[Step]:
    """Steps from the predictions of row `i` to the logarithms in the terms of its loss."""
    x = flat.x[i]
    if flat.binary:
        for term in terms:
            formula, filled = _BINARY_LOGARITHMS[problem.input_kind][term.class_index]
            text = format_element(x)
            filled = filled.format(x=text, bracketed=_parenthesise(text))
            yield step("-log p" if term.class_index else "-log(1 - p)", term.log, formula, filled, digits)
        return
    lse = _logsumexp(x, terms) if problem.input_kind == "logits" else None
    if lse is not None:
        yield step("logsumexp(z)", lse, "", f"log({format_sum([f'e^{format_element(z)}' for z in x])})", digits)
    for term in terms:
        c, text = term.class_index, format_element(x[term.class_index])
        formula, filled = "", f"-log {text}" if problem.input_kind == "probabilities" else f"-({text})"
        if lse is not None:
            formula, filled = f"logsumexp(z) - z_{c}", f"{format_number(lse, digits)} - {_parenthesise(text)}"
        yield step(f"-log p_{c}", term.log, formula, filled, digits)


def _logsumexp(x: Any, terms: Sequence[_Term]) -> Any:
    """The log-sum-exp of a row, recovered as -log p_c + z_c from a class for which both are finite, or None."""
    for term in terms:
        if not isinstance(term.log, float) and math.isfinite(float(x[term.class_index])):
            with ctx.workprec(PRECISION):
                return term.log + ball(float(x[term.class_index]))
    return None


def _smoothed_line(problem: Problem, flat: FlatProblem, i: int, digits: int) -> Iterator[Step]:
    """The step to the smoothed target, if targets are smoothed."""
    e = f"{flat.smoothing:g}"
    if flat.smoothing and flat.binary:
        assert flat.q is not None
        filled = f"(1 - {e}) * {format_in_dtype(problem, flat.q[i])} + {e}/2"
        yield step("y'", smoothed_target(flat, i), "(1 - e) y + e/2", filled, digits)
    elif flat.smoothing:
        classes = flat.x.shape[1]
        targets = dict(weighted_targets(without_class_weights(flat), i))
        one_hot = (
            (np.arange(classes) == flat.index[i]).astype(float) if flat.index is not None else cast("Array", flat.q)[i]
        )
        filled = f"(1 - {e}) {format_row(one_hot.astype(numpy_dtype(problem.dtype)))} + {e}/{classes}"
        values = format_numbers([targets.get(c, 0) for c in range(classes)], digits)
        yield step("q'", values, "(1 - e) q + e/C", filled)


def smoothed_target(flat: FlatProblem, i: int) -> Any:
    """The smoothed target y' of binary output `i`."""
    assert flat.q is not None
    with ctx.workprec(PRECISION):
        y, e = ball(float(flat.q[i])), ball(flat.smoothing)
        return y if not flat.smoothing or isinstance(y, float) else (1 - e) * y + e / 2


def binary_shares(flat: FlatProblem, i: int) -> list[tuple[int, Any]]:
    """Pairs (1, y') and (0, 1 - y') of binary output `i`, without one that is 0."""
    y = smoothed_target(flat, i)
    return [(side, share) for side, share in ((1, y), (0, 1 - y)) if share != 0]


def _loss_terms(
    problem: Problem, flat: FlatProblem, i: int, terms: Sequence[_Term], omitted: int, digits: int
) -> tuple[str, str]:
    """Return (formula, filled formula) of the loss of a row in terms of its logarithms."""
    texts = []
    for term in terms:
        weight = [] if term.weight is None else [format_in_dtype(problem, term.weight)]
        numbers = [format_number(number, digits) for number in (term.share, term.log)]
        texts.append(" * ".join(map(_parenthesise, [*weight, *(numbers[1:] if numbers[0] == "1" else numbers)])))
    texts += ["..."] * omitted
    if not texts:
        return "nothing counts", ""
    s, total = sample_weight(flat, i), format_sum(texts)
    if s is None:
        return "", total
    return "", f"{format_in_dtype(problem, s)} * {f'({total})' if len(texts) > 1 else total}"


def _parenthesise(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


def _weight_line(problem: Problem, flat: FlatProblem, i: int, weight: float, digits: int) -> Step:
    s = sample_weight(flat, i)
    factor = [] if s is None else [format_in_dtype(problem, s)]
    if flat.binary or flat.class_weights is None:
        return step("weight", weight, "s" if factor else "1", "", digits)
    q = "q'" if flat.smoothing else "q"
    parts = [part for _, part in weighted_targets(flat, i)]
    shares = [share for _, share in weighted_targets(without_class_weights(flat), i)]
    of_label = len(parts) == 1 and not flat.smoothing and [format_number(share, digits) for share in shares] == ["1"]
    formula, total = "w_y" if of_label else f"sum_c w_c {q}_c", format_sum(parts, digits)
    if (factor or flat.q is not None) and len(parts) > 1:
        total = f"({total})"
    if flat.q is not None and not of_label:
        formula += f" / sum_c {q}_c"
        total += " / " + (f"({format_sum(shares, digits)})" if len(shares) > 1 else format_sum(shares, digits))
    return step("weight", weight, f"{'s ' if factor else ''}{formula}", " * ".join([*factor, total]), digits)


def _reduction_lines(
    problem: Problem, flat: FlatProblem, unreduced: Exact, answer_of: AnswerFunction, digits: int
) -> Iterator[Step]:
    """Steps from the losses to their sum, and from that to the mean."""
    total = None if problem.reduction == "none" else answer_of(problem.with_reduction("sum"))
    if not isinstance(total, Exact):
        return
    losses = unreduced.hi.ravel().tolist()
    sum_digits = distinguishing_digits([*losses[:MAX_TERMS], float(total.hi)], digits)
    terms = [*losses, *["..."] * (len(flat.x) - len(losses))]
    yield step("sum", total.hi, "", format_sum(terms, sum_digits), sum_digits)
    divisor = None if problem.reduction == "sum" else oracle.divisor(problem)
    if divisor is None:
        return
    yield step("divisor", divisor, "sum of the weights", divisor_terms(problem, flat), digits)
    if isinstance(mean := answer_of(problem), Exact):
        filled = f"{format_number(total.hi, sum_digits)} / {format_number(divisor, digits)}"
        yield step("mean", mean.hi, "sum / divisor", filled, sum_digits)


def transform_lines(problem: Problem, quantity: Quantity, answer_of: AnswerFunction, want: Answer) -> Iterator[Step]:
    """Steps from the losses to a quantity computed from them; none for the loss itself."""
    mean, total = answer_of(problem), answer_of(problem.with_reduction("sum"))
    if not (isinstance(want, Exact) and isinstance(mean, Exact) and isinstance(total, Exact)):
        return
    if quantity == "perplexity":
        yield step("perplexity", want.hi, "e^mean", f"e^{_parenthesise(format_number(mean.hi))}")
    elif quantity == "d2":
        null, _ = null_loss(problem, DEFINITION)
        yield step("loss of predicting the share W_c / S of each class", null, "-sum_c W_c log(W_c / S)")
        yield step("d2", want.hi, "1 - sum / that loss", f"1 - {format_number(total.hi)} / {format_number(null)}")


def divisor_terms(problem: Problem, flat: FlatProblem) -> str:
    """The weights whose sum is the definition's divisor, written out; "" if the weights are not per row."""
    if flat.sample_weights is not None and len(flat.sample_weights) != len(flat.x):
        return ""
    divisors = [oracle.divisor(subproblem(problem, flat, [i])) for i in range(min(len(flat.x), MAX_TERMS))]
    if any(weight is None for weight in divisors):
        return ""
    return format_sum([*divisors, *["..."] * (len(flat.x) - len(divisors))])
