"""Compare a result with the exact answer: a loss as a whole, a gradient some rows at a time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.judging.compare import Comparison, compare
from conformance.judging.effects import loss_choices, narrowed
from conformance.judging.reasons import WrongShape
from conformance.model.case import Problem, Quantity, numpy_dtype
from conformance.model.convention import Convention
from conformance.model.floats import Floats, distinguishing_digits
from conformance.reference import enclosure, error_bound, gradient, gradient_error_bound
from conformance.reference.domain import CHUNK, examine
from conformance.reference.oracle import Exact, Undefined
from conformance.reference.relevance import GRADIENT_ERROR_BOUND_FIELDS, GRADIENT_FIELDS, relevant
from conformance.testing.arrays import Argument
from conformance.testing.inputs import Inputs, move_axis, read_dtype, read_flag

MIN_DIGITS = 6
"""Minimum number of significant digits of returned and exact numbers; more are used to distinguish them."""


@dataclass(frozen=True, eq=False)
class Question:
    """A problem in the dtype of the computation, with the convention of its answer."""

    inputs: Inputs
    problem: Problem
    convention: Convention

    @functools.cached_property
    def exact_loss(self) -> Exact:
        """The exact loss; raises ValueError if there is none."""
        answer = enclosure.evaluate(self.problem, loss_choices(self.convention))
        if isinstance(answer, Undefined):
            nan = self.inputs.first_nan()
            raise ValueError(f"there is no exact answer: {answer.why}{nan and f'; {nan}'}")
        assert isinstance(answer, Exact)  # `prepare` rejects invalid problems
        return answer

    def loss_tolerance(self) -> Floats:
        return error_bound.tolerance(self.problem, self.convention)

    def exact_gradient(self, certified: bool = False) -> Exact:
        """The exact gradient, in the shape of the predictions as passed; raises ValueError if there is none.

        certified: whether to compute a small one in balls, for any dtype.
        """
        _ = self.exact_loss  # without one there is no gradient
        pieces = list(self.gradient_chunks(certified))
        parts = [np.concatenate([getattr(exact, part) for _, exact, _ in pieces]) for part in ("hi", "lo", "rad")]
        hi, lo, rad = map(self.as_passed, parts)
        return Exact(hi, lo, rad)

    def gradient_tolerance(self) -> Floats:
        return self.as_passed(np.concatenate([tolerance for _, _, tolerance in self.gradient_chunks()]))

    def gradient_chunks(self, certified: bool = False) -> Iterator[tuple[slice, Exact, Floats]]:
        """(rows, their exact gradient, its tolerance), for predictions as rows.

        The radius of values computed in float64 is the fraction of the tolerance that `enclosure` proves.
        """
        problem = self.problem
        if kinds := examine(problem) & gradient.NOT_FINITE:
            why = self.inputs.first_nan() or ", ".join(kind.replace("_", " ") for kind in sorted(kinds))
            raise ValueError(f"there is no exact gradient: {why}")
        differentiated = problem if problem.reduction == "mean" else problem.with_reduction("sum")
        small = certified and problem.predictions.size <= enclosure.MAX_IN_BALLS
        in_balls = small or problem.dtype == "float64"
        relevant_convention = relevant(differentiated, self.convention.without_numeric_choices(), GRADIENT_FIELDS)
        rounded = relevant(problem, self.convention, GRADIENT_ERROR_BOUND_FIELDS)
        classes = 1 if problem.loss == "binary" else problem.predictions.shape[-1]
        fraction = 0.0 if in_balls else enclosure.radius_fraction(problem.dtype, classes)
        exact = gradient.in_chunks(differentiated, relevant_convention, in_balls=in_balls, size=CHUNK)
        tolerances = gradient_error_bound.in_chunks(problem, rounded, size=CHUNK)
        for (chunk, exact_chunk), tolerance in zip(exact, tolerances, strict=True):
            yield chunk, dataclasses.replace(exact_chunk, rad=exact_chunk.rad + fraction * tolerance), tolerance

    def as_passed(self, rows: Floats) -> Floats:
        """An array of rows in the shape of the predictions as passed."""
        return move_axis(rows.reshape(self.problem.predictions.shape), -1, self.inputs.class_axis)

    def classes_last(self, values: Any) -> Any:
        """The inverse of `as_passed`, but without flattening to rows."""
        return move_axis(values, self.inputs.class_axis, -1)


def prepare(inputs: Inputs, dtype: Any, cancellation: bool = False) -> Question:
    """The problem in a dtype; raises ValueError if the input is outside the domain.  dtype: dtype to round inputs to;
    None means no rounding.

    Inputs are also rounded to the dtype to which the known function documents to narrow them.
    """
    problem = inputs.problem(read_dtype(dtype))
    convention = inputs.convention(problem, cancellation)
    inputs.check_domain(problem, convention)
    return Question(inputs, narrowed(problem, convention), convention)


def radius(answer: Exact) -> Floats:
    """Bound on the difference between the exact answer and its value rounded to float64; 0 if it is not finite."""
    with np.errstate(all="ignore"):
        off = np.abs(answer.lo) + answer.rad
        return np.where(np.isfinite(answer.hi), np.nextafter(off, np.inf) * (off > 0), 0.0)


def failures(inputs: Inputs, returned: Mapping[Quantity, Argument], dtype: Any, cancellation: bool) -> list[str]:
    """A message for each wrong loss or gradient.  dtype: dtype of the computation; None means that of the result."""
    stated = read_dtype(dtype)
    read_flag("cancellation", cancellation)
    expected = stated or inputs.predictions.dtype
    messages = []
    for quantity, actual in returned.items():
        computed = stated or (actual.dtype if actual.is_float else "") or expected or "float64"
        question = prepare(inputs, computed, cancellation)
        narrow = "" if stated else question.convention.narrowed_to or ""
        if narrow and expected and np.promote_types(numpy_dtype(narrow), numpy_dtype(expected)) != numpy_dtype(narrow):
            expected = narrow
        wrong = _wrong_dtype(actual, expected, bool(stated))
        if not wrong:
            wrong = _wrong_loss(question, actual) if quantity == "loss" else _wrong_gradient(question, actual)
        if wrong:
            messages.append(f"the {quantity} is wrong: {inputs}\n{wrong}")
    return messages


def _wrong_dtype(actual: Argument, expected: str, is_stated: bool) -> str:
    """The fault in the dtype of a result, as text; a wider one than expected is right.

    is_stated: whether `dtype` states the expected one, instead of the predictions.
    """
    if not actual.dtype or (actual.is_float and not expected):
        return ""
    if not actual.is_float:
        return f"  returned {actual.dtype}, where {expected or 'a float'} is expected"
    if np.promote_types(numpy_dtype(actual.dtype), numpy_dtype(expected)) == numpy_dtype(actual.dtype):
        return ""
    if is_stated:
        return f"  returned {actual.dtype}, where {expected} is expected, as dtype={expected!r} says"
    advice = f"if the predictions are rounded to {actual.dtype} first, pass dtype={actual.dtype!r}"
    return f"  returned {actual.dtype}, where {expected} is expected, the dtype of the predictions; {advice}"


def _wrong_loss(question: Question, actual: Argument) -> str:
    want, tolerance = question.exact_loss, question.loss_tolerance()
    got = actual.values.astype(np.float64)
    comparison = compare(got, want, tolerance, question.problem.dtype, actual.dtype)
    return "" if comparison.within else _render_failure(question, "loss", got, want.hi, comparison, got.size)


def _wrong_gradient(question: Question, actual: Argument) -> str:
    problem = question.problem
    _ = question.exact_loss  # without one there is no gradient
    expected_shape = question.as_passed(np.broadcast_to(0.0, problem.predictions.shape)).shape
    if actual.values.shape != expected_shape:
        wrong = Comparison(WrongShape(got=actual.values.shape, want=expected_shape))
        return _render_failure(question, "gradient", actual.values, np.zeros(()), wrong, 0)
    got = question.classes_last(actual.values)
    rows = got.reshape(-1) if problem.loss == "binary" else got.reshape(-1, got.shape[-1])
    worst, exact, failing, start = Comparison(None), np.zeros(()), 0, 0
    for chunk, want, tolerance in question.gradient_chunks():
        comparison = compare(rows[chunk].astype(np.float64), want, tolerance, problem.dtype, actual.dtype)
        failing += comparison.failing
        if not comparison.within and (worst.within or comparison.error_ratio > worst.error_ratio):
            worst, exact, start = comparison, want.hi, chunk.start
    if worst.within:
        return ""
    row, *of_class = worst.where
    where = [int(i) for i in np.unravel_index(row + start, problem.sample_shape)]
    if of_class:
        where.insert(question.inputs.class_axis, of_class[0])
    expected = np.asarray(exact[worst.where])
    worst = dataclasses.replace(worst, where=tuple(where), failing=failing)
    return _render_failure(question, "gradient", actual.values, expected, worst, rows.size)


def _render_failure(
    question: Question, quantity: Quantity, got: Any, exact: Floats, comparison: Comparison, size: int
) -> str:
    """The failure, line by line.  exact: an array like `got`, or the exact number at the worst element."""
    from conformance.testing.causes import causes

    lines = []
    if comparison.misshapen:
        assert comparison.reason is not None
        lines.append(("shape", comparison.reason.brief))
    else:
        where = comparison.where
        number, right = float(got[where]), float(exact[where] if exact.shape else exact)
        digits = distinguishing_digits((number, right), MIN_DIGITS)
        lines += [("got", f"{number:.{digits}g}"), ("exact", f"{right:.{digits}g}")]
        if where:
            count = f"{comparison.failing} of {size} elements {'is' if comparison.failing == 1 else 'are'} wrong"
            lines.append(("where", f"{list(where)}, the worst; {count}"))
        if np.isfinite(comparison.error):
            distance = f"{comparison.error:.4g} = {comparison.error_ratio:.4g} x the tolerance"
            lines.append(("how far", f"{distance} ({comparison.ulps:.4g} ulp of {question.problem.dtype})"))
        lines.append(("allowed", f"{comparison.tolerance:.4g} in {question.problem.dtype}"))
    for index, text in enumerate(causes(question, quantity, got, comparison)):
        lines.append(("explained" if index == 0 else "", text))
    return "\n".join(f"  {name:<10} {text}".rstrip() for name, text in lines)
