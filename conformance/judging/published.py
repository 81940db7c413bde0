"""Verify published numbers, and search hypotheses that fit those that are wrong.

A printed number stands for every value that rounds or truncates to its digits.  It holds if one of these values
is right in a dtype of the case; see `matches_digits`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.casefiles.stated_values import flat, text_of_no_answer
from conformance.judging.effects import answer_by
from conformance.judging.hypotheses import FittingHypotheses, hypotheses_for_printed
from conformance.judging.printed import DigitInterval, matches_digits
from conformance.model.case import DTYPES, Case, Published
from conformance.model.convention import DEFINITION
from conformance.reference.oracle import Answer, Exact, Oracle

MAX_ELEMENTS = 20_000
"""Maximum number of predictions for which explanations are searched."""
SHOWN_DIGITS = 17
"""Significant digits of the exact answer printed next to a published one."""


@dataclass(frozen=True)
class PublishedVerdict:
    """Whether a published number holds."""

    case: str
    published: Published
    exact: str
    """The definition's answer for float64 inputs with 17 digits, in the axis order of its file; or why it has none."""
    dtype: str
    """A dtype of the case in which the number is right, preferably float64; "" if there is none."""
    explanations: FittingHypotheses | None
    """Hypotheses that fit a number that does not hold; None if it holds, or if none were searched."""

    @property
    def holds(self) -> bool:
        """Whether the number is right in a dtype of the case."""
        return bool(self.dtype)

    def record(self) -> dict[str, Any]:
        """The verdict as builtin values, as in reports and explanations."""
        return {
            "case": self.case,
            "value": digits_text(self.published.value),
            "exact": self.exact,
            "holds": self.holds,
            "quantity": self.published.quantity,
            "dtype": self.dtype,
            "explanations": [] if self.explanations is None else self.explanations.lines(),
            "source": self.published.source,
        }


def published(case: Case) -> list[PublishedVerdict]:
    """The verdicts on the published numbers of a case, in their order."""
    oracle = Oracle()
    return [_verdict(case, number, oracle) for number in case.published]


def _verdict(case: Case, number: Published, oracle: Oracle) -> PublishedVerdict:
    problem = case.problem("float64", number.reduction)
    exact = answer_by(problem, DEFINITION, number.quantity, oracle)
    printed = [DigitInterval.parse(text) for text in flat(case.published_value(number))]
    dtypes = sorted(case.dtypes, key=lambda name: name != "float64")
    right = (name for name in dtypes if matches_digits(case.problem(name, number.reduction), number, printed, oracle))
    dtype = next(right, "")
    hypotheses = None
    if not dtype and problem.predictions.size <= MAX_ELEMENTS:
        other_dtypes = [name for name in DTYPES if name not in case.dtypes]
        hypotheses = hypotheses_for_printed(problem, number, printed, oracle, dtypes=other_dtypes)
    axis = case.written_class_axis if number.quantity == "gradient" else -1
    return PublishedVerdict(case.id, number, _text(exact, axis), dtype, hypotheses)


def _text(answer: Answer, axis: int) -> str:
    """An exact answer, its last axis moved to `axis`, or the reason why there is none."""
    if not isinstance(answer, Exact):
        return text_of_no_answer(answer)
    values = np.moveaxis(answer.hi, -1, axis) if answer.hi.ndim else answer.hi
    return digits_text(values.tolist())


def digits_text(value: Any) -> str:
    """A number, or nested lists of numbers, as text."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(digits_text, value))}]"
    return f"{value:.{SHOWN_DIGITS}g}" if isinstance(value, float) else str(value)
