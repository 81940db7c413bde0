"""Attribution of a difference to documented choices: which of them matter, and how much each changes the answer.

The choices are applied cumulatively in a fixed order, so that their effects add up to the semantic part of the
difference.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.explain.derivation import (
    answer_text,
    binary_shares,
    divisor_terms,
    format_in_dtype,
    smoothed_target,
    weighted_targets,
    without_class_weights,
)
from conformance.explain.explanation import ChoiceEffect, Decomposition, Step
from conformance.explain.number_format import (
    MAX_TERMS,
    format_element,
    format_number,
    format_numbers,
    format_row,
    format_sum,
    step,
)
from conformance.explain.subproblems import negative_logs, to_balls
from conformance.judging.compare import compare
from conformance.judging.effects import (
    DERIVATIVE_FIELDS,
    UNJUDGED,
    answer_by,
    averages_nothing,
    loss_choices,
    narrowed,
    tolerance_by,
    with_numeric_choices,
)
from conformance.judging.judge import Assessment
from conformance.judging.plan import documented_convention
from conformance.model import meanings
from conformance.model.case import WEIGHTS, Array, Problem, is_derivative
from conformance.model.convention import DEFINITION, NUMERIC_FIELDS, Convention, describe
from conformance.model.floats import distinguishing_digits, subtract
from conformance.model.outcome import Returned
from conformance.reference import gradient, oracle
from conformance.reference.domain import examine
from conformance.reference.flat_problem import (
    FlatProblem,
    clip_ends,
    column_labels,
    flatten,
    offset_of_logarithm,
    rejected_anomalies,
    shape_of_losses,
    shifts_labels,
)
from conformance.reference.oracle import Answer, Exact, Oracle, float_of

ROWS_SHOWN = 3
"""Number of rows shown for a choice that affects each row."""
MAX_PREDICTIONS_SEARCHED = 20_000
"""Number of predictions above which the affected rows are not located."""
MAX_LABELS = 16
"""Number of leading labels that are shown."""
MIN_RELATIVE_CHANGE = 1e-4
"""Rows whose logarithms change by less than this fraction of the largest change are not shown."""


def named_choices(assessment: Assessment) -> tuple[str, ...]:
    """Fields of the documented convention that the verdict names, in field order, `accepts` first.

    Without `accepts`, an invalid input has no answer that another choice could change.
    """
    choices = dict(assessment.verdict.choices)
    names = [field.name for field in dataclasses.fields(Convention) if field.name in choices]
    return tuple(sorted(names, key=lambda name: name != "accepts"))


def convention_of(assessment: Assessment) -> Convention:
    """The convention that the function documents for this problem."""
    return documented_convention(assessment.item, assessment.prepared.problem).convention


def differences(assessment: Assessment, oracle: Oracle) -> tuple[ChoiceEffect, ...]:
    """Choices that explain a divergence; without an explanation, all documented choices that change the answer."""
    names = named_choices(assessment)
    convention = convention_of(assessment)
    if not names and assessment.verdict.status == "disagrees" and assessment.verdict.want_by_convention is not None:
        silent = {*UNJUDGED, *NUMERIC_FIELDS, *(() if is_derivative(assessment.item.quantity) else DERIVATIVE_FIELDS)}
        names = tuple(
            sorted((name for name in convention.choices() if name not in silent), key=lambda name: name != "accepts")
        )
    if names and "empty_mean" in convention.choices():
        averages = not averages_nothing(convention.restricted_to(names), assessment.prepared.converted)
        names = names if averages else (*names, "empty_mean")
    parts = [convention.restricted_to(names[:number]) for number in range(len(names) + 1)]
    texts = _answer_texts(assessment, [answer(assessment, part, oracle) for part in parts])
    result = []
    for number, name in enumerate(names):
        choice = _Choice(assessment, oracle, name, *parts[number : number + 2])
        changes_answer = name not in (*NUMERIC_FIELDS, "rejects") and not choice.is_of_rounding
        before, after = texts[number : number + 2] if changes_answer else ("", "")
        if not changes_answer or before != after or assessment.verdict.convention:
            result.append(_choice_effect(choice, getattr(convention, name), before, after))
    return tuple(result)


@dataclass(frozen=True)
class _Choice:
    """A documented choice that is added to the earlier ones."""

    assessment: Assessment
    oracle: Oracle
    name: str
    """The field of the convention."""
    before: Convention
    """The convention without the choice."""
    after: Convention
    """The convention with the choice."""

    @property
    def problem(self) -> Problem:
        """The problem as passed to the function."""
        return self.assessment.prepared.converted

    @cached_property
    def is_of_rounding(self) -> bool:
        """Whether it changes only rounding errors and no exact answer."""
        if self.name in NUMERIC_FIELDS:
            return True
        of_logarithm = ("logits_as", "clip", "log_offset", "log_floor", "renormalise")
        if self.after.logits_as == "logits" or self.name not in of_logarithm:
            return False
        old, new = (answer(self.assessment, part, self.oracle) for part in (self.before, self.after))
        return isinstance(old, Exact) and isinstance(new, Exact) and np.array_equal(old.hi, new.hi, equal_nan=True)

    @property
    def is_derivative(self) -> bool:
        """Whether gradients are compared."""
        return is_derivative(self.assessment.item.quantity)

    @cached_property
    def flat(self) -> FlatProblem:
        """The problem as rows, without the choice."""
        return flatten(self.problem, self.before)

    def answers(self, problem: Problem) -> list[Answer]:
        """Exact losses of a problem without and with the choice."""
        return [self.oracle.answer(problem, loss_choices(part)) for part in (self.before, self.after)]

    def losses(self) -> list[Exact]:
        """Exact unreduced losses without and with the choice; empty if either has none."""
        answers = self.answers(self.problem.with_reduction("none"))
        exact = [losses for losses in answers if isinstance(losses, Exact)]
        return exact if len(exact) == len(answers) else []

    def most_changed_row(self) -> int | None:
        """Index of the row whose loss changes most; None if there is none."""
        if not (losses := self.losses()) or losses[0].hi.size != len(self.flat.x):
            return None
        old, new = (loss.hi.ravel() for loss in losses)
        return int(np.argmax(np.nan_to_num(np.abs(subtract(old, new)), nan=0.0)))

    def most_changed(self) -> tuple[int, ...] | None:
        """Index of the element of the answer that changes most; None if there is none."""
        a, b = (answer(self.assessment, part, self.oracle) for part in (self.before, self.after))
        return largest_difference(a, b) if isinstance(a, Exact) and isinstance(b, Exact) else None


def answer(assessment: Assessment, convention: Convention, oracle: Oracle) -> Answer | None:
    """The exact answer to the problem as passed to the function, under part of a convention; None if it has no
    certified enclosure.
    """
    prepared = assessment.prepared
    try:
        return answer_by(prepared.converted, convention, prepared.item.quantity, oracle)
    except ArithmeticError:
        return None


def _choice_effect(choice: _Choice, value: Any, before: str, after: str) -> ChoiceEffect:
    prepared, name = choice.assessment.prepared, choice.name
    is_set = isinstance(value, frozenset)
    if is_set:
        value = value & examine(prepared.converted)
    instead = "" if is_set else meanings.meaning(name, getattr(DEFINITION, name))
    text, text_meaning = describe({name: value}), meanings.meaning_in_problem(name, value, prepared.problem)
    lines = tuple(_choice_lines(choice))
    return ChoiceEffect(name, text, text_meaning, instead, lines, before, after, choice.is_of_rounding)


def _answer_texts(assessment: Assessment, answers: list[Answer | None]) -> list[str]:
    """Format answers. Arrays of one shape are shown at one element, the one that changes most."""
    numbers = [exact_answer for exact_answer in answers if isinstance(exact_answer, Exact)]
    shapes = {exact_answer.hi.shape for exact_answer in numbers}
    parts = decompose(assessment)
    if len(shapes) == 1 and numbers[0].hi.size:
        same_shape = parts is not None and numbers[0].hi.ndim == len(parts.index)
        where = parts.index if parts is not None and same_shape else largest_difference(numbers[0], numbers[-1])
        digits = distinguishing_digits([float(exact_answer.hi[where]) for exact_answer in numbers])
        place = f" at {list(where)}" if where else ""
        return [
            f"{format_number(exact_answer.hi[where], digits)}{place}"
            if isinstance(exact_answer, Exact)
            else _whole_text(exact_answer)
            for exact_answer in answers
        ]
    return [_whole_text(exact_answer) for exact_answer in answers]


def _whole_text(exact_answer: Answer | None) -> str:
    return "none that can be enclosed" if exact_answer is None else answer_text(exact_answer)


def largest_difference(a: Exact, b: Exact) -> tuple[int, ...]:
    """Index of the largest difference between two answers of the same shape."""
    error = np.abs(subtract(a.hi, b.hi))
    return (
        tuple(int(i) for i in np.unravel_index(int(np.argmax(error)), error.shape)) if error.ndim and error.size else ()
    )


def _choice_lines(choice: _Choice) -> Iterator[Step]:
    """Steps that show one choice with the numbers of the case."""
    if choice.is_of_rounding:
        yield from _tolerance_lines(choice)
    elif (
        choice.name in _LINES
        and choice.problem.predictions.size
        and not rejected_anomalies(choice.problem, choice.after)
    ):
        yield from _LINES[choice.name](choice)


def _ignored_lines(choice: _Choice) -> Iterator[Step]:
    labels = choice.problem.labels.reshape(-1)
    positions = np.flatnonzero(labels == choice.after.default_ignore_index)
    yield step("samples with that label", format_numbers(positions.tolist()))
    yield step("samples that count", str(labels.size - positions.size), "", f"{labels.size} - {positions.size}")


def _shift_lines(choice: _Choice) -> Iterator[Step]:
    if choice.flat.index is None or not shifts_labels(choice.problem, choice.after.label_shift):
        return
    flat = flatten(choice.problem, choice.after)
    assert flat.index is not None
    labels = [
        str(label) if is_counted else "-" for label, is_counted in zip(flat.index[:MAX_LABELS], flat.kept, strict=False)
    ]
    remainder = f", ... ({len(flat.index) - MAX_LABELS} more)" if len(flat.index) > MAX_LABELS else ""
    yield step("labels that it holds the predictions against", f"[{', '.join(labels)}{remainder}]")
    yield step("samples that count", str(int(flat.kept.sum())))


def _narrowing_lines(choice: _Choice) -> Iterator[Step]:
    """The prediction, target or weight that rounding changes most."""
    narrow = narrowed(choice.problem, choice.after)
    if choice.name == "narrowed_to":
        yield from _rounding_line("its prediction", choice.problem.predictions, narrow.predictions)
    elif choice.name == "labels_narrowed_to":
        yield from _rounding_line("its target", choice.problem.labels, narrow.labels)
    else:
        for name in (name for name in WEIGHTS if getattr(narrow.options, name) is not None):
            stated, used = getattr(choice.problem.options, name), getattr(narrow.options, name)
            yield from _rounding_line(f"its {name.replace('_', ' ').removesuffix('s')}", stated, used)


def _rounding_line(label: str, stated: Array, used: Array) -> Iterator[Step]:
    """The number that rounding changes most."""
    wide, narrow = stated.ravel(), used.ravel()
    with np.errstate(all="ignore"):
        off = np.nan_to_num(np.abs(wide.astype(np.float64) - narrow.astype(np.float64)), nan=0.0)
    worst = int(np.argmax(off))
    if off[worst]:
        yield step(label, f"{format_element(narrow[worst])} instead of {format_element(wide[worst])}")


def _empty_mean_lines(choice: _Choice) -> Iterator[Step]:
    yield step("the mean divides by", "0")


def _tolerance_lines(choice: _Choice) -> Iterator[Step]:
    comparison = choice.assessment.verdict.comparison
    where = comparison.where if comparison is not None else ()
    for name, part in (("allowed error without it", choice.before), ("allowed error with it", choice.after)):
        tolerance = tolerance_under(choice.assessment, part)
        yield step(name, tolerance[where] if tolerance.shape else tolerance, digits=3)


def tolerance_under(assessment: Assessment, part: Convention) -> npt.NDArray[np.float64]:
    """Tolerance for an answer under part of the documented convention, broadcastable to the answer's shape."""
    prepared = assessment.prepared
    rounded = with_numeric_choices(part, convention_of(assessment))
    unconverted = prepared.problem if prepared.conversion else None
    return tolerance_by(prepared.converted, rounded, prepared.item.quantity, unconverted)


def _divisor_lines(choice: _Choice) -> Iterator[Step]:
    problem, before, after = choice.problem, choice.before, choice.after
    old, new = oracle.divisor(problem, before), oracle.divisor(problem, after)
    if old is None or new is None:
        return
    terms = divisor_terms(problem, choice.flat) if before.mean_divides_by == "weight" else ""
    counting = {"samples": "losses", "kept": "losses that are not ignored"}.get(after.mean_divides_by, "")
    yield step("definition divides by", old, "", terms)
    yield step("it divides by", f"{format_number(new)} {counting}".rstrip())
    if choice.is_derivative:
        factor = f"{format_number(old)} / {format_number(new)}"
        yield step("so every element is multiplied by", old / new if new else math.inf, "", factor)
        return
    (_, total), (_, mean) = choice.answers(problem.with_reduction("sum")), choice.answers(problem)
    if isinstance(total, Exact) and isinstance(mean, Exact) and total.hi.ndim == 0 == mean.hi.ndim:
        digits = distinguishing_digits([float(total.hi), float(mean.hi)])
        filled = f"{format_number(total.hi, digits)} / {format_number(new)}"
        yield step("its mean", mean.hi, "sum / divisor", filled, digits)


def _output_mean_lines(choice: _Choice) -> Iterator[Step]:
    unreduced, averaged = choice.answers(choice.problem.with_reduction("none"))
    if not isinstance(unreduced, Exact) or not isinstance(averaged, Exact) or unreduced.hi.ndim == 0:
        return
    outputs, means = choice.problem.predictions.shape[-1], averaged.hi.ravel().tolist()
    rows = unreduced.hi.reshape(-1, outputs)[:ROWS_SHOWN].tolist()
    for i, (losses, mean) in enumerate(zip(rows, means, strict=False)):
        yield step(f"loss of row {i}", mean, f"mean over {outputs} outputs", f"({format_sum(losses)}) / {outputs}")
    if choice.problem.reduction == "sum":
        total = choice.answers(choice.problem)[1]
        if isinstance(total, Exact):
            yield step("its sum", total.hi, "", format_sum(means))


def _logarithm_lines(choice: _Choice) -> Iterator[Step]:
    """Rows whose logarithms change most: the probability, its new value, and -log p before and after."""
    problem, flat, after = choice.problem, choice.flat, choice.after
    if choice.name == "clip":
        ends = clip_ends(problem.dtype, after)
        assert ends is not None
        yield step(f"its clip in {problem.dtype}", f"[{', '.join(format_in_dtype(problem, end) for end in ends)}]")
    if choice.name == "log_offset":
        offset = offset_of_logarithm(problem.dtype, after)
        yield step(f"what it adds in {problem.dtype}", format_in_dtype(problem, offset))
    if flat.x.size > MAX_PREDICTIONS_SEARCHED:
        return
    changes = [(i, changed) for i in np.flatnonzero(flat.kept).tolist() if (changed := _changed_logs(choice, i))]
    changes = sorted(changes, key=lambda row: -_change_size(row[1]))
    changes = [row for row in changes if _change_size(row[1]) >= MIN_RELATIVE_CHANGE * _change_size(changes[0][1])]
    is_constant = choice.name not in ("renormalise", "log_offset")
    for i, changed in sorted(changes[:ROWS_SHOWN]):
        place = f" of {'output' if flat.binary else 'sample'} {_position_text(problem, i)}" if len(flat.x) > 1 else ""
        yield from _probability_lines(choice, i, [c for c, _, _ in changed[:ROWS_SHOWN]], place)
        for c, old, new in changed[:ROWS_SHOWN]:
            if choice.is_derivative and is_constant and after.renormalise == "no":
                yield step(f"slope{place}", "0", "nothing depends on p there")
                continue
            label = ("-log p" if c else "-log(1 - p)") if flat.binary else f"-log p_{c}"
            yield _replaced_number(label + place, old, new)
    if len(changes) > ROWS_SHOWN:
        yield step("others that change", str(len(changes) - ROWS_SHOWN))


def _change_size(changed: list[tuple[int, Any, Any]]) -> float:
    """Largest absolute change among the logarithms of a row."""
    with np.errstate(all="ignore"):
        sizes = [abs(float_of(new) - float_of(old)) for _, old, new in changed]
    return max(math.inf if math.isnan(size) else size for size in sizes)


def _position_text(problem: Problem, i: int) -> str:
    position = [int(i) for i in np.unravel_index(i, problem.sample_shape)]
    return str(position[0] if len(position) == 1 else position)


def _changed_logs(choice: _Choice, i: int) -> list[tuple[int, Any, Any]]:
    """Triples (class, -log p before, -log p after) of the logarithms that enter the loss of row `i` and change."""
    flat = choice.flat
    if flat.index is not None and not 0 <= flat.index[i] < flat.x.shape[1]:
        return []
    counting = [c for c, _ in (binary_shares if flat.binary else weighted_targets)(flat, i)][:MAX_TERMS]
    old, new = (
        negative_logs(choice.problem, part, i, counting) if counting else None for part in (choice.before, choice.after)
    )
    pairs = zip(counting, old or (), new or (), strict=False)
    return [(c, a, b) for c, a, b in pairs if format_number(a, 17) != format_number(b, 17)]


def _probability_lines(choice: _Choice, i: int, classes: list[int], place: str) -> Iterator[Step]:
    """The probabilities that the choice applies to, and for a renormalisation the sum of the row."""
    flat, x = choice.flat, choice.flat.x[i]
    symbol = "z" if flat.input_kind == "logits" else "p"
    if flat.binary:
        yield step(f"{symbol}{place}", format_element(x))
    elif choice.name != "renormalise" or symbol == "z":
        for c in classes:
            yield step(f"{symbol}_{c}{place}", format_element(x[c]))
    elif flat.clip is not None:
        yield step(f"p{place}", format_row(np.clip(x, *np.array(flat.clip).astype(x.dtype))), "clipped")
    elif np.all(np.isfinite(x.astype(np.float64))):
        total = sum((Fraction(float(value)) for value in x.tolist()), Fraction(0))
        yield step(f"sum of the row{place}", total, "", format_sum([format_element(value) for value in x]))
        for c in classes if total else ():
            share = Fraction(float(x[c])) / total
            yield step(f"p_{c} / sum", share, "", f"{format_element(x[c])} / {format_number(total)}")


def _label_lines(choice: _Choice) -> Iterator[Step]:
    problem, after = choice.problem, choice.after
    classes = problem.predictions.shape[-1]
    labels = problem.labels.reshape(-1).tolist()
    outside = [(i, label) for i, label in enumerate(labels) if not 0 <= label < classes]
    counting = [pair for pair in outside if pair[1] not in (problem.options.ignore_index, after.default_ignore_index)]
    for i, label in counting[:ROWS_SHOWN]:
        if after.out_of_range == "wrap":
            yield step(f"class of sample {i}", str(label % classes), "label mod C", f"{label} mod {classes}")
        elif after.out_of_range != "refuse":
            yield step(f"loss of sample {i}, label {label}", "nan" if after.out_of_range == "nan" else "0")


def _column_lines(choice: _Choice) -> Iterator[Step]:
    """The columns that are read for the labels, for samples whose class has a different column."""
    problem = choice.problem
    stated, read = (column_labels(problem, part).reshape(-1) for part in (choice.before, choice.after))
    names = problem.layout.name_labels(problem.labels).reshape(-1).tolist()
    noun = "y" if choice.flat.binary else "column"
    for i in np.flatnonzero(stated != read)[:ROWS_SHOWN].tolist():
        yield step(f"{noun} of sample {i}, label {names[i]!r}", f"{int(read[i])}, not {int(stated[i])}")


def _target_sum_lines(choice: _Choice) -> Iterator[Step]:
    where = choice.most_changed()
    if where is None:
        return
    flat = choice.flat
    i, c = int(np.ravel_multi_index(where[:-1], choice.problem.sample_shape)), where[-1]
    parts = dict(weighted_targets(flat, i))
    total, t = sum(parts.values()), parts.get(c, 0)
    yield step("sum of the row's targets", total, "", format_sum(list(parts.values())))
    p = gradient.softmax(flat.x[i : i + 1].astype(np.float64), to_balls)[0, c]
    with_t = f"{format_number(p)} - {format_number(t)}"
    yield step(f"slope at {list(where)}", total * p - t, "T p - t", f"{format_number(total)} * {with_t}")
    yield step("its slope", p - t, "p - t", with_t)


def _row_weight_lines(choice: _Choice) -> Iterator[Step]:
    """The weight of the row whose loss changes most, and its loss."""
    if (i := choice.most_changed_row()) is None:
        return
    weights, parts = choice.flat.class_weights, weighted_targets(without_class_weights(choice.flat), i)
    assert weights is not None
    weight = sum(float(weights[c]) * float_of(part) for c, part in parts)
    filled = format_sum([f"{format_number(weights[c])} * {format_number(float_of(part))}" for c, part in parts])
    yield step(f"weight of row {i}", weight, "sum_c w_c q'_c", filled)
    yield from _loss_of_row_lines(choice, i)


def _log_sum_exp_lines(choice: _Choice) -> Iterator[Step]:
    """The sum of the targets of the row whose loss changes most, and its loss."""
    if (i := choice.most_changed_row()) is not None:
        parts = [float_of(part) for _, part in weighted_targets(choice.flat, i)]
        total = sum(parts)
        yield step(f"sum of the targets of row {i}", total, "", format_sum(parts))
        yield step("the log-sum-exp is multiplied by", f"1 instead of {format_number(total)}")
        yield from _loss_of_row_lines(choice, i)


def _loss_of_row_lines(choice: _Choice, i: int) -> Iterator[Step]:
    old, new = (loss.hi.ravel()[i] for loss in choice.losses())
    yield _replaced_number(f"loss of row {i}", old, new)


def _replaced_number(name: str, old: Any, new: Any) -> Step:
    digits = distinguishing_digits([float_of(old), float_of(new)])
    return step(name, f"{format_number(new, digits)} instead of {format_number(old, digits)}")


def _shape_lines(choice: _Choice) -> Iterator[Step]:
    old, new = (shape_of_losses(choice.problem, choice.flat, part) for part in (choice.before, choice.after))
    yield step("shape of the losses", f"{list(new)} instead of {list(old)}")


def _second_derivative_lines(choice: _Choice) -> Iterator[Step]:
    where = choice.most_changed()
    if where is not None:
        old, new = (answer(choice.assessment, part, choice.oracle) for part in (choice.before, choice.after))
        assert isinstance(old, Exact)
        assert isinstance(new, Exact)
        yield _replaced_number(f"its second derivative at {list(where)}", old.hi[where], new.hi[where])


def _gradient_floor_lines(choice: _Choice) -> Iterator[Step]:
    where, flat = choice.most_changed(), choice.flat
    floor = gradient.gradient_floor(flat, choice.after)
    if where is None or not floor:
        return
    i = int(np.ravel_multi_index(where, choice.problem.sample_shape)) if where else 0
    p, y, text = Fraction(float(flat.x[i])), smoothed_target(flat, i), format_element(flat.x[i])
    product = p * (1 - p)
    yield step("p (1 - p)", product, "", f"{text} * (1 - {text})")
    used, y_exact = max(product, Fraction(floor)), Fraction(float_of(y))
    filled = f"({text} - {format_number(y)}) / {format_number(used)}"
    yield step("its slope", (p - y_exact) / used, "(p - y) / max(p (1 - p), floor)", filled)


_LINES: dict[str, Callable[[_Choice], Iterator[Step]]] = {
    "mean_divides_by": _divisor_lines,
    "class_weighting": _row_weight_lines,
    "log_sum_exp": _log_sum_exp_lines,
    "unreduced_class_axis": _shape_lines,
    "binary_outputs": _output_mean_lines,
    **dict.fromkeys(("logits_as", "clip", "log_offset", "log_floor"), _logarithm_lines),
    "renormalise": _logarithm_lines,
    **dict.fromkeys(("hessian_factor", "hessian_floor", "hessian_floor_of"), _second_derivative_lines),
    "gradient_total": _target_sum_lines,
    "gradient_floor": _gradient_floor_lines,
    "default_ignore_index": _ignored_lines,
    "label_shift": _shift_lines,
    **dict.fromkeys(("narrowed_to", "labels_narrowed_to", "weights_narrowed_to"), _narrowing_lines),
    "class_columns": _column_lines,
    "out_of_range": _label_lines,
    "empty_mean": _empty_mean_lines,
}
"""Steps that show a choice, by field; other choices are not shown with numbers."""


def decompose(assessment: Assessment) -> Decomposition | None:
    """Decompose the difference from the definition at the worst element; None if there is nothing to compare.

    The worst element is the one where the convention departs most from the definition, or else the verdict's worst.
    """
    verdict, outcome = assessment.verdict, assessment.verdict.outcome
    if not isinstance(outcome, Returned) or verdict.comparison is None:
        return None
    want = verdict.want if isinstance(verdict.want, Exact) else None
    documented = want if verdict.want_by_convention is None else verdict.want_by_convention
    if documented is None or documented.hi.shape != outcome.value.shape or not documented.hi.size:
        return None
    undefined_text = "" if want is not None else answer_text(verdict.want)
    if want is not None and want.hi.shape != documented.hi.shape:
        undefined_text, want = f"an answer of shape {want.hi.shape}", None
    dtype = assessment.prepared.converted.dtype
    unexplained = verdict.status == "disagrees" and verdict.want_by_convention is not None
    tolerances = tolerance_under(assessment, convention_of(assessment)) if unexplained else verdict.tolerance
    where = compare(outcome.value, documented, tolerances, dtype, outcome.dtype).where
    if want is not None and documented is not want and (semantic_where := largest_difference(want, documented)) != ():
        where = semantic_where
    unconstrained = None if documented.unconstrained is None else np.asarray(documented.unconstrained[where])
    element_answer = Exact(
        np.asarray(documented.hi[where]),
        np.asarray(documented.lo[where]),
        np.asarray(documented.rad[where]),
        unconstrained,
    )
    got = np.asarray(outcome.value[where])
    tolerance = np.asarray(np.broadcast_to(tolerances, documented.hi.shape)[where])
    comparison = compare(got, element_answer, tolerance, dtype, outcome.dtype)
    shown = [float(got), float(element_answer.hi), *([] if want is None else [float(want.hi[where])])]
    digits = distinguishing_digits(shown)
    returned = Fraction(float(got)) if np.isfinite(got) else None
    exact, by_convention = None if want is None else _fraction(want, where), _fraction(documented, where)
    return Decomposition(
        index=where,
        expected="" if want is None else format_number(want.hi[where], digits),
        by_convention=format_number(element_answer.hi, digits),
        actual=format_number(got, digits),
        total=_exact_difference(returned, exact),
        semantic=_exact_difference(by_convention, exact),
        numeric=_exact_difference(returned, by_convention),
        tolerance=comparison.tolerance,
        error_ratio=comparison.error_ratio,
        ulps=comparison.ulps,
        undefined_text=undefined_text,
        cause=_cause(assessment),
    )


def _cause(assessment: Assessment) -> str:
    """Origin of the semantic part of the difference: the convention, the conversion of the predictions, or both."""
    verdict = assessment.verdict
    if not verdict.conversion:
        return "by convention"
    return "by conversion and convention" if verdict.convention else "by conversion"


def _fraction(exact: Exact, where: tuple[int, ...]) -> Fraction | None:
    hi, lo = float(exact.hi[where]), float(exact.lo[where])
    return Fraction(hi) + Fraction(lo) if np.isfinite(hi) else None


def _exact_difference(a: Fraction | None, b: Fraction | None) -> float | None:
    return None if a is None or b is None else float(a - b)
