"""Published numbers: whether they hold, and what would explain those that do not.

A printed number stands for every value that rounds to its digits, or is cut to them.  It holds if one of these values
is right in a dtype of the case; see `holds_in`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.casefiles.stated_values import flat, text_of_no_answer
from conformance.judging.effects import answer_by, tolerance_by
from conformance.judging.hypotheses import Explanations, explanations
from conformance.judging.printed import Printed
from conformance.model.case import Case, Problem, Published, numpy_dtype
from conformance.model.convention import DEFINITION, Convention
from conformance.reference.oracle import Answer, Exact, Oracle

Floats = npt.NDArray[np.float64]
MAX_ELEMENTS = 20_000
"""Number of predictions above which explanations are not searched."""
SHOWN_DIGITS = 17
"""Significant digits of an exact answer beside a printed one."""


@dataclass(frozen=True)
class PublishedVerdict:
    """Whether a published number holds."""

    case: str
    published: Published
    exact: str
    """The definition's answer for inputs in float64, with 17 digits, as its file has it; or why there is none."""
    dtype: str
    """The first dtype of the case in which the number is right, float64 before all others; empty if there is none."""
    explanations: Explanations | None
    """What would explain a number that does not hold; None for one that does, or where nothing was searched."""

    @property
    def holds(self) -> bool:
        """Whether the number is right in a dtype of the case."""
        return bool(self.dtype)


def published(case: Case) -> list[PublishedVerdict]:
    """The verdicts on the published numbers of a case, in their order."""
    oracle = Oracle()
    return [_verdict(case, number, oracle) for number in case.published]


def _verdict(case: Case, number: Published, oracle: Oracle) -> PublishedVerdict:
    problem = case.problem("float64", number.reduction)
    exact = answer_by(problem, DEFINITION, number.quantity, oracle)
    printed = [Printed.parse(text) for text in flat(case.published_value(number))]
    dtypes = dict.fromkeys(("float64", *case.dtypes))
    right = (name for name in dtypes if holds_in(case.problem(name, number.reduction), number, printed, oracle))
    dtype = next(right, "")
    found = None
    if not dtype and problem.predictions.size <= MAX_ELEMENTS:
        found = explanations(problem, number, printed, oracle)
    axis = case.written_class_axis if number.quantity == "gradient" else -1
    return PublishedVerdict(case.id, number, _text(exact, axis), dtype, found)


def holds_in(
    problem: Problem,
    number: Published,
    printed: list[Printed],
    oracle: Oracle,
    convention: Convention = DEFINITION,
) -> bool:
    """Whether each printed number stands for a number of the problem's dtype that is right to its error bound.

    convention: by which it is to be right.
    """
    answer = answer_by(problem, convention, number.quantity, oracle)
    if not isinstance(answer, Exact) or answer.hi.size != len(printed):
        return False
    allowed = np.broadcast_to(tolerance_by(problem, convention, number.quantity), answer.hi.shape)
    elements = zip(printed, answer.hi.ravel().tolist(), allowed.ravel().tolist(), strict=True)
    return all(_has_number(one.overlap(value, tolerance), problem.dtype) for one, value, tolerance in elements)


def _has_number(interval: tuple[float, float] | None, dtype: str) -> bool:
    """Whether a number of a dtype lies in an interval."""
    if interval is None:
        return False
    low, high = interval
    if not np.isfinite(low) or dtype == "float64":
        return True
    kind = numpy_dtype(dtype)
    near = np.array([low, (low + high) / 2, high]).astype(kind)
    around = np.concatenate([near, np.nextafter(near, kind.type(np.inf)), np.nextafter(near, kind.type(-np.inf))])
    wide = around.astype(np.float64)
    return bool(((wide >= low) & (wide <= high)).any())


def _text(answer: Answer, axis: int) -> str:
    """An exact answer with its last axis moved to `axis`, or why there is none."""
    if not isinstance(answer, Exact):
        return text_of_no_answer(answer)
    values = np.moveaxis(answer.hi, -1, axis) if answer.hi.ndim else answer.hi
    return digits_text(values.tolist())


def digits_text(value: Any) -> str:
    """A number as printed or computed, or nested lists of them, as one text."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(digits_text, value))}]"
    return f"{value:.{SHOWN_DIGITS}g}" if isinstance(value, float) else str(value)
