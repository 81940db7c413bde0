"""Published numbers: whether they hold, and what would explain those that do not.

A printed number stands for every value that rounds to its digits, or is cut to them.  It holds if one of these values
is right in a dtype of the case; see `holds_in`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from conformance.judging.effects import answer_by
from conformance.judging.hypotheses import Explanations, explanations
from conformance.model.case import Case, Problem, Published, numpy_dtype
from conformance.model.convention import DEFINITION
from conformance.reference import error_bound, gradient_error_bound
from conformance.reference.oracle import Answer, Exact, Oracle, Undefined

Floats = npt.NDArray[np.float64]
MAX_ELEMENTS = 20_000
"""Number of predictions above which explanations are not searched."""
_CONTEXT = Context(prec=60, traps=[])
"""Arithmetic of printed numbers: enough digits for float64, and an infinity for what overflows."""
SHOWN_DIGITS = 17
"""Significant digits of an exact answer beside a printed one."""


class Printed(NamedTuple):
    """The interval of the values that a printed number may stand for; a nan or an infinity stands for itself."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> Printed:
        """The interval from half a unit of the last digit below the number to a unit above it, away from zero."""
        number = Decimal(text)
        exponent = number.as_tuple().exponent
        if not isinstance(exponent, int):
            return cls(float(number), float(number))
        unit = Decimal((0, (1,), exponent))
        half = _CONTEXT.divide(unit, Decimal(2))
        below = unit if number.is_signed() or not number else half
        above = half if number.is_signed() and number else unit
        return cls(float(_CONTEXT.subtract(number, below)), float(_CONTEXT.add(number, above)))

    def overlap(self, value: float, tolerance: float) -> tuple[float, float] | None:
        """The part of the interval within `tolerance` of `value`; None if there is none."""
        if not np.isfinite(value) or not np.isfinite(self.low):
            same = np.array_equal([value], [self.low], equal_nan=True)
            return (self.low, self.high) if same else None
        low, high = max(self.low, value - tolerance), min(self.high, value + tolerance)
        return (low, high) if low <= high else None


@dataclass(frozen=True)
class PublishedVerdict:
    """Whether a published number holds."""

    case: str
    published: Published
    exact: str
    """The definition's answer for inputs in float64, with 17 digits; or why there is none."""
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
    printed = [Printed.parse(text) for text in flat(number.value)]
    dtypes = dict.fromkeys(("float64", *case.dtypes))
    right = (name for name in dtypes if holds_in(case.problem(name, number.reduction), number, printed, oracle))
    dtype = next(right, "")
    found = None
    if not dtype and problem.predictions.size <= MAX_ELEMENTS:
        found = explanations(problem, number, printed, oracle)
    return PublishedVerdict(case.id, number, _text(exact), dtype, found)


def holds_in(problem: Problem, number: Published, printed: list[Printed], oracle: Oracle) -> bool:
    """Whether each printed number stands for a number of the problem's dtype that is right to its error bound."""
    answer = answer_by(problem, DEFINITION, number.quantity, oracle)
    if not isinstance(answer, Exact) or answer.hi.size != len(printed):
        return False
    bound = gradient_error_bound if number.quantity == "gradient" else error_bound
    allowed = np.broadcast_to(bound.tolerance(problem, DEFINITION), answer.hi.shape)
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


def _text(answer: Answer) -> str:
    if isinstance(answer, Exact):
        values = [f"{value:.{SHOWN_DIGITS}g}" for value in answer.hi.ravel().tolist()]
        return values[0] if answer.hi.ndim == 0 else f"[{', '.join(values)}]"
    return f"undefined ({answer.why})" if isinstance(answer, Undefined) else f"an error ({', '.join(answer.kinds)})"


def digits_text(value: Any) -> str:
    """A printed number, or nested lists of them, as one text."""
    return f"[{', '.join(map(digits_text, value))}]" if isinstance(value, list | tuple) else str(value)


def flat(value: Any) -> Iterator[str]:
    """The numbers of nested lists, in order."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from flat(part)
    else:
        yield str(value)


__all__ = ["Printed", "PublishedVerdict", "digits_text", "flat", "holds_in", "published"]
