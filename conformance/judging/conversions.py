"""Determine how a conversion of predictions changes an answer, and how users avoid the conversion."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from conformance.adapters.contract import Function
from conformance.judging.compare import compare
from conformance.judging.effects import loss_choices
from conformance.judging.reasons import Alternative, AnswerChange, Choices, Conversion, Effect, RowSum
from conformance.model.case import InputKind, Problem
from conformance.model.convention import DEFINITION, Convention
from conformance.model.floats import Floats, subtract
from conformance.reference import error_bound
from conformance.reference.conversion import NAMES, destroyed, renormalises, row_sums, unchanging
from conformance.reference.domain import examine
from conformance.reference.flat_problem import flatten, rejected_anomalies
from conformance.reference.oracle import Answer, Exact, Oracle, Undefined


@dataclass(frozen=True, eq=False)
class ConversionEffect:
    """The effect of a conversion of predictions on an answer."""

    effects: tuple[Effect, ...]
    """Kinds of effect."""
    before: Answer
    """The answer without a conversion."""
    unrounded: Answer
    """The answer with an exact conversion, without rounding."""
    after: Answer
    """The answer to the converted problem."""
    subject: Literal["definition"] | Choices | None = None
    """The choices under which these answers are computed, if fewer than all that explain the outcome; else None."""


def change_of(
    problem: Problem, converted: Problem, convention: Convention, oracle: Oracle, tolerance: Floats
) -> ConversionEffect:
    """Return the effect of a conversion of the predictions on the loss under a convention.

    tolerance: error up to which two answers count as equal.
    """
    semantic_convention = loss_choices(convention)
    if renormalises(problem, converted.input_kind):
        before, unrounded = (
            _unrounded(problem, semantic_convention, kind, oracle) for kind in ("log_probabilities", "logits")
        )
    else:
        before = unrounded = _unrounded(problem, semantic_convention, converted.input_kind, oracle)
    try:
        after = oracle.answer(converted, semantic_convention)
    except ArithmeticError:
        after = Undefined("it cannot be enclosed")

    effects: list[Effect] = [] if same_answer(before, unrounded, tolerance, converted.dtype) else ["renormalised"]
    effects += [] if same_answer(unrounded, after, tolerance, converted.dtype) else ["rounded_away"]
    return ConversionEffect(tuple(effects) or ("rounded",), before, unrounded, after)


def same_answer(a: Answer, b: Answer, tolerance: Floats, dtype: str) -> bool:
    """Whether two exact answers are equal within a tolerance."""
    if a is b:
        return True
    if not isinstance(a, Exact) or not isinstance(b, Exact):
        return type(a) is type(b)
    if a.hi.shape != b.hi.shape:
        return False
    with np.errstate(invalid="ignore"):
        return compare(b.hi, dataclasses.replace(a, lo=a.lo - b.lo), tolerance, dtype).within


def _unrounded(problem: Problem, convention: Convention, input_kind: InputKind, oracle: Oracle) -> Answer:
    try:
        return oracle.converted(problem, convention, input_kind)
    except ArithmeticError:
        return Undefined("it cannot be enclosed")


def conversion_of(
    problem: Problem, converted: Problem, change: ConversionEffect, function: Function, part: Convention
) -> Conversion:
    """Return a conversion of predictions with its effects.

    part: the choices of the documented convention under which the answers of `change` are computed.
    """
    effects = change.effects
    renormalised, rounded_away = "renormalised" in effects, "rounded_away" in effects
    return Conversion(
        effects=effects,
        name=NAMES[problem.loss, problem.input_kind, converted.input_kind],
        stated=problem.input_kind,
        takes=tuple(function.input_kinds),
        dtype=problem.dtype,
        subject=change.subject or ("definition" if part == DEFINITION else "documentation"),
        row_sum=_worst_row(problem, part) if renormalised else None,
        renormalisation=_largest_change(change.before, change.unrounded) if renormalised else None,
        lost=destroyed(problem, converted, part) if rounded_away else (),
        rounding=_largest_change(change.unrounded, change.after) if rounded_away else None,
        kinds=tuple(sorted(examine(converted) - examine(problem))) if "refused" in effects else (),
    )


def _worst_row(problem: Problem, part: Convention) -> RowSum:
    """The row, among those that count, whose sum is furthest from 1."""
    sums = row_sums(problem).ravel()
    counting = sums if rejected_anomalies(problem, part) else sums[flatten(problem, part).kept]
    exponentials = problem.input_kind == "log_probabilities"
    if not counting.size:
        return RowSum(None, True, exponentials)
    with np.errstate(all="ignore"):
        off = np.abs(np.log(counting))
    worst = float(counting[int(np.argmax(np.where(np.isnan(off), -1.0, off)))])
    return RowSum(worst, counting.size > 1, exponentials)


def _largest_change(before: Answer, after: Answer) -> AnswerChange:
    """The change of an answer by a conversion, at the element that changes most."""
    if not isinstance(before, Exact) or not isinstance(after, Exact):
        return AnswerChange(undefined=after.why if isinstance(after, Undefined) and isinstance(before, Exact) else "")
    if before.hi.shape != after.hi.shape or not before.hi.size:
        return AnswerChange()
    off = np.abs(subtract(before.hi, after.hi))
    where = tuple(int(i) for i in np.unravel_index(int(np.argmax(off)), off.shape))
    return AnswerChange(float(before.hi[where]), float(after.hi[where]), where)


def alternative_to(
    problem: Problem,
    converted: Problem,
    change: ConversionEffect,
    functions: Sequence[tuple[Function, Convention]],
    right: Sequence[Answer],
    oracle: Oracle,
) -> Alternative:
    """How users avoid a conversion of predictions, by the declarations of the framework's functions.

    functions: functions that support the problem, each with its documented convention.  right: the answers that are
    correct without a conversion; a function is suggested only if its documented answer is one of these.
    """
    for kind in unchanging(problem, converted.input_kind):
        for function, convention in functions:
            if kind not in function.input_kinds or rejected_anomalies(problem, convention):
                continue
            answer = _unrounded(problem, loss_choices(convention), kind, oracle)
            tolerance = error_bound.tolerance(problem, convention)
            if any(
                same_answer(candidate, answer, tolerance, problem.dtype)
                for candidate in right
                if isinstance(candidate, Exact)
            ):
                return Alternative(function.name, kind)
    if "renormalised" in change.effects and isinstance(change.unrounded, Exact):
        return Alternative(
            remedy="subtract_log_sum_exp" if problem.input_kind == "log_probabilities" else "divide_by_sum"
        )
    return Alternative(remedy="" if problem.dtype == "float64" else "float64")
