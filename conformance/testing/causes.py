"""Find known conventions and mistakes that explain a wrong result."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance.judging.block_mistakes import values_of_block_mistakes
from conformance.judging.compare import Comparison, compare
from conformance.judging.hypotheses import SLACK_ROUNDOFFS, describe_group, hypotheses_for_value, values_of_hypotheses
from conformance.judging.mistakes import Departure, Hypothesis
from conformance.judging.nonfinite import causes_of_nonfinite
from conformance.model.case import DTYPES, InputKind, Problem, Quantity
from conformance.model.convention import Convention
from conformance.model.floats import Floats
from conformance.model.meanings import meaning_in_problem
from conformance.reference import enclosure
from conformance.reference.domain import dtype_info
from conformance.reference.oracle import Answer, Exact, Oracle
from conformance.testing.questions import Question, prepare

MAX_PREDICTIONS = 1 << 18
"""Maximum number of predictions for which mistakes are tried: each one is another problem of that size."""
MAX_CERTIFIED = 20_000
"""The same for computations in balls."""
MAX_IN_BLOCKS = 1 << 22
"""The same for mistakes in blocks."""
MAX_LISTED = 6
UNEXPLAINED = "by no known convention or mistake that was tried"
WIDESPREAD = 4
"""A computation in a narrow dtype is wrong in at least one of this many elements."""


class _QuickOracle(Oracle):
    """An oracle accurate enough to distinguish mistakes: large problems are computed in float64 for any dtype."""

    def _loss(
        self, problem: Problem, convention: Convention, max_radius: Floats | None, taken_as: InputKind | None
    ) -> Answer:
        return enclosure.evaluate(problem, convention, sharpest=math.inf)


def causes(question: Question, quantity: Quantity, got: Any, comparison: Comparison) -> list[str]:
    """Explanations of a wrong loss or gradient, one line each, the likeliest first.

    got: the result, in its own shape.  comparison: comparison of the result with the exact answer.
    """
    values = np.asarray(got, dtype=np.float64)
    lines = []
    if values.size and not values.any():
        lines.append("all zeros" if values.ndim else "zero")
    limit = MAX_CERTIFIED if quantity == "gradient" and question.problem.dtype == "float64" else MAX_PREDICTIONS
    in_blocks = _in_blocks(question, quantity, values, comparison)
    if question.problem.predictions.size > limit:
        tried = "nothing was" if in_blocks is None else "only mistakes in blocks were"
        return [*lines, *(in_blocks or [f"{tried} tried beyond {limit} predictions; take fewer samples"])]
    if quantity == "gradient" and not comparison.misshapen:
        values = question.classes_last(values)
    if not lines and not comparison.misshapen:
        lines += _one_number(question, quantity, values)
    is_constant = bool(lines)
    if not comparison.misshapen:
        lines += _nan_of_input(question, quantity, comparison)
        lines += _numeric(question, quantity, values)
    certain, possible = _hypotheses(question, quantity, values, comparison, is_constant)
    lines += dict.fromkeys([*certain, *(in_blocks or ())])
    if not lines:
        lines = [UNEXPLAINED]
        if not possible and comparison.failing * WIDESPREAD >= values.size > 0:
            possible = list(_narrower(question, quantity, values))
    lines += possible
    return lines if len(lines) <= MAX_LISTED else [*lines[:MAX_LISTED], f"and {len(lines) - MAX_LISTED} more"]


def _in_blocks(question: Question, quantity: Quantity, got: Floats, comparison: Comparison) -> list[str] | None:
    """Mistakes of kernels that read classes or samples in blocks, and give these losses; None if none is tried."""
    problem = question.problem
    if quantity != "loss" or comparison.misshapen or problem.predictions.size > MAX_IN_BLOCKS:
        return None
    tried = values_of_block_mistakes(problem)
    exact = _exact(question, quantity).hi
    return [*map(describe_group, hypotheses_for_value(got, exact, comparison.tolerance, problem.dtype, tried))]


def _one_number(question: Question, quantity: Quantity, got: Floats) -> Iterator[str]:
    """A single number in all elements, although the exact answer has several."""
    if got.size > 1 and np.isfinite(got.flat[0]) and np.all(got == got.flat[0]):
        exact = _exact(question, quantity).hi
        if np.any(exact != exact.flat[0]):
            yield f"all elements are {got.flat[0]:g}"


def _nan_of_input(question: Question, quantity: Quantity, comparison: Comparison) -> Iterator[str]:
    """A nan in the arguments that makes the exact answer nan where the result is wrong."""
    if nan := question.inputs.first_nan():
        exact = question.exact_loss if quantity == "loss" else question.exact_gradient()
        if np.isnan(exact.hi[comparison.where]):
            yield f"{nan}, so that the exact answer is nan"


def _exact(question: Question, quantity: Quantity) -> Exact:
    """The exact answer, with the classes of a gradient on the last axis."""
    if quantity == "loss":
        return question.exact_loss
    exact = question.exact_gradient()
    return Exact(*(question.classes_last(part) for part in (exact.hi, exact.lo, exact.rad)))


def _is_right(question: Question, quantity: Quantity, got: Floats, exact: Exact) -> bool:
    tolerance = (
        question.loss_tolerance() if quantity == "loss" else question.classes_last(question.gradient_tolerance())
    )
    return compare(got, exact, tolerance, question.problem.dtype).within


def _numeric(question: Question, quantity: Quantity, got: Floats) -> Iterator[str]:
    """Computations that lose some or all digits."""
    exact, problem = _exact(question, quantity), question.problem
    if question.convention.cancellation == "none":
        accepted = prepare(question.inputs, problem.dtype, cancellation=True)
        if _is_right(accepted, quantity, got, exact):
            condition = (
                "targets are taken off a softmax"
                if quantity == "gradient"
                else "terms as large as the logits are subtracted"
            )
            yield f"digits cancel where {condition}; cancellation=True accepts that"
    yield from causes_of_nonfinite(problem, got, exact.hi)


def _hypotheses(
    question: Question, quantity: Quantity, got: Floats, comparison: Comparison, is_constant: bool
) -> tuple[list[str], list[str]]:
    """Conventions and mistakes with the same numbers; and narrower dtypes, if there are enough numbers to tell.

    is_constant: whether the result is a single number, as for every mistake that clips all predictions.
    """
    problem, convention = question.problem, question.convention.without_numeric_choices()
    is_reduced = problem.reduction != "none" if quantity == "gradient" or got.ndim else True
    if quantity == "loss" and comparison.misshapen:
        is_reduced = got.ndim == 0
    allowed = 0.0 if comparison.misshapen else comparison.tolerance
    tried = values_of_hypotheses(problem, quantity, _QuickOracle(), is_reduced=is_reduced, convention=convention)
    applicable = ((hypothesis, values) for hypothesis, values in tried if not (is_constant and _clips(hypothesis)))
    groups = hypotheses_for_value(got, _exact(question, quantity).hi, allowed, problem.dtype, applicable)
    certain, possible = [], []
    for group in groups:
        known = tuple(
            tuple(_in_sentences(departure, problem) for departure in hypothesis)
            for hypothesis in group
            if not _is_narrow(hypothesis)
        )
        if known:
            certain.append(describe_group(known))
        else:
            possible.append(f"possibly {describe_group(group)}")
    return certain, possible


def _clips(hypothesis: Hypothesis) -> bool:
    """Whether it is a mistake that clips predictions afterwards."""
    return any(departure.kind == "mistake" and "clipped" in departure.text for departure in hypothesis)


def _is_narrow(hypothesis: Hypothesis) -> bool:
    return any(departure.kind == "dtype" for departure in hypothesis)


def _in_sentences(departure: Departure, problem: Problem) -> Departure:
    """A convention described in words."""
    if not departure.choices:
        return departure
    text = "; ".join(f"it {meaning_in_problem(name, choice, problem)}" for name, choice in departure.choices)
    return dataclasses.replace(departure, text=text)


def _narrower(question: Question, quantity: Quantity, got: Floats) -> Iterator[str]:
    """The widest narrower dtype whose tolerance the result meets."""
    exact, unit = _exact(question, quantity), dtype_info(question.problem.dtype).unit_roundoff
    for dtype in sorted(DTYPES, key=lambda name: dtype_info(name).unit_roundoff):
        coarser = dtype_info(dtype).unit_roundoff
        with np.errstate(all="ignore"):
            is_near = np.max(np.abs(got - exact.hi)) <= SLACK_ROUNDOFFS * coarser * np.max(np.abs(exact.hi))
        if coarser > unit and is_near and _is_right(prepare(question.inputs, dtype), quantity, got, exact):
            yield f"would be within the tolerance of {dtype}, if it is computed in it"
            return
